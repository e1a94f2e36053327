//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

// The end-to-end tests run the built binary against the simulator, each with
// its own processes and ports. Those that mostly wait run side by side, after
// those that keep the machine busy.

// program is the path of bearerd as users build it, made once.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "bearerd-e2e-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "bearerd")
	out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	if bareProxy() {
		return
	}
	code := m.Run()
	if path, err := program(); err == nil {
		_ = os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// world is what bearerd talks to: a simulator behind two servers.
type world struct {
	sim   *querysim.Simulator
	login *httptest.Server
	query *httptest.Server

	mu     sync.Mutex // guards tokens
	tokens map[string]bool
}

// newWorld serves the simulator's Query Service or, when it is not nil,
// upstream behind the simulator's token check.
func newWorld(t testing.TB, o querysim.Options, upstream http.Handler) *world {
	t.Helper()
	sim, err := querysim.New(o)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{sim: sim, tokens: make(map[string]bool)}
	handler := sim.QueryHandler()
	if upstream != nil {
		handler = sim.RequireToken(upstream)
	}
	w.login = httptest.NewServer(sim.LoginHandler())
	t.Cleanup(w.login.Close)
	w.query = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		w.tokens[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")] = true
		w.mu.Unlock()
		handler.ServeHTTP(rw, r)
	}))
	t.Cleanup(w.query.Close)
	return w
}

// env is the configuration that points bearerd at w as a vendor's preset.
func (w *world) env(vendor string) []string {
	for _, v := range querysim.Vendors() {
		if v.Name != vendor {
			continue
		}
		env := []string{
			"BEARERD_PRESET=" + vendor,
			"BEARERD_TOKEN_URL=" + w.login.URL + v.LoginPath,
			"BEARERD_UPSTREAM=" + w.query.URL,
		}
		if v.GrantType == "password" {
			return append(env, "BEARERD_USERNAME="+querysim.Username, "BEARERD_PASSWORD="+querysim.Password)
		}
		return append(env, "BEARERD_CLIENT_ID="+v.ClientID, "BEARERD_CLIENT_SECRET="+v.ClientSecret)
	}
	panic("no such vendor: " + vendor)
}

// process is a running bearerd.
type process struct {
	t     testing.TB
	cmd   *exec.Cmd
	url   string // of the data listener
	admin string // of the admin listener

	exited chan struct{} // closed when it has ended and all its output is read
	mu     sync.Mutex    // guards output
	output bytes.Buffer
}

// start runs bearerd with env at debug level and waits for its listeners. At
// the test's end the process is killed, and all that it wrote and showed is
// searched for secrets.
func (w *world) start(t testing.TB, env ...string) *process {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	return w.startProgram(t, exec.Command(path), append([]string{
		"BEARERD_LISTEN=localhost:0", "BEARERD_ADMIN_LISTEN=localhost:0",
		"BEARERD_LOG_LEVEL=debug", "BEARERD_LOG_FORMAT=json",
	}, env...)...)
}

// startProgram runs a program whose first line is a start-up line like
// bearerd's.
func (w *world) startProgram(t testing.TB, cmd *exec.Cmd, env ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: cmd, exited: make(chan struct{})}
	p.cmd.Env = env // os/exec keeps the last of each name
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	go p.read(stderr, ready)
	t.Cleanup(func() {
		shown := p.shown()
		_ = p.cmd.Process.Kill()
		<-p.exited
		_ = p.cmd.Wait()
		w.checkSecrets(t, p.text()+shown)
		if t.Failed() {
			t.Logf("what bearerd wrote:\n%s", tail(p.text()))
		}
	})
	select {
	case <-ready:
	case <-p.exited:
		t.Fatalf("bearerd ended at its start:\n%s", p.text())
	case <-time.After(20 * time.Second):
		t.Fatal("bearerd did not say that it serves")
	}
	return p
}

// read keeps all output and takes the addresses from the start-up line.
func (p *process) read(r io.Reader, ready chan<- struct{}) {
	defer close(p.exited)
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		p.mu.Lock()
		p.output.Write(line)
		p.mu.Unlock()
		var start struct {
			Message string
			Listen  []string
			Admin   []string
		}
		if p.url == "" && json.Unmarshal(line, &start) == nil && start.Message == "serving" {
			p.url = "http://" + start.Listen[0]
			if len(start.Admin) > 0 {
				p.admin = "http://" + start.Admin[0]
			}
			close(ready)
		}
		if err != nil {
			return
		}
	}
}

