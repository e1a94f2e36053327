package proxy_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bearerd/bearerd/proxy"
)

// A raw upstream that refuses the first token and keeps the connection alive
// with the body unread, which the replay announces too, as Go's own server never does: the trap of
// net/http/transport.go, readResponse.
func TestReplayAnnouncedRefusedUnread(t *testing.T) {
	const size = 300 << 10
	want := text(size)
	var mu sync.Mutex
	var seen []string
	after := make(chan string, 8) // what followed a refused head
	u := listen(t, func(_ int, c *wire) {
		for {
			h, more := c.head()
			if !more {
				return
			}
			mu.Lock()
			seen = append(seen, fmt.Sprint(h.values("Authorization"), h.values("Expect"), h.values("Content-Length"), h.values("Connection")))
			mu.Unlock()
			if h.values("Authorization")[0] == bearer(1) {
				c.send(t, unauthorized)
				left, _ := io.ReadAll(c.in)
				after <- fmt.Sprint(len(left), " bytes")
				return
			}
			c.send(t, "HTTP/1.1 100 Continue\r\n\r\n")
			body, err := c.body(h)
			if err != nil || body != want {
				t.Errorf("got a body of %d bytes, %v; want %d", len(body), err, len(want))
			}
			c.send(t, ok)
		}
	})
	src := &source{}
	d := start(t, proxy.Options{Upstream: u, Source: src, ReplayBuffer: 1000})
	resp, _ := fetch(t, "POST", d.URL+"/", strings.NewReader(want))
	same(t, "status", resp.StatusCode, 200)
	same(t, "after the refused head", <-after, "0 bytes")
	mu.Lock()
	defer mu.Unlock()
	same(t, "attempts", strings.Join(seen, " | "),
		fmt.Sprintf("[%s] [100-continue] [%d] [close] | [%s] [100-continue] [%d] [close]", bearer(1), size, bearer(2), size))
	same(t, "unauthorized", d.one(t).Unauthorized, proxy.Replayed)
}

// One that knows nothing of Expect gets the body after a second.
func TestReplayAnnouncedNever100(t *testing.T) {
	t.Parallel()
	const size = 100 << 10
	want := text(size)
	waited := make(chan time.Duration, 1)
	begin := time.Now()
	u := listen(t, func(_ int, c *wire) {
		h, _ := c.head()
		if _, err := c.in.Peek(1); err != nil {
			t.Errorf("waiting for the body: %v", err)
		}
		waited <- time.Since(begin)
		body, err := c.body(h)
		if err != nil || body != want {
			t.Errorf("got a body of %d bytes, %v; want %d", len(body), err, size)
		}
		c.send(t, ok)
	})
	d := start(t, proxy.Options{Upstream: u, ReplayBuffer: 1000})
	resp, _ := fetch(t, "POST", d.URL+"/", strings.NewReader(want))
	same(t, "status", resp.StatusCode, 200)
	if w := <-waited; w < time.Second || w > 10*time.Second {
		t.Errorf("the body came after %v, want 1s", w)
	}
}

