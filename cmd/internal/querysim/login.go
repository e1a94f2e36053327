package querysim

import (
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Results of a login other than an OAuth error code.
const (
	resultOK               = "ok"
	resultUnavailable      = "unavailable"
	resultAbandoned        = "abandoned"
	resultMisdirected      = "misdirected"
	resultMethodNotAllowed = "method_not_allowed"
	resultMediaType        = "unsupported_media_type"
	resultLocked           = "locked"
)

// maxForm is how much of a login request is read, in bytes.
const maxForm = 64 << 10

// answer is what a login comes to. It is made whole before any of it is sent,
// so that a client which has its answer finds it counted.
type answer struct {
	result     string // as in Event.Result
	status     int    // 0: no answer, a reset
	mediaType  string
	challenge  string // WWW-Authenticate; empty: none
	retryAfter string // empty: none
	location   string // empty: none
	body       []byte
	unsent     int // how many bytes of body are announced and not sent
}

func jsonAnswer(result string, status int, v any) answer {
	return answer{result: result, status: status, mediaType: "application/json", body: mustJSON(v)}
}

func refuse(status int, code, description string) answer {
	return jsonAnswer(code, status, errorBody{Error: code, Description: description})
}

// LoginHandler returns the three login servers. They differ in path, so one
// listener serves them all.
func (s *Simulator) LoginHandler() http.Handler { return http.HandlerFunc(s.serveLogin) }

func (s *Simulator) serveLogin(w http.ResponseWriter, r *http.Request) {
	i := slices.IndexFunc(vendors, func(v Vendor) bool { return v.LoginPath == r.URL.Path })
	if i < 0 {
		writeJSON(w, http.StatusNotFound, errorBody{Error: "not_found"})
		return
	}
	v := vendors[i]

	serial, delay := s.beginLogin()
	// The body is read before the delay because net/http notices a client that
	// leaves only once its body has been read.
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxForm))
	a := answer{result: resultAbandoned}
	var now time.Time // one moment for all that an answer says of time
	if waited(r, delay) {
		now = s.clock()
		fault := s.takeLoginFault()
		if front, ok := s.frontAnswer(fault, now); ok {
			a = front
		} else if err != nil {
			a = refuse(http.StatusBadRequest, "invalid_request", "The body could not be read")
		} else {
			a = s.login(v, r, body, fault, now)
		}
	}
	s.endLogin(a)
	s.onEvent(Event{Kind: EventLogin, Vendor: v.Name, Result: a.result, Serial: serial})
	if a.result == resultAbandoned {
		return
	}
	if a.status == 0 {
		dropConnection(w, r, true)
		return
	}

	h := w.Header()
	if a.mediaType != "" {
		h.Set("Content-Type", a.mediaType)
	}
	h.Set("Cache-Control", "no-store") // RFC 6749 5.1
	h.Set("Date", httpDate(now))       // the simulated clock, not net/http's
	h.Set("Content-Length", strconv.Itoa(len(a.body)))
	for name, value := range map[string]string{"WWW-Authenticate": a.challenge, "Retry-After": a.retryAfter, "Location": a.location} {
		if value != "" {
			h.Set(name, value)
		}
	}
	if a.status == http.StatusMethodNotAllowed {
		h.Set("Allow", http.MethodPost)
	}
	w.WriteHeader(a.status)
	// The client may have gone. net/http closes a connection on which less was
	// sent than announced.
	_, _ = w.Write(a.body[:len(a.body)-a.unsent])
}

// waited waits for d and reports whether the client waited too.
func waited(r *http.Request, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-r.Context().Done():
		return false
	}
}

func (s *Simulator) beginLogin() (serial int, delay time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Logins++
	s.loginsUnderWay++
	s.stats.LoginsAtOnce = max(s.stats.LoginsAtOnce, s.loginsUnderWay)
	return s.stats.Logins, s.faults.LoginDelay
}

func (s *Simulator) endLogin(a answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loginsUnderWay--
	switch {
	case a.result == resultOK:
		s.stats.LoginsOK++
	case a.result == resultAbandoned:
		s.stats.LoginsAbandoned++
	case a.status >= 500:
		s.stats.LoginsUnavailable++
	case a.status >= 400:
		s.stats.LoginsRefused++
	default:
		s.stats.LoginsFaulty++
	}
	if a.result == resultLocked {
		s.stats.LoginsLocked++
	}
}

