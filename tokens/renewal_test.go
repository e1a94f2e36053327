package tokens_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/bearerd/bearerd/tokens"
)

func TestRefreshAheadBetween70And85Percent(t *testing.T) {
	var low, high int
	for range 200 {
		bubble(t, func(t *testing.T) {
			s := newServer(t, nil)
			m := newManager(t, s)
			m.Start()
			m.good(1)
			wait(299 * time.Second)
			at := s.times()
			if len(at) != 2 || at[1] < 210*time.Second || at[1] > 255*time.Second {
				t.Fatalf("got logins at %v, want a second one after 210s to 255s", at)
			}
			if at[1] < 220*time.Second {
				low++
			}
			if at[1] > 245*time.Second {
				high++
			}
			m.good(2)
		})
	}
	// Each is 44 of 200 in the mean; chance makes 10 of it less than once in 10^9.
	if low < 10 || high < 10 {
		t.Errorf("of 200 points %d are in the lowest 22 %% and %d in the highest, want them even", low, high)
	}
}

// Requests go on with the old token while the refresh ahead is under way.
func TestFaultLoginSlowTokenGood(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newServer(t, goodThen(reply{latency: 9 * time.Second}))
		m := newManager(t, s)
		m.Start()
		m.good(1)
		var under bool
		for range 300 {
			begin := time.Now()
			if _, err := m.Token(t.Context()); err != nil || time.Since(begin) > 0 {
				t.Fatalf("Token: %v after %v, want a token at once", err, time.Since(begin))
			}
			under = under || m.Status().LoggingIn
			wait(time.Second)
		}
		if !under {
			t.Error("no login was under way meanwhile")
		}
		s.expectLogins(2)
		m.good(2)
	})
}

// A refresh ahead that fails is retried without any request, and no request
// sees it while the old token is good.
func TestFaultLoginDownTokenGood(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newServer(t, func(n int) reply {
			if n == 1 || n == 5 {
				return reply{}
			}
			return down(n)
		})
		m := newManager(t, s)
		m.Start()
		m.good(1)
		wait(209 * time.Second)
		for range 60 {
			if _, err := m.Token(t.Context()); err != nil {
				t.Fatalf("Token: %v, want a token", err)
			}
			wait(time.Second)
		}
		m.good(2)
		s.expectLogins(5)
		if e := m.lastEvent(); e.Result() != tokens.OK || !e.FailingSince.IsZero() {
			t.Errorf("got %+v, want ok", e)
		}
		if got := m.Status(); !got.FailingSince.IsZero() || got.Cause != (tokens.Cause{}) || got.LastResult() != tokens.OK {
			t.Errorf("got %+v, want no failure", got)
		}
	})
}

// Expired while login fails: answered at once, also while a retry is under way.
func TestExpiredWhileFailingIsAnsweredAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newServer(t, goodThen(reply{status: 500, latency: 5 * time.Second}))
		m := newManager(t, s)
		m.Start()
		m.good(1)
		wait(300 * time.Second)
		var under int
		for range 100 {
			if m.Status().LoggingIn {
				under++
			}
			if e := m.unavailable(tokens.Transient); e.Stopped || e.RetryAfter < time.Second || e.RetryAfter > 36*time.Second {
				t.Errorf("got %+v, want RetryAfter within 1s to 36s", e)
			}
			wait(time.Second)
		}
		if under == 0 {
			t.Error("no retry was under way meanwhile")
		}
		if got := m.Status(); got.Good || got.Ready() {
			t.Errorf("got %+v, want not ready", got)
		}
	})
}

func TestIdleManagerDoesNotLogIn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newServer(t, nil)
		m := newManager(t, s)
		m.Start()
		wait(24 * time.Hour)
		s.expectLogins(1)
		begin := time.Now()
		m.good(2) // a request after an idle expiry waits for one login
		if got := time.Since(begin); got != s.latency {
			t.Errorf("waited %v, want %v", got, s.latency)
		}
		wait(24 * time.Hour) // used, so refreshed once
		s.expectLogins(3)
	})
}

func TestFirstUseAfterTheRefreshPointRefreshesAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newServer(t, nil)
		m := newManager(t, s)
		m.Start()
		wait(290 * time.Second)
		s.expectLogins(1)
		m.good(1)
		wait(time.Second)
		s.expectLogins(2)
		m.good(2)
	})
}

func TestKeepWarmRefreshesUnused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newServer(t, nil)
		m := newManager(t, s, func(o *tokens.Options) { o.KeepWarm = true })
		m.Start()
		wait(time.Second)
		for range 3600 {
			if !m.Status().Good {
				t.Fatalf("no good token at %v", time.Since(s.start))
			}
			wait(time.Second)
		}
		if got := len(s.seen()); got < 14 || got > 18 { // an hour in steps of 210 to 255 s
			t.Errorf("got %d logins in an hour, want 14 to 18", got)
		}
	})
}

// 4-second tokens from a server that takes 400 ms: after the first, no call ever
// waits.
func TestShortTokensNobodyWaits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newServer(t, func(int) reply { return reply{lifetime: "4"} })
		s.latency = 400 * time.Millisecond
		m := newManager(t, s)
		m.Start()
		m.good(1)
		var calls int
		var wg sync.WaitGroup
		for worker := range 4 {
			wg.Go(func() {
				time.Sleep(time.Duration(worker) * 3 * time.Millisecond)
				for range 6000 {
					begin := time.Now()
					if _, err := m.Token(t.Context()); err != nil || time.Since(begin) > 0 {
						t.Errorf("Token: %v after %v", err, time.Since(begin))
						return
					}
					if worker == 0 {
						calls++
					}
					time.Sleep(10 * time.Millisecond)
				}
			})
		}
		wg.Wait()
		if calls != 6000 {
			t.Errorf("got %d calls, want 6000", calls)
		}
		if got := len(s.seen()); got < 60*10/34 || got > 60*10/28+2 { // each 2.8 to 3.4 s
			t.Errorf("got %d logins in 60s, want 17 to 23", got)
		}
	})
}

