package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/timeline"
)

// The picture's places, in pixels. All panels share the axis of time.
const (
	width, height = 1200, 700
	left, right   = 64, 1180
	labelsAt      = 78
	labelHeight   = 14
	axisAt        = 632
	legendAt      = 662
)

var (
	lifePanel    = timeline.Panel{Top: 140, Bottom: 238}
	ratePanel    = timeline.Panel{Top: 268, Bottom: 366}
	failurePanel = timeline.Panel{Top: 396, Bottom: 494}
	loginPanel   = timeline.Panel{Top: 524, Bottom: 620}
)

// style gives colours for a light and for a dark page. Where a page forbids it,
// as by Content-Security-Policy, those of the attributes are left, which do on
// white.
const style = `
svg { background: #fff; color: #24292f; font: 12px system-ui, sans-serif; --grid: #d8dee4; --faint: #57606a; --edge: #fff }
@media (prefers-color-scheme: dark) { svg { background: #0d1117; color: #e6edf3; --grid: #30363d; --faint: #9198a1; --edge: #0d1117 } }
text { fill: currentColor }
.title { font-size: 18px; font-weight: 600 }
.faint { fill: var(--faint); font-size: 11px }
.grid { stroke: var(--grid); fill: none }
.line { fill: none; stroke-width: 1.3; stroke-linecap: round }
.dot { stroke: var(--edge); stroke-width: .8 }
.rev { stroke: #a35bd6; stroke-dasharray: 2 3 }
.login { fill: #d9822b } .up { fill: #12908e } .roll { fill: #6e7fd1 }
`

// failureColours are by code; any other code is drawn as the last.
var failureColours = []struct{ code, colour string }{
	{"login_unavailable", "#e3a008"},
	{"login_rejected", "#d1495b"},
	{"401", "#a35bd6"},
	{"upstream_unreachable", "#12908e"},
	{cutShort, "#7d8b99"},
	{"other", "#ff0000"},
}

var loginColours = []struct {
	result result
	colour string
}{{ok, "#2f9e57"}, {rejected, "#d1495b"}, {throttled, "#3b82e0"}, {transient, "#e3a008"}}

// drawing is the picture in the making.
type drawing struct{ timeline.Drawing }

// grid draws a line of the grid.
func (g *drawing) grid(x1, y1, x2, y2 float64) {
	g.Line(x1, y1, x2, y2, timeline.Ink{Class: "grid", Colour: "#d8dee4"})
}

// picture draws the day as a self-contained SVG.
func picture(d *day, v verdict) []byte {
	g := &drawing{timeline.Drawing{Length: d.dayEnd(), Left: left, Right: right}}
	total := 0
	for _, n := range v.requests {
		total += n
	}
	logins := 0
	for _, n := range v.logins {
		logins += n
	}
	g.Add(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img"><title>A bad day for bearerd</title><style>%s</style>`,
		width, height, width, height, style)
	g.Text(left, 30, "title", "start", "A bad day for bearerd")
	g.Text(left, 50, "", "start", fmt.Sprintf("%s, tokens of %v · %d requests · failed while a good token was held, or could be had, and upstream was up: %d · "+
		"logins: %d, of which %d were necessary · lock-outs: %d", shortly(d.schedule.length), d.schedule.lifetime, total, len(v.blamed), logins, v.minimum, v.lockouts))
	g.bands(d)
	g.life(d)
	g.rate(d)
	g.failures(d)
	g.logins(d)
	g.axis()
	g.legend()
	g.Add("</svg>")
	return []byte(g.String())
}

// bands are the faults, over all panels, each with its name above them.
func (g *drawing) bands(d *day) {
	var rows []float64 // where each row of names ends
	for _, b := range d.bands {
		from, to := g.X(b.from), g.X(b.over)
		if b.kind == revocation {
			g.Line(from, lifePanel.Top, from, loginPanel.Bottom, timeline.Ink{Class: "rev", Colour: "#a35bd6"})
			continue
		}
		g.Add(`<g opacity=".17">`)
		g.Rect(from, to, 2, lifePanel.Top-8, loginPanel.Bottom-lifePanel.Top+8, bandInk(b.kind), "")
		g.Add("</g>")
		const letter = 5.7
		name := strings.ReplaceAll(b.label(), "login outage", "outage")
		wide := letter * float64(len(name))
		at := min(from, right-wide)
		row := slices.IndexFunc(rows, func(end float64) bool { return end < at })
		if row < 0 {
			row = len(rows)
			rows = append(rows, 0)
		}
		rows[row] = at + wide + 8
		y := float64(labelsAt + labelHeight*row)
		g.grid(from, y+3, from, lifePanel.Top-8)
		g.Text(at, y, "faint", "start", name)
	}
}

// bandInk is how a fault of a kind is drawn.
func bandInk(k kind) timeline.Ink {
	switch k {
	case upstreamRestart:
		return timeline.Ink{Class: "up", Colour: "#12908e"}
	case rolling:
		return timeline.Ink{Class: "roll", Colour: "#6e7fd1"}
	}
	return timeline.Ink{Class: "login", Colour: "#d9822b"}
}

func (g *drawing) frame(p timeline.Panel, title, most string) {
	g.grid(left, p.Bottom, right, p.Bottom)
	g.Text(left, p.Top-6, "faint", "start", title)
	if most != "" {
		g.Text(left-6, p.Top+4, "faint", "end", most)
		g.Text(left-6, p.Bottom+4, "faint", "end", "0")
	}
}

