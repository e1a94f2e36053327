package main

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/longtest"
)

func TestCommandLine(t *testing.T) {
	for _, test := range []struct {
		args   []string
		code   int
		stdout string // part of it
		stderr string // part of it; empty: nothing
	}{
		{[]string{"help"}, 0, "BEARERD_PRESET", ""},
		{[]string{"-h"}, 0, "bearerd demo", ""},
		{[]string{"help"}, 0, "\n      -faults ", ""},
		{[]string{"version"}, 0, "bearerd ", ""},
		{[]string{"serv"}, 64, "", `unknown command "serv"`},
		{[]string{"-preset", "vyopta"}, 78, "", "BEARERD_PASSWORD: missing"},
		{[]string{"serv", "x"}, 64, "", `unknown command "serv"`},
		{[]string{"demo", "-x"}, 64, "", "not defined: -x"},
		{nil, 78, "", "bearerd demo"},
		{[]string{"serve"}, 78, "", "BEARERD_PRESET=vyopta"},
		{[]string{"check"}, 78, "", "BEARERD_PRESET=vyopta"},
		{[]string{"check", "-path", "x"}, 64, "", "begin with a slash"},
		{[]string{"healthcheck", "-x"}, 1, "", "not defined: -x"},
		{[]string{"healthcheck", "-env-file", "/nowhere/env"}, 1, "", "/nowhere/env"},
	} {
		var stdout, stderr bearerdtest.Output
		code := run(test.args, nil, nil, &stdout, &stderr)
		if code != test.code {
			t.Errorf("bearerd %v: got exit code %d, want %d", test.args, code, test.code)
		}
		if !strings.Contains(stdout.String(), test.stdout) {
			t.Errorf("bearerd %v: stdout %q lacks %q", test.args, &stdout, test.stdout)
		}
		if !strings.Contains(stderr.String(), test.stderr) || test.stderr == "" && stderr.String() != "" {
			t.Errorf("bearerd %v: stderr %q, want %q in it", test.args, &stderr, test.stderr)
		}
	}
}

// The mistakes of the first day: the message must say what to do.
func TestFirstDay(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	good := []string{"BEARERD_PRESET=vyopta", "BEARERD_USERNAME=me", "BEARERD_PASSWORD=secret-one"}
	for _, test := range []struct {
		name    string
		environ []string
		code    int
		want    []string
	}{
		{"no settings at all", nil, 78, []string{"BEARERD_PRESET=vyopta", "bearerd demo", "bearerd help"}},
		{"wrong preset", append([]string{"BEARERD_PRESET=vyota"}, good[1:]...), 78, []string{"BEARERD_PRESET", "vyopta", "wxp", "graphnet"}},
		{"password with a newline", []string{good[0], good[1], "BEARERD_PASSWORD=secret-one\n"}, 78, []string{"BEARERD_PASSWORD", "newline", "BEARERD_PASSWORD_FILE"}},
		{"upstream without scheme", append([]string{"BEARERD_UPSTREAM=api.example.com"}, good...), 78, []string{"BEARERD_UPSTREAM", "https://api.example.com"}},
		{"port taken", append([]string{"BEARERD_LISTEN=" + taken.Addr().String(), "BEARERD_ADMIN_LISTEN=off"}, good...), 1, []string{"port taken", "BEARERD_LISTEN"}},
		{"admin port taken", append([]string{"BEARERD_ADMIN_LISTEN=" + taken.Addr().String(), "BEARERD_LISTEN=localhost:0"}, good...), 1, []string{"port taken", "BEARERD_ADMIN_LISTEN"}},
		{"everything at once", []string{"BEARERD_PRESET=x", "BEARERD_UPSTREAM=y", "BEARERD_LOGIN_TIMEOUT=10"}, 78, []string{"BEARERD_PRESET", "BEARERD_UPSTREAM", "BEARERD_LOGIN_TIMEOUT", "10s"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var stdout, stderr bearerdtest.Output
			bearerdtest.Within(t, time.Second, func() {
				if code := run([]string{"serve"}, test.environ, nil, &stdout, &stderr); code != test.code {
					t.Errorf("exit code: got %d, want %d", code, test.code)
				}
			})
			for _, want := range test.want {
				if !strings.Contains(stderr.String(), want) {
					t.Errorf("the message lacks %q:\n%s", want, &stderr)
				}
			}
			if strings.Contains(stderr.String()+stdout.String(), "secret-one") {
				t.Error("the message holds the password")
			}
		})
	}
}

func TestLoginServerUnreachable(t *testing.T) {
	p := startRun(t, "BEARERD_PRESET=vyopta", "BEARERD_TOKEN_URL=http://127.0.0.1:1", "BEARERD_UPSTREAM=http://127.0.0.1:1",
		"BEARERD_USERNAME=me", "BEARERD_PASSWORD=secret-one")
	p.stderr.Until(t, `"level":"warn".*dial tcp .*BEARERD_TOKEN_URL.*"login failed"`)
	status, header, body := bearerdtest.Fetch(t, http.DefaultClient, p.URL+"/")
	if status != 503 || header.Get("Retry-After") == "" || !strings.Contains(body, "login_unavailable") {
		t.Errorf("got %d, Retry-After %q, %q; want 503 login_unavailable", status, header.Get("Retry-After"), body)
	}
	status, _, body = bearerdtest.Fetch(t, http.DefaultClient, p.admin+"/readyz")
	if status != 503 || !strings.Contains(body, "dial tcp") {
		t.Errorf("/readyz: got %d %q, want 503 with the reason", status, body)
	}
}

// inProcess is a bearerd in this process.
type inProcess struct {
	URL, admin string
	signals    chan os.Signal
	code       chan int
	stderr     *bearerdtest.Output
}

