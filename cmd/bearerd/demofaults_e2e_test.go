//go:build unix

package main

import (
	"bytes"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// startTour runs bearerd demo -faults. What it wrote may be read at its end.
func startTour(t *testing.T) (cmd *exec.Cmd, stdout *output, end func()) {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	temp := t.TempDir()
	stdout = &output{}
	var stderr bytes.Buffer
	cmd = exec.Command(path, "demo", "-faults")
	cmd.Env, cmd.Stdout, cmd.Stderr = []string{"TMPDIR=" + temp}, stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(5*time.Minute, func() { _ = cmd.Process.Kill() })
	return cmd, stdout, func() {
		err := cmd.Wait()
		late.Stop()
		if err != nil || stderr.Len() > 0 {
			t.Fatalf("got %v, %q on stderr; want exit code 0 and nothing\n%s", err, &stderr, stdout)
		}
		if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v %v", left, err)
		}
		if strings.Contains(stdout.String(), "eyJ") {
			t.Error("it printed a part of a token")
		}
		(&world{}).checkSecrets(t, stdout.String())
	}
}

func TestTour(t *testing.T) {
	if testing.Short() {
		t.Skip("takes two minutes")
	}
	t.Parallel()
	_, stdout, end := startTour(t)
	end()
	words := strings.Join(strings.Fields(stdout.String()), " ") // lines may break anywhere
	for _, want := range []string{
		`caller 200, in \S+ ms\. It took 1 login and 2 requests upstream, of which 1 got a 401\.`,
		`caller 503 login_unavailable, Retry-After: \d+, in `,
		`caller 502 login_rejected, in `,
		`ERR login rejected cause="HTTP 401`,
		`ERR login rejected cause="HTTP 400`,
		`INF login works again `,
		`Of bearerd's logins it met 1, and none made it longer\.`,
		` 1 The token is revoked \d+ 0 1 0 `,
		` 2 Login down, for a short time \d+ 0 2 1 `,
		` 3 Login down, for a long time \d+ [1-9]\d* [3-6] [2-5] 503 login_unavailable `,
		` 4 The password is changed \d+ [1-9]\d* 2 1 502 login_rejected `,
		` 5 Somebody locks the account \d+ [1-9]\d* 2 1 502 login_rejected `,
		`at the same time: at most 1\.`,
		`without a token: 0\.`,
	} {
		if !regexp.MustCompile(want).MatchString(words) {
			t.Errorf("no %s", want)
		}
	}
	for line := range strings.Lines(stdout.String()) {
		if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > 79 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	if t.Failed() {
		t.Log(stdout)
	}
}

func TestTourCanBeLeft(t *testing.T) {
	t.Parallel()
	cmd, stdout, end := startTour(t)
	stdout.until(t, `waiting for bearerd to renew`)
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	end()
	if !strings.HasSuffix(stdout.String(), "  stopped\n") {
		t.Errorf("got\n%s\nwant its end told", stdout)
	}
}
