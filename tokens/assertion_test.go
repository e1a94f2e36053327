package tokens_test

import (
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bearerd/bearerd/tokens"
)

const jwtBearer = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// byAssertion is a login as a client that has no secret, but an assertion in path.
func byAssertion(path string) func(*tokens.Options) {
	return func(o *tokens.Options) {
		o.Login.Grant, o.Login.ClientSecret = "client_credentials", tokens.Source{}
		o.Login.Username, o.Login.Password = tokens.Source{}, tokens.Source{}
		o.Login.Assertion = tokens.Source{File: path}
	}
}

// byParams is the same with the assertion among the parameters.
func byParams(path string) func(*tokens.Options) {
	return func(o *tokens.Options) {
		byAssertion("")(o)
		o.Login.Params = tokens.Source{File: path}
	}
}

// What is sent: the assertion and its type, client_id where there is one
// (RFC 7521 4.2 has it optional), and never a second way to authenticate the client.
func TestClientAssertionIsSent(t *testing.T) {
	for _, test := range []struct {
		name, content string
		change        func(path string) func(*tokens.Options)
		more          func(*tokens.Login)
		want          string // the form
	}{
		{"from a file", "ey.a.b\n", byAssertion, nil, "client_assertion=ey.a.b&client_assertion_type=" + jwtBearer + "&client_id=id&grant_type=client_credentials"},
		{"without client_id", "ey.a.b", byAssertion, func(l *tokens.Login) { l.ClientID = "" }, "client_assertion=ey.a.b&client_assertion_type=" + jwtBearer + "&grant_type=client_credentials"},
		{"and CLIENT_AUTH", "ey.a.b", byAssertion, func(l *tokens.Login) { l.ClientAuth = "basic" }, "client_assertion=ey.a.b&client_assertion_type=" + jwtBearer + "&client_id=id&grant_type=client_credentials"},
		{"among the parameters", "x=y&client_assertion=ey.a.b", byParams, nil, "client_assertion=ey.a.b&client_assertion_type=" + jwtBearer + "&client_id=id&grant_type=client_credentials&x=y"},
		{"of another type", "client_assertion_type=saml2&client_assertion=ey.a.b", byParams, nil, "client_assertion=ey.a.b&client_assertion_type=saml2&client_id=id&grant_type=client_credentials"},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := newServer(t, nil)
				var header http.Header
				m := newManager(t, tripper(func(r *http.Request) (*http.Response, error) {
					header = r.Header
					return s.RoundTrip(r)
				}), test.change(passwordFile(t, test.content)), func(o *tokens.Options) {
					if test.more != nil {
						test.more(&o.Login)
					}
				})
				m.good(1)
				if got := unescaped(t, s.seen()[0].form.Encode()); got != test.want {
					t.Errorf("got %s, want %s", got, test.want)
				}
				if got := header.Get("Authorization"); got != "" {
					t.Errorf("got the header Authorization: %s as well", got)
				}
			})
		})
	}
}

// A projected token is written anew each hour or so, and read for each login.
func TestClientAssertionIsReadForEachLogin(t *testing.T) {
	bubble(t, func(t *testing.T) {
		path := passwordFile(t, "ey.first")
		s := newServer(t, nil)
		m := newManager(t, s, byAssertion(path), func(o *tokens.Options) { o.KeepWarm = true })
		m.Start()
		m.good(1)
		write(t, path, "ey.second")
		wait(100 * time.Second)
		s.expectLogins(1) // while nothing fails, a new one needs no login
		wait(200 * time.Second)
		s.expectLogins(2)
		if got := s.seen()[1].form.Get("client_assertion"); got != "ey.second" {
			t.Errorf("got %q, want the second", got)
		}
	})
}

// A new assertion earns one attempt, lifts no stop, and starts no count anew.
func TestThreatNewAssertionIsNoNewCredential(t *testing.T) {
	for name, test := range map[string]struct {
		content string
		change  func(path string) func(*tokens.Options)
	}{
		"file":       {"ey.%d", byAssertion},
		"parameters": {"a=b&client_assertion=ey.%d", byParams},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				path := passwordFile(t, fmt.Sprintf(test.content, 0))
				s := newServer(t, rejected)
				m := newManager(t, s, test.change(path))
				m.Start()
				wait(10 * time.Minute)
				s.expectLogins(5)
				for n := range 2 {
					write(t, path, fmt.Sprintf(test.content, n+1))
					wait(5 * time.Second)
					s.expectLogins(6 + n)
					wait(10 * time.Minute)
					s.expectLogins(6 + n)
					if st := m.Status(); !st.Stopped || st.Rejections != 6+n {
						t.Errorf("got %+v, want stopped after %d rejections", st, 6+n)
					}
				}
			})
		})
	}
}

