package daemon

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"

	"github.com/bearerd/bearerd/cmd/internal/logfile"
	"github.com/bearerd/bearerd/tokens"
)

// At the logon of a user: an entry of the registry starts a copy of bearerd that
// has no window. It runs as that user, needs no administrator, and can use the
// user's Credential Manager.

const runKey = `Software\Microsoft\Windows\CurrentVersion\Run`

// ownPlaces are the folders and files of a user's own bearerd. Local is never
// roamed to another machine.
type ownPlaces struct{ folder, program, old, logs string }

func ownPlacesOf(name string) (p ownPlaces, err error) {
	local, err := windows.KnownFolderPath(windows.FOLDERID_LocalAppData, windows.KF_FLAG_CREATE)
	p.folder = filepath.Join(local, "bearerd", name)
	p.program = filepath.Join(p.folder, "bearerd.exe")
	p.old = p.program + ".old"
	p.logs = filepath.Join(p.folder, "log")
	return p, err
}

func (p ownPlaces) all() []string {
	log := filepath.Join(p.logs, logName)
	all := []string{p.program, p.old, log}
	for n := 1; n <= 4; n++ {
		all = append(all, log+"."+strconv.Itoa(n))
	}
	return append(all, filepath.Join(p.logs, crashName), p.logs, p.folder, filepath.Dir(p.folder))
}

func (p ownPlaces) commandLine(name, envFile string) string {
	return fmt.Sprintf(`"%s" service run -user -name %s -env-file %s`, p.program, name, syscall.EscapeArg(envFile))
}

func installAtLogon(w Which, out io.Writer) (err error) {
	p, err := ownPlacesOf(w.Name)
	if err != nil {
		return err
	}
	envFile := w.EnvFile
	if envFile == "" {
		if envFile, err = installedEnvFile(w.Name); err != nil {
			return errNoSettings
		}
	}
	given, err := readSettings(envFile)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	program, err := os.ReadFile(self)
	if err != nil {
		return err
	}
	if err := windowless(program); err != nil {
		return fmt.Errorf("%s: %w", self, err)
	}
	wasRunning, err := runsAtLogon(w.Name)
	if err != nil {
		return err
	}
	var back undo
	defer func() {
		if err != nil {
			back.run()
		}
	}()
	for _, folder := range []string{filepath.Dir(p.folder), p.folder, p.logs} {
		if os.Mkdir(folder, 0o700) == nil {
			back.add(func() { _ = os.Remove(folder) })
		}
	}
	if wasRunning {
		back.add(func() { _ = launch(w.Name) })
		if err := stopAtLogon(w, io.Discard); err != nil {
			return err
		}
	}
	if _, err := os.Lstat(p.program); err == nil {
		_ = os.Remove(p.old)
		if err := os.Rename(p.program, p.old); err != nil {
			return err
		}
		back.add(func() { _ = os.Rename(p.old, p.program) })
	}
	back.add(func() { _ = os.Remove(p.program) })
	if err := tokens.WriteFile(p.program, program, 0o700); err != nil {
		return err
	}
	fmt.Fprintf(out, "wrote %s, a copy of %s without a window\n", p.program, self)
	before, _ := runEntry(w.Name)
	if err := setRunEntry(w.Name, p.commandLine(w.Name, given.path)); err != nil {
		return err
	}
	back.add(func() { _ = setRunEntry(w.Name, before) })
	fmt.Fprintf(out, "wrote the value %s of HKEY_CURRENT_USER\\%s\n", w.Name, runKey)
	if err := launch(w.Name); err != nil {
		return err
	}
	back.add(func() { _ = stopAtLogon(w, io.Discard) })
	notReady := readyWithin(given.path, readyPatience)
	if notReady != nil && wasRunning {
		return takenBack(notReady)
	}
	back = nil
	_ = os.Remove(p.old)
	log := filepath.Join(p.logs, logName)
	if notReady != nil {
		return fmt.Errorf("it is installed, and not ready: %w. It goes on trying; its log is %s", notReady, log)
	}
	fmt.Fprintf(out, "%s runs, is ready, and starts when you log on; its settings stay in %s, its log is %s\n", w.Name, given.path, log)
	return nil
}

func uninstallAtLogon(w Which, out io.Writer) error {
	p, err := ownPlacesOf(w.Name)
	if err != nil {
		return err
	}
	if err := stopAtLogon(w, io.Discard); err != nil && !errors.Is(err, errNotRunning) {
		return err
	}
	entry, _ := runEntry(w.Name)
	if err := setRunEntry(w.Name, ""); err != nil {
		return err
	}
	if entry == "" {
		if _, err := os.Lstat(p.folder); err != nil {
			return errNoService
		}
	} else {
		fmt.Fprintf(out, "removed the value %s of HKEY_CURRENT_USER\\%s\n", w.Name, runKey)
	}
	return remove(out, p.all()...)
}

// runEntry is the command line that Windows starts at this user's logon.
func runEntry(name string) (string, error) {
	k, err := registry.OpenKey(registry.CURRENT_USER, runKey, registry.QUERY_VALUE)
	if err != nil {
		return "", err
	}
	defer func() { _ = k.Close() }()
	line, _, err := k.GetStringValue(name)
	return line, err
}

