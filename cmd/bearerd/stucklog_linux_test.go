package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/logs"
	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

// unread is a bearerd whose log nobody reads.
type unread struct{ *bearerdtest.Process }

// startUnread starts bearerd with log as its standard error. It listens on unix
// sockets, as nobody reads what its ports are.
func startUnread(t *testing.T, w *bearerdtest.World, log *os.File, env ...string) unread {
	t.Helper()
	dir := bearerdtest.SocketDir(t)
	data, admin := "unix:"+filepath.Join(dir, "data"), "unix:"+filepath.Join(dir, "admin")
	cmd := bearerdtest.Command(t)
	cmd.Env = append(append(w.Env("vyopta"), "BEARERD_LISTEN="+data, "BEARERD_ADMIN_LISTEN="+admin), env...)
	cmd.Stderr = log
	p := bearerdtest.StartCommand(t, cmd)
	_ = log.Close()
	p.URL, p.Admin = data, admin
	return unread{p}
}

// get asks a listener and returns the status, or 0 where no answer comes in time.
func (p unread) get(url, path string) (int, string) {
	c, base := bearerdtest.ClientAt(p.T, url)
	c.Timeout = bearerdtest.Soon
	resp, err := c.Get(base + path)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(body)
}

// series is the value of a metric without labels.
func (p unread) series(name string) int {
	p.T.Helper()
	_, text := p.get(p.Admin, "/metrics")
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			n, err := strconv.Atoi(strings.TrimSpace(value))
			if err != nil {
				p.T.Fatal(err)
			}
			return n
		}
	}
	p.T.Fatalf("no %s in %q", name, text)
	return 0
}

func (p unread) lost() int { return p.series("bearerd_log_lines_lost_total") }

// logsInAfter does something, and waits until a login that it caused is over.
func (p unread) logsInAfter(what string, do func() error) {
	p.T.Helper()
	generation := p.series("bearerd_token_generation")
	if err := do(); err != nil {
		p.T.Fatalf("%s: %v", what, err)
	}
	bearerdtest.Eventually(p.T, bearerdtest.Soon, "a login after "+what, func() bool { return p.series("bearerd_token_generation") > generation })
}

// end sends SIGTERM and wants a clean end.
func (p unread) end(within time.Duration) {
	p.T.Helper()
	if code := p.Stop(syscall.SIGTERM, within); code != 0 {
		p.T.Errorf("exit code: got %d, want 0", code)
	}
}

// works fails the test where anything waits for the log.
func (p unread) works(when string) {
	p.T.Helper()
	for _, ask := range []struct{ URL, path string }{
		{p.Admin, "/livez"}, {p.Admin, "/readyz"}, {p.Admin, "/metrics"}, {p.URL, bearerdtest.NamesPath}, {p.URL, bearerdtest.NamesPath},
	} {
		bearerdtest.Eventually(p.T, bearerdtest.Soon, when+": 200 for "+ask.path, func() bool {
			status, _ := p.get(ask.URL, ask.path)
			return status == 200
		})
	}
	// A login that ends has a line to write, and the next one must not wait for
	// it; nor must who begins it.
	p.logsInAfter(when+": POST /login", func() error {
		c, base := bearerdtest.ClientAt(p.T, p.Admin)
		resp, err := c.Post(base+"/login", "", nil)
		if err == nil {
			err = resp.Body.Close()
		}
		return err
	})
}

// pipe returns a pipe of 4 KiB.
func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	raw, err := w.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var setErr error
	if err := errors.Join(raw.Control(func(fd uintptr) {
		_, setErr = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, 4096)
	}), setErr); err != nil {
		t.Fatal(err)
	}
	return r, w
}

// fill writes to f until it takes no more.
func fill(t *testing.T, f *os.File) {
	t.Helper()
	line := []byte(strings.Repeat("x", 99) + "\n")
	for {
		if err := f.SetWriteDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(line); errors.Is(err, os.ErrDeadlineExceeded) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// socketPair is how journald takes a service's standard error: a stream socket.
func socketPair(t *testing.T) (r, w *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.SetsockoptInt(fds[1], unix.SOL_SOCKET, unix.SO_SNDBUF, 4096); err != nil {
		t.Fatal(err)
	}
	r, w = os.NewFile(uintptr(fds[0]), "r"), os.NewFile(uintptr(fds[1]), "w")
	t.Cleanup(func() { _ = r.Close() })
	return r, w
}

// stoppedTerminal is a terminal in which somebody has pressed Ctrl-S.
func stoppedTerminal(t *testing.T) (r, w *os.File) {
	t.Helper()
	master, terminal := openTerminal(t)
	if err := unix.IoctlSetInt(int(terminal.Fd()), unix.TCXONC, unix.TCOOFF); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = master.Close() })
	return master, terminal
}

