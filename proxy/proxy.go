package proxy

import (
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-chi/cors"
)

// Handler is the data path: a reverse proxy to one upstream.
type Handler struct {
	opt      Options
	guard    *guard
	cors     *cors.Cors
	target   target
	fields   fields
	reverse  *httputil.ReverseProxy
	bearer   *bearer
	inFlight atomic.Int64
	reserve  reserve
}

// New returns a handler for o.
func New(o Options) *Handler {
	if o.Transport == nil {
		o.Transport = NewTransport(TransportOptions{ResponseHeaderTimeout: o.ResponseHeaderTimeout})
	}
	if len(o.RenewStatus) == 0 {
		o.RenewStatus = []int{http.StatusUnauthorized}
	}
	if o.ReplayTotal == 0 {
		o.ReplayTotal = 64 << 20
	}
	if o.MaxInFlight == 0 {
		o.MaxInFlight = 4096
	}
	if o.BodyIdle == 0 {
		o.BodyIdle = time.Minute
	}
	h := &Handler{
		opt:    o,
		guard:  newGuard(o),
		target: newTarget(o.Upstream, viaProxy(o)),
		bearer: newBearer(o),
	}
	h.cors = newCORS(h.guard.origins, h.guard.allow)
	h.fields = fields{target: h.target, required: h.guard.header, cookies: o.ForwardCookies}
	h.reserve.limit = o.ReplayTotal
	h.reverse = &httputil.ReverseProxy{
		Rewrite:        h.rewrite,
		Transport:      h.bearer,
		ModifyResponse: h.modifyResponse,
		ErrorHandler:   h.answerError,
		BufferPool:     copyBuffers{},
		// Its texts may quote what upstream sent.
		ErrorLog: log.New(io.Discard, "", 0),
	}
	return h
}

// viaProxy reports whether an HTTP proxy stands before upstream. A SOCKS proxy
// only carries the connection.
func viaProxy(o Options) bool {
	t, ok := o.Transport.(*http.Transport)
	if !ok || t.Proxy == nil {
		return false
	}
	proxy, err := t.Proxy(&http.Request{URL: o.Upstream})
	return err == nil && proxy != nil && (proxy.Scheme == "http" || proxy.Scheme == "https")
}

// InFlight returns how many requests are being served now.
func (h *Handler) InFlight() int64 { return h.inFlight.Load() }

// ReplayBytes returns how many bytes of request bodies are held for a replay.
func (h *Handler) ReplayBytes() int64 { return h.reserve.used.Load() }

// CloseIdleConnections closes the connections to upstream that carry no request.
// Those of Options.Transport are not all: one that upstream announces to close
// soon is kept apart.
func (h *Handler) CloseIdleConnections() { h.bearer.ways.Load().closeIdle() }

// SetTransport has requests go upstream by t from now on, which is as
// Options.Transport, but for its TLS: other roots, another client certificate.
// What is under way ends as it began, however long that takes; idle connections
// of the transport before are closed, and it makes no new one.
func (h *Handler) SetTransport(t http.RoundTripper) {
	h.bearer.ways.Swap(newWays(t)).closeIdle()
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ex := &exchangeWriter{
		Exchange: Exchange{Method: r.Method, UserAgent: r.UserAgent(), Start: time.Now()},
		w:        w,
		sendAway: h.opt.SendAway,
		secure:   r.TLS != nil,
	}
	if strings.HasPrefix(r.RequestURI, "/") {
		ex.Path, ex.query, ex.hasQuery = strings.Cut(r.RequestURI, "?")
	}
	returned := false
	defer func() {
		if !returned {
			ex.body.end()
			if ex.Status != 0 {
				// The answer is cut before its first body byte, maybe: what came
				// of it is the client's. net/http forgets what is not flushed.
				_ = ex.FlushError()
			}
		} else if ex.body.unread() {
			_ = ex.FlushError() // a failure is the client's: it has left
		}
		ex.try.wish.open.Store(false)
		ex.end(r.Context(), returned)
		if ex.Outcome == Aborted && !r.ProtoAtLeast(1, 1) {
			ex.reset()
		}
		if h.opt.Done != nil {
			h.opt.Done(&ex.Exchange)
		}
		if returned {
			ex.body.drain()
		}
	}()
	h.serve(ex, r)
	returned = true
}

