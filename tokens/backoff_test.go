package tokens_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/bearerd/bearerd/tokens"
)

// gaps returns the times from the end of each login to the next. Every login of
// s took its latency.
func gaps(s *loginServer) (g []time.Duration) {
	at := s.times()
	for i := 1; i < len(at); i++ {
		g = append(g, at[i]-at[i-1]-s.latency)
	}
	return g
}

// expectGaps fails the test unless each gap is at least its floor and at most
// its floor plus slack times that.
func expectGaps(t *testing.T, got []time.Duration, slack float64, floors ...time.Duration) {
	t.Helper()
	if len(got) != len(floors) {
		t.Fatalf("got gaps %v, want %d", got, len(floors))
	}
	for i, floor := range floors {
		if most := floor + time.Duration(slack*float64(floor)) + 2*time.Millisecond; got[i] < floor-2*time.Millisecond || got[i] > most {
			t.Errorf("gap %d: got %v, want %v to %v", i+1, got[i], floor, most)
		}
	}
}

// A wrong password: at most 2 logins in the first minute, 5 in all.
func TestFaultWrongPasswordStopsAfterFive(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newServer(t, rejected)
		m := newManager(t, s)
		m.Start()
		wait(time.Minute)
		s.expectLogins(2)
		if e := m.unavailable(tokens.Rejected); e.Stopped || e.RetryAfter < time.Second {
			t.Errorf("got %+v, want not stopped", e)
		}
		wait(24 * time.Hour)
		expectGaps(t, gaps(s), 0, 30*time.Second, 60*time.Second, 120*time.Second, 240*time.Second)
		if e := m.unavailable(tokens.Rejected); !e.Stopped || e.RetryAfter != 0 {
			t.Errorf("got %+v, want stopped", e)
		}
		events := m.seen()
		for i, e := range events {
			last := i == 4
			if e.Result() != tokens.Rejected || e.Status != 401 || e.Cause.String() != "HTTP 401, error invalid_grant" ||
				e.Rejections != i+1 || e.Stopped != last || e.NextLogin.IsZero() != last || e.FailingSince.IsZero() {
				t.Errorf("event %d: got %+v", i+1, e)
			}
		}
		got := m.Status()
		if len(events) != 5 || got.LastResult() != tokens.Rejected || !got.Stopped || !got.NextLogin.IsZero() ||
			got.Rejections != 5 || got.Cause != events[4].Cause || !got.FailingSince.Equal(events[0].FailingSince) || got.Ready() {
			t.Errorf("got %+v after %d events", got, len(events))
		}
	})
}

// Requests while the password is wrong cause no login.
func TestFaultWrongPasswordUnderLoad(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newServer(t, rejected)
		m := newManager(t, s)
		m.Start()
		wait(time.Second)
		for range 6000 {
			m.unavailable(tokens.Rejected)
			if _, _, err := m.Renew(t.Context(), 0, nil); err != tokens.ErrNotRenewed {
				t.Fatalf("Renew: got %v, want ErrNotRenewed", err)
			}
			wait(100 * time.Millisecond)
		}
		s.expectLogins(5)
	})
}

// Credentials that worked once go on with one attempt an hour: a lock that
// passes looks like a wrong password.
func TestRejectedHourlyWhenItWorkedOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newServer(t, func(n int) reply {
			if n == 1 || n == 20 {
				return reply{}
			}
			return rejected(n)
		})
		m := newManager(t, s)
		m.Start()
		m.good(1)
		wait(24 * time.Hour)
		g := gaps(s)
		if len(g) != 19 {
			t.Fatalf("got gaps %v, want 19", g)
		}
		expectGaps(t, g[1:5], 0, 30*time.Second, 60*time.Second, 120*time.Second, 240*time.Second)
		expectHourly(t, g[5:])
		if got := m.Status(); got.Stopped || got.Rejections != 0 || got.LastResult() != tokens.OK {
			t.Errorf("got %+v, want ok after the lock has passed", got)
		}
	})
}

