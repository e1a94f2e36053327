package main

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/bearerd/bearerd/tokens"
)

const namesPath = "/cpmm/api/v1/orgs/42/metrics/names"

// output collects what a command writes.
type output struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// fetch returns status and body of a GET.
func fetch(t testing.TB, c *http.Client, url string) (int, http.Header, string) {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(body)
}

// until waits for pattern to come up in what was written.
func (o *output) until(t *testing.T, pattern string) []string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	deadline := time.Now().Add(20 * time.Second)
	for tick := time.NewTicker(10 * time.Millisecond); ; <-tick.C {
		if found := re.FindStringSubmatch(o.String()); found != nil {
			tick.Stop()
			return found
		}
		if time.Now().After(deadline) {
			t.Fatalf("no %s in:\n%s", pattern, o)
		}
	}
}

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
		{[]string{"serv"}, 2, "", `unknown command "serv"`},
		{[]string{"-preset", "vyopta"}, 2, "", "BEARERD_PASSWORD: missing"},
		{[]string{"serv", "x"}, 2, "", `unknown command "serv"`},
		{[]string{"demo", "-x"}, 2, "", "not defined: -x"},
		{nil, 2, "", "bearerd demo"},
		{[]string{"serve"}, 2, "", "BEARERD_PRESET=vyopta"},
	} {
		var stdout, stderr output
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
		{"no settings at all", nil, 2, []string{"BEARERD_PRESET=vyopta", "bearerd demo", "bearerd help"}},
		{"wrong preset", append([]string{"BEARERD_PRESET=vyota"}, good[1:]...), 2, []string{"BEARERD_PRESET", "vyopta", "wxp", "graphnet"}},
		{"password with a newline", []string{good[0], good[1], "BEARERD_PASSWORD=secret-one\n"}, 2, []string{"BEARERD_PASSWORD", "newline", "BEARERD_PASSWORD_FILE"}},
		{"upstream without scheme", append([]string{"BEARERD_UPSTREAM=api.example.com"}, good...), 2, []string{"BEARERD_UPSTREAM", "https://api.example.com"}},
		{"port taken", append([]string{"BEARERD_LISTEN=" + taken.Addr().String(), "BEARERD_ADMIN_LISTEN=off"}, good...), 1, []string{"port taken", "BEARERD_LISTEN"}},
		{"admin port taken", append([]string{"BEARERD_ADMIN_LISTEN=" + taken.Addr().String(), "BEARERD_LISTEN=localhost:0"}, good...), 1, []string{"port taken", "BEARERD_ADMIN_LISTEN"}},
		{"everything at once", []string{"BEARERD_PRESET=x", "BEARERD_UPSTREAM=y", "BEARERD_LOGIN_TIMEOUT=10"}, 2, []string{"BEARERD_PRESET", "BEARERD_UPSTREAM", "BEARERD_LOGIN_TIMEOUT", "10s"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var stdout, stderr output
			start := time.Now()
			if code := run([]string{"serve"}, test.environ, nil, &stdout, &stderr); code != test.code {
				t.Errorf("exit code: got %d, want %d", code, test.code)
			}
			if d := time.Since(start); d > time.Second {
				t.Errorf("it took %v, want at most 1 s", d)
			}
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
	gone := httptest.NewServer(nil)
	gone.Close()
	p := startRun(t, "BEARERD_PRESET=vyopta", "BEARERD_TOKEN_URL="+gone.URL, "BEARERD_UPSTREAM=http://127.0.0.1:1",
		"BEARERD_USERNAME=me", "BEARERD_PASSWORD=secret-one")
	p.stderr.until(t, `"level":"warn".*dial tcp .*BEARERD_TOKEN_URL.*"login failed"`)
	status, header, body := fetch(t, http.DefaultClient, p.url+"/")
	if status != 503 || header.Get("Retry-After") == "" || !strings.Contains(body, "login_unavailable") {
		t.Errorf("got %d, Retry-After %q, %q; want 503 login_unavailable", status, header.Get("Retry-After"), body)
	}
	status, _, body = fetch(t, http.DefaultClient, p.admin+"/readyz")
	if status != 503 || !strings.Contains(body, "dial tcp") {
		t.Errorf("/readyz: got %d %q, want 503 with the reason", status, body)
	}
}

// inProcess is a bearerd in this process.
type inProcess struct {
	url, admin string
	signals    chan os.Signal
	code       chan int
	stderr     *output
}

func startRun(t *testing.T, environ ...string) *inProcess {
	t.Helper()
	p := &inProcess{signals: make(chan os.Signal, 1), code: make(chan int, 1), stderr: new(output)}
	environ = append([]string{"BEARERD_LISTEN=localhost:0", "BEARERD_ADMIN_LISTEN=localhost:0", "BEARERD_LOG_LEVEL=debug"}, environ...)
	go func() { p.code <- run([]string{"serve"}, environ, p.signals, io.Discard, p.stderr) }()
	t.Cleanup(func() { p.stop(t) })
	found := p.stderr.until(t, `"listen":\["([^"]*)".*"admin":\["([^"]*)".*"serving"`)
	p.url, p.admin = "http://"+found[1], "http://"+found[2]
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
	case <-time.After(20 * time.Second):
		t.Error("not stopped 20 s after SIGTERM")
	}
}

func TestStartUpLine(t *testing.T) {
	login := httptest.NewServer(http.NotFoundHandler())
	defer login.Close()
	p := startRun(t, "BEARERD_PRESET=vyopta", "BEARERD_TOKEN_URL="+login.URL+"/token?tenant=hidden-two", "BEARERD_UPSTREAM=http://127.0.0.1:1/base",
		"BEARERD_USERNAME=me", "BEARERD_PASSWORD=secret-one")
	line := p.stderr.until(t, `.*"serving".*`)[0]
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

func TestProbes(t *testing.T) {
	st := tokens.Status{}
	stopping := false
	h := admin{
		status:   func() tokens.Status { return st },
		stopping: func() bool { return stopping },
		metrics:  http.NotFoundHandler(),
	}.handler()
	for _, test := range []struct {
		name                   string
		st                     tokens.Status
		stopping               bool
		livez, startupz, ready int
		reason                 string
	}{
		{"before the first login", tokens.Status{}, false, 200, 503, 503, "first login"},
		{"token held", tokens.Status{LoggedInOnce: true, Good: true, LastResult: tokens.OK}, false, 200, 200, 200, ""},
		{"token held, login failing", tokens.Status{LoggedInOnce: true, Good: true, LastResult: tokens.Transient, Cause: "HTTP 500"}, false, 200, 200, 200, ""},
		{"idle, token over", tokens.Status{LoggedInOnce: true, LastResult: tokens.OK}, false, 200, 200, 200, ""},
		{"no token, login failing", tokens.Status{LoggedInOnce: true, LastResult: tokens.Transient, Cause: "HTTP 500"}, false, 200, 200, 503, "HTTP 500"},
		{"rejected at the start", tokens.Status{LastResult: tokens.Rejected, Cause: "HTTP 401, error invalid_grant"}, false, 200, 503, 503, "invalid_grant"},
		{"stopped", tokens.Status{LastResult: tokens.Rejected, Stopped: true}, false, 200, 503, 503, "stopped"},
		{"stopping before the first login", tokens.Status{}, true, 200, 503, 503, "stopping"},
		{"stopping", tokens.Status{LoggedInOnce: true, Good: true, LastResult: tokens.OK}, true, 200, 200, 503, "stopping"},
	} {
		st, stopping = test.st, test.stopping
		for path, want := range map[string]int{"/livez": test.livez, "/startupz": test.startupz, "/readyz": test.ready} {
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				// The kubelet and Prometheus send the pod's address as Host.
				r := httptest.NewRequest(method, "http://10.1.2.3:9180"+path, nil)
				w := httptest.NewRecorder()
				h.ServeHTTP(w, r)
				if w.Code != want {
					t.Errorf("%s: %s %s: got %d, want %d", test.name, method, path, w.Code, want)
				}
				if path == "/readyz" && method == http.MethodGet && !strings.Contains(w.Body.String(), test.reason) {
					t.Errorf("%s: /readyz: got %q, want the reason %q", test.name, w.Body, test.reason)
				}
			}
		}
	}
}

// The demo shows the main job within five seconds, and its lines can be
// pasted as they are.
func TestDemo(t *testing.T) {
	signals := make(chan os.Signal, 1)
	code := make(chan int, 1)
	var stdout, stderr output
	start := time.Now()
	go func() { code <- run([]string{"demo"}, nil, signals, &stdout, &stderr) }()
	for _, want := range []string{
		`login 1: token 1, good for 20s`,
		`the Query Service itself: 401`,
		`login 2: token 2, good for 20s \(upstream said 401`,
		`sent again with token 2 → 200`,
	} {
		stdout.until(t, want)
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("the demo took %v to show the main job, want at most 5 s", d)
	}
	base := stdout.until(t, `curl (http://localhost:\d+)/cpmm`)[1]
	if status, _, body := fetch(t, http.DefaultClient, base+namesPath); status != 200 {
		t.Errorf("the first curl line: got %d %q, want 200", status, body)
	}
	if status, _, body := fetch(t, http.DefaultClient, base+"/cpmm/api/v1/orgs/42/calls?size=2"); status != 200 {
		t.Errorf("the second curl line: got %d %q, want 200", status, body)
	}
	data := stdout.until(t, `-d '(\{.*\})'`)[1]
	resp, err := http.Post(base+"/cpmm/api/v1/orgs/42/metrics", "application/json", strings.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Errorf("the third curl line: got %d, want 200", resp.StatusCode)
	}
	signals <- os.Interrupt
	select {
	case got := <-code:
		if got != exitOK {
			t.Errorf("exit code after Ctrl-C: got %d, want 0; %s", got, &stderr)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Ctrl-C did not end the demo")
	}
	if strings.Contains(stdout.String(), "eyJ") {
		t.Error("the demo printed a token")
	}
}

func TestDemoRefreshesAhead(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 17 s")
	}
	t.Parallel()
	signals := make(chan os.Signal, 1)
	code := make(chan int, 1)
	var stdout output
	go func() { code <- run([]string{"demo"}, nil, signals, &stdout, io.Discard) }()
	stdout.until(t, `login 2:`)
	stdout.until(t, `login 3: token 3, good for 20s \(ahead of the old token's end`)
	signals <- os.Interrupt
	<-code
}
