// Package longtest keeps `go test ./...` short: a test that must wait or compute
// for long is left to `go test -short=false ./...`. It knows the command line of
// the tests, and nothing of what they prove.
package longtest

import (
	"flag"
	"testing"
)

// Mark, called by the test itself, marks t as a long test: it is skipped, with the reason why, where the
// command line does not say -short=false. (A flag of our own would have to be
// known to every package that ./... names.)
func Mark(t testing.TB, why string) {
	t.Helper()
	asked := false
	flag.Visit(func(f *flag.Flag) { // visits those that were set
		asked = asked || f.Name == "test.short" && !testing.Short()
	})
	if !asked {
		t.Skipf("%s: go test -short=false runs it", why)
	}
}
