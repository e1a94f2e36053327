package demo

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/display"
	"github.com/bearerd/bearerd/proxy"
)

// Response is what a caller got from bearerd.
type Response struct {
	status     int    // 0: none came
	cut        bool   // its body ended early
	code       string // of bearerd's own errors
	RetryAfter string
	Took       time.Duration
}

// Call asks like any tool.
func Call(client *http.Client, req *http.Request) (r Response) {
	start := time.Now()
	defer func() { r.Took = time.Since(start) }()
	resp, err := client.Do(req)
	if err != nil {
		return r
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	var problem struct{ Code string }
	if resp.Header.Get("Content-Type") == "application/problem+json" {
		_ = json.Unmarshal(body, &problem) // without a code it is not bearerd's
	}
	return Response{status: resp.StatusCode, cut: err != nil, code: problem.Code, RetryAfter: resp.Header.Get("Retry-After")}
}

func (r Response) good() bool { return r.status == http.StatusOK && !r.cut }

// Kind is what responses to like requests have in common.
func (r Response) Kind() string {
	kind := strings.TrimSpace(fmt.Sprintf("%d %s", r.status, r.code))
	switch {
	case r.status == 0:
		kind = "no answer"
	case r.cut:
		kind += ", cut short"
	}
	return kind
}

func (r Response) String() string {
	text := r.Kind()
	if r.RetryAfter != "" {
		text += ", Retry-After: " + r.RetryAfter
	}
	return text + ", in " + display.Shortly(r.Took)
}

// tally counts what happened in a chapter.
type tally struct {
	requests, failed int
	kinds            []string      // of the failures, each once
	slowest          time.Duration // of the good answers
	slowestFailure   time.Duration
	bare             bool // a 503 had no Retry-After
	lastGood         bool // the last answer was good

	logins, failedLogins int // both have ended; the first counts the second
}

func (n *tally) count(r Response) {
	n.requests++
	n.lastGood = r.good()
	if r.good() {
		n.slowest = max(n.slowest, r.Took)
		return
	}
	n.failed++
	n.slowestFailure = max(n.slowestFailure, r.Took)
	n.bare = n.bare || r.status == http.StatusServiceUnavailable && r.RetryAfter == ""
	if !slices.Contains(n.kinds, r.Kind()) {
		n.kinds = append(slices.Clip(n.kinds), r.Kind()) // others may hold the old ones
	}
}

// String is what the caller noticed, in a sentence or two.
func (n tally) String() string {
	text := fmt.Sprintf("%d requests, none failed; the slowest took %s.", n.requests, display.Shortly(n.slowest))
	if n.failed > 0 {
		text = fmt.Sprintf("%d requests; %d failed, with %s, each in at most %s.",
			n.requests, n.failed, strings.Join(n.kinds, ", "), display.Shortly(n.slowestFailure))
	}
	text += fmt.Sprintf(" bearerd's logins: %d", n.logins)
	if n.failedLogins > 0 {
		text += fmt.Sprintf(", of which %d failed", n.failedLogins)
	}
	return text + "."
}

// check says what is wrong with a chapter in which requests fail with code, or
// for "" none does; "" if nothing is.
func (n tally) check(code proxy.Code) string {
	switch {
	case code == "" && n.failed > 0:
		return "requests failed"
	case code != "" && (len(n.kinds) != 1 || !strings.HasSuffix(n.kinds[0], " "+string(code))):
		return "requests should have failed, with " + string(code) + " alone"
	case n.bare:
		return "a 503 had no Retry-After"
	case !n.lastGood:
		return "the last request failed"
	}
	return ""
}
