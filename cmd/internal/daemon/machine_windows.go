package daemon

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/eventlog"
	"golang.org/x/sys/windows/svc/mgr"

	"github.com/bearerd/bearerd/cmd/internal/config"
	"github.com/bearerd/bearerd/tokens"
)

// places are the folders and files of a service of the machine.
type places struct {
	programs, program string // where only Administrators write
	common, folder    string
	settings, files   string // files: copies of what the settings name
	logs              string
}

func placesOf(name string) places {
	// Both are always there; asked of the system, as anybody sets the variables.
	programs, _ := windows.KnownFolderPath(windows.FOLDERID_ProgramFiles, 0)
	data, _ := windows.KnownFolderPath(windows.FOLDERID_ProgramData, 0)
	p := places{programs: filepath.Join(programs, "bearerd", name), common: filepath.Join(data, "bearerd")}
	p.program = filepath.Join(p.programs, "bearerd.exe")
	p.folder = filepath.Join(p.common, name)
	p.settings = filepath.Join(p.folder, "settings.env")
	p.files = filepath.Join(p.folder, "files")
	p.logs = filepath.Join(p.folder, "log")
	return p
}

// commandLine is how the service is started. It names the service, so that nothing
// has to find out whether there is one. Nothing in it has a quote.
func (p places) commandLine(name string) string {
	return `"` + p.program + `" service run -name ` + name
}

// old is where the program of before stays until its follower is ready.
func (p places) old() string { return p.program + ".old" }

// all is what Install makes, files before the folder that they are in.
func (p places) all() []string {
	all := []string{p.program, p.old(), p.programs, filepath.Dir(p.programs), p.settings}
	for _, s := range config.SettingsOf(new(config.Config)) {
		if name, ok := fileName(s.Name); ok {
			all = append(all, filepath.Join(p.files, name))
		}
	}
	log := filepath.Join(p.logs, logName)
	all = append(all, log)
	for n := 1; n <= 4; n++ {
		all = append(all, log+"."+strconv.Itoa(n))
	}
	return append(all, filepath.Join(p.logs, crashName), p.files, p.logs, p.folder, p.common)
}

// errNotElevated stands for "access denied" by the service control manager.
var errNotElevated = errors.New("only administrators may do that: open the terminal by Run as administrator; or take -user, which needs no rights")

// manager connects to the service control manager with no more rights than needed:
// mgr.Connect and OpenService ask for all (golang/go 51465, 48777).
func manager(access uint32) (*mgr.Mgr, error) {
	h, err := windows.OpenSCManager(nil, nil, access)
	if errors.Is(err, windows.ERROR_ACCESS_DENIED) {
		return nil, errNotElevated
	}
	if err != nil {
		return nil, fmt.Errorf("the service control manager: %w", err)
	}
	return &mgr.Mgr{Handle: h}, nil
}

func openService(m *mgr.Mgr, name string, access uint32) (*mgr.Service, error) {
	wide, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return nil, err
	}
	h, err := windows.OpenService(m.Handle, wide, access)
	switch {
	case errors.Is(err, windows.ERROR_SERVICE_DOES_NOT_EXIST):
		return nil, errNoService
	case errors.Is(err, windows.ERROR_ACCESS_DENIED):
		return nil, errNotElevated
	case err != nil:
		return nil, fmt.Errorf("the service %s: %w", name, err)
	}
	return &mgr.Service{Name: name, Handle: h}, nil
}

// commandLineOf is how a service is started. (Service.Config asks for more, which
// Wine does not know.)
func commandLineOf(s *mgr.Service) (string, error) {
	for n := uint32(1024); ; {
		buf := make([]byte, n)
		cfg := (*windows.QUERY_SERVICE_CONFIG)(unsafe.Pointer(&buf[0]))
		err := windows.QueryServiceConfig(s.Handle, cfg, n, &n)
		if err == nil {
			return windows.UTF16PtrToString(cfg.BinaryPathName), nil
		}
		if !errors.Is(err, windows.ERROR_INSUFFICIENT_BUFFER) || n <= uint32(len(buf)) {
			return "", err
		}
	}
}

// withService opens a service for f.
func withService(name string, access uint32, f func(*mgr.Service) error) error {
	m, err := manager(windows.SC_MANAGER_CONNECT)
	if err != nil {
		return err
	}
	defer func() { _ = m.Disconnect() }()
	s, err := openService(m, name, access)
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	return f(s)
}

