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
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

// build makes bearerd as users do, in dir.
func build(dir string) (path string, err error) {
	path = filepath.Join(dir, "bearerd")
	out, err := exec.Command("go", "build", "-o", path, "github.com/bearerd/bearerd/cmd/bearerd").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
}

// instance is a running bearerd.
type instance struct {
	number int
	admin  string        // URL of its admin listener
	begun  time.Duration // as it was started
	told   time.Duration // to end; 0: not yet
	ended  time.Duration // 0: not yet
	cmd    *exec.Cmd
	exited chan struct{} // closed when its output has ended
}

// usage is what an instance takes of the machine.
type usage struct {
	memory     float64 // resident, in bytes
	goroutines float64
}

func (u usage) String() string {
	return fmt.Sprintf("%.0f MiB and %.0f goroutines", u.memory/(1<<20), u.goroutines)
}

// launch is what instances have in common.
type launch struct {
	program  string
	data     *net.TCPListener // handed to each, as a service manager does
	login    string           // token URL
	upstream string
	password string // file
	schedule schedule
	logs     string // folder
	now      func() time.Duration
}

// start returns when the instance serves.
func (l launch) start(number int) (*instance, error) {
	socket, err := l.data.File()
	if err != nil {
		return nil, err
	}
	defer func() { _ = socket.Close() }()
	log, err := os.Create(filepath.Join(l.logs, fmt.Sprintf("bearerd-%d.log", number)))
	if err != nil {
		return nil, err
	}
	i := &instance{number: number, begun: l.now(), exited: make(chan struct{})}
	// The shell gives its process id away, which LISTEN_PID must be.
	i.cmd = exec.Command("/bin/sh", "-c", `export LISTEN_PID=$$; exec "$0"`, l.program)
	i.cmd.ExtraFiles = []*os.File{socket}
	i.cmd.Env = []string{
		"LISTEN_FDS=1", "LISTEN_FDNAMES=data",
		"BEARERD_PRESET=" + querysim.Vendors()[0].Name,
		"BEARERD_TOKEN_URL=" + l.login, "BEARERD_UPSTREAM=" + l.upstream,
		"BEARERD_USERNAME=" + querysim.Username, "BEARERD_PASSWORD_FILE=" + l.password,
		"BEARERD_TOKEN_PARAMS=" + instanceField + "=" + strconv.Itoa(number),
		"BEARERD_ADMIN_LISTEN=127.0.0.1:0",
		"BEARERD_DRAIN_DELAY=" + l.schedule.drain.String(), "BEARERD_SHUTDOWN_GRACE=" + l.schedule.grace.String(),
		"BEARERD_LOG_FORMAT=json", "BEARERD_LOG_LEVEL=debug", "BEARERD_ACCESS_LOG=errors",
	}
	stderr, err := i.cmd.StderrPipe()
	if err == nil {
		err = i.cmd.Start()
	}
	if err != nil {
		_ = log.Close()
		return nil, err
	}
	serving := make(chan string, 1)
	go func() {
		defer close(i.exited)
		defer func() { _ = log.Close() }()
		copyLog(log, stderr, serving)
	}()
	select {
	case i.admin = <-serving:
		return i, nil
	case <-i.exited:
		return nil, fmt.Errorf("bearerd ended at its start; see %s", log.Name())
	case <-time.After(20 * time.Second):
		i.kill()
		return nil, fmt.Errorf("bearerd did not say that it serves; see %s", log.Name())
	}
}

// copyLog gives the admin listener's URL to serving when the start-up line
// tells it.
func copyLog(to io.Writer, from io.Reader, serving chan<- string) {
	lines := bufio.NewReader(from)
	for told := false; ; {
		line, err := lines.ReadBytes('\n')
		_, _ = to.Write(line)
		var start struct {
			Message string
			Admin   []string
		}
		if !told && json.Unmarshal(line, &start) == nil && start.Message == "serving" {
			told = true
			serving <- "http://" + start.Admin[0]
		}
		if err != nil {
			return
		}
	}
}

// ready waits until the instance holds a token.
func (i *instance) ready(within time.Duration) error {
	for deadline := time.Now().Add(within); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		resp, err := http.Get(i.admin + "/readyz")
		if err != nil {
			return err
		}
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return nil
		}
	}
	return fmt.Errorf("bearerd %d was not ready after %v", i.number, within)
}

// terminate sends SIGTERM.
func (i *instance) terminate() error { return i.cmd.Process.Signal(syscall.SIGTERM) }

// exit waits for the instance's end. It must be clean.
func (i *instance) exit(within time.Duration) error {
	select {
	case <-i.exited:
	case <-time.After(within):
		i.kill()
		return fmt.Errorf("bearerd %d had not ended %v after SIGTERM", i.number, within)
	}
	if err := i.cmd.Wait(); err != nil {
		return fmt.Errorf("bearerd %d: %w, want a clean end", i.number, err)
	}
	return nil
}

func (i *instance) kill() {
	_ = i.cmd.Process.Kill()
	<-i.exited
	_ = i.cmd.Wait()
}

// logIn is a person's POST /login.
func (i *instance) logIn() error {
	resp, err := http.Post(i.admin+"/login", "", nil)
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusAccepted {
		return fmt.Errorf("POST /login: %s", resp.Status)
	}
	return nil
}

// usage asks /metrics.
func (i *instance) usage() (u usage, err error) {
	resp, err := http.Get(i.admin + "/metrics")
	if err != nil {
		return u, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return u, err
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch name {
		case "process_resident_memory_bytes":
			u.memory, err = strconv.ParseFloat(value, 64)
		case "go_goroutines":
			u.goroutines, err = strconv.ParseFloat(value, 64)
		}
		if err != nil {
			return u, err
		}
	}
	if u.memory == 0 || u.goroutines == 0 {
		return u, errors.New("/metrics tells neither memory nor goroutines")
	}
	return u, nil
}
