package interop_test

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

// These tests run the built bearerd with programs that others wrote.

// program is the path of bearerd, made once.
var program = sync.OnceValues(func() (file string, err error) {
	if programDir, err = os.MkdirTemp("", "bearerd-interop-"); err != nil {
		return "", err
	}
	file = filepath.Join(programDir, "bearerd")
	build := exec.Command("go", "build", "-o", file, "./cmd/bearerd")
	build.Dir = "../../.." // of bearerd's own go.mod
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return file, nil
})

var programDir string // set by program

func TestMain(m *testing.M) {
	code := m.Run()
	if programDir != "" {
		_ = os.RemoveAll(programDir)
	}
	os.Exit(code)
}

// treasure is in every body that the account is given.
const treasure = "what only this account may see"

// upstream is an API behind a token check. It is the referee: it keeps every
// request that comes.
type upstream struct {
	login  *httptest.Server
	server *httptest.Server
	vendor querysim.Vendor

	mu       sync.Mutex // guards requests
	requests []*http.Request
}

func newUpstream(t *testing.T) *upstream {
	t.Helper()
	sim, err := querysim.New(querysim.Options{Lifetime: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	u := &upstream{}
	for _, v := range querysim.Vendors() {
		if v.GrantType == "client_credentials" {
			u.vendor = v
		}
	}
	guarded := sim.RequireToken(http.HandlerFunc(serveAPI))
	u.login = httptest.NewServer(sim.LoginHandler())
	t.Cleanup(u.login.Close)
	u.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u.mu.Lock()
		u.requests = append(u.requests, r)
		u.mu.Unlock()
		guarded.ServeHTTP(w, r)
	}))
	t.Cleanup(u.server.Close)
	return u
}

// serveAPI answers with the treasure, in the form that the path's extension
// asks for.
func serveAPI(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	if origin := r.Header.Get("Origin"); origin != "" {
		// An API may well let every page read: what a page has no token for, it
		// does not get.
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Allow-Credentials", "true")
		h.Set("Access-Control-Allow-Methods", r.Header.Get("Access-Control-Request-Method"))
		h.Set("Access-Control-Allow-Headers", r.Header.Get("Access-Control-Request-Headers"))
	}
	switch filepath.Ext(r.URL.Path) {
	case ".js":
		h.Set("Content-Type", "text/javascript")
		fmt.Fprintf(w, "globalThis.leak = %q", treasure)
	case ".css":
		h.Set("Content-Type", "text/css")
		fmt.Fprintf(w, ":root { --leak: %q }", treasure)
	case ".events":
		h.Set("Content-Type", "text/event-stream")
		fmt.Fprintf(w, "data: %s\n\n", treasure)
	case ".socket":
		serveWebSocket(w, r)
	default:
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		h.Set("Content-Type", "application/json")
		h.Set("X-Total-Count", "7")
		_ = json.NewEncoder(w).Encode(map[string]string{"account": treasure, "method": r.Method, "body": string(body)})
	}
}

// serveWebSocket answers the first message, a short one, with the treasure and
// that message, and ends the connection (RFC 6455).
func serveWebSocket(w http.ResponseWriter, r *http.Request) {
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		http.Error(w, "give a WebSocket handshake", http.StatusUpgradeRequired)
		return
	}
	accept := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n\r\n",
		base64.StdEncoding.EncodeToString(accept[:]))
	frame := make([]byte, 2+4) // opcode, length, mask
	if _, err := io.ReadFull(buffered, frame); err != nil {
		return
	}
	message := make([]byte, frame[1]&0x7f)
	if _, err := io.ReadFull(buffered, message); err != nil {
		return
	}
	for i := range message {
		message[i] ^= frame[2+i%4]
	}
	answer := treasure + ": " + string(message)
	_, _ = conn.Write(append([]byte{0x81, byte(len(answer))}, answer...))
	_, _ = conn.Write([]byte{0x88, 0})
	_, _ = io.Copy(io.Discard, buffered)
}

