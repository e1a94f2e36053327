package shared_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/shared"
	"github.com/bearerd/bearerd/tokens"
)

// Whoever starts at once is one login, and its token is everybody's.
func TestOneLogin(t *testing.T) {
	t.Parallel()
	e, login := startEngine(t), &loginServer{latency: 200 * time.Millisecond}
	var all []*tokens.Manager
	for range 10 {
		s, _ := open(t, "unix://"+e.Socket)
		m := member(t, s, login)
		m.Start()
		all = append(all, m)
	}
	first := has(t, all[0], 1)
	for _, m := range all {
		if token := has(t, m, 1); token.Bearer() != first.Bearer() || token.Expiry.Sub(first.Expiry).Abs() > time.Second {
			t.Errorf("got another token, or another end: %v and %v", token.Expiry, first.Expiry)
		}
	}
	if got := login.n.Load(); got != 1 {
		t.Errorf("got %d logins, want 1", got)
	}
	e.settled()
	for _, name := range e.keys() {
		if !strings.HasPrefix(name, "bearerd:{bearerd}:") {
			t.Errorf("got the key %q, want that it begins with bearerd:", name)
		}
		if ttl := e.client.PTTL(context.Background(), name).Val(); !strings.HasSuffix(name, ":salt") && ttl <= 0 {
			t.Errorf("%s stays for ever", name)
		}
	}

	// A refused token is renewed once for all.
	for _, m := range all {
		if token, _, err := m.Renew(context.Background(), 1, nil); err != nil || token.Generation != 2 {
			t.Errorf("Renew: got %v, %v, want generation 2", token, err)
		}
	}
	if got := login.n.Load(); got != 2 {
		t.Errorf("got %d logins after a refusal, want 2", got)
	}
}

// A wrong password costs one login for all, and those that come later hear of it.
func TestOneRefusal(t *testing.T) {
	t.Parallel()
	e, login := startEngine(t), &loginServer{answer: refuse}
	for range 5 {
		s, _ := open(t, "unix://"+e.Socket)
		m := member(t, s, login)
		_, err := m.Token(context.Background())
		bad, ok := errors.AsType[*tokens.Unavailable](err)
		if !ok || bad.Kind != tokens.Rejected || bad.Rejections != 1 || bad.Cause.Status != 401 {
			t.Fatalf("got %v, want one refusal", err)
		}
	}
	if got := login.n.Load(); got != 1 {
		t.Errorf("got %d logins, want 1", got)
	}

	// Another password is another account.
	s, _ := open(t, "unix://"+e.Socket)
	_, _ = member(t, s, login, func(o *tokens.Options) { o.Login.Password.Value = "other" }).Token(context.Background())
	if got := login.n.Load(); got != 2 {
		t.Errorf("got %d logins, want one for another password", got)
	}
}

// A flush does not make anybody forget what it has seen.
func TestFlushForgetsNoRefusal(t *testing.T) {
	t.Parallel()
	e, login := startEngine(t), &loginServer{answer: refuse}
	s, _ := open(t, "unix://"+e.Socket)
	m := member(t, s, login)
	m.Start()
	bearerdtest.Eventually(t, bearerdtest.Soon, "a refusal", func() bool { return m.Status().Rejections == 1 })
	if err := e.client.FlushAll(context.Background()).Err(); err != nil {
		t.Fatal(err)
	}
	bearerdtest.Eventually(t, bearerdtest.Soon, "the refusal written back", func() bool { return len(e.keys()) >= 2 })
	late, _ := open(t, "unix://"+e.Socket)
	_, err := member(t, late, login).Token(context.Background())
	if bad, ok := errors.AsType[*tokens.Unavailable](err); !ok || bad.Rejections != 1 {
		t.Fatalf("got %v, want the refusal before the flush", err)
	}
	if got := login.n.Load(); got != 1 {
		t.Errorf("got %d logins, want 1", got)
	}
}

// After a flush numbers go on above the highest that the writer knows.
func TestFlushKeepsNumbers(t *testing.T) {
	t.Parallel()
	e, login := startEngine(t), &loginServer{}
	s, _ := open(t, "unix://"+e.Socket)
	m := member(t, s, login)
	has(t, m, 1)
	e.settled()
	if err := e.client.FlushAll(context.Background()).Err(); err != nil {
		t.Fatal(err)
	}
	if token, _, err := m.Renew(context.Background(), 1, nil); err != nil || token.Generation != 2 {
		t.Fatalf("Renew: got %v, %v, want generation 2", token, err)
	}
	e.settled()
	late, _ := open(t, "unix://"+e.Socket)
	has(t, member(t, late, login), 2)
}

