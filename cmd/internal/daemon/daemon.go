// Package daemon has the system run bearerd: as a Windows service, at a user's logon,
// as a LaunchAgent or as a systemd unit. It knows each thing that it writes for that,
// and removes no other. It does not know what a running bearerd does.
package daemon

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/config"
	"github.com/bearerd/bearerd/cmd/internal/display"
	"github.com/bearerd/bearerd/cmd/internal/healthcheck"
	"github.com/bearerd/bearerd/tokens"
)

// Which says which service is meant.
type Which struct {
	Name   string // also of its files: what CheckName lets pass
	User   bool   // Windows: started at the logon of this user
	System bool   // Linux: of the machine; else of this user
	// EnvFile has the settings: install reads them. Empty, where the service is
	// there already: those that it has.
	EnvFile string

	// Of what is the user's own, and the service's account cannot use, Install on
	// Windows copies secrets out of the key store, and writes the proxy down.
	TakeSecrets, TakeProxy bool
}

// Ask asks the person at the terminal; nil: nobody is there.
type Ask func(question string) (yes bool, err error)

// DefaultName is the name of a service that is given none.
const DefaultName = "bearerd"

var serviceName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,39}$`)

// CheckName says what is wrong with a name, which becomes that of files, folders,
// units and a service of Windows.
func CheckName(name string) error {
	if !serviceName.MatchString(name) {
		return errors.New("-name: write a-z, 0-9 and -, at most 40 of them, a letter first")
	}
	return nil
}

// ErrNotWell is what Status returns, once it has said so, for a service that does
// not run or is not ready.
var ErrNotWell = errors.New("the service does not run, or is not ready")

// Serve is bearerd's serve with the settings of a file: it logs to log, ends at a
// signal, and returns its exit code.
type Serve func(envFile string, signals <-chan os.Signal, log io.Writer) (code int)

// endsForGood reports whether a restart would not mend what an exit code says: the
// last two are a wrong command line and bad settings.
func endsForGood(code int) bool { return code == 0 || code == 64 || code == 78 }

// settings is what a service is to be installed with.
type settings struct {
	text string // of the file
	path string // absolute
	is   config.Config
}

// readSettings reads a file of settings and checks them as the service will find
// them: with nothing of this shell's environment.
func readSettings(path string) (settings, error) {
	full, err := filepath.Abs(path)
	if err != nil {
		return settings{}, err
	}
	is, err := config.Sources{EnvFile: full}.Load(nil, io.Discard)
	if err != nil {
		return settings{}, err
	}
	text, err := tokens.ReadTextFile(full)
	return settings{text, full, is}, err
}

// errNoSettings is for an install without -env-file.
var errNoSettings = errors.New("a service reads its settings from a file, and nothing of this shell: give it by -env-file FILE")

// noteEnvironment tells of settings that a service will not see.
func noteEnvironment(out io.Writer, environ []string) {
	var names []string
	for _, line := range environ {
		if name, _, _ := strings.Cut(line, "="); strings.HasPrefix(strings.ToUpper(name), "BEARERD_") {
			names = append(names, display.Quote(name))
		}
	}
	if names != nil {
		fmt.Fprintf(out, "Set in this shell, which the service does not see: %s\n", strings.Join(names, ", "))
	}
}

var errNoService = errors.New("there is no such service; see bearerd service install")

// readyPatience is how long Install and Start wait for a service to be ready.
const readyPatience = 30 * time.Second

// takenBack is the error of an install that was not ready.
func takenBack(notReady error) error {
	return fmt.Errorf("not ready, so what was there before is back: %w", notReady)
}

// readyWithin asks a service's admin listener until it is ready. Where there is
// none, nothing is known, and that is no error.
func readyWithin(envFile string, most time.Duration) error {
	from := config.Sources{EnvFile: envFile}
	listen, _, err := from.AdminListen(nil)
	if err != nil || listen == "off" {
		return err
	}
	return healthcheck.Run(from, most, nil, io.Discard)
}

// undo is what takes back what was done, the last first.
type undo []func()

func (u *undo) add(f func()) { *u = append(*u, f) }

func (u undo) run() {
	for i := len(u) - 1; i >= 0; i-- {
		u[i]()
	}
}

// replaceFile writes a file whole or not at all, for its owner alone unless mode
// says more. Its undo puts back what was there.
func replaceFile(u *undo, path string, data []byte, mode os.FileMode) error {
	old, err := os.ReadFile(path)
	switch {
	case err == nil:
		u.add(func() { _ = tokens.WriteFile(path, old, mode) })
	case errors.Is(err, os.ErrNotExist):
		u.add(func() { _ = os.Remove(path) })
	default:
		return err
	}
	return tokens.WriteFile(path, data, mode)
}

// remove removes files and empty folders, in that order, and says what it removed
// and what it could not.
func remove(out io.Writer, paths ...string) (err error) {
	for _, path := range paths {
		info, statErr := os.Lstat(path)
		if statErr != nil {
			continue
		}
		if gone := os.Remove(path); gone == nil {
			fmt.Fprintln(out, "removed", path)
		} else if info.IsDir() {
			fmt.Fprintf(out, "left %s, which is not empty\n", path)
		} else {
			err = errors.Join(err, gone)
		}
	}
	return err
}

// report is what Status says.
type report struct {
	name, state            string
	runs                   bool
	program, settings, log string // empty: not shown
}

// write writes the report, and returns ErrNotWell where the service is not ready.
func (r report) write(out io.Writer) error {
	err := ErrNotWell
	if r.runs {
		if notReady := readyWithin(r.settings, 0); notReady == nil {
			err = nil
			r.state += ", ready"
		} else {
			r.state += ", and not ready: " + notReady.Error()
		}
	}
	fmt.Fprintf(out, "%s: %s\n", r.name, r.state)
	for _, line := range []struct{ what, is string }{{"program", r.program}, {"settings", r.settings}, {"log", r.log}} {
		if line.is != "" {
			fmt.Fprintf(out, "  %-9s %s\n", line.what, line.is)
		}
	}
	return err
}

// fileName is what the copy of the file is called that a setting names, and
// whether a setting names one: password for BEARERD_PASSWORD_FILE.
func fileName(setting string) (name string, ok bool) {
	name, ok = strings.CutPrefix(setting, "BEARERD_")
	if !ok {
		return "", false
	}
	name, ok = strings.CutSuffix(name, "_FILE")
	return strings.ToLower(name), ok
}

var keyringLine = regexp.MustCompile(`(?mi)^[ \t]*(?:export[ \t]+)?(BEARERD_[A-Z_]+_KEYRING)[ \t]*=[ \t]*\S`)

// keyringSetting is a setting of a file that names an entry of the user's own
// store, or nothing.
func keyringSetting(text string) string {
	if found := keyringLine.FindStringSubmatch(text); found != nil {
		return strings.ToUpper(found[1])
	}
	return ""
}

// refuseKeyring refuses settings for an account that has no store.
func refuseKeyring(given settings, otherwise string) error {
	name := keyringSetting(given.text)
	if name == "" {
		return nil
	}
	return fmt.Errorf("%s: the service's account has no store of its own. Give the secret by %s, of which install makes a copy that only the service and administrators can read; %s",
		name, strings.TrimSuffix(name, "_KEYRING")+"_FILE", otherwise)
}
