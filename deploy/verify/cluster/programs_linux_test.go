package cluster_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const (
	kubernetes = "35.4"    // of 1; the last minor version whose kubelet takes the containerd of Debian 12
	operator   = "v0.92.0" // of Prometheus
)

// build brings the programs of Kubernetes, and the etcd that it was tested
// with, into folder.
func build(t *testing.T, folder string) {
	t.Helper()
	source := module(t, "k8s.io/kubernetes@v1."+kubernetes)
	// Its go.mod has what Kubernetes publishes as modules of their own in
	// folders, which are not in the module.
	mod := regexp.MustCompile(`=> \./staging/src/(\S+)`).ReplaceAllString(read(t, filepath.Join(source, "go.mod")), "=> $1 v0."+kubernetes)
	modFile := filepath.Join(folder, "go.mod")
	write(t, modFile, mod)
	write(t, filepath.Join(folder, "go.sum"), read(t, filepath.Join(source, "go.sum")))
	for program, from := range map[string]string{
		"etcd": "go.etcd.io/etcd/server/v3", "kube-apiserver": "./cmd/kube-apiserver", "kube-controller-manager": "./cmd/kube-controller-manager",
		"kube-scheduler": "./cmd/kube-scheduler", "kubelet": "./cmd/kubelet", "kubectl": "./cmd/kubectl",
	} {
		t.Logf("building %s", program)
		cmd := exec.Command("go", "build", "-modfile="+modFile, "-mod=mod", "-trimpath", "-ldflags=-s -w -X k8s.io/component-base/version.gitVersion=v1."+kubernetes,
			"-o", filepath.Join(folder, program), from)
		cmd.Dir = source
		cmd.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("building %s: %v\n%s", program, err, out)
		}
	}
}

// module is the folder that a module's source is in.
func module(t *testing.T, name string) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command("go", "mod", "download", "-json", name)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var found struct{ Dir, Error string }
	if jsonErr := json.Unmarshal(out, &found); err != nil || jsonErr != nil {
		t.Fatalf("%s: %v %s\n%s", name, err, found.Error, &stderr)
	}
	return found.Dir
}

// saveImages saves the images that the cluster's pods run.
func saveImages(t *testing.T, file string) {
	t.Helper()
	t.Log("building the images")
	cmd := exec.Command("go", "test", "-count=1", "-v", "-run=^TestSave$", "../docker", "-save="+file)
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestSave") {
		t.Fatalf("%v\n%s", err, out)
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
