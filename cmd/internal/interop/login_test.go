package interop_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-oauth2/oauth2/v4"
	"github.com/go-oauth2/oauth2/v4/errors"
	"github.com/go-oauth2/oauth2/v4/generates"
	"github.com/go-oauth2/oauth2/v4/manage"
	"github.com/go-oauth2/oauth2/v4/models"
	"github.com/go-oauth2/oauth2/v4/server"
	"github.com/go-oauth2/oauth2/v4/store"
	"github.com/golang-jwt/jwt/v5"
	"github.com/ory/fosite"
	"github.com/ory/fosite/compose"
	fositehandler "github.com/ory/fosite/handler/oauth2"
	"github.com/ory/fosite/storage"
)

// account is who logs in. Each part holds what a form or a Basic header would
// spoil if it were not encoded; go-oauth2 does not decode the latter's.
type account struct{ clientID, clientSecret, username, password string }

var (
	odd   = account{"a client:1", "s%cret+ &=ü", "müller@example.com", "p%ss+ &=:ü"}
	plain = account{"client-1", "secret-1", odd.username, odd.password}
)

// loginServer is a login server that others wrote. It stands for the servers'
// side in every test: it counts the logins, and no token is good but its own.
type loginServer struct {
	account
	url string
	// good asks the library for its opinion of a token, and forget makes it
	// change that.
	good   func(token string) bool
	forget func(token string)

	mu       sync.Mutex      // guards what follows
	answers  map[int]int     // logins by status
	underWay int             // logins
	issued   map[string]bool // tokens
	judged   int             // requests upstream
}

// serve lets login answer the logins.
func (s *loginServer) serve(t *testing.T, login http.HandlerFunc) {
	s.answers, s.issued = map[int]int{}, map[string]bool{}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		if s.underWay++; s.underWay > 1 {
			t.Errorf("%d logins at once, want 1", s.underWay)
		}
		s.mu.Unlock()
		answer := httptest.NewRecorder()
		login(answer, r)
		var body struct {
			AccessToken string `json:"access_token"`
		}
		_ = json.Unmarshal(answer.Body.Bytes(), &body)
		s.mu.Lock()
		s.underWay--
		s.answers[answer.Code]++
		if body.AccessToken != "" {
			s.issued[body.AccessToken] = true
		}
		s.mu.Unlock()
		maps.Copy(w.Header(), answer.Header())
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes())
	}))
	t.Cleanup(web.Close)
	s.url = web.URL
}

// env is the settings of s and upstream.
func (s *loginServer) env(upstream string, more ...string) []string {
	return append([]string{
		"BEARERD_UPSTREAM=" + upstream, "BEARERD_TOKEN_URL=" + s.url + "/token", "BEARERD_GRANT_TYPE=client_credentials",
		"BEARERD_CLIENT_ID=" + s.clientID, "BEARERD_CLIENT_SECRET=" + s.clientSecret,
	}, more...)
}

// logins returns how many were answered with status, or with any where it is 0.
func (s *loginServer) logins(status int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if status != 0 {
		return s.answers[status]
	}
	n := 0
	for _, of := range s.answers {
		n += of
	}
	return n
}

// revoke ends every token.
func (s *loginServer) revoke() {
	s.mu.Lock()
	tokens := slices.Collect(maps.Keys(s.issued))
	s.mu.Unlock()
	for _, token := range tokens {
		s.forget(token)
	}
}

// admits is the referee of a request that upstream got: it fails the test
// unless there is one token, which the server issued, and says whether that is
// still good.
func (s *loginServer) admits(t *testing.T, authorization []string) bool {
	s.mu.Lock()
	s.judged++
	s.mu.Unlock()
	if len(authorization) != 1 {
		t.Errorf("upstream got %d Authorization fields, want 1", len(authorization))
		return false
	}
	token, ok := strings.CutPrefix(authorization[0], "Bearer ")
	s.mu.Lock()
	ok = ok && s.issued[token]
	s.mu.Unlock()
	if !ok {
		t.Errorf("upstream got an Authorization that the login server did not issue")
		return false
	}
	return s.good(token)
}

// protect lets those through to next who have a good token.
func (s *loginServer) protect(t *testing.T, next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.admits(t, r.Header["Authorization"]) {
			w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		next(w, r)
	})
}

