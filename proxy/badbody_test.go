package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bearerd/bearerd/proxy"
)

// bad_body: the client's fault, and said so.
func TestFaultBadBody(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		request string
		end     bool // close the sending side
	}{
		"broken chunk size":          {"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n", false},
		"broken chunk end":           {"Transfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n0\r\n\r\n", false},
		"broken from the start":      {"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", false},
		"chunked, cut":               {"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", true},
		"chunked, cut in a chunk":    {"Transfer-Encoding: chunked\r\n\r\n64\r\nabc", true},
		"chunked, cut in a trailer":  {"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y", true},
		"held, cut":                  {"Content-Length: 10\r\n\r\nabc", true},
		"announced, cut":             {"Content-Length: 100000\r\n\r\nabc", true},
		"chunked, stalled":           {"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", false},
		"chunked, stalled at once":   {"Transfer-Encoding: chunked\r\n\r\n", false},
		"held, stalled":              {"Content-Length: 10\r\n\r\nabc", false},
		"announced, stalled":         {"Content-Length: 100000\r\n\r\nabc", false},
		"announced, stalled at once": {"Content-Length: 100000\r\n\r\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var whole atomic.Int64
			u := listen(t, func(_ int, w *wire) {
				h, more := w.head()
				if !more {
					return
				}
				if h.values("Expect") != nil {
					_, _ = io.WriteString(w, "HTTP/1.1 100 Continue\r\n\r\n")
				}
				if _, err := w.body(h); err == nil {
					whole.Add(1)
				}
			})
			const times = 20
			idle := 50 * time.Millisecond
			if c.end {
				idle = time.Minute // its end must come first
			}
			d := start(t, proxy.Options{Upstream: u, ReplayBuffer: 1000, BodyIdle: idle})
			for i := range times {
				w := d.dial(t)
				w.send(t, "POST / HTTP/1.1\r\nHost: localhost\r\n"+c.request)
				if c.end {
					_ = w.Conn.(*net.TCPConn).CloseWrite()
				}
				resp, err := http.ReadResponse(w.in, nil)
				if err != nil {
					t.Fatalf("round %d: reading the answer: %v", i, err)
				}
				wantError(t, resp, proxy.BadBody)
				w.Close()
			}
			for _, ex := range d.exchanges(t, times) {
				want := proxy.Completed
				if c.end {
					want = proxy.ClientClosed
				}
				same(t, "outcome", ex.Outcome, want)
				same(t, "error", ex.Error, proxy.BadBody)
			}
			same(t, "whole bodies upstream", whole.Load(), 0)
			same(t, "bytes held", d.proxy.ReplayBytes(), 0)
		})
	}
}

// lateBody is a body whose failing read returns late: the context that
// net/http cancels for the same reason is always first.
type lateBody struct {
	io.ReadCloser
	ctx context.Context
}

func (b lateBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		<-b.ctx.Done()
		time.Sleep(20 * time.Millisecond) // no wait for anything: it widens the race
	}
	return n, err
}

func TestFaultBadBodyAfterCancellation(t *testing.T) {
	// Over HTTP/2, RoundTrip does not wait for the reader.
	u, tr := upstreamTLS(t, true, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	d := start(t, proxy.Options{Upstream: u, Transport: tr, BodyIdle: 50 * time.Millisecond}, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Body = lateBody{r.Body, r.Context()}
			h.ServeHTTP(w, r)
		})
	})
	for i, outcome := range []proxy.Outcome{proxy.Completed, proxy.ClientClosed} {
		w := d.dial(t)
		w.send(t, "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
		if outcome == proxy.ClientClosed {
			_ = w.Conn.(*net.TCPConn).CloseWrite()
		}
		resp, _ := w.answer(t, "POST")
		wantError(t, resp, proxy.BadBody)
		same(t, "outcome", d.exchanges(t, i+1)[i].Outcome, outcome)
	}
}

