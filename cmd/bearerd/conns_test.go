package main

import (
	"context"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// A stop waits for new connections: until each has sent its request, or for a
// second, after which it is closed, or until SHUTDOWN_GRACE is over.
func TestSettle(t *testing.T) {
	for name, test := range map[string]struct {
		asks  time.Duration // when the one connection's request comes
		grace time.Duration
		want  time.Duration // that it takes until both are done with
	}{
		"both are silent":  {time.Hour, 25 * time.Second, firstRequest},
		"one asks in time": {firstRequest / 2, 25 * time.Second, firstRequest},
		"no grace":         {time.Hour, 0, 0},
		"a short grace":    {time.Hour, firstRequest / 2, firstRequest / 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newSilentConns()
				closed := make(map[string]*bool)
				for name, asks := range map[string]time.Duration{"asking": test.asks, "silent": time.Hour} {
					ours, theirs := net.Pipe()
					defer theirs.Close()
					isClosed := new(bool)
					closed[name] = isClosed
					c.observe(ours, http.StateNew)
					go func() { // as net/http reads
						if _, err := ours.Read(make([]byte, 1)); err != nil {
							*isClosed = true
							c.observe(ours, http.StateClosed)
							return
						}
						c.observe(ours, http.StateActive)
					}()
					time.AfterFunc(asks, func() { _, _ = theirs.Write([]byte("G")) })
				}
				grace, cancel := context.WithTimeout(t.Context(), test.grace)
				defer cancel()
				begin := time.Now()
				c.settle(grace)
				if got := time.Since(begin); got != test.want {
					t.Errorf("took %v, want %v", got, test.want)
				}
				synctest.Wait()
				inTime := test.grace >= firstRequest
				if got, want := *closed["asking"], inTime && test.asks > firstRequest; got != want {
					t.Errorf("the connection that asks is closed: %v, want %v", got, want)
				}
				if got := *closed["silent"]; got != inTime {
					t.Errorf("the silent connection is closed: %v, want %v", got, inTime)
				}
			})
		})
	}
}