func installMachine(w Which, ask Ask, out io.Writer) (err error) {
	p := placesOf(w.Name)
	m, err := manager(windows.SC_MANAGER_CONNECT | windows.SC_MANAGER_CREATE_SERVICE)
	if err != nil {
		return err
	}
	defer func() { _ = m.Disconnect() }()
	s, err := openService(m, w.Name, windows.SERVICE_ALL_ACCESS)
	there := err == nil
	switch {
	case there:
		defer func() { _ = s.Close() }()
		if runs, err := commandLineOf(s); err != nil {
			return fmt.Errorf("the service %s: %w", w.Name, err)
		} else if !strings.EqualFold(runs, p.commandLine(w.Name)) {
			return fmt.Errorf("the service %s is there and runs another program, %s: take another -name", w.Name, runs)
		}
	case !errors.Is(err, errNoService):
		return err
	}
	var given settings
	if w.EnvFile != "" {
		if given, err = readSettings(w.EnvFile); err != nil {
			return err
		}
		if err := takeOver(w, ask, &given, out); err != nil {
			return err
		}
	} else if !there {
		return errNoSettings
	}

	var back undo
	defer func() {
		if err != nil {
			back.run()
		}
	}()
	var wasReady bool
	if there {
		wasReady = readyWithin(p.settings, 0) == nil
		if status, err := s.Query(); err != nil {
			return err
		} else if status.State != svc.Stopped {
			back.add(func() { _ = s.Start() }) // the last, when all else is as it was
		}
	}
	if err := makeFolders(&back, p, w.Name); err != nil {
		return err
	}
	if there {
		if err := stopService(s); err != nil {
			return err
		}
	}
	if given.path != "" {
		if err := copySettings(&back, p, given, out); err != nil {
			return err
		}
	}
	if err := copyProgram(&back, p, out); err != nil {
		return err
	}
	if !there {
		if s, err = createService(m, w.Name, p.commandLine(w.Name)); err != nil {
			return fmt.Errorf("making the service: %w", err)
		}
		defer func() { _ = s.Close() }()
		back.add(func() { _ = s.Delete() })
		fmt.Fprintf(out, "made the service %s\n", w.Name)
	}
	if err := configure(s, p, w.Name, out); err != nil {
		return err
	}
	if err := eventlog.InstallAsEventCreate(w.Name, eventlog.Info|eventlog.Warning|eventlog.Error); err == nil {
		back.add(func() { _ = eventlog.Remove(w.Name) })
		fmt.Fprintf(out, "registered %s as a source of the Event Log\n", w.Name)
	} // else one is there, of a service before; or none can be had, and the log is in its file
	if err := startService(s); err != nil {
		return err
	}
	back.add(func() { _ = stopService(s) })
	notReady := awaitReady(s, p)
	if notReady != nil && there && wasReady {
		return takenBack(notReady)
	}
	back = nil
	_ = os.Remove(p.old())
	if notReady != nil {
		return fmt.Errorf("the service is installed, and not ready: %w. It goes on trying; its log is %s", notReady, filepath.Join(p.logs, logName))
	}
	fmt.Fprintf(out, "%s runs, is ready, and starts with the machine; its log is %s\n", w.Name, filepath.Join(p.logs, logName))
	return nil
}

func makeFolders(back *undo, p places, name string) error {
	for _, folder := range []struct{ path, rights string }{
		{p.common, noRight}, {p.folder, mayRead}, {p.files, mayRead}, {p.logs, mayReadMore},
	} {
		made, err := closedFolder(folder.path, name, folder.rights)
		if err != nil {
			return err
		}
		if made {
			back.add(func() { _ = os.Remove(folder.path) })
		}
	}
	for _, folder := range []string{filepath.Dir(p.programs), p.programs} {
		err := os.Mkdir(folder, 0o755) // in Program Files, whose access it takes
		if err == nil {
			back.add(func() { _ = os.Remove(folder) })
		} else if !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}

// copySettings copies the settings and each file that they name: the service's
// account sees no user's folder. Of a secret in the key store it makes a file.
func copySettings(back *undo, p places, given settings, out io.Writer) error {
	text, err := config.WithFiles(given.text, func(setting, path string) (string, error) {
		if secret, ok := strings.CutSuffix(setting, "_KEYRING"); ok {
			return copySecret(back, p, secret, path, out)
		}
		name, ok := fileName(setting)
		if !ok {
			return path, nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return "", fmt.Errorf("%s: %w", setting, err)
		}
		copied := filepath.Join(p.files, name)
		if err := replaceFile(back, copied, data, 0o600); err != nil {
			return "", err
		}
		fmt.Fprintf(out, "wrote %s, a copy of %s, which is not read any more\n", copied, path)
		return copied, nil
	})
	if err == nil {
		err = replaceFile(back, p.settings, []byte(text), 0o600)
	}
	if err == nil {
		fmt.Fprintf(out, "wrote %s, a copy of %s, which is not read any more\n", p.settings, given.path)
	}
	return err
}

// copyProgram puts this program where only Administrators write. One that runs
// cannot be overwritten, but renamed.
func copyProgram(back *undo, p places, out io.Writer) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	data, err := os.ReadFile(self)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(p.program); err == nil {
		_ = os.Remove(p.old())
		if err := os.Rename(p.program, p.old()); err != nil {
			return err
		}
		back.add(func() { _ = os.Rename(p.old(), p.program) })
	}
	back.add(func() { _ = os.Remove(p.program) })
	if err := tokens.WriteFile(p.program, data, 0o755); err != nil {
		return err
	}
	fmt.Fprintf(out, "wrote %s, a copy of %s\n", p.program, self)
	return nil
}

