//go:build unix

package main

import (
	"bytes"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/longtest"
)

// startTour runs bearerd demo -faults. What it wrote may be read at its end.
func startTour(t *testing.T) (p *bearerdtest.Process, stdout *bearerdtest.Output, end func()) {
	t.Helper()
	temp := t.TempDir()
	stdout = &bearerdtest.Output{}
	var stderr bytes.Buffer
	cmd := bearerdtest.Command(t, "demo", "-faults")
	cmd.Env, cmd.Stdout, cmd.Stderr = []string{"TMPDIR=" + temp}, stdout, &stderr
	p = bearerdtest.StartCommand(t, cmd)
	return p, stdout, func() {
		if code := p.ExitCode(5 * time.Minute); code != 0 || stderr.Len() > 0 {
			t.Fatalf("got %d, %q on stderr; want exit code 0 and nothing\n%s", code, &stderr, stdout)
		}
		if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v %v", left, err)
		}
		if strings.Contains(stdout.String(), "eyJ") {
			t.Error("it printed a part of a token")
		}
		(&bearerdtest.World{}).CheckSecrets(t, stdout.String())
	}
}

func TestTour(t *testing.T) {
	longtest.Mark(t, "takes two minutes")
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
	p, stdout, end := startTour(t)
	stdout.Until(t, `waiting for bearerd to renew`)
	p.Signal(syscall.SIGINT)
	end()
	if !strings.HasSuffix(stdout.String(), "  stopped\n") {
		t.Errorf("got\n%s\nwant its end told", stdout)
	}
}
