package shared_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/shared"
	"github.com/bearerd/bearerd/tokens"
)

func TestMain(m *testing.M) { os.Exit(bearerdtest.Run(m)) }

// An engine is a redis-server of the test's own, and a look into it.
type engine struct {
	*bearerdtest.Redis
	t      testing.TB
	client *redis.Client
}

func startEngine(t testing.TB, args ...string) *engine {
	t.Helper()
	e := &engine{Redis: bearerdtest.StartRedis(t, args...), t: t}
	e.client = redis.NewClient(&redis.Options{Network: "unix", Addr: e.Socket})
	t.Cleanup(func() { _ = e.client.Close() })
	return e
}

func (e *engine) do(command ...any) {
	e.t.Helper()
	if err := e.client.Do(context.Background(), command...).Err(); err != nil {
		e.t.Fatal(err)
	}
}

// admit has a user bearerd with the password one, the rights that deploy/README lists,
// and others.
func (e *engine) admit(others ...string) {
	e.t.Helper()
	command := []any{"ACL", "SETUSER", "bearerd", "on", ">one"}
	for _, right := range slices.Concat(shared.Rights, others) {
		command = append(command, right)
	}
	e.do(command...)
}

// refusedNothing fails the test if the engine refused a command to a user.
func (e *engine) refusedNothing() {
	e.t.Helper()
	if log, err := e.client.Do(context.Background(), "ACL", "LOG").Slice(); err != nil || len(log) > 0 {
		e.t.Errorf("the engine refused something: %v, %v", log, err)
	}
}

func (e *engine) keys() []string {
	e.t.Helper()
	all, err := e.client.Keys(context.Background(), "*").Result()
	if err != nil {
		e.t.Fatal(err)
	}
	return all
}

// settled waits until whoever logged in has given its lease back, which is after
// those who waited for it have their token.
func (e *engine) settled() {
	e.t.Helper()
	bearerdtest.Eventually(e.t, bearerdtest.Soon, "the lease is given back", func() bool {
		entry, lease := false, false
		for _, name := range e.keys() {
			entry, lease = entry || strings.HasSuffix(name, ":entry"), lease || strings.HasSuffix(name, ":lease")
		}
		return entry && !lease
	})
}

// entry is the name of the one entry that is there.
func (e *engine) entry() string {
	e.t.Helper()
	for _, name := range e.keys() {
		if strings.HasSuffix(name, ":entry") {
			return name
		}
	}
	e.t.Fatalf("no entry among %q", e.keys())
	return ""
}

// told is what a Store told of itself.
type told struct {
	mu    sync.Mutex // guards what follows
	said  []string
	ops   map[string]int
	warns int
}

func (o *told) text() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Join(o.said, ", ")
}

func (o *told) count(op string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.ops[op]
}

// quickHash is no slow one: these tests make a hundred keys, and one at a time.
func quickHash(secret, salt []byte) []byte {
	sum := sha256.Sum256(slices.Concat(secret, salt))
	return sum[:]
}

// open returns a Store at address, which is closed with the test.
func open(t testing.TB, address string, change ...func(*shared.Options)) (*shared.Store, *told) {
	t.Helper()
	a, err := shared.ParseAddress(address)
	if err != nil {
		t.Fatalf("%s: %v", address, err)
	}
	out := &told{ops: map[string]int{}}
	o := shared.Options{
		Address: a, LoginTimeout: 10 * time.Second, DialTimeout: 2 * time.Second, Hash: quickHash,
		Tell: func(up bool, cause error) {
			out.mu.Lock()
			defer out.mu.Unlock()
			if up {
				out.said = append(out.said, "found")
			} else {
				out.said = append(out.said, "lost: "+shared.Words(cause))
			}
		},
		Observe: func(op, result string) {
			out.mu.Lock()
			defer out.mu.Unlock()
			out.ops[op+" "+result]++
		},
		Warn: func(error) {
			out.mu.Lock()
			defer out.mu.Unlock()
			out.warns++
		},
	}
	for _, c := range change {
		c(&o)
	}
	s := shared.New(o)
	t.Cleanup(s.Close)
	return s, out
}

const passwordText = "hunter2-password"

// A loginServer counts the logins, and the most that were under way at a time.
type loginServer struct {
	n, busy, most atomic.Int32
	answer        func(n int) (status int, body string) // nil: tokens that live 300 s
	latency       time.Duration
	hold          chan struct{} // no login is answered until it is closed; nil: each is
}

func (s *loginServer) RoundTrip(r *http.Request) (*http.Response, error) {
	s.most.Store(max(s.most.Load(), s.busy.Add(1)))
	defer s.busy.Add(-1)
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return nil, err
	}
	n := int(s.n.Add(1))
	if s.hold != nil {
		select {
		case <-s.hold:
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	select {
	case <-time.After(max(s.latency, 10*time.Millisecond)):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	status, body := 200, fmt.Sprintf(`{"access_token":"eyJh-hunter2-token-%d","expires_in":300}`, n)
	if s.answer != nil {
		if st, b := s.answer(n); st != 0 {
			status, body = st, b
		}
	}
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}, nil
}

func refuse(int) (int, string) { return 401, `{"error":"invalid_grant"}` }

// member returns a Manager of the account that shares by s; it is not started.
func member(t testing.TB, s tokens.Store, by http.RoundTripper, change ...func(*tokens.Options)) *tokens.Manager {
	t.Helper()
	o := tokens.Options{Store: s, KeepWarm: true, Login: tokens.Login{
		URL: "https://login.test/token", Grant: "password", ClientID: "id",
		Username: tokens.Source{Value: "user"}, Password: tokens.Source{Value: passwordText}, Transport: by,
	}}
	for _, c := range change {
		c(&o)
	}
	m := tokens.New(o)
	t.Cleanup(m.Close)
	return m
}

// has fails the test unless m has a token of that generation within a while.
func has(t testing.TB, m *tokens.Manager, generation uint64) *tokens.Token {
	t.Helper()
	token, err := m.Token(context.Background())
	if err != nil {
		t.Fatalf("Token: %v", err)
	}
	if generation != 0 && token.Generation != generation {
		t.Fatalf("got generation %d, want %d", token.Generation, generation)
	}
	return token
}