// Nobody reads the log, from the start, or it cannot be written: all goes on,
// SIGHUP and SIGTERM do what they always do.
func TestFaultNobodyReadsTheLog(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		open func(*testing.T) (r, w *os.File)
		env  string
	}{
		{"pipe, JSON", pipe, "BEARERD_LOG_FORMAT=json"},
		{"pipe, console", pipe, "BEARERD_LOG_FORMAT=console"},
		{"pipe, no requests logged", pipe, "BEARERD_ACCESS_LOG=off"},
		{"journald", socketPair, "BEARERD_LOG_FORMAT=json"},
		{"terminal after Ctrl-S", stoppedTerminal, "BEARERD_LOG_FORMAT=auto"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, log := test.open(t)
			if test.name != "terminal after Ctrl-S" { // it takes nothing as it is
				fill(t, log)
			}
			w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
			header := bearerdtest.WriteFile(t, "User-Agent: Go-http-client/1.1")
			p := startUnread(t, w, log, test.env, "BEARERD_LOG_LEVEL=debug", "BEARERD_REQUIRE_HEADER_FILE="+header)
			p.works("full at the start")
			// More than the bound.
			c, base := bearerdtest.ClientAt(t, p.URL)
			long := base + "/" + strings.Repeat("x", 2<<10)
			err := bearerdtest.Many(8, func(int) error {
				for range 200 {
					if err := bearerdtest.ExpectStatus(c, long, 404); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(bearerdtest.FirstLines(err))
			}
			if got, off := p.lost(), strings.HasSuffix(test.env, "=off"); (got == 0) != off {
				t.Errorf("lost: got %d lines", got)
			}
			p.works("after many requests")
			bearerdtest.Put(t, header, "") // which is warned of
			for range 2 {
				p.logsInAfter("SIGHUP", func() error { return p.Cmd.Process.Signal(syscall.SIGHUP) })
			}
			p.end(bearerdtest.AtOnce)
		})
	}
}

// A second signal waits for no reader either.
func TestSecondSignalWithAStuckLog(t *testing.T) {
	t.Parallel()
	_, log := pipe(t)
	p := startUnread(t, bearerdtest.NewWorld(t, querysim.Options{}, nil), log)
	p.works("at the start")
	// More than the log's pipe takes.
	c, base := bearerdtest.ClientAt(t, p.URL)
	c.Timeout = bearerdtest.Soon
	long := base + "/" + strings.Repeat("x", 4<<10)
	for range 200 {
		if err := bearerdtest.ExpectStatus(c, long, 404); err != nil {
			t.Fatal(err)
		}
	}
	signalTwice(p.Process)
	if code := p.ExitCode(bearerdtest.Soon); code != 1 {
		t.Errorf("exit code: got %d, want 1", code)
	}
}

