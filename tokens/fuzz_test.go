package tokens_test

import (
	"bytes"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bearerd/bearerd/tokens"
)

// FuzzAnswer gives any answer to a login. Whatever it is, there is a token that
// a header may carry and that ends within a day, or a failure with a cause.
func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{
		`{"access_token":"abc","expires_in":300}`, `{"access_token":"a.b.c","expires_in":"1e400"}`,
		`{"access_token":"` + jwt(`{"alg":"RS256"}`, `{"exp":1000300,"iat":1000000}`) + `"}`,
		`{"error":"invalid_grant"}`, "\ufeff{}", `{"access_token":"a\u0000"}`, `<html>`,
		`{"access_token":"` + jwt(`{}`, `{"exp":1e400,"iat":-1e400}`) + `","expires_in":-1}`,
	} {
		f.Add(200, []byte(seed), "Tue, 14 Nov 2023 22:13:20 GMT", "")
		f.Add(400, []byte(seed), "", "7")
	}
	f.Fuzz(func(t *testing.T, status int, body []byte, date, retryAfter string) {
		if len(body) == 0 || status == 0 {
			return // means a good token to the fake server
		}
		e := logInOnce(t, reply{status: status, body: string(body), header: http.Header{"Date": {date}, "Retry-After": {retryAfter}}})
		if e.Result != tokens.OK {
			if e.Cause == "" || e.Token != nil || e.NextLogin.IsZero() {
				t.Errorf("got %+v, want a cause and a next login", e)
			}
			return
		}
		if status != 200 {
			t.Errorf("status %d brought a token", status)
		}
		if l := e.Token.Lifetime; l < time.Second || l > 24*time.Hour {
			t.Errorf("got a lifetime of %v", l)
		}
		for _, c := range []byte(e.Token.Bearer()) {
			if c <= ' ' || c > '~' {
				t.Errorf("got a token with the byte %#x", c)
			}
		}
	})
}

// FuzzCredentialFile: what is sent is the file's content but for a BOM and one
// newline, or nothing is sent.
func FuzzCredentialFile(f *testing.F) {
	for _, seed := range []string{"", "pw", "pw\n", "pw\r\n", "\r", "\n\n", "\ufeff", "\ufeffpw\n", "\xff\xfep\x00", "p&w=%zz+\x00"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		path := filepath.Join(t.TempDir(), "password")
		write(t, path, string(content))
		bubble(t, func(t *testing.T) {
			s := newServer(t, nil)
			m := newManager(t, s, fromFile(path))
			_, err := m.Token(t.Context())
			m.Close()
			got := passwords(s)
			if err != nil {
				if e := m.lastEvent(); len(got) != 0 || !e.Waiting || !strings.Contains(e.Cause, "file") {
					t.Errorf("got %q, %v, %+v; want nothing sent and the reason", got, err, e)
				}
				return
			}
			rest, found := bytes.CutPrefix(bytes.TrimPrefix(content, []byte("\ufeff")), []byte(got[0]))
			if len(got) != 1 || got[0] == "" || !found || len(rest) > 0 && string(rest) != "\n" && string(rest) != "\r\n" {
				t.Errorf("sent %q of %q", got, content)
			}
		})
	})
}