// An operator lifts a stop for one attempt, and ends a back-off.
func TestOperatorLiftsAStop(t *testing.T) {
	bubble(t, func(t *testing.T) {
		fixed := false
		s := newServer(t, func(n int) reply {
			if fixed {
				return reply{}
			}
			return rejected(n)
		})
		m := newManager(t, s)
		m.Start()
		wait(time.Second)
		m.LogInAgain() // within the back-off of 30 s
		wait(time.Second)
		s.expectLogins(2)
		wait(time.Hour)
		s.expectLogins(5)
		for i := range 3 {
			m.LogInAgain()
			m.LogInAgain() // joins
			if m.Status().Stopped {
				t.Error("still stopped while the attempt is under way")
			}
			wait(24 * time.Hour)
			s.expectLogins(6 + i)
			if e := m.unavailable(tokens.Rejected); !e.Stopped {
				t.Errorf("got %+v, want stopped again", e)
			}
		}
		fixed = true
		m.LogInAgain()
		wait(time.Second)
		m.good(1)
		s.expectLogins(9)
	})
}

// A script that asks in a loop must not lock the account.
func TestOperatorInALoop(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newServer(t, rejected)
		m := newManager(t, s)
		m.Start()
		wait(time.Second)
		s.expectLogins(1)
		for range 10 * 60 * 60 { // ten a second, for an hour
			m.LogInAgain()
			wait(100 * time.Millisecond)
		}
		if n := len(s.seen()); n < 60 || n > 70 {
			t.Errorf("got %d logins in an hour, want one a minute after the first", n)
		}
		at := s.times()
		for i := 1; i < len(at); i++ {
			if gap := at[i] - at[i-1]; gap < time.Second || i > 8 && gap < 59*time.Second {
				t.Errorf("login %d came %v after the one before", i+1, gap)
			}
		}
		m.Close()
	})
	bubble(t, func(t *testing.T) {
		s := newServer(t, nil)
		m := newManager(t, s)
		m.Start()
		m.good(1)
		for range 100 {
			m.LogInAgain()
			wait(100 * time.Millisecond)
		}
		s.expectLogins(6)
		// The last call is heard, though it came too soon.
		wait(time.Hour)
		before := len(s.seen())
		m.LogInAgain()
		wait(200 * time.Millisecond)
		m.LogInAgain()
		m.LogInAgain()
		wait(time.Minute)
		if n := len(s.seen()); n != before+2 {
			t.Errorf("got %d more logins, want 2", n-before)
		}
	})
}

// An operator's login that the network fails is tried again until the server
// has answered.
func TestOperatorLiftsAStopWhileTheServerIsDown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newServer(t, func(n int) reply {
			if n == 6 || n == 7 {
				return down(n)
			}
			return rejected(n)
		})
		m := newManager(t, s)
		m.Start()
		wait(time.Hour)
		s.expectLogins(5)
		m.LogInAgain()
		wait(time.Hour)
		s.expectLogins(8)
		if e := m.unavailable(tokens.Rejected); !e.Stopped {
			t.Errorf("got %+v, want stopped again", e)
		}
	})
}

func TestOperatorLogsInWithAGoodToken(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newServer(t, nil)
		m := newManager(t, s)
		m.Start()
		m.good(1)
		m.LogInAgain()
		m.good(1)
		wait(time.Second)
		m.good(2)
		s.expectLogins(2)
	})
}

// Transient failures between rejections do not let the account off.
func TestRejectionCountSurvivesTransientFailures(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newServer(t, func(n int) reply {
			if n%2 == 0 {
				return down(n)
			}
			return rejected(n)
		})
		m := newManager(t, s)
		m.Start()
		wait(24 * time.Hour)
		s.expectLogins(9) // 5 rejections and 4 failures between
		g := gaps(s)
		expectGaps(t, []time.Duration{g[1], g[3], g[5], g[7]}, 0.2, time.Second, time.Second, time.Second, time.Second)
		if e := m.unavailable(tokens.Rejected); !e.Stopped {
			t.Errorf("got %+v, want stopped", e)
		}
	})
}

