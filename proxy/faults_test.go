package proxy_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/bearerd/bearerd/proxy"
)

// A short answer must not look like a whole one.
func TestFaultUpstreamCutsBodyShort(t *testing.T) {
	for name, reply := range map[string]string{
		"Content-Length":            "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc",
		"chunked":                   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
		"chunked, inside a chunk":   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nabc",
		"chunked, broken":           "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n",
		"chunked, trailer cut":      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1",
		"Content-Length, no byte":   "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n",
		"a 401, nothing to be done": "HTTP/1.1 401 Unauthorized\r\nContent-Length: 100\r\n\r\nabc",
	} {
		t.Run(name, func(t *testing.T) {
			u := listen(t, func(_ int, c *wire) {
				c.head()
				c.send(t, reply)
			})
			src := &source{login: func(context.Context, uint64) error { return errors.New("no") }}
			d := start(t, proxy.Options{Upstream: u, Source: src})
			w := d.dial(t)
			w.send(t, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
			resp, err := http.ReadResponse(w.in, nil)
			if err == nil {
				var body []byte
				body, err = io.ReadAll(resp.Body)
				if err == nil {
					t.Errorf("got the whole answer %q, want a cut one", body)
				}
			}
			if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
				t.Errorf("got %v, want the connection's end", err)
			}
			ex := d.one(t)
			same(t, "outcome", ex.Outcome, proxy.Aborted)
			same(t, "error", ex.Error, "")
		})
	}
}

// A POST may have reached upstream: it is not sent again. A GET may be.
func TestFaultKeptAliveConnectionDies(t *testing.T) {
	for _, c := range []struct {
		method, fields, body string
		status, seen         int
	}{
		{"GET", "", "", 200, 2},
		{"HEAD", "", "", 200, 2},
		{"GET", "Content-Length: 3\r\n", "abc", 200, 2},
		{"POST", "Content-Length: 3\r\n", "abc", 502, 1},
		{"POST", "Content-Length: 0\r\n", "", 502, 1},
		{"PATCH", "Content-Length: 3\r\n", "abc", 502, 1},
		{"POST", "Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\n\r\n", 502, 1},
		{"POST", "Content-Length: 3\r\nIdempotency-Key: 7\r\n", "abc", 200, 2},
		{"POST", "Transfer-Encoding: chunked\r\nIdempotency-Key: 7\r\n", "3\r\nabc\r\n0\r\n\r\n", 200, 2},
	} {
		t.Run(c.method+" "+c.fields, func(t *testing.T) {
			var seen atomic.Int64
			u := listen(t, func(n int, w *wire) {
				for first := true; ; first = false {
					h, more := w.head()
					if !more {
						return
					}
					_, _ = w.body(h)
					if h.line == "GET /warm HTTP/1.1" {
						w.send(t, ok)
						continue
					}
					seen.Add(1)
					if n == 0 {
						if first {
							t.Error("the connection was not kept alive")
						}
						return // as it has come in whole
					}
					if strings.HasPrefix(h.line, "HEAD") {
						w.send(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
						continue
					}
					w.send(t, ok)
				}
			})
			d := start(t, proxy.Options{Upstream: u, ReplayBuffer: 1 << 20})
			d.get(t, "/warm")
			w := d.dial(t)
			w.send(t, c.method+" / HTTP/1.1\r\nHost: localhost\r\n"+c.fields+"\r\n"+c.body)
			resp, _ := w.answer(t, c.method)
			same(t, "status", resp.StatusCode, c.status)
			if c.status == 502 {
				wantError(t, resp, proxy.UpstreamUnreachable)
			}
			same(t, "times sent upstream", seen.Load(), int64(c.seen))
		})
	}
}

// A body that is there from its first byte is sent again by the transport itself
// where nothing of it can have been processed: on a connection that HTTP/2's
// GOAWAY ends, say.
func TestFaultGoAway(t *testing.T) {
	const n = 100
	for name, body := range map[string]func() io.Reader{
		"held":              func() io.Reader { return strings.NewReader("abc") },
		"of unknown length": func() io.Reader { return io.MultiReader(strings.NewReader("abc")) },
	} {
		t.Run(name, func(t *testing.T) {
			var served atomic.Int64
			u, tr := upstreamTLS(t, true, func(w http.ResponseWriter, r *http.Request) {
				same(t, "protocol", r.Proto, "HTTP/2.0")
				body, _ := io.ReadAll(r.Body)
				same(t, "body", string(body), "abc")
				served.Add(1)
				w.Header().Set("Connection", "close") // GOAWAY after this answer
			})
			d := start(t, proxy.Options{Upstream: u, Transport: tr, ReplayBuffer: 1 << 20})
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					for range n / 4 {
						resp, _ := fetch(t, "POST", d.URL+"/", body())
						same(t, "status", resp.StatusCode, 200)
					}
				})
			}
			wg.Wait()
			same(t, "served", served.Load(), n)
		})
	}
}

