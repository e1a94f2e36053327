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
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/longtest"
	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

func TestEachPreset(t *testing.T) {
	t.Parallel()
	for _, v := range querysim.Vendors() {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
			expectNames(t, w, w.Start(t, w.Env(v.Name)...))
		})
	}
	t.Run("graphnet with a user's password", func(t *testing.T) {
		t.Parallel()
		w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
		expectNames(t, w, w.Start(t, append(w.Env("graphnet"), "BEARERD_GRANT_TYPE=password",
			"BEARERD_USERNAME="+querysim.Username, "BEARERD_PASSWORD="+querysim.Password)...))
	})
}

func expectNames(t *testing.T, w *bearerdtest.World, p *bearerdtest.Process) {
	t.Helper()
	status, _, body := bearerdtest.Fetch(t, bearerdtest.NewClient(t), p.URL+bearerdtest.NamesPath)
	var names []string
	if status != 200 || json.Unmarshal([]byte(body), &names) != nil || len(names) == 0 {
		t.Errorf("GET %s: got %d %q, want 200 and names", bearerdtest.NamesPath, status, body)
	}
	if got := w.Sim.Stats(); got.LoginsOK != 1 || got.Logins != 1 {
		t.Errorf("logins: got %+v, want one, and that ok", got)
	}
	if code := p.Stop(syscall.SIGTERM, bearerdtest.AtOnce); code != 0 {
		t.Errorf("exit code after SIGTERM: got %d, want 0", code)
	}
}

// patientDial is for where thousands come: on a busy machine a handshake, or its
// turn, may take long.
const patientDial = "BEARERD_DIAL_TIMEOUT=30s"

func TestColdStartIsOneLogin(t *testing.T) {
	w := bearerdtest.NewWorld(t, querysim.Options{LoginDelay: 500 * time.Millisecond}, nil)
	p := w.Serve(t, patientDial)
	c := bearerdtest.NewClient(t)
	if err := bearerdtest.Many(2000, func(int) error { return bearerdtest.ExpectStatus(c, p.URL+bearerdtest.NamesPath, 200) }); err != nil {
		t.Error(bearerdtest.FirstLines(err))
	}
	if got := w.Sim.Stats().Logins; got != 1 {
		t.Errorf("logins for 2,000 requests at a cold start: got %d, want 1", got)
	}
}

func TestFaultRevokedTokenUnderPOSTs(t *testing.T) {
	w := bearerdtest.NewWorld(t, querysim.Options{LoginDelay: 200 * time.Millisecond}, http.HandlerFunc(bearerdtest.Digest))
	p := w.Serve(t, patientDial)
	c := bearerdtest.NewClient(t)
	bearerdtest.Fetch(t, c, p.URL+"/") // has the first token
	w.Sim.Revoke()
	err := bearerdtest.Many(1000, func(i int) error {
		body := bytes.Repeat(fmt.Appendf(nil, "body %d,", i), 200)
		resp, err := c.Post(p.URL+"/post", "text/plain", bytes.NewReader(body))
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		got, err := io.ReadAll(resp.Body)
		if want := bearerdtest.DigestReader(bytes.NewReader(body)); err != nil || resp.StatusCode != 200 || string(got) != want {
			return fmt.Errorf("POST %d: got %d %q %v, want 200 %q", i, resp.StatusCode, got, err, want)
		}
		return nil
	})
	if err != nil {
		t.Error(bearerdtest.FirstLines(err))
	}
	if got := w.Sim.Stats(); got.Logins != 2 || got.LoginsAtOnce != 1 {
		t.Errorf("logins for 1,000 POSTs on a revoked token: got %d more, %d at once, want 1 and 1", got.Logins-1, got.LoginsAtOnce)
	}
}

