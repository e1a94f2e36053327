// Package docs reads the repository's Markdown for tests, which compare what a
// page says with what the program does. It knows files and headings, and
// nothing of bearerd; nothing but tests imports it.
package docs

import (
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Root returns the folder of the repository, in which tests of its main module
// run.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("not in the repository")
		}
		dir = filepath.Dir(dir)
	}
}

// Page returns the text of a file, whose path is relative to Root.
func Page(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(Root(t), filepath.FromSlash(path)))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Section returns what a page has under a heading, which is given as it is
// written but for its #s, down to the next heading of the same level or above.
func Section(t testing.TB, path, heading string) string {
	t.Helper()
	text := Page(t, path)
	all := headings(text)
	for i, h := range all {
		if h.text != heading {
			continue
		}
		for _, next := range all[i+1:] {
			if next.level <= h.level {
				return text[h.end:next.start]
			}
		}
		return text[h.end:]
	}
	t.Fatalf("%s has no heading %q", path, heading)
	return ""
}

// heading is a line that starts with #s. Its start and its end, behind the
// line, are offsets in the page.
type heading struct {
	level, start, end int
	text              string
}

func headings(page string) (all []heading) {
	for start, line := range proseLines(page) {
		text := strings.TrimLeft(line, "#")
		level := len(line) - len(text)
		if level < 1 || level > 6 || !strings.HasPrefix(text, " ") {
			continue
		}
		all = append(all, heading{level, start, start + len(line), strings.TrimSpace(text)})
	}
	return all
}

// proseLines yields each line outside of fenced code, and its offset.
func proseLines(page string) iter.Seq2[int, string] {
	return func(yield func(int, string) bool) {
		offset, fence := 0, ""
		for line := range strings.Lines(page) {
			start, trimmed := offset, strings.TrimSpace(line)
			offset += len(line)
			switch {
			case fence != "":
				if strings.HasPrefix(trimmed, fence) && strings.Trim(trimmed, fence[:1]) == "" {
					fence = ""
				}
			case strings.HasPrefix(trimmed, "```"), strings.HasPrefix(trimmed, "~~~"):
				fence = trimmed[:len(trimmed)-len(strings.TrimLeft(trimmed, trimmed[:1]))]
			default:
				if !yield(start, line) {
					return
				}
			}
		}
	}
}
