package tokens_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bearerd/bearerd/tokens"
)

// A slow observer holds up nobody who waits for the token.
func TestObserveSlowHoldsUpNoWaiter(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newServer(t, nil)
		var m *manager
		m = newManager(t, s, func(o *tokens.Options) {
			o.Observe = func(e tokens.Event) { time.Sleep(3 * time.Second); m.observe(e) }
		})
		m.Start()
		begin := time.Now()
		m.good(1)
		if got := time.Since(begin); got != s.latency {
			t.Errorf("waited %v, want %v", got, s.latency)
		}
		m.LogInAgain()
		m.LogInAgain()
		wait(10 * time.Second)
		if got := s.times(); len(got) != 2 || got[1] < 3*time.Second {
			t.Errorf("logins at %v, want the second after the first event", got)
		}
		events := m.seen()
		if len(events) != 2 || events[0].Token.Generation != 1 || events[1].Token.Generation != 2 {
			t.Errorf("got %v, want generations 1 and 2 in order", events)
		}
	})
}

func TestStatusAndEventOfAGoodLogin(t *testing.T) {
	bubble(t, func(t *testing.T) {
		begin := time.Now().Round(0)
		s := newServer(t, func(int) reply {
			return reply{header: map[string][]string{"Date": {begin.Add(-90 * time.Second).UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT")}}}
		})
		m := newManager(t, s)
		if got := m.Status(); got != (tokens.Status{}) || got.Ready() {
			t.Errorf("before anything: got %+v, want nothing, not ready", got)
		}
		m.Start()
		synctest.Wait()
		if got := m.Status(); got != (tokens.Status{LoggingIn: true}) || got.Ready() {
			t.Errorf("logging in: got %+v", got)
		}
		wait(time.Second)
		got := m.Status()
		want := tokens.Status{
			Generation: 1, Good: true, Lifetime: 300 * time.Second, Rule: tokens.RuleExpiresIn,
			Requested: begin, Expiry: begin.Add(300 * time.Second),
			Failure: tokens.Failure{Worked: true}, Skew: 90 * time.Second, SkewKnown: true, LoggedInOnce: true,
		}
		if got != want || !got.Ready() {
			t.Errorf("got  %+v\nwant %+v, ready", got, want)
		}
		e := m.lastEvent()
		if e.Result() != tokens.OK || e.Duration != s.latency || e.Status != 200 || e.Cause != (tokens.Cause{}) ||
			e.Skew != 90*time.Second || !e.SkewKnown || e.Token.Generation != 1 || e.NextLogin.IsZero() {
			t.Errorf("got %+v", e)
		}
		used := time.Now().Truncate(time.Second)
		m.good(1)
		if got := m.Status(); !got.LastUsed.Equal(used) || !got.NextLogin.Equal(e.NextLogin) {
			t.Errorf("used at %v, next login %v; want %v, %v", got.LastUsed, got.NextLogin, used, e.NextLogin)
		}
		wait(10 * time.Minute) // refreshed once, then idle
		if got := m.Status(); got.Good || !got.Ready() || got.Generation != 2 || !got.NextLogin.IsZero() {
			t.Errorf("idle after expiry: got %+v, want ready for the next request", got)
		}
	})
}

// Each login says what it was made for.
func TestEventSaysWhy(t *testing.T) {
	bubble(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "password")
		write := func(password string) {
			if err := os.WriteFile(file, []byte(password), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write("first")
		s := newServer(t, func(n int) reply {
			switch n {
			case 5:
				return reply{err: errors.New("down")}
			case 7:
				return reply{status: 401, body: `{"error":"invalid_grant"}`}
			}
			return reply{}
		})
		m := newManager(t, s, func(o *tokens.Options) { o.Login.Password = tokens.Source{File: file} })
		m.Start()
		m.good(1)
		wait(280 * time.Second) // refreshed ahead
		wait(10 * time.Minute)  // over, unused
		m.good(3)
		if _, _, err := m.Renew(t.Context(), 3, nil); err != nil {
			t.Fatal(err)
		}
		m.LogInAgain() // fails
		wait(3 * time.Second)
		wait(time.Minute)
		m.LogInAgain() // is refused
		wait(time.Second)
		write("second")
		wait(10 * time.Second)
		want := []tokens.Reason{
			tokens.AtStart, tokens.RefreshAhead, tokens.ForRequest, tokens.AfterRefusal,
			tokens.Asked, tokens.Retry, tokens.Asked, tokens.ForCredentials,
		}
		var got []tokens.Reason
		for _, e := range m.seen() {
			got = append(got, e.Why)
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}
