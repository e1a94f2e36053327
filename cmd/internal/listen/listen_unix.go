//go:build unix

package listen

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// listenSocket makes the unix socket that variable holds the path of, with mode
// from its first instant. One that nobody answers at is replaced; what else is
// there is left alone.
//
// While it looks, removes and makes, it has a lock of the directory: of two
// bearerds that find one stale socket, the slower would otherwise remove what
// the faster has just made, or meet it between bind and listen, when it refuses
// as a stale one does. A lock of the directory, unlike a lock file, leaves
// nothing behind and cannot itself be stale.
func listenSocket(variable, path string, mode fs.FileMode) (net.Listener, error) {
	explain := func(err error) error { return socketError(variable, path, err) }
	unlock, err := lockDirectory(filepath.Dir(path))
	if err != nil {
		return nil, explain(err)
	}
	defer unlock()
	if err := removeStale(path); err != nil {
		return nil, explain(err)
	}
	l, err := listenWithMode(path, mode)
	if err != nil {
		return nil, explain(err)
	}
	l.SetUnlinkOnClose(false) // it would remove whatever is there then
	own, err := os.Lstat(path)
	if err != nil {
		_ = l.Close()
		return nil, explain(err)
	}
	s := &socket{UnixListener: l, path: path, own: own}
	if got := own.Mode().Perm(); got != mode {
		_ = s.Close()
		return nil, explain(fmt.Errorf("the directory gives it the mode %04o, not %04o (it has a default ACL, or its file system no modes)", got, mode))
	}
	return s, nil
}

// socketError makes the error for a person.
func socketError(variable, path string, err error) error {
	dir := filepath.Dir(path)
	remedy := fmt.Sprintf("choose another path with %s", variable)
	switch {
	case errors.Is(err, errAnswered):
		remedy = "stop that program, or " + remedy
	case errors.Is(err, errOccupied):
		remedy = "move that away, or " + remedy
	case errors.Is(err, fs.ErrNotExist):
		err = fmt.Errorf("there is no directory %s", dir)
		remedy = fmt.Sprintf("make it (mkdir -m 700 %s), or %s", dir, remedy)
	case errors.Is(err, fs.ErrPermission):
		err = fmt.Errorf("permission denied: bearerd must be able to read and write %s, and to remove what is at the path", dir)
	}
	return fmt.Errorf("listen unix:%s: %w; %s", path, err, remedy)
}

var (
	errAnswered = errors.New("another program answers there")
	errOccupied = errors.New("which bearerd leaves alone")
)

// lockPatience is how long the lock of a directory is waited for. A bearerd has
// it for a moment; anybody who can read the directory could keep it.
const lockPatience = 5 * time.Second

// lockDirectory keeps other bearerds from making sockets in dir until unlock.
func lockDirectory(dir string) (unlock func(), err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if info, err := d.Stat(); err != nil || !info.IsDir() {
		_ = d.Close()
		return nil, fmt.Errorf("%s is no directory", dir)
	}
	for deadline := time.Now().Add(lockPatience); ; time.Sleep(10 * time.Millisecond) {
		err = syscall.Flock(int(d.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return func() { _ = d.Close() }, nil // which ends the lock
		case errors.Is(err, syscall.EINTR):
			continue
		case !errors.Is(err, syscall.EWOULDBLOCK):
			err = fmt.Errorf("locking %s: %w", dir, err)
		case time.Now().Before(deadline):
			continue
		default:
			err = fmt.Errorf("another program has had %s locked for %v (lsof tells which)", dir, lockPatience)
		}
		_ = d.Close()
		return nil, err
	}
}

// removeStale removes a socket that nobody answers at.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("there is %s, %w", kindOf(info), errOccupied)
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case err == nil:
		_ = conn.Close()
		return errAnswered
	case errors.Is(err, syscall.ECONNREFUSED):
		return os.Remove(path)
	case errors.Is(err, fs.ErrNotExist): // whose it was has just removed it
		return nil
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("there is a socket of another user, %w", errOccupied)
	}
	// EAGAIN of one that is too busy, EPROTOTYPE of one that is no stream.
	return fmt.Errorf("%w (%w)", errAnswered, syscallError(err))
}

// kindOf names what is no socket.
func kindOf(info fs.FileInfo) string {
	switch info.Mode().Type() {
	case 0:
		return "a file"
	case fs.ModeDir:
		return "a directory"
	case fs.ModeSymlink:
		return "a symbolic link"
	case fs.ModeNamedPipe:
		return "a pipe"
	}
	return "a device"
}

// syscallError is an error of package net without the path.
func syscallError(err error) error {
	if number, ok := errors.AsType[syscall.Errno](err); ok {
		return number
	}
	return err
}

// umask is the process's.
var umask sync.Mutex

// listenWithMode makes the socket under a umask: a mode that was set afterwards
// would leave a moment in which others could connect.
func listenWithMode(path string, mode fs.FileMode) (*net.UnixListener, error) {
	umask.Lock()
	defer umask.Unlock()
	before := syscall.Umask(int(0o777 &^ mode))
	defer syscall.Umask(before)
	return net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
}

// socket is a unix socket that bearerd made. Close removes it, unless another
// has taken its place.
type socket struct {
	*net.UnixListener
	path   string
	own    fs.FileInfo
	once   sync.Once
	closed error // of Close
}

func (s *socket) Close() error {
	s.once.Do(func() {
		// Before it is closed: as long as it answers nobody takes it for stale,
		// and no other file can have its inode's number.
		if now, err := os.Lstat(s.path); err == nil && os.SameFile(now, s.own) {
			_ = os.Remove(s.path) // one that is left is stale, and the next start replaces it
		}
		s.closed = s.UnixListener.Close()
	})
	return s.closed
}
