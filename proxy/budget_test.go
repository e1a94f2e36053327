package proxy_test

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bearerd/bearerd/proxy"
)

// world is a handler with a fake upstream, for tests in which time is fake.
type world struct {
	source *source
	h      *proxy.Handler

	options proxy.Options

	mu        sync.Mutex
	forbidden map[string]bool // "METHOD target" or "METHOD path": always 401
	refuseAll bool
	refusal   int           // status of a refusal; 0: 401
	flapping  bool          // refuse each first attempt, take each second
	second    int           // status of a second attempt when flapping; 0: 200
	good      uint64        // oldest generation that is taken
	once      bool          // a token dies when it has been taken
	late      time.Duration // from a token's issue until it is taken
	issued    map[uint64]time.Time
	attempts  int
	last      proxy.Exchange
	outcomes  map[proxy.Unauthorized]int
}

const loginTakes = 50 * time.Millisecond

func newWorld(forbidden ...string) *world {
	w := &world{source: &source{}, forbidden: make(map[string]bool), outcomes: make(map[proxy.Unauthorized]int)}
	for _, f := range forbidden {
		w.forbidden[f] = true
	}
	w.source.login = func(context.Context, uint64) error {
		time.Sleep(loginTakes)
		return nil
	}
	w.options = proxy.Options{Upstream: &url.URL{Scheme: "http", Host: "up.example"}, Source: w.source, Transport: w,
		Done: func(ex *proxy.Exchange) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.last = *ex
			w.outcomes[ex.Unauthorized]++
		}}
	w.h = proxy.New(w.options)
	return w
}

func (w *world) RoundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.attempts++
	var generation uint64
	_, err := fmt.Sscanf(r.Header.Get("Authorization"), "Bearer t%d", &generation)
	status := 200
	if time.Since(w.issued[generation]) < w.late || w.flapping && w.attempts%2 == 1 || err != nil || w.refuseAll || generation < w.good ||
		w.forbidden[r.Method+" "+r.URL.Path] || w.forbidden[r.Method+" "+r.URL.RequestURI()] {
		status = cmp.Or(w.refusal, 401)
	}
	if w.once && status == 200 {
		w.good = generation + 1
	}
	if w.flapping && status == 200 && w.second != 0 {
		status = w.second
	}
	return &http.Response{
		StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{}, Body: io.NopCloser(strings.NewReader("x")), ContentLength: 1,
	}, nil
}

func (w *world) do(method, target string) int {
	return w.doContext(context.Background(), method, target)
}

// doContext returns 0 where the handler breaks the connection.
func (w *world) doContext(ctx context.Context, method, target string) (status int) {
	defer func() {
		if p := recover(); p != nil && p != http.ErrAbortHandler {
			panic(p)
		}
	}()
	rec := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(ctx, method, target, nil)
	r.Host = "localhost"
	w.h.ServeHTTP(rec, r)
	return rec.Code
}

func (w *world) get(target string) int { return w.do("GET", target) }

// revoke makes upstream refuse every token there is.
func (w *world) revoke() {
	w.source.mu.Lock()
	generation := w.source.generation
	w.source.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.good = generation + 1
}

// unrevoke ends that.
func (w *world) unrevoke() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.good = 0
}

// logins returns how many logins 401s have caused.
func (w *world) logins() int { return w.source.loginCount() }

// hammer asks for target each tenth of a second, for as long as d.
func (w *world) hammer(d time.Duration, targets ...string) {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		for _, target := range targets {
			w.get(target)
		}
	}
}

// getFlapping is get for a flapping upstream: where the 401 was not replayed, the
// next attempt is a first one again.
func (w *world) getFlapping(target string) int {
	status := w.get(target)
	if w.attempts%2 == 1 {
		w.attempts++
	}
	return status
}

func atMost(t *testing.T, what string, got, want int) {
	t.Helper()
	if got > want {
		t.Errorf("%s: got %d, want at most %d", what, got, want)
	}
}

