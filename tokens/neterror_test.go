package tokens_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
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
		"refused":               {"", "the server closed the connection"},
		"status line":           {"PASSWORD\r\n\r\n", "the exchange failed"},
		"status code":           {"HTTP/1.1 PASSWORD\r\n\r\n", "the exchange failed"},
		"status text":           {"HTTP/1.1 500 PASSWORD\r\nContent-Length: 0\r\n\r\n", "HTTP 500"},
		"header":                {"HTTP/1.1 500 x\r\nPASSWORD\r\n\r\n", "the exchange failed"},
		"content length":        {"HTTP/1.1 200 OK\r\nContent-Length: PASSWORD\r\n\r\n", "the exchange failed"},
		"chunk length":          {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nPASSWORD\r\n", "HTTP 200, but the answer broke off: the exchange failed"},
		"transfer encoding":     {"HTTP/1.1 200 OK\r\nTransfer-Encoding: PASSWORD\r\n\r\n", "the exchange failed"},
		"truncated body":        {"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"PASSWORD\"", "HTTP 200, but the answer broke off: the server closed the connection"},
		"truncated 401":         {"HTTP/1.1 401 x\r\nContent-Length: 99\r\n\r\n{\"error\":\"PASSWORD\"}", "HTTP 401"},
		"error code":            {"HTTP/1.1 400 x\r\nContent-Length: 28\r\n\r\n{\"error\":\"PASSWORD\"}", "HTTP 400, an unregistered error code"},
		"Location":              {"HTTP/1.1 302 x\r\nLocation: http://PASSWORD/\r\nContent-Length: 0\r\n\r\n", "HTTP 302, a redirect, which is never followed: check the token URL"},
		"Retry-After":           {"HTTP/1.1 429 x\r\nRetry-After: PASSWORD\r\nContent-Length: 0\r\n\r\n", "HTTP 429"},
		"body that is no JSON":  {"HTTP/1.1 200 x\r\nContent-Length: 16\r\n\r\nPASSWORD", "HTTP 200, but the answer is not one JSON object"},
		"name of a JSON member": {"HTTP/1.1 200 x\r\nContent-Length: 22\r\n\r\n{\"PASSWORD\":1}", "HTTP 200, but the answer has no access_token string"},
	} {
		t.Run(name, func(t *testing.T) {
			e := logInAt(t, rawServer(t, test.answer)) // searches the event and the error
			if e.Result == tokens.OK || e.Cause != test.cause {
				t.Errorf("got %s %q, want %q", e.Result, e.Cause, test.cause)
			}
		})
	}
}

// Nor does what an HTTP proxy sends, or what is in its URL.
func TestProxyIsNeverRepeated(t *testing.T) {
	proxy, err := url.Parse(rawServer(t, "HTTP/1.1 407 PASSWORD\r\n\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, cause string
		find        func(*http.Request) (*url.URL, error)
	}{
		{"status text", "the proxy answered HTTP 407", func(*http.Request) (*url.URL, error) { return proxy, nil }},
		{"nobody there", "the proxy: dial tcp 127.0.0.1:1: connection refused", func(*http.Request) (*url.URL, error) {
			return url.Parse("http://u:" + passwordText + "@127.0.0.1:1")
		}},
		{"bad URL", "the exchange failed", func(*http.Request) (*url.URL, error) {
			return nil, errors.New("invalid proxy http://u:" + passwordText + "@x")
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := logInAt(t, "https://login.test/", func(l *tokens.Login) { l.Transport.(*http.Transport).Proxy = test.find })
			if e.Result != tokens.Transient || e.Cause != test.cause {
				t.Errorf("got %+v, want %q", e, test.cause)
			}
		})
	}
}

func TestNetworkErrorsAreNamed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().String()
	l.Close()
	plain := newRecorder(t)
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())
	trusting := func(l *tokens.Login) { l.Transport = tokens.NewTransport(tokens.TransportOptions{RootCAs: roots}) }
	old := func(l *tokens.Login) {
		trusting(l)
		l.Transport.(*http.Transport).TLSClientConfig.Time = func() time.Time { return time.Unix(-1e9, 0) }
	}
	demanding := httptest.NewUnstartedServer(http.NotFoundHandler())
	demanding.Config.ErrorLog = secure.Config.ErrorLog
	demanding.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	demanding.StartTLS()
	defer demanding.Close()

	// The time-out of a dial claims to be a context.DeadlineExceeded.
	slow := func(l *tokens.Login) {
		l.Transport.(*http.Transport).DialContext = (&net.Dialer{Deadline: time.Unix(1, 0)}).DialContext
	}

	// What a resolver says that is down: the port is another each time.
	unresolved := func(l *tokens.Login) {
		l.Transport.(*http.Transport).DialContext = func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.DNSError{Name: "login.example", Err: "read udp 127.0.0.1:40627->127.0.0.53:53: connection refused"}
		}
	}

	const ca = "TLS: the server's certificate is signed by an unknown authority"
	for _, test := range []struct {
		name, url string
		change    func(*tokens.Login)
		cause     string // its beginning
	}{
		{"refused", "http://user:" + passwordText + "@" + closed + "/?" + passwordText, nil, "dial tcp " + closed + ": "},
		{"dial time-out", "http://" + closed, slow, "dial tcp " + closed + ": took too long"},
		{"no such host", "http://name.invalid/", nil, "lookup name.invalid: "},
		{"no name server", "http://login.example/", unresolved, "lookup login.example: the name server did not answer"},
		{"unknown authority", secure.URL, nil, ca},
		{"other host", strings.Replace(secure.URL, "127.0.0.1", "localhost", 1), trusting, "TLS: the server's certificate is for another host: check the URL"},
		{"expired", secure.URL, old, "TLS: the server's certificate has expired or is not valid yet"},
		{"no TLS", strings.Replace(plain.URL, "http:", "https:", 1), nil, "TLS: the server does not speak it: check the scheme of the URL"},
		{"client certificate", demanding.URL, trusting, "TLS: the server refused: "},
		{"no URL", "http://[::1" + passwordText, nil, "the token URL is not a URL"},
		{"no scheme", "/" + passwordText, nil, "the exchange failed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.change == nil {
				test.change = func(*tokens.Login) {}
			}
			e := logInAt(t, test.url, test.change)
			if e.Result != tokens.Transient || e.Status != 0 || !strings.HasPrefix(e.Cause, test.cause) {
				t.Errorf("got %+v, want transient, %q", e, test.cause)
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
	if e.Result != tokens.OK {
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
	if e.Result != tokens.Transient || e.Cause != "connecting took too long" {
		t.Errorf("got %+v, want that connecting took too long", e)
	}
}