// processInk is how the tokens of a process are drawn, in turn.
func processInk(n int) timeline.Ink {
	return timeline.Ink{Class: "line", Colour: []string{"#3b82e0", "#d9822b"}[n%2]}
}

// life is what is left of each process's token.
func (g *drawing) life(d *day) {
	g.frame(lifePanel, "token life left, in each process", d.schedule.lifetime.String())
	for n, i := range d.instances {
		own := slices.DeleteFunc(slices.Clone(d.services.tokens), func(t *token) bool { return t.instance != i.number })
		slices.SortFunc(own, func(a, b *token) int { return cmp.Compare(a.issued, b.issued) })
		var tokens []timeline.Token
		for k, t := range own {
			last := min(t.ends, i.ended)
			if k+1 < len(own) {
				last = min(last, own[k+1].issued)
			}
			tokens = append(tokens, timeline.Token{Requested: t.requested, From: t.issued, To: last, Lifetime: d.schedule.lifetime, Ended: t.ends <= last})
		}
		g.Life(lifePanel, d.schedule.lifetime, tokens, processInk(n))
	}
}

// buckets is how many stretches the counts are of.
const buckets = 300

func (g *drawing) bucket(at time.Duration) int {
	return min(int(buckets*at.Seconds()/g.Length.Seconds()), buckets-1)
}

func (g *drawing) rate(d *day) {
	counts := make([]float64, buckets)
	for _, r := range d.load.requests {
		if r.code == "" {
			counts[g.bucket(r.end)]++
		}
	}
	each := g.Length.Seconds() / buckets
	most := max(slices.Max(counts), 1)
	g.frame(ratePanel, "requests answered well, a second", fmt.Sprintf("%.0f", most/each))
	g.Add(`<g opacity=".75">`)
	g.Bars(ratePanel, most, timeline.Series{Counts: counts, Ink: timeline.Ink{Class: "rate", Colour: "#3b82e0"}})
	g.Add("</g>")
}

func (g *drawing) failures(d *day) {
	all := make([]timeline.Series, len(failureColours))
	for n, f := range failureColours {
		all[n] = timeline.Series{Counts: make([]float64, buckets), Ink: timeline.Ink{Class: "failed", Colour: f.colour}}
	}
	var sums [buckets]float64
	for _, r := range d.load.requests {
		if r.code == "" {
			continue
		}
		n := slices.IndexFunc(failureColours, func(f struct{ code, colour string }) bool { return f.code == r.code })
		if n < 0 {
			n = len(failureColours) - 1
		}
		all[n].Counts[g.bucket(r.end)]++
		sums[g.bucket(r.end)]++
	}
	each := g.Length.Seconds() / buckets
	most := max(slices.Max(sums[:]), 1)
	g.frame(failurePanel, "requests failed, a second, by code", fmt.Sprintf("%.0f", most/each))
	g.Bars(failurePanel, most, all...)
}

func (g *drawing) logins(d *day) {
	g.frame(loginPanel, "logins, by result", "")
	for n, c := range loginColours {
		y := loginPanel.Top + 14 + 23*float64(n)
		g.Text(left-6, y+4, "faint", "end", string(c.result))
		g.Add(`<line class="grid" stroke="#d8dee4" stroke-dasharray="1 4" x1="%d" y1="%.0f" x2="%d" y2="%.0f"/>`, left, y, right, y)
		for _, l := range d.services.logins {
			if l.instance > 0 && l.result == c.result {
				g.Mark(l.arrived, y, timeline.Dot, timeline.Ink{Class: "dot", Colour: c.colour}, "")
			}
		}
	}
}

func (g *drawing) axis() {
	step := 5 * time.Second
	if g.Length > 2*time.Minute {
		step = time.Minute
	}
	for at := time.Duration(0); at <= g.Length; at += step {
		g.grid(g.X(at), loginPanel.Bottom, g.X(at), loginPanel.Bottom+5)
		g.Text(g.X(at), axisAt+6, "faint", "middle", fmt.Sprintf("%d:%02d", int(at.Minutes()), int(at.Seconds())%60))
	}
}

// legend is two lines: what the bands are, and the codes of failures.
func (g *drawing) legend() {
	x := float64(left)
	entry := func(mark, name string, y float64) {
		g.Add(`<g transform="translate(%.1f %.0f)">%s<text x="18" class="faint">%s</text></g>`, x, y, mark, name)
		x += 34 + 6*float64(len(name))
	}
	for _, b := range []struct {
		kind kind
		name string
	}{{outage, "login fails"}, {upstreamRestart, "upstream is down"}, {rolling, "rolling restart, to the old process's end"}} {
		ink := bandInk(b.kind)
		entry(fmt.Sprintf(`<rect class="%s" fill="%s" opacity=".4" y="-9" width="13" height="10"/>`, ink.Class, ink.Colour), b.name, legendAt)
	}
	entry(`<line class="rev" stroke="#a35bd6" x1="6" y1="-10" x2="6" y2="2"/>`, "all tokens revoked", legendAt)
	entry(fmt.Sprintf(`<line class="line" stroke="%s" x1="0" y1="-4" x2="13" y2="-4"/>`, processInk(0).Colour), "token of a process", legendAt)
	entry(fmt.Sprintf(`<line class="line" stroke="%s" x1="0" y1="-4" x2="13" y2="-4"/>`, processInk(1).Colour), "of the next one", legendAt)
	x = left
	for _, f := range failureColours {
		entry(fmt.Sprintf(`<rect fill="%s" y="-9" width="13" height="10"/>`, f.colour), f.code, legendAt+20)
	}
}
