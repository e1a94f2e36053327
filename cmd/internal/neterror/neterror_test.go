package neterror_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/neterror"
)

// secretText stands where a server, a proxy or a URL has what must not be told.
const secretText = "hunter2-password"

// transport is one as bearerd uses, each connection for one request.
func transport() *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		DisableKeepAlives: true, Protocols: protocols, OnProxyConnectResponse: neterror.ProxyConnected,
		TLSClientConfig: new(tls.Config), TLSHandshakeTimeout: 5 * time.Second,
	}
}

// causeOf gets url by t, and says why that failed: before the answer or within it.
func causeOf(t *testing.T, by *http.Transport, url string) neterror.Cause {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := by.RoundTrip(req)
	if err == nil {
		_, err = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
	}
	if err == nil {
		t.Fatalf("%s: got HTTP %d, want a failure", url, res.StatusCode)
	}
	cause := neterror.Of(err)
	if text := fmt.Sprintf("%v %+v %#v", cause, cause, cause); strings.Contains(text, secretText) {
		t.Errorf("got %s, which repeats what was sent", text)
	}
	if again := neterror.Of(err); again != cause {
		t.Errorf("got %#v, then %#v", cause, again)
	}
	return cause
}

// rawServer reads what comes, answers each connection with the given bytes, and
// closes it.
func rawServer(t *testing.T, answer string) (at string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 64<<10))
			_, _ = io.WriteString(c, answer)
			_ = c.Close()
		}
	}()
	return l.Addr().String()
}

