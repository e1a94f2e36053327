//go:build unix

package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

func TestFaultSIGTERMWithRequestsInFlight(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	var arrived sync.WaitGroup
	arrived.Add(20)
	w := bearerdtest.NewWorld(t, querysim.Options{}, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		arrived.Done()
		<-release
		_, _ = io.WriteString(rw, "whole")
	}))
	p := w.Serve(t)
	c := bearerdtest.NewClient(t)
	results := make(chan error, 20)
	for range 20 {
		go func() {
			resp, err := c.Get(p.URL + "/slow")
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
	p.Signal(syscall.SIGTERM)
	addr := strings.TrimPrefix(p.URL, "http://")
	bearerdtest.Eventually(t, bearerdtest.Soon, "no new connections", func() bool {
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
	if code := p.ExitCode(bearerdtest.AtOnce); code != 0 {
		t.Errorf("exit code: got %d, want 0", code)
	}
}

// Within DRAIN_DELAY all goes on, and each answer sends its client away.
func TestDrainDelay(t *testing.T) {
	t.Parallel()
	arrived, release := make(chan struct{}), make(chan struct{})
	w := bearerdtest.NewWorld(t, querysim.Options{}, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
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
	p := w.Serve(t, "BEARERD_ALLOW_UPGRADE=true", "BEARERD_DRAIN_DELAY=1h")
	c := bearerdtest.NewClient(t)
	// sentAway asks, and wants an answer that sends the client away, or the tunnel.
	sentAway := func(path, upgrade string) error {
		req, err := http.NewRequest("GET", p.URL+path, nil)
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
	if err := bearerdtest.ExpectStatus(c, p.Admin+"/readyz", 200); err != nil {
		t.Fatal(err)
	}
	p.Signal(syscall.SIGTERM)
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
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	p := w.Serve(t, "BEARERD_DRAIN_DELAY="+delay.String())
	began := time.Now()
	if code := p.Stop(syscall.SIGTERM, bearerdtest.AtOnce); code != 0 {
		t.Errorf("exit code: got %d, want 0", code)
	}
	if d := time.Since(began); d < delay {
		t.Errorf("it ended after %v, want DRAIN_DELAY first", d)
	}
}

// expectDraining waits for the stop to begin, and checks that all goes on
// meanwhile.
func expectDraining(t *testing.T, p *bearerdtest.Process) {
	t.Helper()
	bearerdtest.Eventually(t, bearerdtest.Soon, `/readyz says 503 "stopping"`, func() bool {
		status, _, body := bearerdtest.Fetch(t, http.DefaultClient, p.Admin+"/readyz")
		return status == 503 && strings.Contains(body, `"reason":"stopping"`)
	})
	if got := p.Metric("bearerd_ready"); got != 0 {
		t.Errorf("bearerd_ready is %v within DRAIN_DELAY, want 0 as /readyz says", got)
	}
	if err := bearerdtest.ExpectStatus(bearerdtest.NewClient(t), p.URL+"/", 200); err != nil {
		t.Errorf("a new connection within DRAIN_DELAY: %v", err)
	}
	if err := bearerdtest.ExpectStatus(http.DefaultClient, p.Admin+"/livez", 200); err != nil {
		t.Errorf("/livez within DRAIN_DELAY: %v", err)
	}
}

// signalTwice ends a process by a second SIGTERM. It sends one each half second:
// two that come before the first is taken are one.
func signalTwice(p *bearerdtest.Process) {
	p.T.Helper()
	for range 31 {
		p.Signal(syscall.SIGTERM)
		select {
		case <-p.Exited:
			return
		case <-time.After(500 * time.Millisecond):
		}
	}
	p.T.Fatal("still running 15 s after the second signal")
}

// A client that has its answer but does not end its body delays no stop.
func TestUnsentBodyDelaysNoStop(t *testing.T) {
	t.Parallel()
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	p := w.Serve(t)
	conn := p.Dial(p.URL, "POST / HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 100\r\n\r\nabc")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != http.StatusMisdirectedRequest {
		t.Fatalf("got %v %v, want 421", resp, err)
	}
	if code := p.Stop(syscall.SIGTERM, bearerdtest.AtOnce); code != 0 {
		t.Errorf("exit code: got %d, want 0", code)
	}
}

func TestStopIsBounded(t *testing.T) {
	t.Parallel()
	w := bearerdtest.NewWorld(t, querysim.Options{}, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
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
			p := w.Serve(t, "BEARERD_SHUTDOWN_GRACE="+test.grace)
			resp, err := bearerdtest.NewClient(t).Get(p.URL + "/stream")
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			p.Dial(p.URL, "") // and is silent
			if test.second {
				p.Signal(syscall.SIGTERM)
				bearerdtest.Eventually(t, bearerdtest.Soon, "the stop begins", func() bool { return strings.Contains(p.Text(), `"stopping"`) })
			}
			if got := p.Stop(syscall.SIGTERM, bearerdtest.AtOnce); got != test.want {
				t.Errorf("exit code: got %d, want %d", got, test.want)
			}
			if !strings.Contains(p.Text(), `"outcome":"aborted"`) {
				t.Error("the access log does not have the stream as aborted")
			}
		})
	}
}
