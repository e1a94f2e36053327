package tokens_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bearerd/bearerd/tokens"
)

// A board is a Store for the Managers of one test. It keeps a State with a time,
// and gives the turn to one at a time.
type board struct {
	mu      sync.Mutex // guards what follows
	down    bool
	text    []byte
	busy    bool
	changed chan struct{}
	turns   atomic.Int32
}

func newBoard() *board { return &board{changed: make(chan struct{})} }

func (b *board) change(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *board) state() tokens.State {
	if b.text == nil {
		return tokens.State{}
	}
	s, _, err := tokens.DecodeState(b.text, time.Now(), time.Now())
	if err != nil {
		panic(err)
	}
	return s
}

func (b *board) Turn(ctx context.Context, _ tokens.Account, known tokens.State) (tokens.State, *tokens.Turn, error) {
	for {
		b.mu.Lock()
		found, down, busy, changed := b.state(), b.down, b.busy, b.changed
		switch {
		case down:
			b.mu.Unlock()
			return tokens.State{}, nil, fmt.Errorf("down")
		case found.NewerThan(known):
			b.mu.Unlock()
			return found, nil, nil
		case !busy:
			b.busy = true
			b.mu.Unlock()
			b.turns.Add(1)
			return known, &tokens.Turn{Common: true, End: func(s tokens.State, _ bool) {
				b.change(func() {
					b.busy = false
					if s.NewerThan(b.state()) {
						b.text = s.Encode(time.Now(), time.Now())
					}
				})
			}}, nil
		}
		b.mu.Unlock()
		select {
		case <-ctx.Done():
			return tokens.State{}, nil, ctx.Err()
		case <-changed:
		}
	}
}

func (b *board) News(ctx context.Context, _ tokens.Account, known tokens.State) (tokens.State, error) {
	for {
		b.mu.Lock()
		found, changed := b.state(), b.changed
		b.mu.Unlock()
		if found.NewerThan(known) {
			return found, nil
		}
		select {
		case <-ctx.Done():
			return tokens.State{}, ctx.Err()
		case <-changed:
		}
	}
}

// fleetOf starts n Managers that share b and log in at s within a second.
func fleetOf(t *testing.T, n int, b *board, s http.RoundTripper, change ...func(*tokens.Options)) (all []*manager) {
	for range n {
		all = append(all, newManager(t, s, append(change, func(o *tokens.Options) { o.Store, o.KeepWarm = b, true })...))
	}
	for _, m := range all {
		m.Start()
		wait(time.Duration(rand.Int64N(int64(time.Second) / int64(n))))
	}
	return all
}

// A fleet that starts at once logs in once, and renews once a token life.
func TestFleetLogsInOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newServer(t, nil)
		all := fleetOf(t, 50, newBoard(), s)
		wait(time.Second)
		s.expectLogins(1)
		for range 100 {
			wait(30 * time.Second)
			for _, m := range all {
				if _, err := m.Token(context.Background()); err != nil {
					t.Fatal(err)
				}
			}
		}
		// 3,000 s of tokens that live 300 and are renewed from 210 on.
		if got := len(s.seen()); got < 10 || got > 15 {
			t.Errorf("got %d logins in ten lives, want one a renewal", got)
		}
		generation := all[0].Status().Generation
		for _, m := range all {
			if got := m.Status().Generation; got+1 < generation || got > generation+1 {
				t.Errorf("got generation %d and %d in one fleet", generation, got)
			}
		}
	})
}

// A wrong password costs the account five logins, however many know it, and a
// person lifts the stop for all.
func TestFleetWithAWrongPassword(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var right atomic.Bool
		s := newServer(t, func(n int) reply {
			if right.Load() {
				return reply{}
			}
			return rejected(n)
		})
		all := fleetOf(t, 50, newBoard(), s)
		wait(3 * time.Hour)
		s.expectLogins(5)
		for _, m := range all {
			if e := m.unavailable(tokens.Rejected); !e.Stopped || e.Rejections != 5 {
				t.Fatalf("got %+v, want a stop after 5", e)
			}
		}
		for _, m := range all {
			m.LogInAgain() // SIGHUP to all pods at once
		}
		wait(time.Second)
		s.expectLogins(6)
		right.Store(true)
		all[7].LogInAgain()
		wait(time.Second)
		s.expectLogins(7)
		for _, m := range all {
			m.good(1)
		}
	})
}

// What the login server asks one to wait, all wait.
func TestFleetIsThrottledAsOne(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newServer(t, func(n int) reply {
			if n <= 3 {
				return reply{status: 429, body: "{}", header: http.Header{"Retry-After": {"60"}}}
			}
			return reply{}
		})
		all := fleetOf(t, 20, newBoard(), s)
		wait(5 * time.Minute)
		s.expectLogins(4)
		for _, m := range all {
			m.good(1)
		}
	})
}

// A fault between one of them and the login server is its own: the others log in.
func TestFleetMemberCutOff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b, s := newBoard(), newServer(t, nil)
		cut := newManager(t, newServer(t, func(int) reply { return reply{err: fmt.Errorf("no route")} }), func(o *tokens.Options) { o.Store = b })
		cut.Start()
		wait(time.Minute)
		cut.unavailable(tokens.Transient)
		all := fleetOf(t, 3, b, s)
		wait(time.Second)
		s.expectLogins(1)
		for _, m := range all {
			m.good(1)
		}
		if token := cut.good(1); token == nil {
			t.Error("the one that is cut off has no token")
		}
	})
}

