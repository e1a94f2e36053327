//go:build unix

package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/config"
	"github.com/bearerd/bearerd/cmd/internal/doctor"
	"github.com/bearerd/bearerd/cmd/internal/logs"
	"github.com/bearerd/bearerd/cmd/internal/querysim"
	"github.com/bearerd/bearerd/tokens"
)

// examine runs bearerd check in both forms, each with a login of its own, and
// searches what it said for secrets.
func examine(t *testing.T, w *bearerdtest.World, environ []string, args ...string) (code int, text string, r doctor.Report) {
	t.Helper()
	var stdout, stderr, stdoutJSON bearerdtest.Output
	args = append([]string{"check"}, args...)
	code = run(args, environ, nil, &stdout, &stderr)
	codeJSON := run(append(args, "-json"), environ, nil, &stdoutJSON, io.Discard)
	if codeJSON != code {
		t.Errorf("exit code: %d, with -json %d", code, codeJSON)
	}
	if err := json.Unmarshal([]byte(stdoutJSON.String()), &r); err != nil {
		t.Errorf("-json: %v\n%s", err, &stdoutJSON)
	}
	if r.Healthy != (code == 0) {
		t.Errorf("exit code %d, and healthy %v", code, r.Healthy)
	}
	text = stdout.String() + stderr.String()
	w.CheckSecrets(t, text+stdoutJSON.String())
	for line := range strings.Lines(text) {
		if strings.ContainsFunc(strings.TrimSuffix(line, "\n"), func(r rune) bool { return r < ' ' || r > '~' && r != '…' }) {
			t.Errorf("a line that a terminal cannot show: %q", line)
		}
	}
	return code, text, r
}

func contains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in:\n%s", part, text)
		}
	}
}

func TestCheckOfEachVendor(t *testing.T) {
	for _, v := range querysim.Vendors() {
		t.Run(v.Name, func(t *testing.T) {
			w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
			code, text, r := examine(t, w, w.Env(v.Name), "-path", bearerdtest.NamesPath+"?x=not-shown")
			if code != 0 || len(r.Problems) != 0 {
				t.Errorf("exit code %d, problems %v; want 0 and none", code, r.Problems)
			}
			rule := r.Login.Token.Rule // not each says expires_in
			if rule != tokens.RuleExpiresIn && rule != tokens.RuleExpIat {
				t.Errorf("got the rule %s, want the server's own word", rule)
			}
			contains(t, text, "BEARERD_PRESET", "environment", "preset", "default", "ok: HTTP 200", "JWT, lives 5m0s (rule "+string(rule)+")",
				"clock", bearerdtest.NamesPath, "HTTP 200", "Healthy.")
			if strings.Contains(text, "not-shown") {
				t.Error("the report shows a query")
			}
			if r.Upstream.Status != 200 || r.Login.Token.Lifetime != 300 || len(r.Login.Token.Claims) == 0 {
				t.Errorf("got %+v and %+v", r.Upstream, r.Login.Token)
			}
			// examine asks twice.
			if s := w.Sim.Stats(); s.Logins != 2 || s.Queries != 2 || s.WithoutToken != 0 {
				t.Errorf("got %+v, want 1 login and 1 query a check", s)
			}
		})
	}
}

