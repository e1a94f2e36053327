package daemon

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// agent is a LaunchAgent's files. It runs while its user is logged in.
type agent struct{ plist, log string }

func agentOf(name string) (agent, error) {
	home, err := os.UserHomeDir()
	return agent{filepath.Join(home, "Library/LaunchAgents", label(name)+".plist"), logOf(name)}, err
}

// logOf is the log of a service, which launchd would let grow for ever.
func logOf(name string) string {
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, "Library/Logs/bearerd", name+".log")
}

// domain is this user's at the screen.
func domain() string { return "gui/" + strconv.Itoa(os.Getuid()) }

func launchctl(args ...string) (string, error) {
	out, err := exec.Command("/bin/launchctl", args...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("launchctl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}

// bootstrap has launchd take up a plist. Shortly after a bootout it says error 5,
// until that has ended (jdx/mise 10965).
func bootstrap(path string) (err error) {
	for range 50 {
		if _, err = launchctl("bootstrap", domain(), path); err == nil {
			return nil
		}
		time.Sleep(200 * time.Millisecond)
	}
	return err
}

func (a agent) settings() string {
	text, err := os.ReadFile(a.plist)
	if err != nil {
		return ""
	}
	args, err := plistArgs(string(text))
	if err != nil || len(args) == 0 {
		return ""
	}
	return args[len(args)-1]
}

// Install has launchd run this program with the settings of w.EnvFile, now and at
// each login of this user. Run again, it puts this program and these settings in
// the place of those before. What fails leaves what was there. It says what it
// writes.
func Install(w Which, environ []string, _ Ask, out io.Writer) (err error) {
	if w.User || w.System {
		return errors.New("on macOS a service is always a LaunchAgent of this user: leave -user and -system out")
	}
	if os.Getuid() == 0 {
		return errRoot
	}
	noteEnvironment(out, environ)
	a, err := agentOf(w.Name)
	if err != nil {
		return err
	}
	if w.EnvFile == "" {
		if w.EnvFile = a.settings(); w.EnvFile == "" {
			return errNoSettings
		}
	}
	given, err := readSettings(w.EnvFile)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if quarantined, _ := exec.Command("/usr/bin/xattr", "-p", "com.apple.quarantine", self).Output(); len(quarantined) > 0 {
		return fmt.Errorf("macOS has this program in quarantine and would end it at once: run xattr -d com.apple.quarantine %s", self)
	}
	wasReady := readyWithin(a.settings(), 0) == nil
	var back undo
	defer func() {
		if err != nil {
			back.run()
		}
	}()
	_, notLoaded := launchctl("print", domain()+"/"+label(w.Name))
	if notLoaded == nil {
		back.add(func() { _ = bootstrap(a.plist) })
		if _, err := launchctl("bootout", domain()+"/"+label(w.Name)); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Dir(a.plist), 0o755); err != nil {
		return err
	}
	text := plist(w.Name, []string{self, "service", "run", "-name", w.Name, "-env-file", given.path})
	if err := replaceFile(&back, a.plist, []byte(text), 0o644); err != nil {
		return err
	}
	fmt.Fprintln(out, "wrote", a.plist)
	if err := bootstrap(a.plist); err != nil {
		return err
	}
	notReady := readyWithin(given.path, readyPatience)
	if notReady != nil && notLoaded == nil && wasReady {
		back.add(func() { _, _ = launchctl("bootout", domain()+"/"+label(w.Name)) })
		return takenBack(notReady)
	}
	back = nil
	if notReady != nil {
		return fmt.Errorf("it is installed, and not ready: %w. It goes on trying; its log is %s", notReady, a.log)
	}
	fmt.Fprintf(out, "%s runs, is ready, and starts when you log in; its settings stay in %s, its log is %s\n", w.Name, given.path, a.log)
	return nil
}

// Uninstall stops the service and removes what Install has written, and no more.
func Uninstall(w Which, out io.Writer) error {
	a, err := agentOf(w.Name)
	if err != nil {
		return err
	}
	_, notLoaded := launchctl("bootout", domain()+"/"+label(w.Name))
	if _, err := os.Lstat(a.plist); err != nil && notLoaded != nil {
		return errNoService
	}
	all := []string{a.plist, a.log}
	for n := 1; n <= 4; n++ {
		all = append(all, a.log+"."+strconv.Itoa(n))
	}
	return remove(out, append(all, filepath.Dir(a.log))...)
}

// Start starts the service, where it does not run, and waits until it is ready.
func Start(w Which, out io.Writer) error {
	a, err := agentOf(w.Name)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(a.plist); err != nil {
		return errNoService
	}
	if _, err := launchctl("print", domain()+"/"+label(w.Name)); err != nil {
		err = bootstrap(a.plist)
		if err != nil {
			return err
		}
	} else if _, err := launchctl("kickstart", domain()+"/"+label(w.Name)); err != nil {
		return err
	}
	if err := readyWithin(a.settings(), readyPatience); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s runs, and is ready\n", w.Name)
	return nil
}

// Stop stops the service. It starts again at the next login.
func Stop(w Which, out io.Writer) error {
	if _, err := launchctl("bootout", domain()+"/"+label(w.Name)); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s is stopped\n", w.Name)
	return nil
}

var processID = regexp.MustCompile(`(?m)^\s*pid = (\d+)`)

// Status says how the service is. It returns ErrNotWell where that is not running
// and ready.
func Status(w Which, out io.Writer) error {
	a, err := agentOf(w.Name)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(a.plist); err != nil {
		return errNoService
	}
	r := report{name: w.Name, state: "stopped", settings: a.settings(), log: a.log}
	said, err := launchctl("print", domain()+"/"+label(w.Name))
	if pid := processID.FindStringSubmatch(said); err == nil && pid != nil {
		r.state, r.runs = "running, process "+pid[1], true
	}
	return r.write(out)
}

// ForUser is the service that Install makes for this user: at each login. An error
// says why it cannot be had.
func ForUser(envFile string) (Which, error) {
	w := Which{Name: DefaultName, EnvFile: envFile}
	if os.Getuid() == 0 {
		return w, errRoot
	}
	_, err := launchctl("print", domain())
	return w, err
}

var errRoot = errors.New("a LaunchAgent is a user's: run this without sudo")
