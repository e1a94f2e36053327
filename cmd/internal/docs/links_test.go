package docs

import (
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// pages are all Markdown files of the repository, relative to its root.
func pages(t *testing.T) (all []string) {
	t.Helper()
	root := os.DirFS(Root(t))
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		switch {
		case d.IsDir() && (d.Name() == "node_modules" || name == "dist" || name != "." && strings.HasPrefix(d.Name(), ".")):
			return fs.SkipDir
		case path.Ext(name) == ".md":
			all = append(all, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Every link of every page leads somewhere: to a file that is there, and to a
// heading that it has. Of other hosts only the form is looked at.
func TestLinks(t *testing.T) {
	for _, page := range pages(t) {
		for _, link := range links(Page(t, page)) {
			if err := follow(t, page, link); err != nil {
				t.Errorf("%s: %s: %v", page, link, err)
			}
		}
	}
}

func follow(t *testing.T, page, link string) error {
	t.Helper()
	u, err := url.Parse(link)
	if err != nil {
		return err
	}
	if u.Scheme != "" || u.Host != "" {
		if u.Scheme != "https" || u.Hostname() == "" || strings.ContainsAny(link, " \t") {
			return fmt.Errorf("not an https URL")
		}
		return nil
	}
	target := page
	if u.Path != "" {
		target = path.Join(path.Dir(page), u.Path)
	}
	if strings.HasPrefix(u.Path, "/") || !fs.ValidPath(target) {
		return fmt.Errorf("leads out of the repository")
	}
	if _, err := os.Stat(filepath.Join(Root(t), target)); err != nil {
		return err
	}
	if u.Fragment == "" {
		return nil
	}
	if path.Ext(target) != ".md" {
		return fmt.Errorf("only a page has headings")
	}
	if !slices.Contains(anchors(Page(t, target)), u.Fragment) {
		return fmt.Errorf("%s has no such heading", target)
	}
	return nil
}

var (
	codeSpan    = regexp.MustCompile("``[^\n]*?``|`[^`\n]*`")
	inlineLink  = regexp.MustCompile(`\]\(\s*<?([^)\s>]*)>?(?:\s+"[^"]*")?\s*\)`)
	definedLink = regexp.MustCompile(`(?m)^ {0,3}\[[^\]]+\]:\s*<?(\S+?)>?\s*$`)
	htmlLink    = regexp.MustCompile(`<(?:a|img|source)\b[^>]*?\b(?:href|src|srcset)="([^"]*)"`)
	autoLink    = regexp.MustCompile(`<(https?://[^>]*)>`)
)

// links returns the targets of a page's links and pictures.
func links(page string) (all []string) {
	var prose strings.Builder
	for _, line := range proseLines(page) {
		prose.WriteString(line)
	}
	text := codeSpan.ReplaceAllString(prose.String(), "code")
	for _, kind := range []*regexp.Regexp{inlineLink, definedLink, htmlLink, autoLink} {
		for _, found := range kind.FindAllStringSubmatch(text, -1) {
			all = append(all, found[1])
		}
	}
	return all
}

var linkText = regexp.MustCompile(`!?\[([^\]]*)\]\([^)]*\)`)

// anchors returns the names that GitHub gives a page's headings: lower case,
// letters, digits, _ and - only, blanks as -, and a number at the second of the
// same name.
func anchors(page string) (all []string) {
	seen := make(map[string]int)
	for _, h := range headings(page) {
		text := linkText.ReplaceAllString(h.text, "$1")
		name := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsMark(r) || unicode.IsNumber(r):
				return unicode.ToLower(r)
			}
			return -1
		}, text)
		unique := name
		for seen[unique] > 0 {
			unique = fmt.Sprintf("%s-%d", name, seen[name])
			seen[name]++
		}
		seen[unique]++
		all = append(all, unique)
	}
	return all
}

func TestAnchors(t *testing.T) {
	page := "# One, two\n## `code` & more\n```sh\n# no heading\n```\n## One, two\n### A [link](x.md) – café_2\n#no heading\n## One, two\n"
	want := []string{"one-two", "code--more", "one-two-1", "a-link--café_2", "one-two-2"}
	if got := anchors(page); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestLinksOfAPage(t *testing.T) {
	page := "[a](a.md) ![b](b.svg \"title\") `[no](no)` <https://c>\n~~~\n[no](no)\n~~~\n" +
		"[`d`](d#e) [f]\n\n[f]: f.md\n<picture><source srcset=\"g.svg\"><img alt=\"\" src=\"h.svg\"></picture>\n"
	want := []string{"a.md", "b.svg", "d#e", "f.md", "g.svg", "h.svg", "https://c"}
	if got := links(page); !slices.Equal(slices.Sorted(slices.Values(got)), want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestLinksThatLeadNowhere(t *testing.T) {
	for link, leads := range map[string]bool{
		"SECURITY.md": true, "SECURITY.md#threats": true, "#security": true, "deploy": true, "https://example.com/a#b": true,
		"NONE.md": false, "security.md": false, "SECURITY.md#threat": false, "#nothing": false, "../README.md": false, "/SECURITY.md": false,
		"go.mod#x": false, "http://example.com": false, "https:///a": false, "mailto:a@example.com": false, "//example.com": false, "https://a b": false,
	} {
		if link == "security.md" && runtime.GOOS == "windows" {
			continue // it is SECURITY.md there
		}
		if err := follow(t, "SECURITY.md", link); (err == nil) != leads {
			t.Errorf("%s: got %v", link, err)
		}
	}
}

func TestSection(t *testing.T) {
	for _, tt := range []struct{ heading, has, lacks string }{
		{"Security", "## Threats", "# Security\n"},
		{"Threats", "| attack |", "## Reporting"},
		{"Reporting", "Tell the maintainers", "## Threats"},
	} {
		got := Section(t, "SECURITY.md", tt.heading)
		if !strings.Contains(got, tt.has) || strings.Contains(got, tt.lacks) {
			t.Errorf("%s: got %q, want it with %q and without %q", tt.heading, got, tt.has, tt.lacks)
		}
	}
}
