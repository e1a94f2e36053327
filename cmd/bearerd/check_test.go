//go:build unix

package main

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

// examine runs bearerd check in both forms, each with a login of its own, and
// searches what it said for secrets.
func (w *world) examine(t *testing.T, environ []string, args ...string) (code int, text string, r report) {
	t.Helper()
	var stdout, stderr, stdoutJSON output
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
	w.checkSecrets(t, text+stdoutJSON.String())
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
			w := newWorld(t, querysim.Options{}, nil)
			code, text, r := w.examine(t, w.env(v.Name), "-path", namesPath+"?x=not-shown")
			if code != 0 || len(r.Problems) != 0 {
				t.Errorf("exit code %d, problems %v; want 0 and none", code, r.Problems)
			}
			rule := "expires_in"
			if v.Name == "graphnet" {
				rule = "exp-iat"
			}
			contains(t, text, "BEARERD_PRESET", "environment", "preset", "default", "ok: HTTP 200", "JWT, lives 5m0s (rule "+rule+")",
				"clock", namesPath, "HTTP 200", "Healthy.")
			if strings.Contains(text, "not-shown") {
				t.Error("the report shows a query")
			}
			if r.Upstream.Status != 200 || r.Login.Token.Lifetime != 300 || len(r.Login.Token.Claims) == 0 {
				t.Errorf("got %+v and %+v", r.Upstream, r.Login.Token)
			}
			// examine asks twice.
			if s := w.sim.Stats(); s.Logins != 2 || s.Queries != 2 || s.WithoutToken != 0 {
				t.Errorf("got %+v, want 1 login and 1 query a check", s)
			}
		})
	}
}

func TestCheckSaysWhatUpstreamAnswered(t *testing.T) {
	for _, test := range []struct {
		name    string
		handler http.HandlerFunc
		env     []string
		args    []string
		code    int
		want    []string
	}{
		{"401", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(401) }, nil, nil, 1, []string{"HTTP 401", "BEARERD_SCOPE", "aud"}},
		{"403", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(403) }, nil, nil, 0, []string{"HTTP 403", "-path", "Healthy."}},
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
			w := newWorld(t, querysim.Options{}, test.handler)
			code, text, _ := w.examine(t, append(test.env, w.env("vyopta")...), test.args...)
			if code != test.code {
				t.Errorf("exit code: got %d, want %d", code, test.code)
			}
			contains(t, text, test.want...)
			if strings.Contains(text, "in the middle of its answer") {
				t.Error("what check itself broke off is held against upstream")
			}
			if s := w.sim.Stats(); s.Logins != 2 || s.Queries > 2 {
				t.Errorf("got %d logins and %d queries, want one of each a check", s.Logins, s.Queries)
			}
		})
	}
}

func TestCheckOfAWrongPassword(t *testing.T) {
	w := newWorld(t, querysim.Options{}, nil)
	code, text, r := w.examine(t, append(without(w.env("vyopta"), "BEARERD_PASSWORD"), "BEARERD_PASSWORD=wrong-0ne"))
	if code != 1 || r.Login.Result != "rejected" || r.Upstream != nil {
		t.Errorf("exit code %d, login %+v", code, r.Login)
	}
	contains(t, text, "rejected", "invalid_grant", "BEARERD_PASSWORD", "not asked", "Not healthy.")
	if strings.Contains(text, "wrong-0ne") {
		t.Error("the report holds the password")
	}
	if s := w.sim.Stats(); s.Logins != 2 || s.Queries != 0 {
		t.Errorf("got %+v, want 1 login a check and no query", s)
	}
}

func TestCheckOfASecretFileThatIsMissing(t *testing.T) {
	w := newWorld(t, querysim.Options{}, nil)
	missing := filepath.Join(t.TempDir(), "password")
	code, text, _ := w.examine(t, append(without(w.env("vyopta"), "BEARERD_PASSWORD"), "BEARERD_PASSWORD_FILE="+missing))
	if code != 1 || w.sim.Stats().Logins != 0 {
		t.Errorf("exit code %d, %d logins; want 1 and none", code, w.sim.Stats().Logins)
	}
	contains(t, text, "not made", missing, "it does not exist")
}

func TestCheckOfABadConfiguration(t *testing.T) {
	w := newWorld(t, querysim.Options{}, nil)
	code, text, r := w.examine(t, append(w.env("vyopta"), "BEARERD_TOKEN_WAIT=x", "BEARERD_NONSENSE=y"))
	if code != exitConfig || len(r.Problems) != 2 || r.Problems[1].Setting != "BEARERD_TOKEN_WAIT" {
		t.Errorf("exit code %d, problems %v; want 2 and both", code, r.Problems)
	}
	contains(t, text, "BEARERD_TOKEN_WAIT", "BEARERD_NONSENSE")
	if n := w.sim.Stats().Logins; n != 0 {
		t.Errorf("got %d logins, want none", n)
	}
}

