package demo

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/proxy"
)

func TestTourNeverHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tour := &tour{narrator: newNarrator(io.Discard)}
		start := time.Now()
		err := tour.until(t.Context(), "what never comes", start.Add(time.Minute), healed)
		if err == nil || !strings.Contains(err.Error(), "waited for what never comes") || !strings.Contains(err.Error(), "this is a bug") {
			t.Errorf("got %v, want what was waited for, and that it is a bug", err)
		}
		if d := time.Since(start); d > time.Minute+patience+time.Second {
			t.Errorf("it waited %v", d)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := tour.until(ctx, "", time.Now(), healed); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: got %v", err)
		}
	})
}

func TestTourJudges(t *testing.T) {
	good := Response{status: 200}
	rejected := Response{status: 502, code: "login_rejected"}
	for _, test := range []struct {
		name string
		got  []Response
		seen proxy.Code
		ok   bool
	}{
		{"all good", []Response{good, good}, "", true},
		{"a failure where there should be none", []Response{rejected, good}, "", false},
		{"no failure where there should be one", []Response{good}, proxy.LoginRejected, false},
		{"the right failure", []Response{good, rejected, rejected, good}, proxy.LoginRejected, true},
		{"another failure", []Response{rejected, good}, proxy.LoginUnavailable, false},
		{"two failures", []Response{rejected, {status: 504, code: "upstream_timeout"}, good}, proxy.LoginRejected, false},
		{"no answer", []Response{{}, rejected, good}, proxy.LoginRejected, false},
		{"with Retry-After", []Response{{status: 503, code: "login_unavailable", RetryAfter: "1"}, good}, proxy.LoginUnavailable, true},
		{"without Retry-After", []Response{{status: 503, code: "login_unavailable"}, good}, proxy.LoginUnavailable, false},
		{"not healed", []Response{good, rejected}, proxy.LoginRejected, false},
	} {
		var n tally
		for _, r := range test.got {
			n.count(r)
		}
		if wrong := n.check(test.seen); (wrong == "") != test.ok {
			t.Errorf("%s: got %q", test.name, wrong)
		}
	}
}

func TestNarrator(t *testing.T) {
	var out bearerdtest.Output
	n := newNarrator(&out)
	n.terminal = true
	n.countdown("a bus", 90*time.Second)
	n.tell("log", "%s", strings.Repeat("word ", 40)+"…")
	n.w.Flush(time.Minute)
	before, told, ok := strings.Cut(out.String(), "\r") // the countdown is written over by as much space
	if !ok || !strings.Contains(before, "a bus: 90 s") || len(told)-len(strings.TrimLeft(told, " \r")) < len(before) {
		t.Errorf("got %q, want a countdown that is erased", out.String())
	}
	for i, line := range strings.Split(strings.TrimSpace(told), "\n") {
		switch {
		case len(line) > 79:
			t.Errorf("%d columns: %q", len(line), line)
		case i > 0 && !strings.HasPrefix(line, strings.Repeat(" ", 18)+"word"):
			t.Errorf("got %q, want it below the text of the first line", line)
		}
	}
}
