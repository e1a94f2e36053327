package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"slices"
	"syscall"
	"time"
)

// TransportOptions are the settings of [NewTransport].
type TransportOptions struct {
	RootCAs      *x509.CertPool    // nil: the system's
	Certificates []tls.Certificate // client certificates; nil: none
	DialTimeout  time.Duration     // of connect and of the TLS handshake, each; 0: 5 s
	// ResponseHeaderTimeout is upstream's time from the end of the request to
	// its first header; 0: no limit.
	ResponseHeaderTimeout time.Duration
}

// NewTransport returns a transport made for one upstream host under load.
func NewTransport(o TransportOptions) *http.Transport {
	if o.DialTimeout == 0 {
		o.DialTimeout = 5 * time.Second
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	return &http.Transport{
		Proxy:       http.ProxyFromEnvironment,
		DialContext: (&net.Dialer{Timeout: o.DialTimeout, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig: &tls.Config{
			RootCAs:            o.RootCAs,
			Certificates:       o.Certificates,
			MinVersion:         tls.VersionTLS12,
			ClientSessionCache: tls.NewLRUClientSessionCache(16),
		},
		TLSHandshakeTimeout:   o.DialTimeout,
		ResponseHeaderTimeout: o.ResponseHeaderTimeout,
		// There is one host. With Go's default of 2 nearly every request under
		// load pays a TLS handshake.
		MaxIdleConnsPerHost: 1024,
		// Before common load balancers drop them, and a POST with them.
		IdleConnTimeout: 30 * time.Second,
		// Otherwise Go asks for gzip and unpacks it behind the client's back.
		DisableCompression: true,
		Protocols:          protocols,
		// A dead HTTP/2 connection would hold every request until TCP gives up.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 15 * time.Second},
	}
}

// continueTimeout is how long an upload waits for the 100 of an upstream that
// does not know Expect.
const continueTimeout = time.Second

// oneShot returns a transport like t whose requests each have a connection of
// their own, for uploads that are announced by Expect: 100-continue. After a
// final answer without a 100, an HTTP/1.1 client that keeps the connection
// must send the body all the same (net/http/transport.go, readResponse).
func oneShot(t http.RoundTripper) http.RoundTripper {
	transport, ok := t.(*http.Transport)
	if !ok {
		return t
	}
	transport = transport.Clone()
	transport.DisableKeepAlives = true
	transport.ExpectContinueTimeout = continueTimeout
	dial := transport.DialContext
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return readDecides{conn}, nil
	}
	return transport
}

// onlyHTTP1 returns a transport like t that speaks no HTTP/2, which has no
// Upgrade. net/http itself turns to HTTP/1.1 for WebSocket alone, and refuses to
// send any other (net/http/request.go, requiresHTTP1).
func onlyHTTP1(t http.RoundTripper) http.RoundTripper {
	transport, ok := t.(*http.Transport)
	if !ok {
		return t
	}
	transport = transport.Clone()
	transport.Protocols = new(http.Protocols)
	transport.Protocols.SetHTTP1(true)
	if transport.TLSClientConfig != nil {
		transport.TLSClientConfig.NextProtos = nil // Clone has put h2 there
	}
	return transport
}

// readDecides is a connection whose read side tells how an exchange ended. An
// upstream that does not know Expect may answer 401 in the middle of the body
// and close: then a write fails, and net/http forgets the answer that is there
// to be read (net/http/transport.go, roundTrip).
type readDecides struct{ net.Conn }

func (c readDecides) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if slices.ContainsFunc(peerClosed, func(target error) bool { return errors.Is(err, target) }) {
		return len(p), nil
	}
	return n, err
}

// peerClosed is what the system says of a write to a peer that has closed. The
// numbers are Winsock's, which package syscall names in a build for Windows only.
var peerClosed = []error{syscall.EPIPE, syscall.ECONNRESET, syscall.Errno(10053), syscall.Errno(10054)}
