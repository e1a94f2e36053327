//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
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
	eventually(t, 5*time.Second, "healed by the new file", func() bool {
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
	w.sim.SetLoginDown(true)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(7 * time.Second); time.Now().Before(end); <-tick.C {
		if err := expectStatus(c, p.url+namesPath, 200); err != nil {
			t.Fatalf("while the token is good: %v", err)
		}
	}
	eventually(t, 5*time.Second, "the token's end", func() bool {
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

func TestFaultSIGTERMWithRequestsInFlight(t *testing.T) {
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
	arrived, release := make(chan struct{}), make(chan struct{})
	w := newWorld(t, querysim.Options{}, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/slow":
			close(arrived)
			<-release
		case "/tunnel":
			rw.Header().Set("Connection", "Upgrade")
			rw.Header().Set("Upgrade", "websocket")
			rw.WriteHeader(http.StatusSwitchingProtocols)
		}
	}))
	const delay = 3 * time.Second
	p := w.start(t, append(w.env("vyopta"), "BEARERD_ALLOW_UPGRADE=true", "BEARERD_DRAIN_DELAY="+delay.String())...)
	c := newClient(t)
	// sentAway asks, and wants an answer that sends the client away, or the tunnel.
	sentAway := func(path, upgrade string) error {
		req, err := http.NewRequest("GET", p.url+path, nil)
		if err != nil {
			return err
		}
		if upgrade != "" {
			req.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {upgrade}}
		}
		resp, err := c.Do(req)
		if err != nil {
			return err
		}
		_ = resp.Body.Close()
		want := 200
		if path == "/tunnel" {
			want = http.StatusSwitchingProtocols
		}
		if resp.StatusCode != want || resp.Close != (want == 200) {
			return fmt.Errorf("%s: got %s, close: %v, want %d, close: %v", path, resp.Status, resp.Close, want, want == 200)
		}
		return nil
	}
	slow := make(chan error, 1)
	go func() { slow <- sentAway("/slow", "") }()
	<-arrived
	if err := expectStatus(c, p.admin+"/readyz", 200); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	expectDraining(t, p)
	for path, upgrade := range map[string]string{"/": "", "/h2c": "h2c", "/tunnel": "websocket"} {
		if err := sentAway(path, upgrade); err != nil {
			t.Errorf("within DRAIN_DELAY: %v", err)
		}
	}
	close(release)
	if err := <-slow; err != nil {
		t.Errorf("a request that was under way: %v", err)
	}
	if code := p.exitCode(10 * time.Second); code != 0 {
		t.Errorf("exit code: got %d, want 0", code)
	}
	if d := time.Since(began); d < delay {
		t.Errorf("it ended after %v, want DRAIN_DELAY first", d)
	}
}

// expectDraining waits for the stop to begin, and checks that all goes on
// meanwhile.
func expectDraining(t *testing.T, p *process) {
	t.Helper()
	eventually(t, time.Second, `/readyz says 503 "stopping"`, func() bool {
		status, _, body := fetch(t, http.DefaultClient, p.admin+"/readyz")
		return status == 503 && strings.Contains(body, `"reason":"stopping"`)
	})
	if err := expectStatus(newClient(t), p.url+"/", 200); err != nil {
		t.Errorf("a new connection within DRAIN_DELAY: %v", err)
	}
	if err := expectStatus(http.DefaultClient, p.admin+"/livez", 200); err != nil {
		t.Errorf("/livez within DRAIN_DELAY: %v", err)
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

// A thousand requests while the login fails are one line of the log, beside the
// login's own.
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
	if got := strings.Count(p.text(), "\n"); got != 3 || !strings.Contains(p.text(), sayNoToken) {
		t.Errorf("lines in all: got %d, want the start-up line, the error, and that requests fail", got)
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

// Nobody reads the log: requests may wait for that, a second signal may not.
func TestSecondSignalWithAStuckLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t, querysim.Options{}, nil)
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	r, stuck, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command(path)
	cmd.Env = append([]string{"BEARERD_LISTEN=127.0.0.1:0", "BEARERD_ADMIN_LISTEN=off"}, w.env("vyopta")...)
	cmd.Stderr = stuck
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill() }()
	_ = stuck.Close()
	lines := bufio.NewReader(r)
	line, err := lines.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var start struct{ Listen []string }
	if err := json.Unmarshal([]byte(line), &start); err != nil {
		t.Fatal(err)
	}
	// Requests until the log's pipe is full and one of them is held up by it.
	c := newClient(t)
	c.Timeout = time.Second
	long := "http://" + start.Listen[0] + "/" + strings.Repeat("x", 4<<10)
	for expectStatus(c, long, 404) == nil {
	}
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		_ = cmd.Wait()
	}()
	for range 2 {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		select { // two signals at one moment may come as one
		case <-exited:
		case <-time.After(500 * time.Millisecond):
		}
	}
	select {
	case <-exited:
		if got := cmd.ProcessState.ExitCode(); got != 1 {
			t.Errorf("exit code: got %d, want 1", got)
		}
	case <-time.After(5 * time.Second):
		t.Error("still running 5 s after the second signal")
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
	eventually(t, 5*time.Second, "the log says which file is awaited", func() bool {
		return strings.Contains(p.text(), "login waits for a file") && strings.Contains(p.text(), "it does not exist")
	})
	if err := os.WriteFile(file, []byte(querysim.Password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "the file is used", func() bool { return expectStatus(c, p.url+namesPath, 200) == nil })
	if got := w.sim.Stats().Logins; got != 1 {
		t.Errorf("logins: got %d, want 1: none without the file", got)
	}
}

// An upstream that sends more than it announced, and echoes the request: the
// transport of net/http would show that to the standard logger.
func TestUnsolicitedBytesAreNotLogged(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	sent := make(chan struct{})
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		r, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil {
			return
		}
		fmt.Fprintf(conn, "HTTP/1.1 204 No Content\r\n\r\nunasked %s", r.Header.Get("Authorization"))
		close(sent)
		_, _ = io.Copy(io.Discard, conn) // until bearerd gives the connection up
	}()
	w := newWorld(t, querysim.Options{}, nil)
	p := w.start(t, append(w.env("vyopta"), "BEARERD_UPSTREAM=http://"+l.Addr().String())...)
	if err := expectStatus(newClient(t), p.url+"/", 204); err != nil {
		t.Fatal(err)
	}
	<-sent
	p.stop(syscall.SIGTERM, 5*time.Second)
	for _, part := range []string{"unasked", "Bearer", "Unsolicited"} {
		if strings.Contains(p.text(), part) {
			t.Errorf("the log has %q of what upstream sent:\n%s", part, p.text())
		}
	}
}