func (p *process) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String()
}

// shown is all that the admin listener shows, while the process runs.
func (p *process) shown() string {
	var all strings.Builder
	for _, path := range []string{"/metrics", "/readyz", "/startupz", "/livez"} {
		if resp, err := http.Get(p.admin + path); err == nil {
			_, _ = io.Copy(&all, resp.Body)
			_ = resp.Body.Close()
		}
	}
	return all.String()
}

func tail(s string) string {
	const most = 8 << 10
	if len(s) > most {
		return "…" + s[len(s)-most:]
	}
	return s
}

// signal sends sig and returns the exit code.
func (p *process) stop(sig syscall.Signal, within time.Duration) int {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
	select {
	case <-p.exited:
	case <-time.After(within):
		p.t.Fatalf("bearerd had not ended %v after %v", within, sig)
	}
	err := p.cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	if err != nil {
		p.t.Fatal(err)
	}
	return 0
}

// checkSecrets fails the test when output holds a secret, or a part of a token
// that upstream saw.
func (w *world) checkSecrets(t testing.TB, output string) {
	secrets := []string{querysim.Username, querysim.Password}
	for _, v := range querysim.Vendors() {
		if v.ClientSecret != "" {
			secrets = append(secrets, v.ClientSecret)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for token := range w.tokens {
		// Any 12 letters of claims and signature would do for a part.
		for segment := range strings.SplitSeq(token, ".") {
			for len(segment) >= 12 {
				secrets = append(secrets, segment[:12])
				segment = segment[12:]
			}
		}
	}
	for _, s := range secrets {
		if strings.Contains(output, s) {
			t.Errorf("the output holds a secret (%d letters of it)", len(s))
			return
		}
	}
}

// client has as many connections as a test wants, and does not follow
// redirects.
func newClient(t testing.TB) *http.Client {
	transport := &http.Transport{MaxIdleConnsPerHost: 4096}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// eventually waits until ok says yes.
func eventually(t testing.TB, within time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	for tick := time.NewTicker(20 * time.Millisecond); ; <-tick.C {
		if ok() {
			tick.Stop()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}

// metric returns the value of a series, written as /metrics writes it, or -1.
func (p *process) metric(series string) float64 {
	p.t.Helper()
	_, _, text := fetch(p.t, http.DefaultClient, p.admin+"/metrics")
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, series+" "); ok {
			f, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				p.t.Fatal(err)
			}
			return f
		}
	}
	return -1
}

func TestEachPreset(t *testing.T) {
	t.Parallel()
	variants := map[string][]string{}
	for _, v := range querysim.Vendors() {
		variants[v.Name] = nil
	}
	for name := range variants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, querysim.Options{}, nil)
			expectNames(t, w, w.start(t, w.env(name)...))
		})
	}
	t.Run("graphnet with a user's password", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, querysim.Options{}, nil)
		expectNames(t, w, w.start(t, append(w.env("graphnet"), "BEARERD_GRANT_TYPE=password",
			"BEARERD_USERNAME="+querysim.Username, "BEARERD_PASSWORD="+querysim.Password)...))
	})
}

func expectNames(t *testing.T, w *world, p *process) {
	t.Helper()
	status, _, body := fetch(t, newClient(t), p.url+namesPath)
	var names []string
	if status != 200 || json.Unmarshal([]byte(body), &names) != nil || len(names) == 0 {
		t.Errorf("GET %s: got %d %q, want 200 and names", namesPath, status, body)
	}
	if got := w.sim.Stats(); got.LoginsOK != 1 || got.Logins != 1 {
		t.Errorf("logins: got %+v, want one, and that ok", got)
	}
	if code := p.stop(syscall.SIGTERM, 5*time.Second); code != 0 {
		t.Errorf("exit code after SIGTERM: got %d, want 0", code)
	}
}

