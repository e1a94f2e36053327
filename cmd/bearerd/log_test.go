package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bearerd/bearerd/proxy"
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

// A time-out of the response header is not one of connecting, though both are
// errors of the same kind.
func TestAccessLogOfUpstreamErrors(t *testing.T) {
	for _, test := range []struct {
		ex   proxy.Exchange
		want string
	}{
		{proxy.Exchange{Error: proxy.UpstreamTimeout, Cause: os.ErrDeadlineExceeded}, "no response header within BEARERD_RESPONSE_HEADER_TIMEOUT"},
		{proxy.Exchange{Error: proxy.UpstreamUnreachable, Cause: os.ErrDeadlineExceeded}, "connecting took too long"},
		{proxy.Exchange{Error: proxy.UpstreamUnreachable, Cause: io.EOF}, "the server closed the connection"},
	} {
		var out bytes.Buffer
		log := openLog(&out, "info", "json")
		accessLog{log.access, "all"}.log(&test.ex)
		log.flush()
		if !strings.Contains(out.String(), `"cause":"`+test.want+`"`) {
			t.Errorf("got %s, want cause %q", &out, test.want)
		}
	}
}