// setRunEntry sets it; an empty one is removed.
func setRunEntry(name, line string) error {
	k, _, err := registry.CreateKey(registry.CURRENT_USER, runKey, registry.SET_VALUE)
	if err != nil {
		return err
	}
	defer func() { _ = k.Close() }()
	if line != "" {
		return k.SetStringValue(name, line)
	}
	if err := k.DeleteValue(name); !errors.Is(err, registry.ErrNotExist) {
		return err
	}
	return nil
}

// installedEnvFile is the file of settings that the entry names.
func installedEnvFile(name string) (string, error) {
	line, err := runEntry(name)
	if err != nil {
		return "", errNoService
	}
	args, err := windows.DecomposeCommandLine(line)
	if err != nil || len(args) != 8 || args[6] != "-env-file" {
		return "", fmt.Errorf("the value %s of HKEY_CURRENT_USER\\%s is not one of bearerd's", name, runKey)
	}
	return args[7], nil
}

// launch starts what the entry says, as the logon does.
func launch(name string) error {
	envFile, err := installedEnvFile(name)
	if err != nil {
		return err
	}
	p, err := ownPlacesOf(name)
	if err != nil {
		return err
	}
	cmd := exec.Command(p.program, "service", "run", "-user", "-name", name, "-env-file", envFile)
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: windows.DETACHED_PROCESS | windows.CREATE_NEW_PROCESS_GROUP}
	if err := cmd.Start(); err != nil {
		return err
	}
	return cmd.Process.Release()
}

// stopEvent is what a bearerd of a user waits for: of this logon session, as the
// program is.
func stopEvent(name string) *uint16 {
	wide, _ := windows.UTF16PtrFromString(`Local\bearerd-` + name + `-stop`) // no zero is in it
	return wide
}

func runsAtLogon(name string) (bool, error) {
	h, err := windows.OpenEvent(windows.SYNCHRONIZE, false, stopEvent(name))
	if errors.Is(err, windows.ERROR_FILE_NOT_FOUND) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, windows.CloseHandle(h)
}

var errNotRunning = errors.New("it does not run")

func startAtLogon(w Which, out io.Writer) error {
	envFile, err := installedEnvFile(w.Name)
	if err != nil {
		return err
	}
	runs, err := runsAtLogon(w.Name)
	if err == nil && !runs {
		err = launch(w.Name)
	}
	if err == nil {
		err = readyWithin(envFile, readyPatience)
	}
	if err == nil {
		fmt.Fprintf(out, "%s runs, and is ready\n", w.Name)
	}
	return err
}

func stopAtLogon(w Which, out io.Writer) error {
	h, err := windows.OpenEvent(windows.EVENT_MODIFY_STATE, false, stopEvent(w.Name))
	if errors.Is(err, windows.ERROR_FILE_NOT_FOUND) {
		return errNotRunning
	}
	if err != nil {
		return err
	}
	err = windows.SetEvent(h)
	_ = windows.CloseHandle(h) // or it would stay for ever
	if err != nil {
		return err
	}
	// BEARERD_DRAIN_DELAY and BEARERD_SHUTDOWN_GRACE may be long.
	for deadline, tick := time.Now().Add(2*time.Minute), time.NewTicker(100*time.Millisecond); ; <-tick.C {
		if runs, err := runsAtLogon(w.Name); err != nil || !runs {
			tick.Stop()
			fmt.Fprintf(out, "%s is stopped\n", w.Name)
			return err
		}
		if time.Now().After(deadline) {
			tick.Stop()
			return errors.New("it has not stopped within two minutes: end bearerd.exe in the Task Manager")
		}
	}
}

func statusAtLogon(w Which, out io.Writer) error {
	p, err := ownPlacesOf(w.Name)
	if err != nil {
		return err
	}
	envFile, err := installedEnvFile(w.Name)
	if err != nil {
		return err
	}
	r := report{name: w.Name, state: "stopped", program: p.program, settings: envFile, log: filepath.Join(p.logs, logName)}
	if r.runs, err = runsAtLogon(w.Name); err != nil {
		return err
	}
	if r.runs {
		r.state = "running"
	}
	return r.write(out)
}

// runAtLogon serves, and starts again what failed, after a while: each start costs
// a login.
func runAtLogon(w Which, serve Serve) (code int, err error) {
	stop, err := windows.CreateEvent(nil, 1, 0, stopEvent(w.Name))
	if errors.Is(err, windows.ERROR_ALREADY_EXISTS) {
		_ = windows.CloseHandle(stop)
		return 0, nil // it runs
	}
	if err != nil {
		return 1, err
	}
	defer func() { _ = windows.CloseHandle(stop) }()
	p, err := ownPlacesOf(w.Name)
	if err != nil {
		return 1, err
	}
	keepCrash(p.logs)
	log := io.Discard
	if file, err := logfile.Open(filepath.Join(p.logs, logName)); err == nil {
		defer func() { _ = file.Close() }()
		log = file
	}
	signals := make(chan os.Signal, 1)
	go func() {
		_, _ = windows.WaitForSingleObject(stop, windows.INFINITE)
		signals <- os.Interrupt
	}()
	for {
		if code = serve(w.EnvFile, signals, log); endsForGood(code) {
			return code, nil
		}
		select {
		case <-signals:
			return code, nil
		case <-time.After(30 * time.Second):
		}
	}
}
