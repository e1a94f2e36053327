package proxy

import (
	"context"
	"errors"
	"net"
	"net/http/httptrace"
	"sync/atomic"
)

// try follows one attempt upstream. Its zero value is one that has not
// begun.
type try struct {
	stop     context.CancelCauseFunc // ends it, where the transport would begin another; nil: it will not
	conn     *countedConn            // HTTP/1.1's, where it is known
	start    int64                   // bytes written to conn before
	stopped  bool
	mayDie   bool        // its connection may have died before: not one of HTTP/1.1 that is new
	wish     wish        // for a connection
	got      atomic.Bool // a connection was had
	headers  atomic.Bool // upstream may have read the header
	answered atomic.Bool // upstream has begun to answer
}

// begin makes a the next attempt.
func (a *try) begin(stop context.CancelCauseFunc) {
	a.stop, a.conn, a.start, a.stopped, a.mayDie = stop, nil, 0, false, false
	a.wish.begin()
	a.got.Store(false)
	a.headers.Store(false)
	a.answered.Store(false)
}

// wrote reports whether a byte of the request may have reached upstream.
func (a *try) wrote() bool {
	if a.conn != nil {
		return a.conn.written.Load() > a.start
	}
	return a.headers.Load()
}

var errSecondTry = errors.New("the transport would have sent the request again")

// watch has trace tell a of each attempt, and dials of what it looks for. ctx and
// trace are this request's alone.
func (a *try) watch(ctx context.Context, trace *httptrace.ClientTrace, dials *Dials) {
	getConn, gotConn, wroteHeaders, firstByte := trace.GetConn, trace.GotConn, trace.WroteHeaders, trace.GotFirstResponseByte
	trace.GetConn = func(address string) {
		// Without stop it is a request that net/http sends again only where no
		// byte was written (transport.go, shouldRetryRequest).
		if a.stop != nil && a.wrote() {
			a.stopped = true
			a.stop(errSecondTry)
		}
		dials.seek(ctx, &a.wish)
		a.wish.open.Store(true)
		if getConn != nil {
			getConn(address)
		}
	}
	trace.GotConn = func(info httptrace.GotConnInfo) {
		a.wish.end()
		if a.stopped && info.Conn != nil {
			// The end of the context and the connection were there at once, and
			// getConn took this one: nothing may be written to it.
			_ = info.Conn.Close()
		}
		if !a.stopped {
			a.headers.Store(false)
			a.mayDie = info.Reused || info.Conn == nil
			if a.conn = counted(info.Conn); a.conn != nil {
				a.start = a.conn.written.Load()
			}
			a.got.Store(true)
		}
		if gotConn != nil {
			gotConn(info)
		}
	}
	trace.WroteHeaders = func() {
		a.headers.Store(true)
		if wroteHeaders != nil {
			wroteHeaders()
		}
	}
	trace.GotFirstResponseByte = func() {
		a.answered.Store(true)
		if firstByte != nil {
			firstByte()
		}
	}
}

// countedConn counts what is written to a connection: net/http does not tell
// whether a byte of a request was.
type countedConn struct {
	net.Conn
	written atomic.Int64
	opening atomic.Pointer[opening] // nil: it is open
}

func (c *countedConn) Write(p []byte) (int, error) {
	if o := c.opening.Load(); o != nil && o.writes(p) {
		c.opening.Store(nil)
		o.turn.end(nil)
	}
	n, err := c.Conn.Write(p)
	c.written.Add(int64(n))
	return n, err
}

func (c *countedConn) Close() error {
	if o := c.opening.Swap(nil); o != nil {
		o.closes()
	}
	return c.Conn.Close()
}

// counted finds the countedConn in conn; nil where there is none.
func counted(conn net.Conn) *countedConn {
	for conn != nil {
		switch c := conn.(type) {
		case *countedConn:
			return c
		case interface{ NetConn() net.Conn }: // TLS
			conn = c.NetConn()
		default:
			return nil
		}
	}
	return nil
}
