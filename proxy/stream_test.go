package proxy_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/bearerd/bearerd/proxy"
)

// Each event must arrive before upstream sends the next: the test lets it.
func TestStreamFlushedEventByEvent(t *testing.T) {
	for name, c := range map[string]struct{ head, event, last string }{
		"SSE":                    {"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n", "9\r\ndata: %d\n\n\r\n", "0\r\n\r\n"},
		"NDJSON":                 {"Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n", "8\r\n{\"n\":%d}\n\r\n", "0\r\n\r\n"},
		"NDJSON, Content-Length": {"Content-Type: application/x-ndjson\r\nContent-Length: 32\r\n\r\n", "{\"n\":%d}\n", ""},
		"until close":            {"Connection: close\r\n\r\n", "%d\n", ""},
		"large Content-Length":   {"Content-Length: 40000\r\n\r\n", "%d\n", strings.Repeat("x", 40000-8)},
	} {
		t.Run(name, func(t *testing.T) {
			next := make(chan struct{})
			u := listen(t, func(_ int, w *wire) {
				w.head()
				w.send(t, "HTTP/1.1 200 OK\r\n"+c.head)
				for i := range 4 {
					<-next
					w.send(t, fmt.Sprintf(c.event, i))
				}
				if c.last != "" { // else the client has it all, and may have left
					w.send(t, c.last)
				}
			})
			d := start(t, proxy.Options{Upstream: u})
			w := d.dial(t)
			w.send(t, "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
			if strings.Contains(c.head, "Content-Length: 32\r\n") {
				next <- struct{}{} // the header of a small answer may wait for its first byte
			}
			resp, err := http.ReadResponse(w.in, nil) // else it waits for none
			if err != nil {
				t.Fatal(err)
			}
			same(t, "status", resp.StatusCode, 200)
			in := bufio.NewReader(resp.Body)
			for i := range 4 {
				if i > 0 || !strings.Contains(c.head, "Content-Length: 32\r\n") {
					next <- struct{}{}
				}
				for {
					line, err := in.ReadString('\n')
					if err != nil {
						t.Fatalf("event %d: %v", i, err)
					}
					if strings.Contains(line, fmt.Sprint(i)) {
						break
					}
				}
			}
			if _, err := io.Copy(io.Discard, in); err != nil {
				t.Errorf("end of the stream: %v", err)
			}
			same(t, "outcome", d.one(t).Outcome, proxy.Completed)
		})
	}
}

// A long answer is not held back, nor is it kept in memory whole.
func TestStreamLargeAnswer(t *testing.T) {
	const size = 8 << 20
	u := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		chunk := []byte(strings.Repeat("x", 64<<10))
		for range size / len(chunk) {
			if _, err := w.Write(chunk); err != nil {
				t.Errorf("writing: %v", err)
			}
		}
	})
	d := start(t, proxy.Options{Upstream: u})
	_, body := fetch(t, "GET", d.URL+"/", nil)
	same(t, "length", len(body), size)
	same(t, "BytesOut", d.one(t).BytesOut, size)
}

// gzip is passed on as it is, asked for or not.
func TestStreamNotUnpacked(t *testing.T) {
	up := &recorder{reply: "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\n\x1f\x8b\x08xx"}
	d := start(t, proxy.Options{Upstream: listen(t, up.serve)})
	resp, body := d.get(t, "/")
	same(t, "Content-Encoding", resp.Header.Get("Content-Encoding"), "gzip")
	same(t, "body", body, "\x1f\x8b\x08xx")
	if got := up.last(t).values("Accept-Encoding"); got != nil {
		t.Errorf("got Accept-Encoding %q, want none", got)
	}
}