// An answer that comes before the body's end neither waits for the client nor
// lets net/http take what upstream is still being sent.
func TestFaultEarlyAnswer(t *testing.T) {
	const first, rest = 3, 1 << 20
	got := make(chan string, 1)
	u := listen(t, func(_ int, w *wire) {
		w.head()
		w.send(t, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nearly\r\n")
		body, err := w.body(head{fields: []string{"Transfer-Encoding: chunked"}})
		got <- fmt.Sprint(len(body), " bytes, ", err)
		w.send(t, "4\r\nlate\r\n0\r\n\r\n")
	})
	d := start(t, proxy.Options{Upstream: u, ReplayBuffer: 1000})
	w := d.dial(t)
	w.send(t, "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
	resp, err := http.ReadResponse(w.in, nil) // before the client sends any more
	if err != nil {
		t.Fatal(err)
	}
	same(t, "status", resp.StatusCode, 200)
	same(t, "closes", resp.Close, true)
	early := make([]byte, 5)
	if _, err := io.ReadFull(resp.Body, early); err != nil {
		t.Fatal(err)
	}
	w.send(t, fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", rest, strings.Repeat("x", rest)))
	late, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "answer", string(early)+string(late), "earlylate")
	same(t, "body upstream", <-got, fmt.Sprint(first+rest, " bytes, ", nil))
}

// Many clients read nothing before they have sent all: they must not meet a
// reset where there is an answer for them.
func TestFaultEarlyAnswerToClientThatSendsAll(t *testing.T) {
	const size = 8 << 20 // net/http by itself takes 256 KiB
	u := listen(t, func(_ int, w *wire) {
		w.head()
		w.send(t, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 7\r\nConnection: close\r\n\r\ntoo big")
	})
	d := start(t, proxy.Options{Upstream: u, Methods: []string{"POST"}})
	for name, c := range map[string]struct {
		host string
		want int
	}{
		"upstream's":    {"localhost", 413},
		"bearerd's own": {"evil.example", 421},
	} {
		t.Run(name, func(t *testing.T) {
			w := d.dial(t)
			// In one piece: while a busy machine makes the body, a client that has begun
			// would be silent.
			w.send(t, fmt.Sprintf("POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n%s", c.host, size, strings.Repeat("x", size)))
			resp, _ := w.answer(t, "POST")
			same(t, "status", resp.StatusCode, c.want)
			same(t, "closes", resp.Close, true)
		})
	}
}

// … but not for ever.
func TestFaultEarlyAnswerToClientThatSendsOn(t *testing.T) {
	t.Parallel()
	d := start(t, proxy.Options{Upstream: listen(t, new(recorder).serve), Methods: []string{"GET"}})
	w := d.dial(t)
	w.send(t, "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
	sent := make(chan error, 1)
	go func() {
		for {
			if _, err := io.WriteString(w, "1\r\nx\r\n"); err != nil {
				sent <- err
				return
			}
		}
	}()
	resp, _ := w.answer(t, "POST")
	wantError(t, resp, proxy.MethodNotAllowed)
	if err := <-sent; errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("bearerd goes on reading")
	}
}

// A refusal waits for no body either. The client then has two seconds to end it,
// so that no reset overtakes the answer, and can hold the connection no longer.
// With much of it left, or nobody knows how much, half a second of silence ends it.
func TestFaultRefusedWithUnsentBody(t *testing.T) {
	t.Parallel()
	var up recorder
	src := &source{err: &proxy.Error{Code: proxy.LoginRejected}}
	d := start(t, proxy.Options{Upstream: listen(t, up.serve), Source: src, Methods: []string{"POST"}, BodyIdle: 50 * time.Millisecond})
	t.Run("each", func(t *testing.T) { // which ends when all of them have
		for _, c := range []struct {
			head string
			code proxy.Code
		}{
			{"POST / HTTP/1.1\r\nHost: evil.example\r\n", proxy.HostNotAllowed},
			{"PUT / HTTP/1.1\r\nHost: localhost\r\n", proxy.MethodNotAllowed},
			{"POST / HTTP/1.1\r\nHost: localhost\r\n", proxy.LoginRejected},
		} {
			for body, least := range map[string]time.Duration{
				"Content-Length: 10\r\n\r\nabc":                  2 * time.Second,
				"Content-Length: 100000\r\n\r\nabc":              2 * time.Second,
				"Content-Length: 1000000\r\n\r\nabc":             500 * time.Millisecond,
				"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n": 500 * time.Millisecond,
			} {
				if c.code == proxy.LoginRejected && strings.Contains(body, ": 10\r") {
					continue // would be held first, with ReplayBuffer set
				}
				t.Run(string(c.code), func(t *testing.T) {
					t.Parallel()
					w := d.dial(t)
					began := time.Now()
					w.send(t, c.head+body)
					resp, _ := w.answer(t, "POST")
					wantError(t, resp, c.code)
					same(t, "closes", resp.Close, true)
					if _, err := io.Copy(io.Discard, w.in); err != nil {
						t.Errorf("got %v, want the connection's end", err)
					}
					if took := time.Since(began); took < least {
						t.Errorf("the connection ended after %v, want %v for the rest of the body", took, least)
					}
				})
			}
		}
	})
	same(t, "requests upstream", len(up.all()), 0)
}

// The patience for a body ends with it: the answer may take longer.
func TestFaultAnswerSlowerThanBodyIdle(t *testing.T) {
	t.Parallel()
	const idle = 250 * time.Millisecond
	u := upstream(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-r.Context().Done():
		case <-time.After(2 * idle):
		}
	})
	d := start(t, proxy.Options{Upstream: u, ReplayBuffer: 10, BodyIdle: idle})
	for _, body := range []string{
		"Content-Length: 3\r\n\r\nabc", "Content-Length: 20\r\n\r\n" + text(20), "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
	} {
		w := d.dial(t)
		w.send(t, "POST / HTTP/1.1\r\nHost: localhost\r\n"+body)
		resp, _ := w.answer(t, "POST")
		same(t, "status", resp.StatusCode, 200)
	}
}

// An upload's answer is waited for from its end: a slow client is no slow
// upstream.
func TestFaultSlowUploadIsNoTimeout(t *testing.T) {
	t.Parallel()
	var up recorder
	const timeout = 3 * time.Second
	d := start(t, proxy.Options{Upstream: listen(t, up.serve), ResponseHeaderTimeout: timeout})
	w := d.dial(t)
	w.send(t, "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
	tick := time.NewTicker(timeout / 8)
	defer tick.Stop()
	for range 16 {
		<-tick.C
		w.send(t, "1\r\nx\r\n")
	}
	w.send(t, "0\r\n\r\n")
	resp, _ := w.answer(t, "POST")
	same(t, "status", resp.StatusCode, 200)
	same(t, "body", strings.Join(up.bodies(), ","), strings.Repeat("x", 16))
}