func TestShortTokensNobodyWaits(t *testing.T) {
	longtest.Mark(t, "takes a minute")
	t.Parallel()
	// A login begins 1.2 s before the old token's end at the latest: on a busy
	// machine too it ends before that.
	w := bearerdtest.NewWorld(t, querysim.Options{Lifetime: 8 * time.Second, LoginDelay: 400 * time.Millisecond}, nil)
	p := w.Serve(t)
	c := bearerdtest.NewClient(t)
	bearerdtest.Fetch(t, c, p.URL+bearerdtest.NamesPath)
	var requests int
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); <-tick.C {
		if err := bearerdtest.ExpectStatus(c, p.URL+bearerdtest.NamesPath, 200); err != nil {
			t.Fatalf("request %d: %v", requests, err)
		}
		requests++
	}
	// A login takes 400 ms, so who waited for one is beyond the 250 ms bucket.
	all := p.Metric("bearerd_token_wait_seconds_count")
	soon := p.Metric(`bearerd_token_wait_seconds_bucket{le="0.25"}`)
	if waited := all - soon; waited > 1 {
		t.Errorf("requests that waited for a login: got %v, want only the first", waited)
	}
	if all < float64(requests) {
		t.Errorf("requests counted: got %v, want at least %d", all, requests)
	}
	st := w.Sim.Stats()
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
	longtest.Mark(t, "takes half a minute")
	t.Parallel()
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	file := bearerdtest.WriteFile(t, "wrong\n")
	p := w.Serve(t, "BEARERD_PASSWORD=", "BEARERD_PASSWORD_FILE="+file)
	c := bearerdtest.NewClient(t)
	started := time.Now()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	var requests int
	for time.Since(started) < 25*time.Second {
		status, _, body := bearerdtest.Fetch(t, c, p.URL+bearerdtest.NamesPath)
		if status != 502 || !strings.Contains(body, `"code":"login_rejected"`) {
			t.Fatalf("with a wrong password: got %d %q, want 502 login_rejected", status, body)
		}
		requests++
		<-tick.C
	}
	if got := w.Sim.Stats().Logins; got != 1 {
		t.Errorf("logins in 25 s with a wrong password and %d requests: got %d, want 1", requests, got)
	}
	bearerdtest.Put(t, file, querysim.Password+"\n")
	bearerdtest.Eventually(t, bearerdtest.Soon, "healed by the new file", func() bool {
		status, _, _ := bearerdtest.Fetch(t, c, p.URL+bearerdtest.NamesPath)
		return status == 200
	})
	if got := w.Sim.Stats(); got.Logins != 2 || got.Queries == 0 || got.WithoutToken != 0 {
		t.Errorf("after the new file: got %+v, want 2 logins and no request without a token", got)
	}
}