// echo is a raw upstream that switches protocols and says back each line. It
// closes gone when its connection ends.
func echo(t testing.TB, gone chan struct{}) *url.URL {
	return listen(t, func(_ int, c *wire) {
		h, _ := c.head()
		if got := strings.Join(h.values("Authorization"), ","); got != bearer(1) {
			t.Errorf("Authorization of an upgrade: got %q, want %q", got, bearer(1))
		}
		c.send(t, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+h.values("Upgrade")[0]+"\r\nSet-Cookie: a=b\r\nX-Up: 1\r\n\r\n")
		for {
			line, err := c.in.ReadString('\n')
			if err != nil {
				close(gone)
				return
			}
			if _, err := io.WriteString(c, "echo "+line); err != nil {
				close(gone)
				return
			}
		}
	})
}

func TestUpgrade(t *testing.T) {
	gone := make(chan struct{})
	base, stop := context.WithCancel(context.Background())
	defer stop()
	ended := make(chan proxy.Exchange, 1)
	h := proxy.New(proxy.Options{
		Upstream: echo(t, gone), Source: &source{}, AllowUpgrade: true,
		Done: func(ex *proxy.Exchange) { ended <- *ex },
	})
	s := httptest.NewUnstartedServer(h)
	s.Config.BaseContext = func(net.Listener) context.Context { return base }
	s.Start()
	defer s.Close()
	d := &daemon{addr: s.Listener.Addr().String()}

	w := d.dial(t)
	w.send(t, "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n")
	got, _ := w.head()
	same(t, "first line", got.line, "HTTP/1.1 101 Switching Protocols")
	same(t, "Upgrade", strings.Join(got.values("Upgrade"), ","), "websocket")
	same(t, "X-Up", strings.Join(got.values("X-Up"), ","), "1")
	same(t, "Set-Cookie", strings.Join(got.values("Set-Cookie"), ","), "")
	same(t, "in flight", h.InFlight(), 1)
	for _, line := range []string{"one", "two"} {
		w.send(t, line+"\n")
		back, err := w.in.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		same(t, "echo", back, "echo "+line+"\n")
	}

	// Shutdown knows nothing of an upgraded connection: its context ends it.
	stop()
	within(t, "upstream's end", time.Second, gone)
	if b, err := io.ReadAll(w.in); len(b) > 0 {
		t.Errorf("after the end: got %q, %v", b, err)
	}
	select {
	case ex := <-ended:
		same(t, "status", ex.Status, 101)
		same(t, "outcome", ex.Outcome, proxy.Completed)
	case <-time.After(patience):
		t.Fatal("the request did not end")
	}
	same(t, "in flight", h.InFlight(), 0)
}

// Only HTTP/1.1 has upgrades: no kind of them may go by HTTP/2, which upstream
// speaks too.
func TestUpgradeBesideHTTP2(t *testing.T) {
	u, tr := upstreamTLS(t, true, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			_, _ = io.WriteString(w, r.Proto)
			return
		}
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Errorf("%s by %s: %v", r.Header.Get("Upgrade"), r.Proto, err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+r.Header.Get("Upgrade")+"\r\n\r\nhi\n")
	})
	d := start(t, proxy.Options{Upstream: u, Transport: tr, AllowUpgrade: true})
	_, body := d.get(t, "/")
	same(t, "protocol of other requests", body, "HTTP/2.0")
	for _, kind := range []string{"websocket", "SPDY/3.1"} {
		w := d.dial(t)
		w.send(t, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: "+kind+"\r\n\r\n")
		got, _ := w.head()
		same(t, kind, got.line, "HTTP/1.1 101 Switching Protocols")
		said, _ := io.ReadAll(w.in)
		same(t, "first words of "+kind, string(said), "hi\n")
	}
}

func TestUpgradeNotAllowed(t *testing.T) {
	var up recorder
	d := start(t, proxy.Options{Upstream: listen(t, up.serve)})
	for _, fields := range [][]string{
		{"Connection: Upgrade", "Upgrade: websocket"},
		{"Connection: keep-alive, upgrade", "Upgrade: WebSocket"},
		{"Connection: Upgrade", "Upgrade: h2c, websocket"},
		{"Connection: Upgrade", "Upgrade: h2c", "Upgrade: foo/1"},
	} {
		resp, _ := d.get(t, "/", fields...)
		wantError(t, resp, proxy.UpgradeNotAllowed)
	}
	same(t, "requests upstream", len(up.all()), 0)
}

