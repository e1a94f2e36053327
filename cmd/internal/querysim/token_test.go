package querysim_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

var b64 = base64.RawURLEncoding

// parts decodes a JWT and verifies its ES256 signature (RFC 7515 A.3), with
// nothing but the standard library.
func parts(t testing.TB, token string, key *ecdsa.PublicKey) (header, claims map[string]any) {
	t.Helper()
	p := strings.Split(token, ".")
	if len(p) != 3 {
		t.Fatalf("a token of %d parts", len(p))
	}
	for i, v := range []*map[string]any{&header, &claims} {
		text, err := b64.DecodeString(p[i])
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, v); err != nil {
			t.Fatal(err)
		}
	}
	sig, err := b64.DecodeString(p[2])
	if err != nil || len(sig) != 64 {
		t.Fatalf("signature of %d bytes: %v", len(sig), err)
	}
	sum := sha256.Sum256([]byte(p[0] + "." + p[1]))
	if !ecdsa.Verify(key, sum[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])) {
		t.Error("the signature does not verify")
	}
	return header, claims
}

func TestClaims(t *testing.T) {
	c := newClock()
	r := newRig(t, querysim.Options{Now: c.Now, Lifetime: 7 * time.Second})
	iat := float64(c.Now().Unix()) // whole seconds, though the clock stands at .9
	v := graphnet()
	tests := []struct {
		name    string
		attempt attempt
		want    map[string]any
	}{
		{"vyopta", vyoptaAttempt(), map[string]any{
			"iss": "https://login.vyopta.com/auth/realms/vyopta", "sub": querysim.Username, "azp": "vyopta",
			"aud": []any{"account"}, "scope": "email profile", "typ": "Bearer",
		}},
		{"wxp", wxpAttempt(), map[string]any{
			"iss": "https://login.wxpcollaboration.hp.com/auth", "sub": querysim.Username, "azp": "WXP Collaboration",
			"aud": []any{"account"}, "scope": "email profile", "typ": "Bearer",
		}},
		{"graphnet", graphnetAttempt(), map[string]any{
			"iss": "https://coret1.syhapp.com/vlive/hpca", "sub": v.ClientID, "azp": v.ClientID,
			"aud": []any{"query-service"}, "apis": []any{"/cpmm/api/v1"}, "typ": "Bearer",
		}},
		{"graphnet, password grant", graphnetPassword(), map[string]any{
			"iss": "https://coret1.syhapp.com/vlive/hpca", "sub": querysim.Username, "azp": v.ClientID,
			"aud": []any{"query-service"}, "apis": []any{"/cpmm/api/v1"}, "typ": "Bearer",
		}},
	}
	ids := map[any]bool{}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			access, _ := r.tokens(tt.attempt)
			header, got := parts(t, access, r.sim.PublicKey())
			if header["alg"] != "ES256" {
				t.Errorf("alg: got %v, want ES256", header["alg"])
			}
			if id, _ := got["jti"].(string); id == "" || ids[id] {
				t.Errorf("jti: got %q, want a new one", id)
			}
			ids[got["jti"]] = true
			delete(got, "jti")
			delete(got, "session_state")
			tt.want["iat"], tt.want["exp"] = iat, iat+7
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("claims: got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestAuthorizationForm(t *testing.T) {
	r := newRig(t, querysim.Options{})
	token := r.token()
	ask := func(path string, authorization ...string) reply {
		req, err := http.NewRequest("GET", r.query+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header["Authorization"] = authorization
		return do(t, req)
	}
	if got := ask(namesPath, "Bearer "+token); got.status != 200 {
		t.Fatalf("well-formed: got %d, want 200", got.status)
	}
	tests := map[string][]string{
		"none":           nil,
		"empty":          {""},
		"two":            {"Bearer " + token, "Bearer " + token},
		"lower case":     {"bearer " + token},
		"upper case":     {"BEARER " + token},
		"two spaces":     {"Bearer  " + token},
		"a tab":          {"Bearer\t" + token},
		"no space":       {"Bearer" + token},
		"bare token":     {token},
		"no token":       {"Bearer "},
		"another scheme": {"Basic " + token},
		"two in one":     {"Bearer " + token + ", Bearer " + token},
		"quoted":         {`Bearer "` + token + `" x`},
	}
	for name, values := range tests {
		t.Run(name, func(t *testing.T) {
			before := r.sim.Stats()
			got := ask(namesPath, values...)
			checkUnauthorized(t, got, token)
			s := r.sim.Stats()
			if s.WithoutToken != before.WithoutToken+1 || s.Unauthorized != before.Unauthorized+1 || s.Queries != before.Queries+1 {
				t.Errorf("stats: got %+v after %+v", s, before)
			}
		})
	}
	checkUnauthorized(t, ask(namesPath+"?access_token="+token), token)
}

func checkUnauthorized(t *testing.T, got reply, token string) {
	t.Helper()
	if got.status != 401 || got.oauthError() != "invalid_token" || got.header.Get("Content-Type") != "application/json" {
		t.Errorf("got %d %s, want 401 invalid_token", got.status, got.body)
	}
	challenge := got.header.Values("WWW-Authenticate")
	if len(challenge) != 1 || !strings.HasPrefix(challenge[0], `Bearer realm="query-service", error="invalid_token"`) {
		t.Errorf("WWW-Authenticate: got %q", challenge)
	}
	signature := token[strings.LastIndexByte(token, '.')+1:]
	if strings.Contains(got.body, signature) || strings.Contains(fmt.Sprint(got.header), signature) {
		t.Error("the answer echoes the token")
	}
}

func TestForgedTokens(t *testing.T) {
	r := newRig(t, querysim.Options{})
	token, refresh := r.tokens(vyoptaAttempt())
	other := newRig(t, querysim.Options{}).token()
	p := strings.Split(token, ".")
	head := func(alg string) string { return b64.EncodeToString(fmt.Appendf(nil, `{"alg":%q,"typ":"JWT"}`, alg)) }
	hs256 := func(key []byte) string {
		text := head("HS256") + "." + p[1]
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(text))
		return text + "." + b64.EncodeToString(mac.Sum(nil))
	}
	es256 := func(key *ecdsa.PrivateKey) string {
		text := p[0] + "." + p[1]
		sum := sha256.Sum256([]byte(text))
		a, b, err := ecdsa.Sign(rand.Reader, key, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		return text + "." + b64.EncodeToString(slices.Concat(a.FillBytes(make([]byte, 32)), b.FillBytes(make([]byte, 32))))
	}
	foreign, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, err := r.sim.PublicKey().Bytes()
	if err != nil {
		t.Fatal(err)
	}
	claims, err := b64.DecodeString(p[1])
	if err != nil {
		t.Fatal(err)
	}
	changed := b64.EncodeToString([]byte(strings.Replace(string(claims), "demo@", "root@", 1)))

	tests := map[string]string{
		"not a JWT":                "abc",
		"three empty parts":        "..",
		"no signature":             p[0] + "." + p[1] + ".",
		"alg none":                 head("none") + "." + p[1] + ".",
		"HS256 by the public key":  hs256(public),
		"HS256 by the empty key":   hs256(nil),
		"ES256 by another key":     es256(foreign),
		"changed claims":           p[0] + "." + changed + "." + p[2],
		"one character more":       token + "A",
		"the refresh token":        refresh,
		"that of another instance": other,
	}
	for name, forged := range tests {
		t.Run(name, func(t *testing.T) {
			before := r.sim.Stats().WithoutToken
			checkUnauthorized(t, r.ask(forged, "GET", namesPath), token)
			if got := r.sim.Stats().WithoutToken; got != before {
				t.Errorf("counted as a request without a token: got %d, want %d", got, before)
			}
		})
	}
	if got := r.ask(token, "GET", namesPath); got.status != 200 {
		t.Errorf("the true token after all that: got %d, want 200", got.status)
	}
}

// A token issued at .9 s has an exp 0.9 s before its end; it must live on.
func TestExpiryIsExact(t *testing.T) {
	const lifetime = 2 * time.Second
	c := newClock()
	r := newRig(t, querysim.Options{Now: c.Now, Lifetime: lifetime})
	fresh, used := r.token(), r.token()
	for _, step := range []struct {
		advance time.Duration
		want    int
	}{
		{0, 200},
		{lifetime - time.Nanosecond, 200},
		{time.Nanosecond, 401},
		{time.Hour, 401},
		{-2 * time.Hour, 200}, // the server's clock was set back
	} {
		c.Advance(step.advance)
		if got := r.ask(used, "GET", namesPath); got.status != step.want {
			t.Errorf("used token at %v: got %d, want %d", c.Now(), got.status, step.want)
		}
		if step.want == 200 {
			continue
		}
		if got := r.ask(fresh, "GET", namesPath); got.status != step.want {
			t.Errorf("never used token at %v: got %d, want %d", c.Now(), got.status, step.want)
		}
	}
}

func TestRevoke(t *testing.T) {
	c := newClock()
	r := newRig(t, querysim.Options{Now: c.Now, Lifetime: 10 * time.Second})
	r.token()
	c.Advance(10 * time.Second)
	used, fresh := r.token(), r.token()
	if got := r.ask(used, "GET", namesPath); got.status != 200 {
		t.Fatalf("before: got %d, want 200", got.status)
	}
	if got := r.sim.Revoke(); got != 2 {
		t.Errorf("Revoke: got %d, want the 2 that were live", got)
	}
	for name, token := range map[string]string{"used": used, "fresh": fresh} {
		if got := r.ask(token, "GET", namesPath); got.status != 401 {
			t.Errorf("%s token after Revoke: got %d, want 401", name, got.status)
		}
	}
	if got := r.ask(r.token(), "GET", namesPath); got.status != 200 {
		t.Errorf("new token after Revoke: got %d, want 200", got.status)
	}
	if got := r.sim.Revoke(); got != 1 {
		t.Errorf("second Revoke: got %d, want 1", got)
	}
	if got := r.sim.Revoke(); got != 0 {
		t.Errorf("third Revoke: got %d, want 0", got)
	}
	if s := r.sim.Stats(); s.Revocations != 3 || s.Revoked != 3 {
		t.Errorf("stats: got %+v, want 3 revocations of 3 tokens", s)
	}
}

func TestBooksAreBounded(t *testing.T) {
	c := newClock()
	r := newRig(t, querysim.Options{Now: c.Now, Lifetime: 10 * time.Second})
	for range 100 {
		if got := r.ask(r.token(), "GET", namesPath); got.status != 200 {
			t.Fatalf("got %d, want 200", got.status)
		}
		c.Advance(time.Second)
	}
	if got := r.sim.TokensKept(); got != 10 {
		t.Errorf("tokens kept: got %d, want the 10 of one lifetime", got)
	}
}

func TestRequireTokenGuardsAnotherHandler(t *testing.T) {
	r := newRig(t, querysim.Options{})
	reached := 0
	upstream := newServer(t, r.sim.RequireToken(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		reached++
		w.WriteHeader(http.StatusTeapot)
	})))
	token := r.token()
	r.query = upstream
	if got := r.ask(token, "PUT", "/anything"); got.status != http.StatusTeapot || reached != 1 {
		t.Errorf("good token: got %d, reached %d times, want 418, 1", got.status, reached)
	}
	if got := r.ask("x"+token, "PUT", "/anything"); got.status != 401 || reached != 1 {
		t.Errorf("bad token: got %d, reached %d times, want 401, 1", got.status, reached)
	}
}