// A token that is refused is replaced once for all; an upstream that refuses every
// token costs the account what it costs one program.
func TestFleetRenewsARefusedToken(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newServer(t, nil)
		all := fleetOf(t, 20, newBoard(), s)
		wait(time.Second)
		refuse := func() (denied int) {
			for _, m := range all {
				token, err := m.Token(context.Background())
				if err != nil {
					t.Fatal(err)
				}
				if _, _, err := m.Renew(context.Background(), token.Generation, nil); err != nil {
					denied++
				}
			}
			return denied
		}
		if denied := refuse(); denied > 0 {
			t.Errorf("%d got no newer token", denied)
		}
		if got := len(s.seen()); got > 1+3 {
			t.Errorf("got %d logins, want three for refused tokens at most", got)
		}
		for range 60 {
			refuse()
			wait(time.Second)
		}
		if got := len(s.seen()); got > 1+3+3 { // after 10, 20 and 40 s
			t.Errorf("got %d logins within a minute, want 7 at most", got)
		}
	})
}

// Without the store each goes on by itself, and joins again.
func TestFleetWithoutItsStore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBoard()
		b.down = true
		one, two := newServer(t, nil), newServer(t, nil)
		a, c := fleetOf(t, 1, b, one)[0], fleetOf(t, 1, b, two)[0]
		wait(time.Second)
		a.good(1)
		c.good(1)
		b.change(func() { b.down = false })
		wait(time.Hour)
		if got := len(one.seen()) + len(two.seen()); got > 2+18 {
			t.Errorf("got %d logins in an hour of twelve lives, want one a renewal", got)
		}
	})
}

// A login does not go out when its turn is over, nor go on.
func TestTurnThatIsOver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for _, tt := range []struct {
			over time.Duration
			want int
		}{{0, 0}, {time.Second, 1}} {
			s := newServer(t, func(int) reply { return reply{latency: time.Minute} })
			begin, over := time.Now(), tt.over
			store := turns(func() *tokens.Turn {
				return &tokens.Turn{Over: func() bool { return time.Since(begin) >= over }, End: func(tokens.State, bool) {}}
			})
			m := newManager(t, readsFirst{s}, func(o *tokens.Options) { o.Store, o.Login.Timeout = store, time.Hour })
			m.Start()
			wait(1500 * time.Millisecond)
			if got := len(s.seen()); got > tt.want {
				t.Errorf("got %d logins, want %d", got, tt.want)
			}
			m.unavailable(tokens.Transient)
			m.Close()
		}
	})
}

// readsFirst sends nothing where the form cannot be read.
type readsFirst struct{ *loginServer }

func (r readsFirst) RoundTrip(req *http.Request) (*http.Response, error) {
	if _, err := req.Body.Read(nil); err != nil {
		return nil, err
	}
	return r.loginServer.RoundTrip(req)
}

// turns is a Store that gives everybody a turn.
type turns func() *tokens.Turn

func (f turns) Turn(_ context.Context, _ tokens.Account, known tokens.State) (tokens.State, *tokens.Turn, error) {
	return known, f(), nil
}

func (turns) News(ctx context.Context, _ tokens.Account, _ tokens.State) (tokens.State, error) {
	<-ctx.Done()
	return tokens.State{}, ctx.Err()
}

// Nothing that prints a State or an Account shows a secret.
func TestStateIsRedacted(t *testing.T) {
	s := tokens.State{Token: &tokens.Issued{Bearer: func() string { return tokenText }}}
	l := tokens.Login{Grant: "password", Password: tokens.Source{Value: passwordText}, ClientSecret: tokens.Source{Value: secretText}}
	a, ok := l.Account()
	if !ok || !a.HasSecret() {
		t.Fatalf("got an account without a secret")
	}
	expectNoSecret(t, s, &s, a, &a, struct {
		a tokens.Account
		s tokens.State
	}{a, s})
}

// No text makes a State of what it should not, or panics.
func FuzzDecodeState(f *testing.F) {
	now := time.Now()
	for _, s := range []tokens.State{
		{}, {Generation: 1, Logins: 1, Token: &tokens.Issued{Bearer: func() string { return tokenText }, Rule: tokens.RuleExpiresIn, Lifetime: 300 * time.Second, Age: time.Second, Here: time.Second}},
		{Logins: 5, Failure: tokens.Failure{Kind: tokens.Rejected, Cause: tokens.Cause{Kind: tokens.CauseStatus, Status: 401, Code: "invalid_grant"}, Stopped: true}, Rejections: 5, Refused: true},
		{Logins: 2, Failure: tokens.Failure{Kind: tokens.Throttled, FailingSince: now}, Wait: time.Minute, Whole: time.Hour, Early: 3, EarlyWait: time.Second},
	} {
		f.Add(s.Encode(now, now))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s, _, err := tokens.DecodeState(text, now, now)
		if err != nil {
			return
		}
		if s.Wait < 0 || s.Wait > s.Whole || s.Whole > 2*time.Hour || s.EarlyWait < 0 || s.EarlyWait > 5*time.Minute {
			t.Errorf("got the waits %v, %v and %v", s.Wait, s.Whole, s.EarlyWait)
		}
		if i := s.Token; i != nil && (i.Bearer() == "" || i.Age < 0 || i.Age >= i.Lifetime || i.Lifetime > 24*time.Hour || i.Here > i.Age) {
			t.Errorf("got the token %+v", *i)
		}
		_ = s.Failure.Cause.String()
		expectNoSecret(t, s)
	})
}
