package proxy

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// exchangeWriter follows one request through the handler, and is its
// ResponseWriter.
type exchangeWriter struct {
	Exchange
	w        http.ResponseWriter
	sendAway func() bool // as in Options
	length   int64       // of the response body, as announced; 0: unknown or none
	writeErr error
	body     inbound
	upload   *upload // nil: no body
	query    string  // what followed the path's question mark
	hasQuery bool    // there was one
	route    uint64  // see budget
	target   *url.URL
	tunnel   io.Closer // upstream's end of an upgrade, or nil
	left     bool      // the client went away with its body half sent
	secure   bool      // the client came by TLS
	try      try       // the last attempt
	watched  bool      // the request's trace tells try
	tried    uint64    // generation of the token of the last attempt
	triedBy  int       // attempts with it
}

type exchangeKey struct{}

func exchangeOf(ctx context.Context) *exchangeWriter {
	ex, _ := ctx.Value(exchangeKey{}).(*exchangeWriter)
	return ex
}

func (ex *exchangeWriter) Header() http.Header { return ex.w.Header() }

func (ex *exchangeWriter) WriteHeader(status int) {
	if ex.Status == 0 {
		ex.Status = status
		ex.length, _ = strconv.ParseInt(ex.Header().Get("Content-Length"), 10, 64)
	}
	if h := ex.Header(); h["Content-Type"] == nil {
		h["Content-Type"] = nil // or net/http would guess one that upstream did not give
	}
	if ex.body.unread() {
		// On a connection that goes on, net/http reads up to 256 KiB of what is
		// left before it writes (server.go, writeHeader). The answer would wait
		// for a slow client, and upstream would get a body with a hole in it.
		ex.Header().Set("Connection", "close")
	}
	if ex.sendAway != nil && ex.sendAway() {
		ex.Header().Set("Connection", "close")
	}
	ex.w.WriteHeader(status)
	if ex.length > copyBufferSize {
		// The body may be long in coming. That of a small answer is near, and
		// its header goes out with it: a write less.
		_ = ex.FlushError()
	}
}

// Hijack is how ReverseProxy begins an upgrade: no WriteHeader follows.
func (ex *exchangeWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(ex.w).Hijack()
	if err == nil {
		ex.Status = http.StatusSwitchingProtocols
	}
	return conn, buffered, err
}

func (ex *exchangeWriter) Write(p []byte) (int, error) {
	if ex.Status == 0 {
		ex.Status = http.StatusOK
	}
	n, err := ex.w.Write(p)
	ex.BytesOut += int64(n)
	if err != nil {
		ex.writeErr = err
		return n, err
	}
	if ex.BytesOut < ex.length {
		// More is to come, and nobody knows when: a stream may have a length
		// too. The last part goes out as the handler returns.
		_ = ex.FlushError()
	}
	return n, ex.writeErr
}

// FlushError is what http.ResponseController and ReverseProxy flush by.
func (ex *exchangeWriter) FlushError() error {
	err := http.NewResponseController(ex.w).Flush()
	if err != nil && !errors.Is(err, http.ErrNotSupported) {
		ex.writeErr = err
	}
	return err
}

// reset breaks the connection. A client of HTTP/1.0 takes its mere end for the
// end of an answer without a length.
func (ex *exchangeWriter) reset() {
	conn, _, err := http.NewResponseController(ex.w).Hijack()
	if err != nil {
		return // it ends all the same
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// end settles the outcome. returned is false when the handler panicked, as
// ReverseProxy does to abort an answer. ctx is the request's; a program that
// cancels it gives a cause (context.WithCancelCause).
func (ex *exchangeWriter) end(ctx context.Context, returned bool) {
	// net/http cancels without a cause: with one, the program has ended it.
	cause := context.Cause(ctx)
	stopped := cause != nil && !errors.Is(cause, context.Canceled)
	switch {
	case !returned && stopped:
		ex.Outcome = Aborted
	case ex.writeErr != nil, ex.left, !returned && cause != nil:
		ex.Outcome = ClientClosed
	case !returned:
		ex.Outcome = Aborted
	default:
		ex.Outcome = Completed
	}
	ex.BytesIn = ex.body.n.Load()
	ex.Duration = time.Since(ex.Start)
}
