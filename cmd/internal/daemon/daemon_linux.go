package daemon

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/bearerd/bearerd/cmd/internal/config"
	"github.com/bearerd/bearerd/tokens"
)

// logOf: the journal has it.
func logOf(string) string { return "" }

// unit is a service as systemctl is asked for it.
type unit struct {
	Which
	manager []string // which systemd: --user, or none
	file    string   // of the service
}

func unitOf(w Which) (unit, error) {
	if w.User {
		return unit{}, errors.New("-user is what a service of Linux is without -system: leave it out")
	}
	if w.System {
		p := systemPlacesOf(w.Name)
		return unit{w, nil, p.unit(p.service)}, nil
	}
	if os.Geteuid() == 0 && os.Getenv("SUDO_USER") != "" {
		return unit{}, errors.New("sudo has no systemd of its own user: run this without sudo, or with -system for a service of the machine")
	}
	folder, err := os.UserConfigDir()
	return unit{w, []string{"--user"}, filepath.Join(folder, "systemd/user", w.Name+".service")}, err
}

func (u unit) systemctl(args ...string) (string, error) {
	out, err := exec.Command("systemctl", append(slices.Clone(u.manager), args...)...).CombinedOutput()
	said := strings.TrimSpace(string(out))
	if err != nil {
		return said, fmt.Errorf("systemctl %s: %w: %s", strings.Join(args, " "), err, said)
	}
	return said, nil
}

// check looks whether there is a systemd to speak to, before anything is written,
// and whether the unit is one of Install's.
func (u unit) check() (there bool, err error) {
	if u.System && os.Geteuid() != 0 {
		return false, errors.New("a service of the machine is root's: run this with sudo")
	}
	if _, err := u.systemctl("show-environment"); err != nil {
		if u.System {
			return false, fmt.Errorf("no systemd runs here: %w", err)
		}
		return false, fmt.Errorf("no systemd runs for this user; log in at the machine or by ssh, not by su or sudo: %w", err)
	}
	return u.written()
}

// written reports whether Install has written the unit. It fails for one of
// somebody else.
func (u unit) written() (there bool, err error) {
	text, err := os.ReadFile(u.file)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err == nil && !strings.HasPrefix(string(text), marker) {
		err = fmt.Errorf("%s is there, and `bearerd service install` has not written it: remove it, or take another -name", u.file)
	}
	return err == nil, err
}

var execStart = regexp.MustCompile(`(?m)^ExecStart=.* -env-file "(.*)"$`)

