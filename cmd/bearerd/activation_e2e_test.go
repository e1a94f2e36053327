//go:build unix

package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

// jumpTo in the environment makes the test binary become the program of that
// path, with its process id and its open files: as a service manager that hands
// down sockets starts it.
const jumpTo = "BEARERD_TEST_JUMP_TO"

// trampoline reports whether this process was to become another and could not.
func trampoline() bool {
	path := os.Getenv(jumpTo)
	if path == "" {
		return false
	}
	if err := os.Unsetenv(jumpTo); err != nil {
		panic(err)
	}
	if os.Getenv("LISTEN_PID") == "" {
		if err := os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid())); err != nil {
			panic(err)
		}
	}
	panic(syscall.Exec(path, append([]string{path}, os.Args[1:]...), os.Environ()))
}

// activated runs bearerd as a service manager does, with sockets for it. The
// sockets stay the caller's.
func activated(t *testing.T, w *bearerdtest.World, names string, sockets []filer, env ...string) *exec.Cmd {
	t.Helper()
	path := bearerdtest.Program(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	for _, s := range sockets {
		f, err := s.File()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	cmd.Env = append(w.Env("vyopta"), jumpTo+"="+path, "LISTEN_FDS="+strconv.Itoa(len(sockets)), "LISTEN_FDNAMES="+names,
		"BEARERD_LOG_FORMAT=json")
	cmd.Env = append(cmd.Env, env...)
	return cmd
}

// filer is a socket that can be handed down.
type filer interface{ File() (*os.File, error) }

func listenOn(t *testing.T, network, address string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func TestSocketActivation(t *testing.T) {
	t.Parallel()
	path := filepath.Join(bearerdtest.SocketDir(t), "admin.sock")
	for _, names := range []string{"data:admin", "bearerd.socket:admin", ":admin", "unknown:admin"} {
		data, admin := listenOn(t, "tcp", "127.0.0.1:0"), listenOn(t, "unix", path)
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
		w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
		cmd := activated(t, w, names, []filer{data.(filer), admin.(filer)}, "BEARERD_LISTEN="+data.Addr().String())
		p := w.StartProgram(t, cmd, cmd.Env...)
		if want := "http://" + data.Addr().String(); p.URL != want || p.Admin != "unix:"+path {
			t.Errorf("%s: serves at %s and %s, want %s and %s", names, p.URL, p.Admin, want, path)
		}
		if !strings.Contains(p.Text(), `"inherited":["data","admin"]`) || strings.Contains(p.Text(), `"warn"`) {
			t.Errorf("%s: the start-up line: %s", names, p.Text())
		}
		if got, body := getAs(t, "GET", p.URL, bearerdtest.NamesPath, "localhost"); got != 200 {
			t.Errorf("%s: got %d %s, want 200", names, got, body)
		}
		if got, body := getAs(t, "GET", p.Admin, "/readyz", "localhost"); got != 200 {
			t.Errorf("%s: /readyz: got %d %s, want 200", names, got, body)
		}
		if code := p.Stop(syscall.SIGTERM, bearerdtest.AtOnce); code != 0 {
			t.Errorf("%s: exit code %d, want 0", names, code)
		}
		// They are the service manager's, and who comes now waits for the next
		// start.
		if !bearerdtest.IsThere(path) {
			t.Errorf("%s: the inherited socket was removed", names)
		}
		if conn, err := net.Dial("tcp", data.Addr().String()); err != nil {
			t.Errorf("%s: the port was closed: %v", names, err)
		} else {
			_ = conn.Close()
		}
		_ = admin.Close()
	}
}

// Of a socket unit for data alone, bearerd opens its own admin listener; and
// what is meant for another process it leaves alone.
func TestSocketActivationInPart(t *testing.T) {
	t.Parallel()
	path := filepath.Join(bearerdtest.SocketDir(t), "data.sock")
	data := listenOn(t, "unix", path)
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	cmd := activated(t, w, "data", []filer{data.(filer)}, "BEARERD_ADMIN_LISTEN=localhost:0")
	p := w.StartProgram(t, cmd, cmd.Env...)
	if got, body := getAs(t, "GET", p.URL, bearerdtest.NamesPath, "any.example"); got != 200 || p.URL != "unix:"+path {
		t.Errorf("got %d %s at %s, want 200", got, body, p.URL)
	}
	if got, _ := getAs(t, "GET", p.Admin, "/readyz", "localhost"); got != 200 {
		t.Errorf("/readyz: got %d, want 200", got)
	}
	p.Until("every user of this machine may connect to " + path + " (mode 0666); write SocketMode=0600")

	cmd = activated(t, w, "data", []filer{data.(filer)}, "LISTEN_PID=1", "BEARERD_LISTEN=localhost:0", "BEARERD_ADMIN_LISTEN=off")
	p = w.StartProgram(t, cmd, cmd.Env...)
	if !strings.HasPrefix(p.URL, "http://") {
		t.Errorf("took a socket that is meant for another process: %s", p.URL)
	}
}

func TestSocketActivationRefused(t *testing.T) {
	t.Parallel()
	local, wide := listenOn(t, "tcp", "127.0.0.1:0"), listenOn(t, "tcp4", "0.0.0.0:0")
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	conn, err := net.Dial("tcp", local.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	for name, test := range map[string]struct {
		socket filer
		names  string
		env    []string
		want   string
	}{
		"LISTEN says another":       {local.(filer), "data", []string{"BEARERD_LISTEN=localhost:1"}, "BEARERD_LISTEN: does not say " + local.Addr().String()},
		"ADMIN_LISTEN says another": {local.(filer), "admin", []string{"BEARERD_ADMIN_LISTEN=off"}, "BEARERD_ADMIN_LISTEN: does not say"},
		"other machines":            {wide.(filer), "data", nil, "LISTEN_FDS: 0.0.0.0:"},
		"another name":              {local.(filer), "web", nil, `LISTEN_FDNAMES: "web" is neither data nor admin`},
		"a datagram socket":         {udp.(filer), "data", nil, "Accept=no"},
		"a connection":              {conn.(filer), "connection", nil, "is not listening; a socket unit for bearerd has ListenStream= and Accept=no"},
		"a file":                    {fileOf{os.DevNull}, "data", nil, "Accept=no"},
		"upstream is that socket":   {local.(filer), "data", []string{"BEARERD_UPSTREAM=http://" + local.Addr().String()}, "BEARERD_UPSTREAM: that is where bearerd itself listens"},
		"logins go to that socket":  {local.(filer), "data", []string{"BEARERD_TOKEN_URL=http://" + local.Addr().String() + "/token"}, "BEARERD_TOKEN_URL: that is where bearerd itself listens"},
		"a wrong number":            {local.(filer), "data", []string{"LISTEN_FDS=x"}, `LISTEN_FDS: "x" is not a number of sockets`},
	} {
		cmd := activated(t, w, test.names, []filer{test.socket}, test.env...)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		limit := time.AfterFunc(bearerdtest.Soon, func() { _ = cmd.Process.Kill() }) // it serves, though it should not
		_ = cmd.Wait()
		limit.Stop()
		if code := cmd.ProcessState.ExitCode(); code != 78 || !strings.Contains(out.String(), test.want) {
			t.Errorf("%s: got %d %s, want 78 and %s", name, code, &out, test.want)
		}
	}
	// Other machines may where that was permitted, as for LISTEN.
	cmd := activated(t, w, "data", []filer{wide.(filer)}, "BEARERD_ALLOW_NON_LOOPBACK=true", "BEARERD_ALLOWED_HOSTS=proxy.example", "BEARERD_ADMIN_LISTEN=off")
	p := w.StartProgram(t, cmd, cmd.Env...)
	url := strings.Replace(p.URL, "0.0.0.0", "127.0.0.1", 1)
	if got, body := getAs(t, "GET", url, bearerdtest.NamesPath, "proxy.example"); got != 200 {
		t.Errorf("got %d %s, want 200", got, body)
	}
}

type fileOf struct{ path string }

func (f fileOf) File() (*os.File, error) { return os.Open(f.path) }

// A second instance takes over the port while clients go on: none of their
// requests fails, be it on a new connection or on one that has served before.
func TestHandOver(t *testing.T) {
	t.Parallel()
	data := listenOn(t, "tcp", "127.0.0.1:0")
	w := bearerdtest.NewWorld(t, querysim.Options{}, http.HandlerFunc(bearerdtest.Digest))
	start := func() *bearerdtest.Process {
		cmd := activated(t, w, "data", []filer{data.(filer)}, "BEARERD_ADMIN_LISTEN=localhost:0", "BEARERD_ACCESS_LOG=off", "BEARERD_DRAIN_DELAY=1s")
		return w.StartProgram(t, cmd, cmd.Env...)
	}
	current := start()

	ctx, stop := context.WithCancel(t.Context())
	var (
		wg   sync.WaitGroup
		sent atomic.Int64
	)
	for n := range 16 {
		wg.Go(func() {
			c := &http.Client{Transport: &http.Transport{DisableKeepAlives: n%2 == 0}}
			defer c.CloseIdleConnections()
			answered := time.Now()
			for tick := time.NewTicker(5 * time.Millisecond); ctx.Err() == nil; <-tick.C {
				// net/http cannot send such a body again by itself.
				body := io.MultiReader(strings.NewReader("a body"))
				resp, err := c.Post("http://"+data.Addr().String()+"/", "text/plain", body)
				if held := time.Since(answered); err != nil && held > time.Second {
					// A client has a second to send, on a new connection and on one
					// that it was not told to leave; this one the machine kept longer.
					t.Logf("after %v: %v", held, err)
					answered = time.Now()
					continue
				}
				if err != nil {
					t.Errorf("after %d requests: %v", sent.Load(), err)
					return
				}
				text, err := io.ReadAll(resp.Body)
				answered = time.Now()
				_ = resp.Body.Close()
				if want := bearerdtest.DigestReader(strings.NewReader("a body")); resp.StatusCode != 200 || string(text) != want || err != nil {
					t.Errorf("got %d %q, %v, want 200 %s", resp.StatusCode, text, err, want)
					return
				}
				sent.Add(1)
			}
		})
	}
	for range 5 {
		next := start()
		bearerdtest.Eventually(t, bearerdtest.Soon, "the second is ready", func() bool {
			status, _ := getAs(t, "GET", next.Admin, "/readyz", "localhost")
			return status == 200
		})
		if code := current.Stop(syscall.SIGTERM, 20*time.Second); code != 0 {
			t.Errorf("exit code %d, want 0", code)
		}
		current = next
	}
	stop()
	wg.Wait()
	t.Logf("%d requests", sent.Load())
}
