package bearerdtest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// LogInAgain has p log in, whatever its clients do.
func (p *Process) LogInAgain() {
	p.T.Helper()
	before := p.Metric(`bearerd_logins_total{result="ok"}`)
	if status, body := p.Post("/login"); status != http.StatusAccepted {
		p.T.Fatalf("POST /login: got %d %s", status, body)
	}
	Eventually(p.T, Soon, "a login", func() bool { return p.Metric(`bearerd_logins_total{result="ok"}`) > before })
}

// Until waits for a text in the log.
func (p *Process) Until(text string) {
	p.T.Helper()
	Eventually(p.T, Soon, text, func() bool { return strings.Contains(p.Text(), text) })
}

// Process is a running bearerd.
type Process struct {
	T     testing.TB
	Cmd   *exec.Cmd
	URL   string // of the data listener; unix:/path of a unix socket, for ClientAt
	Admin string // of the admin listener, likewise

	Exited chan struct{} // closed when it has ended, and its output is read
	mu     sync.Mutex    // guards output
	output bytes.Buffer
}

// read keeps all output and takes the addresses from the start-up line.
func (p *Process) read(r io.Reader, ready chan<- struct{}) {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		p.mu.Lock()
		p.output.Write(line)
		p.mu.Unlock()
		var start struct {
			Message string
			Listen  []string
			Admin   []string
		}
		if p.URL == "" && json.Unmarshal(line, &start) == nil && start.Message == "serving" {
			p.URL = urlOf(start.Listen[0])
			if len(start.Admin) > 0 {
				p.Admin = urlOf(start.Admin[0])
			}
			close(ready)
		}
		if err != nil {
			return
		}
	}
}

// urlOf is the URL of a listener at an address that the start-up line shows.
func urlOf(address string) string {
	if strings.HasPrefix(address, "unix:") {
		return address
	}
	return "http://" + address
}

func (p *Process) Text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String()
}

// shown is all that the admin listener shows, while the process runs.
func (p *Process) shown() string {
	var all strings.Builder
	if p.Admin == "" {
		return ""
	}
	c, admin := ClientAt(p.T, p.Admin)
	for _, path := range []string{"/metrics", "/status", "/readyz", "/startupz", "/livez", "/"} {
		req, err := http.NewRequest(http.MethodGet, admin+path, nil)
		if err != nil {
			p.T.Fatal(err)
		}
		req.Host = "localhost" // wherever it is bound
		if resp, err := c.Do(req); err == nil {
			_, _ = io.Copy(&all, resp.Body)
			_ = resp.Body.Close()
		}
	}
	return all.String()
}

// tail is the end of a log, without the lines of requests that ended well where
// they would take its place.
func tail(s string) string {
	const most = 8 << 10
	if len(s) <= most {
		return s
	}
	var told strings.Builder
	for line := range strings.Lines(s) {
		if !strings.Contains(line, `"status":2`) || !strings.Contains(line, `"message":"request"`) {
			told.WriteString(line)
		}
	}
	rest := told.String()
	if len(rest) > most {
		rest = rest[len(rest)-most:]
	}
	return "…" + rest
}

// Signal sends sig, where the process has not ended.
func (p *Process) Signal(sig os.Signal) {
	p.T.Helper()
	if err := p.Cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.T.Fatal(err)
	}
}

// Stop sends sig and returns the exit code.
func (p *Process) Stop(sig syscall.Signal, within time.Duration) int {
	p.T.Helper()
	p.Signal(sig)
	return p.ExitCode(within)
}

// ExitCode waits for the process's end.
func (p *Process) ExitCode(within time.Duration) int {
	p.T.Helper()
	select {
	case <-p.Exited:
	case <-time.After(within):
		p.T.Fatalf("bearerd had not ended after %v", within)
	}
	return p.Cmd.ProcessState.ExitCode()
}

// Kill ends the process, where it has not ended, and waits for that.
func (p *Process) Kill() {
	_ = p.Cmd.Process.Kill()
	<-p.Exited
}

// StartCommand starts cmd as a process whose output and addresses are the
// caller's business. It is killed at the test's end.
func StartCommand(t testing.TB, cmd *exec.Cmd) *Process {
	t.Helper()
	p := &Process{T: t, Cmd: cmd, Exited: make(chan struct{})}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.Exited)
		_ = cmd.Wait()
	}()
	t.Cleanup(p.Kill)
	return p
}

// Dial opens a connection to a listener of p, until the test ends, and sends text.
func (p *Process) Dial(url, text string) net.Conn {
	p.T.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		p.T.Fatal(err)
	}
	p.T.Cleanup(func() { _ = conn.Close() })
	if _, err := io.WriteString(conn, text); err != nil {
		p.T.Fatal(err)
	}
	return conn
}

// Metric returns the value of a series, written as /metrics writes it, or -1.
func (p *Process) Metric(series string) float64 {
	p.T.Helper()
	_, _, text := Fetch(p.T, http.DefaultClient, p.Admin+"/metrics")
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, series+" "); ok {
			f, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				p.T.Fatal(err)
			}
			return f
		}
	}
	return -1
}

// Post posts nothing to the admin listener and returns what it says.
func (p *Process) Post(path string) (int, string) {
	p.T.Helper()
	req, err := http.NewRequest(http.MethodPost, p.Admin+path, nil)
	if err != nil {
		p.T.Fatal(err)
	}
	status, _, body := Do(p.T, http.DefaultClient, req)
	return status, body
}
