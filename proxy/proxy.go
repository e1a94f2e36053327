package proxy

import (
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-chi/cors"
)

// Token is what a [Source] gives: the header value to send and the token's
// serial number.
type Token struct {
	Authorization string // value of the Authorization header, a secret
	Generation    uint64
}

// Source gives the token that requests carry. [tokens.Manager] is one, behind
// an adapter. Its errors are those of ctx, or an [Error] to answer with.
//
// [tokens.Manager]: https://pkg.go.dev/github.com/bearerd/bearerd/tokens#Manager
type Source interface {
	// Token returns the current token. It may wait for one, until ctx ends.
	Token(ctx context.Context) (Token, error)

	// Renew returns a token newer than refused, the generation that upstream
	// answered with 401. Where that takes a login it asks may, which must not
	// block, whether the login is worth it. Any error means that there is none.
	Renew(ctx context.Context, refused uint64, may func() bool) (Token, error)
}

// Options configure a [Handler]. Upstream and Source must be set; the zero
// value of any other field is good.
type Options struct {
	Upstream *url.URL // scheme, host and, where there is one, path prefix
	Source   Source

	Transport             http.RoundTripper // nil: NewTransport's
	ResponseHeaderTimeout time.Duration     // as in TransportOptions; tells how to name a time-out

	Hosts          []string // further Host values, besides this machine's own
	Origins        []string // of web pages that may call, as browsers write them: scheme://host, and a port that is not the scheme's
	Methods        []string // allowed; empty: all but CONNECT and TRACE
	Paths          []string // allowed prefixes, by whole segments; empty: all
	AllowUpgrade   bool     // pass WebSocket and other Upgrade requests
	ForwardCookies bool     // pass Cookie and Set-Cookie

	// RequireHeader returns the header that callers must send; it is not
	// forwarded. It is called for each request and must not block. Nil: none.
	RequireHeader func() HeaderRule

	ReplayBuffer int64         // bytes of one body held for a replay; 0: bodies are announced instead
	ReplayTotal  int64         // bytes held over all requests; 0: 64 MiB
	MaxInFlight  int           // requests at once; 0: 4096
	BodyIdle     time.Duration // longest silence in a request body; 0: 60 s

	// SendAway reports whether clients are to make a new connection for their
	// next request. It is called for each answer, but that of an upgrade, and
	// must not block. Nil: never.
	SendAway func() bool

	// Done is told of each request at its end, by the goroutine that served
	// it; nil: nobody is.
	Done func(*Exchange)
}

// Handler is the data path: a reverse proxy to one upstream.
type Handler struct {
	opt      Options
	guard    *guard
	cors     *cors.Cors
	target   target
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
	h.cors = newCORS(h.guard)
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

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ex := &exchange{
		Exchange: Exchange{Method: r.Method, Start: time.Now()},
		w:        w,
		sendAway: h.opt.SendAway,
	}
	if strings.HasPrefix(r.RequestURI, "/") {
		ex.Path, _ = splitTarget(r.RequestURI)
	}
	returned := false
	defer func() {
		if !returned {
			ex.body.end()
		} else if ex.body.unread() {
			_ = ex.FlushError() // a failure is the client's: it has left
		}
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

func (h *Handler) serve(ex *exchange, r *http.Request) {
	dropH2C(r.Header)
	if r.ContentLength != 0 {
		ex.body.body, ex.body.conn, ex.body.idle = r.Body, http.NewResponseController(ex.w), h.opt.BodyIdle
	}
	if refused := h.guard.admit(r); refused != nil {
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
func (h *Handler) forward(ex *exchange, r *http.Request) {
	if refused := h.guard.check(r); refused != nil {
		h.refuse(ex, refused)
		return
	}
	defer h.inFlight.Add(-1)
	if h.inFlight.Add(1) > int64(h.opt.MaxInFlight) {
		h.refuse(ex, &Error{Code: Overloaded, RetryAfter: time.Second})
		return
	}
	if ex.target = h.target.url(r); ex.target == nil {
		h.refuse(ex, &Error{Code: BadPath})
		return
	}
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
	h.reverse.ServeHTTP(ex, r.WithContext(context.WithValue(r.Context(), exchangeKey{}, ex)))
	// Trailers that upstream did not announce are known only now.
	for name := range ex.Header() {
		if trailer, ok := strings.CutPrefix(name, http.TrailerPrefix); ok && h.dropsTrailer(trailer) {
			delete(ex.Header(), name)
		}
	}
}

func (h *Handler) refuse(ex *exchange, e *Error) {
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
	for name := range out.Header {
		if strings.HasPrefix(name, "X-Forwarded-") || strings.Contains(name, "_") {
			// Upstream would believe them, or read X_Real_Ip as X-Real-Ip.
			delete(out.Header, name)
		}
	}
	for _, name := range []string{"Authorization", "Proxy-Authorization", "Expect", "Forwarded",
		"X-Real-Ip", "X-Original-Url", "X-Rewrite-Url"} {
		delete(out.Header, name)
	}
	if required := h.guard.header().Name; required != "" {
		delete(out.Header, required)
	}
	if !h.opt.ForwardCookies {
		// Cookies of localhost belong to every dev server on the machine.
		delete(out.Header, "Cookie")
	}
}

func (h *Handler) modifyResponse(resp *http.Response) error {
	if resp.StatusCode != http.StatusSwitchingProtocols && (resp.StatusCode < 200 || resp.StatusCode > 999) {
		return errNoStatus
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		exchangeOf(resp.Request.Context()).tunnel = resp.Body
	}
	for name := range resp.Header {
		if h.drops(name) {
			delete(resp.Header, name)
		}
	}
	for name := range resp.Trailer {
		if h.dropsTrailer(name) {
			delete(resp.Trailer, name)
		}
	}
	if loc := resp.Header["Location"]; len(loc) == 1 &&
		(resp.StatusCode == http.StatusCreated || resp.StatusCode/100 == 3) {
		resp.Header["Location"] = []string{h.target.location(loc[0])}
	}
	return nil
}

// drops reports whether a field of upstream's answers stays here.
func (h *Handler) drops(name string) bool {
	switch name {
	case "Alt-Svc": // it names upstream's ports, not bearerd's
		return true
	case "Set-Cookie":
		return !h.opt.ForwardCookies
	}
	return strings.HasPrefix(name, "Access-Control-") // who may read is not upstream's to say here
}

// dropsTrailer is drops for a field behind a body, where some mean something
// else, or harm (RFC 9110, 6.5.1). net/http looks at those alone that upstream
// announces, and lets Upgrade and Location pass.
func (h *Handler) dropsTrailer(name string) bool {
	switch name {
	case "Connection", "Content-Length", "Host", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
		"Authorization", "Proxy-Authenticate", "Proxy-Authorization", "Www-Authenticate",
		"Cache-Control", "Content-Encoding", "Content-Range", "Content-Type", "Expect", "Location", "Max-Forwards", "Pragma", "Range":
		return true
	}
	return h.drops(name)
}

// errNoStatus is for an answer such as 099, or 1000 by HTTP/2, which net/http
// would panic at.
var errNoStatus = errors.New("upstream sent a status that is none")

// copyBuffers lends ReverseProxy the buffers that it copies answers with.
type copyBuffers struct{}

const copyBufferSize = 32 << 10

var copyBufferPool = sync.Pool{New: func() any { return new([copyBufferSize]byte) }}

func (copyBuffers) Get() []byte { return copyBufferPool.Get().(*[copyBufferSize]byte)[:] }

func (copyBuffers) Put(b []byte) { copyBufferPool.Put((*[copyBufferSize]byte)(b)) }
