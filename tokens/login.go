package tokens

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// maxAnswer is how many bytes of an answer are read at most.
const maxAnswer = 1 << 20

// Login says how to log in: one POST to the token URL (RFC 6749 4.3 or 4.4).
// URL and Grant must be set.
type Login struct {
	URL          string            // token URL; user information in it is not used
	Host         string            // Host header; "": the host of URL
	Grant        string            // "password" or "client_credentials"
	ClientID     string            // "": not sent
	ClientAuth   string            // "body" (form fields) or "basic", RFC 6749 2.3.1, or "basic-plain", see below; "": body
	ClientSecret Source            // zero: not sent
	Username     Source            // for "password"
	Password     Source            // for "password"
	Assertion    Source            // client_assertion (RFC 7523 2.2), in place of a secret; zero: not sent
	Params       Source            // further form fields, "a=b&c=d"; one that bearerd sends itself is dropped
	Scope        string            // "": not sent
	Transport    http.RoundTripper // nil: NewTransport of the zero options
	Timeout      time.Duration     // of one login, from connecting to the last byte; 0: 10 s

	// With "basic-plain" id and secret go into the header as they are, for
	// servers that do not undo the form-encoding that RFC 6749 2.3.1 asks for. The
	// id must not have a colon then, which would be taken for its end (RFC 7617 2).

	// Explain says why Transport failed by err, in an error whose text is safe
	// to log; it becomes Cause.Err. The text of err is not: net/http quotes
	// malformed answers, and the URL of a proxy with the password in it. nil:
	// "the exchange failed".
	Explain func(err error) error
}

// sources are where the secrets of l come from.
func (l *Login) sources() sources {
	return sources{l.ClientSecret, l.Username, l.Password, l.Assertion, l.Params}
}

// TransportOptions are the options of [NewTransport].
type TransportOptions struct {
	RootCAs      *x509.CertPool    // nil: the system's
	Certificates []tls.Certificate // to show to the server, also where it asks for them later (TLS 1.2 renegotiation, once); nil: none
	DialTimeout  time.Duration     // of connecting and of the TLS handshake, each; 0: 5 s
}

// NewTransport returns a transport for logins. It heeds HTTPS_PROXY, HTTP_PROXY
// and NO_PROXY.
func NewTransport(o TransportOptions) *http.Transport {
	if o.DialTimeout <= 0 {
		o.DialTimeout = 5 * time.Second
	}
	// One login is one POST on one connection. A kept connection would be dead
	// by the next login, minutes later, and HTTP/2 may send a request again.
	var http1 http.Protocols
	http1.SetHTTP1(true)
	renegotiate := tls.RenegotiateNever
	if len(o.Certificates) > 0 {
		renegotiate = tls.RenegotiateOnceAsClient // IIS asks for a certificate when it has seen the path
	}
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: o.DialTimeout}).DialContext,
		TLSHandshakeTimeout:    o.DialTimeout,
		TLSClientConfig:        &tls.Config{RootCAs: o.RootCAs, Certificates: o.Certificates, MinVersion: tls.VersionTLS12, Renegotiation: renegotiate},
		Protocols:              &http1,
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxAnswer,
	}
}

// An outcome is how one login ended.
type outcome struct {
	Failure     // zero: it brought a token
	status  int // 0: no answer

	bearer    string // of the token, and the next three
	scope     string
	lifetime  time.Duration
	rule      Rule
	requested time.Time     // when the request was sent, by the wall clock
	sent      time.Duration // … and by the monotonic clock
	took      time.Duration

	skew       time.Duration
	skewKnown  bool
	retryAfter time.Duration // -1: the server did not ask
}

// newToken makes of o the token of that generation. came is when it came.
func (o outcome) newToken(generation uint64, came time.Time) *Token {
	i := Issued{Bearer: func() string { return o.bearer }, Scope: o.scope, Rule: o.rule, Lifetime: o.lifetime}
	return i.token(generation, o.requested, o.sent, came)
}

// unanswered is the outcome of a login for which there was no answer.
func unanswered(cause Cause) outcome {
	return outcome{Failure: Failure{Kind: Transient, Cause: cause}, retryAfter: -1}
}

// post makes one login with c. ctx bounds all of it. fallback is the lifetime
// of a token of which the server says nothing.
// over, unless nil, says that the login may not go out any more.
func (l *Login) post(ctx context.Context, c credentials, clock Clock, fallback time.Duration, over func() bool) outcome {
	req, err := l.request(ctx, c)
	if err != nil {
		return unanswered(Cause{Kind: CauseUnsendable, Problem: err.Error()})
	}
	if over != nil {
		req.GetBody, req.Body = nil, &boundBody{req.Body, over}
	}
	wall, sent := clock()
	o := l.send(req, clock, fallback)
	if o.Kind == Rejected && l.ClientAuth == "basic" {
		o.Cause.Recoded = changes(l.ClientID) || changes(c.clientSecret.Reveal())
	}
	o.requested, o.sent = wall.Round(0), sent
	_, arrived := clock()
	o.took = arrived - sent
	return o
}

// boundBody is the body of a login that may not go out when its turn is over. A
// machine that slept while it connected wakes up right before the form is written.
type boundBody struct {
	io.ReadCloser
	over func() bool
}

func (b *boundBody) Read(p []byte) (int, error) {
	if b.over() {
		return 0, errTurnOver
	}
	return b.ReadCloser.Read(p)
}

// changes reports whether form-encoding makes another text of s.
func changes(s string) bool { return url.QueryEscape(s) != s }

