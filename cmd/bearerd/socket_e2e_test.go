//go:build unix

package main

import (
	"context"
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/bearerd/bearerd/cmd/internal/admin"
	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

// getAs asks the listener at url with a Host header.
func getAs(t testing.TB, method, url, path, host string) (int, string) {
	t.Helper()
	c, base := bearerdtest.ClientAt(t, url)
	req, err := http.NewRequest(method, base+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	status, _, body := bearerdtest.Do(t, c, req)
	return status, body
}

// endsWith runs bearerd, which must end by itself, and returns its exit code
// and what it wrote.
func endsWith(t testing.TB, args []string, env ...string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bearerdtest.Soon)
	defer cancel()
	cmd := exec.CommandContext(ctx, bearerdtest.Program(t), args...)
	cmd.Env = env
	out, _ := cmd.CombinedOutput()
	return cmd.ProcessState.ExitCode(), string(out)
}

// The whole of bearerd over unix sockets, to its end by SIGTERM with a request
// under way.
func TestUnixSockets(t *testing.T) {
	dir := bearerdtest.SocketDir(t)
	data, adminAt := "unix:"+filepath.Join(dir, "data.sock"), "unix:"+filepath.Join(dir, "admin.sock")
	arrived, release := make(chan bool, 1), make(chan bool)
	w := bearerdtest.NewWorld(t, querysim.Options{}, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			arrived <- true
			<-release
		}
		_, _ = io.WriteString(rw, "hello")
	}))
	p := w.Serve(t, "BEARERD_LISTEN="+data, "BEARERD_ADMIN_LISTEN="+adminAt)
	if p.URL != data || p.Admin != adminAt {
		t.Errorf("the start-up line shows %s and %s, want %s and %s", p.URL, p.Admin, data, adminAt)
	}
	for _, url := range []string{data, adminAt} {
		info, err := os.Lstat(strings.TrimPrefix(url, "unix:"))
		if err != nil || info.Mode() != fs.ModeSocket|0o600 {
			t.Errorf("%s: got the mode %v, %v", url, info.Mode(), err)
		}
	}
	for _, host := range []string{"localhost", "evil.example"} { // no page reaches a unix socket
		if got, body := getAs(t, "GET", data, "/x", host); got != 200 {
			t.Errorf("Host %s: got %d %s, want 200", host, got, body)
		}
	}
	if code, out := endsWith(t, []string{"healthcheck", "-wait", "10s"}, "BEARERD_ADMIN_LISTEN="+adminAt); code != 0 || out != "ready\n" {
		t.Errorf("healthcheck: got %d %q, want 0 and ready", code, out)
	}
	for _, ask := range []struct {
		method, path, host string
		want               int
	}{
		{"GET", "/readyz", "evil.example", 200},
		{"GET", "/status", "localhost", 200},
		{"GET", "/status", "evil.example", 421},
		{"POST", "/login", "localhost", 202},
		{"POST", "/login", "evil.example", 421},
	} {
		if got, body := getAs(t, ask.method, adminAt, ask.path, ask.host); got != ask.want {
			t.Errorf("%s %s, Host %s: got %d %s, want %d", ask.method, ask.path, ask.host, got, body, ask.want)
		}
	}
	var page admin.Status
	if _, body := getAs(t, "GET", adminAt, "/status", "localhost"); json.Unmarshal([]byte(body), &page) != nil ||
		!slices.Equal(page.Listen, []string{data}) || !slices.Equal(page.Admin, []string{adminAt}) {
		t.Errorf("/status: got %q and %q", page.Listen, page.Admin)
	}

	// A second one, which finds both taken, changes nothing for the first.
	code, out := endsWith(t, nil, append(w.Env("vyopta"), "BEARERD_LISTEN="+data, "BEARERD_ADMIN_LISTEN=off")...)
	if code != 1 || !strings.Contains(out, "another program answers there") || !strings.Contains(out, "BEARERD_LISTEN") {
		t.Errorf("a second bearerd: got %d %q", code, out)
	}
	own := filepath.Join(dir, "own.sock")
	code, out = endsWith(t, nil, append(w.Env("vyopta"), "BEARERD_LISTEN=unix:"+own, "BEARERD_ADMIN_LISTEN="+adminAt)...)
	if code != 1 || !strings.Contains(out, "BEARERD_ADMIN_LISTEN") || bearerdtest.IsThere(own) {
		t.Errorf("a second bearerd: got %d %q; its socket is there: %v", code, out, bearerdtest.IsThere(own))
	}

	answer := make(chan string, 1)
	go func() {
		_, body := getAs(t, "GET", data, "/slow", "localhost")
		answer <- body
	}()
	<-arrived
	p.Signal(syscall.SIGTERM)
	bearerdtest.Eventually(t, bearerdtest.Soon, "the data socket is gone", func() bool { return !bearerdtest.IsThere(strings.TrimPrefix(data, "unix:")) })
	if got, _ := getAs(t, "GET", adminAt, "/readyz", "localhost"); got != 503 {
		t.Errorf("/readyz while stopping: got %d, want 503", got)
	}
	close(release)
	if got := <-answer; got != "hello" {
		t.Errorf("the request under way: got %q, want hello", got)
	}
	if code := p.ExitCode(bearerdtest.AtOnce); code != 0 {
		t.Errorf("exit code: got %d, want 0", code)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// What a killed one leaves is replaced; what a successor made is not removed.
func TestUnixSocketsOfOnesThatWereKilled(t *testing.T) {
	t.Parallel()
	path := filepath.Join(bearerdtest.SocketDir(t), "s")
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	env := append(w.Env("vyopta"), "BEARERD_LISTEN=unix:"+path, "BEARERD_ADMIN_LISTEN=localhost:0")
	killed := w.Start(t, env...)
	if code := killed.Stop(syscall.SIGKILL, bearerdtest.AtOnce); code == 0 || !bearerdtest.IsThere(path) {
		t.Fatalf("SIGKILL: exit code %d, socket there: %v", code, bearerdtest.IsThere(path))
	}
	second := w.Start(t, env...)
	if got, body := getAs(t, "GET", second.URL, bearerdtest.NamesPath, "localhost"); got != 200 {
		t.Errorf("over a stale socket: got %d %s, want 200", got, body)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	third := w.Start(t, env...)
	if code := second.Stop(syscall.SIGTERM, bearerdtest.AtOnce); code != 0 {
		t.Errorf("exit code: got %d, want 0", code)
	}
	if got, body := getAs(t, "GET", third.URL, bearerdtest.NamesPath, "localhost"); got != 200 {
		t.Errorf("after the one before has ended: got %d %s, want 200", got, body)
	}
}

// Two signals, or a failure, end it at once, and its sockets with it.
func TestUnixSocketsAfterASecondSignal(t *testing.T) {
	t.Parallel()
	path := filepath.Join(bearerdtest.SocketDir(t), "s")
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	p := w.Serve(t, "BEARERD_LISTEN=unix:"+path, "BEARERD_DRAIN_DELAY=1m")
	p.Signal(syscall.SIGTERM)
	bearerdtest.Eventually(t, bearerdtest.Soon, "stopping", func() bool { return strings.Contains(p.Text(), `"stopping"`) })
	if code := p.Stop(syscall.SIGTERM, bearerdtest.AtOnce); code != 1 || bearerdtest.IsThere(path) {
		t.Errorf("got exit code %d, socket there: %v; want 1 and none", code, bearerdtest.IsThere(path))
	}
}
