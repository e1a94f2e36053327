package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

// A scratch image has the program and nothing else: no shell, no /etc/hosts, no
// name server, no environment but what it is given.
func TestHealthcheckFromScratch(t *testing.T) {
	if os.Getuid() != 0 {
		bearerdtest.Lacking(t, "root, for chroot")
	}
	if bearerdtest.Race {
		t.Skip("the race detector needs libraries")
	}
	root := t.TempDir()
	bearerd, err := os.ReadFile(bearerdtest.Program(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "bearerd"), bearerd, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	p := w.Serve(t)
	inside := func(env ...string) (int, string) {
		cmd := exec.Command("/bearerd", "healthcheck", "-wait", "10s")
		cmd.Env, cmd.Dir = env, "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: 65532, Gid: 65532}}
		out, _ := cmd.CombinedOutput()
		return cmd.ProcessState.ExitCode(), string(out)
	}
	_, port, _ := strings.Cut(strings.TrimPrefix(p.Admin, "http://"), ":")
	if code, said := inside("BEARERD_ADMIN_LISTEN=localhost:" + port); code != 0 || said != "ready\n" {
		t.Errorf("got %d %q, want 0 and ready", code, said)
	}
}
