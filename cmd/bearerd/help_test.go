package main

import (
	"flag"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the README's table of settings")

func TestHelpNamesEverySetting(t *testing.T) {
	var help strings.Builder
	writeSettings(&help)
	for _, s := range settingsOf(new(Config)) {
		if s.desc == "" {
			t.Errorf("%s has no desc", s.name)
		}
		if s.def != "" && s.unset != "" {
			t.Errorf("%s has a default and says what unset means", s.name)
		}
		if n := strings.Count(help.String(), "\n  "+s.name+"\n") + strings.Count(help.String(), "\n  "+s.name+" ("); n != 1 {
			t.Errorf("%s is in the help %d times", s.name, n)
		}
		if !strings.Contains(help.String(), "\n  "+s.name+" (default "+s.def+")\n") && s.def != "" {
			t.Errorf("%s: its default is not in the help", s.name)
		}
	}
	for line := range strings.Lines(usage + help.String()) {
		if len(line) > 81 && !strings.Contains(line, "https://") {
			t.Errorf("%d columns: %s", len(line)-1, line)
		}
	}
	if !strings.Contains(help.String(), "BEARERD_CLIENT_ID=WXP Collaboration\n") {
		t.Error("the presets are not in the help")
	}
}

func TestSettingsTable(t *testing.T) {
	table := settingsTable()
	for _, row := range []string{
		"| `BEARERD_LISTEN` | `localhost:8080` | where tools connect",
		"| `BEARERD_ALLOWED_METHODS` | all | methods",
		"| `BEARERD_ACCESS_LOG` | `all` | all, errors, off: ",
	} {
		if !strings.Contains(table, "\n"+row) {
			t.Errorf("no row %s", row)
		}
	}
	for line := range strings.Lines(table) {
		if n := strings.Count(line, "|"); n != 4 {
			t.Errorf("%d bars: %s", n, line)
		}
	}
}

// The table between the two markers is generated: go test ./cmd/bearerd
// -run README -update.
func TestREADMESettingsTable(t *testing.T) {
	const path, begin, end = "../../README.md", "<!-- settings -->\n", "<!-- /settings -->"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	table, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no %s … %s", path, begin, end)
	}
	if table == settingsTable() {
		return
	}
	if !*update {
		t.Fatalf("the table in %s is not the settings': run go test ./cmd/bearerd -run README -update", path)
	}
	if err := os.WriteFile(path, []byte(before+begin+settingsTable()+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
