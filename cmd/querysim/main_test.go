package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

// program is a running querysim.
type program struct {
	t       *testing.T
	out     <-chan string // its lines
	stop    context.CancelFunc
	code    chan int
	stderr  bytes.Buffer                 // to be read after the end
	presets map[string]map[string]string // what it printed for bearerd, by preset
	control string
}

// start runs querysim on free ports and reads what it prints at start.
func start(t *testing.T, args ...string) *program {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	r, w := io.Pipe()
	out := make(chan string)
	p := &program{t: t, out: out, stop: stop, code: make(chan int, 1), presets: map[string]map[string]string{}}
	go func() {
		defer close(out)
		for lines := bufio.NewScanner(r); lines.Scan(); {
			out <- lines.Text()
		}
	}()
	args = append([]string{"-login-listen=127.0.0.1:0", "-query-listen=127.0.0.1:0", "-control-listen=127.0.0.1:0"}, args...)
	go func() {
		code := run(ctx, args, w, &p.stderr)
		w.Close()
		p.code <- code
	}()
	t.Cleanup(func() {
		stop()
		r.Close()
		for range out {
		}
	})

	var lines map[string]string
	vendors := querysim.Vendors()
	for last := vendors[len(vendors)-1].Name; len(lines) < 5 || lines["BEARERD_PRESET"] != last; {
		line := p.line()
		if _, url, ok := strings.Cut(line, "control: "); ok {
			p.control, _, _ = strings.Cut(strings.TrimSpace(url), " ")
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			continue
		}
		if name == "BEARERD_PRESET" {
			lines = map[string]string{}
			p.presets[value] = lines
		}
		lines[name] = value
	}
	return p
}

// line returns the next line of standard output.
func (p *program) line() string {
	p.t.Helper()
	select {
	case line, ok := <-p.out:
		if !ok {
			p.t.Fatal("the output ended")
		}
		return line
	case <-time.After(bearerdtest.Soon):
		p.t.Fatal("no line came")
	}
	return ""
}

// end stops the program and returns its exit code.
func (p *program) end() int {
	p.stop()
	for range p.out { // the pipe holds nothing: unread output would block the program
	}
	return <-p.code
}

// login does what bearerd does with the printed lines of preset, given the
// password, and returns the status and the token.
func (p *program) login(preset, host, clientID, password string) (int, string) {
	p.t.Helper()
	return p.send(p.request(preset, host, url.Values{
		"grant_type": {"password"}, "client_id": {clientID}, "username": {p.presets[preset]["BEARERD_USERNAME"]}, "password": {password},
	}))
}

// request is a login at the token URL that was printed for preset.
func (p *program) request(preset, host string, fields url.Values) *http.Request {
	p.t.Helper()
	req, err := http.NewRequest("POST", p.presets[preset]["BEARERD_TOKEN_URL"], strings.NewReader(fields.Encode()))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Host = host
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return req
}

func (p *program) send(req *http.Request) (status int, token string) {
	p.t.Helper()
	// The program prints a line before it answers: read it meanwhile.
	type result struct {
		resp *http.Response
		err  error
	}
	done := make(chan result, 1)
	go func() {
		resp, err := http.DefaultClient.Do(req)
		done <- result{resp, err}
	}()
	line := p.line()
	p.t.Log(line)
	res := <-done
	if res.err != nil {
		p.t.Fatal(res.err)
	}
	defer res.resp.Body.Close()
	var a struct {
		Token string `json:"access_token"`
	}
	_ = json.NewDecoder(res.resp.Body).Decode(&a)
	if ok := strings.HasSuffix(line, ", ok"); ok != (res.resp.StatusCode == 200) || !strings.HasPrefix(line, "login ") {
		p.t.Errorf("line of a login answered %d: got %q", res.resp.StatusCode, line)
	}
	return res.resp.StatusCode, a.Token
}