func BenchmarkRequireToken(b *testing.B) {
	r := newRig(b, querysim.Options{})
	h := r.sim.RequireToken(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	req, err := http.NewRequest("GET", "/", nil)
	if err != nil {
		b.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+r.token())
	for b.Loop() {
		h.ServeHTTP(nil, req)
	}
}

func TestSetLifetime(t *testing.T) {
	c := newClock()
	r := newRig(t, querysim.Options{Now: c.Now, Lifetime: 10 * time.Second})
	long := r.token()
	if err := r.sim.SetLifetime(1500 * time.Millisecond); err == nil {
		t.Error("1.5 s: got no error")
	}
	if err := r.sim.SetLifetime(2 * time.Second); err != nil {
		t.Fatal(err)
	}
	short := r.token()
	c.Advance(2 * time.Second)
	for token, want := range map[string]int{long: 200, short: 401} {
		if got := r.ask(token, "GET", namesPath); got.status != want {
			t.Errorf("after 2 s: got %d, want %d", got.status, want)
		}
	}
}

func TestOneSession(t *testing.T) {
	r := newRig(t, querysim.Options{})
	first := r.token()
	r.setFaults(querysim.Faults{OneSession: true})
	other, _ := r.tokens(graphnetAttempt()) // of another account
	second := r.token()
	for i, want := range map[string]int{first: 401, second: 200, other: 200} {
		if got := r.ask(i, "GET", namesPath); got.status != want {
			t.Errorf("got %d, want %d", got.status, want)
		}
	}
}

func TestTokenDelay(t *testing.T) {
	c := newClock()
	r := newRig(t, querysim.Options{Now: c.Now})
	r.setFaults(querysim.Faults{TokenDelay: time.Second})
	token := r.token()
	for _, want := range []int{401, 200} {
		if got := r.ask(token, "GET", namesPath); got.status != want {
			t.Errorf("got %d, want %d", got.status, want)
		}
		c.Advance(time.Second)
	}
}

func TestSingleUse(t *testing.T) {
	r := newRig(t, querysim.Options{})
	r.setFaults(querysim.Faults{SingleUse: true})
	token, other := r.token(), r.token()
	for i, token := range []string{token, token, other, other} {
		if got, want := r.ask(token, "GET", namesPath), []int{200, 401, 200, 401}[i]; got.status != want {
			t.Errorf("request %d: got %d, want %d", i, got.status, want)
		}
	}
}
