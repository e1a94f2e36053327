package service

import (
	"context"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/descriptors"
)

// A stop waits for new connections: until each has sent its request and a handler
// has it, or for a second, after which it is closed, or until SHUTDOWN_GRACE is
// over.
func TestSettle(t *testing.T) {
	for name, test := range map[string]struct {
		asks   time.Duration // when the one connection's request comes
		begins time.Duration // how much later a handler has it, on a busy machine
		grace  time.Duration
		want   time.Duration // that it takes until both are done with
	}{
		"both are silent":   {time.Hour, 0, 25 * time.Second, descriptors.FirstRequest},
		"one asks in time":  {descriptors.FirstRequest / 2, 0, 25 * time.Second, descriptors.FirstRequest},
		"its handler waits": {descriptors.FirstRequest / 2, descriptors.FirstRequest, 25 * time.Second, descriptors.FirstRequest * 3 / 2},
		"no grace":          {time.Hour, 0, 0, 0},
		"a short grace":     {time.Hour, 0, descriptors.FirstRequest / 2, descriptors.FirstRequest / 2},
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
						time.Sleep(test.begins)
						c.forget(ours) // as watch's handler
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
				inTime := test.grace >= descriptors.FirstRequest
				if got, want := *closed["asking"], inTime && test.asks > descriptors.FirstRequest; got != want {
					t.Errorf("the connection that asks is closed: %v, want %v", got, want)
				}
				if got := *closed["silent"]; got != inTime {
					t.Errorf("the silent connection is closed: %v, want %v", got, inTime)
				}
			})
		})
	}
}