// createService makes a service with a command line, which mgr.CreateService quotes
// only where it must.
func createService(m *mgr.Mgr, name, commandLine string) (*mgr.Service, error) {
	var wide [3]*uint16
	for i, text := range []string{name, commandLine, `NT AUTHORITY\LocalService`} {
		var err error
		if wide[i], err = windows.UTF16PtrFromString(text); err != nil {
			return nil, err
		}
	}
	h, err := windows.CreateService(m.Handle, wide[0], wide[0], windows.SERVICE_ALL_ACCESS, windows.SERVICE_WIN32_OWN_PROCESS,
		mgr.StartAutomatic, mgr.ErrorNormal, wide[1], nil, nil, nil, wide[2], nil)
	if err != nil {
		return nil, err
	}
	return &mgr.Service{Name: name, Handle: h}, nil
}

// configure sets what CreateService has no place for. What a system does not know
// is told of: every Windows since 7 knows all of it, Wine 8 does not.
func configure(s *mgr.Service, p places, name string, out io.Writer) error {
	restart := func(after time.Duration) mgr.RecoveryAction {
		return mgr.RecoveryAction{Type: mgr.ServiceRestart, Delay: after}
	}
	sid := uint32(windows.SERVICE_SID_TYPE_UNRESTRICTED)
	delayed := windows.SERVICE_DELAYED_AUTO_START_INFO{IsDelayedAutoStartUp: 1}
	description, err := windows.UTF16PtrFromString("Puts a bearer token on every request that a tool on this machine sends to it. Settings: " + p.settings)
	if err != nil {
		return err
	}
	for _, set := range []struct {
		what string
		err  error
	}{
		{"an identity of the service's own", change(s, windows.SERVICE_CONFIG_SERVICE_SID_INFO, &sid)},
		{"a delayed start", change(s, windows.SERVICE_CONFIG_DELAYED_AUTO_START_INFO, &delayed)},
		{"a description", change(s, windows.SERVICE_CONFIG_DESCRIPTION, &windows.SERVICE_DESCRIPTION{Description: description})},
		// Each start costs a login.
		{"a restart on failure", s.SetRecoveryActions([]mgr.RecoveryAction{restart(10 * time.Second), restart(time.Minute), restart(5 * time.Minute)}, 24*60*60)},
		{"a restart after a stop with an error code", s.SetRecoveryActionsOnNonCrashFailures(true)},
	} {
		switch {
		case set.err == nil:
		case errors.Is(set.err, windows.ERROR_INVALID_LEVEL), errors.Is(set.err, windows.ERROR_CALL_NOT_IMPLEMENTED):
			fmt.Fprintf(out, "this system does not know %s\n", set.what)
		default:
			return fmt.Errorf("the service %s, %s: %w", name, set.what, set.err)
		}
	}
	return nil
}

func awaitReady(s *mgr.Service, p places) error {
	// A service that ends at once, of bad settings say, has not to be waited for.
	ready := make(chan error, 1)
	go func() { ready <- readyWithin(p.settings, readyPatience) }()
	for tick := time.NewTicker(200 * time.Millisecond); ; {
		select {
		case err := <-ready:
			tick.Stop()
			return err
		case <-tick.C:
			if status, err := s.Query(); err == nil && status.State == svc.Stopped {
				tick.Stop()
				return errors.New("it has stopped; the Event Log and " + filepath.Join(p.logs, logName) + " say why")
			}
		}
	}
}

