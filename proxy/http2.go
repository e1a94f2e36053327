package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"slices"
	"sync"
	"time"
)

// multiplexer is the HTTP/2 of one transport: it keeps the connections, and a
// RoundTrip on it is one attempt on one of them.
//
// net/http's own HTTP/2 sends a request again whenever it was reset with
// REFUSED_STREAM or PROTOCOL_ERROR or met a GOAWAY, without an end where a
// connection takes a single request (golang/go 52459), and tells nobody. An
// [http.ClientConn] does none of that, and returns what upstream did.
type multiplexer struct {
	owner  *http.Transport
	single bool // each connection carries one request, that which dialled it

	once   sync.Once
	opener *http.Transport // makes a ClientConn of a connection that is there

	mu    sync.Mutex // guards conns
	conns []*streams
}

// streams is an HTTP/2 connection.
type streams struct {
	*http.ClientConn
	of   *multiplexer
	born time.Time
	wait time.Duration // see roundTrip
}

// retire closes the connection unless a request is on it: net/http forgets to,
// where the last one never got its stream.
func (s *streams) retire() {
	s.of.mu.Lock() // lest a place be reserved meanwhile
	defer s.of.mu.Unlock()
	if s.InFlight() == 0 {
		_ = s.Close()
	}
}

// multiplex gives t HTTP/2 of this package's making, if it is to speak it. t
// must not have been used.
func multiplex(t *http.Transport) {
	if t.Protocols == nil || !t.Protocols.HTTP2() || !http2Enabled() {
		return
	}
	m := &multiplexer{owner: t, single: t.DisableKeepAlives}
	t.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{"h2": m.adopt}
	if t.TLSClientConfig == nil {
		t.TLSClientConfig = new(tls.Config)
	}
	t.TLSClientConfig.NextProtos = []string{"h2", "http/1.1"}
	if !m.single {
		// By this t asks m first, and CloseIdleConnections reaches it: net/http
		// looks for the method in the first field (transport.go,
		// onceSetNextProtoDefaults).
		t.RegisterProtocol("https", registered{m})
	}
}

// http2Enabled reports whether net/http speaks HTTP/2 at all, which GODEBUG can
// forbid.
func http2Enabled() bool {
	t := &http.Transport{Protocols: new(http.Protocols)}
	t.Protocols.SetHTTP2(true)
	_ = t.Clone() // settles what t speaks
	return t.TLSNextProto["h2"] != nil
}

// registered is a multiplexer as net/http wants it for a scheme.
type registered struct{ Multiplexer *multiplexer }

func (r registered) RoundTrip(req *http.Request) (*http.Response, error) {
	conn := r.Multiplexer.reserve()
	if conn == nil {
		return nil, http.ErrSkipAltProtocol // the transport finds a connection, and comes back
	}
	return conn.roundTrip(req, true)
}

// noConn is the error by which a transport is asked for another connection;
// net/http knows it by the method.
type noConn struct{ error }

func (noConn) IsHTTP2NoCachedConnError() {}

var (
	// errCrowded ends the search for a connection that takes a request.
	errCrowded = errors.New("upstream's HTTP/2 connections take no request")
	errStill   = errors.New("upstream closed the HTTP/2 connection before it took a request")
)

// mostDials is how many connections are made for a request, while others, or an
// upstream that allows no stream, keep it from its turn. After them it gets one
// that is its own.
const mostDials = 4

// RoundTrip is for the transport, which has just made or found a connection.
func (m *multiplexer) RoundTrip(req *http.Request) (*http.Response, error) {
	if conn := m.reserve(); conn != nil {
		return conn.roundTrip(req, true)
	}
	if ex := exchangeOf(req.Context()); ex != nil {
		if ex.try.wish.dials.Load() >= mostDials {
			return nil, errCrowded
		}
	}
	return nil, noConn{errCrowded}
}

