package main

import (
	"encoding/json"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/bearerd/bearerd/metrics"
	"github.com/bearerd/bearerd/proxy"
)

func textOf(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// firstCells returns what stands in backticks in the first cell of each row of
// the tables of a README section.
func firstCells(t *testing.T, section string) []string {
	t.Helper()
	_, text, ok := strings.Cut(textOf(t, "../../README.md"), "\n## "+section+"\n")
	if !ok {
		t.Fatalf("README has no section %q", section)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	var cells []string
	code := regexp.MustCompile("`([^`{]+)[^`]*`")
	for _, row := range regexp.MustCompile(`(?m)^\| (.*?) \|`).FindAllStringSubmatch(text, -1) {
		for _, found := range code.FindAllStringSubmatch(row[1], -1) {
			cells = append(cells, found[1])
		}
	}
	return cells
}

func expectSame(t *testing.T, what string, got, want []string) {
	t.Helper()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%s: README has\n%v\nwant\n%v", what, got, want)
	}
}

func TestREADMENamesEveryError(t *testing.T) {
	var want []string
	for _, code := range proxy.Codes() {
		want = append(want, string(code))
	}
	expectSame(t, "errors", firstCells(t, "Errors, and what to do"), want)
}

func TestREADMENamesEveryMetric(t *testing.T) {
	registry := prometheus.NewRegistry()
	m := metrics.New(registry, metrics.Options{State: func() metrics.State {
		return metrics.State{Expiry: time.Now(), NextLogin: time.Now(), Lifetime: 1, SkewKnown: true}
	}})
	m.Request("GET", 200, 1)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "bearerd_") {
			want = append(want, f.GetName())
		}
	}
	got := slices.DeleteFunc(firstCells(t, "Health, metrics and logs"), func(cell string) bool { return !strings.HasPrefix(cell, "bearerd_") })
	expectSame(t, "metrics", got, want)
}

func TestREADMENamesEveryStateOfTheLog(t *testing.T) {
	var want []string
	for _, found := range regexp.MustCompile(`(?m)^\tsay\w+ += "(.*)"$`).FindAllStringSubmatch(textOf(t, "statelog.go"), -1) {
		want = append(want, found[1])
	}
	got := slices.DeleteFunc(firstCells(t, "Health, metrics and logs"), func(cell string) bool {
		return strings.Contains(cell, "/") || strings.HasPrefix(cell, "bearerd_")
	})
	expectSame(t, "messages of the log", got, want)
}

func TestREADMENamesEveryAdminPath(t *testing.T) {
	w := httptest.NewRecorder()
	admin{metrics: http.NotFoundHandler()}.handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	var missing struct{ Paths []string }
	if err := json.Unmarshal(w.Body.Bytes(), &missing); err != nil {
		t.Fatal(err)
	}
	for i, path := range missing.Paths {
		missing.Paths[i] = strings.TrimPrefix(path, "GET ")
	}
	got := slices.DeleteFunc(firstCells(t, "Health, metrics and logs"), func(cell string) bool { return !strings.Contains(cell, "/") })
	expectSame(t, "paths of the admin listener", got, missing.Paths)
}

// What SECURITY.md calls a proof must be there, and each test of a threat be
// named in it.
func TestSECURITYNamesTests(t *testing.T) {
	have := make(map[string]bool)
	err := filepath.WalkDir("../..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		for _, found := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`).FindAllStringSubmatch(textOf(t, path), -1) {
			have[found[1]] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	named := make(map[string]bool)
	for _, found := range regexp.MustCompile("`((?:Test|Fuzz)\\w+)`").FindAllStringSubmatch(textOf(t, "../../SECURITY.md"), -1) {
		named[found[1]] = true
		if !have[found[1]] {
			t.Errorf("there is no %s", found[1])
		}
	}
	for name := range have {
		if strings.HasPrefix(name, "TestThreat") && !named[name] {
			t.Errorf("SECURITY.md does not name %s", name)
		}
	}
}

func TestREADMENamesEveryDependency(t *testing.T) {
	direct, _, _ := strings.Cut(textOf(t, "../../go.mod"), ")")
	var want []string
	for _, found := range regexp.MustCompile(`(?m)^\t(\S+) v`).FindAllStringSubmatch(direct, -1) {
		want = append(want, found[1])
	}
	_, text, _ := strings.Cut(textOf(t, "../../README.md"), "\n## Dependencies\n")
	var got []string
	for _, found := range regexp.MustCompile(`(?m)^\| (\S+\.\S+/\S+) \|`).FindAllStringSubmatch(text, -1) {
		got = append(got, found[1])
	}
	expectSame(t, "dependencies", got, want)
}