func TestBudgetForbiddenPath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("GET /forbidden")
		same(t, "first", w.get("/forbidden"), 401)
		w.hammer(time.Second, "/forbidden")
		same(t, "logins at once", w.logins(), 3)
		w.hammer(58*time.Second, "/forbidden")
		same(t, "logins in a minute", w.logins(), 5)
		w.hammer(4*time.Minute, "/forbidden")
		same(t, "logins in five minutes", w.logins(), 7) // at 0, 0, 0, 10, 30, 70 and 150 s
		before := w.logins()
		w.hammer(time.Hour, "/forbidden")
		same(t, "logins in the next hour", w.logins()-before, 12)
		same(t, "status", w.get("/forbidden"), 401)
	})
}

func TestBudgetForbiddenPathForADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("GET /forbidden")
		for range 24 * 60 * 60 {
			w.get("/forbidden")
			time.Sleep(time.Second)
		}
		if n := w.logins(); n < 250 || n >= 300 {
			t.Errorf("logins in a day: got %d, want about one in 5 min and under 300", n)
		}
		if want := 24*60*60 + w.logins(); w.attempts != want {
			t.Errorf("attempts upstream: got %d, want %d: one a request and one more a login", w.attempts, want)
		}
	})
}

// 401s that come together are one login, and a path at a time makes no more.
func TestBudgetConcurrentForbidden(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.refuseAll = true
		for round := range 10 {
			var wg sync.WaitGroup
			for i := range 100 {
				wg.Go(func() { same(t, "status", w.get(fmt.Sprintf("/r%d/p%d", round, i)), 401) })
			}
			wg.Wait()
		}
		same(t, "logins", w.logins(), 3)
	})
}

func TestBudgetRevocationHealsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("GET /forbidden")
		same(t, "before", w.get("/works"), 200)
		w.hammer(time.Minute, "/forbidden")
		for range 20 {
			// /works was not asked for since: its witness is an old generation.
			spent := w.logins()
			w.revoke()
			same(t, "after a revocation", w.get("/works"), 200)
			same(t, "logins for it", w.logins()-spent, 1)
			spent = w.logins()
			for end := time.Now().Add(10 * time.Minute); time.Now().Before(end); time.Sleep(5 * time.Second) {
				w.get("/forbidden")
			}
			// And those cures are no present to the forbidden path.
			atMost(t, "logins for the forbidden path in ten minutes", w.logins()-spent, 3)
		}
	})
}

// A path that worked until the account lost it costs a revocation nothing.
func TestBudgetPathLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		same(t, "before", w.get("/lost"), 200)
		same(t, "before", w.get("/works"), 200)
		w.forbidden["GET /lost"] = true
		w.hammer(5*time.Second, "/lost")
		same(t, "logins for the lost path", w.logins(), 3)
		w.revoke()
		same(t, "after a revocation", w.get("/works"), 200)
		same(t, "logins", w.logins(), 4)
		w.revoke()
		same(t, "after the next", w.get("/works"), 200)
		same(t, "logins", w.logins(), 5)
	})
}

// Upstream refuses everything, and every path has worked.
func TestBudgetUpstreamRefusesAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		var paths []string
		for i := range 20 {
			paths = append(paths, fmt.Sprint("/p", i))
			same(t, "before", w.get(paths[i]), 200)
		}
		for _, path := range paths[:3] { // a later one may have their place in the table
			same(t, "again", w.get(path), 200)
		}
		w.mu.Lock()
		w.refuseAll = true
		w.mu.Unlock()
		w.hammer(time.Second, paths...)
		same(t, "logins at once", w.logins(), 3)
		w.hammer(58*time.Second, paths...)
		// At 0, 0, 0, and both kinds of paths at 10 and 30 s.
		atMost(t, "logins in a minute", w.logins(), 7)
		before := w.logins()
		for range 60 * 60 {
			for _, path := range paths {
				w.get(path)
			}
			time.Sleep(time.Second)
		}
		// Two in 5 min: one for a path that has worked and one for any.
		if n := w.logins() - before; n < 12 || n > 26 {
			t.Errorf("logins in the next hour: got %d, want 12 to 26", n)
		}

		// It takes tokens again: a revocation heals as soon as the last wait is over.
		w.mu.Lock()
		w.refuseAll = false
		w.mu.Unlock()
		same(t, "afterwards", w.get("/p0"), 200)
		time.Sleep(5 * time.Minute)
		w.revoke()
		same(t, "after a revocation", w.get("/p0"), 200)
	})
}

