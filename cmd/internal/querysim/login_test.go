package querysim_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

// keysOf returns the members of a JSON object, in order.
func keysOf(t *testing.T, object string) []string {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(object))
	if _, err := dec.Token(); err != nil {
		t.Fatal(err)
	}
	var keys []string
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			t.Fatal(err)
		}
		var skipped json.RawMessage
		if err := dec.Decode(&skipped); err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key.(string))
	}
	return keys
}

// withBasic moves the client's name and secret into the Authorization header.
func withBasic(a attempt, id, secret string) attempt {
	a.form.Del("client_id")
	a.form.Del("client_secret")
	a.header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(id+":"+secret)))
	return a
}

func graphnetPassword() attempt {
	a := graphnetAttempt()
	a.form.Set("grant_type", "password")
	a.form.Set("username", querysim.Username)
	a.form.Set("password", querysim.Password)
	return a
}

func TestVendorRows(t *testing.T) {
	v := graphnet()
	id, secret := url.QueryEscape(v.ClientID), url.QueryEscape(v.ClientSecret)
	keycloak := []string{"access_token", "expires_in", "refresh_expires_in", "refresh_token", "token_type", "not-before-policy", "session_state", "scope"}
	bare := []string{"access_token", "token_type", "refresh_token"}
	otherHost, charset, capitals := graphnetAttempt(), vyoptaAttempt(), vyoptaAttempt()
	otherHost.host = "coret1.syhapp.com"
	charset.header.Set("Content-Type", "application/x-www-form-urlencoded; charset=UTF-8")
	capitals.host = "LOGIN.Vyopta.com"
	escaped := wxpAttempt()
	escaped.raw = strings.ReplaceAll(escaped.form.Encode(), "WXP+", "WXP%20")
	named := withBasic(graphnetAttempt(), id, secret)
	named.form.Set("client_id", v.ClientID)

	tests := []struct {
		name      string
		attempt   attempt
		keys      []string
		tokenType string
	}{
		{"vyopta", vyoptaAttempt(), keycloak, "bearer"},
		{"vyopta with a charset", charset, keycloak, "bearer"},
		{"vyopta with a host in capitals", capitals, keycloak, "bearer"},
		{"wxp", wxpAttempt(), keycloak, "bearer"},
		{"wxp with %20", escaped, keycloak, "bearer"},
		{"graphnet", graphnetAttempt(), bare, "Bearer"},
		{"graphnet by its own host", otherHost, bare, "Bearer"},
		{"graphnet, basic", withBasic(graphnetAttempt(), id, secret), bare, "Bearer"},
		{"graphnet, basic and client_id", named, bare, "Bearer"},
		{"graphnet, password grant", graphnetPassword(), bare, "Bearer"},
		{"graphnet, password grant, basic", withBasic(graphnetPassword(), id, secret), bare, "Bearer"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newClock()
			r := newRig(t, querysim.Options{Now: c.Now})
			got := do(t, tt.attempt.request(t, r.login))
			if got.status != 200 {
				t.Fatalf("got %d %s", got.status, got.body)
			}
			if keys := keysOf(t, got.body); !slices.Equal(keys, tt.keys) {
				t.Errorf("members: got %q, want %q", keys, tt.keys)
			}
			for name, want := range map[string]string{
				"Content-Type":  "application/json",
				"Cache-Control": "no-store",
				"Date":          "Wed, 04 Mar 2026 05:06:07 GMT",
			} {
				if h := got.header.Values(name); !slices.Equal(h, []string{want}) {
					t.Errorf("%s: got %q, want %q", name, h, want)
				}
			}
			var a map[string]any
			got.decode(t, &a)
			if a["token_type"] != tt.tokenType {
				t.Errorf("token_type: got %v, want %v", a["token_type"], tt.tokenType)
			}
			token, _ := a["access_token"].(string)
			if !strings.HasPrefix(token, "eyJh") {
				t.Errorf("access_token begins %.4s, want eyJh", token)
			}
			if len(tt.keys) == len(keycloak) {
				if a["expires_in"] != 300.0 || a["refresh_expires_in"] != 1800.0 || a["scope"] != "email profile" {
					t.Errorf("got expires_in %v, refresh_expires_in %v, scope %v", a["expires_in"], a["refresh_expires_in"], a["scope"])
				}
				if s, _ := a["session_state"].(string); s == "" {
					t.Error("no session_state")
				}
				if s, _ := a["refresh_token"].(string); !strings.HasPrefix(s, "eyJh") {
					t.Error("no refresh_token")
				}
			} else if a["refresh_token"] != nil {
				t.Errorf("refresh_token: got %v, want null", a["refresh_token"])
			}
			if got := r.ask(token, "GET", namesPath); got.status != 200 {
				t.Errorf("query with the token: got %d %s", got.status, got.body)
			}
		})
	}
}