// reserve returns a connection with room for one request, or nil.
func (m *multiplexer) reserve() *streams {
	m.mu.Lock()
	defer m.mu.Unlock()
	dead := false
	for _, c := range m.conns {
		if c.Reserve() == nil {
			return c
		}
		dead = dead || c.Err() != nil
	}
	if dead {
		m.conns = slices.DeleteFunc(m.conns, func(c *streams) bool { return c.Err() != nil })
	}
	return nil
}

// CloseIdleConnections is called by the transport's.
func (m *multiplexer) CloseIdleConnections() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.conns = slices.DeleteFunc(m.conns, func(c *streams) bool {
		if c.InFlight() > 0 {
			return false
		}
		_ = c.Close()
		return true
	})
}

// adopt takes a connection on which both sides have agreed to speak HTTP/2, and
// returns what sends requests on it.
func (m *multiplexer) adopt(authority string, conn *tls.Conn) http.RoundTripper {
	if m.hasRoom() {
		// Many requests at once each dial; the first connection carries them all.
		go func() { _ = conn.Close() }()
		return m
	}
	m.once.Do(func() { m.opener = opener(m.owner) })
	c, err := m.opener.NewClientConn(context.WithValue(context.Background(), adoptedKey{}, net.Conn(conn)), "https", authority)
	if err != nil {
		_ = conn.Close()
		return stillborn{err}
	}
	made := &streams{c, m, time.Now(), slotWait}
	if d := m.owner.ResponseHeaderTimeout; d > 0 {
		made.wait = min(d, slotWait)
	}
	if m.single {
		return singleConn{made}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.conns = append(m.conns, made)
	return m
}

func (m *multiplexer) hasRoom() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.ContainsFunc(m.conns, func(c *streams) bool { return c.Available() > 0 })
}

type adoptedKey struct{}

// opener returns a transport with owner's settings, whose connections are those
// that it is handed.
func opener(owner *http.Transport) *http.Transport {
	t := owner.Clone()
	t.TLSNextProto = nil
	t.Proxy = nil // the connection goes through it already
	t.DialTLSContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return ctx.Value(adoptedKey{}).(net.Conn), nil
	}
	return t
}

// stillborn is a connection that failed as it was adopted. net/http knows it by
// the method.
type stillborn struct{ err error }

func (s stillborn) RoundTripErr() error { return s.err }

func (s stillborn) RoundTrip(*http.Request) (*http.Response, error) { return nil, s.err }

// singleConn is a connection for one request. It closes itself when that ends,
// as its transport keeps none alive.
type singleConn struct{ conn *streams }

func (s singleConn) RoundTrip(req *http.Request) (*http.Response, error) {
	if s.conn.Reserve() != nil {
		dead := s.conn.Err() != nil
		_ = s.conn.Close()
		if dead {
			return nil, errStill
		}
		return nil, errCrowded
	}
	resp, err := s.conn.roundTrip(req, false)
	if err != nil {
		_ = s.conn.Close()
	}
	return resp, err
}

// slotWait is how long a request waits for its stream on a connection that is
// younger: upstream may have said only after the place was reserved how few
// streams it allows, and those can last.
const slotWait = 5 * time.Second

// roundTrip sends req, for which a place is reserved.
func (s *streams) roundTrip(req *http.Request, reused bool) (*http.Response, error) {
	ctx := req.Context()
	if trace := httptrace.ContextClientTrace(ctx); trace != nil && trace.GotConn != nil {
		trace.GotConn(httptrace.GotConnInfo{Reused: reused})
	}
	ex := exchangeOf(ctx)
	if ex == nil || time.Since(s.born) > slotWait {
		return s.RoundTrip(req)
	}
	ctx, stop := context.WithCancelCause(ctx)
	late := time.AfterFunc(s.wait, func() {
		// From here on it may have been written: nobody can tell any more.
		if ex.try.headers.CompareAndSwap(false, true) {
			stop(errCrowded)
		}
	})
	defer late.Stop()
	resp, err := s.RoundTrip(req.WithContext(ctx))
	if err != nil && context.Cause(ctx) == errCrowded {
		s.retire()
		return nil, errCrowded
	}
	return resp, err
}
