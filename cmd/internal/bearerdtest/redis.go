package bearerdtest

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Redis is a redis-server of the test's own, on a unix socket. It keeps nothing on a
// disk.
type Redis struct {
	Socket string

	t    testing.TB
	args []string
	cmd  *exec.Cmd
}

// StartRedis starts a redis-server, with more arguments. It ends with the test.
func StartRedis(t testing.TB, args ...string) *Redis {
	t.Helper()
	dir := SocketDir(t)
	r := &Redis{Socket: filepath.Join(dir, "redis"), t: t, args: append([]string{
		"--port", "0", "--dir", dir, "--save", "", "--appendonly", "no",
	}, args...)}
	r.Start()
	t.Cleanup(r.Kill)
	return r
}

// Start starts it again after Kill, with nothing in it.
func (r *Redis) Start() {
	r.t.Helper()
	r.cmd = StartListener(r.t, "redis-server", r.Socket, append(r.args, "--unixsocket", r.Socket)...)
}

// Kill ends it at once, with all that it has in memory.
func (r *Redis) Kill() {
	if r.cmd != nil {
		_ = r.cmd.Process.Kill()
		_ = r.cmd.Wait()
		r.cmd = nil
		_ = os.Remove(r.Socket)
	}
}

// StartListener starts a program and waits until it takes connections, at a unix
// socket's path or at host:port. The caller ends it.
func StartListener(t testing.TB, program, address string, args ...string) *exec.Cmd {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		Lacking(t, program)
	}
	cmd := exec.Command(program, args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	network := "tcp"
	if strings.HasPrefix(address, "/") {
		network = "unix"
	}
	Eventually(t, 20*time.Second, program, func() bool {
		conn, err := net.Dial(network, address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	return cmd
}

// Signal sends it a signal.
func (r *Redis) Signal(sig os.Signal) {
	r.t.Helper()
	if err := r.cmd.Process.Signal(sig); err != nil {
		r.t.Fatal(err)
	}
}
