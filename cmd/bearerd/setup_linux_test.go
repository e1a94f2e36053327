package main

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

// A newcomer is a user of w who has set nothing up: the addresses of the simulator
// stand in the environment, from where setup takes them over.
type newcomer struct {
	t    *testing.T
	w    *bearerdtest.World
	home string
	env  []string
	port string // that is free
}

func newNewcomer(t *testing.T, desktop []string) *newcomer {
	t.Helper()
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	port := strconv.Itoa(bearerdtest.FreePort(t))
	home := t.TempDir()
	env := bearerdtest.Without(w.Env("vyopta"), "BEARERD_PRESET", "BEARERD_USERNAME", "BEARERD_PASSWORD")
	// Without a systemd of this user: no test is to have bearerd start at each login.
	env = append(env, "XDG_RUNTIME_DIR="+filepath.Join(home, "none"))
	env = append(env, desktop...)
	return &newcomer{t, w, home, append(env, "HOME="+home, "XDG_CONFIG_HOME="+filepath.Join(home, "config"), "BEARERD_LOG_FORMAT=json"), port}
}

func (n *newcomer) settings() string {
	return filepath.Join(n.home, "config", "bearerd", "settings.env")
}

// files are all that there are now.
func (n *newcomer) files() (all []string) {
	_ = filepath.WalkDir(n.home, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			all = append(all, path)
		}
		return nil
	})
	return all
}

func (n *newcomer) url() string { return "http://localhost:" + n.port + bearerdtest.NamesPath }

// From nothing to a served request at a terminal: the time is that of docs/setup.md.
// It does not run beside others whose setup serves: each would find the admin
// listener's port free.
func TestSetupAtATerminal(t *testing.T) {
	n := newNewcomer(t, nil)
	began := time.Now()
	p := startAtTerminal(t, n.w, []string{"setup", "-port", n.port}, n.env...)
	p.expect("1 to 4 [1]: ", 1)
	p.enter("1\n")
	p.expect("User name: ", 1)
	p.enter(querysim.Username + "\n")
	p.expect(passwordPrompt, 1)
	p.enter("a wrong one\n")
	p.expect("No: HTTP 401", 1)
	p.expect("Once more.", 1)
	p.expect("1 to 4 [1]: ", 2)
	p.enter("\n")
	p.expect("User name ["+querysim.Username+"]: ", 1)
	p.enter("\n")
	p.expect(passwordPrompt, 2)
	p.enter(querysim.Password + "\n")
	p.expect("That works: the token lives 5m0s", 1)
	p.expect("cannot be kept in the system's key store: there is none in this session", 1)
	p.expect("Keep it in a file that only you can read", 1)
	if files := n.files(); files != nil {
		t.Errorf("before the last question there are %q", files)
	}
	p.enter("\n")
	p.expect("The settings are for "+n.settings(), 1)
	p.expect("Write them there? [Y/n] ", 1)
	p.enter("y\n")
	p.expect("Start bearerd now", 1)
	p.enter("\n")
	c := bearerdtest.NewClient(t)
	bearerdtest.Eventually(t, bearerdtest.Soon, "a served request", func() bool {
		return bearerdtest.ExpectStatus(c, n.url(), http.StatusOK) == nil
	})
	t.Logf("from the start of setup to the first 200: %v", time.Since(began).Round(time.Millisecond))
	for _, want := range []string{"Power BI and Excel", `Web.Contents("http://localhost:` + n.port + `"`, "curl --fail-with-body", "session.trust_env = False"} {
		if !strings.Contains(p.text(), want) {
			t.Errorf("the lines to paste lack %q", want)
		}
	}
	if logins := n.w.Sim.Stats().Logins; logins != 3 {
		t.Errorf("got %d logins, want the wrong one, the proof and the first of serving", logins)
	}
	p.enter("\x03")
	if code := p.exitCode(); code != 0 {
		t.Errorf("exit code: got %d", code)
	}
	for _, file := range n.files() {
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: got %v, %v, want mode 0600", file, info.Mode(), err)
		}
	}

	// Without settings, at a terminal, bearerd uses that file and says so.
	bare := []string{"HOME=" + n.home, "XDG_CONFIG_HOME=" + filepath.Join(n.home, "config"), "BEARERD_LOG_FORMAT="}
	p = startAtTerminal(t, n.w, nil, bare...)
	p.expect("which bearerd setup wrote", 1)
	bearerdtest.Eventually(t, bearerdtest.Soon, "a served request", func() bool {
		return bearerdtest.ExpectStatus(c, n.url(), http.StatusOK) == nil
	})

	check := startAtTerminal(t, n.w, []string{"check"}, bare...)
	check.expect("Healthy.", 1)
	check.expect("which bearerd setup wrote", 1)

	// Again, while it runs: its ports are its own, and the password's place may change.
	again := startAtTerminal(t, n.w, []string{"setup", "-keep", "no", "-start", "no"}, n.env...)
	again.expect("It runs, at http://localhost:"+n.port, 1)
	again.expect("1 to 4 [1]: ", 1)
	again.enter("\n\n" + querysim.Password + "\n")
	again.expect("Write them there?", 1)
	again.enter("\n")
	if code := again.exitCode(); code != 0 {
		t.Errorf("exit code: got %d", code)
	}
	if files := n.files(); !slices.Equal(files, []string{n.settings()}) {
		t.Errorf("got %q, want the settings alone: the file of the password is of no use any more", files)
	}
	p.enter("\x03")
	p.exitCode()

	// Not at a terminal nothing is read that was not named.
	cmd := exec.Command(bearerdtest.Program(t))
	cmd.Env = bare
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "nothing is set") {
		t.Errorf("without a terminal: got %v\n%s", err, out)
	}
}

