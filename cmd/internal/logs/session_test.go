package logs

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/querysim"
	"github.com/bearerd/bearerd/tokens"
)

// through is a RoundTripper that needs no socket.
func through(h http.Handler) roundTrip {
	return func(r *http.Request) (*http.Response, error) {
		if r.Body == nil {
			r.Body = http.NoBody
		}
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		return rec.Result(), nil
	}
}

// simulated is one bearerd of the account at sim, in a bubble.
func simulated(t *testing.T, sim *querysim.Simulator) *daemon {
	t.Helper()
	v := querysim.Vendors()[2] // which needs no Host
	return newDaemon(t, 15*time.Second, tokens.Source{}, through(sim.LoginHandler()), through(sim.QueryHandler()), func(o *tokens.Options) {
		o.Login.URL = "https://login.example" + v.LoginPath
		o.Login.Grant, o.Login.ClientID, o.Login.ClientSecret = "client_credentials", v.ClientID, tokens.Source{Value: tokens.Secret(v.ClientSecret)}
	})
}

func newSimulator(t *testing.T, f querysim.Faults) *querysim.Simulator {
	t.Helper()
	sim, err := querysim.New(querysim.Options{LoginDelay: f.LoginDelay})
	if err != nil {
		t.Fatal(err)
	}
	if err := sim.SetFaults(f); err != nil {
		t.Fatal(err)
	}
	return sim
}

// ask sends one request and returns its status.
func (d *daemon) ask() int {
	r := httptest.NewRequest("GET", bearerdtest.NamesPath, nil)
	r.Host = "localhost"
	rec := httptest.NewRecorder()
	d.proxy.ServeHTTP(rec, r)
	return rec.Code
}

// diedEarly counts the lines about tokens that die early, and fails the test at
// any other line of trouble than one of a token that died before its replay.
func diedEarly(t *testing.T, log string) (n int) {
	t.Helper()
	lines, says := bearerdtest.ReadLog(t, log)
	for i, say := range says {
		switch {
		case say == "warn: "+SayTokensDie:
			n++
			if !strings.Contains(lines[i].Remedy, "another program") {
				t.Errorf("got remedy %q", lines[i].Remedy)
			}
		case !strings.HasPrefix(say, "info") && !strings.HasPrefix(lines[i].Cause, "HTTP 401 to a token that the login server has just given"):
			t.Errorf("got %q", say)
		}
	}
	return n
}

// Two bearerds log in with an account that has one session: each login ends the
// other's token, and each is cured by the next.
func TestFaultTwoBearerdsOneSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newSimulator(t, querysim.Faults{OneSession: true, LoginDelay: 50 * time.Millisecond})
		both := []*daemon{simulated(t, sim), simulated(t, sim)}
		var logins []string
		for i, until := range []time.Duration{15 * time.Second, time.Hour} {
			var clients sync.WaitGroup
			for n, d := range both {
				clients.Go(func() {
					time.Sleep(time.Duration(n) * 100 * time.Millisecond) // never at one moment
					for end := time.Now().Add(until); time.Now().Before(end); time.Sleep([]time.Duration{200 * time.Millisecond, time.Second}[i]) {
						_ = d.ask()
					}
				})
			}
			clients.Wait()
			logins = append(logins, fmt.Sprint(sim.Stats().Logins))
			// The first; three at once and one after 10 s, and one whose token was
			// dead before its replay; then fewer, beside the renewals ahead of a
			// token's end, of which there are 14 to 17 an hour.
			if n, most := sim.Stats().Logins, []int{2 * (1 + 5), 2 * (1 + 5 + 18 + 18)}[i]; n > most {
				t.Errorf("logins of both after %v more: got %d, want at most %d", until, n, most)
			}
		}
		t.Logf("logins of two bearerds: %s after 15 s and an hour more", logins)

		// The other one ends: all is well with the next login that is due.
		both[1].close()
		time.Sleep(5 * time.Minute)
		_ = both[0].ask()
		for range 100 {
			if got := both[0].ask(); got != 200 {
				t.Fatalf("alone: got %d, want 200", got)
			}
			time.Sleep(10 * time.Second)
		}
		// A revocation is healed at once again; a token that came meanwhile is
		// taken before, or it would count as too young.
		_ = both[0].ask()
		sim.Revoke()
		if got := both[0].ask(); got != 200 {
			t.Errorf("alone, after a revocation: got %d, want 200", got)
		}
		both[0].close()
		for i, d := range both {
			if n := diedEarly(t, d.out.String()); n != 1 {
				t.Errorf("bearerd %d told %d times that tokens die early, want once", i, n)
			}
		}
	})
}

