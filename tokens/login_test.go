package tokens_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bearerd/bearerd/tokens"
)

// logInAt makes one login over real HTTP and returns its event.
func logInAt(t *testing.T, url string, change ...func(*tokens.Login)) tokens.Event {
	t.Helper()
	m := newManager(t, tokens.NewTransport(tokens.TransportOptions{}), func(o *tokens.Options) {
		o.Login.URL = url
		for _, c := range change {
			c(&o.Login)
		}
	})
	_, err := m.Token(t.Context())
	expectNoSecret(t, err)
	m.Close()
	return m.lastEvent()
}

// A recorder is an HTTP server that keeps the request it got.
type recorder struct {
	*httptest.Server
	request *http.Request
	body    string
}

func newRecorder(t *testing.T) *recorder {
	r := &recorder{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			t.Error(err)
		}
		r.request, r.body = req, string(body)
		_, _ = io.WriteString(w, `{"access_token":"abc","token_type":"bearer","expires_in":300}`)
	}))
	t.Cleanup(r.Close)
	return r
}

// The bytes that each vendor of vendors.md wants, and the variants of RFC 6749.
func TestLoginForm(t *testing.T) {
	value := func(text string) tokens.Source { return tokens.Source{Value: tokens.Secret(text)} }
	for _, test := range []struct {
		name  string
		login tokens.Login
		form  string
		host  string // "": the server's
		basic string // "": no Authorization
	}{
		{
			name: "vyopta",
			login: tokens.Login{
				Grant: "password", ClientID: "vyopta", Host: "login.vyopta.com",
				Username: value("me@example.com"), Password: value("p&=+ %ü"),
			},
			form: "client_id=vyopta&grant_type=password&password=p%26%3D%2B+%25%C3%BC&username=me%40example.com",
			host: "login.vyopta.com",
		},
		{
			name: "wxp",
			login: tokens.Login{
				Grant: "password", ClientID: "WXP Collaboration", Host: "login.wxpcollaboration.hp.com",
				Username: value("me"), Password: value("pw"),
			},
			form: "client_id=WXP+Collaboration&grant_type=password&password=pw&username=me",
			host: "login.wxpcollaboration.hp.com",
		},
		{
			name:  "graphnet",
			login: tokens.Login{Grant: "client_credentials", ClientID: "allotted", ClientSecret: value("s3")},
			form:  "client_id=allotted&client_secret=s3&grant_type=client_credentials",
		},
		{
			name: "graphnet password",
			login: tokens.Login{
				Grant: "password", ClientID: "allotted", ClientSecret: value("s3"),
				Username: value("me"), Password: value("pw"), ClientAuth: "body",
			},
			form: "client_id=allotted&client_secret=s3&grant_type=password&password=pw&username=me",
		},
		{
			name: "basic",
			login: tokens.Login{
				Grant: "client_credentials", ClientID: "a:b c", ClientSecret: value("s:%+/ü"), ClientAuth: "basic",
			},
			form:  "grant_type=client_credentials",
			basic: "a%3Ab+c:s%3A%25%2B%2F%C3%BC",
		},
		{
			name: "basic-plain",
			login: tokens.Login{
				Grant: "client_credentials", ClientID: "a b", ClientSecret: value("s:%+/ü"), ClientAuth: "basic-plain",
			},
			form:  "grant_type=client_credentials",
			basic: "a b:s:%+/ü",
		},
		{
			name: "scope and params",
			login: tokens.Login{
				Grant: "client_credentials", ClientID: "id", Scope: "a b", Params: value("audience=https%3A%2F%2Fapi.test&resource=x&resource=y"),
			},
			form: "audience=https%3A%2F%2Fapi.test&client_id=id&grant_type=client_credentials&resource=x&resource=y&scope=a+b",
		},
		{
			name: "params do not replace bearerd's own",
			login: tokens.Login{
				Grant: "password", ClientID: "id", ClientSecret: value("s3"), Username: value("me"), Password: value("pw"), Scope: "a",
				Params: value("grant_type=x&client_id=x&client_id=y&client_secret=x&username=x&password=x&scope=x&more=1"),
			},
			form: "client_id=id&client_secret=s3&grant_type=password&more=1&password=pw&scope=a&username=me",
		},
		{
			name: "params do not repeat what basic sends",
			login: tokens.Login{
				Grant: "client_credentials", ClientID: "id", ClientSecret: value("s3"), ClientAuth: "basic",
				Params: value("client_id=id&client_secret=s3&more=1"),
			},
			form:  "grant_type=client_credentials&more=1",
			basic: "id:s3",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := newRecorder(t)
			test.login.URL = server.URL + "/oauth/token?realm=x"
			test.login.Transport = tokens.NewTransport(tokens.TransportOptions{})
			m := tokens.New(tokens.Options{Login: test.login})
			defer m.Close()
			token, err := m.Token(t.Context())
			if err != nil || token.Bearer() != "abc" || token.Lifetime != 300*time.Second {
				t.Fatalf("got %v, %v, want the token for 300s", token, err)
			}
			if server.body != test.form {
				t.Errorf("form:\n got %s\nwant %s", server.body, test.form)
			}
			r := server.request
			if r.Method != "POST" || r.RequestURI != "/oauth/token?realm=x" {
				t.Errorf("got %s %s, want POST /oauth/token?realm=x", r.Method, r.RequestURI)
			}
			host := test.host
			if host == "" {
				host = strings.TrimPrefix(server.URL, "http://")
			}
			if r.Host != host {
				t.Errorf("Host: got %q, want %q", r.Host, host)
			}
			for name, want := range map[string]string{
				"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json", "User-Agent": "bearerd",
			} {
				if got := r.Header.Values(name); len(got) != 1 || got[0] != want {
					t.Errorf("%s: got %q, want %q", name, got, want)
				}
			}
			id, secret, ok := r.BasicAuth()
			if got := id + ":" + secret; ok != (test.basic != "") || ok && got != test.basic {
				t.Errorf("Authorization: got %q, %t, want %q", got, ok, test.basic)
			}
		})
	}
}