// tlsServer is a server with change made to it.
func tlsServer(t *testing.T, handler http.HandlerFunc, change func(*httptest.Server)) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	if change != nil {
		change(s)
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// trusting is a transport that trusts s.
func trusting(s *httptest.Server) *http.Transport {
	by := transport()
	by.TLSClientConfig.RootCAs = x509.NewCertPool()
	by.TLSClientConfig.RootCAs.AddCert(s.Certificate())
	return by
}

// selfSigned is a certificate with only a common name.
func selfSigned(t *testing.T, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// What a server sends is not in a cause, wherever it puts it.
func TestAnswersThatAreNoHTTP(t *testing.T) {
	for name, test := range map[string]struct {
		answer string
		kind   neterror.Kind
	}{
		"nothing":           {"", neterror.Closed},
		"status line":       {"SECRET\r\n\r\n", neterror.NotHTTP},
		"status code":       {"HTTP/1.1 SECRET\r\n\r\n", neterror.NotHTTP},
		"another protocol":  {"SSH-2.0-SECRET\r\n", neterror.NotHTTP},
		"HTTP/2":            {"\x00\x00\x12\x04\x00\x00\x00\x00\x00SECRET\r\n", neterror.NotHTTP},
		"TLS":               {"\x15\x03\x01\x00\x02\x02\x46", neterror.NotHTTP},
		"header":            {"HTTP/1.1 200 OK\r\nSECRET\r\n\r\n", neterror.NotHTTP},
		"content length":    {"HTTP/1.1 200 OK\r\nContent-Length: SECRET\r\n\r\n", neterror.NotHTTP},
		"transfer encoding": {"HTTP/1.1 200 OK\r\nTransfer-Encoding: SECRET\r\n\r\n", neterror.NotHTTP},
		"chunk length":      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nSECRET\r\n", neterror.Unknown},
		"half a header":     {"HTTP/1.1 200 OK\r\nX: SECRET", neterror.Closed},
		"half a body":       {"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nSECRET", neterror.Closed},
	} {
		t.Run(name, func(t *testing.T) {
			at := rawServer(t, strings.ReplaceAll(test.answer, "SECRET", secretText))
			if got := causeOf(t, transport(), "http://"+at+"/"); got.Kind != test.kind || got.Error() == "" {
				t.Errorf("got %s %q, want %s", got.Kind, got.Error(), test.kind)
			}
		})
	}
}

// Nor is what an HTTP proxy sends, or what is in its URL.
func TestProxies(t *testing.T) {
	at := func(address string) func(*http.Request) (*url.URL, error) {
		return func(*http.Request) (*url.URL, error) { return url.Parse(address) }
	}
	for _, test := range []struct {
		name  string
		proxy func(*http.Request) (*url.URL, error)
		kind  neterror.Kind
		text  string // its beginning
	}{
		{"status text", at("http://" + rawServer(t, "HTTP/1.1 407 "+secretText+"\r\n\r\n")), neterror.ProxyRefused, "the proxy answered HTTP 407"},
		{"nobody there", at("http://u:" + secretText + "@127.0.0.1:1"), neterror.Connection, "the proxy: dial tcp 127.0.0.1:1: "},
		{"no such host", at("http://u:" + secretText + "@name.invalid:1"), neterror.NoHost, "the proxy: lookup name.invalid: "},
		{"no TLS", at("https://u:" + secretText + "@" + rawServer(t, "HTTP/1.1 400 Bad Request\r\n\r\n")), neterror.NoTLS, "the proxy: TLS: the server does not speak it"},
		{"closes", at("http://u:" + secretText + "@" + rawServer(t, "")), neterror.Closed, "the server closed the connection"},
		{"bad URL", func(*http.Request) (*url.URL, error) {
			return nil, errors.New("invalid proxy http://u:" + secretText + "@x")
		}, neterror.Unknown, "the exchange failed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			by := transport()
			by.Proxy = test.proxy
			got := causeOf(t, by, "https://login.test/")
			if test.name == "no such host" && got.Kind == neterror.NameServer {
				got.Kind = neterror.NoHost // a machine without a name server
			}
			if got.Kind != test.kind || !strings.HasPrefix(got.Error(), test.text) || got.AtProxy != strings.HasPrefix(test.text, "the proxy: ") {
				t.Errorf("got %#v %q, want %s %q", got, got.Error(), test.kind, test.text)
			}
		})
	}
}

func TestConnections(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().String()
	_ = l.Close()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts, in the kernel, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	// What a resolver says that is down: the port is another each time.
	unresolved := func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.DNSError{Name: "login-redirect.corp.example", Err: "read udp 127.0.0.1:40627->127.0.0.53:53: connection refused"}
	}
	for _, test := range []struct {
		name, url string
		change    func(*http.Transport)
		kind      neterror.Kind
		text      string // its beginning
	}{
		{"refused", "http://user:" + secretText + "@" + closed + "/?" + secretText, nil, neterror.Connection, "dial tcp " + closed + ": "},
		// The time-out of a dial claims to be a context.DeadlineExceeded.
		{"dial time-out", "http://" + closed, func(t *http.Transport) { t.DialContext = (&net.Dialer{Deadline: time.Unix(1, 0)}).DialContext }, neterror.Connection, "dial tcp " + closed + ": took too long"},
		{"handshake time-out", "https://" + silent.Addr().String(), func(t *http.Transport) { t.TLSHandshakeTimeout = 20 * time.Millisecond }, neterror.TooSlow, "connecting took too long"},
		{"no name server", "http://login-redirect.corp.example/", func(t *http.Transport) { t.DialContext = unresolved }, neterror.NameServer, "lookup login-redirect.corp.example: the name server did not answer"},
		{"no scheme", "/" + secretText, nil, neterror.Unknown, "the exchange failed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			by := transport()
			if test.change != nil {
				test.change(by)
			}
			if got := causeOf(t, by, test.url); got.Kind != test.kind || !strings.HasPrefix(got.Error(), test.text) {
				t.Errorf("got %s %q, want %s %q", got.Kind, got.Error(), test.kind, test.text)
			}
		})
	}
	if got := neterror.Of(&net.DNSError{Name: "x.test", IsNotFound: true}); got.Kind != neterror.NoHost || got.Error() != "lookup x.test: no such host" {
		t.Errorf("got %s %q", got.Kind, got)
	}
}