// A token dies after each use.
func TestFaultTokenOfOneUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newSimulator(t, querysim.Faults{SingleUse: true, LoginDelay: 50 * time.Millisecond})
		d := simulated(t, sim)
		good := 0
		for start := time.Now(); time.Since(start) < 20*time.Second; time.Sleep(200 * time.Millisecond) {
			if d.ask() == 200 {
				good++
			}
		}
		// The first, three at once, and one after 10 s.
		if n := sim.Stats().Logins; n != 5 || good != n {
			t.Errorf("in 20 s: got %d logins and %d answers, want 5 and 5", n, good)
		}
		for start := time.Now(); time.Since(start) < time.Hour; time.Sleep(time.Second) {
			_ = d.ask()
		}
		n := sim.Stats().Logins
		if n > 5+18+17 {
			t.Errorf("in an hour more: got %d logins", n)
		}
		t.Logf("%d logins in an hour", n)
		d.close()
		if n := diedEarly(t, d.out.String()); n != 1 {
			t.Errorf("told %d times that tokens die early, want once", n)
		}
	})
}

// The Query Service learns of tokens late: at the start, after an idle hour, and at
// each renewal under load nobody gets a 401, and renewals cost no login.
func TestFaultTokensTakenLate(t *testing.T) {
	t.Parallel()
	for _, delay := range []time.Duration{200 * time.Millisecond, 950 * time.Millisecond} {
		t.Run(delay.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sim := newSimulator(t, querysim.Faults{TokenDelay: delay, LoginDelay: 50 * time.Millisecond})
				d := simulated(t, sim)
				var bad bytes.Buffer
				var mu sync.Mutex // guards bad
				load := func(until time.Duration) {
					var clients sync.WaitGroup
					for end := time.Now().Add(until); time.Now().Before(end); time.Sleep(40 * time.Millisecond) {
						clients.Go(func() {
							if got := d.ask(); got != 200 {
								mu.Lock()
								defer mu.Unlock()
								fmt.Fprint(&bad, got, " ")
							}
						})
					}
					clients.Wait()
				}
				load(10 * time.Second)
				// The login at the start, and one because the first token was refused.
				if n := sim.Stats().Logins; n != 2 {
					t.Errorf("logins at the start: got %d, want 2", n)
				}
				generation := d.manager.Status().Generation
				load(20 * time.Minute)
				renewals := int(d.manager.Status().Generation - generation)
				if n := sim.Stats().Logins; n != 2+renewals || renewals < 4 || renewals > 6 {
					t.Errorf("got %d logins and %d renewals in 20 min of tokens of 300 s", n, renewals)
				}
				before := sim.Stats().Logins
				time.Sleep(time.Hour)
				load(10 * time.Second)
				if n := sim.Stats().Logins - before; n > 3 { // an unused renewal, then as at the start
					t.Errorf("logins after an idle hour: got %d, want at most 3", n)
				}
				if bad.Len() > 0 {
					t.Errorf("got %s", &bad)
				}
				d.close()
				if n := diedEarly(t, d.out.String()); n != 0 {
					t.Errorf("told %d times that tokens die early", n)
				}
			})
		})
	}
}
