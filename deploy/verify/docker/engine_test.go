//go:build linux

package docker_test

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bearerd/bearerd/deploy/verify/internal/testenv"
)

// The programs of Debian's packages, by their full names: a docker of another
// version may stand before them on PATH.
const (
	dockerProgram  = "/usr/bin/docker"
	dockerdProgram = "/usr/sbin/dockerd"
	busybox        = "/bin/busybox"
)

// composePrograms are where Compose v2 is, as Docker's own packages and Debian's
// install it, and 1.29. The first that is there is used.
var composePrograms = []string{
	"/usr/libexec/docker/cli-plugins/docker-compose", "/usr/lib/docker/cli-plugins/docker-compose", "/usr/bin/docker-compose",
}

// engine is a Docker Engine with network, mounts and processes of its own: what
// it does to them is gone with it, and it does not outlive this test. Nothing in
// it reaches the internet.
type engine struct {
	dir     string
	host    int    // process that the engine's namespaces can be entered by
	compose string // program
}

func startEngine(t *testing.T) *engine {
	t.Helper()
	testenv.Root(t)
	for _, program := range []string{dockerProgram, dockerdProgram, busybox, "/usr/bin/unshare", "/usr/bin/nsenter", "/sbin/ip", "/usr/sbin/iptables"} {
		testenv.Program(t, program)
	}
	i := slices.IndexFunc(composePrograms, func(program string) bool { _, err := os.Stat(program); return err == nil })
	if i < 0 {
		testenv.Lacking(t, "docker-compose")
	}
	// Not t.TempDir: a socket's path must be short.
	dir, err := os.MkdirTemp("", "bearerd-engine-")
	if err != nil {
		t.Fatal(err)
	}
	e := &engine{dir: dir, compose: composePrograms[i]}
	logFile, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer logFile.Close()
	cmd := exec.Command("/usr/bin/unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c",
		`ip link set lo up && exec "$0" "$@"`, dockerdProgram, "--host=unix://"+dir+"/socket", "--data-root="+dir+"/data",
		"--exec-root="+dir+"/exec", "--pidfile="+dir+"/pid", "--bip=172.30.0.1/24")
	cmd.Env = append(os.Environ(), "PATH=/usr/sbin:/usr/bin:/sbin:/bin")
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		if t.Failed() {
			text, _ := os.ReadFile(logFile.Name())
			t.Logf("the engine's log ends with\n%s", text[max(0, len(text)-4000):])
		}
		if e.host != 0 {
			_ = syscall.Kill(e.host, syscall.SIGTERM) // it ends its containers
			select {
			case <-ended:
			case <-time.After(30 * time.Second):
			}
		}
		_ = cmd.Process.Kill() // and with it what is left
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	testenv.Eventually(t, "the engine answers", func() bool {
		select {
		case err := <-ended:
			t.Fatalf("the engine ended: %v", err)
		default:
		}
		_, err := e.run(e.command(dockerProgram, "version"))
		return err == nil
	})
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", cmd.Process.Pid, cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(string(children), &e.host); err != nil {
		t.Fatal(err)
	}
	return e
}

// command is a client of the engine.
func (e *engine) command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	cmd.Env = []string{
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + e.dir, "DOCKER_HOST=unix://" + e.dir + "/socket",
		"DOCKER_BUILDKIT=1", "COMPOSE_DOCKER_CLI_BUILD=1", "BUILDKIT_PROGRESS=plain",
		"COMPOSE_COMPATIBILITY=true", // v2 names images as 1.29 does then
	}
	return cmd
}

func (e *engine) run(cmd *exec.Cmd) (string, error) {
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, &stderr)
	}
	return strings.TrimSpace(out.String()), nil
}

// docker runs the docker command, which must succeed, and returns what it
// prints.
func (e *engine) docker(t *testing.T, args ...string) string {
	t.Helper()
	out, err := e.run(e.command(dockerProgram, args...))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// inside runs a program of this machine where the engine's network and
// processes are.
func (e *engine) inside(args ...string) (string, error) {
	return e.run(exec.Command("/usr/bin/nsenter", append([]string{fmt.Sprintf("--target=%d", e.host), "--net", "--pid", "--mount"}, args...)...))
}

// provide makes a local image under the name of a public one, which cannot be
// had without a registry: busybox, and what add adds.
func (e *engine) provide(t *testing.T, name string, changes []string, add func(*imageWriter)) {
	t.Helper()
	args := []string{"import"}
	for _, c := range changes {
		args = append(args, "--change", c)
	}
	r, w := io.Pipe()
	go func() {
		out := &imageWriter{Writer: tar.NewWriter(w), files: map[string]bool{}}
		for _, dir := range []string{"tmp", "root"} {
			out.entry(tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o1777})
		}
		out.program(busybox, "bin/busybox")
		applets, err := exec.Command(busybox, "--list").Output()
		out.check(err)
		for name := range strings.FieldsSeq(string(applets)) {
			if name != "busybox" {
				out.entry(tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + name, Linkname: "busybox"})
			}
		}
		if add != nil {
			add(out)
		}
		_ = w.CloseWithError(errors.Join(out.failed, out.Close()))
	}()
	cmd := e.command(dockerProgram, append(args, "-", name)...)
	cmd.Stdin = r
	_, err := e.run(cmd)
	_ = r.Close()
	if err != nil {
		t.Fatal(err)
	}
}