func TestCheckOfTheClock(t *testing.T) {
	for _, skew := range []time.Duration{0, -3 * time.Second, -3600 * time.Second, 90 * time.Second, 400 * 24 * time.Hour} {
		w := newWorld(t, querysim.Options{}, nil)
		if err := w.sim.SetFaults(querysim.Faults{Skew: skew}); err != nil {
			t.Fatal(err)
		}
		code, text, r := w.examine(t, w.env("graphnet"))
		if code != 0 {
			t.Errorf("%v: exit code %d, want 0: bearerd does not mind", skew, code)
		}
		// Date has whole seconds, and the answer takes its time.
		got := skewOf(*r.Login.Skew)
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
func (w *world) overTLS(t *testing.T) (env []string, caFile string) {
	t.Helper()
	login, query := httptest.NewUnstartedServer(w.login.Config.Handler), httptest.NewUnstartedServer(w.query.Config.Handler)
	query.EnableHTTP2 = true
	for _, s := range []*httptest.Server{login, query} {
		s.Config.ErrorLog = serverLog(openLog(io.Discard, "error", "json").events, "test") // it tells of handshakes that are meant to fail
		s.StartTLS()
		t.Cleanup(s.Close)
	}
	caFile = filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: login.Certificate().Raw})
	if err := os.WriteFile(caFile, block, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, line := range w.env("vyopta") {
		line = strings.Replace(line, w.login.URL, login.URL, 1)
		env = append(env, strings.Replace(line, w.query.URL, query.URL, 1))
	}
	return env, caFile
}

func TestCheckOfTLS(t *testing.T) {
	w := newWorld(t, querysim.Options{}, nil)
	env, caFile := w.overTLS(t)
	code, text, r := w.examine(t, append(env, "BEARERD_CA_FILE="+caFile), "-path", namesPath)
	if code != 0 {
		t.Errorf("exit code: got %d, want 0", code)
	}
	contains(t, text, "HTTP/1.1, TLS 1.3", "HTTP/2, TLS 1.3", "O=Acme Co", "2084-01-29")
	for _, c := range []*connReport{r.Login.Connection, r.Upstream.Connection} {
		if c.TLS != "TLS 1.3" || !c.Certificate.Accepted || c.Certificate.Ends.Year() != 2084 {
			t.Errorf("got %+v, %+v", c, c.Certificate)
		}
	}

	// A company's proxy that signs for the server: its name is the clue.
	code, text, r = w.examine(t, env)
	if code != 1 || r.Login.Connection == nil || r.Login.Connection.Certificate == nil || r.Login.Connection.Certificate.Accepted {
		t.Errorf("without CA_FILE: exit code %d, %+v", code, r.Login.Connection)
	}
	contains(t, text, "unknown authority", "O=Acme Co, NOT ACCEPTED", "BEARERD_CA_FILE")
}

func TestCheckThatCannotReport(t *testing.T) {
	w := newWorld(t, querysim.Options{}, nil)
	for _, args := range [][]string{{"check"}, {"check", "-json"}} {
		var stderr output
		if code := run(args, w.env("vyopta"), nil, failingWriter{}, &stderr); code != exitFailed || !strings.Contains(stderr.String(), "writing the report") {
			t.Errorf("bearerd %q: got exit code %d and %q, want 1 and the reason", args, code, &stderr)
		}
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

func TestCheckShowsThePathAsItWasSent(t *testing.T) {
	w := newWorld(t, querysim.Options{}, nil)
	_, text, _ := w.examine(t, append([]string{"BEARERD_UPSTREAM=" + w.query.URL + "/base/"}, w.env("vyopta")...), "-path", "/a%2Fb%41")
	contains(t, text, w.query.URL+"/base/a%2Fb%41\n")
}

// A company's proxy may sign for upstream only.
func TestCheckOfUpstreamsTLS(t *testing.T) {
	w := newWorld(t, querysim.Options{}, nil)
	env, _ := w.overTLS(t)
	code, text, _ := w.examine(t, append(without(env, "BEARERD_TOKEN_URL"), w.env("vyopta")[1]))
	if code != 1 {
		t.Errorf("exit code: got %d, want 1", code)
	}
	contains(t, text, "unknown authority", "NOT ACCEPTED", "signs for upstream", "BEARERD_CA_FILE")
}

func TestCheckHasALimit(t *testing.T) {
	w := newWorld(t, querysim.Options{}, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	cfg, err := loadConfig(given{fromEnvironment, w.env("vyopta")})
	if err != nil {
		t.Fatal(err)
	}
	r := newReport()
	token := r.logIn(t.Context(), cfg)
	r.askUpstream(t.Context(), cfg, &url.URL{Path: "/x"}, token, 50*time.Millisecond)
	r.judge()
	if r.Healthy || len(r.Problems) != 1 || r.Problems[0].Remedy == "" || !strings.Contains(r.Problems[0].Problem, "no answer within 50ms") {
		t.Errorf("got %+v, want that there was no answer, and a remedy", r.Problems)
	}
}

// What stands in the place of a path may be the secret itself.
func TestCheckDoesNotShowASecretInTheWrongPlace(t *testing.T) {
	w := newWorld(t, querysim.Options{}, nil)
	code, text, r := w.examine(t, append(without(w.env("vyopta"), "BEARERD_PASSWORD"), "BEARERD_PASSWORD_FILE=hunter2secret"))
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

func TestCheckIsInterrupted(t *testing.T) {
	w := newWorld(t, querysim.Options{LoginDelay: time.Minute}, nil)
	signals := make(chan os.Signal, 1)
	var stdout, stderr output
	code := make(chan int, 1)
	go func() { code <- run([]string{"check"}, w.env("vyopta"), signals, &stdout, &stderr) }()
	eventually(t, soon, "a login", func() bool { return w.sim.Stats().Logins == 1 })
	signals <- os.Interrupt
	select {
	case c := <-code:
		if c != exitFailed || stdout.String() != "" {
			t.Errorf("got exit code %d and %q, want 1 and no report", c, &stdout)
		}
	case <-time.After(5 * time.Second):
		t.Error("goes on")
	}
}

// net/http reads the proxy variables of the process once, so this one runs the
// program.
func TestCheckNamesTheProxy(t *testing.T) {
	w := newWorld(t, querysim.Options{}, nil)
	var connects atomic.Int64
	via := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		connects.Add(1)
		rw.WriteHeader(http.StatusProxyAuthRequired)
	}))
	defer via.Close()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "check")
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
	w.checkSecrets(t, string(out))
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

// examineFault examines a world with a fault, as text and as JSON, and expects
// an exit code, texts and one login a check. It returns the report and how many
// queries came upstream.
func examineFault(t *testing.T, f querysim.Faults, code int, texts []string) (r report, queries int) {
	t.Helper()
	w := newWorld(t, querysim.Options{}, nil)
	if err := w.sim.SetFaults(f); err != nil {
		t.Fatal(err)
	}
	got, text, r := w.examine(t, w.env("vyopta"), "-path", namesPath)
	if got != code {
		t.Errorf("exit code: got %d, want %d", got, code)
	}
	contains(t, text, texts...)
	s := w.sim.Stats()
	if s.Logins != 2 {
		t.Errorf("got %d logins, want one a check", s.Logins)
	}
	return r, s.Queries
}

func TestCheckOfEachBrokenQueryService(t *testing.T) {
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
			if _, queries := examineFault(t, querysim.Faults{Query: fault}, want.code, want.want); queries != 2 {
				t.Errorf("got %d queries, want one a check", queries)
			}
		})
	}
}