// Without the engine each logs in by itself after at most two seconds, a good token
// goes on, and whoever comes back joins by itself.
func TestEngineGoneAndBack(t *testing.T) {
	t.Parallel()
	e, login := startEngine(t), &loginServer{}
	e.Kill()
	s, says := open(t, "unix://"+e.Socket)
	m := member(t, s, login)
	begin := time.Now()
	has(t, m, 1)
	if took := time.Since(begin); took > 12*time.Second { // TOKEN_WAIT is 15 s
		t.Errorf("a login without the engine took %v", took)
	}
	if s.Up() {
		t.Error("Up is true without an engine")
	}
	e.Start()
	bearerdtest.Eventually(t, bearerdtest.Soon, "the engine is found", s.Up)
	if token, _, err := m.Renew(context.Background(), 1, nil); err != nil || token.Generation != 2 {
		t.Fatalf("Renew: got %v, %v, want generation 2", token, err)
	}
	e.settled()
	other, _ := open(t, "unix://"+e.Socket)
	has(t, member(t, other, login), 2)

	e.Kill()
	quickest := time.Hour // of some, on a machine that may be busy
	const renewals = 3
	for i := range uint64(renewals) {
		begin = time.Now()
		if token, _, err := m.Renew(context.Background(), 2+i, nil); err != nil || token.Generation != 3+i {
			t.Fatalf("Renew: got %v, %v, want generation %d", token, err, 3+i)
		}
		quickest = min(quickest, time.Since(begin))
	}
	if quickest > time.Second/2 { // which who has no token waits at least
		t.Errorf("with a good token a login without the engine took %v, want no wait", quickest)
	}
	if got, want := login.n.Load(), int32(2+renewals); got != want {
		t.Errorf("got %d logins, want %d", got, want)
	}
	if got := says.text(); !strings.HasPrefix(got, "lost: ") || !strings.Contains(got, ", found, lost: ") {
		t.Errorf("it told %q", got)
	}
}

// An engine that accepts and is silent costs a moment, no more.
func TestSilentEngine(t *testing.T) {
	t.Parallel()
	e, login := startEngine(t), &loginServer{}
	s, says := open(t, "unix://"+e.Socket)
	m := member(t, s, login)
	has(t, m, 1)
	e.settled()
	e.do("CLIENT", "PAUSE", "60000", "ALL")
	begin := time.Now()
	if _, _, err := m.Renew(context.Background(), 1, nil); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
	if says.count("look timeout") == 0 {
		t.Errorf("got %v, want a look that timed out", says.ops)
	}
}

// Without the engine it is tried, later.
func TestRefusedIsTriedAloneAtLast(t *testing.T) {
	t.Parallel()
	e, login := startEngine(t), &loginServer{answer: refuse}
	s, _ := open(t, "unix://"+e.Socket)
	m := member(t, s, login)
	_, _ = m.Token(context.Background())
	e.settled()
	e.Kill()
	m.LogInAgain()
	bearerdtest.Eventually(t, bearerdtest.Soon, "a second refusal", func() bool { return !m.Status().LoggingIn && m.Status().Rejections == 2 })
}

// A holder that dies costs its lease, never a second login meanwhile.
func TestHolderDies(t *testing.T) {
	t.Parallel()
	e := startEngine(t)
	dead, _ := open(t, "unix://"+e.Socket)
	l := tokens.Login{URL: "https://login.test/token", Grant: "password", ClientID: "id",
		Username: tokens.Source{Value: "user"}, Password: tokens.Source{Value: passwordText}}
	a, _ := l.Account()
	begin := time.Now()
	_, turn, err := dead.Turn(context.Background(), a, tokens.State{})
	if err != nil || turn == nil {
		t.Fatalf("Turn: %v, %v", turn, err)
	}
	login := &loginServer{}
	s, _ := open(t, "unix://"+e.Socket)
	m := member(t, s, login, func(o *tokens.Options) { o.Wait = 30 * time.Second })
	m.Start()
	time.Sleep(1500 * time.Millisecond) // a login would be made at once
	if got := login.n.Load(); got != 0 {
		t.Fatalf("got %d logins under another's lease", got)
	}
	ctx := context.Background()
	for _, name := range e.keys() {
		if strings.HasSuffix(name, ":lease") {
			const lasts = 15 * time.Second
			if ttl := e.client.PTTL(ctx, name).Val(); ttl < lasts-time.Since(begin) || ttl > lasts {
				t.Errorf("%v after its begin the lease lasts %v more, want LOGIN_TIMEOUT and 5 s in all", time.Since(begin), ttl)
			}
			e.client.PExpire(ctx, name, 300*time.Millisecond)
		}
	}
	has(t, m, 1)
	// What the dead one comes back with is not stored.
	turn.End(tokens.State{Generation: 9, Logins: 9}, false)
	other, _ := open(t, "unix://"+e.Socket)
	has(t, member(t, other, login), 1)
}