func (h *Handler) serve(ex *exchangeWriter, r *http.Request) {
	if isPreface(r) {
		ex.refuseHTTP2()
		return
	}
	dropH2C(r.Header)
	if r.ContentLength != 0 {
		ex.body.body, ex.body.conn, ex.body.idle = r.Body, http.NewResponseController(ex.w), h.opt.BodyIdle
	}
	if refused := h.guard.refuseCaller(r, ex.Path); refused != nil {
		h.refuse(ex, refused)
		return
	}
	if len(h.guard.origins) == 0 && !isPreflight(r) {
		h.forward(ex, r)
		return
	}
	h.cors.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { h.forward(ex, r) })).ServeHTTP(ex, r)
}

// forward serves a request from somebody who may call.
func (h *Handler) forward(ex *exchangeWriter, r *http.Request) {
	if refused := h.guard.refuseRequest(r, ex.Path); refused != nil {
		h.refuse(ex, refused)
		return
	}
	defer h.inFlight.Add(-1)
	if h.inFlight.Add(1) > int64(h.opt.MaxInFlight) {
		h.refuse(ex, &Error{Code: Overloaded, RetryAfter: time.Second})
		return
	}
	if ex.target = h.target.url(r.URL.Path, ex.Path, ex.query, ex.hasQuery); ex.target == nil {
		h.refuse(ex, &Error{Code: BadPath})
		return
	}
	r = r.WithContext(context.WithValue(r.Context(), exchangeKey{}, ex))
	if r.ContentLength != 0 {
		// Before it returns, RoundTrip waits for the body's reader.
		defer context.AfterFunc(r.Context(), ex.body.stop)()
		var err error
		ex.upload, err = newUpload(r, &ex.body, h.opt.ReplayBuffer, &h.reserve)
		defer ex.upload.release()
		if err != nil {
			h.answerError(ex, r, err)
			return
		}
	}
	ex.route = h.bearer.budget.route(ex.Method, ex.Path)
	h.reverse.ServeHTTP(ex, r)
	// Trailers that upstream did not announce are known only now.
	for name := range ex.Header() {
		if trailer, ok := strings.CutPrefix(name, http.TrailerPrefix); ok && h.fields.dropsTrailer(trailer) {
			delete(ex.Header(), name)
		}
	}
}

func (h *Handler) refuse(ex *exchangeWriter, e *Error) {
	ex.Error = e.Code
	if e.Code == MethodNotAllowed {
		ex.Header().Set("Allow", h.guard.allow)
	}
	if ex.Method == http.MethodConnect || e.Code == UpgradeNotAllowed {
		// The client may have begun to speak through the tunnel that it asked
		// for. What somebody else gave it to send is no request of its own.
		ex.Header().Set("Connection", "close")
	}
	writeError(ex, e)
}

// rewrite makes the outbound request. The token is not on it yet: the bearer
// RoundTripper sets it last, where no hop-by-hop rule can remove it.
func (h *Handler) rewrite(pr *httputil.ProxyRequest) {
	out := pr.Out
	out.URL = exchangeOf(pr.In.Context()).target
	out.Host = h.target.host
	out.Trailer = nil
	// ReverseProxy keeps an inbound HTTP/1.0, for which Expect does nothing
	// (net/http: transport.go, roundTrip).
	out.Proto, out.ProtoMajor, out.ProtoMinor = "HTTP/1.1", 1, 1
	h.fields.dropFromRequest(out.Header)
	if h.opt.Forwarded {
		setForwarded(out.Header, pr.In, h.target.rawPath != "")
	}
}

func (h *Handler) modifyResponse(resp *http.Response) error {
	if resp.StatusCode != http.StatusSwitchingProtocols && (resp.StatusCode < 200 || resp.StatusCode > 999) {
		return errNoStatus
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		exchangeOf(resp.Request.Context()).tunnel = resp.Body
	}
	h.fields.mapResponse(resp, exchangeOf(resp.Request.Context()))
	return nil
}

// errNoStatus is for an answer such as 099, or 1000 by HTTP/2, which net/http
// would panic at.
var errNoStatus = errors.New("upstream sent a status that is none")

// answerError is ReverseProxy's ErrorHandler. r may carry the token, and err
// may quote upstream: neither is shown to anybody.
func (h *Handler) answerError(_ http.ResponseWriter, r *http.Request, err error) {
	ex := exchangeOf(r.Context())
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
	case h.bearer.timed && ex.try.got.Load() && headerTimeout(err):
		ex.Cause = err
		h.refuse(ex, &Error{Code: UpstreamTimeout})
	default:
		ex.Cause = err
		h.refuse(ex, &Error{Code: UpstreamUnreachable})
	}
}