func TestFaultClientGone(t *testing.T) {
	type stage struct {
		request string
		before  string // what upstream sends before the client leaves
	}
	for name, c := range map[string]stage{
		"before the answer":  {"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", ""},
		"inside the answer":  {"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"},
		"inside its body":    {"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", ""},
		"inside a large one": {"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\nabc", ""},
	} {
		t.Run(name, func(t *testing.T) {
			arrived, gone := make(chan struct{}), make(chan struct{})
			u := listen(t, func(_ int, w *wire) {
				h, _ := w.head()
				if h.values("Expect") != nil {
					w.send(t, "HTTP/1.1 100 Continue\r\n\r\n")
				}
				if strings.HasPrefix(h.line, "POST") {
					if _, err := w.in.ReadByte(); err != nil {
						t.Errorf("reading the body: %v", err)
					}
				}
				w.send(t, c.before)
				close(arrived)
				_, _ = io.Copy(io.Discard, w.in)
				close(gone)
			})
			d := start(t, proxy.Options{Upstream: u})
			w := d.dial(t)
			w.send(t, c.request)
			within(t, "upstream's request", patience, arrived)
			if c.before != "" {
				if _, err := w.in.ReadString('c'); err != nil {
					t.Fatal(err)
				}
			}
			// A reset, as a process that was killed leaves it.
			_ = w.Conn.(*net.TCPConn).SetLinger(0)
			w.Close()
			within(t, "upstream's cancellation", time.Second, gone)
			ex := d.one(t)
			same(t, "outcome", ex.Outcome, proxy.ClientClosed)
			same(t, "in flight", d.proxy.InFlight(), 0)
		})
	}
}

// When bearerd stops, nobody left: the answer is cut, never an empty 200.
func TestFaultServerStops(t *testing.T) {
	for _, request := range []string{
		"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
	} {
		base, stop := context.WithCancel(context.Background())
		arrived := make(chan struct{})
		u := listen(t, func(_ int, w *wire) {
			w.head()
			close(arrived)
			_, _ = io.Copy(io.Discard, w.in)
		})
		d := start(t, proxy.Options{Upstream: u}, func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				ctx, cancel := context.WithCancel(r.Context())
				defer cancel()
				defer context.AfterFunc(base, cancel)()
				h.ServeHTTP(w, r.WithContext(ctx))
			})
		})
		w := d.dial(t)
		w.send(t, request)
		within(t, "upstream's request", patience, arrived)
		stop()
		if b, err := io.ReadAll(w.in); len(b) > 0 || err != nil {
			t.Errorf("got %q, %v; want the connection's end alone", b, err)
		}
	}
}

