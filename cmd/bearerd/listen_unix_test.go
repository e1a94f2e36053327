//go:build unix

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// socketDir is a directory whose name is short enough for sockets in it.
func socketDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "bd-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// makeStale leaves a socket that nobody listens on.
func makeStale(t testing.TB, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func mustListen(t testing.TB, path string) net.Listener {
	t.Helper()
	l, err := listenSocket("BEARERD_LISTEN", path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// expectAnswer fails unless it is l that whoever connects to path reaches.
func expectAnswer(t testing.TB, path string, l net.Listener) {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Errorf("%s does not answer: %v", path, err)
		return
	}
	defer conn.Close()
	_ = l.(interface{ SetDeadline(time.Time) error }).SetDeadline(time.Now().Add(5 * time.Second))
	accepted, err := l.Accept()
	if err != nil {
		t.Errorf("%s is another's: %v", path, err)
		return
	}
	_ = accepted.Close()
}

func isThere(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// Somebody who looks all the time sees the mode that is set and no other.
func TestThreatSocketModeFromTheFirstInstant(t *testing.T) {
	path := filepath.Join(socketDir(t), "s")
	for _, mode := range []fs.FileMode{0, 0o600, 0o660, 0o777} {
		var wrong atomic.Uint32
		stop, seen := make(chan bool), make(chan int)
		go func() {
			n := 0
			for {
				select {
				case <-stop:
					seen <- n
					return
				default:
				}
				if info, err := os.Lstat(path); err == nil {
					n++
					if info.Mode() != mode|fs.ModeSocket {
						wrong.Store(uint32(info.Mode()) | 1<<31)
					}
				}
			}
		}()
		for range 500 {
			l, err := listenSocket("BEARERD_LISTEN", path, mode)
			if err != nil {
				t.Fatal(err)
			}
			_ = l.Close()
		}
		close(stop)
		if n := <-seen; n == 0 {
			t.Errorf("%04o: the socket was never seen", mode)
		}
		if got := wrong.Load(); got != 0 {
			t.Errorf("%04o: got the mode %v for a moment", mode, fs.FileMode(got))
		}
	}
	other := filepath.Join(filepath.Dir(path), "other")
	before := syscall.Umask(0o027)
	defer syscall.Umask(before)
	mustListen(t, path)
	if err := os.WriteFile(other, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(other); err != nil || info.Mode() != 0o640 {
		t.Errorf("the process's umask was left changed: %v, %v", info.Mode(), err)
	}
}

func TestStaleSocketIsReplaced(t *testing.T) {
	path := filepath.Join(socketDir(t), "s")
	makeStale(t, path)
	l := mustListen(t, path)
	expectAnswer(t, path, l)
	if err := l.Close(); err != nil || isThere(path) {
		t.Errorf("after Close: %v, there: %v", err, isThere(path))
	}
	_ = l.Close() // a second time it is no longer ours
	mustListen(t, path)
	_ = l.Close()
	if !isThere(path) {
		t.Error("a second Close removed the next one's socket")
	}
}

func TestLiveSocketIsLeftAlone(t *testing.T) {
	path := filepath.Join(socketDir(t), "s")
	l := mustListen(t, path)
	_, err := listenSocket("BEARERD_ADMIN_LISTEN", path, 0o600)
	want := "listen unix:" + path + ": another program answers there; stop that program, or choose another path with BEARERD_ADMIN_LISTEN"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if conn, err := l.Accept(); err == nil { // of the question whether somebody answers
		_ = conn.Close()
	}
	expectAnswer(t, path, l)

	datagram := filepath.Join(filepath.Dir(path), "d")
	pc, err := net.ListenPacket("unixgram", datagram)
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	if _, err := listenSocket("BEARERD_LISTEN", datagram, 0o600); !errors.Is(err, errAnswered) || !isThere(datagram) {
		t.Errorf("a datagram socket: got %v, there: %v", err, isThere(datagram))
	}
}

func TestOtherFilesAreLeftAlone(t *testing.T) {
	dir := socketDir(t)
	stale := filepath.Join(dir, "stale")
	makeStale(t, stale)
	for what, make := range map[string]func(path string) error{
		"a file":          func(path string) error { return os.WriteFile(path, []byte("precious"), 0o600) },
		"a directory":     func(path string) error { return os.Mkdir(path, 0o700) },
		"a symbolic link": func(path string) error { return os.Symlink(stale, path) },
		"a pipe":          func(path string) error { return syscall.Mkfifo(path, 0o600) },
	} {
		path := filepath.Join(dir, strings.ReplaceAll(what, " ", "-"))
		if err := make(path); err != nil {
			t.Fatal(err)
		}
		before, _ := os.Lstat(path)
		_, err := listenSocket("BEARERD_LISTEN", path, 0o600)
		want := "listen unix:" + path + ": there is " + what + ", which bearerd leaves alone; move that away, or choose another path with BEARERD_LISTEN"
		if err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
		if after, err := os.Lstat(path); err != nil || !os.SameFile(before, after) {
			t.Errorf("%s was touched: %v", what, err)
		}
	}
}

func TestSocketWithoutDirectory(t *testing.T) {
	dir := socketDir(t)
	missing := filepath.Join(dir, "missing")
	_, err := listenSocket("BEARERD_LISTEN", filepath.Join(missing, "s"), 0o600)
	want := fmt.Sprintf("listen unix:%[1]s/s: there is no directory %[1]s; make it (mkdir -m 700 %[1]s), or choose another path with BEARERD_LISTEN", missing)
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listenSocket("BEARERD_LISTEN", filepath.Join(file, "s"), 0o600); err == nil || !strings.Contains(err.Error(), "is no directory") {
		t.Errorf("in a file: got %v", err)
	}
}

// A successor that has replaced the socket keeps its own.
func TestOnlyTheOwnSocketIsRemoved(t *testing.T) {
	path := filepath.Join(socketDir(t), "s")
	old := mustListen(t, path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	successor := mustListen(t, path)
	_ = old.Close()
	expectAnswer(t, path, successor)
}

// Of many that find one stale socket one gets the path, and keeps it.
func TestRaceForAStaleSocket(t *testing.T) {
	path := filepath.Join(socketDir(t), "s")
	for range 50 {
		makeStale(t, path)
		var (
			won   atomic.Pointer[net.Listener]
			wg    sync.WaitGroup
			start = make(chan bool)
		)
		for range 16 {
			wg.Go(func() {
				<-start
				l, err := listenSocket("BEARERD_LISTEN", path, 0o600)
				if err == nil && !won.CompareAndSwap(nil, &l) {
					t.Error("two have the path")
					_ = l.Close()
				}
				if err != nil && !errors.Is(err, errAnswered) {
					t.Error(err)
				}
			})
		}
		close(start)
		wg.Wait()
		if won.Load() == nil {
			t.Fatal("nobody has the path")
		}
		l := *won.Load()
		for range 15 { // the others' questions
			conn, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			_ = conn.Close()
		}
		expectAnswer(t, path, l)
		_ = l.Close()
	}
}

func TestDirectoryThatIsLocked(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 5 s")
	}
	dir := socketDir(t)
	unlock, err := lockDirectory(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = listenSocket("BEARERD_LISTEN", filepath.Join(dir, "s"), 0o600)
	if err == nil || !strings.Contains(err.Error(), "another program has had "+dir+" locked") {
		t.Errorf("got %v", err)
	}
	unlock()
	mustListen(t, filepath.Join(dir, "s"))
}

func TestSocketOfAFailedStartIsRemoved(t *testing.T) {
	dir := socketDir(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	path := filepath.Join(dir, "s")
	if _, err := listenData([]string{"unix:" + path, taken.Addr().String()}, 0o600); err == nil {
		t.Error("a taken port was opened")
	}
	if isThere(path) {
		t.Error("the socket was left")
	}
}

func TestSocketsLeaveNoFileOpen(t *testing.T) {
	dir := socketDir(t)
	live, stale, file := filepath.Join(dir, "live"), filepath.Join(dir, "stale"), filepath.Join(dir, "file")
	mustListen(t, live)
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	open := func() int {
		all, err := os.ReadDir("/dev/fd")
		if err != nil {
			t.Skip(err)
		}
		return len(all)
	}
	before := open()
	for range 20 {
		for _, path := range []string{live, file, filepath.Join(file, "s"), filepath.Join(dir, "no", "s")} {
			if _, err := listenSocket("BEARERD_LISTEN", path, 0o600); err == nil {
				t.Fatalf("%s was opened", path)
			}
		}
		makeStale(t, stale)
		_ = mustListen(t, stale).Close()
	}
	if after := open(); after > before {
		t.Errorf("open files: got %d, want %d as before", after, before)
	}
}

func TestSocketSettings(t *testing.T) {
	long := "/" + strings.Repeat("x", maxSocketPath-1)
	mustLoad(t, with("BEARERD_LISTEN=unix:"+long))
	for setting, want := range map[string]string{
		"LISTEN=unix:":                     "LISTEN: unix: names no file; write e.g. unix:/run/bearerd/data.sock",
		"LISTEN=unix:///":                  "LISTEN: unix: names no file; write e.g. unix:/run/bearerd/data.sock",
		"LISTEN=unix:///run/x":             `LISTEN: "unix:///run/x" is written like a URL; write unix:/run/x`,
		"ADMIN_LISTEN=unix:x/y":            `ADMIN_LISTEN: "x/y" is not an absolute path; write it from the / on, e.g. unix:/run/bearerd/data.sock`,
		"LISTEN=unix:/run/x/":              `LISTEN: "/run/x/" is a directory; write the path of a file in it`,
		"LISTEN=unix:@x":                   "LISTEN: an abstract socket has no mode, so every user of this machine could connect; write the path of a file, e.g. unix:/run/bearerd/data.sock",
		"LISTEN=unix:" + long + "y":        fmt.Sprintf(`LISTEN: "%s..." has %d bytes, and for a socket this system takes %d at most; write a shorter path`, long[:100], len(long)+1, maxSocketPath),
		"LISTEN=unix:/run/x,unix:/run/./x": `LISTEN: "unix:/run/./x" is taken by another listener of bearerd; choose another path`,
		"SOCKET_MODE=rw":                   `SOCKET_MODE: "rw" is not a mode; write e.g. 0600 for this user only, or 0660 for the group too`,
		"SOCKET_MODE=1777":                 `SOCKET_MODE: "1777" is not a mode; write e.g. 0600 for this user only, or 0660 for the group too`,
		"SOCKET_MODE=0698":                 `SOCKET_MODE: "0698" is not a mode; write e.g. 0600 for this user only, or 0660 for the group too`,
	} {
		if got := problems(t, with("BEARERD_"+setting)); len(got) != 1 || got[0] != "BEARERD_"+want {
			t.Errorf("%s:\ngot  %q\nwant %q", setting, got, "BEARERD_"+want)
		}
	}
	for value, want := range map[string]fs.FileMode{"0": 0, "600": 0o600, "0777": 0o777} {
		if got := mustLoad(t, with("BEARERD_SOCKET_MODE="+value)).SocketMode; got != want {
			t.Errorf("SOCKET_MODE=%s: got %o, want %o", value, got, want)
		}
	}
	// Only unix sockets: other machines cannot connect, so nothing more is asked.
	c := mustLoad(t, with("BEARERD_LISTEN=unix:/run/a/../b,unix:/run/c", "BEARERD_ADMIN_LISTEN=unix:/run/d", "BEARERD_SOCKET_MODE=0660"))
	if c.SocketMode != 0o660 || len(c.Warnings) > 0 {
		t.Errorf("got %o, %q", c.SocketMode, c.Warnings)
	}
	c = mustLoad(t, with("BEARERD_SOCKET_MODE=0666"))
	if len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "every user of this machine may connect") {
		t.Errorf("0666: warnings %q", c.Warnings)
	}
}
