package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

// otherUser runs bearerd, and the programs that spy on it.
var otherUser = syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65532, Gid: 65532}}

// asOtherUser runs a program as the user that bearerd runs as.
func asOtherUser(name string, args ...string) (out []byte, err error) {
	cmd := exec.Command(name, args...)
	attr := otherUser
	cmd.SysProcAttr = &attr
	return cmd.CombinedOutput()
}

// startAsOther starts bearerd as another user, in a directory where it may
// write a core file of any size.
func startAsOther(t *testing.T, w *bearerdtest.World, env ...string) (p *bearerdtest.Process, dir string) {
	t.Helper()
	if os.Getuid() != 0 {
		bearerdtest.Lacking(t, "root, to become another user")
	}
	path := bearerdtest.Program(t)
	dir = bearerdtest.SocketDir(t)
	if err := os.Chown(dir, int(otherUser.Credential.Uid), int(otherUser.Credential.Gid)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("bash", "-c", `ulimit -S -c "$(ulimit -H -c)" && exec "$0"`, path)
	attr := otherUser
	cmd.Dir, cmd.SysProcAttr = dir, &attr
	return w.StartProgram(t, cmd, append(append(w.Env("vyopta"), "BEARERD_LOG_FORMAT=json",
		"BEARERD_LISTEN=localhost:0", "BEARERD_ADMIN_LISTEN=localhost:0"), env...)...), dir
}

// Another program of the same user cannot read what bearerd knows. That bearerd
// can still count its own open files is for the metrics.
func TestThreatMemoryIsHidden(t *testing.T) {
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	p, _ := startAsOther(t, w)
	if got, body := getAs(t, "GET", p.URL, bearerdtest.NamesPath, "localhost"); got != 200 {
		t.Fatalf("got %d %s, want 200", got, body)
	}
	bare := exec.Command("sleep", "60") // has no such protection: what is tested is not the machine's
	attr := otherUser
	bare.SysProcAttr, bare.Env = &attr, []string{"PASSWORD=" + querysim.Password}
	if err := bare.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = bare.Process.Kill(); _ = bare.Wait() }()
	for _, file := range []string{"environ", "mem", "maps", "fd"} {
		script := fmt.Sprintf("if [ -d /proc/$0/%[1]s ]; then ls /proc/$0/%[1]s; else exec 3</proc/$0/%[1]s && if [ %[1]s = environ ]; then cat <&3; fi; fi", file)
		if out, err := asOtherUser("bash", "-c", script, fmt.Sprint(bare.Process.Pid)); err != nil {
			t.Errorf("%s of an unprotected process: %v %s", file, err, out)
		}
		if out, err := asOtherUser("bash", "-c", script, fmt.Sprint(p.Cmd.Process.Pid)); err == nil {
			t.Errorf("%s of bearerd can be read: %q", file, out)
		}
	}
	for _, name := range []string{"process_open_fds", "process_max_fds", "process_resident_memory_bytes", "process_virtual_memory_bytes",
		"process_cpu_seconds_total", "process_start_time_seconds", "process_network_receive_bytes_total"} {
		if got := p.Metric(name); got <= 0 && name != "process_cpu_seconds_total" || got < 0 {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

// A crash leaves no core, and prints no secret: the harness searches for them.
func TestThreatCrashLeavesNoCore(t *testing.T) {
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	p, dir := startAsOther(t, w, "GOTRACEBACK=crash")
	if got, body := getAs(t, "GET", p.URL, bearerdtest.NamesPath, "localhost"); got != 200 {
		t.Fatalf("got %d %s, want 200", got, body)
	}
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", p.Cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(limits)) {
		if f := strings.Fields(line); strings.HasPrefix(line, "Max core file size") && (f[4] != "0" || f[5] != "0") {
			t.Errorf("got %s", line)
		}
	}
	_ = p.Stop(syscall.SIGABRT, bearerdtest.AtOnce)
	status := p.Cmd.ProcessState.Sys().(syscall.WaitStatus)
	if status.CoreDump() || !strings.Contains(p.Text(), "goroutine ") {
		t.Errorf("ended by %v, core: %v", status.Signal(), status.CoreDump())
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// A socket of mode 0600 is not for other users.
func TestThreatOtherUsersOfTheMachine(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		bearerdtest.Lacking(t, "root, to become another user")
	}
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	path := bearerdtest.Program(t)
	dir := bearerdtest.SocketDir(t)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for mode, want := range map[string]string{"0600": "permission denied", "0666": "ready"} {
		admin := "BEARERD_ADMIN_LISTEN=unix:" + dir + "/" + mode
		p := w.Serve(t, admin, "BEARERD_SOCKET_MODE="+mode)
		if out, _ := asOtherUser("env", admin, path, "healthcheck", "-wait", "3s"); !strings.Contains(string(out), want) {
			t.Errorf("%s: got %s, want %s", mode, out, want)
		}
		if code := p.Stop(syscall.SIGTERM, bearerdtest.AtOnce); code != 0 {
			t.Errorf("exit code %d, want 0", code)
		}
	}
}

func TestAbstractSocketIsNotInherited(t *testing.T) {
	l, err := net.Listen("unix", fmt.Sprintf("@bearerd-%d", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cmd := activated(t, bearerdtest.NewWorld(t, querysim.Options{}, nil), "data", []filer{l.(filer)})
	out, _ := cmd.CombinedOutput()
	if code := cmd.ProcessState.ExitCode(); code != 78 || !strings.Contains(string(out), "LISTEN_FDS: an abstract socket") {
		t.Errorf("got %d %s, want 78", code, out)
	}
}

// A file of mode 0644 on a mount for reading only is as Kubernetes and Docker
// mount secrets, and who runs in the container can change nothing there.
func TestSecretFilesOfAMountAreLeftAlone(t *testing.T) {
	path := bearerdtest.Program(t)
	if out, err := exec.Command("unshare", "-m", "mount", "-t", "tmpfs", "none", bearerdtest.SocketDir(t)).CombinedOutput(); err != nil {
		t.Skipf("no mount namespace: %v: %s", err, out)
	}
	for remount, warns := range map[string]bool{"rw": true, "ro": false} {
		script := `mount -t tmpfs none "$1" && printf x >"$1/s" && chmod 644 "$1/s" && mount -o remount,bind,$2 "$1" && exec "$0" check`
		dir := bearerdtest.SocketDir(t)
		cmd := exec.Command("unshare", "-m", "sh", "-c", script, path, dir, remount)
		cmd.Env = append(bearerdtest.NewWorld(t, querysim.Options{}, nil).Env("vyopta"), "BEARERD_PASSWORD=", "BEARERD_PASSWORD_FILE="+dir+"/s", "PATH="+os.Getenv("PATH"))
		out, _ := cmd.CombinedOutput()
		if got := strings.Contains(string(out), "run chmod 600 "+dir+"/s"); got != warns || !strings.Contains(string(out), "Settings") {
			t.Errorf("%s: got %s, want a warning: %v", remount, out, warns)
		}
	}
}
