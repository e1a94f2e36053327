package docs

import (
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/bearerd/bearerd/"

// A room imports rooms that CONTRIBUTING's map has below it, and none above; the
// map has each. What others may import imports nothing of ours.
func TestNoRoomKnowsOneAbove(t *testing.T) {
	section := Section(t, "CONTRIBUTING.md", "Where things are")
	var rooms []string // from the top down
	for _, row := range regexp.MustCompile(`(?m)^\| \d? ?\| ([^|]*) \|`).FindAllStringSubmatch(section, -1) {
		for _, name := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[1], -1) {
			rooms = append(rooms, path.Join("cmd/internal", strings.TrimPrefix(name[1], "cmd/")))
		}
	}
	for at, room := range rooms {
		if room == "cmd/internal/bearerd" {
			continue // above all
		}
		for _, imported := range imports(t, room) {
			if i := slices.Index(rooms, imported); i >= 0 && i <= at {
				t.Errorf("%s imports %s, which stands above it", room, imported)
			}
		}
	}
	for _, alone := range []string{"tokens", "proxy", "metrics"} {
		if got := imports(t, alone); len(got) > 0 {
			t.Errorf("%s imports %s", alone, got)
		}
	}
	all, err := os.ReadDir(filepath.Join(Root(t), "cmd", "internal"))
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range all {
		if !slices.Contains(rooms, "cmd/internal/"+dir.Name()) && !strings.Contains(section, "`cmd/internal/"+dir.Name()+"`") {
			t.Errorf("CONTRIBUTING's map has no cmd/internal/%s", dir.Name())
		}
	}
}

// imports are the packages of ours that one imports, on any system and but for
// its tests.
func imports(t *testing.T, dir string) (all []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(Root(t), filepath.FromSlash(dir), "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %v, and %d files", dir, err, len(files))
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range parsed.Imports {
			if ours, ok := strings.CutPrefix(strings.Trim(spec.Path.Value, `"`), module); ok {
				all = append(all, ours)
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Where CONTRIBUTING sends a newcomer, there is a file.
func TestWhereDoIGo(t *testing.T) {
	for _, row := range regexp.MustCompile(`(?m)^\| [^|]* \| ([^|]*) \|`).FindAllStringSubmatch(Section(t, "CONTRIBUTING.md", "Where do I …"), -1) {
		for _, file := range regexp.MustCompile("`([^`]+\\.go)`").FindAllStringSubmatch(row[1], -1) {
			found := 0
			for _, below := range []string{"", "cmd/internal"} {
				matched, _ := filepath.Glob(filepath.Join(Root(t), below, filepath.FromSlash(file[1])))
				found += len(matched)
			}
			if found == 0 {
				t.Errorf("there is no %s", file[1])
			}
		}
	}
}