// With a Secret Service no file has the password, and set up again it gets a new one.
func TestSetupKeepsThePasswordInTheStore(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.logIn()
	n := newNewcomer(t, d.env)
	for range 2 {
		p := startAtTerminal(t, n.w, []string{"setup", "-preset", "vyopta", "-username", querysim.Username, "-port", n.port, "-start", "no"}, n.env...)
		p.expect(passwordPrompt, 1)
		p.enter(querysim.Password + "\n")
		p.expect("Keep the password in the Secret Service? [Y/n] ", 1)
		p.enter("\n")
		p.expect("Write them there?", 1)
		p.enter("\n")
		if code := p.exitCode(); code != 0 {
			t.Fatalf("exit code: got %d\n%s", code, p.text())
		}
	}
	if got, _ := d.command("", "secret-tool", "lookup", "service", "bearerd", "username", "vyopta"); got != querysim.Password {
		t.Error("the password is not in the store")
	}
	if text := bearerdtest.TextOf(t, n.settings()); strings.Contains(text, querysim.Password) || !strings.Contains(text, "BEARERD_PASSWORD_KEYRING=vyopta\n") {
		t.Errorf("got settings\n%s", text)
	}
	p := n.w.StartProgram(t, bearerdtest.Command(t, "-env-file", n.settings()), append(d.env, "BEARERD_ADMIN_LISTEN=localhost:0", "BEARERD_LOG_FORMAT=json")...)
	if err := bearerdtest.ExpectStatus(bearerdtest.NewClient(t), p.URL+bearerdtest.NamesPath, http.StatusOK); err != nil {
		t.Error(err)
	}
}

// A service of one's own, with a client's secret in place of a user.
func TestSetupOfAnotherService(t *testing.T) {
	n := newNewcomer(t, nil)
	given := make(map[string]string)
	for _, line := range n.w.Env("graphnet") {
		name, value, _ := strings.Cut(line, "=")
		given[strings.TrimPrefix(name, "BEARERD_")] = value
	}
	env := bearerdtest.Without(n.env, "BEARERD_UPSTREAM", "BEARERD_TOKEN_URL")
	p := startAtTerminal(t, n.w, []string{"setup", "-port", n.port}, env...)
	for _, step := range [][2]string{
		{"1 to 4 [1]: ", "4"},
		{"URL of the API: ", given["UPSTREAM"]},
		{"URL that logins are posted to: ", given["TOKEN_URL"]},
		{"a client with a secret of its own (2)? [1]: ", "2"},
		{"client_id: ", given["CLIENT_ID"]},
		{"Client secret (it does not show): ", given["CLIENT_SECRET"]},
		{"That works", ""},
		{"Write them there? [Y/n] ", ""},
		{"Start bearerd now", ""},
	} {
		p.expect(step[0], 1)
		p.enter(step[1] + "\n")
	}
	bearerdtest.Eventually(t, bearerdtest.Soon, "an answer of the API", func() bool {
		return bearerdtest.ExpectStatus(bearerdtest.NewClient(t), n.url(), http.StatusOK) == nil
	})
	if text := bearerdtest.TextOf(t, n.settings()); !strings.Contains(text, "BEARERD_GRANT_TYPE=client_credentials\n") || !strings.Contains(text, "BEARERD_CLIENT_SECRET_FILE=") {
		t.Errorf("got settings\n%s", text)
	}
	if !strings.Contains(p.text(), "In place of PATH write that of the API.") {
		t.Error("the lines to paste have no PATH to be replaced")
	}
}