// settings is the file of settings that the service has.
func (u unit) settings() string {
	if u.System {
		return systemPlacesOf(u.Name).settings
	}
	text, _ := os.ReadFile(u.file)
	if found := execStart.FindStringSubmatch(string(text)); found != nil {
		return strings.NewReplacer(`\\`, `\`, `\"`, `"`, `%%`, `%`, `$$`, `$`).Replace(found[1])
	}
	return ""
}

func (u unit) log() string {
	return strings.Join(append([]string{"journalctl"}, append(slices.Clone(u.manager), "-u", u.Name)...), " ")
}

// Install has systemd run this program with the settings of w.EnvFile, now and from
// now on. Run again, it puts these in the place of those before, and goes back to
// them where the new ones are not ready. What fails leaves what was there. It says
// what it writes.
func Install(w Which, environ []string, _ Ask, out io.Writer) (err error) {
	u, err := unitOf(w)
	if err != nil {
		return err
	}
	there, err := u.check()
	if err != nil {
		return err
	}
	noteEnvironment(out, environ)
	envFile := w.EnvFile
	if envFile == "" {
		if !there || u.System {
			return errNoSettings
		}
		envFile = u.settings()
	}
	given, err := readSettings(envFile)
	if err != nil {
		return err
	}
	wasReady := there && readyWithin(u.settings(), 0) == nil
	var back undo
	defer func() {
		if err != nil {
			back.run()
			_, _ = u.systemctl("daemon-reload")
			if there {
				_, _ = u.systemctl("restart", u.Name)
			}
		}
	}()
	units := []string{u.Name + ".service"}
	if u.System {
		units, err = u.writeSystem(&back, given, out)
	} else {
		err = u.writeUser(&back, given, out)
	}
	if err != nil {
		return err
	}
	if _, err := u.systemctl("daemon-reload"); err != nil {
		return err
	}
	back.add(func() {
		if !there {
			_, _ = u.systemctl(append([]string{"disable", "--now"}, units...)...)
		}
	})
	if _, err := u.systemctl(append([]string{"enable"}, units...)...); err != nil {
		return err
	}
	if _, err := u.systemctl(append([]string{"stop"}, units...)...); err != nil {
		return err
	}
	if err := u.start(units); err != nil {
		return err
	}
	notReady := readyWithin(u.settings(), readyPatience)
	if notReady != nil && wasReady {
		return takenBack(notReady)
	}
	back, there = nil, false
	if notReady != nil {
		return fmt.Errorf("it is installed, and not ready: %w. It goes on trying; its log is what `%s` shows", notReady, u.log())
	}
	if u.System {
		fmt.Fprintf(out, "%s runs, is ready, and starts with the machine; its log is what `%s` shows\n", u.Name, u.log())
		return nil
	}
	fmt.Fprintf(out, "%s runs, is ready, and starts when you log in; its settings stay in %s, its log is what `%s` shows\n"+
		"`loginctl enable-linger` has it start with the machine, and go on when you log out.\n", u.Name, given.path, u.log())
	return nil
}

// start starts units that do not run: the sockets first, as systemd refuses one whose
// service is there already.
func (u unit) start(units []string) error {
	service := u.Name + ".service"
	if sockets := slices.DeleteFunc(slices.Clone(units), func(name string) bool { return name == service }); len(sockets) > 0 {
		if _, err := u.systemctl(append([]string{"start"}, sockets...)...); err != nil && !u.active(service) {
			return err
		}
	}
	_, err := u.systemctl("start", service)
	return err
}

// active reports whether a unit runs.
func (u unit) active(name string) bool {
	_, err := u.systemctl("is-active", "--quiet", name)
	return err == nil
}

func (u unit) writeUser(back *undo, given settings, out io.Writer) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(u.file), 0o755); err != nil {
		return err
	}
	if err := replaceFile(back, u.file, []byte(userUnit(self, given.path)), 0o644); err != nil {
		return err
	}
	fmt.Fprintln(out, "wrote", u.file)
	return nil
}

// writeSystem writes what deploy/systemd tells to, and returns the units to start.
func (u unit) writeSystem(back *undo, given settings, out io.Writer) (units []string, err error) {
	p := systemPlacesOf(u.Name)
	if err := u.recentEnough(); err != nil {
		return nil, err
	}
	if err := refuseKeyring(given, "or install without -system, which runs as you and can use your store"); err != nil {
		return nil, err
	}
	if there, _ := u.written(); !there {
		if _, err := os.Lstat(p.folder); err == nil {
			return nil, fmt.Errorf("%s is there, and `bearerd service install` has not made it: remove it, or take another -name", p.folder)
		}
	}
	folder := func(path string, mode os.FileMode) error {
		err := os.Mkdir(path, mode)
		if err == nil {
			back.add(func() { _ = os.Remove(path) })
		} else if errors.Is(err, os.ErrExist) {
			return nil
		}
		return err
	}
	for _, f := range []struct {
		path string
		mode os.FileMode
	}{{filepath.Dir(p.programs), 0o755}, {p.programs, 0o755}, {p.folder, 0o700}, {p.credentials, 0o700}} {
		if err := folder(f.path, f.mode); err != nil {
			return nil, err
		}
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	program, err := os.ReadFile(self)
	if err != nil {
		return nil, err
	}
	if err := replaceFile(back, p.program, program, 0o755); err != nil {
		return nil, err
	}
	fmt.Fprintf(out, "wrote %s, a copy of %s\n", p.program, self)
	var credentials []string
	text, err := config.WithFiles(given.text, func(setting, path string) (string, error) {
		data, err := os.ReadFile(path)
		if err != nil {
			return "", fmt.Errorf("%s: %w", setting, err)
		}
		name, _ := fileName(setting)
		copied := filepath.Join(p.credentials, name)
		credentials = append(credentials, name)
		fmt.Fprintf(out, "wrote %s, a copy of %s, which is not read any more\n", copied, path)
		return "", replaceFile(back, copied, data, 0o600)
	})
	if err == nil {
		err = replaceFile(back, p.settings, []byte(text), 0o600)
	}
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(out, "wrote %s, a copy of %s, which is not read any more\n", p.settings, given.path)
	all := systemUnits(u.Name, text, credentials)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if err := replaceFile(back, p.unit(name), []byte(all[name]), 0o644); err != nil {
			return nil, err
		}
		fmt.Fprintln(out, "wrote", p.unit(name))
		units = append(units, name)
	}
	return units, nil
}

// recentEnough looks at systemd's version: the units want 251.
func (u unit) recentEnough() error {
	said, err := u.systemctl("--version")
	if err != nil {
		return err
	}
	if fields := strings.Fields(said); len(fields) > 1 {
		if version, err := strconv.Atoi(fields[1]); err == nil && version < 251 {
			return fmt.Errorf("systemd is %d here, and the unit wants 251 or later: see docs/background.md", version)
		}
	}
	return nil
}

// present returns the service's units, where Install has written it.
func present(w Which) (u unit, units []string, err error) {
	if u, err = unitOf(w); err != nil {
		return u, nil, err
	}
	there, err := u.check()
	if err == nil && !there {
		err = errNoService
	}
	units = []string{w.Name + ".service"}
	if w.System {
		p := systemPlacesOf(w.Name)
		for _, name := range []string{p.socket, p.admin} {
			if _, err := os.Lstat(p.unit(name)); err == nil {
				units = append(units, name)
			}
		}
		slices.Sort(units)
	}
	return u, units, err
}

// Uninstall stops the service and removes what Install has written, and no more.
func Uninstall(w Which, out io.Writer) error {
	u, units, err := present(w)
	if err != nil {
		return err
	}
	if _, err := u.systemctl(append([]string{"disable", "--now"}, units...)...); err != nil {
		return err
	}
	all := []string{u.file}
	if u.System {
		p := systemPlacesOf(u.Name)
		all = nil
		for _, name := range units {
			all = append(all, p.unit(name))
		}
		all = append(all, p.settings)
		for _, s := range config.SettingsOf(new(config.Config)) {
			if name, ok := fileName(s.Name); ok {
				all = append(all, filepath.Join(p.credentials, name))
			}
		}
		all = append(all, p.credentials, p.folder, p.program, p.programs, filepath.Dir(p.programs))
		all = append(append(all, tokens.FolderFiles(p.state)...), p.state, p.stateLink)
	}
	err = remove(out, all...)
	_, reloaded := u.systemctl("daemon-reload")
	_, _ = u.systemctl(append([]string{"reset-failed"}, units...)...) // of which none may have failed
	return errors.Join(err, reloaded)
}

// Start starts the service, where it does not run, and waits until it is ready.
func Start(w Which, out io.Writer) error {
	u, units, err := present(w)
	if err != nil {
		return err
	}
	if err := u.start(units); err != nil {
		return err
	}
	if err := readyWithin(u.settings(), readyPatience); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s runs, and is ready\n", w.Name)
	return nil
}

// Stop stops the service, and waits for that. It starts again with the system.
func Stop(w Which, out io.Writer) error {
	u, units, err := present(w)
	if err != nil {
		return err
	}
	if _, err := u.systemctl(append([]string{"stop"}, units...)...); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s is stopped\n", w.Name)
	return nil
}

// Status says how the service is. It returns ErrNotWell where that is not running
// and ready.
func Status(w Which, out io.Writer) error {
	u, err := unitOf(w)
	if err != nil {
		return err
	}
	there, err := u.written()
	if err != nil {
		return err
	}
	if !there {
		return errNoService
	}
	state, err := u.systemctl("show", "-P", "ActiveState", u.Name)
	if err != nil {
		return err
	}
	r := report{name: w.Name, state: state, settings: u.settings(), log: u.log()}
	if r.runs = state == "active"; r.runs {
		if pid, err := u.systemctl("show", "-P", "MainPID", u.Name); err == nil {
			r.state = "running, process " + pid
		}
	}
	return r.write(out)
}

// ForUser is the service that Install makes for this user: at each login. An error
// says why it cannot be had.
func ForUser(envFile string) (Which, error) {
	w := Which{Name: DefaultName, EnvFile: envFile}
	u, err := unitOf(w)
	if err == nil {
		_, err = u.check()
	}
	return w, err
}
