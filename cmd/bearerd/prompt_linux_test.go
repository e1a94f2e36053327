package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

// atTerminal is a bearerd whose standard streams are a terminal.
type atTerminal struct {
	*bearerdtest.Process
	master *os.File
	read   chan struct{} // closed when all that it showed is
	still  sync.Mutex    // locked, the terminal soon takes no more

	mu    sync.Mutex // guards shown
	shown bytes.Buffer
}

func startAtTerminal(t *testing.T, w *bearerdtest.World, args []string, env ...string) *atTerminal {
	t.Helper()
	cmd := bearerdtest.Command(t, args...)
	// Its controlling terminal, so that Ctrl-C is a signal.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	return startCommandAtTerminal(t, w, cmd, env...)
}

// openTerminal returns both sides of a pseudo-terminal.
func openTerminal(t *testing.T) (master, terminal *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	// By Control and not Fd, which makes it a file whose Close waits for Read.
	raw, err := master.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var number int
	var unlocked, numbered, sized error
	if err := raw.Control(func(fd uintptr) {
		unlocked = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0)
		number, numbered = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		// Wide, as Wine's console breaks lines by itself.
		sized = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: 50, Col: 1000})
	}); errors.Join(err, unlocked, numbered, sized) != nil {
		t.Fatal(err, unlocked, numbered, sized)
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return master, terminal
}

func startCommandAtTerminal(t *testing.T, w *bearerdtest.World, cmd *exec.Cmd, env ...string) *atTerminal {
	t.Helper()
	master, terminal := openTerminal(t)
	cmd.Env = env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, terminal, terminal
	p := &atTerminal{Process: bearerdtest.StartCommand(t, cmd), master: master, read: make(chan struct{})}
	_ = terminal.Close()
	go func() {
		defer close(p.read)
		for buf := make([]byte, 1024); ; {
			n, err := master.Read(buf) // fails when the last who has the terminal has closed it
			p.still.Lock()
			p.mu.Lock()
			p.shown.Write(buf[:n])
			p.mu.Unlock()
			p.still.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		p.Kill()
		<-p.read
		_ = master.Close()
		// The user name shows, as it was typed.
		w.CheckSecrets(t, strings.ReplaceAll(p.text(), querysim.Username, ""))
	})
	return p
}

func (p *atTerminal) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.shown.String()
}

// expect waits until text was shown n times.
func (p *atTerminal) expect(text string, n int) {
	p.T.Helper()
	bearerdtest.Eventually(p.T, 20*time.Second, fmt.Sprintf("%q shown %d times in\n%s", text, n, p.text()), func() bool {
		return strings.Count(p.text(), text) >= n
	})
}

func (p *atTerminal) enter(text string) {
	p.T.Helper()
	if _, err := io.WriteString(p.master, text); err != nil {
		p.T.Fatal(err)
	}
}

// hangUp is what the end of a terminal's window, or of its ssh, does.
func (p *atTerminal) hangUp() {
	p.T.Helper()
	if err := p.master.Close(); err != nil {
		p.T.Fatal(err)
	}
}

func (p *atTerminal) exitCode() int {
	p.T.Helper()
	code := p.ExitCode(bearerdtest.AtOnce)
	<-p.read
	return code
}

// passwordPrompt comes after the echo is off.
const userPrompt, passwordPrompt = "User name for ", "Password (it does not show): "

func TestAsksAtATerminal(t *testing.T) {
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	env := bearerdtest.Without(w.Env("vyopta"), "BEARERD_USERNAME", "BEARERD_PASSWORD", "BEARERD_PRESET")
	p := startAtTerminal(t, w, []string{"-preset", "vyopta"}, append(env, "BEARERD_LISTEN=localhost:0", "BEARERD_ADMIN_LISTEN=localhost:0")...)
	p.expect(userPrompt+strings.TrimPrefix(w.Login.URL, "http://"), 1)
	p.enter(querysim.Username + "\n")
	p.expect(passwordPrompt, 1)
	bearerdtest.Eventually(t, bearerdtest.Soon, "the echo goes off", p.echoOff)
	p.enter(querysim.Password + "\n")
	p.expect("serving", 1)
	bearerdtest.Eventually(t, bearerdtest.Soon, "a login", func() bool { return w.Sim.Stats().LoginsOK == 1 })
	for _, want := range []string{`"USERNAME":"asked"`, `"PASSWORD":"asked"`} {
		if !strings.Contains(p.text(), want) {
			t.Errorf("the start-up line lacks %s:\n%s", want, p.text())
		}
	}
	p.enter("\x03")
	if code := p.exitCode(); code != 0 {
		t.Errorf("exit code after Ctrl-C: got %d, want 0\n%s", code, p.text())
	}
}

// echoOff reports whether the terminal hides what is typed.
func (p *atTerminal) echoOff() bool {
	raw, err := p.master.SyscallConn()
	if err != nil {
		return false
	}
	var off bool
	err = raw.Control(func(fd uintptr) {
		state, err := unix.IoctlGetTermios(int(fd), unix.TCGETS)
		off = err == nil && state.Lflag&unix.ECHO == 0
	})
	return err == nil && off
}

