package proxy_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/bearerd/bearerd/proxy"
)

// What upstream said before it cut its answer arrives, if it was the header
// alone; and that it is cut shows.
func TestFaultUpstreamCutsBeforeTheBody(t *testing.T) {
	const header = "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */7\r\n"
	raw := func(framing string, reset bool) proxy.Options {
		return proxy.Options{Upstream: listen(t, func(_ int, c *wire) {
			c.head()
			c.send(t, header+framing+"\r\n")
			if reset {
				_ = c.Conn.(*net.TCPConn).SetLinger(0)
			}
		})}
	}
	tls := func(h2 bool, length string) proxy.Options {
		u, tr := upstreamTLS(t, h2, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes */7")
			if length != "" {
				w.Header().Set("Content-Length", length)
			}
			w.WriteHeader(416)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		})
		return proxy.Options{Upstream: u, Transport: tr}
	}
	for name, o := range map[string]proxy.Options{
		"HTTP/1.1, length":            raw("Content-Length: 100\r\n", false),
		"HTTP/1.1, long":              raw("Content-Length: 1000000\r\n", false),
		"HTTP/1.1, chunked":           raw("Transfer-Encoding: chunked\r\n", false),
		"HTTP/1.1, chunked, trailers": raw("Trailer: X-T\r\nTransfer-Encoding: chunked\r\n", false),
		"HTTP/1.1, reset":             raw("Content-Length: 100\r\n", true),
		"TLS, length":                 tls(false, "100"),
		"HTTP/2, length":              tls(true, "100"),
		"HTTP/2, no length":           tls(true, ""),
	} {
		t.Run(name, func(t *testing.T) {
			d := start(t, o)
			for _, request := range []string{
				"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
				"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc",
				"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 300000\r\n\r\nabc", // of which no more comes
				"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n",
			} {
				if strings.Contains(request, "300000") && (name == "HTTP/1.1, reset" || name == "TLS, length") {
					continue // the upload may fail before the answer is seen
				}
				w := d.dial(t)
				w.send(t, request)
				resp, err := http.ReadResponse(w.in, nil)
				if err != nil {
					if strings.Contains(request, "HTTP/1.0") && runtime.GOOS == "windows" {
						continue // there a reset takes what was not read
					}
					t.Fatalf("%.20q: got %v, want the header", request, err)
				}
				same(t, "status", resp.StatusCode, 416)
				same(t, "Content-Range", resp.Header.Get("Content-Range"), "bytes */7")
				body, err := io.ReadAll(resp.Body)
				if strings.Contains(request, "HTTP/1.0") && runtime.GOOS == "windows" && err == nil && len(body) == 0 {
					continue // nor does Wine tell each reset from an end
				}
				if ne, ok := errors.AsType[net.Error](err); err == nil || ok && ne.Timeout() || len(body) > 0 {
					t.Errorf("%.20q: got %q and %v, want a cut body", request, body, err)
				}
				w.Close()
			}
			d.mu.Lock()
			defer d.mu.Unlock()
			for _, ex := range d.ended {
				same(t, "status of the exchange", ex.Status, 416)
				same(t, "outcome", ex.Outcome, proxy.Aborted)
			}
		})
	}
}