// request returns the request of one login. Its errors are fixed phrases.
func (l *Login) request(ctx context.Context, c credentials) (*http.Request, error) {
	form, err := l.form(c)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.URL, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, errors.New("the token URL is not a URL") // err quotes it
	}
	req.Host = l.Host
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "bearerd")
	switch id, secret := l.ClientID, c.clientSecret.Reveal(); {
	case !l.inHeader(c):
	case l.ClientAuth == "basic":
		// Form-encoded first, so that a colon in the id is not taken for the end of it.
		req.SetBasicAuth(url.QueryEscape(id), url.QueryEscape(secret))
	default:
		req.SetBasicAuth(id, secret)
	}
	return req, nil
}

// inHeader reports whether client_id and client_secret go into a header. Without
// a secret there is nothing to put there: one request authenticates its client in
// one way (RFC 6749 2.3).
func (l *Login) inHeader(c credentials) bool {
	return (l.ClientAuth == "basic" || l.ClientAuth == "basic-plain") && (c.clientSecret != "" || l.ClientSecret.IsZero() && l.Assertion.IsZero())
}

// form returns the fields of one login.
func (l *Login) form(c credentials) (url.Values, error) {
	form, err := url.ParseQuery(c.params.Reveal())
	if err != nil {
		return nil, errors.New("the further form fields are not of the form a=b&c=d") // err quotes them
	}
	// A field of bearerd's own wins over one of Params, also where it goes into a header.
	set := func(name, value string, send bool) {
		if value == "" {
			return
		}
		form.Del(name)
		if send {
			form.Set(name, value)
		}
	}
	inBody := !l.inHeader(c)
	set("grant_type", l.Grant, true)
	set("client_id", l.ClientID, inBody)
	set("client_secret", c.clientSecret.Reveal(), inBody)
	set(assertionField, c.assertion.Reveal(), true)
	if form.Get(assertionField) != "" && form.Get("client_assertion_type") == "" {
		form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
	}
	set("scope", l.Scope, true)
	if l.Grant == "password" {
		set("username", c.username.Reveal(), true)
		set("password", c.password.Reveal(), true)
	}
	return form, nil
}

// send sends the request and judges the answer.
func (l *Login) send(req *http.Request, clock Clock, fallback time.Duration) outcome {
	// RoundTrip and not a Client: it follows no redirect. A 307 would send the
	// password elsewhere.
	res, err := l.Transport.RoundTrip(req)
	if err != nil {
		return unanswered(l.unfinished(req.Context(), err))
	}
	now, _ := clock() // Date is of the head, and the body may be long in coming
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	_ = res.Body.Close()
	o := outcome{status: res.StatusCode}
	date, dateErr := http.ParseTime(res.Header.Get("Date"))
	if dateErr == nil {
		// Date has no fraction, so the difference has none to trust.
		o.skew, o.skewKnown = now.Round(0).Sub(date).Truncate(time.Second), true
		now = date // a Retry-After date is by the server's clock
	} else {
		date = time.Time{}
	}
	o.retryAfter = parseRetryAfter(res.Header.Get("Retry-After"), now)
	if res.StatusCode != http.StatusOK && res.StatusCode != http.StatusCreated {
		o.Kind, o.Cause = verdict(res.StatusCode, res.Header, body, err == nil, o.retryAfter)
		return o
	}
	var granted tokenResponse
	switch {
	case err != nil:
		o.Cause = Cause{Kind: CauseBrokeOff, Err: l.unfinished(req.Context(), err).Err}
	case len(body) > maxAnswer:
		o.Cause.Kind = CauseTooLarge
	default:
		granted, o.Cause = parseTokenResponse(res.StatusCode, body)
	}
	if o.Cause.Kind != "" {
		o.Kind, o.Cause.Status = Transient, res.StatusCode
		return o
	}
	o.bearer, o.scope = granted.bearer, granted.scope
	o.lifetime, o.rule = granted.lifetime(date, fallback)
	return o
}

// parseRetryAfter reads a Retry-After header (RFC 9110 10.2.3): seconds, or a
// date, which is taken relative to now. It is -1 when there is none to be read.
func parseRetryAfter(value string, now time.Time) time.Duration {
	value = strings.TrimSpace(value)
	if value != "" && strings.Trim(value, "0123456789") == "" {
		seconds, err := strconv.ParseInt(value, 10, 32)
		if err != nil { // only too many digits are left
			return maxRetryAfter
		}
		return time.Duration(seconds) * time.Second
	}
	if date, err := http.ParseTime(value); err == nil {
		return max(date.Sub(now), 0)
	}
	return -1
}

// slow is the error of a login that took longer than its Timeout.
type slow time.Duration

func (s slow) Error() string { return fmt.Sprintf("no answer within %v", time.Duration(s)) }

var (
	errCancelled   = errors.New("the login was cancelled")
	errUnexplained = errors.New("the exchange failed")
)

// unfinished is the cause for an exchange that failed by err. ctx is that of the
// login.
func (l *Login) unfinished(ctx context.Context, err error) Cause {
	// Not err: a dial that took DialTimeout claims to be a DeadlineExceeded too.
	switch ctx.Err() {
	case context.DeadlineExceeded:
		return Cause{Kind: CauseTimeout, Err: slow(l.Timeout)}
	case context.Canceled:
		return Cause{Kind: CauseCancelled, Err: errCancelled}
	}
	if l.Explain == nil {
		return Cause{Kind: CauseNoAnswer, Err: errUnexplained}
	}
	return Cause{Kind: CauseNoAnswer, Err: cmp.Or(l.Explain(err), errUnexplained)}
}
