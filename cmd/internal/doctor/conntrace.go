package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync"

	"github.com/bearerd/bearerd/cmd/internal/display"
)

// connTrace notes how a connection was made.
type connTrace struct {
	mu        sync.Mutex // guards all below
	connected bool
	state     tls.ConnectionState
	shaken    bool // a TLS handshake ended, with err or without
	err       error
}

func (t *connTrace) context(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		// With an https proxy there are two handshakes; the last is the server's.
		TLSHandshakeDone: func(state tls.ConnectionState, err error) {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.state, t.shaken, t.err = state, true, err
		},
		GotConn: func(httptrace.GotConnInfo) {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.connected = true
		},
	})
}

// traced is a RoundTripper that notes how connections were made.
type traced struct {
	http.RoundTripper
	trace *connTrace
}

func (t traced) RoundTrip(req *http.Request) (*http.Response, error) {
	return t.RoundTripper.RoundTrip(req.WithContext(t.trace.context(req.Context())))
}

// report tells of the connection to u; nil when there was none.
func (t *connTrace) report(u *url.URL) *ConnReport {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.connected && !t.shaken {
		return nil
	}
	c := &ConnReport{HTTP: "HTTP/1.1", TLS: noTLS}
	if u.Scheme != "https" || !t.shaken {
		return c
	}
	if t.state.NegotiatedProtocol == "h2" {
		c.HTTP = "HTTP/2"
	}
	certificates := t.state.PeerCertificates
	if t.err != nil {
		c.HTTP, c.TLS = "", ""
		if e, ok := errors.AsType[*tls.CertificateVerificationError](t.err); ok {
			certificates = e.UnverifiedCertificates
		}
	} else {
		c.TLS = tls.VersionName(t.state.Version)
	}
	if len(certificates) > 0 {
		c.Certificate = &certReport{
			Subject:  display.Printable(certificates[0].Subject.String()),
			Issuer:   display.Printable(certificates[0].Issuer.String()),
			Ends:     certificates[0].NotAfter.UTC(),
			Accepted: t.err == nil,
		}
	}
	return c
}
