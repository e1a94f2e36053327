package main

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/endpoint"
)

func runHealthcheck(t *testing.T, signals chan os.Signal, environ []string, args ...string) (code int, said string) {
	t.Helper()
	var stdout, stderr bearerdtest.Output
	code = run(append([]string{"healthcheck"}, args...), environ, signals, &stdout, &stderr)
	return code, stdout.String() + stderr.String()
}

// readyz is an admin listener that says what it is told to.
func readyz(reason *atomic.Pointer[string]) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" {
			http.NotFound(w, r)
			return
		}
		why := reason.Load()
		if why != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"ok": why == nil, "reason": why})
	})
}

func TestHealthcheck(t *testing.T) {
	var reason atomic.Pointer[string]
	server := httptest.NewServer(readyz(&reason))
	defer server.Close()
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	at := func(s *httptest.Server) string { return "BEARERD_ADMIN_LISTEN=" + s.Listener.Addr().String() }
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	file := bearerdtest.WriteFile(t, at(server)+"\n")
	notReady := "the login server refuses the credentials"
	for _, test := range []struct {
		name    string
		environ []string
		args    []string
		reason  *string
		code    int
		want    string
	}{
		{"ready", []string{at(server)}, nil, nil, 0, "ready"},
		{"all of IPv4", []string{"BEARERD_ADMIN_LISTEN=0.0.0.0:" + port}, nil, nil, 0, "ready"},
		{"all addresses", []string{"BEARERD_ADMIN_LISTEN=:" + port}, nil, nil, 0, "ready"},
		{"localhost", []string{"BEARERD_ADMIN_LISTEN=localhost:" + port}, nil, nil, 0, "ready"},
		{"through no proxy", []string{at(server), "HTTP_PROXY=" + other.URL}, nil, nil, 0, "ready"},
		{"needs no other setting, and minds none", []string{at(server), "BEARERD_PRESET=nonsense", "BEARERD_X=y"}, nil, nil, 0, "ready"},
		{"from a file", nil, []string{"-env-file", file}, nil, 0, "ready"},
		{"not ready", []string{at(server)}, nil, &notReady, 1, "not ready: " + notReady},
		{"not ready within a moment", []string{at(server)}, []string{"-wait", "200ms"}, &notReady, 1, "not ready: " + notReady},
		{"off", []string{"BEARERD_ADMIN_LISTEN=off"}, nil, nil, 1, "off"},
		{"port 0", []string{"BEARERD_ADMIN_LISTEN=localhost:0"}, nil, nil, 1, "port 0"},
		{"no address", []string{"BEARERD_ADMIN_LISTEN=x"}, nil, nil, 1, "BEARERD_ADMIN_LISTEN"},
		{"nobody there", []string{"BEARERD_ADMIN_LISTEN=127.0.0.1:1"}, nil, nil, 1, "no answer at"},
		{"another program", []string{at(other)}, nil, nil, 1, "another program"},
		{"no such file", nil, []string{"-env-file", file + "x"}, nil, 1, "-env-file"},
		{"a wrong flag", nil, []string{"-wiat", "3s"}, nil, 1, "-wiat"},
	} {
		t.Run(test.name, func(t *testing.T) {
			reason.Store(test.reason)
			code, said := runHealthcheck(t, nil, test.environ, test.args...)
			if code != test.code || !strings.Contains(said, test.want) {
				t.Errorf("got %d %q, want %d and %q", code, said, test.code, test.want)
			}
		})
	}
}

func TestHealthcheckOfAUnixSocket(t *testing.T) {
	if !endpoint.HasSocketMode {
		t.Skip("bearerd makes none on this system")
	}
	path := filepath.Join(t.TempDir(), "admin.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Skip(err)
	}
	var reason atomic.Pointer[string]
	server := &httptest.Server{Listener: l, Config: &http.Server{Handler: readyz(&reason)}}
	server.Start()
	defer server.Close()
	if code, said := runHealthcheck(t, nil, []string{"BEARERD_ADMIN_LISTEN=unix:" + path}); code != 0 {
		t.Errorf("got %d %q, want 0", code, said)
	}
}

// It waits for a bearerd that is not there yet, then not ready, then ready.
func TestHealthcheckWaits(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan bool, 100)
	var reason atomic.Pointer[string]
	why := "the first login is under way"
	reason.Store(&why)
	handler := readyz(&reason)
	server := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler.ServeHTTP(w, r)
		asked <- true
	})}}
	code := make(chan int, 1)
	go func() {
		c, _ := runHealthcheck(t, nil, []string{"BEARERD_ADMIN_LISTEN=" + l.Addr().String()}, "-wait", "20s")
		code <- c
	}()
	server.Start()
	defer server.Close()
	<-asked
	<-asked
	select {
	case c := <-code:
		t.Fatalf("ended with %d before it was ready", c)
	default:
	}
	reason.Store(nil)
	select {
	case c := <-code:
		if c != 0 {
			t.Errorf("got exit code %d, want 0", c)
		}
	case <-time.After(bearerdtest.Soon):
		t.Error("still waits, and bearerd is ready")
	}
}

func TestHealthcheckEndsAtASignal(t *testing.T) {
	var reason atomic.Pointer[string]
	why := "stopping"
	reason.Store(&why)
	server := httptest.NewServer(readyz(&reason))
	defer server.Close()
	signals := make(chan os.Signal, 1)
	signals <- syscall.SIGTERM
	start := time.Now()
	code, _ := runHealthcheck(t, signals, []string{"BEARERD_ADMIN_LISTEN=" + server.Listener.Addr().String()}, "-wait", "5m")
	if code != exitFailed || time.Since(start) > bearerdtest.Soon {
		t.Errorf("got exit code %d after %v, want 1 at once", code, time.Since(start))
	}
}

// -wait is the most that it takes, whatever is at the address.
func TestHealthcheckOfAProgramThatDoesNotAnswer(t *testing.T) {
	release := make(chan bool)
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer server.Close()
	defer close(release)
	bearerdtest.Within(t, 3*time.Second, func() {
		code, said := runHealthcheck(t, nil, []string{"BEARERD_ADMIN_LISTEN=" + server.Listener.Addr().String()}, "-wait", "300ms")
		if code != exitFailed || !strings.Contains(said, "does not answer within 300ms") {
			t.Errorf("got %d %q, want 1 and that it does not answer", code, said)
		}
	})
}
