//go:build unix

package interop_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
)

// nginxConfig is for -p DIR; its %s are the listening socket, directives of the
// server, who verifies a token, and who is behind.
const nginxConfig = `
daemon off;
user root root;
worker_processes 2;
pid nginx.pid;
error_log error.log notice;
events {}
http {
	log_format referee '$server_protocol $request_method $request_uri $status $http_authorization';
	access_log access.log referee;
	client_body_temp_path body;
	proxy_temp_path proxy;
	fastcgi_temp_path fastcgi;
	uwsgi_temp_path uwsgi;
	scgi_temp_path scgi;
	client_max_body_size 100m;
	ssl_certificate cert.pem;
	ssl_certificate_key key.pem;
	server {
		listen %s;
		%s
		auth_request /verify;
		location = /verify {
			internal;
			proxy_pass %s;
			proxy_pass_request_body off;
			proxy_set_header Content-Length "";
		}
		location / {
			proxy_pass %s;
			proxy_http_version 1.1;
			proxy_buffering off;
		}
		location /files/ { root .; }
		location /444/ { return 444; }
		location /small/ {
			proxy_pass %s;
			client_max_body_size 1k;
		}
	}
}
`

// nginx is one that runs, with its login server.
type nginx struct {
	login *loginServer
	dir   string
	url   string
	trust string // bearerd's setting
	cmd   *exec.Cmd
}

// newNginx runs nginx, which asks about each token, before backend. Its socket
// is what listen says besides the address: ssl, http2.
func newNginx(t *testing.T, listen, directives string, backend http.HandlerFunc) *nginx {
	t.Helper()
	file := need(t, "nginx")
	n := &nginx{login: newLogin(t), dir: t.TempDir()}
	verifier := httptest.NewServer(n.login.protect(t, func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(verifier.Close)
	behind := httptest.NewServer(backend)
	t.Cleanup(behind.Close)
	certificate := httptest.NewUnstartedServer(nil)
	certificate.StartTLS()
	certificate.Close()
	n.trust = bearerdtest.Trusting(t, certificate)
	key, err := x509.MarshalPKCS8PrivateKey(certificate.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}

	// nginx knows no port 0, but takes over open sockets, as it does from the
	// nginx before it when its program is changed.
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	passed, err := socket.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer passed.Close()
	at := socket.Addr().String()
	n.url = "http://" + at
	if strings.Contains(listen, "ssl") {
		n.url = "https://" + at
	}
	for name, data := range map[string][]byte{
		"nginx.conf": fmt.Appendf(nil, nginxConfig, at+" "+listen, directives, verifier.URL, behind.URL, behind.URL),
		"cert.pem":   pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate().Raw}),
		"key.pem":    pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
	} {
		if err := os.WriteFile(filepath.Join(n.dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	n.cmd = exec.Command(file, "-p", n.dir, "-c", "nginx.conf", "-e", "error.log")
	n.cmd.Env = []string{"NGINX=3;"}
	n.cmd.ExtraFiles = []*os.File{passed}
	n.cmd.Stderr = os.Stderr
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// os/exec has made it blocking, and nginx takes it as it is: of two workers
	// that one connection wakes, the second would wait in accept.
	if err := syscall.SetNonblock(int(passed.Fd()), true); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = n.cmd.Process.Signal(syscall.SIGTERM) // its workers are its to end
		_ = n.cmd.Wait()
		if t.Failed() {
			t.Logf("nginx's log:\n%s", n.read(t, "error.log"))
		}
	})
	return n
}

func (n *nginx) read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(n.dir, name))
	if err != nil {
		t.Error(err)
	}
	return string(text)
}

// start runs bearerd before n.
func (n *nginx) start(t *testing.T) *process {
	return start(t, n.login.env(n.url, n.trust, fmt.Sprint("BEARERD_REPLAY_BUFFER=", replayBuffer))...)
}

// wantLog is the referee of all that nginx has logged: each with a token. It
// returns how often each of the POSTs was answered 200.
func (n *nginx) wantLog(t *testing.T, protocol string) map[string]int {
	t.Helper()
	posts := map[string]int{}
	for line := range strings.Lines(n.read(t, "access.log")) {
		parts := strings.SplitN(strings.TrimSpace(line), " ", 5)
		n.login.admits(t, parts[4:])
		if parts[0] != protocol {
			t.Errorf("nginx got %s, want %s", parts[0], protocol)
		}
		if parts[1] == "POST" && parts[3] == "200" {
			posts[parts[2]]++
		}
	}
	return posts
}

