package tokens_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bearerd/bearerd/tokens"
)

// manyTokens calls Token n times at once, and returns how many got a token and
// how many each error, when all have ended.
func manyTokens(m *manager, n int) (good int, errs map[error]int) {
	errs = make(map[error]int)
	var mu sync.Mutex // guards good and errs
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			token, err := m.Token(context.Background())
			mu.Lock()
			defer mu.Unlock()
			if token != nil && err == nil {
				good++
			} else {
				errs[err]++
			}
		})
	}
	wg.Wait()
	return good, errs
}

func TestSingleFlightColdStart10000ShareSuccess(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newServer(t, nil)
		m := newManager(t, s)
		m.Start()
		good, errs := manyTokens(m, 10_000)
		if good != 10_000 {
			t.Errorf("got %d tokens and %v, want 10000", good, errs)
		}
		s.expectLogins(1)
	})
}

func TestSingleFlightColdStart10000ShareFailure(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newServer(t, rejected)
		m := newManager(t, s)
		m.Start()
		_, errs := manyTokens(m, 10_000)
		var unavailable int
		for err, n := range errs {
			if e, ok := errors.AsType[*tokens.Unavailable](err); ok && e.Kind == tokens.Rejected && e.RetryAfter == 30*time.Second {
				unavailable += n
			}
		}
		if unavailable != 10_000 {
			t.Errorf("got %d calls unavailable for 30s, want 10000; all: %v", unavailable, errs)
		}
		s.expectLogins(1)
	})
}

// The first login at start and the one of the first request are the same
// flight, whoever comes first.
func TestFirstLoginIsTheFlightOfTheFirstRequest(t *testing.T) {
	for name, tokenFirst := range map[string]bool{"start first": false, "token first": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := newServer(t, nil)
				m := newManager(t, s)
				if !tokenFirst {
					m.Start()
				}
				done := make(chan struct{})
				go func() { defer close(done); m.good(1) }()
				synctest.Wait()
				m.Start()
				m.Start()
				m.LogInAgain() // joins as well
				<-done
				wait(time.Minute)
				s.expectLogins(1)
			})
		})
	}
}

func TestStartAfterTheFirstLogin(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newServer(t, nil)
		m := newManager(t, s)
		m.good(1)
		m.Start()
		wait(time.Second)
		s.expectLogins(1)
		wait(5 * time.Minute)
		s.expectLogins(2) // it refreshes ahead from then on
	})
}

func TestFaultLeadingClientLeavesOthersGetTheToken(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newServer(t, nil)
		m := newManager(t, s)
		ctx, cancel := context.WithCancel(t.Context())
		leader := make(chan error)
		go func() { _, err := m.Token(ctx); leader <- err }()
		synctest.Wait()
		s.expectLogins(1) // the leader's
		follower := make(chan *tokens.Token)
		go func() { token, _ := m.Token(context.Background()); follower <- token }()
		synctest.Wait()
		cancel()
		if err := <-leader; err != context.Canceled {
			t.Errorf("leader: got %v, want context.Canceled", err)
		}
		if got := <-follower; got == nil || got.Generation != 1 {
			t.Errorf("follower: got %v, want generation 1", got)
		}
		s.expectLogins(1)
	})
}

func TestWaiterLeavesWithItsContext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newServer(t, func(int) reply { return reply{latency: 5 * time.Second} })
		m := newManager(t, s)
		m.Start()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		if _, err := m.Token(ctx); err != context.DeadlineExceeded {
			t.Errorf("got %v, want context.DeadlineExceeded", err)
		}
		if got := time.Since(begin); got != time.Second {
			t.Errorf("waited %v, want 1s", got)
		}
		wait(5 * time.Second)
		m.good(1) // the login went on
		s.expectLogins(1)

		ended, cancel := context.WithCancel(t.Context())
		cancel()
		wait(10 * time.Minute) // refreshed ahead once, then over
		if _, err := m.Token(ended); err != context.Canceled {
			t.Errorf("with a context that has ended: got %v, want context.Canceled", err)
		}
		synctest.Wait()
		s.expectLogins(2) // nobody waits for a third
	})
}

