//go:build linux

package docker_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bearerd/bearerd/deploy/verify/internal/testenv"
)

const namesPath = "/cpmm/api/v1/orgs/42/metrics/names"

// stack is docker-compose.yml, brought up from a folder of its own.
type stack struct {
	t   *testing.T
	e   *engine
	dir string
}

// newStack copies what a user has and brings it up, with these settings in .env.
// deploy/compose/mine is a service of its own there, for a test to write into.
func newStack(t *testing.T, e *engine, env string, up ...string) *stack {
	t.Helper()
	dir, err := os.MkdirTemp(e.dir, "stack")
	if err != nil {
		t.Fatal(err)
	}
	s := &stack{t, e, dir}
	writeFile(t, filepath.Join(dir, "docker-compose.yml"), textOf(t, "docker-compose.yml"))
	for from, to := range map[string]string{
		"deploy/compose": "deploy/compose", "deploy/prometheus": "deploy/prometheus", "deploy/grafana": "deploy/grafana",
		"deploy/compose/simulator": "deploy/compose/mine",
	} {
		if err := os.CopyFS(filepath.Join(dir, to), os.DirFS(filepath.Join(root, from))); err != nil {
			t.Fatal(err)
		}
	}
	makeReadable(t, e.dir, dir, filepath.Join(dir, "deploy"), filepath.Join(dir, "deploy/compose"), s.secrets())
	writeFile(t, filepath.Join(dir, ".env"), env)
	t.Cleanup(func() {
		if t.Failed() {
			text, _ := s.run("logs", "--no-color", "--tail=40")
			t.Log(text)
		}
		if _, err := s.run("--profile=observe", "--profile=shared", "down", "--volumes", "--timeout=1"); err != nil {
			t.Error(err)
		}
	})
	s.compose(append([]string{"up", "--no-build", "--detach"}, up...)...)
	return s
}

// secrets is the folder of the service "mine".
func (s *stack) secrets() string { return filepath.Join(s.dir, "deploy/compose/mine") }

func (s *stack) run(args ...string) (string, error) {
	cmd := s.e.command(s.e.compose, append([]string{"--project-name=" + project, "--ansi=never"}, args...)...)
	cmd.Dir = s.dir
	return s.e.run(cmd)
}

