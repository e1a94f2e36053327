package setup

import (
	"os/exec"
	"runtime"
	"strings"

	"github.com/bearerd/bearerd/cmd/internal/page"
)

// showPastes shows the lines that make a tool ask bearerd.
func (s *setup) showPastes() {
	base := "http://localhost:" + s.port
	path := "PATH"
	switch value(s.login.lines, "BEARERD_PRESET") {
	case "vyopta", "wxp":
		path = "cpmm/api/v1/orgs/42/metrics/names"
	}
	s.say("\nTools read the API at %s, without a login:", base)
	for _, p := range page.Pastes(page.Facts{Base: base, Example: path}) {
		switch p.ID {
		case "powerbi", "python", "curl":
		default:
			continue
		}
		text := p.Text
		if p.ID == "curl" && runtime.GOOS == "windows" {
			text = strings.ReplaceAll(strings.Replace(text, "curl ", "curl.exe ", 1), "'", `"`) // for cmd and PowerShell alike
		}
		s.say("\n%s", strings.TrimSpace(p.Tool+". "+p.Note))
		for line := range strings.Lines(text) {
			s.say("  %s", strings.TrimRight(line, "\n"))
		}
	}
	if path == "PATH" {
		s.say("\nIn place of PATH write that of the API.")
	} else {
		s.say("\nIn place of 42 write your organisation.")
	}
}

// Browse opens a page in the user's browser. It does not wait for it.
func Browse(url string) error {
	switch runtime.GOOS {
	case "windows":
		return exec.Command("rundll32", "url.dll,FileProtocolHandler", url).Start()
	case "darwin":
		return exec.Command("/usr/bin/open", url).Start()
	}
	return exec.Command("xdg-open", url).Start()
}
