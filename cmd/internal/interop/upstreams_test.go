//go:build unix

package interop_test

import (
	"bufio"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
)

// api is what testdata's upstream.js and upstream.py are, for those who stand
// before it.
type api struct {
	mu    sync.Mutex // guards asked
	asked map[string]int
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	a.mu.Lock()
	a.asked[path]++
	times := a.asked[path]
	of := a.asked[strings.TrimPrefix(path, "/asked")]
	a.mu.Unlock()
	switch {
	case strings.HasPrefix(path, "/once/") && times == 1:
		// Debian 12's Caddy dies of an answer that comes before it has asked for the
		// body, by a fault of the net/http of its time.
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("WWW-Authenticate", "Bearer")
		w.WriteHeader(http.StatusUnauthorized)
	case strings.HasPrefix(path, "/asked/"):
		fmt.Fprint(w, of)
	case path == "/protocol":
		fmt.Fprint(w, r.Header.Get("X-Protocol"))
	case strings.HasPrefix(path, "/reset"):
		panic(http.ErrAbortHandler)
	case path == "/file":
		w.Header().Set("ETag", `"1"`)
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(strings.Repeat("0123456789abcdef", 1<<16)))
	case path == "/empty416":
		w.Header().Set("Content-Range", "bytes */5")
		w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
	case path == "/broken":
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprint(w, "<h1>broken</h1>")
	case path == "/stream":
		w.Header().Set("Content-Type", "text/event-stream")
		for n := range 5 {
			fmt.Fprintf(w, "data: %d\n\n", n)
			w.(http.Flusher).Flush()
		}
	default:
		echo(w, r)
	}
}

// tlsFiles makes a certificate with its key in one file, and bearerd's setting
// that trusts it.
func tlsFiles(t *testing.T) (file, trust string) {
	t.Helper()
	web := httptest.NewUnstartedServer(nil)
	web.StartTLS()
	web.Close()
	key, err := x509.MarshalPKCS8PrivateKey(web.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "cert.pem")
	text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file, bearerdtest.Trusting(t, web)
}

// need finds a program that may not be on everybody's PATH.
func need(t *testing.T, name string) string {
	t.Helper()
	file, err := exec.LookPath(name)
	if err != nil {
		file = "/usr/sbin/" + name
		if _, err := os.Stat(file); err != nil {
			bearerdtest.Lacking(t, name)
		}
	}
	return file
}

const apacheConfig = `
ServerRoot %[1]s
ServerName localhost
Listen 127.0.0.1:%[2]d
PidFile %[1]s/pid
ErrorLog %[1]s/error.log
LoadModule mpm_event_module %[5]s/mod_mpm_event.so
LoadModule authz_core_module %[5]s/mod_authz_core.so
LoadModule proxy_module %[5]s/mod_proxy.so
LoadModule proxy_http_module %[5]s/mod_proxy_http.so
LoadModule ssl_module %[5]s/mod_ssl.so
LoadModule http2_module %[5]s/mod_http2.so
LoadModule headers_module %[5]s/mod_headers.so
KeepAliveTimeout 1
MaxKeepAliveRequests 50
User nobody
Group nogroup
%[3]s
RequestHeader set X-Protocol "expr=%%{SERVER_PROTOCOL}"
ProxyPass / %[4]s/
`

func newApache(t *testing.T, behind string, h2 bool) web {
	file := need(t, "apache2")
	dir := t.TempDir()
	cert, trust := tlsFiles(t)
	port := bearerdtest.FreePort(t)
	scheme, tls := "http", ""
	if h2 {
		scheme, tls = "https", "SSLEngine on\nSSLCertificateFile "+cert+"\nProtocols h2 http/1.1"
	}
	conf := filepath.Join(dir, "conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, apacheConfig, dir, port, tls, behind, "/usr/lib/apache2/modules"), 0o600); err != nil {
		t.Fatal(err)
	}
	runs(t, exec.Command(file, "-f", conf, "-DFOREGROUND"))
	return web{fmt.Sprintf("%s://127.0.0.1:%d", scheme, port), trust}
}