// many runs f n times at once and returns the errors.
func many(n int, f func(i int) error) error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = f(i) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func expectStatus(c *http.Client, url string, want int) error {
	resp, err := c.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != want {
		return fmt.Errorf("GET: got %d, want %d", resp.StatusCode, want)
	}
	return nil
}

func TestColdStartIsOneLogin(t *testing.T) {
	w := newWorld(t, querysim.Options{LoginDelay: 500 * time.Millisecond}, nil)
	p := w.start(t, w.env("vyopta")...)
	c := newClient(t)
	if err := many(2000, func(int) error { return expectStatus(c, p.url+namesPath, 200) }); err != nil {
		t.Error(firstLines(err))
	}
	if got := w.sim.Stats().Logins; got != 1 {
		t.Errorf("logins for 2,000 requests at a cold start: got %d, want 1", got)
	}
}

func firstLines(err error) string {
	s := err.Error()
	return s[:min(len(s), 500)]
}

// digest answers with the length of what was posted and its checksum.
func digest(w http.ResponseWriter, r *http.Request) {
	_, _ = io.WriteString(w, digestReader(r.Body))
}

// digestReader is what digest says of a body. One that ends early has another
// length.
func digestReader(r io.Reader) string {
	sum := crc32.NewIEEE()
	n, _ := io.Copy(sum, r)
	return fmt.Sprintf("%d %08x", n, sum.Sum32())
}

func TestRevokedTokenUnderPOSTs(t *testing.T) {
	w := newWorld(t, querysim.Options{LoginDelay: 200 * time.Millisecond}, http.HandlerFunc(digest))
	p := w.start(t, w.env("vyopta")...)
	c := newClient(t)
	fetch(t, c, p.url+"/") // has the first token
	w.sim.Revoke()
	err := many(1000, func(i int) error {
		body := bytes.Repeat(fmt.Appendf(nil, "body %d,", i), 200)
		resp, err := c.Post(p.url+"/post", "text/plain", bytes.NewReader(body))
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		got, err := io.ReadAll(resp.Body)
		if want := digestReader(bytes.NewReader(body)); err != nil || resp.StatusCode != 200 || string(got) != want {
			return fmt.Errorf("POST %d: got %d %q %v, want 200 %q", i, resp.StatusCode, got, err, want)
		}
		return nil
	})
	if err != nil {
		t.Error(firstLines(err))
	}
	if got := w.sim.Stats(); got.Logins != 2 || got.LoginsAtOnce != 1 {
		t.Errorf("logins for 1,000 POSTs on a revoked token: got %d more, %d at once, want 1 and 1", got.Logins-1, got.LoginsAtOnce)
	}
}

func TestShortTokensNobodyWaits(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	t.Parallel()
	w := newWorld(t, querysim.Options{Lifetime: 4 * time.Second, LoginDelay: 400 * time.Millisecond}, nil)
	p := w.start(t, w.env("vyopta")...)
	c := newClient(t)
	fetch(t, c, p.url+namesPath)
	var requests int
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); <-tick.C {
		if err := expectStatus(c, p.url+namesPath, 200); err != nil {
			t.Fatalf("request %d: %v", requests, err)
		}
		requests++
	}
	// A login takes 400 ms, so who waited for one is beyond the 250 ms bucket.
	all := p.metric("bearerd_token_wait_seconds_count")
	soon := p.metric(`bearerd_token_wait_seconds_bucket{le="0.25"}`)
	if waited := all - soon; waited > 1 {
		t.Errorf("requests that waited for a login: got %v, want only the first", waited)
	}
	if all < float64(requests) {
		t.Errorf("requests counted: got %v, want at least %d", all, requests)
	}
	st := w.sim.Stats()
	if st.Unauthorized != 0 {
		t.Errorf("401s: got %d, want 0", st.Unauthorized)
	}
	// 60 s at 70 to 85 % of 4 s are 17 to 22 logins, the first aside.
	if st.Logins < 15 || st.Logins > 24 || st.LoginsAtOnce != 1 {
		t.Errorf("logins: got %d, %d at once; want 15 to 24, one at a time", st.Logins, st.LoginsAtOnce)
	}
	t.Logf("%d requests, %d logins", requests, st.Logins)
}