// sum answers with the body's SHA-256.
func sum(w http.ResponseWriter, r *http.Request) {
	hash := sha256.New()
	if _, err := io.Copy(hash, r.Body); err != nil {
		return
	}
	fmt.Fprintf(w, "%x", hash.Sum(nil))
}

func TestNginx(t *testing.T) {
	for _, kind := range []struct{ name, listen, protocol string }{
		{"plain", "", "HTTP/1.1"}, {"TLS", "ssl", "HTTP/1.1"}, {"HTTP2", "ssl http2", "HTTP/2.0"},
	} {
		t.Run(kind.name, func(t *testing.T) {
			next := make(chan struct{})
			n := newNginx(t, kind.listen, "", func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/events":
					for event := range 20 {
						fmt.Fprintf(w, "data: %d\n\n", event)
						w.(http.Flusher).Flush()
						<-next
					}
				case "/sum":
					sum(w, r)
				default:
					echo(w, r)
				}
			})
			p := n.start(t)
			t.Run("stream", func(t *testing.T) { wantEvents(t, p.url+"/events", next) })
			t.Run("large", func(t *testing.T) { wantLarge(t, n, p) })
			t.Run("replay", func(t *testing.T) {
				for _, body := range []upload{
					{"none", 0, false},
					{"held", replayBuffer, false},
					{"announced", replayBuffer + 1, false},
					{"announced, large", 3 << 20, false},
					{"of unknown length", replayBuffer / 2, true},
				} {
					text := strings.Repeat(smuggled, body.size/len(smuggled)+1)[:body.size]
					p := n.start(t)
					for range atOnce {
						wantEcho(t, p.url+"/api", "warm")
						n.login.revoke()
						wantReplay(t, p.url+"/api", body, text, true)
					}
				}
			})
			t.Run("too large", func(t *testing.T) {
				for _, body := range []upload{{"held", replayBuffer, false}, {"announced", 3 << 20, false}, {"of unknown length", replayBuffer / 2, true}} {
					resp, got := fetch(t, "POST", p.url+"/small/", body.reader(strings.Repeat("x", body.size)))
					if resp.StatusCode != 413 || !strings.Contains(got, "nginx") {
						t.Errorf("%s: got %d %q, want nginx's 413", body.name, resp.StatusCode, got)
					}
				}
			})
			n.wantLog(t, kind.protocol)
		})
	}
}

// nginx leaves a request without an answer: over HTTP/2 by RST_STREAM with
// PROTOCOL_ERROR, which net/http would answer by sending it again, without an end.
func TestNginxLeaves(t *testing.T) {
	for _, kind := range []struct {
		name, listen, cause string
		gets                int // attempts of a GET on a connection that is there
	}{
		{"TLS", "ssl", "closed the connection", 2},
		{"HTTP2", "ssl http2", "upstream reset the HTTP/2 stream: PROTOCOL_ERROR", 2},
	} {
		t.Run(kind.name, func(t *testing.T) {
			n := newNginx(t, kind.listen, "", echo)
			p := n.start(t)
			wantEcho(t, p.url+"/api", "warm")
			for method, attempts := range map[string]int{"GET": kind.gets, "POST": 1} {
				wantEcho(t, p.url+"/api", "warm")
				resp, body := fetch(t, method, p.url+"/444/"+method, nil)
				if resp.StatusCode != 502 || !strings.Contains(body, `"upstream_unreachable"`) {
					t.Errorf("%s: got %d %s, want 502 upstream_unreachable", method, resp.StatusCode, body)
				}
				if got := strings.Count(n.read(t, "access.log"), " "+method+" /444/"); got != attempts {
					t.Errorf("%s: got %d requests at nginx, want %d", method, got, attempts)
				}
			}
			bearerdtest.Eventually(t, bearerdtest.Soon, "lines that name the cause", func() bool { return strings.Count(p.Text(), kind.cause) >= 2 })
		})
	}
}

// wantLarge takes 256 MiB from nginx, and gives it 64 MiB.
func wantLarge(t *testing.T, n *nginx, p *process) {
	const down, up = 256 << 20, 64 << 20
	if err := os.Mkdir(filepath.Join(n.dir, "files"), 0o755); err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(filepath.Join(n.dir, "files", "large"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	want := sha256.New()
	if _, err := io.CopyN(io.MultiWriter(file, want), noise(1), down); err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get(p.url + "/files/large")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got := sha256.New()
	if size, err := io.Copy(got, resp.Body); err != nil || size != down || !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
		t.Errorf("got %d bytes, %v, SHA-256 %x; want %d and %x", size, err, got.Sum(nil), down, want.Sum(nil))
	}

	want.Reset()
	_, _ = io.CopyN(want, noise(2), up)
	_, answer := fetch(t, "POST", p.url+"/sum", io.LimitReader(noise(2), up)) // chunked
	if answer != fmt.Sprintf("%x", want.Sum(nil)) {
		t.Errorf("nginx's backend got a body with SHA-256 %s, want %x", answer, want.Sum(nil))
	}
}

func noise(seed byte) io.Reader { return rand.NewChaCha8([32]byte{seed}) }

// onceEach is a backend that keeps count.
type onceEach struct {
	mu   sync.Mutex // guards seen
	seen map[string]int
}

func (o *onceEach) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	o.seen[r.URL.Path]++
	o.mu.Unlock()
	echo(w, r)
}