func (s *stack) compose(args ...string) string {
	s.t.Helper()
	out, err := s.run(args...)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// id is the container of a service.
func (s *stack) id(service string) string {
	s.t.Helper()
	return s.compose("ps", "--all", "--quiet", service)
}

// inspect returns a part of what `docker inspect` says, by a template.
func (s *stack) inspect(service, format string) string {
	s.t.Helper()
	return s.e.docker(s.t, "inspect", "--format="+format, s.id(service))
}

func (s *stack) waitForHealth(service, want string) {
	s.t.Helper()
	testenv.Eventually(s.t, service+" is "+want, func() bool { return s.inspect(service, "{{.State.Health.Status}}") == want })
}

// fromTool sends a request from the tool's container; body "" is a GET, else a
// POST. It returns the answer's body, or an error for a status of 400 and above.
func (s *stack) fromTool(url, body string) (string, error) {
	args := []string{"exec", "-T", "tool", "wget", "-q", "-O", "-"}
	if body != "" {
		args = append(args, "--post-data="+body)
	}
	return s.run(append(args, url)...)
}

// fromHost sends a GET from the host, by its loopback.
func (s *stack) fromHost(url string) (string, error) {
	return s.e.inside(busybox, "wget", "-q", "-O", "-", url)
}

// stats are the simulator's.
func (s *stack) stats() (stats struct {
	LoginsOK      int `json:"logins_ok"`
	LoginsRefused int `json:"logins_refused"`
}) {
	s.t.Helper()
	text, err := s.fromTool("http://querysim:8083/stats", "")
	if err != nil {
		s.t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(text), &stats); err != nil {
		s.t.Fatal(err)
	}
	return stats
}

func (s *stack) expectNames(answer string, err error) {
	s.t.Helper()
	if err != nil || !strings.Contains(answer, `"activeCalls"`) {
		s.t.Fatalf("got %q, %v", answer, err)
	}
}

func testStack(t *testing.T, e *engine) {
	e.provideTool(t, imageOf(t, "tool"))
	began := time.Now()
	s := newStack(t, e, "")
	t.Logf("up: %v", time.Since(began).Round(time.Second))
	// A token is renewed 210 s after its login at the earliest.
	expectLogins := func(want int) {
		t.Helper()
		got := s.stats()
		if most := want + int(time.Since(began)/(210*time.Second)); got.LoginsOK < want || got.LoginsOK > most || got.LoginsRefused != 0 {
			t.Errorf("got %+v, want %d to %d logins", got, want, most)
		}
	}
	for _, service := range []string{"querysim", "bearerd", "tool"} {
		s.waitForHealth(service, "healthy")
	}

	// tool → bearerd → querysim; host → bearerd → querysim.
	s.expectNames(s.fromTool("http://localhost:8080"+namesPath, ""))
	s.expectNames(s.fromHost("http://localhost:8080" + namesPath))
	testenv.Eventually(t, "the tool's own request", func() bool { return strings.Contains(s.compose("logs", "tool"), "activeCalls") })
	expectLogins(1)
	if answer, err := s.fromHost("http://localhost:9180/status"); err != nil || !strings.Contains(answer, `"ready": true`) {
		t.Errorf("status: %s, %v", answer, err)
	}

	s.expectConfined("bearerd", 65532)
	s.expectConfined("querysim", 65532)
	s.expectConfined("tool", 65534)

	// A revoked token costs one login and no error.
	if _, err := s.fromTool("http://querysim:8083/revoke", "x"); err != nil {
		t.Fatal(err)
	}
	s.expectNames(s.fromTool("http://localhost:8080"+namesPath, ""))
	expectLogins(2)

	// A bearerd that is started anew has another network; the tool follows.
	s.compose("restart", "bearerd")
	s.waitForHealth("bearerd", "healthy")
	testenv.Eventually(t, "the tool is in bearerd's network again", func() bool {
		_, err := s.fromTool("http://localhost:8080"+namesPath, "")
		return err == nil
	})

	e.docker(t, "stop", "--time=10", s.id("bearerd")) // then it is killed, and its exit code 137
	if code := s.inspect("bearerd", "{{.State.ExitCode}}"); code != "0" {
		t.Errorf("bearerd stopped with %s", code)
	}
	if log := e.docker(t, "logs", s.id("bearerd")); log != "" {
		t.Errorf("standard output: %s", log)
	}
	s.compose("up", "--no-build", "--detach")
	s.waitForHealth("bearerd", "healthy")
	s.compose("stop")
	if code := s.inspect("querysim", "{{.State.ExitCode}}"); code != "0" {
		t.Errorf("querysim stopped with %s", code)
	}
}

// expectConfined looks at what the kernel says of a container's process.
func (s *stack) expectConfined(service string, user int) {
	s.t.Helper()
	pid := s.inspect(service, "{{.State.Pid}}")
	status, err := s.e.inside("cat", "/proc/"+pid+"/status")
	if err != nil {
		s.t.Fatal(err)
	}
	id := strconv.Itoa(user)
	want := map[string]string{
		"Uid": strings.Join([]string{id, id, id, id}, "\t"), "Gid": strings.Join([]string{id, id, id, id}, "\t"),
		"NoNewPrivs": "1", "Seccomp": "2",
	}
	for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
		want[set] = "0000000000000000"
	}
	for line := range strings.Lines(status) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if w, ok := want[name]; ok {
			if value = strings.TrimSpace(value); value != w {
				s.t.Errorf("%s: %s is %q, want %q", service, name, value, w)
			}
			delete(want, name)
		}
	}
	if len(want) > 0 {
		s.t.Errorf("%s: not in %s: %v", service, status, want)
	}
	mounts, err := s.e.inside("cat", "/proc/"+pid+"/mounts")
	if err != nil {
		s.t.Fatal(err)
	}
	for line := range strings.Lines(mounts) {
		fields := strings.Fields(line)
		if at := fields[1]; (at == "/" || at == "/run/secrets") && !strings.HasPrefix(fields[3], "ro,") {
			s.t.Errorf("%s: %s is mounted %s", service, at, fields[3])
		}
	}
}

