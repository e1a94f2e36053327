package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bearerd/bearerd/tokens"
)

func TestLinesThatMayWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out output
		l := &lineLog{w: &out}
		lazy := l.lazy()
		expect := func(when, want string) {
			t.Helper()
			synctest.Wait()
			if got := out.String(); got != want {
				t.Errorf("%s: got %q, want %q", when, got, want)
			}
		}
		fmt.Fprint(lazy, "a\n")
		expect("at once", "")
		time.Sleep(lazyDelay)
		expect("after the delay", "a\n")
		fmt.Fprint(lazy, "b\n")
		fmt.Fprint(l, "c\n")
		expect("with a line that may not wait", "a\nb\nc\n")
		fmt.Fprint(lazy, "d\n")
		if err := l.Flush(); err != nil {
			t.Error(err)
		}
		expect("after Flush", "a\nb\nc\nd\n")
		time.Sleep(time.Hour)
		expect("later", "a\nb\nc\nd\n")
		fmt.Fprint(lazy, strings.Repeat("e", lazyBytes))
		expect("when there are many", "a\nb\nc\nd\n"+strings.Repeat("e", lazyBytes))
	})
}

func TestLinesKeepWholeAndInOrder(t *testing.T) {
	var out output
	l := &lineLog{w: &out}
	const writers, lines = 8, 2000
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			to := l.lazy()
			for i := range lines {
				fmt.Fprintf(to, "%d %d\n", w, i)
				if i%97 == 0 {
					fmt.Fprint(l, "now\n")
				}
			}
		})
	}
	wg.Wait()
	if err := l.Flush(); err != nil {
		t.Fatal(err)
	}
	var next [writers]int
	for line := range strings.Lines(out.String()) {
		var w, i int
		if n, _ := fmt.Sscanf(line, "%d %d\n", &w, &i); n != 2 {
			continue
		}
		if i != next[w] {
			t.Fatalf("writer %d: got line %d, want %d", w, i, next[w])
		}
		next[w]++
	}
	for w, n := range next {
		if n != lines {
			t.Errorf("writer %d: got %d lines, want %d", w, n, lines)
		}
	}
}

// A login that fails is one line when it begins, one for each change of the
// cause, one when it stops and one when it is over.
func TestLoginLogByStateChange(t *testing.T) {
	var out bytes.Buffer
	log := openLog(&out, "info", "json")
	l := &loginLog{logger: log.events}
	down := tokens.Event{Result: tokens.Transient, Cause: "dial tcp: connection refused", NextLogin: time.Now().Add(time.Second), FailingSince: time.Now()}
	html := tokens.Event{Result: tokens.Transient, Cause: "HTTP 503", Status: 503}
	wrong := tokens.Event{Result: tokens.Rejected, Cause: "HTTP 401, error invalid_grant", Status: 401}
	stopped := wrong
	stopped.Stopped = true
	good := tokens.Event{Result: tokens.OK, Token: &tokens.Token{Generation: 7, Lifetime: 5 * time.Minute, Rule: tokens.RuleExpiresIn}, SkewKnown: true}
	for _, ev := range []tokens.Event{down, down, down, html, html, wrong, wrong, wrong, wrong, stopped, good, good} {
		l.log(ev)
	}
	var got []string
	for line := range strings.Lines(out.String()) {
		var entry struct{ Level, Message, Remedy, Cause string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatal(err)
		}
		got = append(got, entry.Level+": "+entry.Message)
		if entry.Level != "info" && (entry.Remedy == "" || entry.Cause == "") {
			t.Errorf("no cause or no remedy: %s", line)
		}
	}
	want := []string{"warn: login failed", "warn: login failed", "error: login rejected", "error: login stopped", "info: login works again", "info: login"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
