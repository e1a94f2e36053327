package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/bearerd/bearerd/cmd/internal/assembly"
	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/config"
	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

// startServing starts a bearerd at a terminal, types the password where env has
// none, and waits for its login.
func startServing(t *testing.T, w *bearerdtest.World, env ...string) *atTerminal {
	t.Helper()
	p := startAtTerminal(t, w, nil, append(env, quietPorts...)...)
	if !strings.Contains(strings.Join(env, "\n"), "BEARERD_PASSWORD=") {
		p.expect(passwordPrompt, 1)
		bearerdtest.Eventually(t, bearerdtest.Soon, "the echo goes off", p.echoOff)
		p.enter(querysim.Password + "\r")
	}
	p.expect(`"logged in"`, 1)
	return p
}

var quietPorts = []string{"BEARERD_LISTEN=localhost:0", "BEARERD_ADMIN_LISTEN=localhost:0", "BEARERD_LOG_FORMAT=json"}

// expectEnd waits for a clean end, in which the log need not be readable.
func (p *atTerminal) expectEnd() {
	p.T.Helper()
	if code := p.exitCode(); code != 0 {
		p.T.Errorf("exit code: got %d, want 0\n%s", code, p.text())
	}
}

// What a person typed is gone with the terminal, so SIGHUP reloads nothing.
func TestSIGHUPStopsWhatAPersonTyped(t *testing.T) {
	t.Parallel()
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	p := startServing(t, w, bearerdtest.Without(w.Env("vyopta"), "BEARERD_PASSWORD")...)
	p.Signal(syscall.SIGHUP)
	p.expectEnd()
	if n := w.Sim.Stats().Logins; n != 1 || !strings.Contains(p.text(), `"stopping"`) {
		t.Errorf("%d logins, want 1 and a stop:\n%s", n, p.text())
	}
}

// A terminal that goes takes with it whatever was started there, by the signals
// that kernel and shell send, which may be two.
func TestATerminalThatHangsUpStops(t *testing.T) {
	t.Parallel()
	for _, typed := range []bool{false, true} {
		t.Run(fmt.Sprintf("typed %v", typed), func(t *testing.T) {
			w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
			env := w.Env("vyopta")
			if typed {
				env = bearerdtest.Without(env, "BEARERD_PASSWORD")
			}
			p := startServing(t, w, env...)
			p.hangUp() // the process leads the session, so the kernel tells it
			p.Signal(syscall.SIGHUP)
			p.expectEnd()
		})
	}
}

// While the terminal is there, SIGHUP is the reload that it is everywhere else.
// It was the end all the same where the terminal goes then: zsh signals its jobs
// before it ends, and the kernel signals those in the foreground alone.
func TestSIGHUPBeforeTheTerminalGoes(t *testing.T) {
	t.Parallel()
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	cmd := bearerdtest.Command(t)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // the kernel does not signal it
	p := startCommandAtTerminal(t, w, cmd, append(w.Env("vyopta"), quietPorts...)...)
	p.expect(`"logged in"`, 1)
	p.Signal(syscall.SIGHUP)
	p.expect(`"token renewed"`, 1)
	p.hangUp()
	p.expectEnd()
}

// nohup has SIGHUP ignored, and it stays so: a terminal that goes, or a script's
// end, means nothing to bearerd then.
func TestNohupIsLeftAlone(t *testing.T) {
	t.Parallel()
	nohup, err := exec.LookPath("nohup")
	if err != nil {
		bearerdtest.Lacking(t, "nohup")
	}
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	p := w.StartProgram(t, exec.Command(nohup, bearerdtest.Program(t)), append(w.Env("vyopta"), quietPorts...)...)
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.Cmd.Process.Pid), "status"))
	if err != nil {
		t.Fatal(err)
	}
	ignored, err := strconv.ParseUint(regexp.MustCompile(`SigIgn:\s+([0-9a-f]+)`).FindStringSubmatch(string(status))[1], 16, 64)
	if err != nil || ignored&(1<<(syscall.SIGHUP-1)) == 0 {
		t.Errorf("SIGHUP is not ignored: %x %v", ignored, err)
	}
	p.Signal(syscall.SIGHUP)
	if err := bearerdtest.ExpectStatus(http.DefaultClient, p.URL+bearerdtest.NamesPath, 200); err != nil {
		t.Error(err)
	}
	if code := p.Stop(syscall.SIGTERM, bearerdtest.Soon); code != 0 {
		t.Errorf("exit code: got %d, want 0", code)
	}
	if n := w.Sim.Stats().Logins; n != 1 {
		t.Errorf("%d logins, want 1", n)
	}
}

// Remedies do not name SIGHUP where it does nothing. The test runs itself under
// nohup: to ignore a signal here cannot be undone.
func TestNohupIsKnownToRemedies(t *testing.T) {
	_, under := os.LookupEnv(underNohup)
	if got := assembly.LoginWay(config.Config{}).Deaf; got != under {
		t.Errorf("SIGHUP does nothing: got %v, want %v", got, under)
	}
	if under {
		return
	}
	cmd := exec.Command("nohup", os.Args[0], "-test.run=^TestNohupIsKnownToRemedies$")
	cmd.Env = append(os.Environ(), underNohup+"=")
	out, err := cmd.CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		bearerdtest.Lacking(t, "nohup")
	}
	if err != nil {
		t.Errorf("under nohup: %v\n%s", err, out)
	}
}
