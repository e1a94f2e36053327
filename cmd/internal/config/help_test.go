package config

import (
	"flag"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the table of docs/settings.md")

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

// The table between the two markers is generated: go test ./cmd/internal/config
// -run SettingsPage -update.
func TestSettingsPage(t *testing.T) {
	const path, begin, end = "../../../docs/settings.md", "<!-- settings -->\n", "<!-- /settings -->"
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
		t.Fatalf("the table in %s is not the settings': run go test ./cmd/internal/config -run SettingsPage -update", path)
	}
	if err := os.WriteFile(path, []byte(before+begin+settingsTable()+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