func TestWrongPasswordThenHealed(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	t.Parallel()
	w := newWorld(t, querysim.Options{}, nil)
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("wrong\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := w.start(t, append(w.env("vyopta")[:3], "BEARERD_USERNAME="+querysim.Username, "BEARERD_PASSWORD_FILE="+file)...)
	c := newClient(t)
	started := time.Now()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	var requests int
	for time.Since(started) < 25*time.Second {
		status, _, body := fetch(t, c, p.url+namesPath)
		if status != 502 || !strings.Contains(body, `"code":"login_rejected"`) {
			t.Fatalf("with a wrong password: got %d %q, want 502 login_rejected", status, body)
		}
		requests++
		<-tick.C
	}
	if got := w.sim.Stats().Logins; got != 1 {
		t.Errorf("logins in 25 s with a wrong password and %d requests: got %d, want 1", requests, got)
	}
	if err := os.WriteFile(file, []byte(querysim.Password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "healed by the new file", func() bool {
		status, _, _ := fetch(t, c, p.url+namesPath)
		return status == 200
	})
	if got := w.sim.Stats(); got.Logins != 2 || got.Queries == 0 || got.WithoutToken != 0 {
		t.Errorf("after the new file: got %+v, want 2 logins and no request without a token", got)
	}
}

func TestLoginDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, querysim.Options{Lifetime: 6 * time.Second}, nil)
	p := w.start(t, w.env("vyopta")...)
	c := newClient(t)
	fetch(t, c, p.url+namesPath)
	w.sim.SetLoginDown(true)
	end := time.Now().Add(5 * time.Second)
	for time.Now().Before(end) {
		if err := expectStatus(c, p.url+namesPath, 200); err != nil {
			t.Fatalf("while the token is good: %v", err)
		}
	}
	eventually(t, 3*time.Second, "the token's end", func() bool {
		status, _, _ := fetch(t, c, p.url+namesPath)
		return status != 200
	})
	before := w.sim.Stats().Queries
	for range 50 {
		start := time.Now()
		status, header, body := fetch(t, c, p.url+namesPath)
		if status != 503 || header.Get("Retry-After") == "" || !strings.Contains(body, `"code":"login_unavailable"`) {
			t.Fatalf("after the token's end: got %d, Retry-After %q, %q; want 503 login_unavailable", status, header.Get("Retry-After"), body)
		}
		if d := time.Since(start); d > time.Second {
			t.Errorf("the 503 took %v", d)
		}
	}
	if got := w.sim.Stats(); got.Queries != before || got.WithoutToken != 0 {
		t.Errorf("requests upstream after the token's end: got %d, %d of them without a token; want none", got.Queries-before, got.WithoutToken)
	}
	w.sim.SetLoginDown(false)
	eventually(t, 40*time.Second, "the login works again", func() bool {
		status, _, _ := fetch(t, c, p.url+namesPath)
		return status == 200
	})
}

func TestSIGTERMLetsRequestsFinish(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	var arrived sync.WaitGroup
	arrived.Add(20)
	w := newWorld(t, querysim.Options{}, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		arrived.Done()
		<-release
		_, _ = io.WriteString(rw, "whole")
	}))
	p := w.start(t, w.env("vyopta")...)
	c := newClient(t)
	results := make(chan error, 20)
	for range 20 {
		go func() {
			resp, err := c.Get(p.url + "/slow")
			if err != nil {
				results <- err
				return
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err == nil && (resp.StatusCode != 200 || string(body) != "whole") {
				err = fmt.Errorf("got %d %q, want 200 whole", resp.StatusCode, body)
			}
			results <- err
		}()
	}
	arrived.Wait()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	addr := strings.TrimPrefix(p.url, "http://")
	eventually(t, 5*time.Second, "no new connections", func() bool {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			return true
		}
		_ = conn.Close()
		return false
	})
	close(release)
	for range 20 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	select {
	case <-p.exited:
	case <-time.After(5 * time.Second):
		t.Fatal("not ended though all requests have")
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("exit: got %v, want 0", err)
	}
}