// login judges one request: first what HTTP carries, then the form, the
// client, the user. No answer repeats what the request said.
func (s *Simulator) login(v Vendor, r *http.Request, body []byte, fault LoginFault, now time.Time) answer {
	if v.LoginHost != "" && !strings.EqualFold(r.Host, v.LoginHost) {
		return refuse(http.StatusMisdirectedRequest, resultMisdirected, "The Host header must be "+v.LoginHost)
	}
	if r.Method != http.MethodPost {
		return refuse(http.StatusMethodNotAllowed, resultMethodNotAllowed, "Log in with POST")
	}
	if r.URL.RawQuery != "" {
		return refuse(http.StatusBadRequest, "invalid_request", "Parameters belong in the body: URLs end up in logs")
	}
	types := r.Header.Values("Content-Type")
	if len(types) != 1 {
		return refuse(http.StatusUnsupportedMediaType, resultMediaType, "One Content-Type is required")
	}
	if t, _, err := mime.ParseMediaType(types[0]); err != nil || t != "application/x-www-form-urlencoded" {
		return refuse(http.StatusUnsupportedMediaType, resultMediaType, "The Content-Type must be application/x-www-form-urlencoded")
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return refuse(http.StatusBadRequest, "invalid_request", "The body is not a form")
	}
	for _, values := range form {
		if len(values) > 1 { // RFC 6749 3.2
			return refuse(http.StatusBadRequest, "invalid_request", "Duplicated parameter")
		}
	}

	grant := form.Get("grant_type")
	if grant == "" {
		return refuse(http.StatusBadRequest, "invalid_request", "Missing form parameter: grant_type")
	}
	if !slices.Contains(v.grants, grant) {
		return refuse(http.StatusBadRequest, "unsupported_grant_type", "Unsupported grant_type")
	}
	if a, ok := s.checkProof(v, r, form); !ok {
		return a
	}
	subject := v.ClientID
	if grant == grantPassword {
		if a, ok := s.checkUser(v, form, fault); !ok {
			return a
		}
		subject = s.username
	} else if fault == LoginRejected {
		return refuse(http.StatusUnauthorized, "invalid_client", invalidClient)
	}
	return spoil(s.grant(v, subject, fault, now), fault)
}

const invalidClient = "Invalid client or Invalid client credentials"

// checkProof authenticates the client by a certificate (RFC 8705), an assertion
// (RFC 7523), or as checkClient does.
func (s *Simulator) checkProof(v Vendor, r *http.Request, form url.Values) (answer, bool) {
	secret := form.Has("client_secret") || r.Header.Get("Authorization") != ""
	invalid := refuse(http.StatusUnauthorized, "invalid_client", invalidClient)
	switch {
	case form.Has("client_assertion") && secret:
		return refuse(http.StatusBadRequest, "invalid_request", "More than one client authentication"), false
	case form.Has("client_assertion"):
		named := form.Get("client_id") == v.ClientID || !form.Has("client_id") // RFC 7521 4.2
		return invalid, named && form.Get("client_assertion_type") == jwtBearer && s.assertionIsGood(v, form.Get("client_assertion"))
	case r.TLS != nil && len(r.TLS.VerifiedChains) > 0 && !secret:
		return invalid, form.Get("client_id") == v.ClientID // RFC 8705 2
	}
	return checkClient(v, r.Header.Values("Authorization"), form)
}

const jwtBearer = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// assertionIsGood verifies a client assertion as RFC 7523 3 wants it: it names the
// client and has not ended. The audience is not looked at: a simulator does not
// know at which URL it is served.
func (s *Simulator) assertionIsGood(v Vendor, assertion string) bool {
	if s.clients == nil {
		return false
	}
	_, err := jwt.Parse(assertion, func(*jwt.Token) (any, error) { return s.clients, nil },
		jwt.WithValidMethods([]string{jwt.SigningMethodES256.Alg()}), jwt.WithSubject(v.ClientID), jwt.WithExpirationRequired(), jwt.WithTimeFunc(s.clock))
	return err == nil
}