func TestTLS(t *testing.T) {
	ok := func(http.ResponseWriter, *http.Request) {}
	plain := tlsServer(t, ok, nil)
	old := trusting(plain)
	old.TLSClientConfig.Time = func() time.Time { return time.Unix(-1e9, 0) }
	nameless := tlsServer(t, ok, func(s *httptest.Server) {
		s.TLS = &tls.Config{Certificates: []tls.Certificate{selfSigned(t, "127.0.0.1")}}
	})
	rsaOnly := tlsServer(t, ok, func(s *httptest.Server) {
		s.TLS = &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_256_CBC_SHA}}
	})
	tls11 := tlsServer(t, ok, func(s *httptest.Server) {
		s.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	})
	demanding := func(version uint16) *httptest.Server {
		return tlsServer(t, ok, func(s *httptest.Server) {
			s.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert, MaxVersion: version}
		})
	}
	demanding12, demanding13 := demanding(tls.VersionTLS12), demanding(tls.VersionTLS13)
	// hello is what a server of this version answers that picks this cipher, whatever it was offered.
	hello := func(version, cipher string) string {
		return "https://" + rawServer(t, "\x16"+version+"\x00\x2a"+"\x02\x00\x00\x26"+version+strings.Repeat("r", 32)+"\x00"+cipher+"\x00")
	}
	for _, test := range []struct {
		name, url string
		by        *http.Transport
		kind      neterror.Kind
		text      string // its beginning
	}{
		{"unknown authority", plain.URL, transport(), neterror.UnknownAuthority, "TLS: the server's certificate is signed by an unknown authority"},
		{"other host", strings.Replace(plain.URL, "127.0.0.1", "localhost", 1), trusting(plain), neterror.OtherHost, "TLS: the server's certificate is for another host: check the URL"},
		{"no subjectAltName", nameless.URL, trusting(nameless), neterror.NamesNoHost, "TLS: the server's certificate names no host"},
		{"no subjectAltName, by a name", strings.Replace(nameless.URL, "127.0.0.1", "localhost", 1), trusting(nameless), neterror.NamesNoHost, "TLS: the server's certificate names no host"},
		{"expired", plain.URL, old, neterror.Expired, "TLS: the server's certificate has expired or is not valid yet"},
		{"no TLS", "https://" + rawServer(t, "HTTP/1.1 400 Bad Request\r\n\r\n"), transport(), neterror.NoTLS, "TLS: the server does not speak it: check the scheme of the URL"},
		{"RSA key exchange only", rsaOnly.URL, trusting(rsaOnly), neterror.HandshakeRefused, "TLS: the server refuses the handshake: it shares no version or cipher with bearerd"},
		{"TLS 1.1 at most", tls11.URL, trusting(tls11), neterror.NoCommonTLS, "TLS: the server shares no version or cipher with bearerd"},
		{"RSA key exchange all the same", hello("\x03\x03", "\x00\x2f"), transport(), neterror.NoCommonTLS, "TLS: the server shares no version or cipher with bearerd"},
		{"TLS 1.0 all the same", hello("\x03\x01", "\x00\x2f"), transport(), neterror.NoCommonTLS, "TLS: the server shares no version or cipher with bearerd"},
		{"client certificate, TLS 1.2", demanding12.URL, trusting(demanding12), neterror.HandshakeRefused, "TLS: the server refuses the handshake: "},
		{"client certificate, TLS 1.3", demanding13.URL, trusting(demanding13), neterror.WantsCertificate, "TLS: the server wants another client certificate than it got, or any: certificate required"},
		{"another alert", "https://" + rawServer(t, "\x15\x03\x03\x00\x02\x02\x50"), transport(), neterror.TLSRefused, "TLS: the server refused: internal error"},
		{"nonsense", "https://" + rawServer(t, "\x16\x03\x03\x00\x05\x0e"+"\x00\x00\x01x"), transport(), neterror.TLSFailed, "TLS: the handshake failed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := causeOf(t, test.by, test.url); got.Kind != test.kind || !strings.HasPrefix(got.Error(), test.text) {
				t.Errorf("got %s %q, want %s %q", got.Kind, got.Error(), test.kind, test.text)
			}
		})
	}
}