// A turn is over by either clock, counted from before the lease was asked for.
func TestTurnIsOverByEitherClock(t *testing.T) {
	t.Parallel()
	e := startEngine(t)
	var wall, elapsed time.Duration
	start := time.Now()
	s, _ := open(t, "unix://"+e.Socket, func(o *shared.Options) {
		o.Clock = func() (time.Time, time.Duration) { return start.Add(wall), elapsed }
	})
	l := tokens.Login{Grant: "password", Password: tokens.Source{Value: passwordText}}
	a, _ := l.Account()
	for _, sleep := range []*time.Duration{&wall, &elapsed} {
		_, turn, err := s.Turn(context.Background(), a, tokens.State{})
		if err != nil || turn == nil {
			t.Fatalf("Turn: %v, %v", turn, err)
		}
		if turn.Over() {
			t.Error("the turn is over at once")
		}
		*sleep += 15 * time.Second
		if !turn.Over() {
			t.Error("the turn goes on after the lease")
		}
		turn.End(tokens.State{}, false)
	}
}

// No pod's clock matters: a token ends when it does by the engine's.
func TestClocksApart(t *testing.T) {
	t.Parallel()
	e, login := startEngine(t), &loginServer{}
	for i, off := range []time.Duration{0, -7 * time.Minute, 11 * time.Minute} {
		start := time.Now()
		clock := func() (time.Time, time.Duration) { return time.Now().Round(0).Add(off), time.Since(start) }
		s, _ := open(t, "unix://"+e.Socket, func(o *shared.Options) { o.Clock = clock })
		m := member(t, s, login, func(o *tokens.Options) { o.Clock = clock })
		token := has(t, m, 1)
		wall, _ := clock()
		if left := token.Expiry.Sub(wall); left < 290*time.Second || left > 300*time.Second {
			t.Errorf("member %d: the token has %v left, want not quite 300 s", i, left)
		}
	}
	if got := login.n.Load(); got != 1 {
		t.Errorf("got %d logins, want 1", got)
	}
}

// Two whose accounts have no secret in common need the same key file, and share by it.
func TestKeyFile(t *testing.T) {
	t.Parallel()
	e, login := startEngine(t), &loginServer{}
	keyed := func(text string) func(*shared.Options) {
		return func(o *shared.Options) { o.Key = func() ([]byte, error) { return []byte(text), nil } }
	}
	bare := func(o *tokens.Options) {
		o.Login.Grant, o.Login.Username, o.Login.Password = "client_credentials", tokens.Source{}, tokens.Source{}
	}
	for i, key := range []string{strings.Repeat("a", 32), strings.Repeat("a", 32), strings.Repeat("b", 32)} {
		s, _ := open(t, "unix://"+e.Socket, keyed(key))
		has(t, member(t, s, login, bare), 1)
		if got, want := login.n.Load(), int32([]int{1, 1, 2}[i]); got != want {
			t.Errorf("member %d: got %d logins, want %d", i, got, want)
		}
	}
}

// A token life costs few operations: none while the token is good, and a look for
// whoever takes over another's.
func TestOperations(t *testing.T) {
	t.Parallel()
	e, login := startEngine(t), &loginServer{}
	one, first := open(t, "unix://"+e.Socket)
	m := member(t, one, login)
	has(t, m, 1)
	for range 1000 {
		has(t, m, 1)
	}
	e.settled()
	two, second := open(t, "unix://"+e.Socket)
	has(t, member(t, two, login), 1)
	bearerdtest.Eventually(t, bearerdtest.Soon, "the message", func() bool { return first.count("publish ok") > 0 })
	for op, want := range map[string]int{"look ok": 1, "lease ok": 1, "end ok": 1, "publish ok": 1} {
		if got := first.count(op); got != want {
			t.Errorf("who logs in: got %d of %s, want %d", got, op, want)
		}
	}
	if got := second.count("look ok"); got > 2 || second.count("lease ok") != 0 { // two where its salt was another at first
		t.Errorf("who takes over: got %v, want a look", second.ops)
	}
}