func TestPrintedLinesWork(t *testing.T) {
	p := start(t)
	tokens, logins := map[string]string{}, 0
	for _, v := range querysim.Vendors() {
		env := p.presets[v.Name]
		if env == nil {
			t.Errorf("%s: no lines were printed", v.Name)
			continue
		}
		fields := url.Values{"grant_type": {v.GrantType}, "client_id": {v.ClientID}}
		secret := "password"
		if v.GrantType == "password" {
			fields.Set("username", env["BEARERD_USERNAME"])
			fields.Set("password", env["BEARERD_PASSWORD"])
		} else {
			secret = "client_secret"
			fields.Set("client_id", env["BEARERD_CLIENT_ID"])
			fields.Set("client_secret", env["BEARERD_CLIENT_SECRET"])
		}
		status, token := p.send(p.request(v.Name, v.LoginHost, fields))
		if status != 200 {
			t.Fatalf("%s: got %d, want 200", v.Name, status)
		}
		tokens[v.Name] = token
		fields.Set(secret, "wrong")
		if status, _ := p.send(p.request(v.Name, v.LoginHost, fields)); status/100 != 4 {
			t.Errorf("%s with a wrong secret: got %d, want a refusal", v.Name, status)
		}
		logins += 2
	}

	for preset, token := range tokens {
		req, err := http.NewRequest("GET", p.presets[preset]["BEARERD_UPSTREAM"]+"/cpmm/api/v1/orgs/42/metrics/names", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 200 {
			t.Errorf("query with the token of %s: got %d, want 200", preset, resp.StatusCode)
		}
	}
	resp, err := http.Get(p.control + "/stats")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var stats struct {
		Logins, Queries int
	}
	if err := json.NewDecoder(resp.Body).Decode(&stats); err != nil || stats.Logins != logins || stats.Queries != len(tokens) {
		t.Errorf("stats: got %+v, %v, want %d logins and %d queries", stats, err, logins, len(tokens))
	}
	if code := p.end(); code != 0 || p.stderr.Len() > 0 {
		t.Errorf("got exit code %d and %q on stderr, want 0 and nothing", code, p.stderr.String())
	}
	if _, err := http.Get(p.control + "/stats"); err == nil {
		t.Error("it still listens after the end")
	}
}

func TestOwnAccount(t *testing.T) {
	const password = "s3cret of mine"
	file := bearerdtest.WriteFile(t, password+"\r\n")
	p := start(t, "-username=me@example.com", "-password-file="+file, "-lifetime=2s")
	env := p.presets["vyopta"]
	if env["BEARERD_USERNAME"] != "me@example.com" || env["BEARERD_PASSWORD_FILE"] != file || env["BEARERD_PASSWORD"] != "" {
		t.Errorf("printed lines: got %q, want the name and the password's file", env)
	}
	if status, _ := p.login("vyopta", "login.vyopta.com", "vyopta", password); status != 200 {
		t.Errorf("got %d, want 200", status)
	}
	if code := p.end(); code != 0 {
		t.Errorf("got exit code %d, want 0", code)
	}
}

func TestTakenPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	names := []string{"-login-listen", "-query-listen", "-control-listen"}
	for _, taken := range names {
		var args []string
		for _, name := range names {
			address := "127.0.0.1:0"
			if name == taken {
				address = l.Addr().String()
			}
			args = append(args, name+"="+address)
		}
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), args, &stdout, &stderr); code != 1 || !strings.Contains(stderr.String(), taken+":") || stdout.Len() > 0 {
			t.Errorf("%s taken: got exit code %d, stdout %q, stderr %q, want 1 and the flag's name", taken, code, stdout.String(), stderr.String())
		}
	}
}

