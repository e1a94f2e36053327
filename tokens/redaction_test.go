package tokens_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"

	"github.com/bearerd/bearerd/tokens"
)

// expectNoSecret, which all tests use, must see a secret where there is one.
func TestRedactionTestSees(t *testing.T) {
	fake := &failRecorder{TB: t}
	expectNoSecret(fake, struct{ text string }{"the " + tokenText})
	expectNoSecret(fake, map[string]string{"a": passwordText})
	if fake.failures != 2 {
		t.Errorf("got %d failures, want 2", fake.failures)
	}
}

// A failRecorder counts failures instead of failing.
type failRecorder struct {
	testing.TB
	failures int
}

func (*failRecorder) Helper()                 {}
func (f *failRecorder) Errorf(string, ...any) { f.failures++ }

// However a Token is printed, marshalled or walked, only Bearer gives its text.
func TestThreatTokenIsNeverPrinted(t *testing.T) {
	token := newManager(t, newServer(t, nil)).good(1)
	if !strings.HasPrefix(token.Bearer(), tokenText) {
		t.Fatalf("Bearer: got %q", token.Bearer())
	}
	if got, want := token.Authorization(), "Bearer "+token.Bearer(); got != want {
		t.Fatalf("Authorization: got %q, want %q", got, want)
	}
	type holder struct {
		Public  *tokens.Token
		private *tokens.Token
	}
	h := holder{token, token}
	expectNoSecret(t, token, h, &h, []*tokens.Token{token}, map[string]any{"t": token})
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%p", "%T", "%c", "%U"} {
		copied := reflect.ValueOf(token).Elem().Interface() // a value has no String method
		text := fmt.Sprintf(verb+verb+verb, token, copied, h)
		for _, shape := range []string{"%s", "%x", "%X"} {
			if strings.Contains(text, fmt.Sprintf(shape, tokenText)) {
				t.Errorf("%s shows the token: %s", verb, text)
			}
		}
	}
	if got := fmt.Sprintf("%v %s %#v", token, token, token); got != "token generation 1 token generation 1 token generation 1" {
		t.Errorf("got %q", got)
	}
	var out strings.Builder
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "token", token, "holder", h)
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "token", token, "holder", h)
	if strings.Contains(out.String(), tokenText) || !strings.Contains(out.String(), "token") {
		t.Errorf("slog shows the token: %s", out.String())
	}
}

func TestSecretIsNeverPrinted(t *testing.T) {
	secret := tokens.Secret(passwordText)
	source := tokens.Source{Value: secret}
	expectNoSecret(t, secret, &secret, source, &source, []tokens.Secret{secret}, tokens.Login{Password: source}, tokens.Options{Login: tokens.Login{Password: source}})
	if secret.Reveal() != passwordText {
		t.Errorf("Reveal: got %q", secret.Reveal())
	}
	if got, err := json.Marshal(source); err != nil || string(got) != `{"Value":"[redacted]","File":"","Stored":null}` {
		t.Errorf("got %s, %v", got, err)
	}
	if source.IsZero() || !(tokens.Source{}).IsZero() || (tokens.Source{File: "x"}).IsZero() {
		t.Error("IsZero is wrong")
	}
}
