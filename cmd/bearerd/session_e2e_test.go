//go:build unix

package main

import (
	"strings"
	"testing"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/logs"
	"github.com/bearerd/bearerd/cmd/internal/longtest"
	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

// Two bearerds on an account of one session, and one whose token dies after each
// use, as users have them.
func TestTokensThatDieEarlyEndToEnd(t *testing.T) {
	longtest.Mark(t, "takes 20 seconds")
	t.Parallel()
	const lasts = 20 * time.Second
	for _, c := range []struct {
		name   string
		n      int // bearerds
		faults querysim.Faults
	}{
		{"one session", 2, querysim.Faults{OneSession: true}},
		{"single use", 1, querysim.Faults{SingleUse: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
			if err := w.Sim.SetFaults(c.faults); err != nil {
				t.Fatal(err)
			}
			var all []*bearerdtest.Process
			for range c.n {
				all = append(all, w.Serve(t))
			}
			// One after the other: of two logins at the same moment the first one's
			// token is dead before its replay, and to that bearerd they do not help.
			client := bearerdtest.NewClient(t)
			tick := time.NewTicker(50 * time.Millisecond)
			defer tick.Stop()
			for end := time.Now().Add(lasts); time.Now().Before(end); {
				for _, p := range all {
					if resp, err := client.Get(p.URL + bearerdtest.NamesPath); err == nil {
						_ = resp.Body.Close()
					}
					<-tick.C
				}
			}
			// Of each the first, three at once and one after 10 s, and perhaps one
			// for which the clocks were a little apart.
			if got, most := w.Sim.Stats().Logins, c.n*6; got < c.n*4 || got > most {
				t.Errorf("logins in %v: got %d, want %d to %d", lasts, got, c.n*4, most)
			}
			for _, p := range all {
				if n := strings.Count(p.Text(), `"message":"`+logs.SayTokensDie+`"`); n != 1 {
					t.Errorf("told %d times that tokens die early, want once", n)
				}
			}
			t.Logf("%d logins in %v", w.Sim.Stats().Logins, lasts)
		})
	}
}

// At each renewal under load a Query Service that learns late of new tokens costs
// no 401 and no login.
func TestTokensTakenLateEndToEnd(t *testing.T) {
	longtest.Mark(t, "takes 36 seconds")
	t.Parallel()
	w := bearerdtest.NewWorld(t, querysim.Options{Lifetime: 20 * time.Second}, nil)
	if err := w.Sim.SetFaults(querysim.Faults{TokenDelay: 800 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	p := w.Serve(t)
	c := bearerdtest.NewClient(t)
	if err := bearerdtest.ExpectStatus(c, p.URL+bearerdtest.NamesPath, 200); err != nil {
		t.Fatal(err)
	}
	const replayed = `bearerd_upstream_unauthorized_total{outcome="replayed"}`
	first, before := w.Sim.Stats().Logins, p.Metric(replayed) // at the start there may be one login more
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	requests := 0
	for end := time.Now().Add(36 * time.Second); time.Now().Before(end); <-tick.C {
		requests++
		if err := bearerdtest.Many(3, func(int) error { return bearerdtest.ExpectStatus(c, p.URL+bearerdtest.NamesPath, 200) }); err != nil {
			t.Fatalf("%d: %v", requests, err)
		}
	}
	// 70 to 85 % of 20 s: two renewals, a login each and no more.
	logins, young := w.Sim.Stats().Logins-first, p.Metric(`bearerd_upstream_unauthorized_total{outcome="too_young"}`)
	if logins != 2 || young < 2 {
		t.Errorf("got %d logins and %v replays with the token before; want 2, and one a renewal at least", logins, young)
	}
	if n := p.Metric(replayed) - before; n != 0 {
		t.Errorf("got %v replays with a newer token, want 0", n)
	}
	t.Logf("%d requests, %d logins, %v with the token before", 3*requests, logins, young)
}
