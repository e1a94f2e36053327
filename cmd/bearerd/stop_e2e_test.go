//go:build unix

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

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
	eventually(t, soon, "no new connections", func() bool {
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

// Within DRAIN_DELAY all goes on, and each answer sends its client away.
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
	p := w.start(t, append(w.env("vyopta"), "BEARERD_ALLOW_UPGRADE=true", "BEARERD_DRAIN_DELAY=1h")...)
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
}

func TestDrainDelayEnds(t *testing.T) {
	t.Parallel()
	const delay = 2 * time.Second
	w := newWorld(t, querysim.Options{}, nil)
	p := w.start(t, append(w.env("vyopta"), "BEARERD_DRAIN_DELAY="+delay.String())...)
	began := time.Now()
	if code := p.stop(syscall.SIGTERM, 10*time.Second); code != 0 {
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
	eventually(t, soon, `/readyz says 503 "stopping"`, func() bool {
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
	signalTwice(t, cmd.Process, exited)
	if got := cmd.ProcessState.ExitCode(); got != 1 {
		t.Errorf("exit code: got %d, want 1", got)
	}
}

// signalTwice ends a process by a second SIGTERM. It sends one each half second:
// two that come before the first is taken are one.
func signalTwice(t *testing.T, process *os.Process, exited <-chan struct{}) {
	t.Helper()
	for range 11 {
		if err := process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
		select {
		case <-exited:
			return
		case <-time.After(500 * time.Millisecond):
		}
	}
	t.Fatal("still running 5 s after the second signal")
}

// A client that has its answer but does not end its body delays no stop.
func TestUnsentBodyDelaysNoStop(t *testing.T) {
	t.Parallel()
	w := newWorld(t, querysim.Options{}, nil)
	p := w.start(t, w.env("vyopta")...)
	conn := p.dial(p.url, "POST / HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 100\r\n\r\nabc")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != http.StatusMisdirectedRequest {
		t.Fatalf("got %v %v, want 421", resp, err)
	}
	if code := p.stop(syscall.SIGTERM, 5*time.Second); code != 0 {
		t.Errorf("exit code: got %d, want 0", code)
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
			p.dial(p.url, "") // and is silent
			if test.second {
				if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
				eventually(t, soon, "the stop begins", func() bool { return strings.Contains(p.text(), `"stopping"`) })
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