// Whatever is wrong with the login server: those who wait share the failure, all
// who come later are answered at once.
func TestFaultLoginDownNoToken(t *testing.T) {
	for name, a := range map[string]reply{
		"5xx":       {status: 502, body: "<html>Bad Gateway</html>"},
		"refused":   {err: errors.New("connection refused")},
		"HTML":      {body: "<html>Sign in</html>"},
		"truncated": {body: `{"access_token":"abc","expires`},
		"slow":      {latency: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := newServer(t, func(int) reply { return a })
				m := newManager(t, s)
				m.Start()
				begin := time.Now()
				_, err := m.Token(t.Context())
				if e, ok := errors.AsType[*tokens.Unavailable](err); !ok || e.Kind != tokens.Transient || e.RetryAfter < time.Second {
					t.Errorf("got %v, want unavailable, transient", err)
				}
				if took := time.Since(begin); took > 10*time.Second { // the default of Login.Timeout
					t.Errorf("the failure took %v, want at most 10s", took)
				}
				for range 1000 {
					m.unavailable(tokens.Transient)
				}
				s.expectLogins(1)
				wait(5 * time.Second)
				m.unavailable(tokens.Transient)
			})
		})
	}
}

// TOKEN_WAIT: the request gives up, the login goes on.
func TestFaultLoginSlowNoToken(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newServer(t, func(int) reply { return reply{latency: 20 * time.Second} })
		m := newManager(t, s, func(o *tokens.Options) { o.Login.Timeout = time.Minute })
		begin := time.Now()
		if _, err := m.Token(t.Context()); err != tokens.ErrWait {
			t.Errorf("got %v, want ErrWait", err)
		}
		if got := time.Since(begin); got != 15*time.Second {
			t.Errorf("waited %v, want the default of 15s", got)
		}
		m.good(1) // 5 s later
		if got := time.Since(begin); got != 20*time.Second {
			t.Errorf("the token came after %v, want 20s", got)
		}
		s.expectLogins(1)
	})
}

func TestRenewThousandAtOnceIsOneLogin(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newServer(t, nil)
		m := newManager(t, s)
		m.Start()
		m.good(1)
		var asked, started, good atomic.Int32
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() {
				token, mine, err := m.Renew(context.Background(), 1, func() bool { asked.Add(1); return true })
				if mine {
					started.Add(1)
				}
				if err == nil && token.Generation == 2 {
					good.Add(1)
				}
			})
		}
		synctest.Wait()
		m.good(1) // the old token stays in use meanwhile
		wg.Wait()
		if asked.Load() != 1 || started.Load() != 1 || good.Load() != 1000 {
			t.Errorf("asked %d, started %d, renewed %d; want 1, 1, 1000", asked.Load(), started.Load(), good.Load())
		}
		s.expectLogins(2)
	})
}

// A newer token that is there is taken, and a login under way is joined.
func TestRenewStartsNoSecondLogin(t *testing.T) {
	for name, later := range map[string]time.Duration{"a newer token is there": time.Second, "a login is under way": 0} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := newServer(t, nil)
				m := newManager(t, s)
				m.good(1)
				m.LogInAgain()
				time.Sleep(later)
				token, started, err := m.Renew(t.Context(), 1, func() bool { t.Error("may was asked"); return true })
				if err != nil || started || token.Generation != 2 {
					t.Errorf("got %v, %t, %v; want generation 2, not started", token, started, err)
				}
				s.expectLogins(2)
			})
		})
	}
}

func TestRenewNotAllowed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newServer(t, nil)
		m := newManager(t, s)
		m.good(1)
		token, started, err := m.Renew(t.Context(), 1, func() bool { return false })
		if token != nil || started || err != tokens.ErrNotRenewed {
			t.Errorf("got %v, %t, %v; want ErrNotRenewed", token, started, err)
		}
		wait(time.Second)
		s.expectLogins(1)
	})
}

// A renewal that fails leaves the old token in use, and no request starts or
// joins another login until one succeeds.
func TestRenewFails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newServer(t, goodThen(reply{status: 500, latency: 300 * time.Millisecond}))
		m := newManager(t, s)
		m.Start()
		m.good(1)
		_, started, err := m.Renew(t.Context(), 1, nil)
		e, ok := errors.AsType[*tokens.Unavailable](err)
		if !started || !ok || e.Kind != tokens.Transient {
			t.Fatalf("got %t, %v; want started, unavailable", started, err)
		}
		m.good(1)
		no := func() bool { t.Error("may was asked while login fails"); return true }
		if _, _, err := m.Renew(t.Context(), 1, no); err != tokens.ErrNotRenewed {
			t.Errorf("backing off: got %v, want ErrNotRenewed", err)
		}
		wait(1300 * time.Millisecond) // the retry is under way
		if !m.Status().LoggingIn {
			t.Fatal("no retry is under way")
		}
		begin := time.Now()
		if _, _, err := m.Renew(t.Context(), 1, no); err != tokens.ErrNotRenewed || time.Since(begin) > 0 {
			t.Errorf("retry under way: got %v after %v, want ErrNotRenewed at once", err, time.Since(begin))
		}
		m.good(1)
	})
}

