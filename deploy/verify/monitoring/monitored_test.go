package monitoring_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bearerd/bearerd/deploy/verify/internal/testenv"
)

// monitored is what the tests of rules and dashboard look at: bearerds before
// the simulator, and a Prometheus with our rules that scrapes them each second.
// (On a busy machine a scrape may be too late: its target is down then, and all
// its series are lost until the next.)
// The instance "used" has met each kind of event, and goes on being used; "idle"
// has let its token end, and is without its engine; "refused" has a wrong password.
type monitored struct {
	prometheus string // URL
	control    string // of the simulator
	refused    string // admin listener
}

func monitor(t *testing.T) *monitored {
	t.Helper()
	prometheus := testenv.Program(t, "prometheus")
	dir := t.TempDir()
	if err := testenv.Build(dir); err != nil {
		t.Fatal(err)
	}

	sim := start(t, exec.Command(filepath.Join(dir, "querysim"), "-lifetime", "10s",
		"-login-listen", "127.0.0.1:0", "-query-listen", "127.0.0.1:0", "-control-listen", "127.0.0.1:0"))
	m := &monitored{control: written(t, sim, `control: +(\S+)\s`)[1]}
	written(t, sim, "BEARERD_PRESET=wxp") // those of vyopta are whole
	env := regexp.MustCompile(`(?m)^BEARERD_\w+=.+$`).FindAllString(strings.Split(sim.Text(), "BEARERD_PRESET=wxp")[0], -1)

	var targets strings.Builder
	serve := func(name string, more ...string) (data, admin string) {
		cmd := exec.Command(filepath.Join(dir, "bearerd"))
		cmd.Env = append(append([]string{"BEARERD_LISTEN=127.0.0.1:0", "BEARERD_ADMIN_LISTEN=127.0.0.1:0", "BEARERD_LOG_FORMAT=json"}, env...), more...)
		at := written(t, start(t, cmd), `"listen":\["([^"]+)"\].*"admin":\["([^"]+)"\]`)
		fmt.Fprintf(&targets, "      - {targets: ['%s'], labels: {instance: %s}}\n", at[2], name)
		return "http://" + at[1], "http://" + at[2]
	}
	used, _ := serve("used")
	serve("idle", "BEARERD_SHARED=redis://127.0.0.1:1") // nobody is there
	_, m.refused = serve("refused", "BEARERD_PASSWORD=wrong")

	rules, err := filepath.Abs(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "prometheus.yml")
	text := "global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: ['" + rules + "']\n" +
		"scrape_configs:\n  - job_name: bearerd\n    static_configs:\n" + targets.String()
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	server := start(t, exec.Command(prometheus, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address=127.0.0.1:0"))
	m.prometheus = "http://" + written(t, server, `msg="?Listening on"? address=(\S+)\s`)[1]
	written(t, server, "Server is ready to receive web requests") // until then it answers 503

	m.provoke(t, used)
	return m
}

// provoke has each kind of event happen to a bearerd, and goes on with good
// requests until the test ends. It begins when Prometheus has seen all at 0.
func (m *monitored) provoke(t *testing.T, data string) {
	t.Helper()
	testenv.Eventually(t, "Prometheus scrapes all", func() bool { return len(m.query(t, "up == 1")) == 3 })
	const path = "/cpmm/api/v1/orgs/42/metrics/names"
	get := func(path string, want int) {
		t.Helper()
		if got := status(t, http.MethodGet, data+path, "", nil); got != want {
			t.Fatalf("GET %s: got %d, want %d", path, got, want)
		}
	}
	fault := func(fault string) {
		t.Helper()
		form := url.Values{"query-fault": {fault}}
		if got := status(t, http.MethodPost, m.control+"/faults", "", form); got != 200 {
			t.Fatalf("fault %s: got %d, want 200", fault, got)
		}
	}
	get(path, 200)
	get("/nowhere", 404)
	if got := status(t, http.MethodGet, data+path, "elsewhere.example", nil); got != 421 {
		t.Fatalf("another Host: got %d, want 421", got)
	}
	if got := status(t, http.MethodPost, m.control+"/revoke", "", nil); got/100 != 2 {
		t.Fatalf("revoke: got %d", got)
	}
	// A token that is renewed at this very moment is one that upstream has not taken
	// yet: the request may end with the 401 to the one before, and the next heals.
	if status(t, http.MethodGet, data+path, "", nil) != 200 {
		get(path, 200)
	}
	fault("status=500")
	get(path, 500)
	fault("reset")
	get(path, 502)
	fault("401-early")
	get(path, 401)
	fault("")

	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for tick := time.NewTicker(200 * time.Millisecond); ; {
			select {
			case <-stop:
				return
			case <-tick.C:
				if resp, err := http.Get(data + path); err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-stopped })
	testenv.Eventually(t, "the idle one's token is over, and the other's has been renewed", func() bool {
		return len(m.query(t, `instance:bearerd_token_remaining:seconds{instance="idle"} < 0`)) == 1 &&
			len(m.query(t, `bearerd_token_generation{instance="used"} > 3`)) == 1
	})
}

// sample is one of a query's result.
type sample struct{ Metric map[string]string }

// query asks Prometheus for what expr is now.
func (m *monitored) query(t *testing.T, expr string) []sample {
	t.Helper()
	var data struct{ Result []sample }
	if err := m.get("/api/v1/query?query="+url.QueryEscape(expr), &data); err != nil {
		t.Fatalf("%s: %v", expr, err)
	}
	return data.Result
}

// get has Prometheus answer a GET.
func (m *monitored) get(path string, data any) error {
	resp, err := http.Get(m.prometheus + path)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer := struct {
		Error string
		Data  any
	}{Data: data}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", resp.Status, answer.Error)
	}
	return nil
}

// lost returns those of the expressions that have no result.
func (m *monitored) lost(t *testing.T, exprs ...string) (lost []string) {
	t.Helper()
	for _, expr := range exprs {
		if len(m.query(t, expr)) == 0 {
			lost = append(lost, expr)
		}
	}
	return lost
}

func status(t *testing.T, method, to, host string, form url.Values) int {
	t.Helper()
	req, err := http.NewRequest(method, to, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	req.Host = host
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// start runs a program until the test ends.
func start(t *testing.T, cmd *exec.Cmd) *testenv.Process {
	t.Helper()
	p, err := testenv.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Stop(syscall.SIGKILL, time.Minute)
		if t.Failed() {
			t.Logf("%s wrote:\n%.8000s", filepath.Base(cmd.Path), p.Text())
		}
	})
	return p
}

// written waits until a program's output matches, and returns the match.
func written(t *testing.T, p *testenv.Process, pattern string) (match []string) {
	t.Helper()
	re := regexp.MustCompile(pattern)
	testenv.Eventually(t, "output "+pattern, func() bool {
		match = re.FindStringSubmatch(p.Text())
		return match != nil
	})
	return match
}