// The same path, asked for with and without success, by query or by method:
// the successes must not pass for cures.
func TestBudgetPathForbiddenInPart(t *testing.T) {
	for name, ask := range map[string]func(w *world){
		"query":  func(w *world) { w.get("/mixed?org=1"); w.get("/mixed?org=2") },
		"method": func(w *world) { w.do("GET", "/mixed"); w.do("DELETE", "/mixed") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld("GET /mixed?org=2", "DELETE /mixed")
				same(t, "before", w.get("/works"), 200)
				for range 600 {
					ask(w)
					time.Sleep(100 * time.Millisecond)
				}
				atMost(t, "logins in a minute", w.logins(), 6)
				before := w.logins()
				for range 60 * 60 {
					ask(w)
					time.Sleep(time.Second)
				}
				atMost(t, "logins in the next hour", w.logins()-before, 30)
				if name == "method" {
					w.revoke()
					same(t, "GET after a revocation", w.get("/mixed"), 200)
				}
			})
		})
	}
}

// A cure gives the whole allowance back, once its token has lived.
func TestBudgetCureResets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("GET /forbidden")
		w.hammer(time.Second, "/forbidden")
		same(t, "logins at once", w.logins(), 3)
		// The 401 was the token's after all: the next login cures it.
		delete(w.forbidden, "GET /forbidden")
		w.revoke()
		same(t, "too soon", w.get("/forbidden"), 401)
		time.Sleep(10 * time.Second)
		same(t, "when due", w.get("/forbidden"), 200)
		same(t, "logins", w.logins(), 4)
		time.Sleep(10 * time.Minute)
		w.forbidden["GET /other"] = true
		w.hammer(time.Second, "/other")
		same(t, "logins at once after that", w.logins(), 7)
	})
}

// One bad replica behind a load balancer answers 401 now and then: each login
// seems to help, and still there must not be one for each failing request.
func TestBudgetFlappingUpstream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.flapping = true
		for start := time.Now(); time.Since(start) < 24*time.Hour; time.Sleep(time.Second) {
			w.getFlapping("/a")
		}
		atMost(t, "logins in a day of flapping", w.logins(), 300)
	})
}

// A gateway's 502 does not show that the new token was taken: it is no cure.
func TestBudgetReplayMeets502(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.flapping, w.second = true, 502
		for i := range 10 {
			same(t, "status", w.getFlapping("/a"), []int{502, 502, 502, 401, 401, 401, 401, 401, 401, 401}[i])
		}
		same(t, "logins", w.logins(), 3)
	})
}

// What a path that works has cured costs others nothing, once the token has lived.
func TestBudgetCuresCostOthersNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		same(t, "before", w.get("/works"), 200)
		for range 5 {
			w.revoke()
			same(t, "after a revocation", w.get("/works"), 200)
			time.Sleep(10 * time.Minute)
		}
		w.revoke()
		same(t, "a path that nobody has asked for", w.get("/new"), 200)
	})
}