func TestDrainDelay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, querysim.Options{}, nil)
	p := w.start(t, append(w.env("vyopta"), "BEARERD_DRAIN_DELAY=2s")...)
	c := newClient(t)
	fetch(t, c, p.url+namesPath) // waits for the first login
	if err := expectStatus(c, p.admin+"/readyz", 200); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Second, "/readyz says 503", func() bool { return expectStatus(c, p.admin+"/readyz", 503) == nil })
	fresh := newClient(t)
	if err := expectStatus(fresh, p.url+namesPath, 200); err != nil {
		t.Errorf("a new connection within DRAIN_DELAY: %v", err)
	}
	<-p.exited
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("exit: got %v, want 0", err)
	}
}

func TestSIGHUPLogsInAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, querysim.Options{}, nil)
	w.sim.SetPassword("changed")
	p := w.start(t, w.env("vyopta")...)
	c := newClient(t)
	if err := expectStatus(c, p.url+namesPath, 502); err != nil {
		t.Fatal(err)
	}
	w.sim.SetPassword(querysim.Password)
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "the login works", func() bool { return expectStatus(c, p.url+namesPath, 200) == nil })
	if got := w.sim.Stats().Logins; got != 2 {
		t.Errorf("logins: got %d, want 2", got)
	}
}

// A thousand requests while the login fails are one line of the log.
func TestOneLineAStateChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t, querysim.Options{}, nil)
	w.sim.SetPassword("changed")
	p := w.start(t, append(w.env("vyopta"), "BEARERD_LOG_LEVEL=info", "BEARERD_ACCESS_LOG=off")...)
	c := newClient(t)
	for range 1000 {
		if err := expectStatus(c, p.url+namesPath, 502); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Count(p.text(), `"level":"error"`); got != 1 {
		t.Errorf("error lines: got %d, want 1", got)
	}
	if got := strings.Count(p.text(), "\n"); got != 2 {
		t.Errorf("lines in all: got %d, want the start-up line and the error", got)
	}
}

func TestAccessLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t, querysim.Options{}, nil)
	for _, test := range []struct {
		mode     string
		ok, fail int // lines of each
	}{{"all", 1, 1}, {"errors", 0, 1}, {"off", 0, 0}} {
		p := w.start(t, append(w.env("vyopta"), "BEARERD_ACCESS_LOG="+test.mode)...)
		c := newClient(t)
		if err := expectStatus(c, p.url+namesPath+"?secret=query-text", 200); err != nil {
			t.Fatal(err)
		}
		if err := expectStatus(c, p.url+"/nowhere", 404); err != nil {
			t.Fatal(err)
		}
		p.stop(syscall.SIGTERM, 5*time.Second)
		var ok, fail int
		for line := range strings.Lines(p.text()) {
			var entry map[string]any
			if json.Unmarshal([]byte(line), &entry) != nil || entry["message"] != "request" {
				continue
			}
			for _, field := range []string{"time", "level", "method", "path", "status", "duration_ms", "bytes_in", "bytes_out", "generation", "replayed"} {
				if _, there := entry[field]; !there {
					t.Errorf("%s: the line lacks %s: %s", test.mode, field, line)
				}
			}
			switch entry["path"] {
			case namesPath:
				ok++
			case "/nowhere":
				fail++
			}
		}
		if ok != test.ok || fail != test.fail {
			t.Errorf("%s: got %d lines of a good request and %d of a bad one, want %d and %d", test.mode, ok, fail, test.ok, test.fail)
		}
		if strings.Contains(p.text(), "query-text") {
			t.Errorf("%s: the log holds a query", test.mode)
		}
	}
}

func TestStopIsBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, querysim.Options{}, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(rw).Flush()
		<-r.Context().Done() // a stream without end
	}))
	for _, test := range []struct {
		name   string
		grace  string
		second bool
		want   int
	}{
		{"streams are closed after the grace", "1s", false, 0},
		{"a second signal ends it at once", "1h", true, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := w.start(t, append(w.env("vyopta"), "BEARERD_SHUTDOWN_GRACE="+test.grace)...)
			resp, err := newClient(t).Get(p.url + "/stream")
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			silent, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer silent.Close()
			if test.second {
				if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
				eventually(t, 5*time.Second, "the stop begins", func() bool { return strings.Contains(p.text(), `"stopping"`) })
			}
			if got := p.stop(syscall.SIGTERM, 4*time.Second); got != test.want {
				t.Errorf("exit code: got %d, want %d", got, test.want)
			}
		})
	}
}

