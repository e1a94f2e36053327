//go:build unix

package listen

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

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
)

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
	_ = l.(interface{ SetDeadline(time.Time) error }).SetDeadline(time.Now().Add(20 * time.Second))
	accepted, err := l.Accept()
	if err != nil {
		t.Errorf("%s is another's: %v", path, err)
		return
	}
	_ = accepted.Close()
}

// Somebody who looks all the time sees the mode that is set and no other.
func TestThreatSocketModeFromTheFirstInstant(t *testing.T) {
	path := filepath.Join(bearerdtest.SocketDir(t), "s")
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
	path := filepath.Join(bearerdtest.SocketDir(t), "s")
	makeStale(t, path)
	l := mustListen(t, path)
	expectAnswer(t, path, l)
	if err := l.Close(); err != nil || bearerdtest.IsThere(path) {
		t.Errorf("after Close: %v, there: %v", err, bearerdtest.IsThere(path))
	}
	_ = l.Close() // a second time it is no longer ours
	mustListen(t, path)
	_ = l.Close()
	if !bearerdtest.IsThere(path) {
		t.Error("a second Close removed the next one's socket")
	}
}

func TestLiveSocketIsLeftAlone(t *testing.T) {
	path := filepath.Join(bearerdtest.SocketDir(t), "s")
	l := mustListen(t, path)
	_, err := listenSocket("BEARERD_ADMIN_LISTEN", path, 0o600)
	want := "listen unix:" + path + ": another program answers there; stop that program, or choose another path with BEARERD_ADMIN_LISTEN"
	if err == nil || err.Error() != want {
		t.Fatalf("got  %v\nwant %s", err, want)
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
	if _, err := listenSocket("BEARERD_LISTEN", datagram, 0o600); !errors.Is(err, errAnswered) || !bearerdtest.IsThere(datagram) {
		t.Errorf("a datagram socket: got %v, there: %v", err, bearerdtest.IsThere(datagram))
	}
}

func TestOtherFilesAreLeftAlone(t *testing.T) {
	dir := bearerdtest.SocketDir(t)
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
	dir := bearerdtest.SocketDir(t)
	missing := filepath.Join(dir, "missing")
	_, err := listenSocket("BEARERD_LISTEN", filepath.Join(missing, "s"), 0o600)
	want := fmt.Sprintf("listen unix:%[1]s/s: there is no directory %[1]s; make it (mkdir -m 700 %[1]s), or choose another path with BEARERD_LISTEN", missing)
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	file := filepath.Join(dir, "file")
	bearerdtest.Put(t, file, "")
	if _, err := listenSocket("BEARERD_LISTEN", filepath.Join(file, "s"), 0o600); err == nil || !strings.Contains(err.Error(), "is no directory") {
		t.Errorf("in a file: got %v", err)
	}
}

// A successor that has replaced the socket keeps its own.
func TestOnlyTheOwnSocketIsRemoved(t *testing.T) {
	path := filepath.Join(bearerdtest.SocketDir(t), "s")
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
	path := filepath.Join(bearerdtest.SocketDir(t), "s")
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
		if t.Failed() {
			return // the others may not have asked
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
	t.Parallel()
	dir := bearerdtest.SocketDir(t)
	unlock, err := lockDirectory(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = listenSocket("BEARERD_LISTEN", filepath.Join(dir, "s"), 0o600)
	if err == nil || !strings.Contains(err.Error(), "another program has had "+dir+" locked") {
		t.Errorf("got %v", err)
	}
	unlock()
	if unlock, err = lockDirectory(dir); err != nil { // a socket would want a umask, which all tests have
		t.Fatal(err)
	}
	unlock()
}

func TestSocketOfAFailedStartIsRemoved(t *testing.T) {
	dir := bearerdtest.SocketDir(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	path := filepath.Join(dir, "s")
	if _, err := Data([]string{"unix:" + path, taken.Addr().String()}, 0o600); err == nil {
		t.Error("a taken port was opened")
	}
	if bearerdtest.IsThere(path) {
		t.Error("the socket was left")
	}
}

func TestSocketsLeaveNoFileOpen(t *testing.T) {
	dir := bearerdtest.SocketDir(t)
	live, stale, file := filepath.Join(dir, "live"), filepath.Join(dir, "stale"), filepath.Join(dir, "file")
	mustListen(t, live)
	bearerdtest.Put(t, file, "")
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