// checkClient authenticates the client by the form or, if it has a secret, by
// HTTP basic (RFC 6749 2.3.1). A public client must name itself in the form,
// as its vendor documents.
func checkClient(v Vendor, authorization []string, form url.Values) (answer, bool) {
	invalid := refuse(http.StatusUnauthorized, "invalid_client", invalidClient)
	if len(authorization) == 0 {
		ok := form.Get("client_id") == v.ClientID && (v.ClientSecret == "" || form.Get("client_secret") == v.ClientSecret)
		return invalid, ok
	}
	// RFC 6749 5.2 requires the challenge where the header was used.
	invalid.challenge = fmt.Sprintf("Basic realm=%q", v.Name)
	if v.ClientSecret == "" || len(authorization) > 1 {
		return invalid, false
	}
	if form.Has("client_secret") {
		return refuse(http.StatusBadRequest, "invalid_request", "More than one client authentication"), false
	}
	id, secret, ok := basicAuth(authorization[0])
	if !ok || id != v.ClientID || secret != v.ClientSecret || form.Has("client_id") && form.Get("client_id") != id {
		return invalid, false
	}
	return answer{}, true
}

// basicAuth reads an Authorization header as RFC 6749 2.3.1 wants it: id and
// secret are form-encoded before they are joined.
func basicAuth(header string) (id, secret string, ok bool) {
	r := http.Request{Header: http.Header{"Authorization": {header}}}
	id, secret, ok = r.BasicAuth()
	if !ok {
		return "", "", false
	}
	id, err1 := url.QueryUnescape(id)
	secret, err2 := url.QueryUnescape(secret)
	return id, secret, err1 == nil && err2 == nil
}

func (s *Simulator) checkUser(v Vendor, form url.Values, fault LoginFault) (answer, bool) {
	for _, name := range []string{"username", "password"} {
		if form.Get(name) == "" {
			return refuse(http.StatusBadRequest, "invalid_request", "Missing form parameter: "+name), false
		}
	}
	a := refuse(v.refusedStatus, "invalid_grant", "Invalid user credentials")
	if form.Get("username") != s.username {
		return a, false
	}
	now := s.clock()
	s.mu.Lock()
	defer s.mu.Unlock()
	ok := form.Get("password") == s.password && fault != LoginRejected
	if !v.keycloak || !s.faults.BruteForceLock {
		return a, ok
	}
	if s.tryUser(v, now, ok) {
		// Nothing but the status tells it from a wrong password.
		a.status, a.result = http.StatusBadRequest, resultLocked
		return a, false
	}
	return a, ok
}

// keycloakAnswer is in the order of the vendors' example. Of the two
// spellings they document, not-before-policy is the one a Keycloak sends.
type keycloakAnswer struct {
	AccessToken      string `json:"access_token"`
	ExpiresIn        any    `json:"expires_in,omitempty"` // seconds
	RefreshExpiresIn int    `json:"refresh_expires_in"`   // seconds
	RefreshToken     string `json:"refresh_token"`        // sent, but no grant takes it
	TokenType        string `json:"token_type"`
	NotBeforePolicy  int64  `json:"not-before-policy"` // Unix time
	SessionState     string `json:"session_state"`
	Scope            string `json:"scope"`
}

// bareAnswer says nothing of expiry, unless a fault makes it: only the token's
// claims do.
type bareAnswer struct {
	AccessToken  string  `json:"access_token"`
	TokenType    string  `json:"token_type"`
	ExpiresIn    any     `json:"expires_in,omitempty"`
	RefreshToken *string `json:"refresh_token"` // always null
}

func (s *Simulator) grant(v Vendor, subject string, fault LoginFault, now time.Time) answer {
	t, err := s.tokens.issue(v, subject, now, fault, s.Faults().OneSession)
	if err != nil {
		return refuse(http.StatusInternalServerError, "server_error", "")
	}
	seconds := int(t.ends.Sub(now) / time.Second)
	var expiresIn any
	switch fault {
	case LoginNoExpiresIn, LoginNoIssuedAt, LoginOpaque:
	case LoginTextExpiresIn:
		expiresIn = strconv.Itoa(seconds)
	default:
		if v.keycloak {
			expiresIn = seconds
		}
	}
	if !v.keycloak {
		return jsonAnswer(resultOK, http.StatusOK, bareAnswer{AccessToken: t.access, TokenType: "Bearer", ExpiresIn: expiresIn})
	}
	return jsonAnswer(resultOK, http.StatusOK, keycloakAnswer{
		AccessToken:      t.access,
		ExpiresIn:        expiresIn,
		RefreshExpiresIn: int(refreshLifetime / time.Second),
		RefreshToken:     t.refresh,
		TokenType:        "bearer",
		NotBeforePolicy:  1533918000,
		SessionState:     t.session,
		Scope:            keycloakScope,
	})
}