// A 417 is the client's to see; it may send without Expect.
func TestReplayAnnounced417(t *testing.T) {
	u := listen(t, func(_ int, c *wire) {
		h, _ := c.head()
		same(t, "Expect", strings.Join(h.values("Expect"), ","), "100-continue")
		c.send(t, "HTTP/1.1 417 Expectation Failed\r\nX-Up: 1\r\nContent-Length: 2\r\n\r\nno")
		_, _ = io.Copy(io.Discard, c.in)
	})
	src := &source{}
	d := start(t, proxy.Options{Upstream: u, Source: src})
	w := d.dial(t)
	w.send(t, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n"+text(100))
	resp, body := w.answer(t, "POST")
	same(t, "status", resp.StatusCode, 417)
	same(t, "body", body, "no")
	same(t, "X-Up", resp.Header.Get("X-Up"), "1")
	same(t, "logins", src.loginCount(), 0)
}

// An inbound Expect is answered here, and the body asked for only when
// upstream wants it.
func TestExpectAnsweredHere(t *testing.T) {
	for _, size := range []int{3, 2000} { // held, announced
		var up recorder
		u := listen(t, func(n int, c *wire) {
			h, _ := c.head()
			wantExpect := ""
			if size > 1000 {
				wantExpect = "100-continue"
				c.send(t, "HTTP/1.1 100 Continue\r\n\r\n")
			}
			same(t, "Expect upstream", strings.Join(h.values("Expect"), ","), wantExpect)
			_, _ = c.body(h)
			c.send(t, ok)
			up.serve(n, c)
		})
		d := start(t, proxy.Options{Upstream: u, ReplayBuffer: 1000})
		w := d.dial(t)
		w.send(t, fmt.Sprintf("POST / HTTP/1.1\r\nHost: localhost\r\n%s\r\nContent-Length: %d\r\n\r\n", announcedField, size))
		h, _ := w.head()
		same(t, "first line", h.line, "HTTP/1.1 100 Continue")
		w.send(t, text(size))
		resp, _ := w.answer(t, "POST")
		same(t, "status", resp.StatusCode, 200)
	}
}

// Where upstream refuses, such a client never sends its body in vain.
func TestExpectRefusedBeforeBody(t *testing.T) {
	u := listen(t, func(_ int, c *wire) {
		c.head()
		c.send(t, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
		_, _ = io.Copy(io.Discard, c.in)
	})
	d := start(t, proxy.Options{Upstream: u})
	w := d.dial(t)
	w.send(t, "POST / HTTP/1.1\r\nHost: localhost\r\n"+announcedField+"\r\nContent-Length: 5000000\r\n\r\n")
	h, _ := w.head()
	same(t, "first line", h.line, "HTTP/1.1 403 Forbidden")
	same(t, "bytes in", d.one(t).BytesIn, 0)
}

// All that is held comes out of one reserve. What it cannot give is announced
// instead, and the reserve is whole again afterwards.
func TestReplayTotal(t *testing.T) {
	const each, total, n = 1000, 3500, 5
	arrived := make(chan string, n)
	release := make(chan struct{})
	u := listen(t, func(_ int, c *wire) {
		for {
			h, more := c.head()
			if !more {
				return
			}
			if h.values("Expect") != nil {
				c.send(t, "HTTP/1.1 100 Continue\r\n\r\n")
			}
			_, _ = c.body(h)
			arrived <- strings.Join(h.values("Expect"), ",")
			<-release
			c.send(t, ok)
		}
	})
	d := start(t, proxy.Options{Upstream: u, ReplayBuffer: each, ReplayTotal: total})
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			resp, _ := fetch(t, "POST", d.URL+"/", strings.NewReader(text(each)))
			same(t, "status", resp.StatusCode, 200)
		})
	}
	announced := 0
	for range n {
		select {
		case expect := <-arrived:
			if expect != "" {
				announced++
			}
		case <-time.After(patience):
			t.Fatal("a request did not arrive upstream")
		}
	}
	same(t, "announced", announced, n-total/each)
	same(t, "bytes held", d.proxy.ReplayBytes(), total/each*each)
	close(release)
	wg.Wait()
	d.exchanges(t, n)
	same(t, "bytes held at the end", d.proxy.ReplayBytes(), 0)
}

