//go:build linux

package docker_test

import (
	"flag"
	"slices"
	"testing"
)

var saveIn = flag.String("save", "", "file for the images that ../cluster runs")

// TestSave saves the images of the Dockerfile, and stand-ins for what else a
// cluster without a registry lacks.
func TestSave(t *testing.T) {
	if *saveIn == "" {
		t.Skip("wants -save, as ../cluster has it")
	}
	e := startEngine(t)
	e.provideGo(t)
	for _, target := range []string{"bearerd", "querysim"} {
		e.docker(t, slices.Concat([]string{"build", "--target=" + target, "--tag=" + target}, goArgs, []string{root})...)
	}
	const app = "curlimages/curl:8.10.1" // the manifests' example
	e.provide(t, app, []string{"ENV PATH=/bin"}, func(w *imageWriter) { w.program("/usr/bin/curl", "bin/curl") })
	e.provide(t, "pause", []string{`ENTRYPOINT ["/bin/sleep", "infinity"]`}, nil)
	const store = "valkey"
	e.provideEngine(t, store)
	const other = "registry.example.com/bearerd:1.0" // the README's
	e.docker(t, "tag", "bearerd", other)
	e.docker(t, "save", "--output="+*saveIn, "bearerd", other, "querysim", app, store, "pause")
}
