package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bearerd/bearerd/proxy"
)

const (
	unauthorized   = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer error=\"invalid_token\"\r\nX-Up: 1\r\nContent-Length: 7\r\n\r\nrefused"
	notReplayed    = `bearerd; details="reauthenticated_not_replayed"`
	keepReplayed   = 1 << 20 // a usual Options.ReplayBuffer
	announcedField = "Expect: 100-continue"
)

// protected is an upstream that takes tokens by g and says how long the body
// was and whether it was text's beginning.
func protected(t testing.TB, g *gate, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !g.passes(r.Header["Authorization"]) {
			w.Header().Set("WWW-Authenticate", "Bearer")
			w.WriteHeader(401)
			_, _ = io.WriteString(w, "refused")
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("reading the body: %v", err)
		}
		if string(body) != text {
			t.Errorf("got a body of %d bytes, want the %d sent", len(body), len(text))
		}
		fmt.Fprint(w, len(body))
	}
}

// text returns n bytes that are not the same anywhere.
func text(n int) string {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte('a' + r.IntN(26))
	}
	return string(b)
}

// unsized hides a reader's length: the body goes out chunked.
type unsized struct{ io.Reader }

type replayCase struct {
	name    string
	size    int
	chunked bool
	buffer  int64
}

func TestReplay(t *testing.T) {
	t.Parallel()
	testReplay(t, true, []replayCase{
		{"no body", 0, false, keepReplayed},
		{"one byte", 1, false, keepReplayed},
		{"held, just fits", keepReplayed, false, keepReplayed},
		{"chunked, empty", 0, true, keepReplayed},
		{"chunked, small", 100, true, keepReplayed},
		{"chunked, fits", 200 << 10, true, keepReplayed},
	})
}

// Beside no other test: upstream has a second to say 100 or 401.
func TestReplayAnnounced(t *testing.T) {
	testReplay(t, false, []replayCase{
		{"just too large", keepReplayed + 1, false, keepReplayed},
		{"large", 3 << 20, false, keepReplayed},
		{"no buffer at all", 5, false, 0},
	})
}

func testReplay(t *testing.T, parallel bool, cases []replayCase) {
	for _, h2 := range []bool{false, true} {
		for _, c := range cases {
			t.Run(fmt.Sprint(c.name, ", HTTP/2 ", h2), func(t *testing.T) {
				if parallel {
					t.Parallel()
				}
				want := text(c.size)
				var g gate
				g.revokeBelow(2)
				u, tr := upstreamTLS(t, h2, protected(t, &g, want))
				src := &source{}
				d := start(t, proxy.Options{Upstream: u, Transport: tr, Source: src, ReplayBuffer: c.buffer})
				for i, wantLogins := range []int{1, 1, 2} {
					if i == 2 {
						g.revokeBelow(3)
					}
					var body io.Reader
					if c.size > 0 || c.chunked {
						body = strings.NewReader(want)
						if c.chunked {
							body = unsized{body}
						}
					}
					resp, got := fetch(t, "POST", d.URL+"/p", body)
					same(t, "status", resp.StatusCode, 200)
					same(t, "answer", got, fmt.Sprint(c.size))
					same(t, "logins", src.loginCount(), wantLogins)
				}
				for i, ex := range d.exchanges(t, 3) {
					want := []proxy.Unauthorized{proxy.Replayed, "", proxy.Replayed}[i]
					same(t, "unauthorized", ex.Unauthorized, want)
					same(t, "generation", ex.Generation, []uint64{2, 2, 3}[i])
					same(t, "bytes in", ex.BytesIn, int64(c.size))
					same(t, "status", ex.Status, 200)
				}
				same(t, "bytes held", d.proxy.ReplayBytes(), 0)
			})
		}
	}
}