const haproxyConfig = `
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
  timeout http-keep-alive 1s
frontend f
  bind 127.0.0.1:%d %s
  http-request set-header X-Protocol %%[req.ver]
  default_backend b
backend b
  server s %s
`

func newHAProxy(t *testing.T, behind string, h2 bool) web {
	file := need(t, "haproxy")
	cert, trust := tlsFiles(t)
	port := bearerdtest.FreePort(t)
	scheme, tls := "http", ""
	if h2 {
		scheme, tls = "https", "ssl crt "+cert+" alpn h2,http/1.1"
	}
	conf := filepath.Join(t.TempDir(), "conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, haproxyConfig, port, tls, strings.TrimPrefix(behind, "http://")), 0o600); err != nil {
		t.Fatal(err)
	}
	runs(t, exec.Command(file, "-db", "-f", conf))
	return web{fmt.Sprintf("%s://127.0.0.1:%d", scheme, port), trust}
}

const caddyConfig = `
{
  admin off
  auto_https off
  servers {
    timeouts {
      idle 1s
    }
  }
}
%s://127.0.0.1:%d {
  %s
  reverse_proxy %s {
    header_up X-Protocol {http.request.proto}
  }
}
`

func newCaddy(t *testing.T, behind string, h2 bool) web {
	file := need(t, "caddy")
	cert, trust := tlsFiles(t)
	port := bearerdtest.FreePort(t)
	scheme, tls := "http", ""
	if h2 {
		scheme, tls = "https", "tls "+cert+" "+cert
	}
	conf := filepath.Join(t.TempDir(), "Caddyfile")
	if err := os.WriteFile(conf, fmt.Appendf(nil, caddyConfig, scheme, port, tls, behind), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(file, "run", "--config", conf, "--adapter", "caddyfile")
	cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+t.TempDir(), "XDG_CONFIG_HOME="+t.TempDir())
	runs(t, cmd)
	return web{fmt.Sprintf("%s://127.0.0.1:%d", scheme, port), trust}
}

// web is a web server that runs, with bearerd's setting that trusts it, if any.
type web struct{ url, trust string }

// Servers that others wrote as upstream. All of them close an idle connection
// after a second, which is when the next requests come.
func TestUpstreams(t *testing.T) {
	t.Parallel()
	before := func(run func(*testing.T, string, bool) web, h2 bool) func(*testing.T) web {
		return func(t *testing.T) web {
			backend := httptest.NewServer(&api{asked: map[string]int{}})
			t.Cleanup(backend.Close)
			return run(t, backend.URL, h2)
		}
	}
	for name, run := range map[string]func(*testing.T) web{
		"Apache": before(newApache, false), "Apache HTTP2": before(newApache, true),
		"HAProxy": before(newHAProxy, false), "HAProxy HTTP2": before(newHAProxy, true),
		"Caddy": before(newCaddy, false), "Caddy HTTP2": before(newCaddy, true),
		"Node": func(t *testing.T) web { return web{url: runNode(t, "upstream.js")} },
		"Node HTTP2": func(t *testing.T) web {
			cert, trust := tlsFiles(t)
			return web{runNode(t, "upstream.js", "CERT="+cert), trust}
		},
		"gunicorn": func(t *testing.T) web {
			return web{url: runPython(t, "gunicorn", "gunicorn", "--bind", "fd://3", "--threads", "8", "--keep-alive", "1", "upstream:app")}
		},
		"uvicorn": func(t *testing.T) web {
			return web{url: runPython(t, "uvicorn", "uvicorn", "--fd", "3", "--timeout-keep-alive", "1", "upstream:application")}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := run(t)
			login := newLogin(t)
			env := []string{"BEARERD_UPSTREAM_IDLE=500ms"}
			if u.trust != "" {
				env = append(env, u.trust)
			}
			p := start(t, login.env(u.url, env...)...)
			bearerdtest.Eventually(t, bearerdtest.Soon, "upstream serves", func() bool {
				resp, _ := fetch(t, "GET", p.url+"/up", nil)
				return resp.StatusCode == http.StatusOK
			})
			_, h2 := strings.CutSuffix(name, "HTTP2")
			if _, got := fetch(t, "GET", p.url+"/protocol", nil); strings.Contains(got, "2.0") != h2 {
				t.Errorf("upstream was asked by HTTP/%q", got)
			}
			wantAPI(t, p, login, name == "HAProxy HTTP2")
			wantKeptAlive(t, p)
		})
	}
}