// A chunked body reserves as it grows, and gives all back when it spills.
func TestReplayTotalChunked(t *testing.T) {
	arrived, more := make(chan int), make(chan struct{})
	u := listen(t, func(_ int, c *wire) {
		c.head()
		n := 0
		for {
			line, err := c.in.ReadString('\n')
			if err != nil {
				return
			}
			var size int
			if _, err := fmt.Sscanf(line, "%x", &size); err != nil || size == 0 {
				break
			}
			if _, err := c.in.Discard(size + 2); err != nil {
				return
			}
			n += size
			arrived <- n
		}
		_, _ = c.head()
		c.send(t, ok)
		<-more
	})
	d := start(t, proxy.Options{Upstream: u, ReplayBuffer: 10_000, ReplayTotal: 20_000})
	w := d.dial(t)
	w.send(t, "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
	sent := 0
	for _, c := range []struct {
		size int
		held int64
	}{{1000, 4096}, {3000, 4096}, {2000, 8192}, {4000, 10_000}, {1, 0}, {5000, 0}} {
		w.send(t, fmt.Sprintf("%x\r\n%s\r\n", c.size, text(c.size)))
		sent += c.size
		for n := 0; n < sent; { // it may come in pieces
			select {
			case n = <-arrived:
			case <-time.After(patience):
				t.Fatal("the body did not arrive")
			}
		}
		same(t, fmt.Sprint("bytes held after ", c.size, " more"), d.proxy.ReplayBytes(), c.held)
	}
	w.send(t, "0\r\n\r\n")
	resp, _ := w.answer(t, "POST")
	same(t, "status", resp.StatusCode, 200)
	d.one(t)
	same(t, "bytes held at the end", d.proxy.ReplayBytes(), 0)
	close(more)
}

// Nothing stays reserved, however a request ends.
func TestReplayReserveGivenBack(t *testing.T) {
	arrived := make(chan struct{}, 1)
	u := listen(t, func(_ int, c *wire) {
		h, _ := c.head()
		if strings.Contains(h.line, "/die") {
			return
		}
		arrived <- struct{}{}
		_, _ = io.Copy(io.Discard, c.in)
	})
	d := start(t, proxy.Options{Upstream: u, ReplayBuffer: 10_000})
	n := 0
	for _, body := range []string{"Content-Length: 3\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"} {
		w := d.dial(t)
		w.send(t, "POST /hang HTTP/1.1\r\nHost: localhost\r\n"+body)
		within(t, "upstream's request", patience, arrived)
		w.Close()
		n++
		d.exchanges(t, n)
		same(t, "bytes held after the client left", d.proxy.ReplayBytes(), 0)

		w = d.dial(t)
		w.send(t, "POST /die HTTP/1.1\r\nHost: localhost\r\n"+body)
		if strings.HasSuffix(body, "3\r\nabc\r\n") {
			w.send(t, "0\r\n\r\n")
		}
		resp, _ := w.answer(t, "POST")
		wantError(t, resp, proxy.UpstreamUnreachable)
		n++
		d.exchanges(t, n)
		same(t, "bytes held after upstream died", d.proxy.ReplayBytes(), 0)
	}
	// And when the client never sends what it announced.
	w := d.dial(t)
	w.send(t, "POST /hang HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n\r\nabc")
	_ = w.Conn.(*net.TCPConn).CloseWrite()
	resp, _ := w.answer(t, "POST")
	wantError(t, resp, proxy.BadBody)
	d.exchanges(t, n+1)
	same(t, "bytes held after half a body", d.proxy.ReplayBytes(), 0)
}

// A client trickles its body while the 401 comes, at any moment: the body is
// whole upstream, or the client is told that it was not sent again.
func TestReplayTrickledBody(t *testing.T) {
	t.Parallel()
	const handlers, rounds, pieces = 50, 3, 40
	for _, c := range []struct {
		name   string
		buffer int64
		known  bool
		h2     bool
	}{
		{"chunked, fits", 1 << 20, false, false},
		{"chunked, may spill", 600, false, false},
		{"announced", 0, true, false},
		{"chunked, fits, HTTP/2", 1 << 20, false, true},
		{"chunked, may spill, HTTP/2", 600, false, true},
		{"announced, HTTP/2", 0, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			piece := text(53)
			want := strings.Repeat(piece, pieces)
			var g gate
			handler := func(w http.ResponseWriter, r *http.Request) {
				if !g.passes(r.Header["Authorization"]) {
					// Refused somewhere inside the body.
					n := rand.IntN(len(want))
					_, _ = io.CopyN(io.Discard, r.Body, int64(n))
					w.WriteHeader(401)
					return
				}
				body, err := io.ReadAll(r.Body)
				if err != nil || string(body) != want {
					t.Errorf("got a body of %d bytes, %v; want %d", len(body), err, len(want))
				}
			}
			u, tr := upstreamTLS(t, c.h2, handler)
			// Upstream's server waits half a second for who sends a body that it does not
			// want: on a busy machine the answer would be lost with the connection.
			tr.ExpectContinueTimeout = patience
			for range handlers { // a budget each
				g.revokeBelow(0)
				src := &source{}
				d := start(t, proxy.Options{Upstream: u, Transport: tr, Source: src, ReplayBuffer: c.buffer})
				replayed, retried := 0, 0
				for i := range rounds {
					g.revokeBelow(uint64(src.loginCount()) + 2)
					pr, pw := io.Pipe()
					go func() {
						for range pieces {
							if _, err := io.WriteString(pw, piece); err != nil {
								return
							}
						}
						pw.Close()
					}()
					ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
					req, _ := http.NewRequestWithContext(ctx, "POST", d.URL+"/p", pr)
					if c.known {
						req.ContentLength = int64(len(want))
					}
					resp, err := http.DefaultTransport.RoundTrip(req)
					if err != nil {
						t.Fatalf("round %d: %v; %+v", i, err, d.exchanges(t, i+1+retried)[i+retried])
					}
					answer, _ := io.ReadAll(resp.Body)
					resp.Body.Close()
					pr.Close()
					cancel()
					switch resp.StatusCode {
					case 200:
						replayed++
					case 401:
						same(t, "Proxy-Status", resp.Header.Get("Proxy-Status"), notReplayed)
						retry, _ := fetch(t, "POST", d.URL+"/p", strings.NewReader(want))
						same(t, "status of the retry", retry.StatusCode, 200)
						retried++
					default:
						t.Errorf("round %d: got %d %.300s, want 200 or 401; %+v", i, resp.StatusCode, answer, d.exchanges(t, i+1+retried)[i+retried])
					}
					same(t, "logins", src.loginCount(), i+1)
				}
				d.exchanges(t, rounds+retried)
				same(t, "rounds", replayed+retried, rounds)
				same(t, "bytes held", d.proxy.ReplayBytes(), 0)
				if c.buffer == 1<<20 && replayed != rounds {
					t.Errorf("got %d of %d replayed, want all", replayed, rounds)
				}
			}
		})
	}
}