// Once bytes of the body are gone, the client gets the 401 as it came, the
// login is made, and its own retry succeeds.
func TestReplayBodyGone(t *testing.T) {
	const size = 100 << 10
	want := text(size)
	for name, chunked := range map[string]bool{"chunked, spilled": true, "announced, asked for": false} {
		t.Run(name, func(t *testing.T) {
			u := listen(t, func(_ int, c *wire) {
				for {
					h, more := c.head()
					if !more {
						return
					}
					if h.values("Expect") != nil {
						c.send(t, "HTTP/1.1 100 Continue\r\n\r\n")
					}
					body, err := c.body(h)
					if err != nil || body != want {
						t.Errorf("got a body of %d bytes, %v; want %d", len(body), err, size)
					}
					if h.values("Authorization")[0] == bearer(1) {
						c.send(t, unauthorized)
						continue
					}
					c.send(t, ok)
				}
			})
			src := &source{}
			d := start(t, proxy.Options{Upstream: u, Source: src, ReplayBuffer: 1000})
			for i, status := range []int{401, 200} {
				var body io.Reader = strings.NewReader(want)
				if chunked {
					body = unsized{body}
				}
				resp, got := fetch(t, "POST", d.URL+"/", body)
				same(t, "status", resp.StatusCode, status)
				same(t, "logins", src.loginCount(), 1)
				if i == 0 {
					same(t, "Proxy-Status", resp.Header.Get("Proxy-Status"), notReplayed)
					same(t, "WWW-Authenticate", resp.Header.Get("WWW-Authenticate"), `Bearer error="invalid_token"`)
					same(t, "X-Up", resp.Header.Get("X-Up"), "1")
					same(t, "body", got, "refused")
				}
			}
			ended := d.exchanges(t, 2)
			same(t, "unauthorized", ended[0].Unauthorized, proxy.NotReplayable)
			same(t, "unauthorized", ended[1].Unauthorized, "")
			same(t, "bytes held", d.proxy.ReplayBytes(), 0)
		})
	}
}

// At most two attempts: a second 401 goes through as it came.
func TestReplaySecond401(t *testing.T) {
	up := &recorder{reply: unauthorized}
	u := listen(t, up.serve)
	src := &source{}
	d := start(t, proxy.Options{Upstream: u, Source: src, ReplayBuffer: keepReplayed})
	resp, body := fetch(t, "POST", d.URL+"/", strings.NewReader("abc"))
	same(t, "status", resp.StatusCode, 401)
	same(t, "body", body, "refused")
	same(t, "WWW-Authenticate", resp.Header.Get("WWW-Authenticate"), `Bearer error="invalid_token"`)
	same(t, "Proxy-Status", resp.Header.Get("Proxy-Status"), "")
	same(t, "logins", src.loginCount(), 1)
	same(t, "unauthorized", d.one(t).Unauthorized, proxy.Replayed)
	var got []string
	for i, h := range up.all() {
		got = append(got, h.values("Authorization")[0]+" "+up.bodies()[i])
	}
	same(t, "attempts", strings.Join(got, " | "), bearer(1)+" abc | "+bearer(2)+" abc")
}

// Without a newer token the 401 passes as it came, and is not tried again.
func TestReplayNoNewerToken(t *testing.T) {
	up := &recorder{reply: unauthorized}
	src := &source{login: func(context.Context, uint64) error { return errors.New("down") }}
	d := start(t, proxy.Options{Upstream: listen(t, up.serve), Source: src})
	resp, body := d.get(t, "/")
	same(t, "status", resp.StatusCode, 401)
	same(t, "body", body, "refused")
	same(t, "WWW-Authenticate", resp.Header.Get("WWW-Authenticate"), `Bearer error="invalid_token"`)
	same(t, "Proxy-Status", resp.Header.Get("Proxy-Status"), "")
	same(t, "attempts", len(up.all()), 1)
	same(t, "unauthorized", d.one(t).Unauthorized, proxy.Passed)
}

// A newer token that is there already costs no login.
func TestReplayNewerTokenIsThere(t *testing.T) {
	src := &source{}
	u := listen(t, func(_ int, c *wire) {
		for {
			h, more := c.head()
			if !more {
				return
			}
			if h.values("Authorization")[0] == bearer(1) {
				src.mu.Lock()
				src.generation = 5 // a refresh ahead, while this was on its way
				src.mu.Unlock()
				c.send(t, unauthorized)
				continue
			}
			same(t, "Authorization", h.values("Authorization")[0], bearer(5))
			c.send(t, ok)
		}
	})
	d := start(t, proxy.Options{Upstream: u, Source: src})
	resp, _ := d.get(t, "/")
	same(t, "status", resp.StatusCode, 200)
	same(t, "logins", src.loginCount(), 0)
	ex := d.one(t)
	same(t, "unauthorized", ex.Unauthorized, proxy.Replayed)
	same(t, "generation", ex.Generation, 5)
}

