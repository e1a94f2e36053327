package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

// From nothing to a served request at the console of Windows, with the password in
// the Credential Manager, and bearerd at each logon.
func TestWineSetup(t *testing.T) {
	w := newWine(t)
	n := newNewcomer(t, nil)
	dir := w.dir
	settings := `C:\` + filepath.Base(dir) + `\wine.env`
	env := append(os.Environ(), n.env...)
	began := time.Now()
	p := startCommandAtTerminal(t, n.w, w.command("setup", "-port", n.port, "-settings", settings), env...)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(p.text())
		}
	})
	p.expect("1 to 4 [1]:", 1) // the console moves over a space at the end
	p.enter("\r")
	p.expect("User name:", 1)
	p.enter(querysim.Username + "\r")
	p.expect(strings.TrimSpace(passwordPrompt), 1)
	p.enter(querysim.Password + "\r")
	p.expect("Keep the password in the Credential Manager? [Y/n]", 1)
	p.enter("\r")
	p.expect("Write them there? [Y/n]", 1)
	p.enter("\r")
	p.expect("Start bearerd now and at each logon? [Y/n]", 1)
	t.Cleanup(func() { _ = w.command("service", "uninstall", "-user").Run() })
	p.enter("\r")
	p.expect("Open the status page? [Y/n]", 1)
	p.enter("n\r")
	c := bearerdtest.NewClient(t)
	bearerdtest.Eventually(t, bearerdtest.Soon, "a served request", func() bool {
		return bearerdtest.ExpectStatus(c, n.url(), http.StatusOK) == nil
	})
	t.Logf("from the start of setup to the first 200: %v", time.Since(began).Round(time.Millisecond))
	if code := p.ExitCode(bearerdtest.Soon); code != 0 || !strings.Contains(p.text(), "curl.exe --fail-with-body") {
		t.Errorf("got exit code %d, want 0 and the lines to paste", code)
	}
	text := bearerdtest.TextOf(t, filepath.Join(dir, "wine.env"))
	if !strings.Contains(text, "BEARERD_PASSWORD_KEYRING=wine.vyopta\n") || strings.Contains(text, querysim.Password) {
		t.Errorf("got settings\n%s", text)
	}
}