// Whoever leaves setup leaves nothing behind, nor does one that cannot write.
func TestSetupLeavesNoHalf(t *testing.T) {
	t.Parallel()
	n := newNewcomer(t, nil)
	questions := []string{"1 to 4 [1]: ", "User name: ", passwordPrompt, "Keep it in a file", "Write them there?", "Start bearerd"}
	answers := []string{"\n", querysim.Username + "\n", querysim.Password + "\n", "\n", "\n"}
	for stop := range questions {
		p := startAtTerminal(t, n.w, []string{"setup", "-port", n.port}, n.env...)
		for i, question := range questions[:stop+1] {
			p.expect(question, 1)
			if i < stop {
				p.enter(answers[i])
			}
		}
		p.enter("\x03")
		if code := p.exitCode(); code != exitFailed || !strings.Contains(p.text(), "nothing was changed") {
			t.Errorf("left at %q: got exit code %d\n%s", questions[stop], code, p.text())
		}
		if files := n.files(); files != nil {
			t.Errorf("left at %q: there are %q", questions[stop], files)
		}
	}
}

// For scripts every answer is a flag.
func TestSetupByFlags(t *testing.T) {
	t.Parallel()
	n := newNewcomer(t, nil)
	run := func(args ...string) (string, error) {
		cmd := exec.Command(bearerdtest.Program(t), append([]string{"setup"}, args...)...)
		cmd.Env = n.env
		out, err := cmd.CombinedOutput()
		n.w.CheckSecrets(t, strings.ReplaceAll(string(out), querysim.Username, ""))
		return string(out), err
	}
	password := bearerdtest.WriteFile(t, querysim.Password+"\r\n")
	all := []string{"-preset", "vyopta", "-username", querysim.Username, "-password-file", password, "-port", n.port, "-keep", "file", "-start", "no"}
	if out, err := run(all[:4]...); err == nil || !strings.Contains(out, "-username and -password-file") {
		t.Errorf("without a password: got %v\n%s", err, out)
	}
	if out, err := run(append(slices.Clone(all), "-password-file", bearerdtest.WriteFile(t, "wrong"))...); err == nil || !strings.Contains(out, "nothing was changed") || n.files() != nil {
		t.Errorf("a wrong password: got %v and %q\n%s", err, n.files(), out)
	}
	if out, err := run(append(slices.Clone(all), "-keep", "keyring")...); err == nil || !strings.Contains(out, "run setup with -keep file") || n.files() != nil {
		t.Errorf("no store: got %v and %q\n%s", err, n.files(), out)
	}
	if out, err := run(all...); err != nil {
		t.Fatalf("got %v\n%s", err, out)
	}
	before := bearerdtest.TextOf(t, n.settings())
	for _, want := range []string{"BEARERD_PRESET=vyopta\n", "BEARERD_LISTEN=localhost:" + n.port + "\n", "BEARERD_PASSWORD_FILE=" + filepath.Dir(n.settings()) + "/password\n", "BEARERD_UPSTREAM="} {
		if !strings.Contains(before, want) {
			t.Errorf("the settings lack %q:\n%s", want, before)
		}
	}
	// A second time, with a setting of one's own in the file: that stays.
	if err := os.WriteFile(n.settings(), []byte(before+"BEARERD_KEEP_WARM=true\nBEARERD_PROXY=off\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := run("-password-file", password, "-keep", "file", "-start", "no"); err != nil || !strings.Contains(bearerdtest.TextOf(t, n.settings()), "BEARERD_KEEP_WARM=true\nBEARERD_PROXY=off\n") {
		t.Errorf("again: got %v\n%s", err, out)
	}
	p := n.w.StartProgram(t, bearerdtest.Command(t, "-env-file", n.settings()), "BEARERD_ADMIN_LISTEN=localhost:0", "BEARERD_LOG_FORMAT=json")
	if err := bearerdtest.ExpectStatus(bearerdtest.NewClient(t), p.URL+bearerdtest.NamesPath, http.StatusOK); err != nil {
		t.Error(err)
	}
}
