package tokens

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
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
	ClientAuth   string            // "body" (form fields) or "basic", RFC 6749 2.3.1; "": body
	ClientSecret Source            // zero: not sent
	Username     Source            // for "password"
	Password     Source            // for "password"
	Params       Source            // further form fields, "a=b&c=d"; one that bearerd sends itself is dropped
	Scope        string            // "": not sent
	Transport    http.RoundTripper // nil: NewTransport of the zero options
	Timeout      time.Duration     // of one login, from connecting to the last byte; 0: 10 s
}

// TransportOptions are the options of [NewTransport].
type TransportOptions struct {
	RootCAs      *x509.CertPool    // nil: the system's
	Certificates []tls.Certificate // to show to the server; nil: none
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
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		OnProxyConnectResponse: ProxyConnected,
		DialContext:            (&net.Dialer{Timeout: o.DialTimeout}).DialContext,
		TLSHandshakeTimeout:    o.DialTimeout,
		TLSClientConfig:        &tls.Config{RootCAs: o.RootCAs, Certificates: o.Certificates, MinVersion: tls.VersionTLS12},
		Protocols:              &http1,
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxAnswer,
	}
}

// An outcome is how one login ended.
type outcome struct {
	result  Result
	status  int    // 0: no answer
	cause   string // fixed phrases; "" with OK
	waiting bool   // no login was made, a credential file is awaited

	bearer    string // with OK, and the next two
	lifetime  time.Duration
	rule      Rule
	requested time.Time     // when the request was sent, by the wall clock
	sent      time.Duration // … and by the monotonic clock
	took      time.Duration

	skew       time.Duration
	skewKnown  bool
	retryAfter time.Duration // -1: the server did not ask
}

// failed returns a transient failure for which there was no answer.
func failed(cause string) outcome {
	return outcome{result: Transient, cause: cause, retryAfter: -1}
}

// post makes one login with c. ctx bounds all of it. fallback is the lifetime
// of a token of which the server says nothing.
func (l *Login) post(ctx context.Context, c credentials, clock Clock, fallback time.Duration) outcome {
	req, err := l.request(ctx, c)
	if err != nil {
		return failed(err.Error())
	}
	wall, sent := clock()
	o := l.exchange(req, clock, fallback)
	o.requested, o.sent = wall.Round(0), sent
	_, arrived := clock()
	o.took = arrived - sent
	return o
}

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
	if l.ClientAuth == "basic" {
		// Form-encoded first, so that a colon in the id is not taken for the end of it.
		req.SetBasicAuth(url.QueryEscape(l.ClientID), url.QueryEscape(c.clientSecret.Reveal()))
	}
	return req, nil
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
	inBody := l.ClientAuth != "basic"
	set("grant_type", l.Grant, true)
	set("client_id", l.ClientID, inBody)
	set("client_secret", c.clientSecret.Reveal(), inBody)
	set("scope", l.Scope, true)
	if l.Grant == "password" {
		set("username", c.username.Reveal(), true)
		set("password", c.password.Reveal(), true)
	}
	return form, nil
}

// exchange sends the request and judges the answer.
func (l *Login) exchange(req *http.Request, clock Clock, fallback time.Duration) outcome {
	// RoundTrip and not a Client: it follows no redirect. A 307 would send the
	// password elsewhere.
	res, err := l.Transport.RoundTrip(req)
	if err != nil {
		return failed(l.describe(req.Context(), err))
	}
	now, _ := clock() // Date is of the head, and the body may be long in coming
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	_ = res.Body.Close()
	if err != nil {
		body = nil // the status still counts; a part of the body does not
	}

	o := outcome{result: Transient, status: res.StatusCode}
	date, dateErr := http.ParseTime(res.Header.Get("Date"))
	if dateErr == nil {
		// Date has no fraction, so the difference has none to trust.
		o.skew, o.skewKnown = now.Round(0).Sub(date).Truncate(time.Second), true
		now = date // a Retry-After date is by the server's clock
	} else {
		date = time.Time{}
	}
	o.retryAfter = parseRetryAfter(res.Header.Get("Retry-After"), now)

	o.cause = "HTTP " + strconv.Itoa(res.StatusCode)
	code, isOAuth := oauthError(body)
	if isOAuth && res.StatusCode != http.StatusOK {
		o.cause += ", " + code
	}
	switch status := res.StatusCode; {
	case status == http.StatusOK && err != nil:
		o.cause += ", but the answer broke off: " + l.describe(req.Context(), err)
	case status == http.StatusOK && len(body) > maxAnswer:
		o.cause += ", but the answer is larger than 1 MiB"
	case status == http.StatusOK:
		a, err := parseAnswer(body)
		if err != nil {
			o.cause += ", but " + err.Error()
			break
		}
		o.result, o.cause, o.bearer = OK, "", a.bearer
		o.lifetime, o.rule = a.lifetime(date, fallback)
	case status == http.StatusUnauthorized,
		status == http.StatusBadRequest && isOAuth,
		status == http.StatusForbidden && isJSON(body): // HTML is a firewall's
		o.result = Rejected
	case status == http.StatusTooManyRequests,
		status == http.StatusServiceUnavailable && o.retryAfter >= 0:
		o.result = Throttled
	case status >= 300 && status < 400:
		o.cause += ", a redirect, which is never followed: check the token URL"
	}
	return o
}
