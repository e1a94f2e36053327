package querysim_test

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// wire is what came back over one TCP connection. net/http's client would
// hide a part of it, by a retry or in an error's text.
type wire struct {
	status int // 0: nothing came
	header http.Header
	body   string
	err    error // of the body or, if nothing came, of the connection: nil is an orderly close
}

// dial connects to base for the length of the test.
func dial(t testing.TB, base string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", base[len("http://"):])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second)) // a fault that hangs must not hang the test
	return conn
}

// exchange sends req on a connection of its own and reads to its end.
func exchange(t testing.TB, req *http.Request) wire {
	t.Helper()
	conn := dial(t, "http://"+req.URL.Host)
	req.Close = true
	if err := req.Write(conn); err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(conn)
	if len(raw) == 0 {
		return wire{err: err}
	}
	resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(raw)), req)
	if err != nil {
		t.Fatalf("%q: %v", raw, err)
	}
	body, err := io.ReadAll(resp.Body)
	return wire{resp.StatusCode, resp.Header, string(body), err}
}
