// Package testenv is what the tests of the files in deploy have in common: the
// machine that they run on, and the programs that they start there.
package testenv

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"
)

// Lacking skips a test that this machine cannot run. Where CI=true each must
// run, so that none is skipped for ever unseen.
func Lacking(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("CI=true, and this machine lacks %s (.ci/run packages gets programs)", what)
	}
	t.Skipf("this machine lacks %s", what)
}

// Program is the path of a program that a test runs. Without it the test is
// skipped, as Lacking says.
func Program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		Lacking(t, name)
	}
	return path
}

// Root skips a test that is not run by root, as Lacking says.
func Root(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		Lacking(t, "root")
	}
}

// Build makes bearerd and querysim in folder.
func Build(folder string) error {
	build := exec.Command("go", "build", "-o", folder, "./cmd/bearerd", "./cmd/querysim")
	build.Dir = "../../.." // of bearerd's own go.mod, from the folder of a test in deploy/verify
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

// Eventually waits until ok says yes, for at most two minutes.
func Eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	const within = 2 * time.Minute
	deadline := time.Now().Add(within)
	for tick := time.NewTicker(100 * time.Millisecond); ; <-tick.C {
		if ok() {
			tick.Stop()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}