// to returns the requests to a path, or those below one that ends with a slash.
func (u *upstream) to(path string) []*http.Request {
	u.mu.Lock()
	defer u.mu.Unlock()
	var found []*http.Request
	for _, r := range u.requests {
		if matches(path, r.URL.Path) {
			found = append(found, r)
		}
	}
	return found
}

func matches(want, path string) bool {
	return path == want || strings.HasSuffix(want, "/") && strings.HasPrefix(path, want)
}

// bare is what many people run: a reverse proxy that adds the token and asks
// nobody who they are.
func (u *upstream) bare(t *testing.T) *httputil.ReverseProxy {
	t.Helper()
	resp, err := http.PostForm(u.login.URL+u.vendor.LoginPath, url.Values{
		"grant_type": {u.vendor.GrantType}, "client_id": {u.vendor.ClientID}, "client_secret": {u.vendor.ClientSecret},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.AccessToken == "" {
		t.Fatalf("login: got %s and no token (%v)", resp.Status, err)
	}
	to, err := url.Parse(u.server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return &httputil.ReverseProxy{
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.SetURL(to)
			pr.Out.Header.Set("Authorization", "Bearer "+answer.AccessToken)
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
}

// process is a running bearerd.
type process struct {
	cmd    *exec.Cmd
	url    string // of the data listener
	ended  chan struct{}
	mu     sync.Mutex // guards what follows
	output bytes.Buffer
	log    []request
}

// request is a line of the access log.
type request struct {
	Message, Method, Path, Code string
	Status                      int
}

// start runs bearerd before u, and waits until it serves.
func (u *upstream) start(t *testing.T, env ...string) *process {
	t.Helper()
	return start(t, append([]string{
		"BEARERD_PRESET=" + u.vendor.Name,
		"BEARERD_TOKEN_URL=" + u.login.URL + u.vendor.LoginPath,
		"BEARERD_UPSTREAM=" + u.server.URL,
		"BEARERD_CLIENT_ID=" + u.vendor.ClientID, "BEARERD_CLIENT_SECRET=" + u.vendor.ClientSecret,
	}, env...)...)
}

// start runs bearerd, and waits until it serves.
func start(t *testing.T, env ...string) *process {
	t.Helper()
	file, err := program()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(file)
	cmd.Env = append([]string{ // os/exec keeps the last of each name
		"BEARERD_LISTEN=localhost:0", "BEARERD_ADMIN_LISTEN=off", "BEARERD_LOG_FORMAT=json",
	}, env...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: cmd, ended: make(chan struct{})}
	serving := make(chan string, 1)
	go p.read(stderr, serving)
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-p.ended
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("what bearerd wrote:\n%s", p.text())
		}
	})
	select {
	case at := <-serving:
		_, port, _ := strings.Cut(at, ":")
		p.url = "http://localhost:" + port
	case <-p.ended:
		t.Fatalf("bearerd ended at its start:\n%s", p.text())
	case <-time.After(20 * time.Second):
		t.Fatal("bearerd did not say that it serves")
	}
	return p
}

// read keeps all output, and tells the first listener's address.
func (p *process) read(r io.Reader, serving chan<- string) {
	defer close(p.ended)
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		var line struct {
			request
			Listen []string
		}
		err := json.Unmarshal(lines.Bytes(), &line)
		p.mu.Lock()
		p.output.Write(append(lines.Bytes(), '\n'))
		if err == nil && line.Message == "request" {
			p.log = append(p.log, line.request)
		}
		p.mu.Unlock()
		if err == nil && line.Message == "serving" {
			serving <- line.Listen[0]
		}
	}
}

func (p *process) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String()
}

// to returns what the access log has of a path, or of all below one that ends
// with a slash.
func (p *process) to(path string) []request {
	p.mu.Lock()
	defer p.mu.Unlock()
	var found []request
	for _, r := range p.log {
		if matches(path, r.Path) {
			found = append(found, r)
		}
	}
	return found
}

// eventually waits until ok says yes.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	const within = 20 * time.Second
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

// lacking skips a test that this machine cannot run. Where CI=true each must
// run, so that none is skipped for ever unseen.
func lacking(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("CI=true, and this machine lacks %s (.ci/run packages gets it)", what)
	}
	t.Skipf("this machine lacks %s", what)
}