func TestLoginRefused(t *testing.T) {
	v := graphnet()
	id, secret := url.QueryEscape(v.ClientID), url.QueryEscape(v.ClientSecret)
	const user, client, request, grant, media = "invalid_grant", "invalid_client", "invalid_request", "unsupported_grant_type", "unsupported_media_type"
	set := func(name, value string) func(*attempt) { return func(a *attempt) { a.form.Set(name, value) } }
	del := func(name string) func(*attempt) { return func(a *attempt) { a.form.Del(name) } }
	add := func(name, value string) func(*attempt) { return func(a *attempt) { a.form.Add(name, value) } }

	tests := []struct {
		name   string
		from   func() attempt
		spoil  func(*attempt)
		status int
		code   string
	}{
		{"GET", vyoptaAttempt, func(a *attempt) { a.method = "GET" }, 405, "method_not_allowed"},
		{"vyopta by address", vyoptaAttempt, func(a *attempt) { a.host = "" }, 421, "misdirected"},
		{"vyopta by the host of wxp", vyoptaAttempt, func(a *attempt) { a.host = "login.wxpcollaboration.hp.com" }, 421, "misdirected"},
		{"wxp by address", wxpAttempt, func(a *attempt) { a.host = "" }, 421, "misdirected"},
		{"password in the URL too", vyoptaAttempt, func(a *attempt) { a.query = "?password=" + querysim.Password }, 400, request},
		{"all in the URL", vyoptaAttempt, func(a *attempt) { a.query, a.form = "?"+a.form.Encode(), nil }, 400, request},
		{"no Content-Type", vyoptaAttempt, func(a *attempt) { a.header.Del("Content-Type") }, 415, media},
		{"two Content-Types", vyoptaAttempt, func(a *attempt) { a.header.Add("Content-Type", "application/x-www-form-urlencoded") }, 415, media},
		{"JSON", vyoptaAttempt, func(a *attempt) { a.header.Set("Content-Type", "application/json") }, 415, media},
		{"malformed form", vyoptaAttempt, func(a *attempt) { a.raw = a.form.Encode() + "&a=%zz" }, 400, request},
		{"semicolons", vyoptaAttempt, func(a *attempt) { a.raw = strings.ReplaceAll(a.form.Encode(), "&", ";") }, 400, request},
		{"endless form", vyoptaAttempt, func(a *attempt) { a.raw = a.form.Encode() + "&a=" + strings.Repeat("a", 64<<10) }, 400, request},
		{"empty body", vyoptaAttempt, func(a *attempt) { a.form = nil }, 400, request},
		{"grant_type twice", vyoptaAttempt, add("grant_type", "password"), 400, request},
		{"password twice", vyoptaAttempt, add("password", querysim.Password), 400, request},
		{"something else twice", vyoptaAttempt, func(a *attempt) { a.form["scope"] = []string{"email", "profile"} }, 400, request},
		{"no grant_type", vyoptaAttempt, del("grant_type"), 400, request},
		{"refresh_token grant", vyoptaAttempt, set("grant_type", "refresh_token"), 400, grant},
		{"client_credentials at vyopta", vyoptaAttempt, set("grant_type", "client_credentials"), 400, grant},
		{"client_credentials at wxp", wxpAttempt, set("grant_type", "client_credentials"), 400, grant},
		{"authorization_code at graphnet", graphnetAttempt, set("grant_type", "authorization_code"), 400, grant},
		{"no client_id", vyoptaAttempt, del("client_id"), 401, client},
		{"client_id in capitals", vyoptaAttempt, set("client_id", "Vyopta"), 401, client},
		{"client_id without its space", wxpAttempt, set("client_id", "WXPCollaboration"), 401, client},
		{"client_id of vyopta at wxp", wxpAttempt, set("client_id", "vyopta"), 401, client},
		{"basic at vyopta", vyoptaAttempt, func(a *attempt) { *a = withBasic(*a, "vyopta", "") }, 401, client},
		{"no username", vyoptaAttempt, del("username"), 400, request},
		{"no password", wxpAttempt, del("password"), 400, request},
		{"wrong username", vyoptaAttempt, set("username", "other@example.com"), 401, user},
		{"wrong password", vyoptaAttempt, set("password", "wrong-password"), 401, user},
		{"wrong password at wxp", wxpAttempt, set("password", "wrong-password"), 401, user},
		{"wrong password at graphnet", graphnetPassword, set("password", "wrong-password"), 400, user},
		{"no username at graphnet", graphnetPassword, del("username"), 400, request},
		{"no client_secret", graphnetAttempt, del("client_secret"), 401, client},
		{"wrong client_secret", graphnetAttempt, set("client_secret", "wrong-secret"), 401, client},
		{"wrong client_id", graphnetAttempt, set("client_id", "other"), 401, client},
		{"password grant without client_secret", graphnetPassword, del("client_secret"), 401, client},
		{"basic and client_secret", graphnetAttempt, func(a *attempt) {
			*a = withBasic(*a, id, secret)
			a.form.Set("client_secret", v.ClientSecret)
		}, 400, request},
		{"basic and another client_id", graphnetAttempt, func(a *attempt) {
			*a = withBasic(*a, id, secret)
			a.form.Set("client_id", "other")
		}, 401, client},
		{"basic without form encoding", graphnetAttempt, func(a *attempt) { *a = withBasic(*a, v.ClientID, v.ClientSecret) }, 401, client},
		{"basic with a wrong secret", graphnetAttempt, func(a *attempt) { *a = withBasic(*a, id, "wrong-secret") }, 401, client},
		{"basic with a bad escape", graphnetAttempt, func(a *attempt) { *a = withBasic(*a, id, "%zz") }, 401, client},
		{"basic twice", graphnetAttempt, func(a *attempt) {
			*a = withBasic(*a, id, secret)
			a.header.Add("Authorization", a.header.Get("Authorization"))
		}, 401, client},
		{"another scheme", graphnetAttempt, func(a *attempt) {
			a.form.Del("client_secret")
			a.header.Set("Authorization", "Digest a")
		}, 401, client},
		{"another path", vyoptaAttempt, func(a *attempt) { a.path = "/auth/realms/other/protocol/openid-connect/token" }, 404, "not_found"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var events []querysim.Event
			r := newRig(t, querysim.Options{OnEvent: func(e querysim.Event) { events = append(events, e) }})
			a := tt.from()
			tt.spoil(&a)
			got := do(t, a.request(t, r.login))
			if got.status != tt.status || got.oauthError() != tt.code {
				t.Errorf("got %d %s, want %d %s", got.status, got.body, tt.status, tt.code)
			}
			for _, s := range []string{querysim.Password, v.ClientSecret, "wrong", "access_token"} {
				if strings.Contains(got.body, s) {
					t.Errorf("the answer holds %q: %s", s, got.body)
				}
			}
			challenged := tt.status == 401 && a.header.Get("Authorization") != ""
			if h := got.header.Get("WWW-Authenticate"); strings.HasPrefix(h, "Basic realm=") != challenged {
				t.Errorf("WWW-Authenticate: got %q", h)
			}
			if tt.status == 405 && got.header.Get("Allow") != "POST" {
				t.Errorf("Allow: got %q, want POST", got.header.Get("Allow"))
			}
			if tt.status == 404 {
				return // no login
			}
			if s := r.sim.Stats(); s.Logins != 1 || s.LoginsRefused != 1 {
				t.Errorf("stats: got %+v, want one refused login", s)
			}
			if len(events) != 1 || events[0].Result != tt.code {
				t.Errorf("events: got %+v, want one with result %s", events, tt.code)
			}
		})
	}
}

