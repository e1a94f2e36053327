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
	traced   bool              // header time-outs are on and must be told from others
}

func newBearer(o Options) *bearer {
	return &bearer{
		source:   o.Source,
		budget:   newBudget(),
		pooled:   o.Transport,
		announce: oneShot(o.Transport),
		traced:   o.ResponseHeaderTimeout > 0,
	}
}

// RoundTrip sends req, which ReverseProxy made and nobody else uses.
func (b *bearer) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	ex := exchangeOf(ctx)
	start := time.Now()
	token, err := b.source.Token(ctx)
	ex.TokenWait = time.Since(start)
	if err != nil {
		return nil, err
	}
	first := b.pooled
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
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		return resp, err
	}

	if ex.upload != nil {
		ex.upload.hold()
		defer ex.upload.resume()
	}
	newer, err := b.source.Renew(ctx, token.Generation, func() bool {
		return b.budget.allow(ex.path, token.Generation, time.Now())
	})
	if err != nil {
		ex.Unauthorized = Passed
		return resp, nil
	}
	// A request of its own: the transport may still be writing the first.
	again := req.Clone(ctx)
	again.Header.Del("Expect")
	if ex.upload != nil && !ex.upload.attach(again) {
		ex.Unauthorized = NotReplayable
		resp.Header.Set("Proxy-Status", `bearerd; details="reauthenticated_not_replayed"`)
		return resp, nil
	}
	discard(resp)
	ex.Unauthorized = Replayed
	return b.send(ex, first, again, newer)
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
	resp, err := rt.RoundTrip(req)
	if err == nil {
		b.budget.answered(ex.path, token.Generation, resp.StatusCode)
	}
	return resp, err
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
	own, isOwn := errors.AsType[*Error](err)
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
		h.refuse(ex, &Error{Code: UpstreamTimeout})
	default:
		h.refuse(ex, &Error{Code: UpstreamUnreachable})
	}
}

func isTimeout(err error) bool {
	t, ok := errors.AsType[net.Error](err)
	return ok && t.Timeout()
}