// Go's own server never asks to renegotiate. crypto/tls refuses by the alert
// no_renegotiation, of a type that it does not export.
func TestRenegotiation(t *testing.T) {
	err := fmt.Errorf("reading: %w", &net.OpError{Op: "local error", Err: tls.AlertError(100)})
	got := neterror.Of(err)
	if got.Kind != neterror.Renegotiation || !strings.HasPrefix(got.Error(), "TLS: the server wants to renegotiate") {
		t.Errorf("got %s %q", got.Kind, got)
	}
}

func TestStreamErrors(t *testing.T) {
	s := tlsServer(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, func(s *httptest.Server) { s.EnableHTTP2 = true })
	by := trusting(s)
	by.Protocols.SetHTTP2(true)
	by.ForceAttemptHTTP2 = true
	if got := causeOf(t, by, s.URL); got.Kind != neterror.Stream || got.Error() != "the server broke the HTTP/2 stream off: error code 2" {
		t.Errorf("got %s %q", got.Kind, got)
	}
}

// FuzzOf: whatever a server sends, plain or under TLS, the cause has a kind and
// words, and none of the words is the server's.
func FuzzOf(f *testing.F) {
	for _, seed := range []string{
		"", "HTTP/1.1 " + secretText + "\r\n\r\n", secretText + "\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n" + secretText,
		"\x15\x03\x03\x00\x02\x02\x28", "\x16\x03\x03\x00\x04" + secretText, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + secretText,
	} {
		f.Add([]byte(seed), false)
		f.Add([]byte(seed), true)
	}
	f.Fuzz(func(t *testing.T, raw []byte, secure bool) {
		by := transport()
		by.DialContext = func(context.Context, string, string) (net.Conn, error) {
			return &sayer{answer: bytes.NewReader(raw)}, nil
		}
		scheme := map[bool]string{false: "http", true: "https"}[secure]
		req, err := http.NewRequest(http.MethodGet, scheme+"://server.test/", nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := by.RoundTrip(req)
		if err == nil {
			_, err = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
		}
		if err == nil {
			return
		}
		got := neterror.Of(err)
		if got.Kind == "" || got.Error() == "" || strings.Contains(got.Error(), secretText) {
			t.Errorf("got %#v %q of %v", got, got.Error(), err)
		}
	})
}

// sayer is a connection to a server that takes everything and says what it has.
type sayer struct{ answer *bytes.Reader }

func (s *sayer) Read(p []byte) (int, error)     { return s.answer.Read(p) }
func (*sayer) Write(p []byte) (int, error)      { return len(p), nil }
func (*sayer) Close() error                     { return nil }
func (*sayer) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (*sayer) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (*sayer) SetDeadline(time.Time) error      { return nil }
func (*sayer) SetReadDeadline(time.Time) error  { return nil }
func (*sayer) SetWriteDeadline(time.Time) error { return nil }

// What the system says when it has no descriptor more is no fault of the network,
// wherever it says so. The resolver keeps the text alone.
func TestNoDescriptor(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE} {
		for _, err := range []error{
			&net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("socket", errno)},
			&net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", errno)},
			&net.OpError{Op: "proxyconnect", Net: "tcp", Err: &net.OpError{Op: "dial", Net: "tcp", Err: errno}},
			&net.DNSError{Name: "x.test", Server: "127.0.0.53:53", Err: "dial udp 127.0.0.53:53: socket: " + errno.Error()},
			fmt.Errorf("reading: %w", &os.PathError{Op: "open", Path: "/x", Err: errno}),
		} {
			if got := neterror.Of(err); got.Kind != neterror.Descriptor || got.AtProxy || got.Error() != "no file descriptor is left" {
				t.Errorf("%v: got %q, %v", err, got.Kind, got)
			}
		}
	}
	if err := (&net.DNSError{Name: "x.test", Err: "no such host", IsNotFound: true}); neterror.IsNoDescriptor(err) {
		t.Errorf("%v: want another cause", err)
	}
}
