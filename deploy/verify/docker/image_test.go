//go:build linux

package docker_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/elf"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

const maxImage = 12 << 20 // bytes, compressed

// goArgs makes the Dockerfile's build work where there is no internet.
var goArgs = []string{"--build-arg", "GOPROXY=file:///modules", "--build-arg", "VERSION=1.2.3"}

// Compose makes the images' names of it.
const (
	project       = "it"
	bearerdImage  = project + "_bearerd"
	querysimImage = project + "_querysim"
)

// TestContainers builds the Dockerfile and runs docker-compose.yml. One engine
// is enough for all of it.
func TestContainers(t *testing.T) {
	e := startEngine(t)
	e.provideGo(t)
	build := e.command(e.compose, slices.Concat([]string{"--project-name=" + project, "--profile=shared", "build"}, goArgs)...)
	build.Dir = root
	if _, err := e.run(build); err != nil {
		t.Fatal(err)
	}
	t.Run("Images", func(t *testing.T) {
		t.Parallel() // computes; the others wait
		t.Run("Here", func(t *testing.T) { testImage(t, e) })
		t.Run("Arm64", func(t *testing.T) {
			if testing.Short() {
				t.Skip("compiles all for another architecture")
			}
			testImageForArm64(t, e)
		})
		t.Run("SameAgain", func(t *testing.T) { testSameAgain(t, e) })
	})
	t.Run("Stacks", func(t *testing.T) { // one after the other: they have the same ports
		t.Parallel()
		t.Run("RealServices", func(t *testing.T) { testRealServices(t, e) })
		t.Run("Simulator", func(t *testing.T) { testStack(t, e) })
		t.Run("WrongPassword", func(t *testing.T) { testWrongPassword(t, e) })
		t.Run("WrongSettings", func(t *testing.T) { testWrongSettings(t, e) })
		t.Run("Shared", func(t *testing.T) { testShared(t, e) })
		t.Run("Observe", func(t *testing.T) { testObserve(t, e) })
	})
}

// image is what `docker inspect` says of one.
type image struct {
	Architecture string
	Config       struct {
		User, StopSignal string
		Entrypoint, Cmd  []string
		Env              []string
		Healthcheck      struct {
			Test                           []string
			Interval, Timeout, StartPeriod time.Duration
		}
		Labels map[string]string
	}
	RootFS struct{ Layers []string }
}

func inspectImage(t *testing.T, e *engine, name string) (i image) {
	t.Helper()
	if err := json.Unmarshal([]byte(e.docker(t, "image", "inspect", "--format={{json .}}", name)), &i); err != nil {
		t.Fatal(err)
	}
	return i
}

// contents returns the files of an image, and how large its layers are when
// compressed.
func contents(t *testing.T, e *engine, name string) (files map[string][]byte, headers map[string]*tar.Header, compressed int) {
	t.Helper()
	archive := filepath.Join(t.TempDir(), "image")
	e.docker(t, "image", "save", "--output="+archive, name)
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	files, headers = make(map[string][]byte), make(map[string]*tar.Header)
	forEachFile(t, f, func(h *tar.Header, layer []byte) {
		if filepath.Base(h.Name) != "layer.tar" {
			return
		}
		var packed bytes.Buffer
		w := gzip.NewWriter(&packed)
		_, _ = w.Write(layer)
		_ = w.Close()
		compressed += packed.Len()
		forEachFile(t, bytes.NewReader(layer), func(h *tar.Header, content []byte) { files[h.Name], headers[h.Name] = content, h })
	})
	return files, headers, compressed
}

func forEachFile(t *testing.T, r io.Reader, do func(*tar.Header, []byte)) {
	t.Helper()
	for archive := tar.NewReader(r); ; {
		h, err := archive.Next()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		do(h, content)
	}
}

func testImage(t *testing.T, e *engine) {
	for _, tt := range []struct{ image, name, health string }{
		{bearerdImage, "bearerd", "healthcheck"},
		{querysimImage, "querysim", "-probe"},
	} {
		name := tt.name
		i := inspectImage(t, e, tt.image)
		if i.Architecture != runtime.GOARCH {
			t.Errorf("%s is for %s", name, i.Architecture)
		}
		c := i.Config
		if c.User != "65532:65532" || !slices.Equal(c.Entrypoint, []string{"/" + name}) || c.StopSignal != "" {
			t.Errorf("%s: user %q, entry point %q, stop signal %q", name, c.User, c.Entrypoint, c.StopSignal)
		}
		if h := c.Healthcheck; !slices.Equal(h.Test, []string{"CMD", "/" + name, tt.health}) || h.Timeout <= 5*time.Second {
			t.Errorf("%s: health check %+v", name, h)
		}
		for label, want := range map[string]string{"title": name, "version": "1.2.3", "description": ""} {
			if got := c.Labels["org.opencontainers.image."+label]; got == "" || want != "" && got != want {
				t.Errorf("%s: label %s is %q", name, label, got)
			}
		}
		for _, setting := range c.Env {
			if !strings.HasPrefix(setting, "PATH=") { // the engine's own
				t.Errorf("%s: %s", name, setting)
			}
		}
		files, headers, size := contents(t, e, tt.image)
		if len(files) != 1 || files[name] == nil {
			t.Errorf("%s has other files: %v", name, headers)
			continue
		}
		if h := headers[name]; h.Mode&0o777 != 0o755 || h.Uid != 0 {
			t.Errorf("%s: mode %o, owner %d", name, h.Mode, h.Uid)
		}
		if size > maxImage {
			t.Errorf("%s is %d bytes, want %d at most", name, size, maxImage)
		}
		t.Logf("%s for %s: %.1f MiB compressed", name, i.Architecture, float64(size)/(1<<20))
		if says := fmt.Sprintf("It is %.0f MiB compressed", float64(size)/(1<<20)); name == "bearerd" && !strings.Contains(textOf(t, "docs/compose.md"), says) {
			t.Errorf("docs/compose.md does not say %q", says)
		}
	}
	if got := e.docker(t, "run", "--rm", bearerdImage, "version"); !strings.HasPrefix(got, "bearerd 1.2.3 ") {
		t.Errorf("got %q", got)
	}
	if out, err := e.run(e.command(dockerProgram, "run", "--rm", "--entrypoint=sh", bearerdImage, "-c", "true")); err == nil {
		t.Errorf("there is a shell: %s", out)
	}
}