// imageWriter writes the files of an image. After a failure it does nothing.
type imageWriter struct {
	*tar.Writer
	failed error
	files  map[string]bool // that are there: programs may be linked with the same
}

func (w *imageWriter) check(err error) bool {
	if w.failed == nil {
		w.failed = err
	}
	return w.failed == nil
}

func (w *imageWriter) entry(h tar.Header) {
	if w.failed == nil {
		w.check(w.WriteHeader(&h))
	}
}

// file adds the file that is at from, links followed, as to.
func (w *imageWriter) file(from, to string) {
	if w.files[to] {
		return
	}
	w.files[to] = true
	content, err := os.ReadFile(from)
	if !w.check(err) {
		return
	}
	info, err := os.Stat(from)
	if !w.check(err) {
		return
	}
	w.entry(tar.Header{Name: to, Mode: int64(info.Mode().Perm()), Size: int64(len(content)), ModTime: info.ModTime()})
	if w.failed == nil {
		_, err = w.Write(content)
		w.check(err)
	}
}

// program adds the program that is at from as to, and the libraries that it is
// linked with.
func (w *imageWriter) program(from, to string) {
	w.file(from, to)
	file, err := elf.Open(from)
	if !w.check(err) {
		return
	}
	dynamic := file.Section(".interp") != nil
	_ = file.Close()
	if !dynamic {
		return
	}
	out, err := exec.Command("ldd", from).Output()
	w.check(err)
	for _, library := range regexp.MustCompile(`/\S+`).FindAllString(string(out), -1) {
		w.file(library, strings.TrimPrefix(library, "/"))
	}
}

// tree adds all files below from, but those that skip names, as to.
func (w *imageWriter) tree(from, to string, skip ...string) {
	w.check(filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		within, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		switch {
		case slices.Contains(skip, filepath.ToSlash(within)):
			if entry.IsDir() {
				return fs.SkipDir
			}
		case !entry.IsDir():
			w.file(path, filepath.ToSlash(filepath.Join(to, within)))
		}
		return w.failed
	}))
}

// provideGo is golang:1.26: this machine's Go, and under /modules a module proxy
// with what the Dockerfile's programs need.
func (e *engine) provideGo(t *testing.T) {
	t.Helper()
	modules := filepath.Join(e.dir, "modules")
	goenv := strings.Fields(goCommand(t, nil, "env", "GOROOT", "GOMODCACHE", "GOPROXY"))
	goCommand(t, []string{
		"GOMODCACHE=" + modules, "GOFLAGS=-modcacherw -mod=readonly",
		"GOPROXY=file://" + goenv[1] + "/cache/download," + goenv[2], // what is here need not be fetched
	}, "list", "-deps", "./cmd/bearerd", "./cmd/querysim")
	e.provide(t, "golang:1.26", []string{"ENV PATH=/usr/local/go/bin:/bin HOME=/root GOPATH=/go GOTOOLCHAIN=local"}, func(w *imageWriter) {
		w.tree(goenv[0], "usr/local/go", "test", "doc", "api", "misc", ".git", "pkg/obj", "src/cmd")
		w.tree(filepath.Join(modules, "cache/download"), "modules", "sumdb")
	})
}

// provideTool is busybox.
func (e *engine) provideTool(t *testing.T, image string) {
	t.Helper()
	e.provide(t, image, []string{"ENV PATH=/bin"}, nil)
}

// providePrometheus is this machine's.
func (e *engine) providePrometheus(t *testing.T, image string) {
	t.Helper()
	program := testenv.Program(t, "prometheus")
	e.provide(t, image, []string{"ENV PATH=/bin", "USER 65534:65534", `ENTRYPOINT ["/bin/prometheus"]`}, func(w *imageWriter) {
		w.program(program, "bin/prometheus")
		w.entry(tar.Header{Typeflag: tar.TypeDir, Name: "prometheus", Mode: 0o755, Uid: 65534, Gid: 65534})
	})
}

// provideEngine is this machine's Redis, by Valkey's names.
func (e *engine) provideEngine(t *testing.T, image string) {
	t.Helper()
	server, cli := testenv.Program(t, "redis-server"), testenv.Program(t, "redis-cli")
	e.provide(t, image, []string{"ENV PATH=/bin"}, func(w *imageWriter) {
		w.program(server, "bin/valkey-server")
		w.program(cli, "bin/valkey-cli")
	})
}

// goCommand runs go in the repository's root.
func goCommand(t *testing.T, env []string, args ...string) string {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Dir, cmd.Env = root, append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, &stderr)
	}
	return string(out)
}
