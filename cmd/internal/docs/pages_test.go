package docs

import (
	"path"
	"regexp"
	"strings"
	"testing"
)

// README is read in five minutes, so its lines are few, and not long.
func TestREADMEIsShort(t *testing.T) {
	n := 0
	for line := range strings.Lines(Page(t, "README.md")) {
		n++
		if len([]rune(line)) > 160 {
			t.Errorf("line %d has more than 160 characters", n)
		}
	}
	if n > 250 {
		t.Errorf("README has %d lines, want at most 250: the rest belongs in docs", n)
	}
}

// Each page of docs, and deploy's, opens with the question that it answers and the way back to
// README, whose index has the page with that question.
func TestPagesAnswerAQuestion(t *testing.T) {
	index := Section(t, "README.md", "All pages")
	opening := regexp.MustCompile(`^# [^\n]+\n\n\*([^\n]+\?)\* \[All pages\]\(\.\./README\.md#all-pages\)\n`)
	for _, page := range pages(t) {
		name := strings.TrimSuffix(path.Base(page), ".md")
		switch {
		case page == "deploy/README.md":
			name = "deploy"
		case path.Dir(page) != "docs":
			continue
		}
		found := opening.FindStringSubmatch(Page(t, page))
		if found == nil {
			t.Errorf("%s does not open with its question", page)
			continue
		}
		row := "| [" + name + "](" + page + ") | " + found[1] + " |\n"
		if !strings.Contains(index, row) {
			t.Errorf("README's index lacks %s", row)
		}
	}
}
