//go:build unix

package endpoint

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/bearerd/bearerd/cmd/internal/display"
)

// HasSocketMode: permissions keep other users from a unix socket.
const HasSocketMode = true

// MaxSocketPath is the longest path of one.
const MaxSocketPath = len(syscall.RawSockaddrUnix{}.Path) - 1 // bytes; a NUL ends it

// parseSocketPath checks the path of a unix socket and returns it in its
// shortest form.
func parseSocketPath(path string) (string, error) {
	switch {
	case strings.Trim(path, "/") == "":
		return "", errors.New("unix: names no file; write e.g. unix:/run/bearerd/data.sock")
	case strings.HasPrefix(path, "//"):
		return "", fmt.Errorf("%s is written like a URL; write unix:/%s", display.Quote("unix:"+path), strings.TrimLeft(path, "/"))
	case path[0] == '@' || strings.ContainsRune(path, 0):
		return "", errors.New("an abstract socket has no mode, so every user of this machine could connect; write the path of a file, e.g. unix:/run/bearerd/data.sock")
	case path[0] != '/':
		return "", fmt.Errorf("%s is not an absolute path; write it from the / on, e.g. unix:/run/bearerd/data.sock", display.Quote(path))
	case strings.HasSuffix(path, "/"):
		return "", fmt.Errorf("%s is a directory; write the path of a file in it", display.Quote(path))
	}
	path = filepath.Clean(path)
	if len(path) > MaxSocketPath {
		return "", fmt.Errorf("%s has %d bytes, and for a socket this system takes %d at most; write a shorter path", display.Quote(path), len(path), MaxSocketPath)
	}
	return path, nil
}
