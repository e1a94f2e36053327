package tokens_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/bearerd/bearerd/tokens"
)

// rawServer answers each connection with the given bytes after it has read the
// request, with PASSWORD in them replaced by what a hostile server would echo.
func rawServer(t *testing.T, answer string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 64<<10))
			_, _ = io.WriteString(c, strings.ReplaceAll(answer, "PASSWORD", passwordText))
			c.Close()
		}
	}()
	return "http://" + l.Addr().String()
}

// What a server sends never gets into a cause, wherever it puts it.
func TestFaultLoginAnswerIsNeverRepeated(t *testing.T) {
	for name, test := range map[string]struct{ answer, cause string }{
		"refused":               {"", "the exchange failed"},
		"status line":           {"PASSWORD\r\n\r\n", "the exchange failed"},
		"status code":           {"HTTP/1.1 PASSWORD\r\n\r\n", "the exchange failed"},
		"status text":           {"HTTP/1.1 500 PASSWORD\r\nContent-Length: 0\r\n\r\n", "HTTP 500"},
		"header":                {"HTTP/1.1 500 x\r\nPASSWORD\r\n\r\n", "the exchange failed"},
		"content length":        {"HTTP/1.1 200 OK\r\nContent-Length: PASSWORD\r\n\r\n", "the exchange failed"},
		"chunk length":          {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nPASSWORD\r\n", "HTTP 200, but the answer broke off: the exchange failed"},
		"transfer encoding":     {"HTTP/1.1 200 OK\r\nTransfer-Encoding: PASSWORD\r\n\r\n", "the exchange failed"},
		"truncated body":        {"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"PASSWORD\"", "HTTP 200, but the answer broke off: the exchange failed"},
		"truncated 401":         {"HTTP/1.1 401 x\r\nContent-Length: 99\r\n\r\n{\"error\":\"PASSWORD\"}", "HTTP 401"},
		"error code":            {"HTTP/1.1 400 x\r\nContent-Length: 28\r\n\r\n{\"error\":\"PASSWORD\"}", "HTTP 400, an unregistered error code"},
		"Location":              {"HTTP/1.1 302 x\r\nLocation: http://PASSWORD/\r\nContent-Length: 0\r\n\r\n", "HTTP 302, a redirect, which is never followed: check the token URL"},
		"Retry-After":           {"HTTP/1.1 429 x\r\nRetry-After: PASSWORD\r\nContent-Length: 0\r\n\r\n", "HTTP 429"},
		"body that is no JSON":  {"HTTP/1.1 200 x\r\nContent-Length: 16\r\n\r\nPASSWORD", "HTTP 200, but the answer is not one JSON object"},
		"name of a JSON member": {"HTTP/1.1 200 x\r\nContent-Length: 22\r\n\r\n{\"PASSWORD\":1}", "HTTP 200, but the answer has no access_token string"},
	} {
		t.Run(name, func(t *testing.T) {
			e := logInAt(t, rawServer(t, test.answer)) // searches the event and the error
			if e.Result() == tokens.OK || e.Cause.String() != test.cause {
				t.Errorf("got %s %q, want %q", e.Result(), e.Cause, test.cause)
			}
		})
	}
}

// A login over TLS with a client certificate and an extra root.
func TestNewTransportTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TLS.PeerCertificates) != 1 {
			t.Errorf("got %d client certificates, want 1", len(r.TLS.PeerCertificates))
		}
		_, _ = io.WriteString(w, `{"access_token":"abc"}`)
	}))
	server.EnableHTTP2 = true
	server.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	server.StartTLS()
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	e := logInAt(t, server.URL, func(l *tokens.Login) {
		l.Transport = tokens.NewTransport(tokens.TransportOptions{RootCAs: roots, Certificates: server.TLS.Certificates, DialTimeout: time.Minute})
	})
	if e.Result() != tokens.OK {
		t.Errorf("got %+v, want ok", e)
	}
}

// A TLS handshake that stalls ends after DialTimeout, and is not mistaken for
// a slow answer.
func TestDialTimeoutBoundsTheHandshake(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts, in the kernel, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	e := logInAt(t, "https://"+l.Addr().String(), func(l *tokens.Login) {
		l.Transport = tokens.NewTransport(tokens.TransportOptions{DialTimeout: 50 * time.Millisecond})
	})
	if e.Result() != tokens.Transient || e.Cause.Kind != tokens.CauseNoAnswer || e.Duration > 20*time.Second {
		t.Errorf("got %+v, want no answer", e)
	}
}
