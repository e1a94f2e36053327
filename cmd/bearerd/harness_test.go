//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
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
var program = sync.OnceValues(func() (path string, err error) {
	if programDir, err = os.MkdirTemp("", "bearerd-e2e-"); err != nil {
		return "", err
	}
	path = filepath.Join(programDir, "bearerd")
	args := append([]string{"build", "-o", path}, buildFlags...)
	out, err := exec.Command("go", append(args, ".")...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

var programDir string // set by program

func TestMain(m *testing.M) {
	if bareProxy() || askedElsewhere() || trampoline() {
		return
	}
	// Those that run side by side mostly wait, whatever the number of processors.
	_ = flag.Set("test.parallel", strconv.Itoa(max(4, runtime.GOMAXPROCS(0))))
	code := m.Run()
	if programDir != "" {
		_ = os.RemoveAll(programDir)
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

// holdLogin returns options of a simulator that answers the login of that number
// when answer is called, which a test must do in the end; again does nothing.
func holdLogin(number int) (o querysim.Options, answer func()) {
	held := make(chan struct{})
	o.OnEvent = func(e querysim.Event) {
		if e.Kind == querysim.EventLogin && e.Serial == number {
			<-held
		}
	}
	return o, sync.OnceFunc(func() { close(held) })
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
	url   string // of the data listener; unix:/path of a unix socket, for clientAt
	admin string // of the admin listener, likewise

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
		if strings.Contains(p.text(), "DATA RACE") {
			t.Error("bearerd has a data race")
		}
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
			p.url = urlOf(start.Listen[0])
			if len(start.Admin) > 0 {
				p.admin = urlOf(start.Admin[0])
			}
			close(ready)
		}
		if err != nil {
			return
		}
	}
}

// urlOf is the URL of a listener at an address that the start-up line shows.
func urlOf(address string) string {
	if strings.HasPrefix(address, "unix:") {
		return address
	}
	return "http://" + address
}

// clientAt returns a client for a listener, and the URL that it uses.
func clientAt(t testing.TB, url string) (*http.Client, string) {
	c := newClient(t)
	path, ok := strings.CutPrefix(url, "unix:")
	if !ok {
		return c, url
	}
	c.Transport.(*http.Transport).DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
	return c, "http://localhost"
}

func (p *process) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String()
}

// shown is all that the admin listener shows, while the process runs.
func (p *process) shown() string {
	var all strings.Builder
	if p.admin == "" {
		return ""
	}
	c, admin := clientAt(p.t, p.admin)
	for _, path := range []string{"/metrics", "/status", "/readyz", "/startupz", "/livez", "/"} {
		req, err := http.NewRequest(http.MethodGet, admin+path, nil)
		if err != nil {
			p.t.Fatal(err)
		}
		req.Host = "localhost" // wherever it is bound
		if resp, err := c.Do(req); err == nil {
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

// stop sends sig and returns the exit code.
func (p *process) stop(sig syscall.Signal, within time.Duration) int {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
	return p.exitCode(within)
}

// exitCode waits for the process's end.
func (p *process) exitCode(within time.Duration) int {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(within):
		p.t.Fatalf("bearerd had not ended after %v", within)
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

// newClient has as many connections as a test wants, and does not follow
// redirects.
func newClient(t testing.TB) *http.Client {
	transport := &http.Transport{MaxIdleConnsPerHost: 4096}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// soon is for what takes an instant: on a busy machine that may be seconds.
const soon = 20 * time.Second

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

// dial opens a connection to a listener of p, until the test ends, and sends text.
func (p *process) dial(url, text string) net.Conn {
	p.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = conn.Close() })
	if _, err := io.WriteString(conn, text); err != nil {
		p.t.Fatal(err)
	}
	return conn
}

// closedAfter returns how long bearerd keeps conn open, which must be under 15 s.
func closedAfter(t testing.TB, conn net.Conn) time.Duration {
	t.Helper()
	began := time.Now()
	if err := conn.SetReadDeadline(began.Add(15 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, conn); err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("after 15 s: got %v, want the connection closed", err)
	}
	return time.Since(began)
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

// post posts nothing to the admin listener and returns what it says.
func (p *process) post(path string) (int, string) {
	p.t.Helper()
	resp, err := http.Post(p.admin+path, "", nil)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// lacking skips a test that this machine cannot run. Where CI=true each must
// run, so that none is skipped for ever unseen.
func lacking(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("CI=true, and this machine lacks %s (.ci/run packages gets programs)", what)
	}
	t.Skipf("this machine lacks %s", what)
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
