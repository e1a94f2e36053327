//go:build unix

package tokens

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// tryLock locks file for this process's descriptor alone, if nobody has it. It
// ends with the descriptor, or the process.
func tryLock(file *os.File) (bool, error) {
	err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.EINTR) {
		return false, nil
	}
	return err == nil, err
}