func TestBadCommandLine(t *testing.T) {
	empty := bearerdtest.WriteFile(t, "\n")
	for _, tt := range []struct{ arg, want string }{
		{"-unknown", "-unknown"},
		{"-lifetime=soon", "-lifetime"},
		{"-lifetime=1500ms", "lifetime"},
		{"-login-delay=-1s", "delay"},
		{"-login-fault=nonsense", "html, firewall,"},
		{"-query-fault=nonsense", "401-early, 401-late,"},
		{"-login-fault-next=-1", "-login-fault-next"},
		{"-skew=soon", "-skew"},
		{"-brute-force-lock=perhaps", "true or false"},
		{"-seed=-1", "-seed"},
		{"-username=", "-username"},
		{"-password-file=" + empty, "-password-file"},
		{"-password-file=" + empty + ".missing", "-password-file"},
		{"serve", `"serve"`},
	} {
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), []string{tt.arg}, &stdout, &stderr); code != 2 || !strings.Contains(stderr.String(), tt.want) || stdout.Len() > 0 {
			t.Errorf("%s: got exit code %d, stdout %q, stderr %q, want 2 and %s", tt.arg, code, stdout.String(), stderr.String(), tt.want)
		}
	}
}

func TestFaults(t *testing.T) {
	p := start(t, "-login-fault=429=2m", "-login-fault-next=1", "-query-fault", "reset", "-skew=-90s", "-brute-force-lock")
	login := func() int {
		status, _ := p.login("vyopta", "login.vyopta.com", "vyopta", querysim.Password)
		return status
	}
	if got := login(); got != 429 {
		t.Errorf("first login: got %d, want 429", got)
	}
	if got := login(); got != 200 {
		t.Errorf("second login: got %d, want 200", got)
	}
	resp, err := http.PostForm(p.control+"/faults", url.Values{"login-fault": {"firewall"}, "query-fault": {""}})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var got map[string]string
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"login-fault": "firewall", "login-fault-next": "0", "login-delay": "0s",
		"query-fault": "", "query-fault-next": "0", "query-delay": "0s",
		"one-session": "false", "token-delay": "0s", "single-use": "false",
		"skew": "-1m30s", "brute-force-lock": "true",
	}
	if !maps.Equal(got, want) {
		t.Errorf("faults: got %v, want %v", got, want)
	}
	if got := login(); got != 403 {
		t.Errorf("third login: got %d, want 403", got)
	}
	if code := p.end(); code != 0 {
		t.Errorf("got exit code %d, want 0", code)
	}
}

func TestHelp(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"-h"}, &stdout, &stderr); code != 0 || !strings.Contains(stderr.String(), "-login-listen") {
		t.Errorf("got exit code %d, %q, want 0 and the flags", code, stderr.String())
	}
	for _, f := range querysim.LoginFaults() {
		if !strings.Contains(stderr.String(), f.Meaning()) {
			t.Errorf("no meaning of login fault %s", f)
		}
	}
	for _, f := range querysim.QueryFaults() {
		if !strings.Contains(stderr.String(), f.Meaning()) {
			t.Errorf("no meaning of query fault %s", f)
		}
	}
}

func TestProbe(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1") // not for this
	sim := start(t)
	_, port, err := net.SplitHostPort(strings.TrimPrefix(sim.control, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []string{"127.0.0.1:" + port, ":" + port, "0.0.0.0:" + port} {
		var stderr bytes.Buffer
		if code := run(t.Context(), []string{"-probe", "-control-listen", at}, io.Discard, &stderr); code != 0 {
			t.Errorf("%s: exit code %d: %s", at, code, &stderr)
		}
	}
	// What answers there is another program, or none.
	login := sim.presets["vyopta"]["BEARERD_TOKEN_URL"]
	at, _, _ := strings.Cut(strings.TrimPrefix(login, "http://"), "/")
	for _, at := range []string{at, "127.0.0.1:1"} {
		var stderr bytes.Buffer
		if code := run(t.Context(), []string{"-probe", "-control-listen", at}, io.Discard, &stderr); code != 1 || stderr.Len() == 0 {
			t.Errorf("%s: exit code %d and %q, want 1 and why", at, code, &stderr)
		}
	}
}