// wantOnce has eight callers make the requests after number from, up to to,
// GETs and POSTs by turns, and calls each before every one. A GET never fails. A
// POST may, with a 502, where nginx closes the connection that it goes out on:
// how many did it returns. None is processed twice.
func (o *onceEach) wantOnce(t *testing.T, n *nginx, p *process, protocol string, from, to int, each func(serial int)) int {
	t.Helper()
	var serial, failed atomic.Int64
	serial.Store(int64(from))
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for {
				i := int(serial.Add(1))
				if i > to {
					return
				}
				each(i)
				path := fmt.Sprint("/", i)
				if i%2 == 0 {
					if resp, body := fetch(t, "GET", p.url+path, nil); resp.StatusCode != 200 {
						t.Errorf("GET %s: got %d %s, want 200", path, resp.StatusCode, body)
					}
					continue
				}
				resp, body := fetch(t, "POST", p.url+path, strings.NewReader(path))
				o.mu.Lock()
				seen := o.seen[path]
				o.mu.Unlock()
				switch {
				case resp.StatusCode == 200 && body == path && seen == 1:
				case resp.StatusCode == 502 && strings.Contains(body, `"upstream_unreachable"`) && seen <= 1:
					failed.Add(1)
				default:
					t.Errorf("POST %s: got %d %s, and the backend got it %d times", path, resp.StatusCode, body, seen)
				}
			}
		})
	}
	callers.Wait()
	for path, times := range n.wantLog(t, protocol) {
		if times > 1 {
			t.Errorf("nginx processed POST %s %d times", path, times)
		}
	}
	if got := n.login.logins(0); got != 1 {
		t.Errorf("got %d logins, want 1", got)
	}
	return int(failed.Load())
}

// A connection ends after five requests, and after a second without one, which
// is when the next request comes.
func TestNginxKeepAliveLimits(t *testing.T) {
	o := &onceEach{seen: map[string]int{}}
	n := newNginx(t, "", "keepalive_requests 5; keepalive_timeout 1s;", o.ServeHTTP)
	p := n.start(t)
	const rounds, each = 10, 200
	failed := 0
	for round := range rounds {
		failed += o.wantOnce(t, n, p, "HTTP/1.1", round*each, (round+1)*each, func(int) {})
		<-time.After(time.Second - 5*time.Millisecond + rand.N(10*time.Millisecond))
	}
	t.Logf("%d of %d POSTs were answered 502", failed, rounds*each/2)
}

// Over HTTP/2 a connection that has had its requests is ended by GOAWAY, which
// says what upstream has not processed: nothing fails.
func TestNginxGoAway(t *testing.T) {
	o := &onceEach{seen: map[string]int{}}
	n := newNginx(t, "ssl http2", "keepalive_requests 5;", o.ServeHTTP)
	if failed := o.wantOnce(t, n, n.start(t), "HTTP/2.0", 0, 1000, func(int) {}); failed > 0 {
		t.Errorf("%d POSTs were answered 502", failed)
	}
}

// A reload under load closes connections as requests go out on them.
func TestNginxReload(t *testing.T) {
	o := &onceEach{seen: map[string]int{}}
	n := newNginx(t, "", "", o.ServeHTTP)
	p := n.start(t)
	const total, every = 1000, 100
	var reloading sync.Mutex // nginx makes one of two signals that come together
	failed := o.wantOnce(t, n, p, "HTTP/1.1", 0, total, func(serial int) {
		if serial%every != 0 {
			return
		}
		reloading.Lock()
		defer reloading.Unlock()
		reloads := func() int { return strings.Count(n.read(t, "error.log"), "gracefully shutting down") }
		before := reloads()
		if err := n.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Error(err)
		}
		bearerdtest.Eventually(t, bearerdtest.Soon, "nginx reloads", func() bool { return reloads() > before })
	})
	t.Logf("%d of %d POSTs were answered 502", failed, total/2)
}
