//go:build !race

// The race detector would be measured.

package proxy_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"runtime"
	"testing"

	"github.com/bearerd/bearerd/proxy"
)

// A small request costs so many allocations, from the client's bytes to the
// client's. A change that adds some has to say what for.
func TestCostOfARequest(t *testing.T) {
	const most = 95
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	go func() { // allocates nothing for a request
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\nContent-Length: 2\r\n\r\nok")
		in := make([]byte, 4096)
		for {
			if _, err := conn.Read(in); err != nil {
				return
			}
			if _, err := conn.Write(answer); err != nil {
				return
			}
		}
	}()
	d := start(t, proxy.Options{Upstream: parse(t, "http://"+l.Addr().String()), Source: new(source)})
	conn, err := net.Dial("tcp", d.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	request, answer := []byte("GET /a/b?c=d HTTP/1.1\r\nHost: localhost\r\nUser-Agent: curl/8\r\nAccept: */*\r\n\r\n"), make([]byte, 4096)
	ask := func() {
		if _, err := conn.Write(request); err != nil {
			t.Fatal(err)
		}
		n, err := conn.Read(answer)
		if err != nil || !bytes.HasPrefix(answer[:n], []byte("HTTP/1.1 200")) {
			t.Fatalf("got %q %v", answer[:n], err)
		}
	}
	for range 100 {
		ask()
	}
	if got := testing.AllocsPerRun(500, ask); got > most {
		t.Errorf("got %.0f allocations, want at most %d", got, most)
	} else {
		t.Logf("%.0f allocations", got)
	}
}

// waiter is a source that has no token until it is told.
type waiter struct {
	*source
	waits chan struct{} // one for each request that waits
	token chan struct{}
}

func (w waiter) Token(ctx context.Context) (proxy.Token, error) {
	w.waits <- struct{}{}
	<-w.token
	return w.source.Token(ctx)
}

// Thousands may wait for a token: what each holds meanwhile is bounded.
func TestCostOfAWaitingRequest(t *testing.T) {
	const (
		requests   = 1000
		goroutines = 2        // net/http's server has one that serves, and one that sees the client leave
		most       = 32 << 10 // bytes; it is 19 KiB, and more where stacks have not shrunk yet
	)
	u := upstream(t, func(http.ResponseWriter, *http.Request) {})
	w := waiter{new(source), make(chan struct{}, requests), make(chan struct{})}
	d := start(t, proxy.Options{Upstream: u, Source: w})
	used := func() (bytes, n int) {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc + m.StackInuse), runtime.NumGoroutine()
	}
	before, n := used()
	conns := make([]net.Conn, requests)
	for i := range conns {
		conn, err := net.Dial("tcp", d.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: curl/8\r\nAccept: */*\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		conns[i] = conn
	}
	for range requests {
		<-w.waits
	}
	after, m := used()
	runtime.KeepAlive(conns)
	close(w.token)
	each := (after - before) / requests
	t.Logf("%d bytes and %.2f goroutines each", each, float64(m-n)/requests)
	if each > most {
		t.Errorf("each holds %d bytes, want at most %d", each, most)
	}
	if m-n > requests*goroutines+10 {
		t.Errorf("%d goroutines for %d requests, want %d each", m-n, requests, goroutines)
	}
}
