package main

import (
	"fmt"
	"maps"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// results are what was measured.
type results struct {
	began time.Time
	rows  []*row
}

// row is one figure of one work.
type row struct {
	work      work
	figure    figure
	values    map[string]map[int]float64 // by program and round
	disturbed float64                    // the most that others had
}

func (r *results) add(w work, program string, round int, values []float64, disturbed float64) {
	for i, f := range w.figures {
		at := slices.IndexFunc(r.rows, func(row *row) bool { return row.work.name == w.name && row.figure == f })
		if at < 0 {
			at = len(r.rows)
			r.rows = append(r.rows, &row{work: w, figure: f, values: make(map[string]map[int]float64)})
		}
		if r.rows[at].values[program] == nil {
			r.rows[at].values[program] = make(map[int]float64)
		}
		r.rows[at].values[program][round] = values[i]
		r.rows[at].disturbed = max(r.rows[at].disturbed, disturbed)
	}
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// ratio is program's figure over nginx's, round by round: the machine may be
// slower in one than in another.
func (r *row) ratio(program string) float64 {
	var all []float64
	for i, v := range r.values[program] {
		if base := r.values["nginx"][i]; base > 0 {
			all = append(all, v/base)
		}
	}
	return median(all)
}

var names = []string{"nginx", "HAProxy", "bearerd", "Caddy"}

func machine() string {
	cpu := "unknown processor"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
				cpu = strings.TrimSpace(value)
				break
			}
		}
	}
	return fmt.Sprintf("%d × %s, %s", runtime.NumCPU(), cpu, runtime.Version())
}

func (r *results) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s; %s. Medians; in parentheses times nginx's, round by round.\n\n", r.began.Format("2 January 2006"), machine())
	fmt.Fprintf(&b, "| work | figure | %s | others on the machine |\n|---|---|%s---|\n", strings.Join(names, " | "), strings.Repeat("---|", len(names)))
	for _, row := range r.rows {
		fmt.Fprintf(&b, "| %s | %s, %s |", row.work.what, row.figure.name, row.figure.unit)
		for _, name := range names {
			v, ratio := median(slices.Collect(maps.Values(row.values[name]))), row.ratio(name)
			switch {
			case math.IsNaN(v):
				b.WriteString(" |")
			case math.IsNaN(ratio) || name == "nginx":
				fmt.Fprintf(&b, " %s |", short(v))
			default:
				fmt.Fprintf(&b, " %s (%s) |", short(v), short(ratio))
			}
		}
		fmt.Fprintf(&b, " up to %.0f %% |\n", row.disturbed*100)
	}
	return b.String()
}

func short(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// picture draws each first figure as times nginx's, on a logarithmic scale.
func (r *results) picture() []byte {
	const left, width, line, right = 250, 460, 18, 60
	rows := slices.DeleteFunc(slices.Clone(r.rows), func(row *row) bool {
		return row.work.bearerdOnly || row.figure != row.work.figures[0] || math.IsNaN(row.ratio("bearerd"))
	})
	const from, to = 0.125, 16.0
	x := func(v float64) float64 {
		v = min(max(v, from), to)
		return left + width*math.Log2(v/from)/math.Log2(to/from)
	}
	colours := map[string]string{"HAProxy": "#888888", "bearerd": "#1f6feb", "Caddy": "#d29922"}
	drawn := []string{"HAProxy", "bearerd", "Caddy"}
	height := 60 + len(rows)*(line+22)
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", left+width+right, height)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="#ffffff"/>`+"\n")
	fmt.Fprintf(&b, `<text x="10" y="18">Times nginx's, %s: less is better</text>`+"\n", r.began.Format("2 January 2006"))
	for i, name := range drawn {
		fmt.Fprintf(&b, `<circle cx="%d" cy="14" r="5" fill="%s"/><text x="%d" y="18">%s</text>`+"\n", left+190+i*85, colours[name], left+200+i*85, name)
	}
	for v := from; v <= to; v *= 2 {
		stroke := "#dddddd"
		if v == 1 {
			stroke = "#333333"
		}
		fmt.Fprintf(&b, `<path d="M%.1f 44V%d" stroke="%s"/><text x="%.1f" y="40" text-anchor="middle" fill="#555555">%g</text>`+"\n", x(v), height-8, stroke, x(v), v)
	}
	for i, row := range rows {
		y := 66 + i*(line+22)
		fmt.Fprintf(&b, `<text x="10" y="%d">%s</text><text x="10" y="%d" fill="#555555" font-size="10">%s</text>`+"\n", y, row.work.name+": "+row.figure.name, y+13, row.work.what)
		fmt.Fprintf(&b, `<path d="M%d %dH%d" stroke="#eeeeee"/>`+"\n", left, y, left+width)
		for _, name := range drawn {
			if v := row.ratio(name); !math.IsNaN(v) {
				fmt.Fprintf(&b, `<circle cx="%.1f" cy="%d" r="5" fill="%s"><title>%s %s</title></circle>`+"\n", x(v), y, colours[name], name, short(v))
			}
		}
	}
	b.WriteString("</svg>\n")
	return []byte(b.String())
}