func startRun(t *testing.T, environ ...string) *inProcess {
	t.Helper()
	p := &inProcess{signals: make(chan os.Signal, 1), code: make(chan int, 1), stderr: new(bearerdtest.Output)}
	environ = append([]string{"BEARERD_LISTEN=localhost:0", "BEARERD_ADMIN_LISTEN=localhost:0", "BEARERD_LOG_LEVEL=debug"}, environ...)
	go func() { p.code <- run([]string{"serve"}, environ, p.signals, io.Discard, p.stderr) }()
	t.Cleanup(func() { p.stop(t) })
	found := p.stderr.Until(t, `"listen":\["([^"]*)".*"admin":\["([^"]*)".*"serving"`)
	p.URL, p.admin = "http://"+found[1], "http://"+found[2]
	return p
}

func (p *inProcess) stop(t *testing.T) {
	t.Helper()
	if p.signals == nil {
		return
	}
	p.signals <- syscall.SIGTERM
	p.signals = nil
	select {
	case code := <-p.code:
		if code != exitOK {
			t.Errorf("exit code after SIGTERM: got %d, want 0", code)
		}
	case <-time.After(bearerdtest.Soon):
		t.Error("not stopped 20 s after SIGTERM")
	}
}

func TestStartUpLine(t *testing.T) {
	login := httptest.NewServer(http.NotFoundHandler())
	defer login.Close()
	p := startRun(t, "BEARERD_PRESET=vyopta", "BEARERD_TOKEN_URL="+login.URL+"/token?tenant=hidden-two", "BEARERD_UPSTREAM=http://127.0.0.1:1/base",
		"BEARERD_USERNAME=me", "BEARERD_PASSWORD=secret-one")
	line := p.stderr.Until(t, `.*"serving".*`)[0]
	for _, want := range []string{`"preset":"vyopta"`, `"upstream":"http://127.0.0.1:1/base"`, `"token_url":"` + login.URL + `/token"`,
		`"grant":"password"`, `"secrets":{"USERNAME":"env","PASSWORD":"env"}`} {
		if !strings.Contains(line, want) {
			t.Errorf("the start-up line lacks %s:\n%s", want, line)
		}
	}
	p.stop(t)
	for _, secret := range []string{"secret-one", "hidden-two"} {
		if strings.Contains(p.stderr.String(), secret) {
			t.Errorf("the log holds %s:\n%s", secret, p.stderr)
		}
	}
}

// The demo shows the main job within five seconds.
func TestDemoIsShort(t *testing.T) {
	bearerdtest.Within(t, 5*time.Second, func() {
		_, end := showDemo(t)
		end()
	})
}

// showDemo runs the demo until it has shown the main job; end interrupts it.
func showDemo(t *testing.T) (stdout *bearerdtest.Output, end func()) {
	t.Helper()
	signals := make(chan os.Signal, 1)
	code := make(chan int, 1)
	stdout = new(bearerdtest.Output)
	var stderr bearerdtest.Output
	go func() { code <- run([]string{"demo"}, nil, signals, stdout, &stderr) }()
	for _, want := range []string{
		`login 1: token 1, good for 20s`,
		`the Query Service itself: 401`,
		`login 2: token 2, good for 20s \(upstream said 401`,
		`sent again with token 2 → 200`,
	} {
		stdout.Until(t, want)
	}
	return stdout, func() {
		t.Helper()
		signals <- os.Interrupt
		select {
		case got := <-code:
			if got != exitOK {
				t.Errorf("exit code after Ctrl-C: got %d, want 0; %s", got, &stderr)
			}
		case <-time.After(bearerdtest.Soon):
			t.Fatal("Ctrl-C did not end the demo")
		}
	}
}

// Its lines can be pasted as they are.
func TestDemo(t *testing.T) {
	stdout, end := showDemo(t)
	page := stdout.Until(t, `\AWatch it at  (http://localhost:\d+/)\n`)[1]
	if status, _, text := bearerdtest.Fetch(t, http.DefaultClient, page); status != 200 || !strings.Contains(text, "upstream refused the token") {
		t.Errorf("the page: got %d %.200s, want the logins", status, text)
	}
	base := stdout.Until(t, `curl(?:\.exe)? (http://localhost:\d+)/cpmm`)[1]
	if status, _, body := bearerdtest.Fetch(t, http.DefaultClient, base+bearerdtest.NamesPath); status != 200 {
		t.Errorf("the first curl line: got %d %q, want 200", status, body)
	}
	if status, _, body := bearerdtest.Fetch(t, http.DefaultClient, base+"/cpmm/api/v1/orgs/42/calls?size=2"); status != 200 {
		t.Errorf("the second curl line: got %d %q, want 200", status, body)
	}
	data := stdout.Until(t, `-(?:d|Body) '(\{.*\})'`)[1]
	resp, err := http.Post(base+"/cpmm/api/v1/orgs/42/metrics", "application/json", strings.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Errorf("the third curl line: got %d, want 200", resp.StatusCode)
	}
	end()
	if strings.Contains(stdout.String(), "eyJ") {
		t.Error("the demo printed a token")
	}
}

func TestDemoRefreshesAhead(t *testing.T) {
	longtest.Mark(t, "takes 17 s")
	t.Parallel()
	signals := make(chan os.Signal, 1)
	code := make(chan int, 1)
	var stdout bearerdtest.Output
	go func() { code <- run([]string{"demo"}, nil, signals, &stdout, io.Discard) }()
	stdout.Until(t, `login 2:`)
	stdout.Until(t, `login 3: token 3, good for 20s \(ahead of the old token's end`)
	signals <- os.Interrupt
	<-code
}
