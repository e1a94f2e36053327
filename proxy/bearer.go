package proxy

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"time"
)

// bearer is the RoundTripper that puts the token on a request and, when
// upstream answers 401, sends it once more with a newer one.
type bearer struct {
	source   Source
	budget   *budget
	pooled   http.RoundTripper
	announce http.RoundTripper // for uploads with Expect: 100-continue
	upgrade  http.RoundTripper // for requests to switch protocols
	traced   bool              // header time-outs are on and must be told from others
}

func newBearer(o Options) *bearer {
	return &bearer{
		source:   o.Source,
		budget:   newBudget(),
		pooled:   o.Transport,
		announce: oneShot(o.Transport),
		upgrade:  onlyHTTP1(o.Transport),
		traced:   o.ResponseHeaderTimeout > 0,
	}
}

// RoundTrip sends req, which ReverseProxy made and nobody else uses.
func (b *bearer) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	ex := exchangeOf(ctx)
	if trace := httptrace.ContextClientTrace(ctx); trace != nil {
		// By it ReverseProxy would pass on each 1xx, which ModifyResponse never
		// sees (golang/go 81319), and clear the answer's header with it.
		trace.Got1xxResponse = nil
	}
	start := time.Now()
	token, err := b.source.Token(ctx)
	ex.TokenWait = max(time.Since(start), 1) // 0 means that none was asked for
	if err != nil {
		if _, ok := errors.AsType[*Error](err); !ok && ctx.Err() == nil {
			err = &Error{Code: LoginUnavailable, RetryAfter: time.Second} // upstream has no part in it
		}
		return nil, err
	}
	first := b.pooled
	if upgrades(req.Header) {
		first = b.upgrade
	}
	if ex.upload != nil {
		ex.upload.attach(req)
		if ex.upload.announce {
			first = b.announce
			req.Header.Set("Expect", "100-continue")
			// Without it the body follows even a final answer (see oneShot).
			req.Close = true
		}
	}
	resp, err := b.send(ex, first, req, token)
	if err != nil {
		return nil, err
	}
	b.budget.answered(ex.route, token.Generation, resp.StatusCode)
	if resp.StatusCode != http.StatusUnauthorized {
		return resp, nil
	}

	if ex.upload != nil {
		ex.upload.hold()
		defer ex.upload.resume()
	}
	var due *bill
	newer, err := b.source.Renew(ctx, token.Generation, func() bool {
		due = b.budget.allow(ex.route, token.Generation, time.Now())
		return due != nil
	})
	if err != nil {
		b.budget.leave(due)
		if ctx.Err() != nil {
			_ = resp.Body.Close()
			return nil, ctx.Err() // nobody is there to be told
		}
		ex.Unauthorized = Passed
		return resp, nil
	}
	// A request of its own: the transport may still be writing the first.
	again := req.Clone(ctx)
	again.Header.Del("Expect")
	if ex.upload != nil && !ex.upload.attach(again) {
		b.budget.leave(due)
		ex.Unauthorized = NotReplayable
		resp.Header.Add("Proxy-Status", `bearerd; details="reauthenticated_not_replayed"`)
		return resp, nil
	}
	discard(resp)
	ex.Unauthorized = Replayed
	resp, err = b.send(ex, first, again, newer)
	if err != nil {
		b.budget.leave(due)
		return nil, err
	}
	b.budget.replayed(ex.route, resp.StatusCode, due)
	return resp, nil
}

// send makes one attempt with token, and never one without.
func (b *bearer) send(ex *exchange, rt http.RoundTripper, req *http.Request, token Token) (*http.Response, error) {
	if token.Authorization == "" {
		return nil, &Error{Code: LoginUnavailable, RetryAfter: time.Second}
	}
	req.Header["Authorization"] = []string{token.Authorization}
	ex.Generation = token.Generation
	if b.traced {
		ex.connected.Store(false)
		req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
			GotConn: func(httptrace.GotConnInfo) { ex.connected.Store(true) },
		}))
	}
	return rt.RoundTrip(req)
}

// discard reads the little that a 401 usually says, so that its connection
// can be used again, and closes it.
func discard(resp *http.Response) {
	const most = 64 << 10
	stop := time.AfterFunc(time.Second, func() { _ = resp.Body.Close() })
	defer stop.Stop()
	_, _ = io.CopyN(io.Discard, resp.Body, most)
	_ = resp.Body.Close()
}

// answerError is ReverseProxy's ErrorHandler. r may carry the token, and err
// may quote upstream: neither is shown to anybody.
func (h *Handler) answerError(w http.ResponseWriter, r *http.Request, err error) {
	ex := w.(*exchange)
	if ex.tunnel != nil {
		_ = ex.tunnel.Close() // ReverseProxy leaves it open where it does not switch
	}
	own, isOwn := errors.AsType[*Error](err)
	if r.Context().Err() != nil {
		ex.body.stop()
	}
	switch failure := ex.body.failure(); {
	case failure != nil:
		// An end of the connection cancels the request. The answer is for a
		// client that only closed its sending side; most are gone.
		ex.left = r.Context().Err() != nil && !errors.Is(failure, os.ErrDeadlineExceeded)
		h.refuse(ex, &Error{Code: BadBody})
	case isOwn:
		h.refuse(ex, own)
	case r.Context().Err() != nil:
		// Returning would send an empty 200 to a client that is still there
		// when bearerd stops.
		panic(http.ErrAbortHandler)
	case h.bearer.traced && ex.connected.Load() && isTimeout(err):
		ex.Cause = err
		h.refuse(ex, &Error{Code: UpstreamTimeout})
	default:
		ex.Cause = err
		h.refuse(ex, &Error{Code: UpstreamUnreachable})
	}
}

func isTimeout(err error) bool {
	t, ok := errors.AsType[net.Error](err)
	return ok && t.Timeout()
}
