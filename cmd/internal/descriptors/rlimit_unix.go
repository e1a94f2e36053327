//go:build unix

package descriptors

import (
	"math"
	"os"
	"syscall"
)

// Limit is how many file descriptors this process may have; 0: no
// limit is known. Go itself has raised the soft limit to the hard one before main
// (package syscall, rlimit.go).
func Limit() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur > math.MaxInt32 {
		return 0
	}
	return int(limit.Cur)
}

// Open is how many this process has now, what it inherited included.
func Open() int {
	open, err := os.ReadDir("/dev/fd")
	if err != nil {
		return 16 // more than it has after an ordinary start
	}
	return len(open)
}
