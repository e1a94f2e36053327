//go:build unix

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

// A thousand requests while the login fails are one line of the log, beside the
// login's own.
func TestOneLineAStateChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t, querysim.Options{}, nil)
	w.sim.SetPassword("changed")
	p := w.start(t, append(w.env("vyopta"), "BEARERD_LOG_LEVEL=info", "BEARERD_ACCESS_LOG=off")...)
	c := newClient(t)
	for range 1000 {
		if err := expectStatus(c, p.url+namesPath, 502); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Count(p.text(), `"level":"error"`); got != 1 {
		t.Errorf("error lines: got %d, want 1", got)
	}
	if got := strings.Count(p.text(), "\n"); got != 3 || !strings.Contains(p.text(), sayNoToken) {
		t.Errorf("lines in all: got %d, want the start-up line, the error, and that requests fail", got)
	}
}

func TestAccessLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t, querysim.Options{}, nil)
	for _, test := range []struct {
		mode     string
		ok, fail int // lines of each
	}{{"all", 1, 1}, {"errors", 0, 1}, {"off", 0, 0}} {
		p := w.start(t, append(w.env("vyopta"), "BEARERD_ACCESS_LOG="+test.mode)...)
		c := newClient(t)
		if err := expectStatus(c, p.url+namesPath+"?secret=query-text", 200); err != nil {
			t.Fatal(err)
		}
		if err := expectStatus(c, p.url+"/nowhere", 404); err != nil {
			t.Fatal(err)
		}
		p.stop(syscall.SIGTERM, 5*time.Second)
		var ok, fail int
		for line := range strings.Lines(p.text()) {
			var entry map[string]any
			if json.Unmarshal([]byte(line), &entry) != nil || entry["message"] != "request" {
				continue
			}
			for _, field := range []string{"time", "level", "method", "path", "status", "duration_ms", "bytes_in", "bytes_out", "generation", "replayed"} {
				if _, there := entry[field]; !there {
					t.Errorf("%s: the line lacks %s: %s", test.mode, field, line)
				}
			}
			switch entry["path"] {
			case namesPath:
				ok++
			case "/nowhere":
				fail++
			}
		}
		if ok != test.ok || fail != test.fail {
			t.Errorf("%s: got %d lines of a good request and %d of a bad one, want %d and %d", test.mode, ok, fail, test.ok, test.fail)
		}
		if strings.Contains(p.text(), "query-text") {
			t.Errorf("%s: the log holds a query", test.mode)
		}
	}
}

// An upstream that sends more than it announced, and echoes the request: the
// transport of net/http would show that to the standard logger.
func TestUnsolicitedBytesAreNotLogged(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	sent := make(chan struct{})
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		r, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil {
			return
		}
		fmt.Fprintf(conn, "HTTP/1.1 204 No Content\r\n\r\nunasked %s", r.Header.Get("Authorization"))
		close(sent)
		_, _ = io.Copy(io.Discard, conn) // until bearerd gives the connection up
	}()
	w := newWorld(t, querysim.Options{}, nil)
	p := w.start(t, append(w.env("vyopta"), "BEARERD_UPSTREAM=http://"+l.Addr().String())...)
	if err := expectStatus(newClient(t), p.url+"/", 204); err != nil {
		t.Fatal(err)
	}
	<-sent
	p.stop(syscall.SIGTERM, 5*time.Second)
	for _, part := range []string{"unasked", "Bearer", "Unsolicited"} {
		if strings.Contains(p.text(), part) {
			t.Errorf("the log has %q of what upstream sent:\n%s", part, p.text())
		}
	}
}

// The log says why upstream cannot be reached.
func TestUpstreamFailureHasACause(t *testing.T) {
	t.Parallel()
	w := newWorld(t, querysim.Options{}, nil)
	untrusted := httptest.NewUnstartedServer(nil)
	untrusted.Config.ErrorLog = log.New(io.Discard, "", 0)
	untrusted.StartTLS()
	defer untrusted.Close()
	gone := httptest.NewServer(nil)
	gone.Close()
	for url, cause := range map[string]string{untrusted.URL: "signed by an unknown authority", gone.URL: "connection refused"} {
		p := w.start(t, append(w.env("vyopta"), "BEARERD_UPSTREAM="+url)...)
		if err := expectStatus(newClient(t), p.url+"/", 502); err != nil {
			t.Error(err)
		}
		eventually(t, soon, cause, func() bool {
			return strings.Contains(p.text(), `"code":"upstream_unreachable"`) && strings.Contains(p.text(), cause)
		})
	}
}
