package systemd_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/bearerd/bearerd/deploy/verify/internal/testenv"
)

const units = "../../systemd"

// installed returns a copy of the units, changed, for a bearerd elsewhere than
// in /usr/local/bin.
func installed(t *testing.T, bearerd string, changes ...string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(units)); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "bearerd.service")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.NewReplacer(append(changes, "/usr/local/bin/bearerd", bearerd)...).Replace(string(text))
	if err := os.WriteFile(file, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func analyze(t *testing.T, args ...string) (output string, err error) {
	t.Helper()
	out, err := exec.Command(testenv.Program(t, "systemd-analyze"), args...).CombinedOutput()
	return string(out), err
}

// verify returns what systemd has to say of the units.
func verify(t *testing.T, dir string) string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "bearerd*"))
	if err != nil || len(paths) != 3 {
		t.Fatalf("units: got %v %v, want three", paths, err)
	}
	out, err := analyze(t, append([]string{"verify", "--man=no"}, paths...)...)
	if err != nil && out == "" {
		return err.Error()
	}
	return out
}

// exposure is systemd's mark for the service, from 0 to 10.
func exposure(t *testing.T, dir string) float64 {
	t.Helper()
	out, _ := analyze(t, "security", "--offline=true", "--no-pager", filepath.Join(dir, "bearerd.service"))
	level := regexp.MustCompile(`Overall exposure level for bearerd\.service: ([0-9.]+)`).FindStringSubmatch(out)
	if level == nil {
		t.Fatalf("no exposure level in\n%s", out)
	}
	f, err := strconv.ParseFloat(level[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestUnits(t *testing.T) {
	dir := installed(t, "/bin/true")
	if got := verify(t, dir); got != "" {
		t.Errorf("systemd-analyze verify: got %s", got)
	}
	if got := exposure(t, dir); got > 2.0 {
		t.Errorf("exposure: got %v, want 2.0 at most", got)
	}
}

func TestWrongUnitsFail(t *testing.T) {
	for _, change := range [][]string{
		{"RestartSec=", "RestartSecs="},
		{"@system-service", "@no-such-set"},
	} {
		if got := verify(t, installed(t, "/bin/true", change...)); got == "" {
			t.Errorf("%q: got silence", change)
		}
	}
	if got := verify(t, installed(t, "/nowhere/bearerd")); got == "" {
		t.Error("a program that is not there: got silence")
	}
	for _, change := range [][]string{
		{"CapabilityBoundingSet=\n", "", "PrivateUsers=yes\n", ""},
		{"SystemCallFilter=", "#"},
	} {
		if got := exposure(t, installed(t, "/bin/true", change...)); got <= 2.0 {
			t.Errorf("exposure without %q: got %v, want more than 2.0", change, got)
		}
	}
}

// TestService has a real systemd run the units, in namespaces of its own, and
// does with the service what people do.
func TestService(t *testing.T) {
	testenv.Root(t)
	for _, program := range []string{"/usr/lib/systemd/systemd", "unshare", "ip", "curl"} {
		testenv.Program(t, program)
	}
	dir := t.TempDir()
	for _, sub := range []string{"units", "bin", "etc"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.CopyFS(filepath.Join(dir, "units"), os.DirFS(units)); err != nil {
		t.Fatal(err)
	}
	if err := testenv.Build(filepath.Join(dir, "bin")); err != nil {
		t.Fatal(err)
	}
	steps, err := os.ReadFile("testdata/steps.sh")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"steps.sh":     string(steps),
		"etc/password": "not-a-real-password\n",
		"etc/env": "BEARERD_PRESET=vyopta\nBEARERD_USERNAME=demo@example.com\nBEARERD_UPSTREAM=http://127.0.0.1:8082\n" +
			"BEARERD_TOKEN_URL=http://127.0.0.1:8081/auth/realms/vyopta/protocol/openid-connect/token\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command("testdata/boot.sh", dir).CombinedOutput()
	if err != nil {
		t.Errorf("boot.sh: %v\n%s", err, out)
	}
	got, err := os.ReadFile(filepath.Join(dir, "output"))
	if err != nil {
		t.Error(err)
	}
	const want = `by a connection alone: 200
over IPv6: 200 200
a dynamic user
CapEff: 0000000000000000
CapBnd: 0000000000000000
NoNewPrivs: 1
Seccomp: 2
has process_start_time_seconds
has process_resident_memory_bytes
has process_open_fds
reloaded: a login
all the while of a restart: 200 
a wrong password
503
active, restarts: 0
the right one
200
stopped: success 0
without the sockets
200
bad settings: failed 78, restarts: 0
the journal names them
mended
200
a crash: 2
200
restarts: 1
a name that is taken: 1
service install: 0 gateway runs, is ready
asked: 200
200
700 root
600 root
600 root
service status: 0   log       journalctl
service stop: 0 gateway is stopped
service status: 1   log       journalctl
service start: 0 gateway runs, and is r
service install: 78 BEARERD_GRANT_TYPE: mi
service status: 0   log       journalctl
service install: 1 bearerd: not ready, so
200
as before: 200
service uninstall: 0 removed /var/lib/gatew
nothing is left
service uninstall: 1 bearerd: there is no s
user's service install: 1 bearerd: sudo has no s
user's service install: 0 'loginctl enable-linge
asked: 200
user's service install: 0 'loginctl enable-linge
user's service status: 0   log       journalctl
user's service stop: 0 bearerd is stopped
user's service status: 1   log       journalctl
user's service uninstall: 0 removed /run/home/.con
nothing is left
`
	if string(got) != want {
		boot, _ := os.ReadFile(filepath.Join(dir, "boot"))
		t.Errorf("got\n%s\nwant\n%s\nsystemd: %s", got, want, boot)
	}
}
