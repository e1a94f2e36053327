package bearerdtest

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// The end-to-end tests run the built binary against the simulator, each with
// its own processes and ports. Those that mostly wait run side by side, after
// those that keep the machine busy.

// Programs is the folder of what is built for the tests, until Clean. Everybody
// may read it, as some tests become another user.
var Programs = sync.OnceValues(func() (dir string, err error) {
	if dir, err = os.MkdirTemp("", "bearerd-e2e-"); err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o755)
})

// Clean removes the folder, after all tests.
func Clean() {
	if dir, err := Programs(); err == nil { // which is made now where nobody has used it
		_ = os.RemoveAll(dir)
	}
}

var bearerd, simulator = built("bearerd"), built("querysim")

// built returns what builds a program of cmd, once, as its releases are built.
func built(name string) func() (path string, err error) {
	return sync.OnceValues(func() (string, error) {
		// Under Wine there is no Go: .ci/run windows has built them.
		if dir := os.Getenv("BEARERD_TEST_PROGRAMS"); dir != "" && runtime.GOOS == "windows" {
			return filepath.Join(dir, name+".exe"), nil
		}
		dir, err := Programs()
		if err != nil {
			return "", err
		}
		// The tests may be another module's, whose go.mod has other versions.
		root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/bearerd/bearerd").Output()
		if err != nil {
			return "", fmt.Errorf("go list: %w", err)
		}
		path := filepath.Join(dir, name)
		args, environ := []string{"build", "-o", path}, os.Environ()
		if Race {
			args = append(args, "-race")
		} else {
			args = append(args, "-trimpath")
			environ = append(environ, "CGO_ENABLED=0") // a release needs no library
		}
		build := exec.Command("go", append(args, "./cmd/"+name)...)
		build.Dir, build.Env = strings.TrimSpace(string(root)), environ
		if out, err := build.CombinedOutput(); err != nil {
			return "", fmt.Errorf("go build: %w\n%s", err, out)
		}
		return path, nil
	})
}

// Program returns the path of bearerd, which is built once.
func Program(t testing.TB) string { return pathOf(t, bearerd) }

// Simulator returns the path of querysim, likewise.
func Simulator(t testing.TB) string { return pathOf(t, simulator) }

func pathOf(t testing.TB, built func() (string, error)) string {
	t.Helper()
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Command returns a bearerd that is yet to be started.
func Command(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	return exec.Command(Program(t), args...)
}

// CommandWithin returns one that may have n file descriptors.
func CommandWithin(t testing.TB, n int) *exec.Cmd {
	t.Helper()
	return exec.Command("/bin/sh", "-c", fmt.Sprintf(`ulimit -n %d && exec "$0"`, n), Program(t))
}

// Run runs a package's tests, which may use the programs, and returns their
// exit code.
func Run(m *testing.M) int {
	// Those that run side by side mostly wait, whatever the number of processors.
	// (Where a target is fuzzed it would be the number of its workers.)
	if !strings.Contains(strings.Join(os.Args, " "), "-test.fuzz=") {
		atOnce := 16
		if Race { // each takes several times as much
			atOnce = 6
		}
		_ = flag.Set("test.parallel", strconv.Itoa(max(atOnce, runtime.GOMAXPROCS(0))))
	}
	defer Clean()
	return m.Run()
}