// A 401 whose body never ends delays the replay by a second at most.
func TestReplayEndless401(t *testing.T) {
	u := listen(t, func(n int, c *wire) {
		for {
			h, more := c.head()
			if !more {
				return
			}
			if h.values("Authorization")[0] == bearer(1) {
				c.send(t, "HTTP/1.1 401 Unauthorized\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
				_, _ = io.Copy(io.Discard, c.in)
				return
			}
			c.send(t, ok)
		}
	})
	d := start(t, proxy.Options{Upstream: u})
	begin := time.Now()
	resp, _ := d.get(t, "/")
	same(t, "status", resp.StatusCode, 200)
	if took := time.Since(begin); took > patience {
		t.Errorf("took %v, want about 1s", took)
	}
}

func TestReplayStorm(t *testing.T) {
	const n, size = 1000, 5000
	want := text(size)
	var g gate
	u := upstream(t, protected(t, &g, want))
	src := &source{}
	d := start(t, proxy.Options{Upstream: u, Source: src, ReplayBuffer: keepReplayed})
	resp, _ := fetch(t, "POST", d.URL+"/warm", strings.NewReader(want))
	same(t, "status", resp.StatusCode, 200)
	g.revokeBelow(2)
	// The login ends when many have been refused.
	var begun atomic.Int64
	many := make(chan struct{})
	src.login = func(context.Context, uint64) error { <-many; return nil }
	client := &http.Transport{MaxIdleConnsPerHost: n}
	defer client.CloseIdleConnections()
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
			defer cancel()
			req, _ := http.NewRequestWithContext(ctx, "POST", d.URL+"/p", strings.NewReader(want))
			if begun.Add(1) == n/2 {
				close(many)
			}
			resp, err := client.RoundTrip(req)
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			got, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != 200 || string(got) != fmt.Sprint(size) {
				t.Errorf("got %d %q, want 200 and %d", resp.StatusCode, got, size)
			}
		})
	}
	wg.Wait()
	same(t, "logins", src.loginCount(), 1)
	replayed := 0
	for _, ex := range d.exchanges(t, n+1) {
		if ex.Unauthorized == proxy.Replayed {
			replayed++
		}
	}
	if replayed == 0 {
		t.Error("got no replay at all")
	}
	same(t, "bytes held", d.proxy.ReplayBytes(), 0)
}

// The client that leads the login leaves: the others get their answer.
func TestFaultLeaderLeaves(t *testing.T) {
	var g gate
	g.revokeBelow(2)
	u := upstream(t, protected(t, &g, ""))
	asked, finish := make(chan struct{}), make(chan struct{})
	src := &source{login: func(ctx context.Context, _ uint64) error {
		close(asked)
		<-finish
		return ctx.Err()
	}}
	d := start(t, proxy.Options{Upstream: u, Source: src})
	leader := d.dial(t)
	leader.send(t, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	within(t, "the login", patience, asked)
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			resp, _ := d.get(t, "/")
			same(t, "status", resp.StatusCode, 200)
		})
	}
	leader.Close()
	same(t, "outcome of the leader", d.one(t).Outcome, proxy.ClientClosed)
	close(finish)
	wg.Wait()
	same(t, "logins", src.loginCount(), 1)
	d.exchanges(t, 11)
}

// ReverseProxy keeps an inbound HTTP/1.0, for which the transport sends no
// Expect that it would wait for.
func TestReplayHTTP10Client(t *testing.T) {
	const size = 300 << 10
	want := text(size)
	var g gate
	g.revokeBelow(2)
	u := upstream(t, protected(t, &g, want))
	src := &source{}
	d := start(t, proxy.Options{Upstream: u, Source: src, ReplayBuffer: 1000})
	w := d.dial(t)
	w.send(t, fmt.Sprintf("POST / HTTP/1.0\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", size, want))
	resp, body := w.answer(t, "POST")
	same(t, "status", resp.StatusCode, 200)
	same(t, "answer", body, fmt.Sprint(size))
	same(t, "unauthorized", d.one(t).Unauthorized, proxy.Replayed)
}