func TestLeaderLeaves(t *testing.T) {
	t.Parallel()
	w := newWorld(t, querysim.Options{LoginDelay: time.Second}, nil)
	p := w.start(t, w.env("vyopta")...)
	fetch(t, newClient(t), p.url+namesPath)
	w.sim.Revoke()
	// The first request causes the login and leaves; the others wait for it.
	ctx, leave := context.WithCancel(context.Background())
	left := make(chan error)
	go func() {
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, p.url+namesPath, nil)
		_, err := newClient(t).Do(req)
		left <- err
	}()
	eventually(t, 5*time.Second, "a second login", func() bool { return w.sim.Stats().Logins == 2 })
	others := make(chan error)
	go func() {
		c := newClient(t)
		others <- many(20, func(int) error { return expectStatus(c, p.url+namesPath, 200) })
	}()
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("the leader: got %v, want canceled", err)
	}
	if err := <-others; err != nil {
		t.Errorf("those who stayed: %v", err)
	}
	if got := w.sim.Stats().Logins; got != 2 {
		t.Errorf("logins: got %d, want 2", got)
	}
}

func TestRedirectingLogin(t *testing.T) {
	t.Parallel()
	w := newWorld(t, querysim.Options{}, nil)
	var elsewhere sync.Map
	thief := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		elsewhere.Store(string(body), true)
	}))
	defer thief.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		redirect := httptest.NewServer(http.RedirectHandler(thief.URL, status))
		defer redirect.Close()
		p := w.start(t, append(w.env("vyopta"), "BEARERD_TOKEN_URL="+redirect.URL)...)
		got, _, body := fetch(t, newClient(t), p.url+namesPath)
		if got != 503 || !strings.Contains(body, "login_unavailable") {
			t.Errorf("login redirects with %d: got %d %q, want 503 login_unavailable", status, got, body)
		}
	}
	elsewhere.Range(func(body, _ any) bool {
		t.Errorf("the redirect was followed, with %d bytes", len(body.(string)))
		return true
	})
	if got := w.sim.Stats().Queries; got != 0 {
		t.Errorf("requests upstream: got %d, want 0", got)
	}
}

func TestUpstreamCutsBody(t *testing.T) {
	t.Parallel()
	w := newWorld(t, querysim.Options{}, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/known" {
			rw.Header().Set("Content-Length", "1000000")
		}
		_, _ = rw.Write(make([]byte, 1000))
		_ = http.NewResponseController(rw).Flush()
		panic(http.ErrAbortHandler)
	}))
	p := w.start(t, w.env("vyopta")...)
	for _, path := range []string{"/known", "/chunked"} {
		resp, err := newClient(t).Get(p.url + path)
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if err == nil {
			t.Errorf("%s: got %d bytes and a clean end, want an aborted connection", path, n)
		}
	}
	eventually(t, 5*time.Second, "two requests counted as aborted", func() bool {
		return p.metric(`bearerd_requests_total{code="aborted",method="GET"}`) == 2
	})
}

func TestForbiddenPathHammered(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	t.Parallel()
	w := newWorld(t, querysim.Options{}, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/forbidden" {
			rw.Header().Set("WWW-Authenticate", "Bearer")
			rw.WriteHeader(401)
			_, _ = io.WriteString(rw, "not for you")
		}
	}))
	p := w.start(t, w.env("vyopta")...)
	c := newClient(t)
	fetch(t, c, p.url+"/allowed")
	revoked := false
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for start := time.Now(); time.Since(start) < time.Minute; <-tick.C {
		status, header, body := fetch(t, c, p.url+"/forbidden")
		if status != 401 || body != "not for you" || header.Get("WWW-Authenticate") != "Bearer" {
			t.Fatalf("got %d %q, want upstream's own 401", status, body)
		}
		if !revoked && time.Since(start) > 20*time.Second {
			revoked = true
			w.sim.Revoke()
			if err := expectStatus(c, p.url+"/allowed", 200); err != nil {
				t.Errorf("a real revocation while a forbidden path is hammered: %v", err)
			}
		}
	}
	if got := w.sim.Stats().Logins; got > 6 {
		t.Errorf("logins in a minute, the first and the revocation's included: got %d, want at most 6", got)
	}
}
