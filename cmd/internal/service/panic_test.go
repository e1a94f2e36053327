package service

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/display"
	"github.com/bearerd/bearerd/cmd/internal/logs"
	"github.com/bearerd/bearerd/cmd/internal/output"
)

// A handler that panics is told of with its stack, and one that panics each time
// not each time.
func TestPanicsAreTold(t *testing.T) {
	var out bearerdtest.Output
	lines := &output.Lines{W: &out}
	log := logs.Open(lines, "info", "json")
	s := httptest.NewUnstartedServer(nil)
	s.Config = NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("boom\u0085" + strings.Repeat("x", 5000)) }), log, "data")
	s.Start()
	defer s.Close()
	const times = logs.SampleBurst + 5
	for range times {
		if resp, err := http.Get(s.URL); err == nil {
			_ = resp.Body.Close()
			t.Fatal("got an answer")
		}
	}
	s.Close()
	log.Flush()
	told, left := 0, 0
	for text := range strings.Lines(out.String()) {
		var line struct {
			Message, Server, Error, Of string
			Stack                      []string
			Lines                      int
		}
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatalf("%v: %q", err, text)
		}
		switch {
		case line.Message == logs.SayLeftOut:
			left += line.Lines
		case line.Server == "data" && strings.Contains(line.Error, "boom\u0085x") && len(line.Error) < 2*display.MaxText &&
			slices.ContainsFunc(line.Stack, func(call string) bool { return strings.Contains(call, "TestPanicsAreTold") }):
			told++
		}
	}
	if told != logs.SampleBurst || told+left != times {
		t.Errorf("got %d with their stack and %d left out, want %d in all\n%.2000s", told, left, times, out.String())
	}
}