// A success resets the count.
func TestRejectionCountResetsOnSuccess(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newServer(t, func(n int) reply {
			if n == 4 {
				return reply{}
			}
			return rejected(n)
		})
		m := newManager(t, s)
		m.Start()
		wait(250 * time.Second)
		m.good(1)
		wait(290 * time.Second) // the refresh ahead is rejected: the first of a new count
		events := m.seen()
		if len(events) < 5 || events[3].Result() != tokens.OK || events[4].Rejections != 1 {
			t.Fatalf("got %+v", events)
		}
		if got := events[4].NextLogin.Sub(events[4].FailingSince); got != 30*time.Second {
			t.Errorf("next login after %v, want 30s", got)
		}
	})
}

func TestTransientOneSecondDoublingTo30(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newServer(t, down)
		m := newManager(t, s)
		m.Start()
		wait(2 * time.Hour)
		got := gaps(s)
		if len(got) < 100 { // far beyond the doublings that an int64 holds
			t.Fatalf("got gaps %v, want 100 or more", got)
		}
		var upward bool
		sec := time.Second
		expectGaps(t, got[:9], 0.2, sec, 2*sec, 4*sec, 8*sec, 16*sec, 30*sec, 30*sec, 30*sec, 30*sec)
		for i, g := range got[5:] {
			if g < 30*sec-time.Millisecond || g > 36*sec+time.Millisecond {
				t.Errorf("gap %d: got %v, want 30s to 36s", i+6, g)
			}
			upward = upward || g > 30*sec+100*time.Millisecond
		}
		if !upward {
			t.Errorf("got gaps %v, want jitter", got)
		}
		if e := m.unavailable(tokens.Transient); e.Stopped || e.Cause.String() != "HTTP 502" {
			t.Errorf("got %+v", e)
		}
	})
}

func TestThrottled(t *testing.T) {
	header := func(name, value string) http.Header { return http.Header{name: {value}} }
	date := func(at time.Time) string { return at.UTC().Format(http.TimeFormat) }
	for _, test := range []struct {
		name       string
		status     int
		retryAfter func(now time.Time) http.Header
		kind       tokens.Result
		least      time.Duration
		most       time.Duration
	}{
		{"429 seconds", 429, func(time.Time) http.Header { return header("Retry-After", "40") }, tokens.Throttled, 40 * time.Second, 48 * time.Second},
		{"503 seconds", 503, func(time.Time) http.Header { return header("Retry-After", " 40 ") }, tokens.Throttled, 40 * time.Second, 48 * time.Second},
		{"429 date", 429, func(now time.Time) http.Header { return header("Retry-After", date(now.Add(time.Minute))) }, tokens.Throttled, 59 * time.Second, 73 * time.Second},
		{"503 date", 503, func(now time.Time) http.Header { return header("Retry-After", date(now.Add(time.Minute))) }, tokens.Throttled, 59 * time.Second, 73 * time.Second},
		{"date by the server's clock", 503, func(now time.Time) http.Header {
			return http.Header{"Date": {date(now.Add(-time.Hour))}, "Retry-After": {date(now.Add(-time.Hour + time.Minute))}}
		}, tokens.Throttled, time.Minute, 72 * time.Second},
		{"date gone by", 503, func(now time.Time) http.Header { return header("Retry-After", date(now.Add(-time.Hour))) }, tokens.Throttled, time.Second, 1200 * time.Millisecond},
		{"zero", 429, func(time.Time) http.Header { return header("Retry-After", "0") }, tokens.Throttled, time.Second, 1200 * time.Millisecond},
		{"at most 5 min", 429, func(time.Time) http.Header { return header("Retry-After", "86400") }, tokens.Throttled, 5 * time.Minute, 5 * time.Minute},
		{"beyond numbers", 429, func(time.Time) http.Header { return header("Retry-After", "99999999999999999999999") }, tokens.Throttled, 5 * time.Minute, 5 * time.Minute},
		{"near 5 min", 429, func(time.Time) http.Header { return header("Retry-After", "290") }, tokens.Throttled, 290 * time.Second, 5 * time.Minute},
		{"429 without", 429, func(time.Time) http.Header { return nil }, tokens.Throttled, time.Second, 1200 * time.Millisecond},
		{"429 nonsense", 429, func(time.Time) http.Header { return header("Retry-After", "-5") }, tokens.Throttled, time.Second, 1200 * time.Millisecond},
		{"503 without", 503, func(time.Time) http.Header { return nil }, tokens.Transient, time.Second, 1200 * time.Millisecond},
		{"503 nonsense", 503, func(time.Time) http.Header { return header("Retry-After", "soon") }, tokens.Transient, time.Second, 1200 * time.Millisecond},
		{"500 with", 500, func(time.Time) http.Header { return header("Retry-After", "40") }, tokens.Transient, time.Second, 1200 * time.Millisecond},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := newServer(t, func(n int) reply {
					if n > 1 {
						return reply{}
					}
					return reply{status: test.status, header: test.retryAfter(time.Now())}
				})
				m := newManager(t, s)
				m.Start()
				wait(500 * time.Millisecond)
				e := m.unavailable(test.kind)
				if e.RetryAfter < min(test.least-500*time.Millisecond, time.Second) || e.RetryAfter > test.most {
					t.Errorf("got RetryAfter %v, want within %v to %v", e.RetryAfter, test.least, test.most)
				}
				wait(10 * time.Minute)
				got := gaps(s)
				if len(got) != 1 || got[0] < test.least || got[0] > test.most+2*time.Millisecond {
					t.Errorf("got gaps %v, want one of %v to %v", got, test.least, test.most)
				}
			})
		})
	}
}

