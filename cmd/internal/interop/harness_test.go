package interop_test

import (
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
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

// These tests run the built bearerd with programs that others wrote.

func TestMain(m *testing.M) {
	code := m.Run()
	bearerdtest.Clean()
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
	*bearerdtest.Process
	url string // of the data listener, by its name

	mu      sync.Mutex // guards watched
	watched []request
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
	var w bearerdtest.World
	p := w.StartProgram(t, bearerdtest.Command(t), append([]string{
		"BEARERD_LISTEN=localhost:0", "BEARERD_ADMIN_LISTEN=off", "BEARERD_LOG_FORMAT=json",
	}, env...)...)
	at, err := url.Parse(p.URL)
	if err != nil {
		t.Fatal(err)
	}
	return &process{Process: p, url: "http://localhost:" + at.Port()}
}

// watch has the url of p lead through a server that changes nothing and keeps what
// bearerd makes of each request, as if it stood in the access log: that has only
// some of the lines of refusals, of which anybody can make any number.
func (p *process) watch(t *testing.T) {
	t.Helper()
	to, err := url.Parse(p.url)
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.SetURL(to)
			pr.Out.Host = pr.In.Host
		},
		ModifyResponse: func(resp *http.Response) error {
			_, code, _ := strings.Cut(resp.Header.Get("Proxy-Status"), `details="`)
			code, _, _ = strings.Cut(code, `"`)
			r := resp.Request
			p.mu.Lock()
			defer p.mu.Unlock()
			p.watched = append(p.watched, request{Message: "request", Method: r.Method, Path: r.URL.Path, Code: code, Status: resp.StatusCode})
			return nil
		},
	})
	t.Cleanup(web.Close)
	p.url = at("localhost", web)
}

// to returns what the access log, or who watches, has of a path, or of all below
// one that ends with a slash.
func (p *process) to(path string) []request {
	p.mu.Lock()
	all := slices.Clone(p.watched)
	p.mu.Unlock()
	for line := range strings.Lines(p.Text()) {
		var r request
		if json.Unmarshal([]byte(line), &r) == nil && r.Message == "request" {
			all = append(all, r)
		}
	}
	return slices.DeleteFunc(all, func(r request) bool { return !matches(path, r.Path) })
}