func TestFaultUpstreamUnreachable(t *testing.T) {
	t.Parallel()
	stall := listen(t, func(_ int, c *wire) { _, _ = io.Copy(io.Discard, c.in) })
	plain := listen(t, func(_ int, c *wire) {
		_, _ = c.head()
		_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") // it may have hung up
	})
	wrongCA, _ := upstreamTLS(t, false, func(http.ResponseWriter, *http.Request) {})
	reset := listen(t, func(_ int, c *wire) {
		c.head()
		_ = c.Conn.(*net.TCPConn).SetLinger(0)
	})
	silent := listen(t, func(_ int, c *wire) {})
	garbage := listen(t, func(_ int, c *wire) {
		c.head()
		_, _ = io.WriteString(c, "SECRET-OF-UPSTREAM not HTTP\r\n\r\n")
	})
	slow := listen(t, func(_ int, c *wire) { c.head(); _, _ = io.Copy(io.Discard, c.in) })
	halfHeader := listen(t, func(_ int, c *wire) {
		c.head()
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nX: SECRET-OF-UPSTREAM\r\n")
		_, _ = io.Copy(io.Discard, c.in)
	})
	for _, c := range []struct {
		name, url string
		code      proxy.Code
	}{
		{"dial refused", "http://127.0.0.1:1", proxy.UpstreamUnreachable},
		{"name unknown", "http://does-not-exist.invalid", proxy.UpstreamUnreachable},
		{"TLS handshake fails", "https://" + plain.Host, proxy.UpstreamUnreachable},
		{"certificate unknown", "https://" + wrongCA.Host, proxy.UpstreamUnreachable},
		{"TLS handshake stalls", "https://" + stall.Host, proxy.UpstreamUnreachable},
		{"reset", "http://" + reset.Host, proxy.UpstreamUnreachable},
		{"closed at once", "http://" + silent.Host, proxy.UpstreamUnreachable},
		{"not HTTP", "http://" + garbage.Host, proxy.UpstreamUnreachable},
		{"no header in time", "http://" + slow.Host, proxy.UpstreamTimeout},
		{"half a header in time", "http://" + halfHeader.Host, proxy.UpstreamTimeout},
	} {
		for _, timeout := range []time.Duration{0, 100 * time.Millisecond} {
			if timeout == 0 && c.code == proxy.UpstreamTimeout {
				continue // would wait for ever, as it shall
			}
			t.Run(fmt.Sprint(c.name, ", ", timeout), func(t *testing.T) {
				t.Parallel()
				dial := time.Duration(0)
				if c.code == proxy.UpstreamUnreachable {
					dial = 100 * time.Millisecond
					timeout *= 100 // on, and never over: what fails at once may take a while on a busy machine
				}
				tr := proxy.NewTransport(proxy.TransportOptions{DialTimeout: dial, ResponseHeaderTimeout: timeout})
				t.Cleanup(tr.CloseIdleConnections)
				d := start(t, proxy.Options{Upstream: parse(t, c.url), Transport: tr, ResponseHeaderTimeout: timeout, ReplayBuffer: 100})
				for _, request := range []string{
					"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
					"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc",
				} {
					w := d.dial(t)
					w.send(t, request)
					resp, body := w.answer(t, "GET")
					wantError(t, resp, c.code)
					if strings.Contains(body, "SECRET-OF-UPSTREAM") {
						t.Errorf("got upstream's bytes in %q", body)
					}
					w.Close()
				}
				for _, ex := range d.exchanges(t, 2) {
					same(t, "error", ex.Error, c.code)
					same(t, "outcome", ex.Outcome, proxy.Completed)
				}
			})
		}
	}
}

// A header time-out is told from a dial's over HTTP/2 as well.
func TestFaultUpstreamTimeoutHTTP2(t *testing.T) {
	release := make(chan struct{})
	u, tr := upstreamTLS(t, true, func(w http.ResponseWriter, r *http.Request) { <-release })
	defer close(release)
	tr.ResponseHeaderTimeout = 100 * time.Millisecond
	d := start(t, proxy.Options{Upstream: u, Transport: tr, ResponseHeaderTimeout: tr.ResponseHeaderTimeout})
	resp, _ := d.get(t, "/")
	wantError(t, resp, proxy.UpstreamTimeout)
}

// The transport dials with TLS 1.2 at least, and reuses connections.
func TestTransportKeepsConnections(t *testing.T) {
	const width, rounds = 16, 8
	var conns sync.Map
	var arrived atomic.Int32
	all := make(chan struct{}, width)
	u, tr := upstreamTLS(t, false, func(w http.ResponseWriter, r *http.Request) {
		conns.Store(r.RemoteAddr, true)
		if r.TLS.Version < tls.VersionTLS12 {
			t.Errorf("got TLS %x, want 1.2 or later", r.TLS.Version)
		}
		if arrived.Add(1)%width == 0 { // each has a connection now, and holds it
			for range width {
				all <- struct{}{}
			}
		}
		<-all
	})
	// An answer may be with its caller before its connection is back in the
	// pool: the next round waits for that, or it dials again.
	idle := make(chan error, width*rounds)
	d := start(t, proxy.Options{Upstream: u, Transport: tr}, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			trace := &httptrace.ClientTrace{PutIdleConn: func(err error) { idle <- err }}
			next.ServeHTTP(w, r.WithContext(httptrace.WithClientTrace(r.Context(), trace)))
		})
	})
	for range rounds {
		var wg sync.WaitGroup
		for range width {
			wg.Go(func() { fetch(t, "GET", d.URL+"/", nil) })
		}
		wg.Wait()
		for range width {
			select {
			case err := <-idle:
				if err != nil {
					t.Fatalf("a connection was not kept: %v", err)
				}
			case <-time.After(patience):
				t.Fatal("a connection is not back in the pool")
			}
		}
	}
	n := 0
	conns.Range(func(any, any) bool { n++; return true })
	same(t, "connections", n, width)
}

