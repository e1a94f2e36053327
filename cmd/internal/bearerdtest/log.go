package bearerdtest

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/bearerd/bearerd/proxy"
)

// Account returns how many requests with code the log shows, and how many it
// has left out.
func Account(t *testing.T, log string, code proxy.Code) (written, left int) {
	t.Helper()
	for text := range strings.Lines(log) {
		var line struct {
			Message, Code, Of string
			Lines             int
		}
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatalf("%v: %q", err, text)
		}
		switch {
		case line.Message == "request" && line.Code == string(code):
			written++
		case line.Of == string(code):
			left += line.Lines
		}
	}
	return written, left
}

// Logged is a line of the log that a test reads.
type Logged struct {
	Level, Message, Cause, Impact, Remedy, Code string
	Time                                        time.Time
	FailingSince                                time.Time `json:"failing_since"`
	NextLogin                                   time.Time `json:"next_login"`
	TokenExpiry                                 time.Time `json:"token_expiry"`
	FailedFor                                   float64   `json:"failed_for_s"`
	FailedLogins                                int       `json:"failed_logins"`
	FailedRequests                              int       `json:"failed_requests"`
	LoggingIn                                   bool      `json:"logging_in"`
	Skew                                        float64   `json:"clock_skew_s"`
}

// ReadLog returns the lines of a log in JSON, each also as level and message.
func ReadLog(t *testing.T, log string) (lines []Logged, says []string) {
	t.Helper()
	for text := range strings.Lines(log) {
		var n Logged
		if err := json.Unmarshal([]byte(text), &n); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		lines = append(lines, n)
		says = append(says, n.Level+": "+n.Message)
	}
	return lines, says
}