// newFosite runs ory/fosite, with tokens that are JWTs signed by RS256.
func newFosite(t *testing.T, a account, lifetime time.Duration) *loginServer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	config := &fosite.Config{AccessTokenLifespan: lifetime, GlobalSecret: []byte(rand.Text() + rand.Text()), HashCost: 4} // bcrypt's least
	hash, err := (&fosite.BCrypt{Config: config}).Hash(t.Context(), []byte(a.clientSecret))
	if err != nil {
		t.Fatal(err)
	}
	sessions := storage.NewMemoryStore()
	sessions.Clients[a.clientID] = &fosite.DefaultClient{ID: a.clientID, Secret: hash, GrantTypes: []string{"password", "client_credentials"}}
	sessions.Users[a.username] = storage.MemoryUserRelation{Username: a.username, Password: a.password}
	strategy := compose.NewOAuth2JWTStrategy(func(context.Context) (any, error) { return key, nil }, compose.NewOAuth2HMACStrategy(config), config)
	provider := compose.Compose(config, sessions, strategy,
		//lint:ignore SA1019 the services behind bearerd have nothing but this grant
		compose.OAuth2ClientCredentialsGrantFactory, compose.OAuth2ResourceOwnerPasswordCredentialsFactory, compose.OAuth2TokenIntrospectionFactory)

	s := &loginServer{account: a}
	s.serve(t, func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		request, err := provider.NewAccessRequest(ctx, r, new(fositehandler.JWTSession))
		if err != nil {
			provider.WriteAccessError(ctx, w, request, err)
			return
		}
		answer, err := provider.NewAccessResponse(ctx, request)
		if err != nil {
			provider.WriteAccessError(ctx, w, request, err)
			return
		}
		provider.WriteAccessResponse(ctx, w, request, answer)
	})
	s.good = func(token string) bool {
		_, _, err := provider.IntrospectToken(context.Background(), token, fosite.AccessToken, new(fositehandler.JWTSession))
		return err == nil
	}
	s.forget = func(token string) {
		_ = sessions.DeleteAccessTokenSession(context.Background(), strategy.AccessTokenSignature(context.Background(), token))
	}
	return s
}

// newGoOAuth2 runs go-oauth2/oauth2, with tokens by generate, which reads the
// client's secret from the form or, where basic is set, from a Basic header.
func newGoOAuth2(t *testing.T, a account, lifetime time.Duration, generate oauth2.AccessGenerate, basic bool) *loginServer {
	t.Helper()
	clients := store.NewClientStore()
	if err := clients.Set(a.clientID, &models.Client{ID: a.clientID, Secret: a.clientSecret}); err != nil {
		t.Fatal(err)
	}
	manager := manage.NewDefaultManager()
	manager.MustTokenStorage(store.NewMemoryTokenStore())
	manager.MapClientStorage(clients)
	manager.MapAccessGenerate(generate)
	manager.SetClientTokenCfg(&manage.Config{AccessTokenExp: lifetime})
	manager.SetPasswordTokenCfg(&manage.Config{AccessTokenExp: lifetime, RefreshTokenExp: time.Hour, IsGenerateRefresh: true})
	provider := server.NewDefaultServer(manager)
	if !basic {
		provider.SetClientInfoHandler(server.ClientFormHandler)
	}
	provider.SetPasswordAuthorizationHandler(func(_ context.Context, _, username, password string) (string, error) {
		if username != a.username || password != a.password {
			return "", errors.ErrInvalidGrant
		}
		return username, nil
	})

	s := &loginServer{account: a}
	s.serve(t, func(w http.ResponseWriter, r *http.Request) {
		if err := provider.HandleTokenRequest(w, r); err != nil {
			t.Errorf("go-oauth2: %v", err)
		}
	})
	s.good = func(token string) bool {
		_, err := manager.LoadAccessToken(context.Background(), token)
		return err == nil
	}
	s.forget = func(token string) { _ = manager.RemoveAccessToken(context.Background(), token) }
	return s
}

// newLogin runs the login server of the tests that are about upstream: its
// tokens are good until they are revoked.
func newLogin(t *testing.T) *loginServer {
	return newGoOAuth2(t, plain, time.Hour, generates.NewAccessGenerate(), false)
}

// jwtTokens makes go-oauth2's tokens JWTs, which have exp and no iat.
func jwtTokens() oauth2.AccessGenerate {
	return generates.NewJWTAccessGenerate("", []byte(rand.Text()), jwt.SigningMethodHS512)
}