// What the first attempt was still reading when the second took over is kept,
// however large it is: the second needs it.
func TestReplayKeepsAReadUnderWay(t *testing.T) {
	const first = "abc"
	rest := text(20)
	again := make(chan struct{})
	u := listen(t, func(_ int, c *wire) {
		h, _ := c.head()
		if h.values("Authorization")[0] == bearer(1) {
			_, _ = c.in.Discard(len("3\r\nabc\r\n")) // then it reads on, and the client sends nothing
			c.send(t, unauthorized)
			_, _ = io.Copy(io.Discard, c.in)
			return
		}
		close(again)
		if body, err := c.body(h); err != nil || body != first+rest {
			t.Errorf("got %q, %v; want %q", body, err, first+rest)
		}
		c.send(t, ok)
	})
	d := start(t, proxy.Options{Upstream: u, ReplayBuffer: 10})
	w := d.dial(t)
	w.send(t, "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
	within(t, "the second attempt", patience, again)
	w.send(t, fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(rest), rest))
	resp, _ := w.answer(t, "POST")
	same(t, "status", resp.StatusCode, 200)
	same(t, "bytes held", d.proxy.ReplayBytes(), 0)
}

// Many large uploads at once: memory is bounded by the reserve, and all
// bodies are whole.
func TestFaultManyLargeUploads(t *testing.T) {
	const n, size, total = 200, 256 << 10, 1 << 20
	want := text(size)
	var g gate
	var d *daemon
	var highest atomic.Int64
	check := protected(t, &g, want)
	u := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		for held := d.proxy.ReplayBytes(); ; {
			h := highest.Load()
			if held <= h || highest.CompareAndSwap(h, held) {
				break
			}
		}
		check(w, r)
	})
	d = start(t, proxy.Options{Upstream: u, ReplayBuffer: size, ReplayTotal: total})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			var body io.Reader = bytes.NewReader([]byte(want))
			if i%2 == 0 {
				body = unsized{body}
			}
			resp, got := fetch(t, "POST", d.URL+"/", body)
			same(t, "status", resp.StatusCode, 200)
			same(t, "answer", got, fmt.Sprint(size))
		})
	}
	wg.Wait()
	d.exchanges(t, n)
	if h := highest.Load(); h == 0 || h > total+size {
		t.Errorf("got %d bytes held at most, want some and no more than %d", h, total)
	}
	same(t, "bytes held at the end", d.proxy.ReplayBytes(), 0)
}

// An upstream that does not know Expect may answer in the middle of a body that
// had to be sent, and be gone: its 401 is the client's all the same, however the
// writing of the rest fails.
func TestRefusedInTheMiddleOfAnAnnouncedBody(t *testing.T) {
	t.Parallel()
	u := listen(t, func(_ int, c *wire) {
		c.head()
		_, _ = io.CopyN(io.Discard, c.in, 100<<10) // it waits a second for a 100 before
		c.send(t, "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		if tcp, ok := c.Conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // what is unread becomes a reset
		}
	})
	d := start(t, proxy.Options{Upstream: u, ReplayBuffer: 1 << 10})
	const uploads = 40
	var wg sync.WaitGroup
	for range uploads {
		wg.Go(func() {
			resp, _ := fetch(t, "POST", d.URL+"/p", strings.NewReader(strings.Repeat("x", 8<<20)))
			same(t, "status", resp.StatusCode, 401)
		})
	}
	wg.Wait()
	for _, ex := range d.exchanges(t, uploads) {
		same(t, "code", ex.Error, "")
	}
}