func TestFaultLoginDown(t *testing.T) {
	t.Parallel()
	w := bearerdtest.NewWorld(t, querysim.Options{Lifetime: 10 * time.Second}, nil)
	p := w.Serve(t)
	c := bearerdtest.NewClient(t)
	bearerdtest.Fetch(t, c, p.URL+bearerdtest.NamesPath)
	expiry := time.UnixMilli(int64(1000 * p.Metric("bearerd_token_expiry_timestamp_seconds")))
	w.Sim.SetLoginDown(true)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for ; ; <-tick.C {
		sent := time.Now()
		status, _, _ := bearerdtest.Fetch(t, c, p.URL+bearerdtest.NamesPath)
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
	before := w.Sim.Stats().Queries
	for range 50 {
		var (
			status int
			header http.Header
			body   string
		)
		bearerdtest.Within(t, time.Second, func() { status, header, body = bearerdtest.Fetch(t, c, p.URL+bearerdtest.NamesPath) })
		if status != 503 || header.Get("Retry-After") == "" || !strings.Contains(body, `"code":"login_unavailable"`) {
			t.Fatalf("after the token's end: got %d, Retry-After %q, %q; want 503 login_unavailable", status, header.Get("Retry-After"), body)
		}
	}
	if got := w.Sim.Stats(); got.Queries != before || got.WithoutToken != 0 {
		t.Errorf("requests upstream after the token's end: got %d, %d of them without a token; want none", got.Queries-before, got.WithoutToken)
	}
	w.Sim.SetLoginDown(false)
	bearerdtest.Eventually(t, bearerdtest.Soon, "the login works again", func() bool {
		status, _, _ := bearerdtest.Fetch(t, c, p.URL+bearerdtest.NamesPath)
		return status == 200
	})
}

func TestSIGHUPLogsInAgain(t *testing.T) {
	t.Parallel()
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	w.Sim.SetPassword("changed")
	p := w.Serve(t)
	c := bearerdtest.NewClient(t)
	if err := bearerdtest.ExpectStatus(c, p.URL+bearerdtest.NamesPath, 502); err != nil {
		t.Fatal(err)
	}
	w.Sim.SetPassword(querysim.Password)
	p.Signal(syscall.SIGHUP)
	bearerdtest.Eventually(t, bearerdtest.Soon, "the login works", func() bool { return bearerdtest.ExpectStatus(c, p.URL+bearerdtest.NamesPath, 200) == nil })
	if got := w.Sim.Stats().Logins; got != 2 {
		t.Errorf("logins: got %d, want 2", got)
	}
}

// A proxy carries login and requests, and is logged in to, whichever setting names
// it; its password is nowhere in the log. The setting goes before the environment.
func TestProxy(t *testing.T) {
	t.Parallel()
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	const user, password = "proxy-user", "proxy-password"
	login, query := w.Login.Config.Handler, w.Query.Config.Handler
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
	address := strings.TrimPrefix(hop.URL, "http://")
	via := "http://" + user + ":" + password + "@" + address
	for name, env := range map[string][]string{
		"environment":        {"HTTP_PROXY=" + via},
		"env":                {"HTTP_PROXY=" + via, "BEARERD_PROXY=env"},
		"setting":            {"BEARERD_PROXY=" + via},
		"before environment": {"BEARERD_PROXY=" + via, "HTTP_PROXY=http://127.0.0.1:1"},
		"file":               {"BEARERD_PROXY_FILE=" + bearerdtest.WriteFile(t, via+"\n")},
	} {
		t.Run(name, func(t *testing.T) {
			p := w.Serve(t, append(env, "BEARERD_TOKEN_URL=http://login.vyopta.com"+querysim.Vendors()[0].LoginPath,
				"BEARERD_UPSTREAM=http://query.example", "BEARERD_ALLOW_INSECURE=true")...)
			if err := bearerdtest.ExpectStatus(bearerdtest.NewClient(t), p.URL+bearerdtest.NamesPath, 200); err != nil {
				t.Error(err)
			}
			if !strings.Contains(p.Text(), `"upstream_proxy":"`+hop.URL+`"`) || !strings.Contains(p.Text(), `"login_proxy":"`+hop.URL+`"`) {
				t.Error("the start-up line does not name the proxy")
			}
			if strings.Contains(p.Text(), password) || strings.Contains(p.Text(), user) {
				t.Error("the log holds the proxy's user information")
			}
		})
	}
}

// With off the environment's proxy is not used; a file that changes is taken up.
func TestProxyOff(t *testing.T) {
	t.Parallel()
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	c := bearerdtest.NewClient(t)
	p := w.Serve(t, "BEARERD_PROXY=off", "HTTP_PROXY=http://127.0.0.1:1")
	if err := bearerdtest.ExpectStatus(c, p.URL+bearerdtest.NamesPath, 200); err != nil {
		t.Error(err)
	}
	file := bearerdtest.WriteFile(t, "http://127.0.0.1:1")
	p = w.Serve(t, "BEARERD_PROXY_FILE="+file)
	if err := bearerdtest.ExpectStatus(c, p.URL+bearerdtest.NamesPath, 503); err != nil {
		t.Error(err)
	}
	bearerdtest.Put(t, file, "off\n")
	bearerdtest.Eventually(t, bearerdtest.Soon, "another way out", func() bool {
		return bearerdtest.ExpectStatus(c, p.URL+bearerdtest.NamesPath, 200) == nil
	})
	p.Until("changed file taken up")
}

func TestMissingPasswordFile(t *testing.T) {
	t.Parallel()
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	file := filepath.Join(t.TempDir(), "password")
	p := w.Serve(t, "BEARERD_PASSWORD=", "BEARERD_PASSWORD_FILE="+file)
	c := bearerdtest.NewClient(t)
	if err := bearerdtest.ExpectStatus(c, p.URL+bearerdtest.NamesPath, 503); err != nil {
		t.Error(err)
	}
	bearerdtest.Eventually(t, bearerdtest.Soon, "the log says which file is awaited", func() bool {
		return strings.Contains(p.Text(), "login waits for a file") && strings.Contains(p.Text(), "it does not exist")
	})
	bearerdtest.Put(t, file, querysim.Password+"\n")
	bearerdtest.Eventually(t, bearerdtest.Soon, "the file is used", func() bool { return bearerdtest.ExpectStatus(c, p.URL+bearerdtest.NamesPath, 200) == nil })
	if got := w.Sim.Stats().Logins; got != 1 {
		t.Errorf("logins: got %d, want 1: none without the file", got)
	}
}

// A client that does not end its body holds no connection of the admin listener.
func TestAdminWaitsForNoBody(t *testing.T) {
	t.Parallel()
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	p := w.Serve(t)
	bearerdtest.ClosedAfter(t, p.Dial(p.Admin, "GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nabc"))
}

// A client that never ends its header holds a connection for 10 s.
func TestFaultSlowHeaderClient(t *testing.T) {
	t.Parallel()
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	p := w.Serve(t)
	held := bearerdtest.ClosedAfter(t, p.Dial(p.URL, "GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: "))
	if held < 5*time.Second || held > 25*time.Second {
		t.Errorf("the connection was closed after %v, want 10 s", held)
	}
}

func TestFaultLeaderLeaves(t *testing.T) {
	t.Parallel()
	options, answerLogin := bearerdtest.HoldLogin(2)
	defer answerLogin()
	w := bearerdtest.NewWorld(t, options, nil)
	p := w.Serve(t)
	bearerdtest.Fetch(t, bearerdtest.NewClient(t), p.URL+bearerdtest.NamesPath)
	w.Sim.Revoke()
	// The first request causes the login and leaves; the others wait for it.
	ctx, leave := context.WithCancel(context.Background())
	left := make(chan error)
	go func() {
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, p.URL+bearerdtest.NamesPath, nil)
		_, err := bearerdtest.NewClient(t).Do(req)
		left <- err
	}()
	bearerdtest.Eventually(t, bearerdtest.Soon, "a second login", func() bool { return w.Sim.Stats().Logins == 2 })
	const n = 20
	others := make(chan error)
	go func() {
		c := bearerdtest.NewClient(t)
		others <- bearerdtest.Many(n, func(int) error { return bearerdtest.ExpectStatus(c, p.URL+bearerdtest.NamesPath, 200) })
	}()
	waiting := func() float64 { return p.Metric("bearerd_requests_in_flight") }
	bearerdtest.Eventually(t, bearerdtest.Soon, "all wait", func() bool { return waiting() == n+1 })
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("the leader: got %v, want canceled", err)
	}
	bearerdtest.Eventually(t, bearerdtest.Soon, "all but the leader wait", func() bool { return waiting() == n })
	answerLogin()
	if err := <-others; err != nil {
		t.Errorf("those who stayed: %v", err)
	}
	if got := w.Sim.Stats().Logins; got != 2 {
		t.Errorf("logins: got %d, want 2", got)
	}
}