// The verdict comes first, then what is wrong with the remedies, errors before
// warnings, and last what is set. Of what nobody set it takes -all to be told.
func TestCheckOpensWithItsVerdict(t *testing.T) {
	t.Parallel()
	w := bearerdtest.NewWorld(t, querysim.Options{}, func() http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(401) }
	}())
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte(querysim.Password), 0o644); err != nil { // others can read it: a warning
		t.Fatal(err)
	}
	env := append(bearerdtest.Without(w.Env("vyopta"), "BEARERD_PASSWORD"), "BEARERD_PASSWORD_FILE="+password)
	code, text, r := examine(t, w, env)
	if code != 1 {
		t.Errorf("exit code: got %d, want 1", code)
	}
	rest := text
	for _, part := range []string{"\nNot healthy.\n  error: ", "\n    remedy: ", "\n  warning: ", "\nLogin  ", "\nUpstream  ", "\nSettings\n", "BEARERD_PASSWORD_FILE ", " more have their defaults: -all names them\n"} {
		_, after, ok := strings.Cut(rest, part)
		if !ok {
			t.Fatalf("%q does not come next in:\n%s", part, text)
		}
		rest = after
	}
	if lines := strings.Split(text, "\n"); lines[2] != "Not healthy." {
		t.Errorf("the third line is %q", lines[2])
	}
	_, all, _ := examine(t, w, env, "-all")
	var hidden int
	for _, s := range r.Settings { // which -json has all of
		has := func(text string) bool { return strings.Contains(text, "\n  "+s.Name+" ") }
		if s.Origin == config.FromDefault {
			hidden++
		}
		if !has(all) || has(text) != (s.Origin != config.FromDefault) {
			t.Errorf("%s of %s: shown %v, with -all %v", s.Name, s.Origin, has(text), has(all))
		}
	}
	contains(t, text, fmt.Sprintf("\n  %d more have", hidden))
	if hidden < 20 || strings.Contains(all, "more have their defaults") {
		t.Errorf("%d defaults, and with -all:\n%s", hidden, all)
	}
}