// A locked account looks just like a wrong password; the report says so.
func TestCheckOfALockedAccount(t *testing.T) {
	now := time.Now() // stands still: two failures within a second lock
	w := newWorld(t, querysim.Options{Now: func() time.Time { return now }}, nil)
	if err := w.sim.SetFaults(querysim.Faults{BruteForceLock: true}); err != nil {
		t.Fatal(err)
	}
	wrong := append(without(w.env("vyopta"), "BEARERD_PASSWORD"), "BEARERD_PASSWORD=wrong-0ne")
	_, _, _ = w.examine(t, wrong) // two of them
	code, text, _ := w.examine(t, w.env("vyopta"))
	if s := w.sim.Stats(); code != 1 || s.Lockouts != 1 {
		t.Errorf("exit code %d, %+v; want 1 and a lock", code, s)
	}
	contains(t, text, "HTTP 400, error invalid_grant", "locked looks the same")
}

func TestCheckOfSlowServers(t *testing.T) {
	w := newWorld(t, querysim.Options{}, nil)
	if err := w.sim.SetFaults(querysim.Faults{LoginDelay: time.Minute}); err != nil {
		t.Fatal(err)
	}
	code, text, _ := w.examine(t, append(w.env("vyopta"), "BEARERD_LOGIN_TIMEOUT=100ms"))
	if code != 1 {
		t.Errorf("exit code: got %d, want 1", code)
	}
	contains(t, text, "no answer within 100ms")
}
