package proxy

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// Code names a failure that is bearerd's own to report. It stands in the
// answer's body, in Proxy-Status and in metrics. All that is known of one is its
// row in meanings.
type Code string

const (
	LoginRejected       Code = "login_rejected"
	LoginUnavailable    Code = "login_unavailable"
	LoginTimeout        Code = "login_timeout"
	UpstreamUnreachable Code = "upstream_unreachable"
	UpstreamTimeout     Code = "upstream_timeout"
	Overloaded          Code = "overloaded"
	HostNotAllowed      Code = "host_not_allowed"
	CrossSite           Code = "cross_site"
	HeaderRequired      Code = "header_required"
	PathNotAllowed      Code = "path_not_allowed"
	MethodNotAllowed    Code = "method_not_allowed"
	BadTarget           Code = "bad_target"
	BadPath             Code = "bad_path"
	BadBody             Code = "bad_body"
	UpgradeNotAllowed   Code = "upgrade_not_allowed"
	HTTP11Required      Code = "http_1_1_required"
)

// Fault says whose doing a failure is.
type Fault string

const (
	FaultCaller   Fault = "caller"   // bearerd refuses by itself, without a login or upstream: anybody who reaches the port can cause that
	FaultLogin    Fault = "login"    // no token is to be had
	FaultUpstream Fault = "upstream" // upstream gave no answer
)

// Fault returns whose doing the failure is; "" for what is no code.
func (c Code) Fault() Fault { return meanings[c].fault }

// Detail returns what the answer says of the failure and its remedy, in fixed
// words; "" for what is no code.
func (c Code) Detail() string { return meanings[c].detail }

// Error is a failure that is answered with Code. A [Source] returns it for a
// token that cannot be had.
type Error struct {
	Code       Code
	RetryAfter time.Duration // sent as Retry-After, rounded up to whole seconds; 0: none
}

func (e *Error) Error() string { return string(e.Code) }

// meaning is all that is known of one code. Nothing that a client, upstream or
// the login server sent is ever part of an answer.
type meaning struct {
	fault  Fault
	status int
	// proxyError is the error type of RFC 9209, section 2.3.
	proxyError    string
	title, detail string
}

var meanings = map[Code]meaning{
	LoginRejected: {FaultLogin, http.StatusBadGateway, "proxy_configuration_error", "Login rejected",
		"The login server refused the login. Check BEARERD_USERNAME and BEARERD_PASSWORD, or BEARERD_CLIENT_ID and BEARERD_CLIENT_SECRET, unless bearerd's log names another setting (a scope, say); it says when it tries again, too."},
	LoginUnavailable: {FaultLogin, http.StatusServiceUnavailable, "destination_unavailable", "Login unavailable",
		"No token is held and the last login failed. bearerd tries again by itself; its log has the cause."},
	LoginTimeout: {FaultLogin, http.StatusServiceUnavailable, "destination_unavailable", "Login timed out",
		"The login took longer than BEARERD_TOKEN_WAIT. It goes on; try again."},
	UpstreamUnreachable: {FaultUpstream, http.StatusBadGateway, "destination_unavailable", "Upstream unreachable",
		"No answer came from upstream: the connection failed or was closed. Check BEARERD_UPSTREAM and the network."},
	UpstreamTimeout: {FaultUpstream, http.StatusGatewayTimeout, "http_response_timeout", "Upstream timed out",
		"Upstream sent no response header within BEARERD_RESPONSE_HEADER_TIMEOUT."},
	Overloaded: {FaultCaller, http.StatusServiceUnavailable, "connection_limit_reached", "Too many requests at once",
		"More requests are in flight than BEARERD_MAX_IN_FLIGHT allows."},
	HostNotAllowed: {FaultCaller, http.StatusMisdirectedRequest, "http_request_denied", "Host not allowed",
		"The Host header names neither this machine nor a host in BEARERD_ALLOWED_HOSTS. List it there if it is yours. " +
			"From a container of Docker Desktop: start bearerd with BEARERD_ALLOWED_HOSTS=host.docker.internal (Podman: host.containers.internal; Lima, Rancher Desktop and OrbStack: the name that the container uses)."},
	CrossSite: {FaultCaller, http.StatusForbidden, "http_request_denied", "Web page not allowed",
		"A web page of another origin sent this request. If the page is yours, list its origin in BEARERD_ALLOWED_ORIGINS."},
	HeaderRequired: {FaultCaller, http.StatusForbidden, "http_request_denied", "Header required",
		"The request lacks the header that BEARERD_REQUIRE_HEADER names, or has another value in it."},
	PathNotAllowed: {FaultCaller, http.StatusForbidden, "http_request_denied", "Path not allowed",
		"The path is under none of BEARERD_ALLOWED_PATHS."},
	MethodNotAllowed: {FaultCaller, http.StatusMethodNotAllowed, "http_request_denied", "Method not allowed",
		"CONNECT and TRACE are never forwarded; BEARERD_ALLOWED_METHODS, where it is set, lists what is."},
	BadTarget: {FaultCaller, http.StatusBadRequest, "http_request_error", "Bad request target",
		"The request target must be a path that begins with a slash. bearerd is no forward proxy: unset HTTP_PROXY for it."},
	BadPath: {FaultCaller, http.StatusBadRequest, "http_request_error", "Bad path",
		"The path holds dot segments, or what some servers take for them, or a NUL byte, which BEARERD_ALLOWED_PATHS or the path of BEARERD_UPSTREAM forbid, or bytes that cannot be forwarded unchanged after a double slash."},
	BadBody: {FaultCaller, http.StatusBadRequest, "http_request_error", "Bad request body",
		"The request body was malformed, ended early, or brought no byte for a minute."},
	UpgradeNotAllowed: {FaultCaller, http.StatusBadRequest, "http_request_error", "Upgrade not allowed",
		"WebSocket and other Upgrade requests need BEARERD_ALLOW_UPGRADE=true."},
	HTTP11Required: {FaultCaller, http.StatusHTTPVersionNotSupported, "http_request_error", "HTTP/1.1 required",
		"The client spoke HTTP/2 with prior knowledge, as grpcurl and curl --http2-prior-knowledge do. bearerd speaks HTTP/1.1 on this port."},
}

// Codes lists every code, in no order.
func Codes() []Code {
	all := make([]Code, 0, len(meanings))
	for code := range meanings {
		all = append(all, code)
	}
	return all
}

// problem is RFC 9457's object; code is bearerd's extension member.
type problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Code   Code   `json:"code"`
}

// writeError answers with e as application/problem+json (RFC 9457) and a
// Proxy-Status header (RFC 9209).
func writeError(w http.ResponseWriter, e *Error) {
	m := meanings[e.Code]
	body, err := json.Marshal(problem{m.title, m.status, m.detail, e.Code})
	if err != nil {
		panic(err) // fixed texts of our own
	}
	body = append(body, '\n')
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	// A browser that shows this would ask for /favicon.ico, which is upstream's:
	// a page that opens a window would reach it after all.
	h.Set("Content-Security-Policy", "default-src 'none'")
	h.Set("Proxy-Status", `bearerd; error=`+m.proxyError+`; details="`+string(e.Code)+`"`)
	if e.RetryAfter > 0 {
		seconds := int64((e.RetryAfter + time.Second - 1) / time.Second)
		h.Set("Retry-After", strconv.FormatInt(seconds, 10))
	}
	w.WriteHeader(m.status)
	_, _ = w.Write(body) // the client may have gone: the exchange records it
}
