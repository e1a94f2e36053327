//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

func TestEachPreset(t *testing.T) {
	t.Parallel()
	for _, v := range querysim.Vendors() {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, querysim.Options{}, nil)
			expectNames(t, w, w.start(t, w.env(v.Name)...))
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

func TestFaultRevokedTokenUnderPOSTs(t *testing.T) {
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
	// A login begins 1.2 s before the old token's end at the latest: on a busy
	// machine too it ends before that.
	w := newWorld(t, querysim.Options{Lifetime: 8 * time.Second, LoginDelay: 400 * time.Millisecond}, nil)
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
	// 60 s at 70 to 85 % of 8 s are 8 to 11 logins, the first aside.
	if st.Logins < 8 || st.Logins > 12 || st.LoginsAtOnce != 1 {
		t.Errorf("logins: got %d, %d at once; want 8 to 12, one at a time", st.Logins, st.LoginsAtOnce)
	}
	t.Logf("%d requests, %d logins", requests, st.Logins)
}

func TestFaultWrongPasswordThenHealed(t *testing.T) {
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
	eventually(t, soon, "healed by the new file", func() bool {
		status, _, _ := fetch(t, c, p.url+namesPath)
		return status == 200
	})
	if got := w.sim.Stats(); got.Logins != 2 || got.Queries == 0 || got.WithoutToken != 0 {
		t.Errorf("after the new file: got %+v, want 2 logins and no request without a token", got)
	}
}

func TestFaultLoginDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, querysim.Options{Lifetime: 10 * time.Second}, nil)
	p := w.start(t, w.env("vyopta")...)
	c := newClient(t)
	fetch(t, c, p.url+namesPath)
	expiry := time.UnixMilli(int64(1000 * p.metric("bearerd_token_expiry_timestamp_seconds")))
	w.sim.SetLoginDown(true)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for ; ; <-tick.C {
		sent := time.Now()
		status, _, _ := fetch(t, c, p.url+namesPath)
		if status != 200 && time.Now().Before(expiry) {
			t.Fatalf("%v before the token's end: got %d, want 200", time.Until(expiry), status)
		}
		if status == 200 && sent.After(expiry.Add(time.Millisecond)) {
			t.Fatalf("%v after the token's end: got 200", sent.Sub(expiry))
		}
		if status != 200 {
			break
		}
	}
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
	eventually(t, soon, "the login works", func() bool { return expectStatus(c, p.url+namesPath, 200) == nil })
	if got := w.sim.Stats().Logins; got != 2 {
		t.Errorf("logins: got %d, want 2", got)
	}
}

// An HTTP proxy of the environment carries login and requests, and is logged in
// to; its password is nowhere in the log.
func TestProxyFromEnvironment(t *testing.T) {
	t.Parallel()
	w := newWorld(t, querysim.Options{}, nil)
	const user, password = "proxy-user", "proxy-password"
	login, query := w.login.Config.Handler, w.query.Config.Handler
	hop := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		r.Header.Set("Authorization-For-Upstream", r.Header.Get("Authorization"))
		r.Header.Set("Authorization", r.Header.Get("Proxy-Authorization"))
		if u, p, ok := r.BasicAuth(); !ok || u != user || p != password {
			rw.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		r.Header.Del("Authorization")
		if token := r.Header.Get("Authorization-For-Upstream"); token != "" {
			r.Header.Set("Authorization", token)
		}
		switch r.URL.Host {
		case "login.vyopta.com":
			login.ServeHTTP(rw, r)
		case "query.example":
			query.ServeHTTP(rw, r)
		default:
			rw.WriteHeader(http.StatusBadGateway)
		}
	}))
	defer hop.Close()
	p := w.start(t, append(w.env("vyopta"),
		"BEARERD_TOKEN_URL=http://login.vyopta.com"+querysim.Vendors()[0].LoginPath,
		"BEARERD_UPSTREAM=http://query.example", "BEARERD_ALLOW_INSECURE=true",
		"HTTP_PROXY=http://"+user+":"+password+"@"+strings.TrimPrefix(hop.URL, "http://"))...)
	if err := expectStatus(newClient(t), p.url+namesPath, 200); err != nil {
		t.Error(err)
	}
	if !strings.Contains(p.text(), `"upstream_proxy":"`+hop.URL+`"`) {
		t.Error("the start-up line does not name the proxy")
	}
	if strings.Contains(p.text(), password) || strings.Contains(p.text(), user) {
		t.Error("the log holds the proxy's user information")
	}
}

func TestMissingPasswordFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, querysim.Options{}, nil)
	file := filepath.Join(t.TempDir(), "password")
	p := w.start(t, append(w.env("vyopta")[:3], "BEARERD_USERNAME="+querysim.Username, "BEARERD_PASSWORD_FILE="+file)...)
	c := newClient(t)
	if err := expectStatus(c, p.url+namesPath, 503); err != nil {
		t.Error(err)
	}
	eventually(t, soon, "the log says which file is awaited", func() bool {
		return strings.Contains(p.text(), "login waits for a file") && strings.Contains(p.text(), "it does not exist")
	})
	if err := os.WriteFile(file, []byte(querysim.Password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, soon, "the file is used", func() bool { return expectStatus(c, p.url+namesPath, 200) == nil })
	if got := w.sim.Stats().Logins; got != 1 {
		t.Errorf("logins: got %d, want 1: none without the file", got)
	}
}

// A client that does not end its body holds no connection of the admin listener.
func TestAdminWaitsForNoBody(t *testing.T) {
	t.Parallel()
	w := newWorld(t, querysim.Options{}, nil)
	p := w.start(t, w.env("vyopta")...)
	closedAfter(t, p.dial(p.admin, "GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nabc"))
}

// A client that never ends its header holds a connection for 10 s.
func TestFaultSlowHeaderClient(t *testing.T) {
	t.Parallel()
	w := newWorld(t, querysim.Options{}, nil)
	p := w.start(t, w.env("vyopta")...)
	held := closedAfter(t, p.dial(p.url, "GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: "))
	if held < 5*time.Second || held > 12*time.Second {
		t.Errorf("the connection was closed after %v, want 10 s", held)
	}
}

func TestFaultLeaderLeaves(t *testing.T) {
	t.Parallel()
	options, answerLogin := holdLogin(2)
	defer answerLogin()
	w := newWorld(t, options, nil)
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
	eventually(t, soon, "a second login", func() bool { return w.sim.Stats().Logins == 2 })
	const n = 20
	others := make(chan error)
	go func() {
		c := newClient(t)
		others <- many(n, func(int) error { return expectStatus(c, p.url+namesPath, 200) })
	}()
	waiting := func() float64 { return p.metric("bearerd_requests_in_flight") }
	eventually(t, soon, "all wait", func() bool { return waiting() == n+1 })
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("the leader: got %v, want canceled", err)
	}
	eventually(t, soon, "all but the leader wait", func() bool { return waiting() == n })
	answerLogin()
	if err := <-others; err != nil {
		t.Errorf("those who stayed: %v", err)
	}
	if got := w.sim.Stats().Logins; got != 2 {
		t.Errorf("logins: got %d, want 2", got)
	}
}

func TestThreatRedirectingLogin(t *testing.T) {
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

func TestFaultUpstreamCutsBodyShort(t *testing.T) {
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
	eventually(t, soon, "two requests counted as aborted", func() bool {
		return p.metric(`bearerd_requests_total{code="aborted",method="GET"}`) == 2
	})
}

func TestFaultUpstreamAlways401(t *testing.T) {
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
