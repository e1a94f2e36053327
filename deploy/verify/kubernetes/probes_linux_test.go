package kubernetes_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/bearerd/bearerd/deploy/verify/internal/testenv"
)

// These tests run bearerd with exactly what a manifest says, in a network of
// its own, so that its ports are free, and with an /etc of its own, where its
// Secrets are; as the user and with the probes of the manifest. They ask for
// root on Linux.

var probesFor = flag.Duration("probes-for", 70*time.Second, "how long a wrong password is watched; `make probes` takes five minutes")

// podAddress is the pod's. It is loopback, but none where a listener of
// localhost is.
const podAddress = "127.0.0.2"

// programs is the folder of bearerd and querysim, made once.
var programs = sync.OnceValues(func() (folder string, err error) {
	if folder = os.Getenv("BEARERD_TEST_PROGRAMS"); folder != "" {
		return folder, nil
	}
	if folder, err = os.MkdirTemp("", "bearerd-verify-"); err != nil {
		return "", err
	}
	programsMade = folder
	if err := testenv.Build(folder); err != nil {
		return "", err
	}
	return folder, os.Chmod(folder, 0o755) // bearerd runs as another user
})

var programsMade string // set by programs

func TestMain(m *testing.M) {
	code := m.Run()
	if programsMade != "" {
		_ = os.RemoveAll(programsMade)
	}
	os.Exit(code)
}

// inPod has the test run in a network and with an /etc of its own: it runs this
// program again there, and reports whether it is that one.
func inPod(t *testing.T) bool {
	t.Helper()
	if os.Getenv("BEARERD_TEST_POD") != "" {
		enterPod(t)
		return true
	}
	t.Parallel()
	testenv.Root(t)
	folder, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	again := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=30m", "-probes-for="+probesFor.String())
	again.Env = append(os.Environ(), "BEARERD_TEST_POD=1", "BEARERD_TEST_PROGRAMS="+folder)
	again.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	out, err := again.CombinedOutput()
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
		testenv.Lacking(t, "namespaces: "+err.Error())
	}
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
	return false
}

func enterPod(t *testing.T) {
	t.Helper()
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", "/etc", "tmpfs", 0, "mode=0755"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("/etc/hosts", []byte("127.0.0.1 localhost\n::1 localhost\n"), 0o644); err != nil { // the kubelet's
		t.Fatal(err)
	}
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(socket)
	loopback, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	loopback.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, loopback); err != nil {
		t.Fatal(err)
	}
}

// simulator is a running querysim.
type simulator struct {
	t                  *testing.T
	control            string
	username, password string
	settings           map[string]string // that point bearerd at it
}

func startSimulator(t *testing.T, args ...string) *simulator {
	t.Helper()
	folder, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	p, err := testenv.Start(exec.Command(filepath.Join(folder, "querysim"), append([]string{
		"-login-listen=127.0.0.1:0", "-query-listen=127.0.0.1:0", "-control-listen=127.0.0.1:0", "-brute-force-lock",
	}, args...)...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Stop(syscall.SIGKILL, 0) })
	s := &simulator{t: t, settings: make(map[string]string)}
	testenv.Eventually(t, "querysim says where it is", func() bool { return strings.Contains(p.Text(), "BEARERD_PRESET=wxp") })
	text, _, _ := strings.Cut(p.Text(), "BEARERD_PRESET=wxp")
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if at, ok := strings.CutPrefix(line, "control:"); ok {
			s.control = strings.Fields(at)[0]
		}
		switch name, value, _ := strings.Cut(line, "="); name {
		case "BEARERD_TOKEN_URL", "BEARERD_UPSTREAM":
			s.settings[name] = value
		case "BEARERD_USERNAME":
			s.username = value
		case "BEARERD_PASSWORD":
			s.password = value
		}
	}
	return s
}

// stats are querysim's counts.
func (s *simulator) stats() (stats struct {
	Logins   int
	LoginsOK int `json:"logins_ok"`
	Lockouts int
}) {
	s.t.Helper()
	resp, err := http.Get(s.control + "/stats")
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&stats); err != nil {
		s.t.Fatal(err)
	}
	return stats
}

func (s *simulator) post(path, form string) {
	s.t.Helper()
	resp, err := http.Post(s.control+path, "application/x-www-form-urlencoded", strings.NewReader(form))
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		s.t.Fatalf("%s: %s", path, resp.Status)
	}
}

