package main

import (
	"encoding/json"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/bearerd/bearerd/cmd/internal/admin"
	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/descriptors"
	"github.com/bearerd/bearerd/cmd/internal/docs"
	"github.com/bearerd/bearerd/cmd/internal/logs"
	"github.com/bearerd/bearerd/cmd/internal/querysim"
	"github.com/bearerd/bearerd/cmd/internal/service"
	"github.com/bearerd/bearerd/cmd/internal/shared"
	"github.com/bearerd/bearerd/metrics"
	"github.com/bearerd/bearerd/proxy"
)

// firstCells returns what stands in backticks in the first cell of each row of
// the tables of a text.
func firstCells(text string) []string {
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
		t.Errorf("%s: the documentation has\n%v\nwant\n%v", what, got, want)
	}
}

func TestDocsNameEveryError(t *testing.T) {
	var want []string
	for _, code := range proxy.Codes() {
		want = append(want, string(code))
	}
	expectSame(t, "errors", firstCells(docs.Section(t, "docs/errors.md", "Codes")), want)
}

// seriesNames notes the names of bearerd's series as they are registered: one
// that is not always there has no other place to be seen.
type seriesNames struct {
	prometheus.Registerer
	names []string
}

func (s *seriesNames) MustRegister(collectors ...prometheus.Collector) {
	for _, c := range collectors {
		descs := make(chan *prometheus.Desc)
		go func() { c.Describe(descs); close(descs) }()
		for desc := range descs {
			if found := regexp.MustCompile(`fqName: "(bearerd_\w+)"`).FindStringSubmatch(desc.String()); found != nil {
				s.names = append(s.names, found[1])
			}
		}
	}
	s.Registerer.MustRegister(collectors...)
}

func TestDocsNameEveryMetric(t *testing.T) {
	registered := &seriesNames{Registerer: prometheus.NewRegistry()}
	o := service.MetricsOptions("", func() metrics.State { return metrics.State{} })
	o.SharedOps, o.SharedResults = shared.Ops, shared.Results
	metrics.New(registered, o)
	expectSame(t, "metrics", firstCells(docs.Section(t, "docs/operations.md", "Metrics")), registered.names)
}

func TestDocsNameEveryFault(t *testing.T) {
	text := bearerdtest.TextOf(t, "../../docs/faults.md")
	named := func(flag, fault string) bool {
		return regexp.MustCompile("-" + flag + "=" + regexp.QuoteMeta(fault) + "[^-\\w]").MatchString(text)
	}
	for _, f := range querysim.QueryFaults() {
		if !named("query-fault", string(f)) {
			t.Errorf("docs/faults.md has no %s of the Query Service", f)
		}
	}
	for _, f := range querysim.LoginFaults() {
		if !named("login-fault", string(f)) {
			t.Errorf("docs/faults.md has no %s of the login servers", f)
		}
	}
}

func TestDocsNameEveryStateOfTheLog(t *testing.T) {
	want := []string{service.SayFileTaken, service.SayFileBad, logs.SayLinesLost, logs.SayLeftOut, descriptors.SayScarce}
	for _, found := range regexp.MustCompile(`(?m)^\t[Ss]ay\w+ += "(.*)"$`).FindAllStringSubmatch(docs.Page(t, "cmd/internal/logs/states.go"), -1) {
		want = append(want, found[1])
	}
	expectSame(t, "messages of the log", firstCells(docs.Section(t, "docs/operations.md", "Log")), want)
}

func TestDocsNameEveryExpiryRule(t *testing.T) {
	var want []string
	for _, found := range regexp.MustCompile(`(?m)^\tRule\w+ +Rule = "(.*?)"`).FindAllStringSubmatch(docs.Page(t, "tokens/answer.go"), -1) {
		want = append(want, found[1])
	}
	if len(want) == 0 {
		t.Fatal("tokens/answer.go has no rules")
	}
	expectSame(t, "expiry rules", firstCells(docs.Section(t, "docs/operations.md", "How long a token lives")), want)
}

func TestDocsNameEveryAdminPath(t *testing.T) {
	w := httptest.NewRecorder()
	admin.Facts{Metrics: http.NotFoundHandler(), People: http.NotFoundHandler()}.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/none", nil))
	var missing struct{ Paths []string }
	if err := json.Unmarshal(w.Body.Bytes(), &missing); err != nil {
		t.Fatal(err)
	}
	for i, path := range missing.Paths {
		missing.Paths[i] = strings.TrimPrefix(path, "GET ")
	}
	expectSame(t, "paths of the admin listener", firstCells(docs.Section(t, "docs/operations.md", "Health")), missing.Paths)
}

// What SECURITY.md calls a proof, and CONTRIBUTING.md a guard, must be there, and
// each test of a threat be named in the first.
func TestSECURITYNamesTests(t *testing.T) {
	have := make(map[string]bool)
	err := filepath.WalkDir("../..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		for _, found := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`).FindAllStringSubmatch(bearerdtest.TextOf(t, path), -1) {
			have[found[1]] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	named := make(map[string]bool)
	for _, found := range regexp.MustCompile("`((?:Test|Fuzz)\\w+)`").FindAllStringSubmatch(docs.Page(t, "SECURITY.md"), -1) {
		named[found[1]] = true
		if !have[found[1]] {
			t.Errorf("there is no %s", found[1])
		}
	}
	for _, found := range regexp.MustCompile("`((?:Test|Fuzz)\\w+)`").FindAllStringSubmatch(docs.Page(t, "CONTRIBUTING.md"), -1) {
		if !have[found[1]] {
			t.Errorf("CONTRIBUTING.md names %s, which is not there", found[1])
		}
	}
	for name := range have {
		if strings.HasPrefix(name, "TestThreat") && !named[name] {
			t.Errorf("SECURITY.md does not name %s", name)
		}
	}
}

func TestDocsNameEveryDependency(t *testing.T) {
	direct, _, _ := strings.Cut(bearerdtest.TextOf(t, "../../go.mod"), ")")
	var want []string
	for _, found := range regexp.MustCompile(`(?m)^\t(\S+) v`).FindAllStringSubmatch(direct, -1) {
		want = append(want, found[1])
	}
	text := docs.Section(t, "docs/releases.md", "Dependencies")
	var got []string
	for _, found := range regexp.MustCompile(`(?m)^\| (\S+\.\S+/\S+) \|`).FindAllStringSubmatch(text, -1) {
		got = append(got, found[1])
	}
	expectSame(t, "dependencies", got, want)
}
