package interop_test

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-oauth2/oauth2/v4/generates"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
)

// eachLogin runs test with each kind of login server and of token, and with
// each of the grants and of the client authentications.
func eachLogin(t *testing.T, grants, clientAuths []string, test func(t *testing.T, newServer func(lifetime time.Duration) *loginServer, env []string)) {
	for _, clientAuth := range clientAuths {
		for _, grant := range grants {
			for name, newServer := range map[string]func(*testing.T, time.Duration) *loginServer{
				"fosite JWT": func(t *testing.T, lifetime time.Duration) *loginServer { return newFosite(t, odd, lifetime) },
				"go-oauth2 JWT": func(t *testing.T, lifetime time.Duration) *loginServer {
					return newGoOAuth2(t, plain, lifetime, jwtTokens(), clientAuth == "basic")
				},
				"go-oauth2 opaque": func(t *testing.T, lifetime time.Duration) *loginServer {
					return newGoOAuth2(t, plain, lifetime, generates.NewAccessGenerate(), clientAuth == "basic")
				},
			} {
				t.Run(fmt.Sprintf("%s, %s, %s", name, grant, clientAuth), func(t *testing.T) {
					t.Parallel()
					env := []string{"BEARERD_CLIENT_AUTH=" + clientAuth, "BEARERD_GRANT_TYPE=" + grant}
					if grant == "password" {
						env = append(env, "BEARERD_USERNAME="+odd.username, "BEARERD_PASSWORD="+odd.password)
					}
					test(t, func(lifetime time.Duration) *loginServer { return newServer(t, lifetime) }, env)
				})
			}
		}
	}
}

var (
	bothGrants = []string{"password", "client_credentials"}
	bothAuths  = []string{"body", "basic"}
)

// Renewed while requests go on, a token's end is nothing that they see.
func TestLoginServerRenewal(t *testing.T) {
	eachLogin(t, []string{"password"}, []string{"body"}, func(t *testing.T, newServer func(time.Duration) *loginServer, env []string) {
		const lifetime = 4 * time.Second
		s := newServer(lifetime)
		api := httptest.NewServer(s.protect(t, echo))
		t.Cleanup(api.Close)
		begin := time.Now()
		p := start(t, s.env(api.URL, env...)...)
		enough := make(chan struct{})
		var callers sync.WaitGroup
		for caller := range 2 {
			callers.Go(func() {
				pace := time.NewTicker(50 * time.Millisecond)
				defer pace.Stop()
				for n := 0; ; n++ {
					select {
					case <-enough:
						return
					case <-pace.C:
						wantEcho(t, p.url, fmt.Sprint(caller, n))
					}
				}
			})
		}
		bearerdtest.Eventually(t, bearerdtest.Soon, "the third login", func() bool { return s.logins(200) >= 3 })
		close(enough)
		callers.Wait()
		// fosite rounds the end of a token, and whole seconds are what is said
		// of it: a lifetime may look a second shorter.
		most := 2 + int(time.Since(begin).Seconds()/(0.7*(lifetime-time.Second).Seconds()))
		if got := s.logins(0); got > most {
			t.Errorf("got %d logins in %v, want at most %d", got, time.Since(begin), most)
		}
		// A token may end on its way only where its server and bearerd count
		// seconds differently; then there is a replay, and no failure.
		for _, r := range p.to("/") {
			if r.Status != 200 {
				t.Errorf("a request was answered with %d %s, want 200", r.Status, r.Code)
			}
		}
	})
}

// A revocation costs one login, whatever the request.
func TestLoginServerRevocation(t *testing.T) {
	eachLogin(t, bothGrants, bothAuths, func(t *testing.T, newServer func(time.Duration) *loginServer, env []string) {
		s := newServer(time.Hour)
		api := httptest.NewServer(s.protect(t, echo))
		t.Cleanup(api.Close)
		p := start(t, s.env(api.URL, env...)...)
		wantEcho(t, p.url, "first")
		for revoked := range 3 {
			s.revoke()
			wantEcho(t, p.url, strings.Repeat("held ", 1000))
			wantEcho(t, p.url, "with the new one")
			if got := s.logins(0); got != revoked+2 {
				t.Errorf("got %d logins after %d revocations, want %d", got, revoked+1, revoked+2)
			}
		}
	})
}

// Whatever form a login server gives its refusal, the credentials are taken
// to be wrong, and are not tried with every request.
func TestLoginServerRefusal(t *testing.T) {
	eachLogin(t, bothGrants, bothAuths, func(t *testing.T, newServer func(time.Duration) *loginServer, env []string) {
		s := newServer(time.Hour)
		api := httptest.NewServer(s.protect(t, echo))
		t.Cleanup(api.Close)
		begin := time.Now()
		wrong := "BEARERD_CLIENT_SECRET=wrong"
		if strings.Contains(strings.Join(env, " "), "BEARERD_PASSWORD=") {
			wrong = "BEARERD_PASSWORD=wrong"
		}
		p := start(t, s.env(api.URL, append(env, wrong)...)...)
		for range 50 {
			resp, body := fetch(t, "POST", p.url, strings.NewReader("text"))
			if resp.StatusCode != 502 || !strings.Contains(body, `"login_rejected"`) {
				t.Fatalf("got %d %s, want 502 login_rejected", resp.StatusCode, body)
			}
		}
		most := 1
		if time.Since(begin) >= 30*time.Second {
			most = 2
		}
		if got := s.logins(0); got > most || s.logins(200) > 0 {
			t.Errorf("got %d logins, %d of them with a token; want at most %d, and none", got, s.logins(200), most)
		}
		if s.judged > 0 {
			t.Errorf("upstream got %d requests, want none", s.judged)
		}
		t.Logf("answers by status: %v", s.answers)
	})
}
