package proxy

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"time"
)

const (
	mostPerToken = 2 // attempts with one token
	mostAttempts = 3 // attempts in all
)

// fallback is how long bearerd keeps to HTTP/1.1 for an upstream that requires
// it.
const fallback = 10 * time.Minute

// attempts sends req, and once more where that may be done; RoundTrip's error
// is named. The bounds hold over all calls for one exchange.
func (b *bearer) attempts(ex *exchangeWriter, way *carrier, req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	trace := httptrace.ContextClientTrace(ctx)
	if trace == nil { // not ReverseProxy's
		trace, ex.watched = new(httptrace.ClientTrace), false
		ctx = httptrace.WithClientTrace(ctx, trace)
		req = req.WithContext(ctx)
	}
	if !ex.watched {
		ex.watched = true
		ex.try.watch(ctx, trace, b.dials)
	}
	if until := b.http1Until.Load(); until > 0 && way.http1 != nil && time.Now().UnixNano() < until {
		way = way.http1
	}
	a, repeatable := &ex.try, idempotent(req)
	if ex.tried != ex.Generation {
		ex.tried, ex.triedBy = ex.Generation, 0
	}
	for fresh := false; ; fresh = true {
		out := req
		if repeatable && !fresh {
			// The transport itself would send it again, by any connection.
			inner, stop := context.WithCancelCause(ctx)
			a.begin(stop)
			out = req.WithContext(inner)
		} else {
			a.begin(nil)
		}
		resp, err := way.roundTripper(fresh).RoundTrip(out)
		a.wish.end()
		if err == nil || a.wrote() {
			ex.triedBy++
			ex.Attempts++
		}
		if err == nil {
			if resp.Header["Keep-Alive"] != nil && resp.ProtoMajor == 1 {
				way.shorten(resp.Header)
			}
			return resp, nil
		}
		what := diagnose(err)
		if what.wantsHTTP1 && way.http1 != nil {
			b.http1Until.Store(time.Now().Add(fallback).UnixNano())
			way = way.http1
		}
		// Of two dials that net/http has begun for this request, the one that it has
		// left behind may come to the queue second, and take the other's place.
		displaced := errors.Is(err, errUnwanted)
		if !a.got.Load() && !displaced && !errors.Is(err, errCrowded) || a.answered.Load() || ctx.Err() != nil || ex.body.failure() != nil || headerTimeout(err) ||
			!a.wrote() && fresh && !displaced || !ex.mayTry(ex.tried) ||
			!(!a.wrote() || repeatable && a.mayDie || what.unprocessed) {
			return nil, what.name(err)
		}
		// A request of its own, as its body is.
		req = req.WithContext(ctx)
		if ex.upload != nil && !ex.upload.attach(req) {
			return nil, what.name(err)
		}
	}
}

// mayTry reports whether one more attempt with the token of that generation is
// within the bounds.
func (ex *exchangeWriter) mayTry(generation uint64) bool {
	return ex.Attempts < mostAttempts && (generation != ex.tried || ex.triedBy < mostPerToken)
}

// errSpent is for a request that was sent as often as it may be.
var errSpent = errors.New("no attempt is left")

// idempotent is what net/http holds to be so, which is less than RFC 9110 does:
// a PUT or DELETE that is sent twice may well be answered with an error.
func idempotent(req *http.Request) bool {
	switch req.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return req.Header["Idempotency-Key"] != nil || req.Header["X-Idempotency-Key"] != nil
}

// headerTimeout reports whether err is the end of RESPONSE_HEADER_TIMEOUT.
func headerTimeout(err error) bool {
	if _, ofSystem := errors.AsType[*net.OpError](err); ofSystem {
		return false // TCP gave the connection up
	}
	return isTimeout(err)
}

func isTimeout(err error) bool {
	t, ok := errors.AsType[net.Error](err)
	return ok && t.Timeout()
}