// One that changes all the time, and is refused, must not lock the client.
func TestThreatAssertionThatChangesAllTheTime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		path := passwordFile(t, "ey.0")
		s := newServer(t, rejected)
		m := newManager(t, s, byAssertion(path))
		m.Start()
		for n := range 900 {
			write(t, path, fmt.Sprint("ey.", n/2)) // each is there for two looks
			wait(time.Second)
		}
		if got := len(s.seen()); got > 5+15 {
			t.Errorf("got %d logins in 15 minutes, want no more than one a minute beside those of the back-off", got)
		}
		logins := s.times()
		for i := range logins[1:] {
			if pause := logins[i+1] - logins[i]; pause < 29*time.Second {
				t.Errorf("got logins %v apart", pause)
			}
		}
	})
}

// That the client's credentials have worked stays true of its next assertion: a
// refusal is then retried each hour, and not given up.
func TestNewAssertionHasWorkedBefore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		path := passwordFile(t, "ey.0")
		s := newServer(t, goodThen(reply{status: 401, body: `{"error":"invalid_client"}`}))
		m := newManager(t, s, byAssertion(path), func(o *tokens.Options) { o.KeepWarm = true })
		m.Start()
		m.good(1)
		write(t, path, "ey.1")
		wait(time.Hour)
		if st := m.Status(); st.Stopped || st.NextLogin.IsZero() {
			t.Errorf("got %+v, want one attempt an hour", st)
		}
	})
}

// Another file, at which the assertion was not to be had, is waited for.
func TestClientAssertionFileIsAwaited(t *testing.T) {
	bubble(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "assertion")
		s := newServer(t, nil)
		m := newManager(t, s, byAssertion(path))
		m.Start()
		wait(10 * time.Second)
		if st := m.Status(); !st.Waiting || st.Cause.Problem != fmt.Sprintf("waiting for the client assertion file %q: it does not exist", path) {
			t.Errorf("got %+v, want waiting", st)
		}
		write(t, path, "ey.1")
		wait(5 * time.Second)
		m.good(1)
	})
}

// A new certificate is as a new assertion: one attempt, where the last one was
// refused.
func TestThreatNewCertificateIsNoNewCredential(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newServer(t, rejected)
		m := newManager(t, s)
		m.Start()
		for range 5 { // the next attempt comes soon enough
			wait(5 * time.Second)
			m.CertificateChanged()
		}
		s.expectLogins(1)
		wait(time.Hour)
		if st := m.Status(); !st.Stopped || st.Rejections < 5 {
			t.Fatalf("got %+v, want stopped", st)
		}
		before := len(s.seen())
		m.CertificateChanged()
		wait(time.Hour)
		s.expectLogins(before + 1)
		if st := m.Status(); !st.Stopped {
			t.Errorf("got %+v, want stopped", st)
		}
	})
}

// It needs no login while nothing fails, heals what a refusal has stopped, and
// counts for a login that was under way without it.
func TestCertificateChanged(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var good atomic.Bool
		s := newServer(t, func(n int) reply {
			if good.Load() {
				return reply{}
			}
			return rejected(n)
		})
		m := newManager(t, s)
		m.Start()
		time.Sleep(50 * time.Millisecond) // in the first login
		good.Store(true)                  // for who shows the new certificate
		m.CertificateChanged()
		wait(31*time.Second + 6*time.Second)
		m.good(1)
		s.expectLogins(2)
		m.CertificateChanged()
		wait(100 * time.Second)
		s.expectLogins(2)
	})
}

// A tripper is a RoundTripper of one function.
type tripper func(*http.Request) (*http.Response, error)

func (f tripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// unescaped is a form as people read it.
func unescaped(t *testing.T, form string) string {
	t.Helper()
	text, err := url.QueryUnescape(form)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
