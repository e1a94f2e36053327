//go:build unix

package interop_test

import (
	"encoding/json"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
)

// loginCase is a login at a server, and what must come of it.
type loginCase struct {
	name string
	env  []string // settings, without BEARERD_
	// What the server says, for the reader of a failure; 0 is any.
	status int
	// What bearerd makes of it: ok, rejected, transient or throttled.
	result string
	// What the remedy names: the first setting that it names, and others.
	remedy []string
}

const (
	ok        = "ok"
	rejected  = "rejected"
	transient = "transient"
)

// Grants and credentials, right and wrong.
var (
	asUser      = []string{"GRANT_TYPE=password", "USERNAME=" + real.username, "PASSWORD=" + real.password}
	asClient    = []string{"GRANT_TYPE=client_credentials"}
	wrongUser   = "PASSWORD=wrong"
	wrongClient = "CLIENT_SECRET=wrong"
	lockedOut   = "USERNAME=" + lockedUser
	asOther     = "CLIENT_ID=" + real.clientID + otherClient
	scoped      = "SCOPE=" + onlyScope
	wrongScope  = "SCOPE=nothing"
	basic       = "CLIENT_AUTH=basic"
	basicPlain  = "CLIENT_AUTH=basic-plain"
)

func with(settings []string, more ...string) []string { return slices.Concat(settings, more) }

func also(names []string, more ...string) []string { return slices.Concat(names, more) }

// The remedies.
var (
	userThenClient = []string{"BEARERD_USERNAME", "BEARERD_PASSWORD", "BEARERD_CLIENT_ID", "BEARERD_CLIENT_SECRET"}
	client         = []string{"BEARERD_CLIENT_ID", "BEARERD_CLIENT_SECRET"}
	grantType      = []string{"BEARERD_GRANT_TYPE"}
	scope          = []string{"BEARERD_SCOPE"}
)

// What login servers answer is what they answer, not what an RFC says: each case
// here was seen. A refusal costs one login, however many requests come, and the
// remedy names first what is wrong in all probability.
func TestLoginServers(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]struct {
		run   func(*testing.T) endpoint
		cases []loginCase
	}{
		"Dex": {newDex, []loginCase{
			{"user", with(asUser, "SCOPE=openid"), 200, ok, nil},
			{"user, basic", with(asUser, "SCOPE=openid", basic), 200, ok, nil},
			{"user, basic-plain", with(asUser, "SCOPE=openid", basicPlain), 400, rejected, also(userThenClient, "BEARERD_CLIENT_AUTH=basic")}, // invalid_request
			{"wrong password", with(asUser, "SCOPE=openid", wrongUser), 401, rejected, userThenClient},
			{"wrong secret", with(asUser, "SCOPE=openid", wrongClient), 401, rejected, also(client, "BEARERD_CLIENT_AUTH=basic")},
			{"no scope", asUser, 400, rejected, also(userThenClient, "BEARERD_SCOPE", "BEARERD_TOKEN_PARAMS")}, // invalid_request
			{"wrong scope", with(asUser, "SCOPE=openid nothing"), 400, rejected, also(userThenClient, "BEARERD_SCOPE")},
			{"unsupported grant", asClient, 400, rejected, grantType},
		}},
		"Hydra": {newHydra, []loginCase{
			{"client", with(asClient, scoped), 200, ok, nil},
			{"client, basic", with(asClient, asOther, scoped, basic), 200, ok, nil},
			{"client, basic-plain", with(asClient, asOther, scoped, basicPlain), 400, rejected, also(client, "BEARERD_CLIENT_AUTH=basic")}, // invalid_request
			{"the other client authentication", with(asClient, scoped, basic), 401, rejected, also(client, "BEARERD_CLIENT_AUTH=basic-plain", "or body")},
			{"the other client authentication, body", with(asClient, asOther, scoped), 401, rejected, also(client, "BEARERD_CLIENT_AUTH=basic")},
			{"wrong secret", with(asClient, wrongClient), 401, rejected, client},
			{"wrong scope", with(asClient, wrongScope), 400, rejected, scope},
			{"unsupported grant", asUser, 400, rejected, also(userThenClient, "BEARERD_GRANT_TYPE")}, // invalid_request
		}},
		"Glewlwyd": {newGlewlwyd, []loginCase{
			{"user", with(asUser, scoped), 200, ok, nil},
			{"user, basic", with(asUser, scoped, basic), 400, rejected, also(userThenClient, "BEARERD_CLIENT_AUTH=basic-plain")},
			{"user, basic-plain", with(asUser, scoped, basicPlain), 200, ok, nil},
			{"client, body", with(asClient, scoped), 403, rejected, also(client, "BEARERD_CLIENT_AUTH=basic")},
			{"client, basic-plain", with(asClient, scoped, basicPlain), 200, ok, nil},
			{"wrong password", with(asUser, scoped, wrongUser), 403, rejected, userThenClient},
			{"locked", with(asUser, scoped, lockedOut), 403, rejected, also(userThenClient, "locked")},
			{"wrong secret", with(asUser, scoped, basicPlain, wrongClient), 400, rejected, also(userThenClient, "BEARERD_CLIENT_AUTH=basic or body")},
			{"wrong secret in the body, which it does not look at", with(asUser, scoped, wrongClient), 200, ok, nil},
			{"wrong secret of a client", with(asClient, scoped, basicPlain, wrongClient), 403, rejected, client},
			{"wrong scope of a user", with(asUser, wrongScope), 403, rejected, userThenClient},
			{"wrong scope of a client", with(asClient, wrongScope, basicPlain), 400, rejected, scope}, // scope_invalid
			{"no scope", asUser, 400, rejected, userThenClient},
		}},
		"node-oauth": {newNode, []loginCase{
			{"user", with(asUser, scoped), 200, ok, nil},
			{"client", with(asClient, scoped), 200, ok, nil},
			{"client, basic", with(asClient, scoped, basic), 401, rejected, also(client, "BEARERD_CLIENT_AUTH=basic-plain")},
			{"client, basic-plain", with(asClient, scoped, basicPlain), 200, ok, nil},
			{"wrong password", with(asUser, wrongUser), 400, rejected, userThenClient},
			{"unknown user", with(asUser, lockedOut), 400, rejected, also(userThenClient, "locked")},
			{"wrong secret", with(asClient, wrongClient), 0, rejected, also(client, "BEARERD_CLIENT_AUTH=basic")},
			{"wrong scope", with(asUser, wrongScope), 400, rejected, scope},
		}},
		"django-oauth-toolkit": {newDjango, []loginCase{
			{"user", with(asUser, asOther, scoped), 200, ok, nil},
			{"client, basic", with(asClient, basic), 200, ok, nil},
			{"client, basic-plain", with(asClient, basicPlain), 401, rejected, also(client, "BEARERD_CLIENT_AUTH")},
			{"wrong password", with(asUser, asOther, wrongUser), 400, rejected, userThenClient},
			{"locked", with(asUser, asOther, lockedOut), 400, rejected, also(userThenClient, "locked")},
			{"wrong secret", with(asClient, wrongClient), 401, rejected, also(client, "BEARERD_CLIENT_AUTH=basic")},
			{"wrong scope", with(asUser, asOther, wrongScope), 400, rejected, scope},
			{"grant of another client", asUser, 400, rejected, also(client, "BEARERD_GRANT_TYPE")}, // unauthorized_client
		}},
		"Authlib": {newAuthlib, []loginCase{
			{"user", with(asUser, scoped), 200, ok, nil},
			{"client, basic", with(asClient, basic), 401, rejected, also(client, "BEARERD_CLIENT_AUTH=basic-plain")},
			{"client, basic-plain", with(asClient, basicPlain), 200, ok, nil},
			{"wrong password", with(asUser, wrongUser), 400, rejected, also(userThenClient, "BEARERD_SCOPE", "BEARERD_TOKEN_PARAMS")}, // invalid_request
			{"wrong secret", with(asClient, wrongClient), 401, rejected, client},
			{"wrong scope", with(asUser, wrongScope), 400, rejected, scope},
		}},
		"FastAPI": {newFastAPI, []loginCase{
			{"user", asUser, 200, ok, nil},
			{"wrong password", with(asUser, wrongUser), 400, rejected, userThenClient},
			{"locked", with(asUser, lockedOut), 400, rejected, also(userThenClient, "locked")},
			{"unsupported grant", asClient, 422, rejected, []string{"BEARERD_TOKEN_PARAMS", "BEARERD_CLIENT_ID"}},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := s.run(t)
			t.Run("logins", func(t *testing.T) { // which are over when it ends
				for _, c := range s.cases {
					t.Run(c.name, func(t *testing.T) {
						t.Parallel()
						c.try(t, at)
					})
				}
			})
		})
	}
}