// The log says why upstream cannot be reached.
func TestUpstreamFailureHasACause(t *testing.T) {
	t.Parallel()
	w := newWorld(t, querysim.Options{}, nil)
	untrusted := httptest.NewUnstartedServer(nil)
	untrusted.Config.ErrorLog = log.New(io.Discard, "", 0)
	untrusted.StartTLS()
	defer untrusted.Close()
	gone := httptest.NewServer(nil)
	gone.Close()
	for url, cause := range map[string]string{untrusted.URL: "signed by an unknown authority", gone.URL: "connection refused"} {
		p := w.start(t, append(w.env("vyopta"), "BEARERD_UPSTREAM="+url)...)
		if err := expectStatus(newClient(t), p.url+"/", 502); err != nil {
			t.Error(err)
		}
		eventually(t, 5*time.Second, cause, func() bool {
			return strings.Contains(p.text(), `"code":"upstream_unreachable"`) && strings.Contains(p.text(), cause)
		})
	}
}

// A client that has its answer but does not end its body delays no stop.
func TestUnsentBodyDelaysNoStop(t *testing.T) {
	t.Parallel()
	w := newWorld(t, querysim.Options{}, nil)
	p := w.start(t, w.env("vyopta")...)
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 100\r\n\r\nabc"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != http.StatusMisdirectedRequest {
		t.Fatalf("got %v %v, want 421", resp, err)
	}
	if code := p.stop(syscall.SIGTERM, 5*time.Second); code != 0 {
		t.Errorf("exit code: got %d, want 0", code)
	}
}

// Nor does one hold a connection of the admin listener.
func TestAdminWaitsForNoBody(t *testing.T) {
	t.Parallel()
	w := newWorld(t, querysim.Options{}, nil)
	p := w.start(t, w.env("vyopta")...)
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.admin, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nabc"); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(15 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, conn); err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("after 15 s: got %v, want the connection closed", err)
	}
}

// A client that never ends its header holds a connection for 10 s.
func TestFaultSlowHeaderClient(t *testing.T) {
	t.Parallel()
	w := newWorld(t, querysim.Options{}, nil)
	p := w.start(t, w.env("vyopta")...)
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: "); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(15 * time.Second)); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if _, err := io.Copy(io.Discard, conn); err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the connection after 15 s: got %v, want closed", err)
	}
	if held := time.Since(began); held < 5*time.Second || held > 12*time.Second {
		t.Errorf("the connection was closed after %v, want 10 s", held)
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
			if !strings.Contains(p.text(), `"outcome":"aborted"`) {
				t.Error("the access log does not have the stream as aborted")
			}
		})
	}
}

func TestFaultLeaderLeaves(t *testing.T) {
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
	eventually(t, 5*time.Second, "two requests counted as aborted", func() bool {
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