// startService starts a service that may run already. While the machine starts its
// own, the manager is locked, or late.
func startService(s *mgr.Service) error {
	for deadline, tick := time.Now().Add(time.Minute), time.NewTicker(time.Second); ; <-tick.C {
		err := s.Start()
		switch {
		case err == nil, errors.Is(err, windows.ERROR_SERVICE_ALREADY_RUNNING):
			tick.Stop()
			return nil
		case !errors.Is(err, windows.ERROR_SERVICE_DATABASE_LOCKED) && !errors.Is(err, windows.ERROR_SERVICE_REQUEST_TIMEOUT), time.Now().After(deadline):
			tick.Stop()
			return fmt.Errorf("starting the service: %w", err)
		}
	}
}

// stopService stops a service that may be stopped already, and waits for as long
// as it says that it is at work.
func stopService(s *mgr.Service) error {
	_, err := s.Control(svc.Stop)
	if err != nil && !errors.Is(err, windows.ERROR_SERVICE_NOT_ACTIVE) && !errors.Is(err, windows.ERROR_SERVICE_CANNOT_ACCEPT_CTRL) {
		return fmt.Errorf("stopping the service: %w", err)
	}
	const patience = 30 * time.Second
	var last svc.Status
	changed := time.Now()
	for tick := time.NewTicker(100 * time.Millisecond); ; <-tick.C {
		status, err := s.Query()
		if err != nil || status.State == svc.Stopped {
			tick.Stop()
			return err
		}
		if status.State != last.State || status.CheckPoint != last.CheckPoint {
			last, changed = status, time.Now()
		}
		if time.Since(changed) > patience {
			tick.Stop()
			return errors.New("the service does not stop: end its process in the Task Manager")
		}
	}
}

func uninstallMachine(w Which, out io.Writer) error {
	p := placesOf(w.Name)
	err := withService(w.Name, windows.SERVICE_STOP|windows.SERVICE_QUERY_STATUS|windows.SERVICE_QUERY_CONFIG|windows.DELETE, func(s *mgr.Service) error {
		if runs, err := commandLineOf(s); err != nil || !strings.EqualFold(runs, p.commandLine(w.Name)) {
			return fmt.Errorf("the service %s runs another program, %s: it stays", w.Name, runs)
		}
		if err := stopService(s); err != nil {
			return err
		}
		return s.Delete()
	})
	if err != nil && !errors.Is(err, errNoService) {
		return err
	}
	// It is gone when nobody has it open any more.
	for deadline, tick := time.Now().Add(10*time.Second), time.NewTicker(100*time.Millisecond); err == nil; <-tick.C {
		still := withService(w.Name, windows.SERVICE_QUERY_STATUS, func(*mgr.Service) error { return nil })
		if errors.Is(still, errNoService) {
			fmt.Fprintf(out, "removed the service %s\n", w.Name)
			break
		}
		if time.Now().After(deadline) {
			return errors.New("the service goes as soon as nobody looks at it: close services.msc and the Task Manager, and run this again")
		}
	}
	if eventlog.Remove(w.Name) == nil {
		fmt.Fprintf(out, "removed %s as a source of the Event Log\n", w.Name)
	}
	removed := remove(out, p.all()...)
	if removed == nil && errors.Is(err, errNoService) {
		return err
	}
	return removed
}

func startMachine(w Which, out io.Writer) error {
	p := placesOf(w.Name)
	return withService(w.Name, windows.SERVICE_START|windows.SERVICE_QUERY_STATUS, func(s *mgr.Service) error {
		if err := startService(s); err != nil {
			return err
		}
		if err := awaitReady(s, p); err != nil {
			return err
		}
		fmt.Fprintf(out, "%s runs, and is ready\n", w.Name)
		return nil
	})
}

func stopMachine(w Which, out io.Writer) error {
	return withService(w.Name, windows.SERVICE_STOP|windows.SERVICE_QUERY_STATUS, func(s *mgr.Service) error {
		err := stopService(s)
		if err == nil {
			fmt.Fprintf(out, "%s is stopped\n", w.Name)
		}
		return err
	})
}

func statusMachine(w Which, out io.Writer) error {
	p := placesOf(w.Name)
	return withService(w.Name, windows.SERVICE_QUERY_STATUS, func(s *mgr.Service) error {
		status, err := s.Query()
		if err != nil {
			return err
		}
		r := report{name: w.Name, program: p.program, settings: p.settings, log: filepath.Join(p.logs, logName)}
		switch status.State {
		case svc.Running:
			r.state = fmt.Sprintf("running, process %d", status.ProcessId)
			r.runs = true
		case svc.Stopped:
			r.state = "stopped"
		default:
			r.state = "on its way to run or to stop"
		}
		return r.write(out)
	})
}

// change sets one level of a service's configuration.
func change[T any](s *mgr.Service, level uint32, to *T) error {
	return windows.ChangeServiceConfig2(s.Handle, level, (*byte)(unsafe.Pointer(to)))
}