// secretVolume is a Secret as the kubelet mounts it.
type secretVolume struct {
	t       *testing.T
	folder  string
	mode    os.FileMode
	group   int
	version int
}

// write changes all files at once: they are links through ..data, which is
// replaced.
func (v *secretVolume) write(files map[string]string) {
	v.t.Helper()
	v.version++
	data := fmt.Sprintf("..%d", v.version)
	check := func(err error) {
		if err != nil {
			v.t.Helper()
			v.t.Fatal(err)
		}
	}
	check(os.MkdirAll(filepath.Join(v.folder, data), 0o755))
	for name, text := range files {
		file := filepath.Join(v.folder, data, name)
		check(os.WriteFile(file, []byte(text), 0o600))
		check(os.Chown(file, 0, v.group))
		check(os.Chmod(file, v.mode))
		if link := filepath.Join(v.folder, name); v.version == 1 {
			check(os.Symlink("..data/"+name, link))
		}
	}
	check(os.Symlink(data, filepath.Join(v.folder, "..data_tmp")))
	check(os.Rename(filepath.Join(v.folder, "..data_tmp"), filepath.Join(v.folder, "..data")))
}

// pod is a workload's pod, of which bearerd is run.
type pod struct {
	*kubelet
	t       *testing.T
	sim     *simulator
	logins  *secretVolume // user name and password
	stop    context.CancelFunc
	stopped chan error

	mu  sync.Mutex // guards all
	all []*testenv.Process
}

// requiredHeader is what callers of the gateway must send.
const requiredHeader = "X-Bearerd-Key"

// runPod runs the bearerd of a workload, whose Secret has this password.
func runPod(t *testing.T, objects []runtime.Object, w workload, sim *simulator, password string) *pod {
	t.Helper()
	spec := &w.template.Spec
	c := bearerdOf(spec)
	folder, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	p := &pod{t: t, sim: sim, stopped: make(chan error, 1)}

	env := settingsOf(objects, c)
	maps.Copy(env, sim.settings)
	if spec.EnableServiceLinks == nil || *spec.EnableServiceLinks { // of a Service that is called bearerd-gateway
		for _, line := range []string{"SERVICE_HOST=10.0.0.9", "SERVICE_PORT=80", "SERVICE_PORT_HTTP=80", "PORT=tcp://10.0.0.9:80", "PORT_80_TCP=tcp://10.0.0.9:80", "PORT_80_TCP_ADDR=10.0.0.9"} {
			name, value, _ := strings.Cut(line, "=")
			env["BEARERD_GATEWAY_"+name] = value
		}
	}
	for _, mount := range c.VolumeMounts {
		source := secretAt(spec, c, mount.MountPath)
		if err := os.RemoveAll(mount.MountPath); err != nil { // of the pod before
			t.Fatal(err)
		}
		v := &secretVolume{t: t, folder: mount.MountPath, mode: os.FileMode(*source.DefaultMode)}
		if s := spec.SecurityContext; s != nil && s.FSGroup != nil {
			v.group = int(*s.FSGroup)
		}
		if source.SecretName == "bearerd-callers" {
			v.write(map[string]string{"header": requiredHeader + ": open sesame\n"})
			continue
		}
		p.logins = v
		v.write(map[string]string{"username": sim.username, "password": password})
	}

	user := &syscall.Credential{Uid: userOf(spec, c), Gid: groupOf(spec, c)}
	if s := spec.SecurityContext; s != nil && s.FSGroup != nil {
		user.Groups = []uint32{uint32(*s.FSGroup)}
	}
	grace := 30 * time.Second
	if s := spec.TerminationGracePeriodSeconds; s != nil {
		grace = time.Duration(*s) * time.Second
	}
	p.kubelet = &kubelet{
		container: c, address: podAddress, grace: grace, started: make(chan struct{}),
		start: func() (*testenv.Process, error) {
			cmd := exec.Command(filepath.Join(folder, "bearerd"), c.Args...)
			cmd.Dir = "/"
			for name, value := range env {
				cmd.Env = append(cmd.Env, name+"="+value)
			}
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: user}
			started, err := testenv.Start(cmd)
			if err == nil {
				p.mu.Lock()
				p.all = append(p.all, started)
				p.mu.Unlock()
			}
			return started, err
		},
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.stop = cancel
	go func() { p.stopped <- p.run(ctx) }()
	t.Cleanup(func() {
		p.delete()
		if t.Failed() {
			t.Logf("bearerd wrote:\n%s", p.text())
		}
	})
	return p
}

