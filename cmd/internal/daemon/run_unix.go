//go:build unix

package daemon

import (
	"io"
	"os"
	"path/filepath"

	"github.com/bearerd/bearerd/cmd/internal/logfile"
)

// Run is what launchd starts, which keeps no log: it serves with the settings of
// w.EnvFile, and returns the exit code that launchd shall see. It starts again what
// did not end with 0, and a restart mends neither bad settings nor a wrong command
// line.
func Run(w Which, signals <-chan os.Signal, serve Serve) (code int, err error) {
	var log io.Writer = os.Stderr
	if path := logOf(w.Name); path != "" {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return 1, err
		}
		file, err := logfile.Open(path)
		if err != nil {
			return 1, err
		}
		defer func() { _ = file.Close() }()
		log = file
	}
	if code = serve(w.EnvFile, signals, log); endsForGood(code) {
		return 0, nil
	}
	return code, nil
}
