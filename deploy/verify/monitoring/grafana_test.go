package monitoring_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/bearerd/bearerd/deploy/verify/internal/testenv"
)

// dashboard is what the tests look at of Grafana's dashboard model.
type dashboard struct {
	UID           string
	SchemaVersion int
	Panels        []panel
	Annotations   struct {
		List []struct {
			Name, Expr string
			Datasource source
		}
	}
	Templating struct {
		List []struct {
			Name, Type string
			Query      any
			Datasource *source // of those of the type query
		}
	}
}

type panel struct {
	ID                       int
	Type, Title, Description string
	Collapsed                bool
	Datasource               source
	GridPos                  grid
	FieldConfig              struct{ Defaults struct{ Unit string } }
	Targets                  []struct {
		Expr, LegendFormat, RefID string
		Datasource                source
	}
	Panels []panel // of a row
}

type source struct{ Type, UID string }

type grid struct{ H, W, X, Y int }

// chosen is the data source that a person chooses on the dashboard.
var chosen = source{"prometheus", "${datasource}"}

func readDashboard(t *testing.T) (d dashboard, text []byte) {
	t.Helper()
	text, err := os.ReadFile("../../grafana/bearerd.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	return d, text
}

// all returns the panels, those in rows and the rows included.
func (d dashboard) all() (all []panel) {
	for _, p := range d.Panels {
		all = append(append(all, p), p.Panels...)
	}
	return all
}

func TestDashboard(t *testing.T) {
	d, text := readDashboard(t)
	var indented bytes.Buffer
	if err := json.Indent(&indented, text, "", "  "); err != nil || !bytes.Equal(bytes.TrimSpace(indented.Bytes()), bytes.TrimSpace(text)) {
		t.Error("is not indented by two spaces")
	}
	var top map[string]any
	if err := json.Unmarshal(text, &top); err != nil {
		t.Fatal(err)
	}
	for _, noise := range []string{"id", "version", "__inputs", "iteration"} {
		if _, ok := top[noise]; ok {
			t.Errorf("%s is an export's own", noise)
		}
	}
	for _, problem := range d.problems() {
		t.Error(problem)
	}
}

// problems lists what a person would stumble over.
func (d dashboard) problems() (problems []string) {
	report := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if d.UID != "bearerd" || d.SchemaVersion < 39 || d.SchemaVersion > 41 {
		report("uid %q, schema %d: want bearerd and 39 to 41", d.UID, d.SchemaVersion)
	}
	for _, v := range d.Templating.List {
		if v.Type == "datasource" && v.Query != "prometheus" || v.Type == "query" && (v.Datasource == nil || *v.Datasource != chosen) {
			report("variable %s: another data source", v.Name)
		}
	}
	ids := map[int]bool{}
	taken := map[[2]int]string{}
	for _, p := range d.all() {
		if ids[p.ID] {
			report("%s: its id is another's", p.Title)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
					report("%s: overlaps %q, or the edge", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.Description == "" || p.FieldConfig.Defaults.Unit == "" || p.Datasource != chosen || len(p.Targets) == 0 {
			report("%s: lacks a description, unit, query, or the chosen data source", p.Title)
		}
		for _, q := range p.Targets {
			if q.Datasource != chosen {
				report("%s: asks another data source", p.Title)
			}
			for _, s := range selectors(q.Expr) {
				if !strings.Contains(s, `job=~"$job"`) || !strings.Contains(s, `instance=~"$instance"`) {
					report("%s: %s is not of the chosen job and instance", p.Title, s)
				}
			}
		}
	}
	return problems
}

func TestWrongDashboardFails(t *testing.T) {
	for want, spoil := range map[string]func(d *dashboard){
		"schema 1":                 func(d *dashboard) { d.SchemaVersion = 1 },
		"variable job":             func(d *dashboard) { d.Templating.List[1].Datasource = &source{"prometheus", "fixed"} },
		"its id is another's":      func(d *dashboard) { d.Panels[1].ID = d.Panels[0].ID },
		"overlaps \"Ready\"":       func(d *dashboard) { d.Panels[1].GridPos.X-- },
		"lacks a description":      func(d *dashboard) { d.Panels[2].Description = "" },
		"asks another data source": func(d *dashboard) { d.Panels[2].Targets[0].Datasource.UID = "fixed" },
		"not of the chosen job":    func(d *dashboard) { d.Panels[2].Targets[0].Expr = "sum(bearerd_login_stopped)" },
	} {
		d, _ := readDashboard(t)
		spoil(&d)
		if got := strings.Join(d.problems(), "\n"); !strings.Contains(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestDashboardOfARunningBearerd has a Prometheus answer each query of the
// dashboard: none may be empty, and each label in a legend must be there.
func TestDashboardOfARunningBearerd(t *testing.T) {
	t.Parallel()
	m := monitor(t)
	d, _ := readDashboard(t)
	variables := strings.NewReplacer("$job", ".*", "$instance", ".*", "$__rate_interval", "10s")
	problem := func(title, expr, legend string) string {
		expr = variables.Replace(expr)
		samples := m.query(t, expr)
		if len(samples) == 0 {
			return title + ": no result: " + expr
		}
		for _, label := range regexp.MustCompile(`{{(\w+)}}`).FindAllStringSubmatch(legend, -1) {
			if slices.ContainsFunc(samples, func(s sample) bool { return s.Metric[label[1]] == "" }) {
				return title + ": no label " + label[1]
			}
		}
		return ""
	}
	var asked int
	var problems []string
	defer func() {
		for _, problem := range problems {
			t.Error(problem)
		}
	}()
	// A quantile is NaN, and none is in the result, where nothing was observed
	// within the interval, so look again.
	testenv.Eventually(t, "a result of each query", func() bool {
		asked, problems = 0, nil
		check := func(title, expr, legend string) {
			asked++
			if p := problem(title, expr, legend); p != "" {
				problems = append(problems, p)
			}
		}
		for _, p := range d.all() {
			for _, q := range p.Targets {
				check(p.Title, q.Expr, q.LegendFormat)
			}
		}
		for _, a := range d.Annotations.List {
			check(a.Name, strings.TrimSuffix(a.Expr, " > 0"), "{{instance}}")
		}
		for _, v := range d.Templating.List {
			q, ok := v.Query.(map[string]any)
			if !ok {
				continue
			}
			parts := regexp.MustCompile(`^label_values\((.+), (\w+)\)$`).FindStringSubmatch(fmt.Sprint(q["query"]))
			if parts == nil {
				t.Fatalf("variable %s: %v is not label_values(series, label)", v.Name, q["query"])
			}
			check("variable "+v.Name, parts[1], "{{"+parts[2]+"}}")
		}
		return problems == nil
	})
	if asked < 25 {
		t.Errorf("queries: got %d, want more", asked)
	}
	for _, wrong := range [][2]string{
		{`sum(rate(bearerd_logins_total{result="refused"}[$__rate_interval]))`, ""},
		{`sum by (reason) (bearerd_login_stopped)`, "{{reason}}"},
		{`bearerd_token_age_seconds{job=~"$job"}`, ""},
	} {
		if problem("", wrong[0], wrong[1]) == "" {
			t.Errorf("%s: got a result, want none", wrong[0])
		}
	}
}