func (c loginCase) try(t *testing.T, at endpoint) {
	to, err := url.Parse(at.url)
	if err != nil {
		t.Fatal(err)
	}
	s := &loginServer{account: real, good: func(string) bool { return true }}
	s.serve(t, (&httputil.ReverseProxy{Transport: at.transport, Rewrite: func(pr *httputil.ProxyRequest) {
		pr.Out.URL, pr.Out.Host = to, to.Host
	}}).ServeHTTP)
	api := httptest.NewServer(s.protect(t, echo))
	t.Cleanup(api.Close)
	var env []string
	for _, setting := range c.env {
		env = append(env, "BEARERD_"+setting)
	}
	p := start(t, s.env(api.URL, env...)...)
	if c.result == ok {
		wantEcho(t, p.url, "text")
	} else {
		c.wantRefused(t, p)
	}
	if got := s.logins(0); got != 1 || c.status != 0 && s.logins(c.status) != 1 {
		t.Errorf("logins by status: %v; want one, answered %d", s.answers, c.status)
	}
}

// wantRefused makes requests, and looks at what the user is told.
func (c loginCase) wantRefused(t *testing.T, p *process) {
	for range 20 {
		resp, body := fetch(t, "POST", p.url, strings.NewReader("text"))
		if want := map[string]string{rejected: "login_rejected", transient: "login_unavailable"}[c.result]; !strings.Contains(body, `"`+want+`"`) {
			t.Fatalf("got %d %s, want %s", resp.StatusCode, body, want)
		}
	}
	var told struct{ Message, Result, Cause, Remedy string }
	bearerdtest.Eventually(t, bearerdtest.Soon, "a line of the login", func() bool {
		for line := range strings.Lines(p.Text()) {
			if json.Unmarshal([]byte(line), &told) == nil && told.Result != "" {
				return true
			}
		}
		return false
	})
	if told.Result != c.result {
		t.Errorf("the log says %q of %q, want %q", told.Result, told.Cause, c.result)
	}
	if first := setting.FindString(told.Remedy); first != c.remedy[0] {
		t.Errorf("of %q the remedy names %s first, want %s: %q", told.Cause, first, c.remedy[0], told.Remedy)
	}
	for _, name := range c.remedy[1:] {
		if !strings.Contains(told.Remedy, name) {
			t.Errorf("of %q the remedy does not name %s: %q", told.Cause, name, told.Remedy)
		}
	}
}

var setting = regexp.MustCompile(`BEARERD_[A-Z_]+`)