// What a token is for stands in scope or scp, in words or as a list, and beside
// the token in the answer's own scope.
func TestCheckShowsScopes(t *testing.T) {
	t.Parallel()
	claims := base64.RawURLEncoding.EncodeToString([]byte(`{"scope":"a b","scp":["read","wri\u001bte"],"sub":"me"}`))
	login := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"access_token":"e30.%s.c2ln","scope":"openid\u001b profile"}`, claims)
	}))
	defer login.Close()
	w := bearerdtest.NewWorld(t, querysim.Options{}, http.NotFoundHandler())
	code, text, r := examine(t, w, append([]string{"BEARERD_TOKEN_URL=" + login.URL}, w.Env("vyopta")...))
	if code != 1 { // upstream knows no such token
		t.Errorf("exit code: got %d, want 1", code)
	}
	contains(t, text, "scope        a b\n", "scp          read, wri?te\n", "granted      openid? profile (")
	if got := r.Login.Token; got.Scope != "openid? profile" || !slices.Equal(got.Claims["scp"], []string{"read", "wri?te"}) || got.Claims["sub"] != nil {
		t.Errorf("got %+v", got)
	}
}

func TestCheckSaysWhatUpstreamAnswered(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		handler http.HandlerFunc
		env     []string
		args    []string
		code    int
		want    []string
	}{
		{"401", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(401) }, nil, nil, 1, []string{"HTTP 401", "BEARERD_SCOPE", "aud"}},
		{"403", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(403) }, nil, nil, 0, []string{"HTTP 403", "tokens that it does not know", "-path", "BEARERD_RENEW_STATUS=401,403", "Healthy."}},
		{"404", http.NotFound, nil, nil, 0, []string{"HTTP 404"}},
		{"307", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}, nil, nil, 0, []string{"HTTP 307"}},
		{"500", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500) }, nil, nil, 1, []string{"HTTP 500", "upstream has a fault"}},
		{"reset", func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }, nil, nil, 1, []string{"upstream_unreachable", "BEARERD_UPSTREAM"}},
		{"no header in time", func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, []string{"BEARERD_RESPONSE_HEADER_TIMEOUT=50ms"}, nil, 1, []string{"upstream_timeout: no response header within", "raise BEARERD_RESPONSE_HEADER_TIMEOUT"}},
		{"a stream without end", func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "data: x\n\n")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, nil, nil, 0, []string{"HTTP 200", "Healthy."}},
		{"much", func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					return
				}
			}
		}, nil, nil, 0, []string{"HTTP 200", "Healthy."}},
		{"a path that is not allowed", http.NotFound, []string{"BEARERD_ALLOWED_PATHS=/cpmm"}, []string{"-path", "/other"}, 1, []string{"bearerd itself refuses", "path_not_allowed", "BEARERD_ALLOWED_PATHS", "not asked"}},
		{"the first path that is allowed", http.NotFound, []string{"BEARERD_ALLOWED_PATHS=/cpmm,/other"}, nil, 0, []string{"/cpmm\n", "HTTP 404", "Healthy."}},
		{"GET is not allowed", http.NotFound, []string{"BEARERD_ALLOWED_METHODS=POST"}, nil, 1, []string{"bearerd itself refuses", "BEARERD_ALLOWED_METHODS"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := bearerdtest.NewWorld(t, querysim.Options{}, test.handler)
			code, text, _ := examine(t, w, append(test.env, w.Env("vyopta")...), test.args...)
			if code != test.code {
				t.Errorf("exit code: got %d, want %d", code, test.code)
			}
			contains(t, text, test.want...)
			if strings.Contains(text, "in the middle of its answer") {
				t.Error("what check itself broke off is held against upstream")
			}
			most := 2
			if test.name == "401" {
				most = 4 // each once more, when the token is a second old
			}
			if s := w.Sim.Stats(); s.Logins != 2 || s.Queries > most {
				t.Errorf("got %d logins and %d queries, want 2 and at most %d", s.Logins, s.Queries, most)
			}
		})
	}
}

// An upstream that learns of tokens late is no reason to look for another audience.
func TestCheckOfAnUpstreamThatTakesTokensLate(t *testing.T) {
	t.Parallel()
	for try := 1; ; try++ {
		w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
		if err := w.Sim.SetFaults(querysim.Faults{TokenDelay: 800 * time.Millisecond}); err != nil {
			t.Fatal(err)
		}
		code, text, _ := examine(t, w, w.Env("vyopta"), "-path", "/cpmm/api/v1/orgs/42/metrics/names")
		s := w.Sim.Stats()
		if code == 0 && s.Logins == 2 && s.Queries < 4 && try < 5 {
			continue // on a busy machine the token was not that young any more
		}
		if code != 0 || s.Logins != 2 || s.Queries != 4 {
			t.Errorf("exit code %d, %d logins, %d queries; want 0, 2 and 4, of two checks", code, s.Logins, s.Queries)
		}
		contains(t, text, "Healthy.", "took it then", "HTTP 200")
		return
	}
}

func TestCheckOfAWrongPassword(t *testing.T) {
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	code, text, r := examine(t, w, append(bearerdtest.Without(w.Env("vyopta"), "BEARERD_PASSWORD"), "BEARERD_PASSWORD=wrong-0ne"))
	if code != 1 || r.Login.Result != "rejected" || r.Upstream != nil {
		t.Errorf("exit code %d, login %+v", code, r.Login)
	}
	contains(t, text, "rejected", "invalid_grant", "BEARERD_PASSWORD", "not asked", "Not healthy.")
	if strings.Contains(text, "wrong-0ne") {
		t.Error("the report holds the password")
	}
	if s := w.Sim.Stats(); s.Logins != 2 || s.Queries != 0 {
		t.Errorf("got %+v, want 1 login a check and no query", s)
	}
}

func TestCheckOfASecretFileThatIsMissing(t *testing.T) {
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	missing := filepath.Join(t.TempDir(), "password")
	code, text, _ := examine(t, w, append(bearerdtest.Without(w.Env("vyopta"), "BEARERD_PASSWORD"), "BEARERD_PASSWORD_FILE="+missing))
	if code != 1 || w.Sim.Stats().Logins != 0 {
		t.Errorf("exit code %d, %d logins; want 1 and none", code, w.Sim.Stats().Logins)
	}
	contains(t, text, "not made", missing, "it does not exist")
}

func TestCheckOfABadConfiguration(t *testing.T) {
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	code, text, r := examine(t, w, append(w.Env("vyopta"), "BEARERD_TOKEN_WAIT=x", "BEARERD_NONSENSE=y"))
	if code != exitConfig || len(r.Problems) != 2 || r.Problems[1].Setting != "BEARERD_TOKEN_WAIT" {
		t.Errorf("exit code %d, problems %v; want 78 and both", code, r.Problems)
	}
	contains(t, text, "BEARERD_TOKEN_WAIT", "BEARERD_NONSENSE")
	if n := w.Sim.Stats().Logins; n != 0 {
		t.Errorf("got %d logins, want none", n)
	}
}

func TestCheckOfTheClock(t *testing.T) {
	for _, skew := range []time.Duration{0, -3 * time.Second, -3600 * time.Second, 90 * time.Second, 400 * 24 * time.Hour} {
		w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
		if err := w.Sim.SetFaults(querysim.Faults{Skew: skew}); err != nil {
			t.Fatal(err)
		}
		code, text, r := examine(t, w, w.Env("graphnet"))
		if code != 0 {
			t.Errorf("%v: exit code %d, want 0: bearerd does not mind", skew, code)
		}
		// Date has whole seconds, and the answer takes its time.
		got := doctor.SkewOf(*r.Login.Skew)
		if off := got + skew; off.Abs() > time.Second {
			t.Errorf("%v: got a skew of %v", skew, got)
		}
		if warned := len(r.Problems) == 1; warned != (skew.Abs() > 10*time.Second) {
			t.Errorf("%v: problems %v", skew, r.Problems)
		}
		want := map[bool]string{true: "ahead of", false: "behind"}[skew < 0]
		if skew.Abs() > 10*time.Second {
			contains(t, text, want+" the login server's", "NTP")
		}
	}
}

// overTLS puts TLS before the world's two servers.
func overTLS(t *testing.T, w *bearerdtest.World) (env []string, trusting string) {
	t.Helper()
	login, query := httptest.NewUnstartedServer(w.Login.Config.Handler), httptest.NewUnstartedServer(w.Query.Config.Handler)
	query.EnableHTTP2 = true
	for _, s := range []*httptest.Server{login, query} {
		s.Config.ErrorLog = logs.ForServer(logs.Log{Events: logs.NewLogger(io.Discard, false, "error", "json")}, "test") // it tells of handshakes that are meant to fail
		s.StartTLS()
		t.Cleanup(s.Close)
	}
	for _, line := range w.Env("vyopta") {
		line = strings.Replace(line, w.Login.URL, login.URL, 1)
		env = append(env, strings.Replace(line, w.Query.URL, query.URL, 1))
	}
	return env, bearerdtest.Trusting(t, login)
}

func TestCheckOfTLS(t *testing.T) {
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	env, trusting := overTLS(t, w)
	code, text, r := examine(t, w, append(env, trusting), "-path", bearerdtest.NamesPath)
	if code != 0 {
		t.Errorf("exit code: got %d, want 0", code)
	}
	contains(t, text, "HTTP/1.1, TLS 1.3", "HTTP/2, TLS 1.3", "O=Acme Co", "2084-01-29")
	for _, c := range []*doctor.ConnReport{r.Login.Connection, r.Upstream.Connection} {
		if c.TLS != "TLS 1.3" || !c.Certificate.Accepted || c.Certificate.Ends.Year() != 2084 {
			t.Errorf("got %+v, %+v", c, c.Certificate)
		}
	}

	// A company's proxy that signs for the server: its name is the clue.
	code, text, r = examine(t, w, env)
	if code != 1 || r.Login.Connection == nil || r.Login.Connection.Certificate == nil || r.Login.Connection.Certificate.Accepted {
		t.Errorf("without CA_FILE: exit code %d, %+v", code, r.Login.Connection)
	}
	contains(t, text, "unknown authority", "O=Acme Co, NOT ACCEPTED", "BEARERD_CA_FILE")
}

func TestCheckThatCannotReport(t *testing.T) {
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	for _, args := range [][]string{{"check"}, {"check", "-json"}} {
		var stderr bearerdtest.Output
		if code := run(args, w.Env("vyopta"), nil, failingWriter{}, &stderr); code != exitFailed || !strings.Contains(stderr.String(), "writing the report") {
			t.Errorf("bearerd %q: got exit code %d and %q, want 1 and the reason", args, code, &stderr)
		}
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

func TestCheckShowsThePathAsItWasSent(t *testing.T) {
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	_, text, _ := examine(t, w, append([]string{"BEARERD_UPSTREAM=" + w.Query.URL + "/base/"}, w.Env("vyopta")...), "-path", "/a%2Fb%41")
	contains(t, text, w.Query.URL+"/base/a%2Fb%41\n")
}

// A company's proxy may sign for upstream only.
func TestCheckOfUpstreamsTLS(t *testing.T) {
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	env, _ := overTLS(t, w)
	code, text, _ := examine(t, w, append(bearerdtest.Without(env, "BEARERD_TOKEN_URL"), w.Env("vyopta")[1]))
	if code != 1 {
		t.Errorf("exit code: got %d, want 1", code)
	}
	contains(t, text, "unknown authority", "NOT ACCEPTED", "signs for upstream", "BEARERD_CA_FILE")
}

// What stands in the place of a path may be the secret itself.
func TestCheckDoesNotShowASecretInTheWrongPlace(t *testing.T) {
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	code, text, r := examine(t, w, append(bearerdtest.Without(w.Env("vyopta"), "BEARERD_PASSWORD"), "BEARERD_PASSWORD_FILE=hunter2secret"))
	if code != 1 {
		t.Errorf("exit code: got %d, want 1", code)
	}
	all, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(text+string(all), "hunter2secret") {
		t.Errorf("the report shows it:\n%s\n%s", text, all)
	}
	contains(t, text, "BEARERD_PASSWORD_FILE", "not shown", "it does not exist")
}

// A password that was typed into another variable may be a good value there, and
// the report is made to be pasted.
func TestThreatPasswordInAnotherVariableOfCheck(t *testing.T) {
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	const password = "Hunter2.Secret"
	file := bearerdtest.WriteFile(t, password+"\n")
	for _, secret := range []string{"BEARERD_PASSWORD=" + password, "BEARERD_PASSWORD_FILE=" + file, "BEARERD_USERNAME=" + password} {
		for _, other := range []string{
			"BEARERD_SCOPE=" + password, "BEARERD_CLIENT_ID=" + password, "BEARERD_TOKEN_HOST=" + password,
			"BEARERD_ALLOWED_HOSTS=a.example, " + password, "BEARERD_ALLOWED_METHODS=GET," + password,
		} {
			name, _, _ := strings.Cut(secret, "=")
			_, text, r := examine(t, w, append(bearerdtest.Without(w.Env("vyopta"), strings.TrimSuffix(name, "_FILE")), secret, other))
			all, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(strings.ToLower(text+string(all)), strings.ToLower(password)) {
				t.Errorf("%s with %s: the report shows it:\n%s\n%s", other, name, text, all)
			}
			other, _, _ = strings.Cut(other, "=")
			contains(t, text, other, "not shown, as it is a secret's too", "BEARERD_PRESET", "vyopta")
		}
	}
}

func TestCheckIsInterrupted(t *testing.T) {
	w := bearerdtest.NewWorld(t, querysim.Options{LoginDelay: time.Minute}, nil)
	signals := make(chan os.Signal, 1)
	var stdout, stderr bearerdtest.Output
	code := make(chan int, 1)
	go func() { code <- run([]string{"check"}, w.Env("vyopta"), signals, &stdout, &stderr) }()
	bearerdtest.Eventually(t, bearerdtest.Soon, "a login", func() bool { return w.Sim.Stats().Logins == 1 })
	signals <- os.Interrupt
	select {
	case c := <-code:
		if c != exitFailed || stdout.String() != "" {
			t.Errorf("got exit code %d and %q, want 1 and no report", c, &stdout)
		}
	case <-time.After(bearerdtest.Soon):
		t.Error("goes on")
	}
}

// net/http reads the proxy variables of the process once, so this one runs the
// program.
func TestCheckNamesTheProxy(t *testing.T) {
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	var connects atomic.Int64
	via := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		connects.Add(1)
		rw.WriteHeader(http.StatusProxyAuthRequired)
	}))
	defer via.Close()
	cmd := bearerdtest.Command(t, "check")
	cmd.Env = []string{
		"BEARERD_PRESET=vyopta", "BEARERD_USERNAME=" + querysim.Username, "BEARERD_PASSWORD=" + querysim.Password,
		"HTTPS_PROXY=http://me:pr0xy-secret@" + strings.TrimPrefix(via.URL, "http://"),
	}
	out, err := cmd.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 1 {
		t.Errorf("got %v, want exit code 1", err)
	}
	contains(t, string(out), fmt.Sprintf("proxy        %s\n", via.URL), "the proxy answered HTTP 407", "HTTPS_PROXY")
	if strings.Contains(string(out), "pr0xy-secret") {
		t.Error("the report holds the proxy's password")
	}
	w.CheckSecrets(t, string(out))
	if n := connects.Load(); n != 1 {
		t.Errorf("the proxy was asked %d times, want once", n)
	}
}

// Each way in which the simulator's login servers misbehave, and what check
// must say of it.
func TestCheckOfEachBrokenLoginServer(t *testing.T) {
	expected := map[querysim.LoginFault]struct {
		code   int
		result string
		want   []string
	}{
		querysim.LoginDown:          {1, "transient", []string{"HTTP 503", "the login server has a fault"}},
		querysim.LoginStatus:        {1, "transient", []string{"HTTP 500", "the login server has a fault"}},
		querysim.LoginTooMany:       {1, "throttled", []string{"HTTP 429", "busy"}},
		querysim.LoginTooManyDate:   {1, "throttled", []string{"HTTP 429", "busy"}},
		querysim.LoginBusy:          {1, "throttled", []string{"HTTP 503", "busy"}},
		querysim.LoginBusyDate:      {1, "throttled", []string{"HTTP 503", "busy"}},
		querysim.LoginHTML:          {1, "transient", []string{"HTTP 200", "not one JSON object", "BEARERD_TOKEN_URL"}},
		querysim.LoginFirewall:      {1, "transient", []string{"HTTP 403", "firewall"}},
		querysim.LoginLater:         {1, "throttled", []string{"HTTP 400, error temporarily_unavailable", "busy"}},
		querysim.LoginBare:          {1, "rejected", []string{"HTTP 403", "BEARERD_PASSWORD"}},
		querysim.LoginEmptyError:    {0, "ok", []string{"rule expires_in"}},
		querysim.LoginCreated:       {0, "ok", []string{"HTTP 201", "rule expires_in"}},
		querysim.LoginRedirect:      {1, "transient", []string{"HTTP 307", "redirect", "BEARERD_TOKEN_URL"}},
		querysim.LoginReset:         {1, "transient", []string{"connection reset", "the network"}},
		querysim.LoginRejected:      {1, "rejected", []string{"invalid_grant", "BEARERD_PASSWORD"}},
		querysim.LoginCut:           {1, "transient", []string{"the answer broke off"}},
		querysim.LoginTruncated:     {1, "transient", []string{"not one JSON object"}},
		querysim.LoginErrorMember:   {1, "transient", []string{"error member"}},
		querysim.LoginNoExpiresIn:   {0, "ok", []string{"rule exp-iat", "5m0s"}},
		querysim.LoginTextExpiresIn: {0, "ok", []string{"rule expires_in", "5m0s"}},
		querysim.LoginNoIssuedAt:    {0, "ok", []string{"rule exp-date", "5m0s"}},
		querysim.LoginOpaque:        {0, "ok", []string{"opaque", "rule default", "BEARERD_DEFAULT_TOKEN_LIFETIME"}},
		querysim.LoginSameToken:     {0, "ok", []string{"rule expires_in"}},
	}
	for _, fault := range querysim.LoginFaults() {
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			want, ok := expected[fault]
			if !ok {
				t.Fatal("no expectation")
			}
			r, queries := examineFault(t, querysim.Faults{Login: fault}, want.code, want.want)
			if r.Login.Result != want.result {
				t.Errorf("got %q, want %q", r.Login.Result, want.result)
			}
			if queries > 2 {
				t.Errorf("got %d queries, want at most one a check", queries)
			}
		})
	}
}

// Where 403 means a token that is good no more, it is as a 401 is.
func TestCheckRenewStatus(t *testing.T) {
	t.Parallel()
	for setting, code := range map[string]int{"401": 0, "401,403": 1} {
		w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
		if err := w.Sim.SetFaults(querysim.Faults{Query: querysim.QueryStatus.With("403")}); err != nil {
			t.Fatal(err)
		}
		got, text, _ := examine(t, w, append(w.Env("vyopta"), "BEARERD_RENEW_STATUS="+setting), "-path", bearerdtest.NamesPath)
		if got != code {
			t.Errorf("%s: exit code: got %d, want %d", setting, got, code)
		}
		if code != 0 {
			contains(t, text, "refuses the token that the login server has just given (HTTP 403)")
		}
	}
}

// examineFault examines a world with a fault, as text and as JSON, and expects
// an exit code, texts and one login a check. It returns the report and how many
// queries came upstream.
func examineFault(t *testing.T, f querysim.Faults, code int, texts []string) (r doctor.Report, queries int) {
	t.Helper()
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	if err := w.Sim.SetFaults(f); err != nil {
		t.Fatal(err)
	}
	got, text, r := examine(t, w, w.Env("vyopta"), "-path", bearerdtest.NamesPath)
	if got != code {
		t.Errorf("exit code: got %d, want %d", got, code)
	}
	contains(t, text, texts...)
	s := w.Sim.Stats()
	if s.Logins != 2 {
		t.Errorf("got %d logins, want one a check", s.Logins)
	}
	return r, s.Queries
}

func TestCheckOfEachBrokenQueryService(t *testing.T) {
	t.Parallel()
	expected := map[querysim.QueryFault]struct {
		code int
		want []string
	}{
		querysim.QueryUnauthorizedEarly: {1, []string{"HTTP 401", "BEARERD_TOKEN_PARAMS"}},
		querysim.QueryUnauthorizedLate:  {1, []string{"HTTP 401", "BEARERD_TOKEN_PARAMS"}},
		querysim.QueryStatus:            {1, []string{"HTTP 500"}},
		querysim.QueryReset:             {1, []string{"upstream_unreachable", "connection reset"}},
		querysim.QueryCut:               {0, []string{"HTTP 200", "in the middle of its answer"}},
		querysim.QueryStale:             {0, []string{"HTTP 200"}}, // one request makes no second
	}
	for _, fault := range querysim.QueryFaults() {
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			want, ok := expected[fault]
			if !ok {
				t.Fatal("no expectation")
			}
			each := 1
			if fault == querysim.QueryUnauthorizedEarly || fault == querysim.QueryUnauthorizedLate {
				each = 2 // once more, when the token is a second old
			}
			if _, queries := examineFault(t, querysim.Faults{Query: fault}, want.code, want.want); queries != 2*each {
				t.Errorf("got %d queries, want %d a check", queries, each)
			}
		})
	}
}

// A locked account looks just like a wrong password; the report says so.
func TestCheckOfALockedAccount(t *testing.T) {
	now := time.Now() // stands still: two failures within a second lock
	w := bearerdtest.NewWorld(t, querysim.Options{Now: func() time.Time { return now }}, nil)
	if err := w.Sim.SetFaults(querysim.Faults{BruteForceLock: true}); err != nil {
		t.Fatal(err)
	}
	wrong := append(bearerdtest.Without(w.Env("vyopta"), "BEARERD_PASSWORD"), "BEARERD_PASSWORD=wrong-0ne")
	_, _, _ = examine(t, w, wrong) // two of them
	code, text, _ := examine(t, w, w.Env("vyopta"))
	if s := w.Sim.Stats(); code != 1 || s.Lockouts != 1 {
		t.Errorf("exit code %d, %+v; want 1 and a lock", code, s)
	}
	contains(t, text, "HTTP 400, error invalid_grant", "locked looks the same")
}

func TestCheckOfSlowServers(t *testing.T) {
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	if err := w.Sim.SetFaults(querysim.Faults{LoginDelay: time.Minute}); err != nil {
		t.Fatal(err)
	}
	code, text, _ := examine(t, w, append(w.Env("vyopta"), "BEARERD_LOGIN_TIMEOUT=100ms"))
	if code != 1 {
		t.Errorf("exit code: got %d, want 1", code)
	}
	contains(t, text, "no answer within 100ms")
}