// A wrong password makes the container unhealthy, is told once, and restarts
// nothing. The right one heals it, both written into the file and put in its
// place.
func testWrongPassword(t *testing.T, e *engine) {
	s := newStack(t, e, "BEARERD_SERVICE=mine\n", "querysim") // bearerd follows, when its password is wrong
	password := filepath.Join(s.secrets(), "password")
	right := textOf(t, "deploy/compose/simulator/password")
	writeFile(t, password, "wrong\n")
	s.compose("up", "--no-build", "--detach", "bearerd")
	testenv.Eventually(t, "the login is rejected", func() bool { return strings.Contains(s.log(), `"message":"login rejected"`) })
	s.waitForHealth("bearerd", "unhealthy")
	testenv.Eventually(t, "the health check says why", func() bool {
		check := s.inspect("bearerd", "{{range .State.Health.Log}}{{.Output}}{{end}}")
		return strings.Contains(check, "not ready: ") && strings.Contains(check, "BEARERD_PASSWORD")
	})
	if n := strings.Count(s.log(), `"level":"error"`); n != 1 {
		t.Errorf("%d errors in the log, want 1:\n%s", n, s.log())
	}
	started := s.inspect("bearerd", "{{.State.StartedAt}} {{.RestartCount}}")

	writeFile(t, password, right)
	s.waitForHealth("bearerd", "healthy")
	s.expectNames(s.fromHost("http://localhost:8080" + namesPath))

	// Rotation of a password that worked: querysim takes the new one at its
	// start, and has forgotten all tokens.
	replace := func(text string) {
		writeFile(t, password+".new", text)
		if err := os.Rename(password+".new", password); err != nil {
			t.Fatal(err)
		}
	}
	replace("wrong again\n")
	s.compose("restart", "querysim")
	s.waitForHealth("querysim", "healthy")
	if answer, err := s.fromHost("http://localhost:8080" + namesPath); err == nil {
		t.Errorf("with a wrong password: %s", answer)
	}
	// Still healthy: by its lifetime, the old token is good.
	testenv.Eventually(t, "the other wrong password is rejected", func() bool { return strings.Count(s.log(), `"message":"login rejected"`) == 2 })
	replace(right)
	testenv.Eventually(t, "a request passes again", func() bool {
		_, err := s.fromHost("http://localhost:8080" + namesPath)
		return err == nil
	})
	if got := s.inspect("bearerd", "{{.State.StartedAt}} {{.RestartCount}}"); got != started || !strings.HasSuffix(got, " 0") {
		t.Errorf("started at %s, then at %s", started, got)
	}
	if strings.Contains(s.log(), strings.TrimSpace(right)) {
		t.Error("the password is in the log")
	}

	// A real service does not want the simulator, and bearerd does not wait for it.
	s.compose("stop")
	s.compose("up", "--no-build", "--detach", "--scale", "querysim=0", "bearerd")
	if id := s.id("querysim"); id != "" {
		t.Errorf("querysim is there: %s", id)
	}
	if running := s.inspect("bearerd", "{{.State.Running}}"); running != "true" {
		t.Errorf("bearerd is running: %s", running)
	}
}

// Wrong settings end bearerd with 78 each time that Docker starts it, which is
// not for three times only. They make no login, and mended ones heal it.
func testWrongSettings(t *testing.T, e *engine) {
	s := newStack(t, e, "BEARERD_SERVICE=mine\n", "querysim")
	settings := filepath.Join(s.dir, "deploy/compose/mine/bearerd.env")
	right, err := os.ReadFile(settings)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, settings, string(right)+"BEARERD_LISTN=x\n")
	s.compose("up", "--no-build", "--detach", "bearerd")
	var restarts, code int
	testenv.Eventually(t, "the end of the fifth run", func() bool {
		// Between a start and its end Docker says 0.
		const ended = "{{.RestartCount}} {{if .State.Restarting}}{{.State.ExitCode}}{{end}}"
		n, _ := fmt.Sscan(s.inspect("bearerd", ended), &restarts, &code)
		return n == 2 && restarts > 3
	})
	if code != 78 {
		t.Errorf("exit code: got %d, want 78", code)
	}
	if log := s.log(); !strings.Contains(log, "BEARERD_LISTN") || strings.Contains(log, "serving") {
		t.Errorf("the log names no wrong setting, or something was served:\n%s", log)
	}
	writeFile(t, settings, string(right))
	s.compose("up", "--no-build", "--detach", "bearerd")
	s.waitForHealth("bearerd", "healthy")
}