// Whoever is refused hears of the form-encoding only where it changed something.
func TestRecodedCredentials(t *testing.T) {
	for _, test := range []struct {
		auth, id, secret string
		want             bool
	}{
		{"basic", "id", "abc-_.XYZ0", false},
		{"basic", "id", "a+b", true},
		{"basic", "my id", "abc", true},
		{"basic", "id", "", false},
		{"basic-plain", "my id", "a+b", false},
		{"body", "my id", "a+b", false},
		{"", "my id", "a+b", false},
	} {
		s := newServer(t, rejected)
		s.latency = 0
		m := newManager(t, s, func(o *tokens.Options) {
			o.Login.ClientAuth, o.Login.ClientID, o.Login.ClientSecret.Value = test.auth, test.id, tokens.Secret(test.secret)
		})
		if e := m.unavailable(tokens.Rejected); e.Cause.Recoded != test.want {
			t.Errorf("%+v: got %#v", test, e.Cause)
		}
	}
}

func TestParamsThatAreNoFormSendNothing(t *testing.T) {
	server := newRecorder(t)
	e := logInAt(t, server.URL, func(l *tokens.Login) { l.Params.Value = "a=%zz" + passwordText })
	if e.Result() != tokens.Transient || e.Cause.String() != "the further form fields are not of the form a=b&c=d" || server.request != nil {
		t.Errorf("got %+v", e)
	}
}

// A redirect is a failure: a 307 would send the password elsewhere.
func TestThreatTokenEndpointRedirects(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		var first, second atomic.Int32
		elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { second.Add(1) }))
		defer elsewhere.Close()
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			first.Add(1)
			http.Redirect(w, r, elsewhere.URL+"/"+passwordText, status)
		}))
		defer server.Close()
		e := logInAt(t, server.URL)
		if e.Result() != tokens.Transient || e.Status != status || !strings.Contains(e.Cause.String(), "redirect") {
			t.Errorf("%d: got %+v, want transient", status, e)
		}
		if first.Load() != 1 || second.Load() != 0 {
			t.Errorf("%d: the server saw %d logins and the other %d, want 1 and 0", status, first.Load(), second.Load())
		}
	}
}

// A kept connection would be dead by the next login: each has its own.
func TestEachLoginHasAConnectionOfItsOwn(t *testing.T) {
	peers := make(map[string]bool)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peers[r.RemoteAddr] = true
		_, _ = io.WriteString(w, `{"access_token":"abc"}`)
	}))
	m := newManager(t, nil, func(o *tokens.Options) { o.Login.URL, o.Login.Transport = server.URL, nil })
	m.good(1)
	for generation := range uint64(2) {
		if _, _, err := m.Renew(t.Context(), generation+1, nil); err != nil {
			t.Fatal(err)
		}
	}
	server.Close() // waits for connections, so peers is ours
	if len(peers) != 3 {
		t.Errorf("3 logins used %d connections, want 3", len(peers))
	}
}

func TestAnswerIsReadUpTo1MiB(t *testing.T) {
	for size, want := range map[int]tokens.Result{1 << 20: tokens.OK, 1<<20 + 1: tokens.Transient, 8 << 20: tokens.Transient} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			const answer = `{"access_token":"abc"}`
			_, _ = io.WriteString(w, answer+strings.Repeat(" ", size-len(answer)))
		}))
		defer server.Close()
		if e := logInAt(t, server.URL); e.Result() != want || want != tokens.OK && e.Cause.String() != "HTTP 200, but the answer is larger than 1 MiB" {
			t.Errorf("%d bytes: got %+v, want %s", size, e, want)
		}
	}
}

// A server that stalls, before its header or within its body, costs Timeout.
func TestFaultLoginStalls(t *testing.T) {
	for name, begin := range map[string]string{"before the header": "", "in the body": `{"access_token":`} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body) // or the server does not see the client leave
				if begin != "" {
					_, _ = io.WriteString(w, begin)
					w.(http.Flusher).Flush()
				}
				<-r.Context().Done()
			}))
			defer server.Close()
			e := logInAt(t, server.URL, func(l *tokens.Login) { l.Timeout = 50 * time.Millisecond })
			if e.Result() != tokens.Transient || !strings.HasSuffix(e.Cause.String(), "no answer within 50ms") {
				t.Errorf("got %+v, want transient, no answer within 50ms", e)
			}
			if e.Duration < 25*time.Millisecond || e.Duration > 20*time.Second {
				t.Errorf("took %v, want about 50ms", e.Duration)
			}
		})
	}
}
