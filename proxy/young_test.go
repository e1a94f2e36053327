package proxy_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bearerd/bearerd/proxy"
)

// newLateWorld is a world whose upstream takes a token only some time after its
// login. Its tokens live for five minutes.
func newLateWorld(late time.Duration) *world {
	w := newWorld()
	w.source.lifetime, w.source.refreshAfter = 5*time.Minute, 4*time.Minute
	w.late, w.issued = late, make(map[uint64]time.Time)
	w.source.issued = func(generation uint64) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.issued[generation] = time.Now()
	}
	return w
}

// load asks for path from many clients for as long as d, and returns how many of
// the answers were no 200.
func (w *world) load(d time.Duration, path string) (failed int) {
	var clients sync.WaitGroup
	var mu sync.Mutex
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		clients.Go(func() {
			if w.get(path) != 200 {
				mu.Lock()
				defer mu.Unlock()
				failed++
			}
		})
	}
	clients.Wait()
	return failed
}

// At each renewal under load nobody sees a 401, and nothing is logged in for.
func TestFaultUpstreamTakesTokensLate(t *testing.T) {
	for _, late := range []time.Duration{0, 300 * time.Millisecond, time.Second, 2500 * time.Millisecond} {
		t.Run(late.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newLateWorld(late)
				_, _ = w.source.Token(t.Context())
				time.Sleep(late)
				same(t, "before", w.get("/a"), 200)
				logins := w.logins()
				for range 5 {
					time.Sleep(4 * time.Minute)
					w.source.refresh()
					young := w.outcomes[proxy.TooYoung]
					same(t, "failed", w.load(10*time.Second, "/a"), 0)
					// All go with the token before, but for those already on their way.
					if got := w.outcomes[proxy.TooYoung] - young; got > 1 || got == 0 && late > 0 {
						t.Errorf("refused for its youth: got %d, want 1", got)
					}
					same(t, "generation", w.last.Generation, w.source.generation)
				}
				same(t, "logins", w.logins()-logins, 0)
				same(t, "replayed", w.outcomes[proxy.Replayed], 0)
				same(t, "passed", w.outcomes[proxy.Passed], 0)
			})
		})
	}
}

// With no token before it a young one is as any other, but the replay waits, and
// the login is not repeated for those who come meanwhile.
func TestYoungTokenWithNoneBefore(t *testing.T) {
	for _, c := range []struct {
		name  string
		begin func(t *testing.T, w *world)
	}{
		{"start", func(*testing.T, *world) {}},
		{"idle", func(t *testing.T, w *world) {
			time.Sleep(time.Second)
			same(t, "before", w.get("/a"), 200)
			time.Sleep(time.Hour)
			w.source.refresh()
		}},
		{"revoked", func(t *testing.T, w *world) {
			time.Sleep(time.Second)
			same(t, "before", w.get("/a"), 200)
			time.Sleep(time.Minute)
			w.source.refresh()
			w.revoke()
			w.mu.Lock()
			defer w.mu.Unlock()
			w.good = 2 // and not the last
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newLateWorld(800 * time.Millisecond)
				_, _ = w.source.Token(t.Context())
				c.begin(t, w)
				if c.name == "revoked" {
					// The first says that the token before is revoked.
					same(t, "first", w.get("/a"), 401)
				}
				same(t, "failed", w.load(5*time.Second, "/a"), 0)
				same(t, "logins", w.logins(), 1)
			})
		})
	}
}

// The replay goes out when the token that it carries is a second old.
func TestYoungReplayWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newLateWorld(time.Second)
		begin := time.Now()
		same(t, "status", w.get("/a"), 200)
		same(t, "took", time.Since(begin), loginTakes+time.Second)
		same(t, "logins", w.logins(), 1)

	})
}

// Where upstream was late to take a token, the replay after a revocation waits too,
// until upstream has taken one at once.
func TestYoungRevokedWhereUpstreamIsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newLateWorld(900 * time.Millisecond)
		_, _ = w.source.Token(t.Context())
		time.Sleep(time.Second)
		same(t, "before", w.get("/a"), 200)
		for _, want := range []time.Duration{time.Second, 0} {
			time.Sleep(4 * time.Minute)
			w.source.refresh()
			same(t, "renewed", w.load(10*time.Second, "/a"), 0)
			time.Sleep(time.Minute)
			w.revoke()
			begin := time.Now()
			same(t, "after a revocation", w.get("/a"), 200)
			same(t, "took", time.Since(begin), loginTakes+want)
			w.late = 0
		}
		same(t, "logins", w.logins(), 2)
	})
}

// The client leaves while its replay waits.
func TestYoungReplayClientLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newLateWorld(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		begin := time.Now()
		w.doContext(ctx, "GET", "/a")
		same(t, "took", time.Since(begin), 500*time.Millisecond)
		same(t, "attempts", w.attempts, 1)
		time.Sleep(time.Second)
		same(t, "status", w.get("/a"), 200)
	})
}