// A login that takes longer than its token lives is a failure with a back-off,
// not the start of the next one.
func TestLoginSlowerThanTheTokenLivesDoesNotSpin(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newServer(t, func(int) reply { return reply{lifetime: "2", latency: 3 * time.Second} })
		m := newManager(t, s)
		m.Start()
		_, err := m.Token(t.Context())
		if e, ok := errors.AsType[*tokens.Unavailable](err); !ok || e.Kind != tokens.Transient {
			t.Fatalf("got %v, want unavailable, transient", err)
		}
		for range 600 {
			m.unavailable(tokens.Transient)
			wait(time.Second)
		}
		if got := len(s.seen()); got < 15 || got > 30 { // 3 s each and up to 36 s between
			t.Errorf("got %d logins in 10min, want 15 to 30", got)
		}
	})
}

// A laptop that slept wakes with an old token: the monotonic clock stood still.
func TestFaultLaptopSleepsPastExpiry(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, c := newServer(t, nil), newClock()
		m := newManager(t, s, func(o *tokens.Options) { o.Clock = c.now })
		m.Start()
		m.good(1)
		wait(10 * time.Second)
		c.sleep(8 * time.Hour)
		wait(time.Hour) // awake, and nobody asks
		s.expectLogins(1)
		good, errs := manyTokens(m, 100)
		if good != 100 {
			t.Errorf("got %d tokens and %v, want 100", good, errs)
		}
		m.good(2)
		s.expectLogins(2)
	})
}

// One that slept past the refresh point only refreshes when it is used again.
func TestFaultLaptopSleepsPastTheRefreshPoint(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, c := newServer(t, nil), newClock()
		m := newManager(t, s, func(o *tokens.Options) { o.Clock = c.now })
		m.Start()
		m.good(1)
		wait(10 * time.Second)
		c.sleep(270 * time.Second)
		m.good(1)
		wait(time.Second)
		s.expectLogins(2)
		m.good(2)
	})
}

func TestFaultClockSetBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, c := newServer(t, nil), newClock()
		m := newManager(t, s, func(o *tokens.Options) { o.Clock = c.now })
		m.good(1) // without Start: no refresh ahead
		c.wall.Store(int64(-24 * time.Hour))
		wait(299 * time.Second)
		m.good(1)
		wait(time.Second - s.latency)
		m.good(2) // the monotonic clock ended it, counted from the request
		s.expectLogins(2)
	})
}

func TestFaultClockSetForward(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, c := newServer(t, nil), newClock()
		m := newManager(t, s, func(o *tokens.Options) { o.Clock = c.now })
		m.Start()
		m.good(1)
		c.wall.Store(int64(24 * time.Hour))
		m.good(2)
		m.good(2)
		s.expectLogins(2)
	})
}

// A step of the wall clock does not shorten a back-off: it would cost the
// account an attempt.
func TestFaultClockStepDoesNotEndABackOff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, c := newServer(t, rejected), newClock()
		m := newManager(t, s, func(o *tokens.Options) { o.Clock = c.now })
		m.Start()
		wait(time.Second)
		c.wall.Store(int64(time.Hour))
		m.unavailable(tokens.Rejected)
		wait(28 * time.Second)
		s.expectLogins(1)
		wait(2 * time.Second)
		s.expectLogins(2)
	})
}

// A token is good until its very end, counted from when the login was sent.
func TestTokenEndsCountedFromTheRequest(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newServer(t, func(int) reply { return reply{lifetime: "30", latency: 8 * time.Second} })
		m := newManager(t, s)
		token := m.good(1)
		if got := token.Expiry.Sub(token.Requested); got != 30*time.Second || token.Lifetime != got {
			t.Errorf("got %v from request to expiry, lifetime %v; want 30s", got, token.Lifetime)
		}
		wait(22*time.Second - time.Nanosecond)
		m.good(1)
		wait(time.Nanosecond)
		m.good(2)
	})
}

// All of it at once under load, on the real clock: what -race needs to see.
func TestHammer(t *testing.T) {
	s := newServer(t, func(n int) reply {
		if n%5 == 0 {
			return down(n)
		}
		return reply{lifetime: "1"}
	})
	s.latency = time.Millisecond
	m := newManager(t, s)
	m.Start()
	end := time.Now().Add(1500 * time.Millisecond)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := 0; time.Now().Before(end); i++ {
				token, err := m.Token(t.Context())
				if err == nil && token.Bearer() == "" {
					t.Error("a token without text")
				}
				if err == nil && i%1000 == 0 {
					_, _, _ = m.Renew(t.Context(), token.Generation, func() bool { return i%7000 == 0 })
				}
				if i%5000 == 0 {
					_ = fmt.Sprintf("%+v %#v", m.Status(), token)
				}
			}
		})
	}
	wg.Wait()
	if got := len(s.seen()); got < 2 {
		t.Errorf("got %d logins, want more", got)
	}
	m.Close()
	var generation uint64
	for _, e := range m.seen() {
		if e.Result() == tokens.OK {
			generation++
			if e.Token.Generation != generation {
				t.Errorf("got generation %d, want %d", e.Token.Generation, generation)
			}
		}
	}
}
