package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"os"
	"slices"
	"syscall"
	"time"
)

// TransportOptions are the settings of [NewTransport].
type TransportOptions struct {
	RootCAs      *x509.CertPool    // nil: the system's
	Certificates []tls.Certificate // client certificates, to show also where upstream asks later (TLS 1.2 renegotiation, once); nil: none
	DialTimeout  time.Duration     // of connect and of the TLS handshake, each; 0: 5 s
	// ResponseHeaderTimeout is upstream's time from the end of the request to
	// its first header; 0: no limit.
	ResponseHeaderTimeout time.Duration
	// Dial makes the connections, and keeps to DialTimeout; nil: a net.Dialer does.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Dials is whom the dials wait for; nil: for each other alone.
	Dials *Dials
	// IdleTimeout is how long a connection may lie idle before it is closed; 0:
	// 30 s, which is before common load balancers drop it, and a POST with it.
	IdleTimeout time.Duration
}

// NewTransport returns a transport made for one upstream host under load.
func NewTransport(o TransportOptions) *http.Transport {
	if o.DialTimeout == 0 {
		o.DialTimeout = 5 * time.Second
	}
	if o.Dial == nil {
		o.Dial = Dialer(o.DialTimeout).DialContext
	}
	if o.Dials == nil {
		o.Dials = new(Dials)
	}
	if o.IdleTimeout == 0 {
		o.IdleTimeout = 30 * time.Second
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	renegotiate := tls.RenegotiateNever
	if len(o.Certificates) > 0 {
		// IIS asks for a certificate when it has seen the path. Over HTTP/2 it cannot
		// (RFC 9113 9.2.1), and says HTTP_1_1_REQUIRED instead.
		renegotiate = tls.RenegotiateOnceAsClient
	}
	t := &http.Transport{
		Proxy:       http.ProxyFromEnvironment,
		DialContext: byTurns(o.Dials, o.Dial, o.DialTimeout),
		TLSClientConfig: &tls.Config{
			RootCAs:            o.RootCAs,
			Certificates:       o.Certificates,
			MinVersion:         tls.VersionTLS12,
			Renegotiation:      renegotiate,
			ClientSessionCache: tls.NewLRUClientSessionCache(16),
		},
		TLSHandshakeTimeout:   o.DialTimeout,
		ResponseHeaderTimeout: o.ResponseHeaderTimeout,
		// Go's default of 10 MiB would be held for each request.
		MaxResponseHeaderBytes: maxResponseHeader,
		// There is one host. With Go's default of 2 nearly every request under
		// load pays a TLS handshake.
		MaxIdleConnsPerHost: 1024,
		IdleConnTimeout:     o.IdleTimeout,
		// Otherwise Go asks for gzip and unpacks it behind the client's back.
		DisableCompression: true,
		Protocols:          protocols,
		// A dead HTTP/2 connection would hold every request until TCP gives up:
		// it is found out after the sum of these.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 8 * time.Second, PingTimeout: 10 * time.Second},
	}
	multiplex(t)
	return t
}

// unpooled returns a transport like t whose requests each have a connection of
// their own, one that was not there before. net/http sends none of them again.
func unpooled(t *http.Transport) *http.Transport {
	t = t.Clone()
	t.DisableKeepAlives = true
	multiplex(t)
	return t
}

// maxResponseHeader bounds what is held of one answer's header, in bytes, by
// either protocol. Over HTTP/1.1 the 1xx answers before it count too.
const maxResponseHeader = 1 << 20

// dialFunc makes connections, as http.Transport.DialContext does.
type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// byTurns returns dial, which keeps to most, with d's turns.
func byTurns(d *Dials, dial dialFunc, most time.Duration) dialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		var wish *wish
		secure := false
		if ex := exchangeOf(ctx); ex != nil {
			wish, secure = &ex.try.wish, ex.target != nil && ex.target.Scheme == "https"
		}
		t, err := d.take(ctx, network, wish, most)
		if err != nil {
			return nil, err
		}
		if wish != nil {
			wish.dials.Add(1)
		}
		began := time.Now()
		conn, err := dial(ctx, network, address)
		if err != nil && time.Since(began) >= most {
			t.end(os.ErrDeadlineExceeded) // whatever it waited for: a descriptor, maybe
			return nil, err
		}
		if err != nil {
			t.end(err)
			return nil, err
		}
		counted := &countedConn{Conn: conn}
		if !secure {
			t.end(nil)
			return counted, nil
		}
		counted.opening.Store(&opening{turn: t, since: time.Now()})
		return counted, nil
	}
}

// Dialer is what [NewTransport] dials by, where nobody says otherwise.
func Dialer(timeout time.Duration) *net.Dialer {
	return &net.Dialer{Timeout: timeout, KeepAlive: 30 * time.Second}
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
	transport = unpooled(transport)
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
	transport.TLSNextProto = nil
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