// Whatever happens to uploads, no goroutine stays behind.
func TestFaultNoGoroutineLeft(t *testing.T) {
	var g gate
	src := &source{}
	u, tr := upstreamTLS(t, false, func(w http.ResponseWriter, r *http.Request) {
		if !g.passes(r.Header["Authorization"]) {
			w.WriteHeader(401)
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
	})
	d := start(t, proxy.Options{Upstream: u, Transport: tr, Source: src, ReplayBuffer: 1000, BodyIdle: 50 * time.Millisecond})
	settle := func(most int) int {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		n := 0
		for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
			tr.CloseIdleConnections()
			http.DefaultTransport.(*http.Transport).CloseIdleConnections()
			d.CloseClientConnections()
			if n = runtime.NumGoroutine(); n <= most {
				break
			}
		}
		return n
	}
	before := settle(runtime.NumGoroutine())
	const rounds = 20
	for i := range rounds {
		g.revokeBelow(uint64(i + 2)) // the budget ends this soon: that is part of it
		for _, c := range []struct {
			body  string
			leave bool
		}{
			{"Content-Length: 3\r\n\r\nabc", false},
			{"Content-Length: 5000\r\n\r\nabc", false},
			{"Content-Length: 5000\r\n\r\nabc", true},
			{"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", false},
			{"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", true},
			{"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", false},
		} {
			w := d.dial(t)
			w.send(t, "POST / HTTP/1.1\r\nHost: localhost\r\n"+c.body)
			if !c.leave {
				w.answer(t, "POST")
			}
			w.Close()
		}
	}
	d.exchanges(t, 6*rounds)
	if after := settle(before); after > before {
		t.Errorf("got %d goroutines, want the %d before", after, before)
	}
	same(t, "bytes held", d.proxy.ReplayBytes(), 0)
	same(t, "in flight", d.proxy.InFlight(), 0)
}

// A client of HTTP/1.0 knows the end of such an answer by the end of the
// connection: only a reset tells it that this one was cut.
func TestFaultUpstreamCutsBodyShortHTTP10(t *testing.T) {
	u := listen(t, func(_ int, c *wire) {
		c.head()
		c.send(t, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
	})
	d := start(t, proxy.Options{Upstream: u})
	w := d.dial(t)
	w.send(t, "GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
	got, err := io.ReadAll(w.in)
	if !errors.Is(err, syscall.ECONNRESET) && runtime.GOOS != "windows" || err == nil {
		t.Errorf("got %q and %v, want a reset connection", got, err)
	}
	same(t, "outcome", d.one(t).Outcome, proxy.Aborted)
}

// net/http panics at such a status.
func TestFaultUpstreamStatusIsNone(t *testing.T) {
	u := listen(t, func(_ int, c *wire) {
		c.head()
		c.send(t, "HTTP/1.1 099 Hm\r\nContent-Length: 0\r\n\r\n")
	})
	d := start(t, proxy.Options{Upstream: u})
	resp, _ := d.get(t, "/")
	wantError(t, resp, proxy.UpstreamUnreachable)
}

// HTTP/2 has no such bound on a status as HTTP/1.1 has, nor does net/http look.
func TestFaultUpstreamStatusTooLarge(t *testing.T) {
	for _, status := range []int{1000, -200} {
		d := start(t, proxy.Options{
			Upstream: parse(t, "https://up.example"),
			Transport: roundTrip(func(*http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: status, Header: http.Header{}, Body: http.NoBody}, nil
			}),
		})
		resp, _ := d.get(t, "/")
		wantError(t, resp, proxy.UpstreamUnreachable)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
