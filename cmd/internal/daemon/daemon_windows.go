package daemon

import "io"

// Install has the system run this program with the settings of w.EnvFile, now and
// from now on. Run again, it puts this program in the place of the one before, and
// goes back to that where the new one is not ready. What fails leaves nothing. It
// says what it writes.
func Install(w Which, environ []string, ask Ask, out io.Writer) error {
	noteEnvironment(out, environ)
	if w.User {
		return installAtLogon(w, out)
	}
	return installMachine(w, ask, out)
}

// Uninstall stops the service and removes what Install has written, and no more.
func Uninstall(w Which, out io.Writer) error {
	if w.User {
		return uninstallAtLogon(w, out)
	}
	return uninstallMachine(w, out)
}

// Start starts the service, where it does not run, and waits until it is ready.
func Start(w Which, out io.Writer) error {
	if w.User {
		return startAtLogon(w, out)
	}
	return startMachine(w, out)
}

// Stop stops the service, and waits for that. It starts again with the system, or
// at the next logon.
func Stop(w Which, out io.Writer) error {
	if w.User {
		return stopAtLogon(w, out)
	}
	return stopMachine(w, out)
}

// Status says how the service is. It returns ErrNotWell where that is not running
// and ready.
func Status(w Which, out io.Writer) error {
	if w.User {
		return statusAtLogon(w, out)
	}
	return statusMachine(w, out)
}

// ForUser is the service that Install makes for this user: at each logon. An error
// says why it cannot be had.
func ForUser(envFile string) (Which, error) {
	return Which{Name: DefaultName, User: true, EnvFile: envFile}, nil
}