// 429 without Retry-After goes by the schedule of transient failures.
func TestThrottledWithoutRetryAfterDoubles(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newServer(t, func(int) reply { return reply{status: 429} })
		m := newManager(t, s)
		m.Start()
		wait(20 * time.Second)
		expectGaps(t, gaps(s)[:3], 0.2, time.Second, 2*time.Second, 4*time.Second)
	})
}

// expectHourly fails the test unless each gap is an hour, give or take 20 %.
func expectHourly(t *testing.T, gaps []time.Duration) {
	t.Helper()
	if len(gaps) == 0 {
		t.Error("got no attempt once an hour")
	}
	for i, gap := range gaps {
		if gap < 48*time.Minute || gap > 72*time.Minute {
			t.Errorf("hourly gap %d: got %v, want 48m to 72m", i+1, gap)
		}
	}
}

// A gateway says a bare 403 too, and must not stop a fleet for good: without a
// 401 or an OAuth error among them, refusals end in one attempt an hour.
func TestFaultBareRefusalsDoNotStop(t *testing.T) {
	for name, refusal := range map[string]reply{
		"403 empty": {status: 403, body: "\n"}, "400 JSON": {status: 400, body: `{"detail":"no"}`}, "422 JSON": {status: 422, body: `{}`}, "423 text": {status: 423, body: "locked"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := newServer(t, func(n int) reply {
					if n == 12 {
						return reply{}
					}
					return refusal
				})
				m := newManager(t, s)
				m.Start()
				wait(12 * time.Hour)
				g := gaps(s)
				expectGaps(t, g[:4], 0, 30*time.Second, 60*time.Second, 120*time.Second, 240*time.Second)
				expectHourly(t, g[4:11])
				for i, e := range m.seen() {
					if i == 11 {
						if e.Result() != tokens.OK {
							t.Errorf("the last event: got %+v, want a token", e)
						}
					} else if e.Result() != tokens.Rejected || e.Stopped || e.Worked || e.Rejections != i+1 {
						t.Errorf("event %d: got %+v", i+1, e)
					}
				}
			})
		})
	}
}