// An offer of cleartext HTTP/2 is never made upstream: the connection would
// be a tunnel past every rule here. RFC 9113, 3.1 lets it be ignored.
func TestThreatH2CSmuggling(t *testing.T) {
	var up recorder
	u := listen(t, up.serve)
	for _, allow := range []bool{false, true} {
		d := start(t, proxy.Options{Upstream: u, AllowUpgrade: allow})
		for _, fields := range [][]string{
			{"Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"},
			{"Connection: Upgrade", "Upgrade: H2C", "HTTP2-Settings: AAMA"},
			{"Upgrade: h2c", "HTTP2-Settings: AAMA"},
			{"Connection: Upgrade", "Upgrade: h2c,  h2c", "Upgrade: h2c"},
		} {
			resp, _ := d.get(t, "/", fields...)
			same(t, "status", resp.StatusCode, 200)
			wantFields(t, up.last(t), u.Host)
		}
	}
	d := start(t, proxy.Options{Upstream: u, AllowUpgrade: true})
	for _, fields := range [][]string{
		{"Connection: Upgrade, HTTP2-Settings", "Upgrade: websocket, h2c", "HTTP2-Settings: AAMA"},
		{"Connection: Upgrade", "Upgrade: h2c", "Upgrade: websocket", "HTTP2-Settings: AAMA"},
	} {
		resp, _ := d.get(t, "/", fields...)
		same(t, "status", resp.StatusCode, 200)
		wantFields(t, up.last(t), u.Host, "Connection: Upgrade", "Upgrade: websocket")
	}
}

// A 101 that nobody asked for would make a tunnel of the connection.
func TestUpgradeUnasked(t *testing.T) {
	for _, allow := range []bool{false, true} {
		for _, reply := range []string{
			"HTTP/1.1 101 Switching Protocols\r\n\r\n",
			"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\n",
			"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: \r\n\r\n",
			"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
			"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
		} {
			up := &recorder{reply: reply}
			d := start(t, proxy.Options{Upstream: listen(t, up.serve), AllowUpgrade: allow})
			resp, _ := d.get(t, "/")
			if resp.StatusCode != 502 {
				t.Errorf("reply %q: got %d, want 502", reply, resp.StatusCode)
				continue
			}
			wantError(t, resp, proxy.UpstreamUnreachable)
		}
	}
	// To another protocol than the one that was asked for.
	up := &recorder{reply: "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"}
	d := start(t, proxy.Options{Upstream: listen(t, up.serve), AllowUpgrade: true})
	resp, _ := d.get(t, "/", "Connection: Upgrade", "Upgrade: websocket")
	wantError(t, resp, proxy.UpstreamUnreachable)
}

// An upgrade that upstream answers with 401 is asked for once more.
func TestUpgradeReplayed(t *testing.T) {
	var g gate
	g.revokeBelow(2)
	n := 0
	u := listen(t, func(_ int, c *wire) {
		for {
			h, more := c.head()
			if !more {
				return
			}
			n++
			if !g.passes(h.values("Authorization")) {
				c.send(t, "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
				continue
			}
			c.send(t, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+h.values("Upgrade")[0]+"\r\n\r\nhello\n")
			_, _ = c.in.ReadString('\n')
			return
		}
	})
	d := start(t, proxy.Options{Upstream: u, AllowUpgrade: true})
	w := d.dial(t)
	w.send(t, "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	h, _ := w.head()
	same(t, "first line", h.line, "HTTP/1.1 101 Switching Protocols")
	line, _ := w.in.ReadString('\n')
	same(t, "line", line, "hello\n")
	w.Close()
	same(t, "unauthorized", d.one(t).Unauthorized, proxy.Replayed)
	same(t, "attempts", n, 2)
}
