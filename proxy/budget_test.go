package proxy_test

import (
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

	mu        sync.Mutex
	forbidden map[string]bool // "METHOD target" or "METHOD path": always 401
	refuseAll bool
	flapping  bool   // refuse each first attempt, take each second
	second    int    // status of a second attempt when flapping; 0: 200
	good      uint64 // oldest generation that is taken
	attempts  int
}

func newWorld(forbidden ...string) *world {
	w := &world{source: &source{}, forbidden: make(map[string]bool)}
	for _, f := range forbidden {
		w.forbidden[f] = true
	}
	w.source.login = func(context.Context, uint64) error {
		time.Sleep(50 * time.Millisecond) // fake time: a login takes some
		return nil
	}
	w.h = proxy.New(proxy.Options{Upstream: &url.URL{Scheme: "http", Host: "up.example"}, Source: w.source, Transport: w})
	return w
}

func (w *world) RoundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.attempts++
	var generation uint64
	_, err := fmt.Sscanf(r.Header.Get("Authorization"), "Bearer t%d", &generation)
	status := 200
	if w.flapping && w.attempts%2 == 1 || err != nil || w.refuseAll || generation < w.good ||
		w.forbidden[r.Method+" "+r.URL.Path] || w.forbidden[r.Method+" "+r.URL.RequestURI()] {
		status = 401
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
	rec := httptest.NewRecorder()
	r := httptest.NewRequest(method, target, nil)
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
		same(t, "logins in a minute", w.logins(), 4)
		w.hammer(4*time.Minute, "/forbidden")
		same(t, "logins in five minutes", w.logins(), 6) // at 0, 0, 0, 40, 120 and 280 s
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
		spent := w.logins()
		// /works was not asked for since: its witness is an old generation.
		for i := range 20 {
			w.revoke()
			same(t, "after a revocation", w.get("/works"), 200)
			same(t, "logins for it", w.logins()-spent, i+1)
		}
		// And those cures are no present to the forbidden path.
		spent = w.logins()
		w.hammer(time.Second, "/forbidden")
		same(t, "logins for the forbidden path", w.logins()-spent, 0)
		atMost(t, "in the next ten minutes", func() int { w.hammer(10*time.Minute, "/forbidden"); return w.logins() - spent }(), 4)
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
		atMost(t, "logins in a minute", w.logins(), 5)
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

// A cure gives the whole allowance back.
func TestBudgetCureResets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("GET /forbidden")
		w.hammer(time.Second, "/forbidden")
		same(t, "logins at once", w.logins(), 3)
		// The 401 was the token's after all: the next login cures it.
		delete(w.forbidden, "GET /forbidden")
		w.revoke()
		same(t, "too soon", w.get("/forbidden"), 401)
		time.Sleep(40 * time.Second)
		same(t, "when due", w.get("/forbidden"), 200)
		same(t, "logins", w.logins(), 4)
		w.forbidden["GET /other"] = true
		w.hammer(time.Second, "/other")
		same(t, "logins at once after the cure", w.logins(), 7)
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
		atMost(t, "logins in a day of flapping", w.logins(), 40+24*60)
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

// What a path that works has cured costs others nothing.
func TestBudgetCuresCostOthersNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		same(t, "before", w.get("/works"), 200)
		for range 5 {
			w.revoke()
			same(t, "after a revocation", w.get("/works"), 200)
		}
		w.revoke()
		same(t, "a path that nobody has asked for", w.get("/new"), 200)
	})
}

// Revocations as often as every 15 s for ten minutes are all healed.
func TestBudgetManyRevocations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		same(t, "before", w.get("/a"), 200)
		for i := range 40 {
			w.revoke()
			same(t, fmt.Sprint("after revocation ", i), w.get("/a"), 200)
			time.Sleep(15 * time.Second)
		}
		same(t, "logins", w.logins(), 40)
	})
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