// A path that always answers 401 sees one replay a request, costs no login for
// the sake of a young token, and moves nobody to the token before, revoked or not.
func TestYoungForbiddenPath(t *testing.T) {
	for _, revoked := range []bool{false, true} {
		t.Run(fmt.Sprint("the token before revoked: ", revoked), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newLateWorld(0)
				w.forbidden["GET /forbidden"] = true
				same(t, "before", w.get("/a"), 200)
				time.Sleep(4 * time.Minute)
				w.source.refresh()
				if revoked {
					w.mu.Lock()
					w.good = 2
					w.mu.Unlock()
				}
				for range 5 {
					before := w.attempts
					same(t, "status", w.get("/forbidden"), 401)
					same(t, "attempts", w.attempts-before, 2)
					same(t, "outcome", w.last.Unauthorized, proxy.TooYoung)
					same(t, "refused", w.last.Refused, true)
				}
				same(t, "logins", w.logins(), 0)
				before := w.attempts
				same(t, "others", w.get("/a"), 200)
				same(t, "attempts", w.attempts-before, 1)
				same(t, "generation", w.last.Generation, 2)
				// It has been taken: now the path is as ever.
				same(t, "status", w.get("/forbidden"), 401)
				same(t, "logins", w.logins(), 1)
			})
		})
	}
}

// Others go on with the token before only as long as it is good, and the new one
// young.
func TestYoungMovedBack(t *testing.T) {
	for _, c := range []struct {
		name string
		at   time.Duration // of the token before, at its renewal
		then func(w *world)
		want uint64 // generation that the answer is for
	}{
		{"still", 4 * time.Minute, func(w *world) { time.Sleep(2900 * time.Millisecond) }, 1},
		{"no longer young", 4 * time.Minute, func(w *world) { time.Sleep(3 * time.Second) }, 2},
		{"over", 5*time.Minute - time.Second, func(w *world) { time.Sleep(time.Second) }, 2},
		{"revoked", 4 * time.Minute, func(w *world) { w.late, w.good = 0, 2 }, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newLateWorld(500 * time.Millisecond)
				_, _ = w.source.Token(t.Context())
				time.Sleep(time.Second)
				same(t, "before", w.get("/a"), 200)
				time.Sleep(c.at - time.Second)
				w.source.refresh()
				same(t, "at first", w.get("/a"), 200)
				same(t, "outcome", w.last.Unauthorized, proxy.TooYoung)
				same(t, "moved", w.get("/a"), 200)
				same(t, "generation", w.last.Generation, 1)
				same(t, "outcome", w.last.Unauthorized, "")
				c.then(w)
				same(t, "then", w.get("/a"), 200)
				same(t, "generation", w.last.Generation, c.want)
				same(t, "afterwards", w.get("/a"), 200)
				same(t, "generation", w.last.Generation, c.want)
				same(t, "logins", w.logins(), 0)
			})
		})
	}
}

// A token that somebody was seen to use is not young, whatever its age.
func TestYoungTakenIsNotYoung(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newLateWorld(0)
		same(t, "before", w.get("/a"), 200)
		w.source.refresh()
		same(t, "taken", w.get("/a"), 200)
		w.revoke()
		begin := time.Now()
		same(t, "after a revocation", w.get("/a"), 200)
		same(t, "took", time.Since(begin), loginTakes)
		same(t, "outcome", w.last.Unauthorized, proxy.Replayed)
	})
}

// The replay of an announced body is announced too: where the token before is
// refused as well, the body does not go for nothing.
func TestYoungReplayKeepsExpect(t *testing.T) {
	want := text(5000)
	src := &source{lifetime: time.Hour}
	u := listen(t, func(_ int, c *wire) {
		for {
			h, more := c.head()
			if !more {
				return
			}
			if h.values("Content-Length") == nil {
				c.send(t, ok)
				continue
			}
			same(t, "Expect", strings.Join(h.values("Expect"), ","), "100-continue")
			if h.values("Authorization")[0] != bearer(1) {
				c.send(t, unauthorized)
				left, _ := io.ReadAll(c.in)
				same(t, "body bytes of a refused request", len(left), 0)
				return
			}
			c.send(t, "HTTP/1.1 100 Continue\r\n\r\n")
			body, err := c.body(h)
			if err != nil || body != want {
				t.Errorf("got a body of %d bytes, %v", len(body), err)
			}
			c.send(t, ok)
		}
	})
	d := start(t, proxy.Options{Upstream: u, Source: src, ReplayBuffer: 100})
	resp, _ := d.get(t, "/")
	same(t, "before", resp.StatusCode, 200)
	src.refresh()
	resp, _ = fetch(t, "POST", d.URL+"/", strings.NewReader(want))
	same(t, "status", resp.StatusCode, 200)
	same(t, "outcome", d.exchanges(t, 2)[1].Unauthorized, proxy.TooYoung)
	same(t, "logins", src.loginCount(), 0)
}
