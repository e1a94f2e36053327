package setup

import (
	"errors"
	"path/filepath"
	"strings"

	"github.com/bearerd/bearerd/cmd/internal/keyring"
)

// A place is where the secret is kept.
type place int

const (
	keepNowhere place = iota // bearerd asks at each start
	keepInStore
	keepInFile
)

const keepItInFile = "Keep it in a file that only you can read?" // beside the settings

// choosePlace asks where the secret is to be kept.
func (s *setup) choosePlace() (place, error) {
	switch s.Answers.Keep {
	case "keyring":
		return keepInStore, nil
	case "file":
		return keepInFile, nil
	case "no":
		return keepNowhere, nil
	}
	what := s.secretName()
	absent := s.Store.Absent()
	if absent == nil {
		yes, err := s.yes("", "Keep the "+what+" in "+keyring.StoreName+"?", true)
		if err != nil || yes {
			return keepInStore, err
		}
	} else {
		s.say("The %s cannot be kept in the system's key store: %v.", what, reason(absent))
	}
	yes, err := s.yes("", keepItInFile, absent != nil)
	switch {
	case err != nil:
		return 0, err
	case yes:
		return keepInFile, nil
	}
	s.say("Then bearerd asks for the %s each time it is started.", what)
	return keepNowhere, nil
}

// reason is the problem of a store's error.
func reason(err error) string {
	if failed, ok := errors.AsType[keyring.Error](err); ok {
		return string(failed.Problem)
	}
	return err.Error()
}

// storeFailure is an error, a store's with what can be done about it here.
func storeFailure(err error) error {
	if failed, ok := errors.AsType[keyring.Error](err); ok {
		return errors.New("keeping the secret in " + failed.Error() + "; nothing was changed: start or unlock the store and run setup again, or run setup with -keep file")
	}
	return err
}

// secretName is what the secret is, in words.
func (s *setup) secretName() string {
	return strings.ReplaceAll(strings.ToLower(s.login.secretOf), "_", " ")
}

// entry is the name in the store: the login server's, and the file's where it is
// another than usual.
func (s *setup) entry() string {
	name := s.login.host
	if base := strings.TrimSuffix(filepath.Base(s.file), ".env"); base != "settings" {
		name = base + "." + name
	}
	return name
}

// secretFile is beside the settings.
func (s *setup) secretFile() string {
	base := strings.TrimSuffix(filepath.Base(s.file), ".env")
	name := strings.ReplaceAll(s.secretName(), " ", "-")
	if base != "settings" {
		name = base + "-" + name
	}
	return filepath.Join(filepath.Dir(s.file), name)
}
