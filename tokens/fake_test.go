package tokens_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bearerd/bearerd/tokens"
)

// What must never be printed. Each token of the fake server begins with
// tokenText.
const (
	passwordText = "hunter2-password"
	secretText   = "hunter2-client-secret"
	tokenText    = "eyJh-hunter2-token"
)

// A reply is what the fake login server does with one login.
type reply struct {
	status  int    // 0: 200
	body    string // "": a good token, of lifetime
	header  http.Header
	err     error
	latency time.Duration // of this login; 0: the server's

	lifetime string // expires_in; "": 300
}

// A login is one that the fake server saw.
type login struct {
	at   time.Duration // since the server was made
	form url.Values
}

// A loginServer is a RoundTripper that plays the login server. It fails the test
// when two logins are under way at one time.
type loginServer struct {
	t       testing.TB
	latency time.Duration
	script  func(n int) reply // n counts logins from 1; nil: good tokens

	start  time.Time
	busy   atomic.Int32
	mu     sync.Mutex // guards logins
	logins []login
}

func newServer(t testing.TB, script func(n int) reply) *loginServer {
	return &loginServer{t: t, script: script, start: time.Now(), latency: 100 * time.Millisecond}
}

func (s *loginServer) RoundTrip(r *http.Request) (*http.Response, error) {
	if s.busy.Add(1) != 1 {
		s.t.Error("two logins are under way at one time")
	}
	defer s.busy.Add(-1)
	body, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Errorf("reading the form: %v", err)
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		s.t.Errorf("parsing the form: %v", err)
	}
	s.mu.Lock()
	s.logins = append(s.logins, login{time.Since(s.start), form})
	n := len(s.logins)
	s.mu.Unlock()

	var a reply
	if s.script != nil {
		a = s.script(n)
	}
	if latency := cmp.Or(a.latency, s.latency); latency > 0 {
		select {
		case <-time.After(latency):
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	if a.err != nil {
		return nil, a.err
	}
	if a.body == "" {
		a.body = fmt.Sprintf(`{"access_token":"%s-%d","expires_in":%s}`, tokenText, n, cmp.Or(a.lifetime, "300"))
	}
	if a.header == nil {
		a.header = http.Header{}
	}
	return &http.Response{
		StatusCode: cmp.Or(a.status, 200), Header: a.header, Body: io.NopCloser(strings.NewReader(a.body)),
	}, nil
}

func (s *loginServer) seen() []login {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.logins)
}

// times returns when the logins came, rounded to milliseconds.
func (s *loginServer) times() (at []time.Duration) {
	for _, l := range s.seen() {
		at = append(at, l.at.Round(time.Millisecond))
	}
	return at
}

// expectLogins fails the test unless there were exactly want logins.
func (s *loginServer) expectLogins(want int) {
	s.t.Helper()
	if got := s.times(); len(got) != want {
		s.t.Fatalf("got %d logins (at %v), want %d", len(got), got, want)
	}
}

// A manager is a Manager whose events are recorded and searched for secrets.
type manager struct {
	*tokens.Manager
	t        testing.TB
	observer atomic.Int32
	mu       sync.Mutex // guards events
	events   []tokens.Event
}

// newManager makes a Manager that logs in at s. It is closed with the test.
func newManager(t testing.TB, s http.RoundTripper, change ...func(*tokens.Options)) *manager {
	t.Helper()
	m := &manager{t: t}
	o := tokens.Options{
		Login: tokens.Login{
			URL: "https://login.test/token", Grant: "password", ClientID: "id",
			ClientSecret: tokens.Source{Value: secretText},
			Username:     tokens.Source{Value: "user"},
			Password:     tokens.Source{Value: passwordText},
			Transport:    s,
		},
		Observe: m.observe,
	}
	for _, c := range change {
		c(&o)
	}
	m.Manager = tokens.New(o)
	t.Cleanup(func() {
		m.Close()
		o.Login.Transport = nil // the fake remembers the forms
		o.Login.URL = ""        // one with user information is refused elsewhere
		expectNoSecret(t, m.Status(), m.Manager, struct{ m *tokens.Manager }{m.Manager}, o)
	})
	return m
}

func (m *manager) observe(e tokens.Event) {
	if m.observer.Add(1) != 1 {
		m.t.Error("Observe is called twice at one time")
	}
	defer m.observer.Add(-1)
	expectNoSecret(m.t, e)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.events = append(m.events, e)
}

func (m *manager) seen() []tokens.Event {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.events)
}

// lastEvent returns the last event there was.
func (m *manager) lastEvent() tokens.Event {
	m.t.Helper()
	events := m.seen()
	if len(events) == 0 {
		m.t.Fatal("there was no event")
	}
	return events[len(events)-1]
}

// good fails the test unless a good token of the given generation comes.
func (m *manager) good(generation uint64) *tokens.Token {
	m.t.Helper()
	token, err := m.Token(context.Background())
	if err != nil {
		m.t.Fatalf("Token: %v, want generation %d", err, generation)
	}
	if token.Generation != generation {
		m.t.Fatalf("Token: got generation %d, want %d", token.Generation, generation)
	}
	return token
}

// unavailable fails the test unless Token says at once that it is.
func (m *manager) unavailable(kind tokens.Result) *tokens.Unavailable {
	m.t.Helper()
	begin := time.Now()
	token, err := m.Token(context.Background())
	expectNoSecret(m.t, err)
	e, ok := errors.AsType[*tokens.Unavailable](err)
	if !ok || e.Kind != kind {
		m.t.Fatalf("Token: got %v, %v, want unavailable, %s", token, err, kind)
	}
	if took := time.Since(begin); took >= 50*time.Millisecond {
		m.t.Fatalf("Token took %v to say that login fails, want at once", took)
	}
	return e
}

// expectNoSecret fails the test if a way to print one of values shows a secret.
func expectNoSecret(t testing.TB, values ...any) {
	t.Helper()
	for _, v := range values {
		text := fmt.Sprintf("%v %+v %#v %s %q", v, v, v, v, v)
		if j, err := json.Marshal(v); err == nil {
			text += string(j)
		}
		for _, secret := range []string{passwordText, secretText, tokenText} {
			if strings.Contains(text, secret) {
				t.Errorf("%T shows the secret %q: %.2000s", v, secret, text)
			}
		}
	}
}

// A shiftedClock is the clock of a bubble with both hands moved on their own.
type shiftedClock struct {
	start         time.Time
	wall, elapsed atomic.Int64 // time.Duration
}

func newClock() *shiftedClock { return &shiftedClock{start: time.Now()} }

func (c *shiftedClock) now() (time.Time, time.Duration) {
	now := time.Now()
	return now.Round(0).Add(time.Duration(c.wall.Load())), now.Sub(c.start) + time.Duration(c.elapsed.Load())
}

// sleep is a laptop's: the wall clock goes on, the monotonic one does not.
func (c *shiftedClock) sleep(d time.Duration) { c.wall.Add(int64(d)) }

// bubble runs f in a synctest bubble.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// wait lets d pass and everything settle.
func wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// rejected and down are what a login server says to a wrong password, and when
// it is out of order.
func rejected(int) reply { return reply{status: 401, body: `{"error":"invalid_grant"}`} }
func down(int) reply     { return reply{status: 502, body: "<html>Bad Gateway</html>"} }

// goodThen is a good token first and r ever after.
func goodThen(r reply) func(n int) reply {
	return func(n int) reply {
		if n == 1 {
			return reply{}
		}
		return r
	}
}
