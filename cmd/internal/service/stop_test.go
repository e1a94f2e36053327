package service

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/bearerd/bearerd/cmd/internal/assembly"
	"github.com/bearerd/bearerd/cmd/internal/descriptors"
	"github.com/bearerd/bearerd/tokens"
)

// A second signal waits less for handlers that do not end than the first does.
func TestASecondSignalWaitsNoMoreThanAMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Service{
			Manager: tokens.New(tokens.Options{}), requests: newRunning(), files: newWatcher(), endRequests: func() {},
			out: new(assembly.WayOut), data: new(http.Server), admin: new(http.Server), open: descriptors.New(0, 0, zerolog.Nop()),
		}
		s.requests.begin()
		start := time.Now()
		s.abandon()
		if got := time.Since(start); got != 200*time.Millisecond {
			t.Errorf("returned after %v, want 200 ms", got)
		}
		synctest.Wait()
		start = time.Now()
		s.close()
		if got := time.Since(start); got != time.Second {
			t.Errorf("a first signal's close took %v, want 1 s", got)
		}
	})
}