func TestSetPassword(t *testing.T) {
	r := newRig(t, querysim.Options{Username: "läufer+1@example.com"})
	const password = "ä &=+%;\"'\n"
	r.sim.SetPassword(password)
	a := vyoptaAttempt()
	a.form.Set("username", "läufer+1@example.com")
	if got := do(t, a.request(t, r.login)); got.oauthError() != "invalid_grant" {
		t.Errorf("old password: got %d %s, want invalid_grant", got.status, got.body)
	}
	a.form.Set("password", password)
	if got := do(t, a.request(t, r.login)); got.status != 200 {
		t.Errorf("new password: got %d %s, want 200", got.status, got.body)
	}
}

func TestLoginDown(t *testing.T) {
	r := newRig(t, querysim.Options{})
	token := r.token()
	r.sim.SetLoginDown(true)
	for _, a := range []attempt{vyoptaAttempt(), wxpAttempt(), graphnetAttempt()} {
		got := do(t, a.request(t, r.login))
		if got.status != 503 || got.header.Get("Content-Type") != "text/html" || got.header.Get("Retry-After") != "" || !strings.HasPrefix(got.body, "<html>") {
			t.Errorf("%s: got %d %v %q, want 503, HTML and no Retry-After", a.path, got.status, got.header, got.body)
		}
	}
	if got := r.ask(token, "GET", namesPath); got.status != 200 {
		t.Errorf("query while logins are down: got %d, want 200", got.status)
	}
	if s := r.sim.Stats(); s.LoginsUnavailable != 3 || s.LoginsRefused != 0 || s.LoginsOK != 1 {
		t.Errorf("stats: got %+v, want 3 unavailable, 1 good", s)
	}
	r.sim.SetLoginDown(false)
	r.token()
}