// ask makes a request with one more field, and returns the answer and its body.
func ask(t *testing.T, method, url, field, value string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if field != "" {
		req.Header.Set(field, value)
	}
	resp, err := (&http.Client{Timeout: patience}).Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Errorf("%s %s: %v", method, url, err)
	}
	return resp, string(body)
}

// wantAPI makes requests of each kind. Where the server says of a request that it
// has processed that it has not, a POST is sent twice.
func wantAPI(t *testing.T, p *process, login *loginServer, denies bool) {
	file := strings.Repeat("0123456789abcdef", 1<<16)
	for _, c := range []struct {
		method, path, field, value string
		status, size               int
	}{
		{"GET", "/file", "", "", 200, len(file)},
		{"HEAD", "/file", "", "", 200, 0},
		{"GET", "/file", "If-None-Match", `"1"`, 304, 0},
		{"GET", "/empty416", "Range", "bytes=9-", 416, -1},
		{"GET", "/broken", "", "", 500, -1},
	} {
		resp, body := ask(t, c.method, p.url+c.path, c.field, c.value)
		if resp.StatusCode != c.status || c.size >= 0 && len(body) != c.size {
			t.Errorf("%s %s: got %d and %d bytes, want %d and %d", c.method, c.path, resp.StatusCode, len(body), c.status, c.size)
		}
		if c.method == "HEAD" && resp.ContentLength != int64(len(file)) {
			t.Errorf("HEAD: got Content-Length %d, want %d", resp.ContentLength, len(file))
		}
	}
	for _, size := range []int{1, 100 << 10, 5 << 20} {
		wantEcho(t, p.url+"/echo", strings.Repeat("x", size))
	}
	before := login.logins(0)
	for i, kind := range []upload{{"none", 0, false}, {"held", replayBuffer, false}, {"announced", 2 << 20, false}} {
		// Most say 100 (Continue) before they look at the token: then a large body
		// is gone.
		wantReplay(t, fmt.Sprint(p.url, "/once/", i), kind, strings.Repeat("x", kind.size), kind.size <= replayBuffer)
	}
	if got := login.logins(0) - before; got != 3 {
		t.Errorf("three 401s made %d logins", got)
	}
	resp, err := http.Get(p.url + "/stream")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	events := 0
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "data: ") {
			events++
		}
	}
	if events != 5 {
		t.Errorf("got %d events, want 5", events)
	}
	atMost := map[string]int{"GET": 2, "POST": 1}
	if denies {
		atMost["POST"] = 2
	}
	for method, times := range atMost {
		path := "/reset/" + method
		resp, _ := fetch(t, method, p.url+path, nil)
		if _, asked := fetch(t, "GET", p.url+"/asked"+path, nil); resp.StatusCode < 500 || asked == "" || asked > strconv.Itoa(times) {
			t.Errorf("%s of what resets: got %d, and upstream was asked %s times; want 5xx and at most %d", method, resp.StatusCode, asked, times)
		}
	}
}

// wantKeptAlive posts as the server closes connections: bearerd closes them before
// that, and no POST is lost or processed twice.
func wantKeptAlive(t *testing.T, p *process) {
	const rounds, callers, each = 4, 8, 5
	for round := range rounds {
		var all sync.WaitGroup
		for caller := range callers {
			all.Go(func() {
				for n := range each {
					path := fmt.Sprintf("/post/%d/%d/%d", round, caller, n)
					wantEcho(t, p.url+path, "text")
					if _, asked := fetch(t, "GET", p.url+"/asked"+path, nil); asked != "1" {
						t.Errorf("upstream got POST %s %s times", path, asked)
					}
				}
			})
		}
		all.Wait()
		<-time.After(time.Second - 5*time.Millisecond + rand.N(10*time.Millisecond))
	}
}