func TestThreatRedirectingLogin(t *testing.T) {
	t.Parallel()
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	var elsewhere sync.Map
	thief := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		elsewhere.Store(string(body), true)
	}))
	defer thief.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		redirect := httptest.NewServer(http.RedirectHandler(thief.URL, status))
		defer redirect.Close()
		p := w.Serve(t, "BEARERD_TOKEN_URL="+redirect.URL)
		got, _, body := bearerdtest.Fetch(t, bearerdtest.NewClient(t), p.URL+bearerdtest.NamesPath)
		if got != 503 || !strings.Contains(body, "login_unavailable") {
			t.Errorf("login redirects with %d: got %d %q, want 503 login_unavailable", status, got, body)
		}
	}
	elsewhere.Range(func(body, _ any) bool {
		t.Errorf("the redirect was followed, with %d bytes", len(body.(string)))
		return true
	})
	if got := w.Sim.Stats().Queries; got != 0 {
		t.Errorf("requests upstream: got %d, want 0", got)
	}
}

func TestFaultUpstreamCutsBodyShort(t *testing.T) {
	t.Parallel()
	w := bearerdtest.NewWorld(t, querysim.Options{}, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/known" {
			rw.Header().Set("Content-Length", "1000000")
		}
		_, _ = rw.Write(make([]byte, 1000))
		_ = http.NewResponseController(rw).Flush()
		panic(http.ErrAbortHandler)
	}))
	p := w.Serve(t)
	for _, path := range []string{"/known", "/chunked"} {
		resp, err := bearerdtest.NewClient(t).Get(p.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if err == nil {
			t.Errorf("%s: got %d bytes and a clean end, want an aborted connection", path, n)
		}
	}
	bearerdtest.Eventually(t, bearerdtest.Soon, "two requests counted as aborted", func() bool {
		return p.Metric(`bearerd_requests_total{code="aborted",method="GET"}`) == 2
	})
}

func TestFaultUpstreamAlways401(t *testing.T) {
	longtest.Mark(t, "takes a minute")
	t.Parallel()
	w := bearerdtest.NewWorld(t, querysim.Options{}, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/forbidden" {
			rw.Header().Set("WWW-Authenticate", "Bearer")
			rw.WriteHeader(401)
			_, _ = io.WriteString(rw, "not for you")
		}
	}))
	p := w.Serve(t)
	c := bearerdtest.NewClient(t)
	bearerdtest.Fetch(t, c, p.URL+"/allowed")
	revoked := false
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for start := time.Now(); time.Since(start) < time.Minute; <-tick.C {
		status, header, body := bearerdtest.Fetch(t, c, p.URL+"/forbidden")
		if status != 401 || body != "not for you" || header.Get("WWW-Authenticate") != "Bearer" {
			t.Fatalf("got %d %q, want upstream's own 401", status, body)
		}
		if !revoked && time.Since(start) > 20*time.Second {
			revoked = true
			w.Sim.Revoke()
			if err := bearerdtest.ExpectStatus(c, p.URL+"/allowed", 200); err != nil {
				t.Errorf("a real revocation while a forbidden path is hammered: %v", err)
			}
		}
	}
	// The first, three at once, two after 10 and 20 s more, and the revocation's.
	if got := w.Sim.Stats().Logins; got > 7 {
		t.Errorf("logins in a minute, the first and the revocation's included: got %d, want at most 7", got)
	}
}