// In a bubble the delay costs nothing, but real sockets do not settle in one:
// these requests go to the handler directly.
func TestLoginDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim, err := querysim.New(querysim.Options{LoginDelay: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		login := func(ctx context.Context) *httptest.ResponseRecorder {
			w := httptest.NewRecorder()
			sim.LoginHandler().ServeHTTP(w, vyoptaAttempt().request(t, "http://x").WithContext(ctx))
			return w
		}
		start := time.Now()
		ctx, leave := context.WithCancel(t.Context())
		const stay = 5
		for range stay {
			go func() {
				if w := login(t.Context()); w.Code != http.StatusOK {
					t.Errorf("got %d %s, want 200", w.Code, w.Body)
				}
				if got := time.Since(start); got != time.Minute {
					t.Errorf("login took %v, want 1m", got)
				}
			}()
		}
		go login(ctx)
		synctest.Wait()
		if s := sim.Stats(); s.Logins != stay+1 || s.LoginsAtOnce != stay+1 || s.LoginsOK != 0 {
			t.Errorf("stats during the delay: got %+v, want %d under way", s, stay+1)
		}
		leave()
		synctest.Wait()
		if s := sim.Stats(); s.LoginsAbandoned != 1 || s.LoginsOK != 0 {
			t.Errorf("stats after one client left: got %+v", s)
		}
		time.Sleep(time.Minute) // the bubble's clock, not a wait
		synctest.Wait()
		if s := sim.Stats(); s.LoginsOK != stay || s.LoginsAtOnce != stay+1 {
			t.Errorf("stats at the end: got %+v, want %d good", s, stay)
		}
		sim.SetLoginDelay(0)
		start = time.Now()
		if w := login(t.Context()); w.Code != http.StatusOK || time.Since(start) != 0 {
			t.Errorf("without delay: got %d after %v", w.Code, time.Since(start))
		}
	})
}