func TestRenewLeavesWithItsContextAndWait(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newServer(t, func(n int) reply { return reply{latency: time.Duration(n) * 4 * time.Second} })
		m := newManager(t, s, func(o *tokens.Options) { o.Wait = 5 * time.Second })
		m.good(1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, started, err := m.Renew(ctx, 1, nil); err != context.DeadlineExceeded || !started {
			t.Errorf("got %t, %v; want started, context.DeadlineExceeded", started, err)
		}
		if _, started, err := m.Renew(t.Context(), 1, nil); err != tokens.ErrWait || started {
			t.Errorf("got %t, %v; want not started, ErrWait", started, err)
		}
		if _, _, err := m.Renew(ctx, 1, nil); err != context.DeadlineExceeded {
			t.Errorf("with a context that has ended: got %v, want context.DeadlineExceeded", err)
		}
		m.good(1)
		wait(3 * time.Second)
		m.good(2)
		s.expectLogins(2)
	})
}

func TestCloseEndsTheLoginAndTheWaiting(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newServer(t, func(int) reply { return reply{latency: 9 * time.Second} })
		m := newManager(t, s)
		m.Start()
		waiter := make(chan error)
		go func() { _, err := m.Token(context.Background()); waiter <- err }()
		synctest.Wait()
		begin := time.Now()
		m.Close()
		if err := <-waiter; err != tokens.ErrClosed {
			t.Errorf("waiter: got %v, want ErrClosed", err)
		}
		if took := time.Since(begin); took != 0 {
			t.Errorf("Close took %v of the login's time", took)
		}
		if _, err := m.Token(t.Context()); err != tokens.ErrClosed {
			t.Errorf("Token: got %v, want ErrClosed", err)
		}
		if _, _, err := m.Renew(t.Context(), 0, nil); err != tokens.ErrNotRenewed {
			t.Errorf("Renew: got %v, want ErrNotRenewed", err)
		}
		m.LogInAgain()
		m.Start()
		m.Close()
		wait(time.Hour)
		s.expectLogins(1)
		if got := m.seen(); len(got) != 0 {
			t.Errorf("got events %v, want none", got)
		}
	})
}

// Without Start nothing happens by itself: what `bearerd check` needs.
func TestWithoutStartOneLogin(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newServer(t, rejected)
		m := newManager(t, s)
		if _, err := m.Token(t.Context()); err == nil {
			t.Error("got no error")
		}
		wait(24 * time.Hour)
		s.expectLogins(1)
		m.Close()
		if e := m.lastEvent(); e.Result() != tokens.Rejected || e.Status != 401 {
			t.Errorf("got %+v, want rejected, 401", e)
		}
	})
}

// The token before is there for a server that does not take the new one yet, as
// long as it is good.
func TestBefore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newServer(t, func(n int) reply {
			if n == 3 {
				return reply{lifetime: "10"}
			}
			return reply{}
		})
		clock := newClock()
		m := newManager(t, s, func(o *tokens.Options) { o.Clock = clock.now })
		expect := func(what string, generation, want uint64) {
			t.Helper()
			var got uint64
			if before := m.Before(generation); before != nil {
				got = before.Generation
			}
			if got != want {
				t.Errorf("%s: got generation %d before %d, want %d (0: none)", what, got, generation, want)
			}
		}
		expect("with no token", 1, 0)
		first := m.good(1)
		expect("with one", 1, 0)
		if age := time.Since(first.Came); age != 0 {
			t.Errorf("age: got %v, want 0: it counts from the answer, not from the request", age)
		}
		if after := first.RefreshAfter(); after < 210*time.Second || after > 255*time.Second {
			t.Errorf("refreshed ahead after %v, want 70 to 85 %% of 300 s", after)
		}
		if _, _, err := m.Renew(t.Context(), 1, nil); err != nil {
			t.Fatal(err)
		}
		expect("with two", 2, 1)
		expect("for who has the first still", 1, 0)
		clock.sleep(5 * time.Minute) // of the wall clock alone
		expect("when it is over", 2, 0)
		m.good(3) // for 10 s
		expect("with three, the second over", 3, 0)
		m.LogInAgain()
		wait(time.Second)
		expect("with four", 4, 3)
		time.Sleep(9 * time.Second)
		expect("with four, the third over", 4, 0)
	})
}
