package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

// A crash loop with a refused password makes five logins in all, and each start
// says that they are held back. The waits between are made to have passed by what
// the file says of their beginning.
func TestCrashLoopEndToEnd(t *testing.T) {
	t.Parallel()
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	folder := filepath.Join(t.TempDir(), "state")
	env := append(bearerdtest.Without(w.Env("vyopta"), "BEARERD_PASSWORD"), "BEARERD_PASSWORD=wrong", "BEARERD_STATE_DIR="+folder)
	file := filepath.Join(folder, "logins.json")
	crash := func(n int) string {
		t.Helper()
		p := w.Start(t, env...)
		bearerdtest.Eventually(t, bearerdtest.Soon, "login "+strconv.Itoa(n), func() bool {
			text, _ := os.ReadFile(file) // not there before the first
			return w.Sim.Stats().Logins == n && strings.Contains(string(text), fmt.Sprintf(`"logins":%d`, n))
		})
		p.Until(`"message":"login `) // rejected or stopped
		p.Kill()
		if got := w.Sim.Stats().Logins; got != n {
			t.Fatalf("got %d logins, want %d", got, n)
		}
		return p.Text()
	}
	began := regexp.MustCompile(`"began":(\d+)`)
	for n := 1; n <= 5; n++ {
		crash(n)
		for range 2 {
			if text := crash(n); !regexp.MustCompile(`"logins_held_back":{"since":"[^"]+","rejections":` + strconv.Itoa(n) + `,.*"remedy":".*"message":"serving"`).MatchString(text) {
				t.Fatalf("the start-up line does not say that logins are held back: %s", text)
			}
		}
		text := began.ReplaceAllStringFunc(bearerdtest.TextOf(t, file), func(s string) string {
			at, _ := strconv.ParseInt(strings.TrimPrefix(s, `"began":`), 10, 64)
			return fmt.Sprintf(`"began":%d`, at-400_000)
		})
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if text := crash(5); !strings.Contains(text, `"message":"login stopped"`) {
		t.Errorf("the log does not say that logins are stopped: %s", text)
	}

	// The right password is tried at once; systemd's folder is as good.
	as := "STATE_DIRECTORY=" + folder + ":/other"
	if runtime.GOOS == "windows" {
		as = "BEARERD_STATE_DIR=" + folder
	}
	p := w.Start(t, append(w.Env("vyopta"), as)...)
	p.Until(`"message":"logged in"`)
	if got := w.Sim.Stats(); got.Logins != 6 || got.LoginsOK != 1 {
		t.Errorf("got %+v, want a sixth login, which is good", got)
	}
}