// One 401 or OAuth error among the refusals is enough for the stop, before the
// fifth or after it.
func TestOneSureRefusalStops(t *testing.T) {
	for sure, want := range map[int]int{1: 5, 3: 5, 5: 5, 7: 7} {
		for _, refusal := range []reply{{status: 401, body: "\n"}, {status: 400, body: `{"error":"no"}`}} {
			bubble(t, func(t *testing.T) {
				s := newServer(t, func(n int) reply {
					if n == sure {
						return refusal
					}
					return reply{status: 403, body: "\n"}
				})
				m := newManager(t, s)
				m.Start()
				wait(48 * time.Hour)
				s.expectLogins(want)
				if e := m.unavailable(tokens.Rejected); !e.Stopped {
					t.Errorf("the refusal %d is sure: got %+v, want stopped", sure, e)
				}
			})
		}
	}
}

// A refusal may ask for more time than the schedule has, up to an hour, and for
// less in vain.
func TestRejectedHeedsRetryAfter(t *testing.T) {
	for asked, floors := range map[string][]time.Duration{
		"1":                       {30 * time.Second, 60 * time.Second, 120 * time.Second, 240 * time.Second},
		"100":                     {100 * time.Second, 100 * time.Second, 120 * time.Second, 240 * time.Second},
		"1800":                    {30 * time.Minute, 30 * time.Minute, 30 * time.Minute, 30 * time.Minute},
		"86400":                   {time.Hour, time.Hour, time.Hour, time.Hour},
		"99999999999999999999999": {time.Hour, time.Hour, time.Hour, time.Hour},
	} {
		bubble(t, func(t *testing.T) {
			s := newServer(t, func(int) reply {
				return reply{status: 401, body: `{"error":"invalid_grant"}`, header: http.Header{"Retry-After": {asked}}}
			})
			m := newManager(t, s)
			m.Start()
			wait(24 * time.Hour)
			expectGaps(t, gaps(s), 0, floors...)
		})
	}
}

// A firewall's page asks for no password: 30 s doubling to 5 min, and an hour
// after ten in a row.
func TestFaultPagesAreAskedForLessAndLess(t *testing.T) {
	const second, minute, hour = time.Second, time.Minute, time.Hour
	pages := func(status int) func(int) reply {
		return func(n int) reply {
			switch n {
			case 14:
				return down(n) // the end of a row
			case 16:
				return reply{status: 429, header: http.Header{"Retry-After": {"40"}}} // no end of one
			case 17:
				return reply{status: 429}
			}
			return reply{status: status, body: "<html>"}
		}
	}
	for _, status := range []int{400, 403, 422, 423} {
		bubble(t, func(t *testing.T) {
			s := newServer(t, pages(status))
			m := newManager(t, s)
			m.Start()
			wait(8 * hour)
			expectGaps(t, gaps(s)[:19], 0.2,
				30*second, 60*second, 120*second, 240*second, 5*minute, 5*minute, 5*minute, 5*minute, 5*minute, hour, hour, hour, hour,
				second, 30*second, 40*second, 2*second, 60*second, 120*second)
			if e := m.unavailable(tokens.Transient); e.Stopped || e.Cause.Kind != tokens.CausePage {
				t.Errorf("got %+v", e)
			}
		})
	}
}

// Whoever says "later" by a status of refusals is heeded, but not once a second:
// it may be a refusal after all.
func TestThrottledByARefusal(t *testing.T) {
	for asked, floors := range map[string][]time.Duration{
		"1": {1 * time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, 30 * time.Second, 30 * time.Second},
		"7": {7 * time.Second, 7 * time.Second, 7 * time.Second, 8 * time.Second, 16 * time.Second, 30 * time.Second, 30 * time.Second},
	} {
		for _, status := range []int{400, 401, 403} {
			bubble(t, func(t *testing.T) {
				s := newServer(t, func(int) reply {
					return reply{status: status, body: `{"error":"temporarily_unavailable"}`, header: http.Header{"Retry-After": {asked}}}
				})
				m := newManager(t, s)
				m.Start()
				wait(5 * time.Minute)
				expectGaps(t, gaps(s)[:7], 0.2, floors...)
				if e := m.unavailable(tokens.Throttled); e.Stopped {
					t.Errorf("got %+v", e)
				}
			})
		}
	}
}
