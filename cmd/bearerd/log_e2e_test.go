//go:build unix

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/logs"
	"github.com/bearerd/bearerd/cmd/internal/querysim"
	"github.com/bearerd/bearerd/proxy"
)

// A thousand requests while the login fails are one line of the log, beside the
// login's own.
func TestOneLineAStateChange(t *testing.T) {
	t.Parallel()
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	w.Sim.SetPassword("changed")
	p := w.Serve(t, "BEARERD_LOG_LEVEL=info", "BEARERD_ACCESS_LOG=off")
	c := bearerdtest.NewClient(t)
	for range 1000 {
		if err := bearerdtest.ExpectStatus(c, p.URL+bearerdtest.NamesPath, 502); err != nil {
			t.Fatal(err)
		}
	}
	p.Until(logs.SayNoToken)
	if got := strings.Count(p.Text(), `"level":"error"`); got != 1 {
		t.Errorf("error lines: got %d, want 1", got)
	}
	if got := strings.Count(p.Text(), "\n"); got != 3 {
		t.Errorf("lines in all: got %d, want the start-up line, the error, and that requests fail", got)
	}
}

func TestAccessLog(t *testing.T) {
	t.Parallel()
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	for _, test := range []struct {
		mode     string
		ok, fail int // lines of each
	}{{"all", 1, 1}, {"errors", 0, 1}, {"off", 0, 0}} {
		p := w.Serve(t, "BEARERD_ACCESS_LOG="+test.mode)
		c := bearerdtest.NewClient(t)
		if err := bearerdtest.ExpectStatus(c, p.URL+bearerdtest.NamesPath+"?secret=query-text", 200); err != nil {
			t.Fatal(err)
		}
		if err := bearerdtest.ExpectStatus(c, p.URL+"/nowhere", 404); err != nil {
			t.Fatal(err)
		}
		p.Stop(syscall.SIGTERM, bearerdtest.AtOnce)
		var ok, fail int
		for line := range strings.Lines(p.Text()) {
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
			case bearerdtest.NamesPath:
				ok++
			case "/nowhere":
				fail++
			}
		}
		if ok != test.ok || fail != test.fail {
			t.Errorf("%s: got %d lines of a good request and %d of a bad one, want %d and %d", test.mode, ok, fail, test.ok, test.fail)
		}
		if strings.Contains(p.Text(), "query-text") {
			t.Errorf("%s: the log holds a query", test.mode)
		}
	}
}

// A web page sends what it likes, as fast as it can.
func TestThreatAWebPageFillsTheLog(t *testing.T) {
	t.Parallel()
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	p := w.Serve(t, "BEARERD_LOG_LEVEL=info")
	c := bearerdtest.NewClient(t)
	const pages, each = 8, 100
	if err := bearerdtest.Many(pages, func(int) error {
		for range each {
			req, err := http.NewRequest(http.MethodGet, p.URL+"/"+strings.Repeat("%e2%80%ae", 6000), nil)
			if err != nil {
				return err
			}
			req.Header.Set("Sec-Fetch-Site", "cross-site")
			resp, err := c.Do(req)
			if err != nil {
				return errors.Unwrap(err) // without the URL
			}
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusForbidden {
				return fmt.Errorf("got %s, want 403", resp.Status)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(bearerdtest.FirstLines(err))
	}
	p.Stop(syscall.SIGTERM, bearerdtest.AtOnce)
	if got := len(p.Text()); got > 64<<10 {
		t.Errorf("%d requests made %d bytes of the log", pages*each, got)
	}
	written, left := bearerdtest.Account(t, p.Text(), proxy.CrossSite)
	if written < logs.SampleBurst || written+left != pages*each {
		t.Errorf("%d lines and %d told of, want %d in all", written, left, pages*each)
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
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	p := w.Serve(t, "BEARERD_UPSTREAM=http://"+l.Addr().String())
	if err := bearerdtest.ExpectStatus(bearerdtest.NewClient(t), p.URL+"/", 204); err != nil {
		t.Fatal(err)
	}
	<-sent
	p.Stop(syscall.SIGTERM, bearerdtest.AtOnce)
	for _, part := range []string{"unasked", "Bearer", "Unsolicited"} {
		if strings.Contains(p.Text(), part) {
			t.Errorf("the log has %q of what upstream sent:\n%s", part, p.Text())
		}
	}
}

// The log says why upstream cannot be reached.
func TestUpstreamFailureHasACause(t *testing.T) {
	t.Parallel()
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	untrusted := httptest.NewUnstartedServer(nil)
	untrusted.Config.ErrorLog = log.New(io.Discard, "", 0)
	untrusted.StartTLS()
	defer untrusted.Close()
	for url, cause := range map[string]string{untrusted.URL: "signed by an unknown authority", "http://127.0.0.1:1": "connection refused"} {
		p := w.Serve(t, "BEARERD_UPSTREAM="+url, patientDial)
		if err := bearerdtest.ExpectStatus(bearerdtest.NewClient(t), p.URL+"/", 502); err != nil {
			t.Error(err)
		}
		bearerdtest.Eventually(t, bearerdtest.Soon, cause, func() bool {
			return strings.Contains(p.Text(), `"code":"upstream_unreachable"`) && strings.Contains(p.Text(), cause)
		})
	}
}
