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
	"sync/atomic"
	"time"
)

// Outcome is how a request ended.
type Outcome string

const (
	Completed    Outcome = "completed"     // an answer went out whole
	Aborted      Outcome = "aborted"       // upstream cut it short, and so did bearerd; or the program ended it
	ClientClosed Outcome = "client_closed" // the client left first
)

// Unauthorized is what became of a request that upstream answered with 401.
type Unauthorized string

const (
	Replayed      Unauthorized = "replayed"       // sent again with a newer token
	Passed        Unauthorized = "passed"         // no newer token was to be had
	NotReplayable Unauthorized = "not_replayable" // there is one, but the body was gone
)

// Exchange is what is known of a request at its end. But for Cause it holds no
// secret.
type Exchange struct {
	Method     string
	Path       string // as it came, without the query; empty for a target that is no path
	Status     int    // of the answer; 0: none was sent
	Outcome    Outcome
	Start      time.Time
	Duration   time.Duration
	TokenWait  time.Duration // how long it waited for its first token
	BytesIn    int64         // of the request body
	BytesOut   int64         // of the response body; not counted after an upgrade
	Generation uint64        // of the last token sent upstream; 0: none was
	Error      Code          // of the answer, where it is bearerd's own
	Cause      error         // of an upstream error. Its text may quote upstream: do not log it

	Unauthorized Unauthorized // empty: upstream sent no 401
}

// exchange follows one request through the handler, and is its
// ResponseWriter.
type exchange struct {
	Exchange
	w        http.ResponseWriter
	sendAway func() bool // as in Options
	length   int64       // of the response body, as announced; 0: unknown or none
	writeErr error
	body     inbound
	upload   *upload // nil: no body
	route    uint64  // see budget
	target   *url.URL
	tunnel   io.Closer // upstream's end of an upgrade, or nil
	left     bool      // the client went away with its body half sent
	// connected tells a time-out of the response header from one of the dial
	// or the TLS handshake: both report Timeout().
	connected atomic.Bool
}

type exchangeKey struct{}

func exchangeOf(ctx context.Context) *exchange {
	ex, _ := ctx.Value(exchangeKey{}).(*exchange)
	return ex
}

func (ex *exchange) Header() http.Header { return ex.w.Header() }

func (ex *exchange) WriteHeader(status int) {
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
func (ex *exchange) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(ex.w).Hijack()
	if err == nil {
		ex.Status = http.StatusSwitchingProtocols
	}
	return conn, buffered, err
}

func (ex *exchange) Write(p []byte) (int, error) {
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
func (ex *exchange) FlushError() error {
	err := http.NewResponseController(ex.w).Flush()
	if err != nil && !errors.Is(err, http.ErrNotSupported) {
		ex.writeErr = err
	}
	return err
}

// reset breaks the connection. A client of HTTP/1.0 takes its mere end for the
// end of an answer without a length.
func (ex *exchange) reset() {
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
func (ex *exchange) end(ctx context.Context, returned bool) {
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