// delete ends the container as the kubelet does when the pod is deleted.
func (p *pod) delete() {
	p.t.Helper()
	p.stop()
	if err, running := <-p.stopped; running {
		close(p.stopped)
		if err != nil {
			p.t.Error(err)
		}
	}
}

func (p *pod) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all strings.Builder
	for _, process := range p.all {
		all.WriteString(process.Text())
	}
	return all.String()
}

func (p *pod) isStarted() bool {
	select {
	case <-p.started:
		return true
	default:
		return false
	}
}

func (p *pod) isReady() bool {
	p.kubelet.mu.Lock()
	defer p.kubelet.mu.Unlock()
	return p.ready
}

// namesPath is something that the Query Service has.
const namesPath = "/cpmm/api/v1/orgs/42/metrics/names"

// get asks the data listener at an address.
func (p *pod) get(address, host, key string) (int, string) {
	p.t.Helper()
	req, err := http.NewRequest(http.MethodGet, "http://"+address+namesPath, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	req.Host = host
	if key != "" {
		req.Header.Set(requiredHeader, key)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// getLocal asks as the app beside a sidecar does.
func (p *pod) getLocal() (int, string) { return p.get("localhost:8080", "", "") }

// allowed is how many logins with a wrong password bearerd may have made after
// d: at the start, and 30, 60, 120 and 240 s after each other.
func allowed(d time.Duration) int {
	n := 1
	for wait := 30 * time.Second; wait <= 240*time.Second && d >= wait; wait *= 2 {
		n, d = n+1, d-wait
	}
	return n
}

// expectNoLoop checks what a wrong password has come to since began.
func (p *pod) expectNoLoop(began time.Time) {
	p.t.Helper()
	passed, failed, statuses := p.seen("liveness")
	if restarts := p.restarted(); len(restarts) != 0 {
		p.t.Errorf("restarted: %q", restarts)
	}
	stats := p.sim.stats()
	if took := time.Since(began); stats.Logins == 0 || stats.Logins > allowed(took) {
		p.t.Errorf("got %d logins in %v, want 1 to %d", stats.Logins, took, allowed(took))
	}
	if stats.Lockouts != 0 {
		p.t.Errorf("the account was locked %d times", stats.Lockouts)
	}
	_, startup, startupStatuses := p.seen("startup")
	p.t.Logf("after %v: %d logins, %d startup probes failed (%v); liveness passed %d times and failed %d (%v)",
		time.Since(began).Round(time.Second), stats.Logins, startup, slices.Collect(maps.Keys(startupStatuses)), passed, failed, slices.Collect(maps.Keys(statuses)))
}

// A wrong password restarts no sidecar and starts no app, and the account stays
// usable; the right one, in the Secret, then starts the app.
func TestSidecarHoldsTheAppOnAWrongPassword(t *testing.T) {
	if !inPod(t) {
		return
	}
	objects := rendered(t, "testdata/strangers") // its pods have service links
	sim := startSimulator(t)
	began := time.Now()
	p := runPod(t, objects, named(t, objects, "Deployment web"), sim, "wrong")
	select {
	case <-p.started:
		t.Fatal("the app was started")
	case <-time.After(*probesFor):
	}
	p.expectNoLoop(began)
	_, failed, statuses := p.seen("startup")
	delete(statuses, 0) // before bearerd listens
	if least := int(*probesFor/time.Second) / 2; failed < least || len(statuses) != 1 || !statuses[503] {
		t.Errorf("startup probes: got %d, with %v; want at least %d and 503", failed, statuses, least)
	}
	if status, body := p.getLocal(); status != 502 || !strings.Contains(body, "login_rejected") {
		t.Errorf("a request: got %d %s", status, body)
	}
	p.logins.write(map[string]string{"username": sim.username, "password": sim.password})
	testenv.Eventually(t, "the app starts", p.isStarted)
	if status, body := p.getLocal(); status != 200 {
		t.Errorf("a request: got %d %s", status, body)
	}
	if stats := sim.stats(); stats.LoginsOK != 1 || stats.Lockouts != 0 {
		t.Errorf("got %+v, want one good login and no lock", stats)
	}
}

// The same of the gateway, whose liveness probe runs all the time.
func TestGatewayIsKeptOutOnAWrongPassword(t *testing.T) {
	if !inPod(t) {
		return
	}
	objects := rendered(t, filepath.Join(manifests, "gateway"))
	sim := startSimulator(t)
	began := time.Now()
	p := runPod(t, objects, named(t, objects, "Deployment bearerd-gateway"), sim, "wrong")
	for end := time.After(*probesFor); ; {
		select {
		case <-end:
		case <-time.After(time.Second):
			if p.isReady() {
				t.Fatal("ready without a token")
			}
			continue
		}
		break
	}
	p.expectNoLoop(began)
	if passed, failed, _ := p.seen("liveness"); passed < int(*probesFor/(10*time.Second))/2 {
		t.Errorf("liveness passed only %d times, and failed %d", passed, failed)
	}
	p.logins.write(map[string]string{"username": sim.username, "password": sim.password})
	testenv.Eventually(t, "ready", p.isReady)

	const key = "open sesame"
	for _, tt := range []struct {
		host, key string
		want      int
	}{
		{"bearerd-gateway", key, 200},
		{"bearerd-gateway." + namespace + ".svc.cluster.local", key, 200},
		{"bearerd-gateway", "", 403},
		{"bearerd-gateway", "wrong", 403},
		{"evil.example.org", key, 421},
	} {
		if status, body := p.get(podAddress+":8080", tt.host, tt.key); status != tt.want {
			t.Errorf("Host %s, key %q: got %d %s, want %d", tt.host, tt.key, status, body, tt.want)
		}
	}
	p.delete()
	if p.exit != 0 {
		t.Errorf("on SIGTERM: exit %d", p.exit)
	}
}

// With the right password the app starts. When the vendor fails then, nothing
// is restarted. The app ends first, and can use bearerd until it has.
func TestSidecarThroughAVendorsFault(t *testing.T) {
	if !inPod(t) {
		return
	}
	for _, name := range []string{"Deployment reports", "Job nightly-report"} {
		t.Run(name, func(t *testing.T) {
			objects := rendered(t, filepath.Join(manifests, "base"))
			sim := startSimulator(t, "-lifetime=10s")
			p := runPod(t, objects, named(t, objects, name), sim, sim.password)
			testenv.Eventually(t, "the app starts", p.isStarted)
			if status, body := p.getLocal(); status != 200 {
				t.Fatalf("the app's first request: got %d %s", status, body)
			}
			sim.post("/faults", "login-fault=down")
			testenv.Eventually(t, "no token", func() bool { status, _ := p.getLocal(); return status == 503 })
			before, _, _ := p.seen("liveness")
			testenv.Eventually(t, "two more liveness probes", func() bool { passed, _, _ := p.seen("liveness"); return passed >= before+2 })
			if restarts := p.restarted(); len(restarts) != 0 || !p.isReady() {
				t.Errorf("restarted: %q; ready: %t", restarts, p.isReady())
			}
			if status, _ := p.getLocal(); status != 503 {
				t.Errorf("a request during the fault: got %d", status)
			}
			sim.post("/faults", "login-fault=")
			testenv.Eventually(t, "the app's last request", func() bool { status, _ := p.getLocal(); return status == 200 })
			p.delete()
			if p.exit != 0 {
				t.Errorf("on SIGTERM: exit %d", p.exit)
			}
		})
	}
}

// The probes that people write are seen to make a loop of logins: each restart
// makes one at once.
func TestClassicMistakesAreSeen(t *testing.T) {
	if !inPod(t) {
		return
	}
	for _, tt := range []struct {
		name   string
		mutate func(*corev1.Container)
		want   string
		logins int
	}{
		{"liveness asks readyz", func(c *corev1.Container) { c.StartupProbe, c.LivenessProbe.HTTPGet.Path = nil, "/readyz" }, "liveness", 2},
		{"startup gives up", func(c *corev1.Container) { c.StartupProbe.FailureThreshold = 5 }, "startup", 2},
		{"a setting is misspelt", func(c *corev1.Container) {
			c.Env = append(c.Env, corev1.EnvVar{Name: "BEARERD_PASWORD_FILE", Value: "/x"})
		}, "it ended", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			objects := rendered(t, filepath.Join(manifests, "base"))
			w := named(t, objects, "Deployment reports")
			tt.mutate(bearerdOf(&w.template.Spec))
			sim := startSimulator(t)
			p := runPod(t, objects, w, sim, "wrong")
			testenv.Eventually(t, "a restart", func() bool { return slices.Contains(p.restarted(), tt.want) })
			testenv.Eventually(t, "the next login", func() bool { return sim.stats().Logins >= tt.logins })
			if got := sim.stats().Logins; tt.logins == 0 && got != 0 {
				t.Errorf("got %d logins", got)
			}
		})
	}
}
