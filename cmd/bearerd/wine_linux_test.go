package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

// Tests named TestWine… run bearerd.exe under Wine, in the prefix that .ci/run
// windows has made: with files, a console, services and a registry of Windows, and
// the simulator in this process.

// wine is a Windows for one test.
type wine struct {
	t   *testing.T
	w   *bearerdtest.World
	dir string // a folder of the test's, on drive C
}

func newWine(t *testing.T) *wine {
	t.Helper()
	if os.Getenv("WINE_PROGRAMS") == "" {
		t.Skip(".ci/run windows runs it")
	}
	dir, err := os.MkdirTemp(filepath.Join(os.Getenv("WINEPREFIX"), "drive_c"), "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return &wine{t, bearerdtest.NewWorld(t, querysim.Options{}, nil), dir}
}

func (w *wine) command(args ...string) *exec.Cmd {
	return exec.Command("/usr/lib/wine/wine64", append([]string{filepath.Join(os.Getenv("WINE_PROGRAMS"), "bearerd.exe")}, args...)...)
}

// run runs bearerd to its end, which must be with that exit code, and returns what
// it said.
func (w *wine) run(code int, args ...string) string {
	w.t.Helper()
	cmd := w.command(args...)
	// A file: what is started for good would keep a pipe open, as Wine passes it on.
	out, err := os.Create(filepath.Join(w.t.TempDir(), "out"))
	if err != nil {
		w.t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	_ = cmd.Run()
	said := strings.ReplaceAll(bearerdtest.TextOf(w.t, out.Name()), "\r\n", "\n")
	if got := cmd.ProcessState.ExitCode(); got != code {
		w.t.Fatalf("bearerd %s: got %d, want %d\n%s", strings.Join(args, " "), got, code, said)
	}
	w.w.CheckSecrets(w.t, said)
	return said
}

// file writes a file as Windows programs do, and returns its path there.
func (w *wine) file(name, text string) string {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, name), []byte(strings.ReplaceAll(text, "\n", "\r\n")), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return `C:\` + filepath.Base(w.dir) + `\` + name
}

// settings writes a file of settings for the account, whose password stands in a
// file of its own, and for ports that are free, and returns their URLs. A change is
// a line; the last of each name counts.
func (w *wine) settings(name string, changes ...string) (path, url, admin string) {
	w.t.Helper()
	ports := [2]int{bearerdtest.FreePort(w.t), bearerdtest.FreePort(w.t)}
	lines := slices.DeleteFunc(w.w.Env("vyopta"), func(line string) bool { return strings.HasPrefix(line, "BEARERD_PASSWORD=") })
	lines = append(lines,
		"BEARERD_PASSWORD_FILE="+w.file(name+".password", querysim.Password+"\n"),
		fmt.Sprintf("BEARERD_LISTEN=localhost:%d", ports[0]), fmt.Sprintf("BEARERD_ADMIN_LISTEN=localhost:%d", ports[1]))
	all := make(map[string]string)
	for _, line := range append(lines, changes...) {
		variable, _, _ := strings.Cut(line, "=")
		all[variable] = line
	}
	var text strings.Builder
	text.WriteString("\ufeff# written by Notepad\n") // with its byte order mark
	for _, line := range all {
		text.WriteString(line + "\n")
	}
	return w.file(name, text.String()), fmt.Sprintf("http://localhost:%d", ports[0]), fmt.Sprintf("http://localhost:%d", ports[1])
}

// under is where a path of Windows is for this test.
func (w *wine) under(path string) string {
	return filepath.Join(os.Getenv("WINEPREFIX"), "drive_c", strings.ReplaceAll(strings.TrimPrefix(path, `C:\`), `\`, "/"))
}

// expect asks bearerd as a tool does.
func (w *wine) expect(url string) {
	w.t.Helper()
	if err := bearerdtest.ExpectStatus(bearerdtest.NewClient(w.t), url+bearerdtest.NamesPath, 200); err != nil {
		w.t.Error(err)
	}
}

func shows(t *testing.T, text string, all ...string) {
	t.Helper()
	for _, want := range all {
		if !strings.Contains(text, want) {
			t.Errorf("got no %q in\n%s", want, text)
		}
	}
}

// start has bearerd serve at a console.
func (w *wine) start(args ...string) *atTerminal {
	w.t.Helper()
	return startCommandAtTerminal(w.t, w.w, w.command(args...), os.Environ()...)
}

// ctrlC is what the console of Windows makes of Ctrl-C. That of Wine 8 does not hear
// it where no program reads, and makes the same event of a signal.
func (p *atTerminal) ctrlC() { p.Signal(os.Interrupt) }

func TestWineServesUntilCtrlC(t *testing.T) {
	w := newWine(t)
	env, url, admin := w.settings("a.env", "BEARERD_LOG_FORMAT=json")
	p := w.start("-env-file", env)
	p.expect("logged in", 1)
	w.expect(url)
	shows(t, w.run(0, "healthcheck", "-env-file", env), "ready")
	shows(t, w.run(0, "check", "-env-file", env, "-path", bearerdtest.NamesPath), "Healthy")
	if status, _, body := bearerdtest.Fetch(t, bearerdtest.NewClient(t), admin+"/readyz"); status != 200 {
		t.Errorf("/readyz: got %d %s", status, body)
	}
	shows(t, w.run(1, "-env-file", env), "port taken by another program", "BEARERD_LISTEN")
	p.ctrlC()
	if code := p.ExitCode(bearerdtest.Soon); code != 0 {
		t.Errorf("after Ctrl-C: got %d, want 0", code)
	}
	p.expect("stopped", 1)
	shows(t, w.run(1, "healthcheck", "-env-file", env), "no answer")
}

// A request is under way, so that the first Ctrl-C waits.
func TestWineSecondCtrlC(t *testing.T) {
	w := newWine(t)
	env, url, _ := w.settings("a.env", "BEARERD_LOG_FORMAT=json", "BEARERD_DRAIN_DELAY=1m")
	p := w.start("-env-file", env)
	p.expect("logged in", 1)
	w.expect(url)
	p.ctrlC()
	p.expect("stopping", 1)
	began := time.Now()
	p.ctrlC()
	if code := p.ExitCode(bearerdtest.Soon); code != 1 || time.Since(began) > 10*time.Second {
		t.Errorf("after the second Ctrl-C: got %d after %v, want 1 at once", code, time.Since(began))
	}
}

func TestWineAsks(t *testing.T) {
	w := newWine(t)
	env, url, _ := w.settings("a.env", "BEARERD_USERNAME=", "BEARERD_PASSWORD_FILE=")
	p := w.start("-env-file", env)
	p.expect("User name", 1)
	p.enter(querysim.Username + "\r")
	p.expect("Password", 1)
	p.enter(querysim.Password + "\r")
	p.expect("logged in", 1)
	w.expect(url)
	p.ctrlC()
	if code := p.ExitCode(bearerdtest.Soon); code != 0 {
		t.Errorf("got %d, want 0", code)
	}
}

// What Windows PowerShell 5 writes by > is refused, with the reason.
func TestWinePasswordInUTF16(t *testing.T) {
	w := newWine(t)
	env, _, _ := w.settings("a.env")
	if err := os.WriteFile(filepath.Join(w.dir, "a.env.password"), []byte("\xff\xfep\x00w\x00\r\x00\n\x00"), 0o600); err != nil {
		t.Fatal(err)
	}
	shows(t, w.run(1, "check", "-env-file", env), "UTF-16")
	if err := os.WriteFile(filepath.Join(w.dir, "a.env"), []byte("\xff\xfeB\x00E\x00A\x00"), 0o600); err != nil {
		t.Fatal(err)
	}
	shows(t, w.run(78, "check", "-env-file", env), "UTF-16")
}

// The lines to paste are for cmd and PowerShell. Those of curl.exe, read as cmd
// reads them, get what they ask for.
func TestWineDemo(t *testing.T) {
	w := newWine(t)
	p := w.start("demo")
	p.expect("Ctrl-C ends the demo", 1)
	shows(t, p.text(), "in PowerShell:", "irm -Method Post")
	if strings.Contains(p.text(), "curl '") {
		t.Errorf("a line for a shell of Unix: %s", p.text())
	}
	curl, err := exec.LookPath("curl")
	if err != nil {
		bearerdtest.Lacking(t, "curl")
	}
	found := regexp.MustCompile(`  curl\.exe ([^\r\n]+)`).FindAllStringSubmatch(p.text(), -1)
	if len(found) != 3 {
		t.Fatalf("got %d lines of curl.exe, want 3", len(found))
	}
	for _, line := range found {
		var args []string
		for _, arg := range regexp.MustCompile(`"(?:\\"|[^"])*"|[^ "]+`).FindAllString(strings.TrimSpace(line[1]), -1) {
			args = append(args, strings.ReplaceAll(strings.Trim(arg, `"`), `\"`, `"`))
		}
		if out, err := exec.Command(curl, append([]string{"-sS", "--fail-with-body"}, args...)...).CombinedOutput(); err != nil {
			t.Errorf("curl %q: %v %s", args, err, out)
		}
	}
	p.ctrlC()
	if code := p.ExitCode(bearerdtest.Soon); code != 0 {
		t.Errorf("got %d, want 0", code)
	}
}