// The reader comes back, and is told what it has missed. No line is lost that
// is not counted.
func TestFaultTheLogsReaderComesBack(t *testing.T) {
	t.Parallel()
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	r, log := pipe(t)
	p := startUnread(t, w, log, "BEARERD_LOG_FORMAT=json")
	p.works("at the start")
	c, base := bearerdtest.ClientAt(t, p.URL)
	requests := 2
	for p.lost() == 0 {
		const each = 100
		if err := bearerdtest.Many(8, func(int) error {
			for range each {
				if err := bearerdtest.ExpectStatus(c, base+"/"+strings.Repeat("y", 1000), 404); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(bearerdtest.FirstLines(err))
		}
		requests += 8 * each
	}
	w.Sim.SetPassword("changed") // a line that matters more
	c2, admin := bearerdtest.ClientAt(t, p.Admin)
	resp, err := c2.Post(admin+"/login", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	bearerdtest.Eventually(t, bearerdtest.Soon, "the login is refused", func() bool {
		_, text := p.get(p.Admin, "/metrics")
		return strings.Contains(text, `bearerd_logins_total{result="rejected"} 1`)
	})
	lost := p.lost()
	var read, told int
	var rejected, stopped bool
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		var line struct {
			Message, Path string
			Lines         int
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatalf("%v in %.200q", err, lines.Text())
		}
		switch line.Message {
		case "request":
			read++
		case logs.SayLoginRejected:
			rejected = true
		case logs.SayLinesLost:
			told += line.Lines
			p.Signal(syscall.SIGTERM)
		case "stopped":
			stopped = true
		}
	}
	if !rejected || !stopped {
		t.Errorf("the refused login is told: %v; the end: %v; want both", rejected, stopped)
	}
	if told != lost || read+told != requests {
		t.Errorf("read %d and told of %d lost ones, want %d in all, of which %d lost", read, told, requests, lost)
	}
	<-p.Exited
}

// Many requests at once that are refused, with long paths, while nobody reads:
// what was held for each until the log took its line is held no more.
func TestThreatRefusedRequestsTakeMemory(t *testing.T) {
	t.Parallel()
	_, log := pipe(t)
	fill(t, log)
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	p := startUnread(t, w, log, "BEARERD_ALLOWED_METHODS=GET")
	p.works("at the start")
	before := p.Memory("VmHWM")
	c, base := bearerdtest.ClientAt(t, p.URL)
	long := base + "/" + strings.Repeat("x", 60<<10)
	err := bearerdtest.Many(50, func(int) error {
		for range 30 {
			resp, err := c.Post(long, "", nil)
			if err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, resp.Body) // the connection is used again
			_ = resp.Body.Close()
			if err != nil {
				return err
			}
			if resp.StatusCode != http.StatusMethodNotAllowed {
				return fmt.Errorf("got %s, want 405", resp.Status)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(bearerdtest.FirstLines(err))
	}
	if after := p.Memory("VmHWM"); after-before > 64<<10 && !bearerdtest.Race { // the race detector has its own needs
		t.Errorf("memory: got %d MiB before and %d MiB after", before>>10, after>>10)
	} else {
		t.Logf("VmHWM: %d MiB before and %d MiB after", before>>10, after>>10)
	}
	p.end(bearerdtest.Soon)
}

// A full disk, and a reader that has gone: nothing stops, and each line is
// counted.
func TestFaultTheLogCannotBeWritten(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func() (*os.File, error){
		"full disk": func() (*os.File, error) { return os.OpenFile("/dev/full", os.O_WRONLY, 0) },
		"reader gone": func() (*os.File, error) {
			r, w, err := os.Pipe()
			if err == nil {
				err = r.Close()
			}
			return w, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log, err := open()
			if err != nil {
				t.Fatal(err)
			}
			w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
			p := startUnread(t, w, log)
			p.works(name)
			bearerdtest.Eventually(t, bearerdtest.Soon, "lines counted as lost", func() bool { return p.lost() >= 5 })
			p.end(bearerdtest.AtOnce)
		})
	}
}

// Another program that shares the pipe may make it one that does not wait: a
// line is neither lost nor torn by that.
func TestTheLogsPipeDoesNotBlock(t *testing.T) {
	t.Parallel()
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	r, log := pipe(t)
	shared, err := unix.FcntlInt(log.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	other := os.NewFile(uintptr(shared), "shared")
	t.Cleanup(func() { _ = other.Close() })
	p := startUnread(t, w, log, "BEARERD_LOG_FORMAT=json")
	p.works("at the start")
	if err := unix.SetNonblock(shared, true); err != nil {
		t.Fatal(err)
	}
	_ = other.Close() // once: the number may be another test's by then
	read := make(chan int)
	go func() {
		n := 0
		for lines := bufio.NewScanner(r); lines.Scan(); {
			if !json.Valid(lines.Bytes()) {
				t.Errorf("torn: %q", lines.Text())
			}
			if strings.Contains(lines.Text(), "zzz") {
				n++
				read <- n
			}
		}
		close(read)
	}()
	c, base := bearerdtest.ClientAt(t, p.URL)
	for range 100 { // the pipe is full by then
		if err := bearerdtest.ExpectStatus(c, base+"/"+strings.Repeat("z", 300), 404); err != nil {
			t.Fatal(err)
		}
	}
	for n := range read {
		if n == 100 {
			break
		}
	}
	if got := p.lost(); got != 0 {
		t.Errorf("%d lines lost", got)
	}
	p.end(bearerdtest.Soon)
	for range read {
		t.Error("more lines than requests")
	}
}

// A listener that fails ends bearerd, whatever the log does.
func TestFaultAListenerFailsWithNobodyToTell(t *testing.T) {
	t.Parallel()
	_, log := pipe(t)
	fill(t, log)
	data := listenOn(t, "tcp", "127.0.0.1:0").(*net.TCPListener)
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	cmd := activated(t, w, "data", []filer{data}, "BEARERD_ADMIN_LISTEN=off")
	cmd.Stderr = log
	p := bearerdtest.StartCommand(t, cmd)
	if err := bearerdtest.ExpectStatus(bearerdtest.NewClient(t), "http://"+data.Addr().String()+bearerdtest.NamesPath, http.StatusOK); err != nil {
		t.Fatal(err)
	}
	raw, err := data.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var shut error
	if err := errors.Join(raw.Control(func(fd uintptr) { shut = unix.Shutdown(int(fd), unix.SHUT_RDWR) }), shut); err != nil {
		t.Fatal(err)
	}
	if code := p.ExitCode(bearerdtest.AtOnce); code != exitFailed {
		t.Errorf("exit code: got %d, want 1", code)
	}
}

// Clients of the admin listener that do not read what they asked for, and one
// that stops in the middle: nobody else waits for them, nor does a stop.
func TestFaultSlowScrapers(t *testing.T) {
	t.Parallel()
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	p := w.Serve(t)
	for range 20 {
		conn := p.Dial(p.Admin, "")
		if err := conn.(*net.TCPConn).SetReadBuffer(4096); err != nil {
			t.Fatal(err)
		}
		// Until bearerd, which waits for a reader, reads no further.
		asked := strings.Repeat("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", 100)
		for {
			if err := conn.SetWriteDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(conn, asked); err != nil {
				break
			}
		}
	}
	for _, url := range []string{p.Admin + "/livez", p.Admin + "/readyz", p.Admin + "/status", p.Admin + "/metrics", p.URL + bearerdtest.NamesPath} {
		if err := bearerdtest.ExpectStatus(bearerdtest.NewClient(t), url, 200); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
	if status, text := p.Post("/login"); status != http.StatusAccepted {
		t.Errorf("POST /login: got %d %s", status, text)
	}
	bearerdtest.Eventually(t, bearerdtest.Soon, "a second login", func() bool { return w.Sim.Stats().LoginsOK == 2 })
	if code := p.Stop(syscall.SIGTERM, bearerdtest.AtOnce); code != 0 {
		t.Errorf("exit code: got %d, want 0", code)
	}
}

// A question that nobody can see, as the terminal stands still, is left by a
// signal.
func TestAQuestionThatDoesNotShowCanBeLeft(t *testing.T) {
	t.Parallel()
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	for _, command := range []string{"serve", "check"} {
		viewer, shows := openTerminal(t)
		fillTerminal(t, shows)
		keyboard, types := openTerminal(t)
		cmd := bearerdtest.Command(t, command)
		cmd.Env = bearerdtest.Without(w.Env("vyopta"), "BEARERD_PASSWORD")
		cmd.Stdin, cmd.Stderr = types, shows
		p := bearerdtest.StartCommand(t, cmd)
		bearerdtest.Eventually(t, bearerdtest.Soon, "the echo goes off", func() bool {
			state, err := unix.IoctlGetTermios(int(types.Fd()), unix.TCGETS)
			return err == nil && state.Lflag&unix.ECHO == 0
		})
		if code := p.Stop(syscall.SIGTERM, bearerdtest.AtOnce); code != exitFailed {
			t.Errorf("%s: exit code %d, want 1", command, code)
		}
		for _, f := range []*os.File{viewer, shows, keyboard, types} {
			_ = f.Close()
		}
	}
}

// fillTerminal writes to a terminal whose other side nobody reads until it takes
// no more.
func fillTerminal(t *testing.T, terminal *os.File) {
	t.Helper()
	fd := int(terminal.Fd())
	if err := unix.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := unix.Write(fd, []byte("x\n")); errors.Is(err, unix.EAGAIN) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.SetNonblock(fd, false); err != nil {
		t.Fatal(err)
	}
}