// Tokens that die after each use: three logins at once, and then ever fewer, though
// each of them helps.
func TestFaultTokensDieEarly(t *testing.T) {
	for _, paths := range []int{1, 100_000} { // asked for again, and never again
		t.Run(fmt.Sprint(paths, " paths"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				w.once = true
				var at []string
				for i := range 3600 {
					before := w.logins()
					status := w.get(fmt.Sprint("/a/", i%paths))
					renewed := w.logins() > before
					if want := renewed || i == 0; want != (status == 200) {
						t.Errorf("second %d: got %d, and a login: %t", i, status, renewed)
					}
					if renewed {
						at = append(at, fmt.Sprint(i))
					}
					if want := i > 3; w.last.ShortLived != want {
						t.Errorf("second %d: got short-lived: %t, want %t", i, w.last.ShortLived, want)
					}
					time.Sleep(time.Second - time.Duration(w.logins()-before)*loginTakes)
				}
				same(t, "logins", strings.Join(at, " "),
					"1 2 3 13 33 73 153 313 613 913 1213 1513 1813 2113 2413 2713 3013 3313")

				// It is over: the login that is due next is the last.
				w.once = false
				time.Sleep(5 * time.Minute)
				same(t, "afterwards", w.get("/a/1"), 200)
				before := w.logins()
				w.hammer(time.Minute, "/a/1")
				same(t, "further logins", w.logins()-before, 0)
			})
		})
	}
}

// Real revocations are healed at once as long as a token between two of them has
// lived: to its refresh ahead, or for ten minutes.
func TestBudgetTokenThatLivedResets(t *testing.T) {
	for _, c := range []struct {
		name                string
		every, refreshAfter time.Duration
		healed              bool
	}{
		{"refreshed ahead between", 15 * time.Second, 7 * time.Second, true},
		{"refreshed ahead too late", 15 * time.Second, 20 * time.Second, false},
		{"ten minutes", 10 * time.Minute, time.Hour, true},
		{"a minute", time.Minute, time.Hour, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				w.source.lifetime, w.source.refreshAfter = time.Hour, c.refreshAfter
				refused := 0
				for start := time.Now(); time.Since(start) < 20*c.every; {
					same(t, "before", w.get("/a"), 200)
					for end := time.Now().Add(c.every); time.Now().Before(end); time.Sleep(c.every / 20) {
						if w.get("/a") != 200 {
							refused++
						}
						if time.Since(w.source.came[0]) >= c.refreshAfter {
							w.source.refresh()
						}
					}
					w.revoke()
					if w.get("/a") != 200 {
						refused++
						w.unrevoke()
					}
				}
				if healed := refused == 0; healed != c.healed {
					t.Errorf("got %d requests refused, healed: %t, want %t", refused, healed, c.healed)
				}
			})
		})
	}
}

// A 403 says what the account may do, never that the token is bad.
func TestBudget403NeverLogsIn(t *testing.T) {
	u := upstream(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(403) })
	src := &source{}
	d := start(t, proxy.Options{Upstream: u, Source: src})
	for range 5 {
		resp, _ := d.get(t, "/")
		same(t, "status", resp.StatusCode, 403)
	}
	same(t, "logins", src.loginCount(), 0)
	for _, ex := range d.exchanges(t, 5) {
		same(t, "unauthorized", ex.Unauthorized, "")
	}
}

// With RenewStatus 403 is as 401 is: replayed, within the same budget.
func TestRenewStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("GET /forbidden")
		w.refusal = 403
		w.options.RenewStatus = []int{401, 403}
		w.h = proxy.New(w.options)
		same(t, "before", w.get("/a"), 200)
		w.revoke()
		same(t, "after a revocation", w.get("/a"), 200)
		same(t, "outcome", w.last.Unauthorized, proxy.Replayed)
		same(t, "refused", w.last.Refused, false)
		time.Sleep(10 * time.Minute)
		w.hammer(time.Second, "/forbidden")
		same(t, "status", w.get("/forbidden"), 403)
		same(t, "outcome", w.last.Unauthorized, proxy.Passed)
		same(t, "refused", w.last.Refused, true)
		same(t, "logins", w.logins(), 4)
		w.revoke()
		same(t, "after a revocation", w.get("/a"), 200)
		w.refusal = 401
		w.revoke()
		same(t, "after a revocation, told by 401", w.get("/a"), 200)
	})
}