func (s *stack) log() string {
	s.t.Helper()
	cmd := s.e.command(dockerProgram, "logs", s.id("bearerd"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.t.Fatal(err)
	}
	return string(out)
}

// Prometheus of the profile observe finds bearerd and loads the rules. Grafana
// is not to be had without a registry.
func testObserve(t *testing.T, e *engine) {
	e.provideTool(t, imageOf(t, "tool"))
	e.providePrometheus(t, imageOf(t, "prometheus"))
	s := newStack(t, e, "", "prometheus", "bearerd")
	s.waitForHealth("prometheus", "healthy")
	s.expectConfined("prometheus", 65534)
	ask := func(path string, into any) {
		t.Helper()
		text, err := s.fromHost("http://localhost:9090/api/v1/" + path)
		if err == nil {
			err = json.Unmarshal([]byte(text), into)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	testenv.Eventually(t, "Prometheus has bearerd's metrics", func() bool {
		var answer struct {
			Data struct {
				Result []struct{ Value [2]any }
			}
		}
		ask("query?query=bearerd_ready", &answer)
		return len(answer.Data.Result) == 1 && answer.Data.Result[0].Value[1] == "1"
	})
	var rules struct {
		Data struct {
			Groups []struct {
				Rules []struct{ Name, Health, LastError string }
			}
		}
	}
	ask("rules", &rules)
	loaded := 0
	for _, group := range rules.Data.Groups {
		loaded += len(group.Rules)
	}
	text := textOf(t, "deploy/prometheus/rules.yml")
	if want := strings.Count(text, "- alert:") + strings.Count(text, "- record:"); loaded != want || want == 0 {
		t.Errorf("%d rules are loaded, want %d", loaded, want)
	}
}

// The second bearerd of the profile shared has the first one's token, and both go
// on without the engine.
func testShared(t *testing.T, e *engine) {
	e.provideTool(t, imageOf(t, "tool"))
	e.provideEngine(t, imageOf(t, "engine"))
	s := newStack(t, e, "BEARERD_SHARED=redis://engine:6379\n", "bearerd2", "tool")
	s.waitForHealth("bearerd2", "healthy")
	s.expectConfined("engine", 65534)
	s.expectConfined("bearerd2", 65532)
	both := func() {
		t.Helper()
		for _, port := range []string{"8080", "8081"} {
			s.expectNames(s.fromHost("http://localhost:" + port + "/cpmm/api/v1/orgs/42/metrics/names"))
		}
	}
	both()
	if got := s.stats(); got.LoginsOK != 1 {
		t.Errorf("%d logins for two bearerds, want 1", got.LoginsOK)
	}
	s.compose("kill", "engine")
	both()
	if got := s.stats(); got.LoginsOK != 1 {
		t.Errorf("%d logins when the engine has gone, want 1", got.LoginsOK)
	}

	// Each logs in for itself then, until the engine is back.
	logInAgain := func(services ...string) {
		t.Helper()
		before := s.stats().LoginsOK
		for _, service := range services {
			s.compose("kill", "-s", "HUP", service)
		}
		testenv.Eventually(t, "a login of each", func() bool { return s.stats().LoginsOK == before+len(services) })
		both()
	}
	logInAgain("bearerd", "bearerd2")
	s.compose("start", "engine")
	for _, port := range []string{"9180", "9181"} {
		testenv.Eventually(t, "the engine is back for the one at port "+port, func() bool {
			metrics, err := s.fromHost("http://localhost:" + port + "/metrics")
			return err == nil && strings.Contains(metrics, "\nbearerd_shared_up 1\n")
		})
	}
	logInAgain("bearerd")
	before := s.stats().LoginsOK
	s.compose("restart", "bearerd2")
	s.waitForHealth("bearerd2", "healthy")
	both()
	if got := s.stats(); got.LoginsOK != before {
		t.Errorf("%d logins when the second was started again, want %d", got.LoginsOK, before)
	}
}

// imageOf is what docker-compose.yml says that a service runs.
func imageOf(t *testing.T, service string) string {
	t.Helper()
	p, err := loadCompose(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p.Services[service].Image
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// makeReadable lets the user of a container into folders.
func makeReadable(t *testing.T, folders ...string) {
	t.Helper()
	for _, folder := range folders {
		if err := os.Chmod(folder, 0o755); err != nil {
			t.Fatal(fmt.Errorf("making it readable: %w", err))
		}
	}
}
