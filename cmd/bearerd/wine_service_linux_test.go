package main

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
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

// wineService is a service of Wine's that is gone after its test.
type wineService struct {
	*wine
	name, folder, log string
}

func newWineService(w *wine) wineService {
	name := "test-" + filepath.Base(w.dir)[4:]
	folder := w.under(`C:\ProgramData\bearerd\` + name)
	w.t.Cleanup(func() {
		if bearerdtest.IsThere(folder) {
			_ = w.command("service", "uninstall", "-name", name).Run()
		}
	})
	return wineService{w, name, folder, filepath.Join(folder, "log", "bearerd.log")}
}

// do runs a service command to its end, which must be with that exit code.
func (s wineService) do(code int, action string, more ...string) string {
	s.t.Helper()
	return s.run(code, append([]string{"service", action, "-name", s.name}, more...)...)
}

// change puts lines before the settings that the service has.
func (s wineService) change(lines ...string) {
	s.t.Helper()
	path := filepath.Join(s.folder, "settings.env")
	bearerdtest.Put(s.t, path, strings.Join(lines, "\n")+"\n"+bearerdtest.TextOf(s.t, path))
}

// control asks the service control manager by Wine's own sc, which does not wait.
func (s wineService) control(action string) string {
	s.t.Helper()
	out, err := exec.Command("/usr/lib/wine/wine64", "sc", action, s.name).CombinedOutput()
	if err != nil {
		s.t.Fatalf("sc %s: %v %s", action, err, out)
	}
	return string(out)
}

// ended checks how the manager has seen the service end. It starts again what has
// another code than 0, or it would where this is Windows: Wine starts nothing again.
func (s wineService) ended(code int) {
	s.t.Helper()
	want := []string{"STOPPED", "WIN32_EXIT_CODE    : 0 ", "SERVICE_EXIT_CODE  : 0 "}
	if code != 0 {
		const specific = "WIN32_EXIT_CODE    : 1066 " // ERROR_SERVICE_SPECIFIC_ERROR
		want = []string{"STOPPED", specific, fmt.Sprintf("SERVICE_EXIT_CODE  : %d ", code)}
	}
	shows(s.t, s.control("query"), want...)
}

// event is one of Wine's Event Log: what a program has given ReportEvent.
type event struct{ kind, text string }

// events are those since the offset that eventsSoFar has returned. Wine 8 keeps no
// Event Log that could be read: it writes events, of whoever, to the standard error
// of its service manager, which .ci/run has made a file, as
// 0154:err:eventlog:ReportEventW L"text", with about 290 letters of each.
func (s wineService) events(since int) (all []event) {
	s.t.Helper()
	log := bearerdtest.TextOf(s.t, eventLog())[since:]
	s.w.CheckSecrets(s.t, log)
	for _, found := range regexp.MustCompile(`(?m)^[0-9a-f]+:(err|warn|trace):eventlog:ReportEventW L"(.*)"`).FindAllStringSubmatch(log, -1) {
		all = append(all, event{found[1], strings.NewReplacer(`\n`, "\n", `\"`, `"`, `\\`, `\`).Replace(found[2])})
	}
	return all
}

func (s wineService) eventsSoFar() int {
	s.t.Helper()
	return len(bearerdtest.TextOf(s.t, eventLog()))
}

func eventLog() string { return filepath.Join(os.Getenv("WINE_PROGRAMS"), "events") }

// Installed, asked, looked at, stopped, started, replaced and removed: nothing
// is left.
func TestWineService(t *testing.T) {
	t.Parallel()
	w := newWine(t)
	env, url, _ := w.settings("a.env")
	s := newWineService(w)
	do, folder, log, program := s.do, s.folder, s.log, w.under(`C:\Program Files\bearerd\`+s.name+`\bearerd.exe`)

	shows(t, do(1, "status"), "no such service")
	shows(t, do(1, "install"), "-env-file")
	shows(t, do(78, "install", "-env-file", w.file("bad.env", "BEARERD_LISTN=x\n")), "BEARERD_LISTN: unknown")
	for _, path := range []string{folder, program} {
		if _, err := os.Stat(path); err == nil {
			t.Fatalf("%s is there after an install that failed", path)
		}
	}

	shows(t, do(0, "install", "-env-file", env), program[strings.LastIndex(program, "/")+1:], "settings.env", `files\password`, "is ready")
	w.expect(url)
	shows(t, do(0, "status"), "running", "ready", `log\bearerd.log`)
	bearerdtest.Eventually(t, bearerdtest.Soon, "the request in the log", func() bool { // whose lines may wait a moment
		text := bearerdtest.TextOf(t, log)
		return strings.Count(text, `"message":"request"`) == 1 && strings.Contains(text, `"message":"serving"`)
	})
	shows(t, do(0, "stop"), "stopped")
	shows(t, do(1, "status"), "stopped")
	shows(t, do(0, "start"), "ready")
	// The copies are what counts.
	if err := os.Remove(w.under(env)); err != nil {
		t.Fatal(err)
	}
	do(0, "install")
	w.expect(url)
	if _, err := os.Stat(program + ".old"); err == nil {
		t.Error("the program of before is still there")
	}

	// What does not work does not stay.
	env, _, _ = w.settings("b.env", "BEARERD_USERNAME=nobody@example.com")
	shows(t, do(1, "install", "-env-file", env), "what was there before is back")
	bearerdtest.Eventually(t, bearerdtest.Soon, "the one before is ready", func() bool {
		return w.command("service", "status", "-name", s.name).Run() == nil
	})
	w.expect(url)

	// Settings that became bad end it for good, with the reason.
	settings := filepath.Join(folder, "settings.env")
	good := bearerdtest.TextOf(t, settings)
	do(0, "stop")
	if err := os.WriteFile(settings, []byte("BEARERD_LISTN=x\n"+good), 0o600); err != nil {
		t.Fatal(err)
	}
	shows(t, do(1, "start"), "it has stopped")
	shows(t, bearerdtest.TextOf(t, log), "BEARERD_LISTN: unknown")

	// What somebody else has put there stays.
	if err := os.WriteFile(filepath.Join(folder, "mine.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	said := do(0, "uninstall")
	shows(t, said, "removed the service", "settings.env", "bearerd.exe", "left")
	var left []string
	_ = filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			left = append(left, filepath.Base(path))
		}
		return nil
	})
	if _, err := os.Stat(program); err == nil || !slices.Equal(left, []string{"mine.txt"}) {
		t.Errorf("left: %q, the program: %v", left, err)
	}
	_ = os.RemoveAll(folder)
	shows(t, do(1, "uninstall"), "no such service")
}

// A secret in the user's Credential Manager is of no use to the service's account:
// install refuses it, or makes a file of it.
func TestWineServiceWithAKeyStore(t *testing.T) {
	w := newWine(t)
	n := newNewcomer(t, nil)
	s := newWineService(w)
	do, folder, name := s.do, s.folder, s.name
	env := `C:\` + filepath.Base(w.dir) + `\` + name + ".env"
	setup := w.command("setup", "-yes", "-preset", "vyopta", "-username", querysim.Username, "-password-file", w.file("password", querysim.Password),
		"-keep", "keyring", "-start", "no", "-open", "no", "-port", n.port, "-settings", env)
	setup.Env = append(os.Environ(), n.env...)
	if out, err := setup.CombinedOutput(); err != nil {
		t.Fatalf("setup: %v\n%s", err, out)
	}

	shows(t, do(1, "install", "-env-file", env), "BEARERD_PASSWORD_KEYRING", "BEARERD_PASSWORD_FILE", "-take-secrets", "-user")
	p := startCommandAtTerminal(t, w.w, w.command("service", "install", "-name", name, "-env-file", env))
	p.expect("[Y/n]", 1)
	p.enter("n\r")
	if code := p.ExitCode(bearerdtest.Soon); code != 1 {
		t.Errorf("asked, and left to itself: got exit code %d, want 1\n%s", code, p.text())
	}
	shows(t, do(0, "install", "-env-file", env, "-take-secrets"), `files\password`, "the entry "+name+".vyopta", "is ready")
	if err := bearerdtest.ExpectStatus(bearerdtest.NewClient(t), n.url(), 200); err != nil {
		t.Error(err)
	}
	settings := bearerdtest.TextOf(t, filepath.Join(folder, "settings.env"))
	if strings.Contains(settings, "KEYRING") || strings.Contains(settings, querysim.Password) {
		t.Errorf("got settings\n%s", settings)
	}
	shows(t, do(0, "uninstall"), `files\password`)
	if _, err := os.Stat(folder); err == nil {
		t.Error("its folder is still there")
	}
}

func TestWineAtLogon(t *testing.T) {
	t.Parallel()
	w := newWine(t)
	env, url, _ := w.settings("a.env")
	do := func(code int, action string, more ...string) string {
		t.Helper()
		return w.run(code, append([]string{"service", action, "-user", "-name", "mine"}, more...)...)
	}
	shows(t, do(1, "status"), "no such service")
	t.Cleanup(func() { _ = w.command("service", "uninstall", "-user", "-name", "mine").Run() })
	shows(t, do(0, "install", "-env-file", env), `CurrentVersion\Run`, "without a window", "ready")
	w.expect(url)
	shows(t, do(0, "status"), "running", "ready")
	do(0, "install") // this program once more
	w.expect(url)
	shows(t, do(0, "stop"), "stopped")
	shows(t, do(1, "status"), "stopped")
	shows(t, do(0, "start"), "ready")
	w.expect(url)
	bad, _, _ := w.settings("b.env", "BEARERD_USERNAME=nobody@example.com")
	shows(t, do(1, "install", "-env-file", bad), "what was there before is back")
	bearerdtest.Eventually(t, bearerdtest.Soon, "the one before", func() bool {
		return w.command("service", "status", "-user", "-name", "mine").Run() == nil
	})
	w.expect(url)
	shows(t, do(0, "uninstall"), "removed the value mine", "bearerd.exe", "bearerd.log")
	shows(t, do(1, "uninstall"), "no such service")
}

// State lines are in the Event Log, requests are not. Settings that have become
// wrong are an error there, once, and no error code, as the service would be started
// again for ever; a failure that may pass is one. Alone: others write events too.
func TestWineServiceTellsTheEventLog(t *testing.T) {
	s := newWineService(newWine(t))
	expect := func(since int, want ...event) {
		t.Helper()
		bearerdtest.Eventually(t, bearerdtest.Soon, "as many events", func() bool { return len(s.events(since)) >= len(want) })
		got := s.events(since)
		for i := range want {
			if len(got) != len(want) || got[i].kind != want[i].kind || !strings.Contains(got[i].text, want[i].text) {
				t.Fatalf("got events\n%q, want\n%q", got, want)
			}
		}
	}
	const information, failure = "trace", "err"
	env, url, admin := s.settings("a.env")
	start := s.eventsSoFar()
	s.do(0, "install", "-env-file", env)
	s.expect(url)
	port := strings.TrimPrefix(admin, "http://localhost:")
	begin := []event{{information, "serving\nadmin: [\"127.0.0.1:" + port}, {information, "logged in\n"}}
	expect(start, begin...)
	s.w.Sim.SetPassword("changed")
	resp, err := bearerdtest.NewClient(t).Post(admin+"/login", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	all := append(begin, event{failure, "login rejected\ncause: HTTP 401"})
	expect(start, all...)
	s.do(0, "stop")
	s.ended(0)
	expect(start, append(all, event{information, "stopping\n"}, event{information, "stopped"})...)

	taken, err := net.Listen("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	start = s.eventsSoFar()
	shows(t, s.do(1, "start"), "it has stopped", "Event Log")
	s.ended(1)
	expect(start, event{failure, "port taken"})

	s.change("BEARERD_LISTN=x")
	start = s.eventsSoFar()
	shows(t, s.do(1, "start"), "it has stopped", "Event Log")
	s.ended(0)
	expect(start, event{failure, "BEARERD_LISTN: unknown"})
}

// The login server says nothing, and a request waits for the token: a stop ends both
// with the grace, and Ctrl-C does.
func TestWineStopWhileALoginHangs(t *testing.T) {
	t.Parallel()
	s := newWineService(newWine(t))
	const grace = 3 * time.Second
	env, url, admin := s.settings("a.env", "BEARERD_SHUTDOWN_GRACE="+grace.String(), "BEARERD_LOGIN_TIMEOUT=5m", "BEARERD_TOKEN_WAIT=5m")
	s.do(0, "install", "-env-file", env)
	s.do(0, "stop")
	s.w.Sim.SetLoginDelay(time.Hour)
	hangs := func(start, stop func()) {
		t.Helper()
		logins := s.w.Sim.Stats().Logins
		start()
		bearerdtest.Eventually(t, bearerdtest.Soon, "a login", func() bool { return s.w.Sim.Stats().Logins > logins })
		c := bearerdtest.NewClient(t)
		ended := make(chan error, 1)
		go func() { ended <- bearerdtest.ExpectStatus(c, url+bearerdtest.NamesPath, 0) }()
		bearerdtest.Eventually(t, bearerdtest.Soon, "a request that waits", func() bool {
			_, _, text := bearerdtest.Fetch(t, bearerdtest.NewClient(t), admin+"/metrics")
			return strings.Contains(text, "\nbearerd_requests_in_flight 1\n")
		})
		began := time.Now()
		stop()
		if took := time.Since(began); took < grace || took > grace+10*time.Second {
			t.Errorf("stopped after %v, want what a request has, %v, and little more", took, grace)
		}
		select {
		case <-ended: // with its connection
		case <-time.After(bearerdtest.Soon):
			t.Error("the request that waited still does")
		}
	}
	hangs(func() { s.control("start") }, func() { s.do(0, "stop") })
	s.ended(0)

	var p *atTerminal
	hangs(func() { p = s.start("-env-file", env) }, func() {
		p.ctrlC()
		if code := p.ExitCode(bearerdtest.Soon); code != 0 {
			t.Errorf("after Ctrl-C: got %d, want 0", code)
		}
	})
}

// A log that has grown is renamed aside by a service that runs, and requests go on:
// each has its line, whole, once; of the older logs the oldest goes.
func TestWineServiceRotatesItsLog(t *testing.T) {
	t.Parallel()
	s := newWineService(newWine(t))
	env, url, _ := s.settings("a.env")
	s.do(0, "install", "-env-file", env)
	s.do(0, "stop")
	for n := 1; n <= 4; n++ {
		bearerdtest.Put(t, fmt.Sprint(s.log, ".", n), fmt.Sprint("older ", n, "\n"))
	}
	// The log has room for some 100 of the requests to come.
	const most, each, clients = 10 << 20, 100, 4
	old := strings.Repeat(strings.Repeat("x", 1023)+"\n", most>>10-30)
	bearerdtest.Put(t, s.log, old)
	s.do(0, "start")
	c := bearerdtest.NewClient(t)
	if err := bearerdtest.Many(clients, func(i int) error {
		for n := range each {
			if err := bearerdtest.ExpectStatus(c, fmt.Sprintf("%s/line/%d/%d", url, i, n), 404); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(bearerdtest.FirstLines(err))
	}
	s.do(0, "stop") // which writes what waits
	var all []string
	for n, want := range []string{"", old, "older 1\n", "older 2\n", "older 3\n"} {
		path := s.log
		if n > 0 {
			path = fmt.Sprint(s.log, ".", n)
		}
		text := bearerdtest.TextOf(t, path)
		rest, ok := strings.CutPrefix(text, want)
		if !ok || n > 1 && rest != "" || len(text) > most {
			t.Fatalf("%s: got %d bytes, want what was there before it was renamed", path, len(text))
		}
		all = append(all, rest)
	}
	if bearerdtest.IsThere(s.log + ".5") {
		t.Error("there are more than four older logs")
	}
	if n, m := strings.Count(all[0], "/line/"), strings.Count(all[1], "/line/"); n == 0 || m == 0 || n+m != clients*each {
		t.Errorf("got %d lines of requests after the rotation and %d before it, want %d in all", n, m, clients*each)
	}
	seen := make(map[string]bool)
	for line := range strings.Lines(all[1] + all[0]) {
		var is struct{ Message, Path string }
		if err := json.Unmarshal([]byte(line), &is); err != nil {
			t.Fatalf("%v in %.200q", err, line)
		}
		if is.Message == "request" {
			seen[is.Path] = true
		}
	}
	if len(seen) != clients*each {
		t.Errorf("got lines of %d requests, want %d", len(seen), clients*each)
	}
	s.do(0, "uninstall")
	if bearerdtest.IsThere(s.folder) {
		t.Error("its folder is still there")
	}
}
