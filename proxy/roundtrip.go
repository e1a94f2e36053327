package proxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"slices"
	"time"
)

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
	token = b.youth.standIn(token)
	ways := b.ways.Load() // for the replay too
	first := ways.pooled
	if upgrades(req.Header) {
		first = ways.upgrade
	}
	if ex.upload != nil {
		ex.upload.attach(req)
		if ex.upload.announce {
			first = ways.announce
			req.Header.Set("Expect", "100-continue")
			// Without it the body follows even a final answer (see oneShot).
			req.Close = true
		}
	}
	resp, err := b.send(ex, first, req, token)
	if err != nil {
		return nil, err
	}
	v := b.verdict(resp.StatusCode)
	b.youth.note(token, v)
	b.budget.answered(ex.route, token, v)
	if v != tokenRefused {
		return resp, nil
	}
	return b.unauthorized(ex, first, req, token, resp)
}

// send sends req with token, and never without one. It makes as many attempts
// as attempts may.
func (b *bearer) send(ex *exchangeWriter, way *carrier, req *http.Request, token Token) (*http.Response, error) {
	if token.Authorization == "" {
		return nil, &Error{Code: LoginUnavailable, RetryAfter: time.Second}
	}
	req.Header["Authorization"] = []string{token.Authorization}
	ex.Generation = token.Generation
	return b.attempts(ex, way, req)
}

// verdict tells what a status says of the token.
func (b *bearer) verdict(status int) verdict {
	switch {
	case slices.Contains(b.renew, status):
		return tokenRefused
	case status >= 500:
		return saysNothing
	}
	return tokenTaken
}

// second is how a refused request is sent once more.
type second struct {
	token   Token
	outcome Unauthorized
	due     *bill // of the login that brought token, where this request caused it
	ripen   bool  // not before token is ripe
}

// unauthorized is the half of RoundTrip after upstream refused token by resp, the
// answer to req, which went out by way of. It returns the answer for the client:
// that to the request sent once more, or the refusal as it came.
func (b *bearer) unauthorized(ex *exchangeWriter, way *carrier, req *http.Request, token Token, resp *http.Response) (*http.Response, error) {
	ctx := req.Context()
	if ex.upload != nil {
		ex.upload.hold()
		defer ex.upload.resume()
	}
	ex.Refused = true
	next, err := b.second(ctx, ex, token)
	if err == nil && !ex.mayTry(next.token.Generation) {
		err = errSpent
	}
	if err != nil {
		b.budget.leave(next.due)
		if ctx.Err() != nil {
			_ = resp.Body.Close()
			return nil, ctx.Err() // nobody is there to be told
		}
		ex.Unauthorized = Passed
		return resp, nil
	}
	// A request of its own: the transport may still be writing the first. It keeps
	// its Expect: this token too may be refused, and the body lost.
	again := req.Clone(ctx)
	if ex.upload != nil && !ex.upload.attach(again) {
		b.budget.leave(next.due)
		ex.Unauthorized = NotReplayable
		return resp, nil
	}
	discard(resp)
	ex.Unauthorized = next.outcome
	if next.ripen {
		err = ripen(ctx, next.token)
	}
	if err == nil {
		resp, err = b.send(ex, way, again, next.token)
	}
	if err != nil {
		b.budget.leave(next.due)
		return nil, err
	}
	v := b.verdict(resp.StatusCode)
	ex.Refused = v == tokenRefused
	b.youth.note(next.token, v)
	if next.outcome == TooYoung {
		b.youth.stoodIn(ex.route, next.token, token, v)
	} else {
		b.budget.replayed(ex.route, next.token, v, next.due)
	}
	return resp, nil
}

// second finds the token for a request whose token was refused. It may wait for
// a login. Any error means that there is none; a bill may be due all the same.
func (b *bearer) second(ctx context.Context, ex *exchangeWriter, token Token) (next second, err error) {
	young := b.youth.young(token)
	if young {
		b.youth.refused.Store(token.Generation)
		if before, ok := b.youth.before(token); ok {
			return second{token: before, outcome: TooYoung}, nil
		}
	}
	ex.ShortLived = b.budget.refuse(ex.route, token, time.Now())
	next.outcome = Replayed
	wait := false
	next.token, err = b.source.Renew(ctx, token.Generation, func() bool {
		// A login that has just been made for a refusal is not worth another one
		// before its token is ripe.
		if wait = young && token.age() < ripeFrom && b.budget.heals(token); wait {
			return false
		}
		next.due = b.budget.allow(ex.route, token.Generation, time.Now())
		return next.due != nil
	})
	if wait {
		next.token, err = token, nil
	}
	next.ripen = young || b.youth.late.Load() || b.youth.refused.Load() == next.token.Generation
	return next, err
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