func TestAsksForThePasswordAlone(t *testing.T) {
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	env := bearerdtest.Without(w.Env("vyopta"), "BEARERD_PASSWORD")
	p := startAtTerminal(t, w, []string{"check"}, env...)
	p.expect(passwordPrompt, 1)
	bearerdtest.Eventually(t, bearerdtest.Soon, "the echo goes off", p.echoOff)
	p.enter("\x1b[A\x1b[D" + querysim.Password + "x\x7f\r") // arrow keys, and a letter taken back
	if code := p.exitCode(); code != 0 || !strings.Contains(p.text(), "Healthy.") || strings.Contains(p.text(), userPrompt) {
		t.Errorf("exit code: got %d, want 0 and a report\n%s", code, p.text())
	}
	if !regexp.MustCompile(`BEARERD_PASSWORD +asked`).MatchString(p.text()) {
		t.Errorf("the report does not say that the password was asked for:\n%s", p.text())
	}
}

// What is pasted, or typed before it is asked for, does not show, nor does a
// password after Ctrl-Z or Ctrl-\.
func TestAPasteDoesNotShow(t *testing.T) {
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	p := startAtTerminal(t, w, []string{"check"}, bearerdtest.Without(w.Env("vyopta"), "BEARERD_USERNAME", "BEARERD_PASSWORD")...)
	p.expect(userPrompt, 1)
	p.enter("\x1a\x1c" + querysim.Username + "\n\x1a\x1c" + querysim.Password + "\n")
	if code := p.exitCode(); code != 0 { // its end searches for the password
		t.Errorf("exit code: got %d, want 0\n%s", code, p.text())
	}
}

func TestAQuestionCanBeLeft(t *testing.T) {
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	for name, key := range map[string]string{"Ctrl-C": "\x03", "Ctrl-D": "\x04", "an empty line": "\n"} {
		t.Run(name, func(t *testing.T) {
			p := startAtTerminal(t, w, nil, bearerdtest.Without(w.Env("vyopta"), "BEARERD_PASSWORD")...)
			p.expect(passwordPrompt, 1)
			bearerdtest.Eventually(t, bearerdtest.Soon, "the echo goes off", p.echoOff)
			p.enter(key)
			if code := p.exitCode(); code != exitFailed || !strings.Contains(p.text(), "nothing was entered") {
				t.Errorf("exit code: got %d, want 1 and the reason\n%s", code, p.text())
			}
			if p.echoOff() {
				t.Error("the terminal's echo is still off")
			}
		})
	}
	for name, key := range map[string]string{"Ctrl-C": "\x03", "Ctrl-D": "\x04", "an empty line": "\n"} {
		t.Run("user name, "+name, func(t *testing.T) {
			p := startAtTerminal(t, w, nil, bearerdtest.Without(w.Env("vyopta"), "BEARERD_USERNAME")...)
			p.expect(userPrompt, 1)
			p.enter(key)
			if code := p.exitCode(); code != exitFailed || !strings.Contains(p.text(), "nothing was entered") {
				t.Errorf("exit code: got %d, want 1 and the reason\n%s", code, p.text())
			}
		})
	}
	if n := w.Sim.Stats().Logins; n != 0 {
		t.Errorf("got %d logins, want none", n)
	}
}

// A pipe that nobody writes to is waited for, until a signal comes.
func TestAnEnvFileCanBeLeft(t *testing.T) {
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"-env-file", pipe}, {"check", "-env-file", pipe}, {"healthcheck", "-env-file", pipe}} {
		signals := make(chan os.Signal, 1)
		code := make(chan int, 1)
		go func() { code <- run(args, nil, signals, io.Discard, io.Discard) }()
		signals <- os.Interrupt
		select {
		case c := <-code:
			if c != exitFailed {
				t.Errorf("bearerd %q: got exit code %d, want 1", args, c)
			}
		case <-time.After(bearerdtest.Soon):
			t.Fatalf("bearerd %q goes on", args)
		}
	}
	// And what is written to one is read. (Those before still wait at the first.)
	pipe = filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	go func() { _ = os.WriteFile(pipe, []byte(strings.Join(w.Env("vyopta"), "\n")), 0) }()
	var stdout, stderr bearerdtest.Output
	if code := run([]string{"check", "-env-file", pipe}, nil, nil, &stdout, &stderr); code != 0 {
		t.Errorf("got exit code %d\n%s", code, &stderr)
	}
}

// What asking cannot mend is said instead.
func TestAsksOnlyWhenNothingElseIsWrong(t *testing.T) {
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	p := startAtTerminal(t, w, nil, append(bearerdtest.Without(w.Env("vyopta"), "BEARERD_PASSWORD"), "BEARERD_TOKEN_WAIT=x")...)
	if code := p.exitCode(); code != exitConfig || strings.Contains(p.text(), passwordPrompt) ||
		!strings.Contains(p.text(), "BEARERD_PASSWORD: missing") || !strings.Contains(p.text(), "BEARERD_TOKEN_WAIT") {
		t.Errorf("exit code: got %d, want 78 and both problems\n%s", code, p.text())
	}
}

func TestNeverAsksWithoutATerminal(t *testing.T) {
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	for _, args := range [][]string{nil, {"check"}} {
		cmd := bearerdtest.Command(t, args...)
		cmd.Env = bearerdtest.Without(w.Env("vyopta"), "BEARERD_PASSWORD")
		stdin, err := cmd.StdinPipe() // open, and with nothing in it: a question would wait
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.CombinedOutput()
		_ = stdin.Close()
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok || exit.ExitCode() != exitConfig || !strings.Contains(string(out), "BEARERD_PASSWORD: missing") {
			t.Errorf("bearerd %q: got %v, want exit code 78\n%s", args, err, out)
		}
	}
}