// FuzzLogin asks for tokens in any way: the answer is always JSON and never a
// failure of the simulator's own, and only who sends the account's own secrets
// gets a token.
func FuzzLogin(f *testing.F) {
	good := []attempt{vyoptaAttempt(), wxpAttempt(), graphnetAttempt(), graphnetPassword()}
	for _, a := range good {
		f.Add(a.path, a.host, a.form.Encode(), "")
		f.Add(a.path, a.host, a.form.Encode(), "Basic YTpi")
	}
	sim, err := querysim.New(querysim.Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, path, host, form, authorization string) {
		req := httptest.NewRequest("POST", "/", strings.NewReader(form))
		req.URL.Path, req.Host = path, host
		req.Header = formHeader()
		if authorization != "" {
			req.Header.Set("Authorization", authorization)
		}
		w := httptest.NewRecorder()
		sim.LoginHandler().ServeHTTP(w, req)
		if w.Code >= 500 || !json.Valid(w.Body.Bytes()) {
			t.Errorf("got %d %s", w.Code, w.Body)
		}
		sent, _ := url.ParseQuery(form)
		knows := func(a attempt) bool {
			return a.path == path && sent.Get("password") == a.form.Get("password") && (sent.Get("client_secret") == a.form.Get("client_secret") || authorization != "")
		}
		if w.Code < 300 && !slices.ContainsFunc(good, knows) {
			t.Errorf("got %d %s for %q", w.Code, w.Body, form)
		}
	})
}

// A client may have an assertion that its key has signed, or a certificate that the
// server's TLS has verified, in place of a secret.
func TestClientsWithoutASecret(t *testing.T) {
	key, other := newKey(t), newKey(t)
	sim, err := querysim.New(querysim.Options{ClientKey: &key.PublicKey})
	if err != nil {
		t.Fatal(err)
	}
	v := graphnet()
	const bearer = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	sign := func(key *ecdsa.PrivateKey, subject string, lives time.Duration) string {
		t.Helper()
		text, err := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.RegisteredClaims{Subject: subject, ExpiresAt: jwt.NewNumericDate(time.Now().Add(lives))}).SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	endless, err := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.RegisteredClaims{Subject: v.ClientID}).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	verified := &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{{}}}}
	for _, test := range []struct {
		name   string
		form   url.Values
		tls    *tls.ConnectionState
		status int
	}{
		{"assertion", url.Values{"client_assertion": {sign(key, v.ClientID, time.Minute)}, "client_assertion_type": {bearer}}, nil, 200},
		{"assertion and id", url.Values{"client_assertion": {sign(key, v.ClientID, time.Minute)}, "client_assertion_type": {bearer}, "client_id": {v.ClientID}}, nil, 200},
		{"assertion and another id", url.Values{"client_assertion": {sign(key, v.ClientID, time.Minute)}, "client_assertion_type": {bearer}, "client_id": {"other"}}, nil, 401},
		{"assertion and secret", url.Values{"client_assertion": {sign(key, v.ClientID, time.Minute)}, "client_assertion_type": {bearer}, "client_id": {v.ClientID}, "client_secret": {v.ClientSecret}}, nil, 400},
		{"no type", url.Values{"client_assertion": {sign(key, v.ClientID, time.Minute)}}, nil, 401},
		{"of another client", url.Values{"client_assertion": {sign(key, "other", time.Minute)}, "client_assertion_type": {bearer}}, nil, 401},
		{"of another key", url.Values{"client_assertion": {sign(other, v.ClientID, time.Minute)}, "client_assertion_type": {bearer}}, nil, 401},
		{"over", url.Values{"client_assertion": {sign(key, v.ClientID, -time.Minute)}, "client_assertion_type": {bearer}}, nil, 401},
		{"without an end", url.Values{"client_assertion": {endless}, "client_assertion_type": {bearer}}, nil, 401},
		{"no JWT", url.Values{"client_assertion": {"x"}, "client_assertion_type": {bearer}}, nil, 401},
		{"certificate", url.Values{"client_id": {v.ClientID}}, verified, 200},
		{"certificate, no id", url.Values{}, verified, 401},
		{"TLS without one", url.Values{"client_id": {v.ClientID}}, &tls.ConnectionState{}, 401},
	} {
		test.form.Set("grant_type", "client_credentials")
		r := httptest.NewRequest(http.MethodPost, v.LoginPath, strings.NewReader(test.form.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.TLS = test.tls
		w := httptest.NewRecorder()
		sim.LoginHandler().ServeHTTP(w, r)
		if w.Code != test.status {
			t.Errorf("%s: got %d %s, want %d", test.name, w.Code, w.Body, test.status)
		}
	}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