func testImageForArm64(t *testing.T, e *engine) {
	e.docker(t, slices.Concat([]string{"build", "--tag=bearerd:arm64", "--platform=linux/arm64"}, goArgs, []string{root})...)
	if i := inspectImage(t, e, "bearerd:arm64"); i.Architecture != "arm64" {
		t.Errorf("got %s", i.Architecture)
	}
	files, _, size := contents(t, e, "bearerd:arm64")
	program, err := elf.NewFile(bytes.NewReader(files["bearerd"]))
	if err != nil {
		t.Fatal(err)
	}
	if program.Machine != elf.EM_AARCH64 {
		t.Errorf("got a program for %v", program.Machine)
	}
	if size > maxImage {
		t.Errorf("%d bytes, want %d at most", size, maxImage)
	}
	t.Logf("%.1f MiB compressed", float64(size)/(1<<20))
}

// Two builds give the same layers, whose digests cover the files' times and
// owners too; and the program for this architecture is, bit for bit, the one that
// this machine builds elsewhere, with a build cache of its own. (The image's own ID
// holds the time of the build, which this engine cannot be told.)
func testSameAgain(t *testing.T, e *engine) {
	build := func(tag, arch string, args ...string) []string {
		e.docker(t, slices.Concat([]string{"build", "--tag=" + tag, "--platform=linux/" + arch}, goArgs, args, []string{root})...)
		return inspectImage(t, e, tag).RootFS.Layers
	}
	arches := []string{runtime.GOARCH}
	if !testing.Short() {
		arches = []string{"amd64", "arm64"}
	}
	for _, arch := range arches {
		first := build(arch, arch)
		again := build("again", arch, "--build-arg=GOPROXY=file:///modules,off") // which makes go run again
		if !slices.Equal(first, again) || len(first) != 1 {
			t.Errorf("%s: got layers %q and %q", arch, first, again)
		}
	}
	out := filepath.Join(t.TempDir(), "bearerd")
	goCommand(t, []string{"CGO_ENABLED=0", "GOOS=linux", "GOFLAGS=-mod=readonly"},
		"build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid= -X main.releaseVersion=1.2.3", "-o", out, "./cmd/bearerd")
	here, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	files, _, _ := contents(t, e, runtime.GOARCH)
	if sha256.Sum256(files["bearerd"]) != sha256.Sum256(here) {
		t.Error("the image's program is not the one that is built here")
	}
}

// The settings for each real service are complete, once the secrets are there.
func testRealServices(t *testing.T, e *engine) {
	all, err := filepath.Glob(root + "/deploy/compose/*/bearerd.env")
	if err != nil || len(all) < 2 {
		t.Fatalf("got %q, %v", all, err)
	}
	for _, settings := range all {
		service := filepath.Base(filepath.Dir(settings))
		secrets := t.TempDir()
		makeReadable(t, secrets)
		for _, name := range []string{"username", "password"} {
			writeFile(t, filepath.Join(secrets, name), "some "+name)
		}
		var out bytes.Buffer
		cmd := e.command(dockerProgram, "run", "--rm", "--network=none", "--read-only", "--cap-drop=ALL",
			"--env-file="+settings, "--volume="+secrets+":/run/secrets:ro", bearerdImage, "check", "-json")
		cmd.Stdout = &out
		_ = cmd.Run()
		if got := cmd.ProcessState.ExitCode(); got != 1 { // nothing can be reached; 78 would be wrong settings
			t.Errorf("%s: exit code %d, want 1: %s", service, got, &out)
		}
		var report struct {
			Login struct{ URL, Result, Cause string }
		}
		if err := json.Unmarshal(out.Bytes(), &report); err != nil {
			t.Fatal(err)
		}
		if report.Login.Result != "transient" {
			t.Errorf("%s: %+v", service, report.Login)
		}
		t.Log(service, fmt.Sprintf("%+v", report.Login))
	}
}
