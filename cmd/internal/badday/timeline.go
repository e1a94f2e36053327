package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// The timeline's places, in pixels. All panels share the axis of time.
const (
	width, height = 1200, 700
	left, right   = 64, 1180
	labelsAt      = 78
	labelHeight   = 14
	axisAt        = 632
	legendAt      = 662
)

// panel is where a quantity is drawn.
type panel struct{ top, bottom float64 }

var (
	lifePanel    = panel{140, 238}
	ratePanel    = panel{268, 366}
	failurePanel = panel{396, 494}
	loginPanel   = panel{524, 620}
)

// style gives colours for a light and for a dark page.
const style = `
svg { background: #fff; color: #24292f; font: 12px system-ui, sans-serif; --grid: #d8dee4; --faint: #57606a; --edge: #fff }
@media (prefers-color-scheme: dark) { svg { background: #0d1117; color: #e6edf3; --grid: #30363d; --faint: #9198a1; --edge: #0d1117 } }
text { fill: currentColor }
.title { font-size: 18px; font-weight: 600 }
.faint { fill: var(--faint); font-size: 11px }
.grid { stroke: var(--grid); fill: none }
.line { fill: none; stroke-width: 1.3 }
.dot { stroke: var(--edge); stroke-width: .8 }
.rev { stroke: #a35bd6; stroke-dasharray: 2 3 }
.login { fill: #d9822b } .up { fill: #12908e } .roll { fill: #6e7fd1 }
.band { opacity: .17 }
.rate { fill: #3b82e0; opacity: .75 }
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

// drawing is an SVG in the making.
type drawing struct {
	strings.Builder
	length time.Duration
}

func (g *drawing) add(format string, args ...any) { fmt.Fprintf(g, format+"\n", args...) }

func (g *drawing) x(at time.Duration) float64 {
	at = min(max(at, 0), g.length)
	return left + (right-left)*at.Seconds()/g.length.Seconds()
}

// y is where share of p's height is.
func (p panel) y(share float64) float64 { return p.bottom - share*(p.bottom-p.top) }

func (g *drawing) text(x, y float64, class, anchor, text string) {
	g.add(`<text x="%.1f" y="%.1f" class="%s" text-anchor="%s">%s</text>`, x, y, class, anchor, text)
}

// timeline draws the day as a self-contained SVG.
func timeline(d *day, v verdict) []byte {
	g := &drawing{length: d.dayEnd()}
	total := 0
	for _, n := range v.requests {
		total += n
	}
	logins := 0
	for _, n := range v.logins {
		logins += n
	}
	g.add(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img"><title>A bad day for bearerd</title><style>%s</style>`,
		width, height, width, height, style)
	g.text(left, 30, "title", "start", "A bad day for bearerd")
	g.text(left, 50, "", "start", fmt.Sprintf("%s, tokens of %v · %d requests · failed while a good token was held, or could be had, and upstream was up: %d · "+
		"logins: %d, of which %d were necessary · lock-outs: %d", shortly(d.schedule.length), d.schedule.lifetime, total, len(v.blamed), logins, v.minimum, v.lockouts))
	g.bands(d)
	g.life(d)
	g.rate(d)
	g.failures(d)
	g.logins(d)
	g.axis()
	g.legend()
	g.add("</svg>")
	return []byte(g.String())
}

// bands are the faults, over all panels, each with its name above them.
func (g *drawing) bands(d *day) {
	var rows []float64 // where each row of names ends
	for _, b := range d.bands {
		from, to := g.x(b.from), g.x(b.over)
		if b.kind == revocation {
			g.add(`<path class="rev" d="M%.1f %.0fV%.0f"/>`, from, lifePanel.top, loginPanel.bottom)
			continue
		}
		class := "login"
		switch b.kind {
		case upstreamRestart:
			class = "up"
		case rolling:
			class = "roll"
		}
		g.add(`<rect class="band %s" x="%.1f" y="%.0f" width="%.1f" height="%.0f"/>`, class, from, lifePanel.top-8, max(to-from, 2), loginPanel.bottom-lifePanel.top+8)
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
		g.add(`<path class="grid" d="M%.1f %.0fV%.0f"/>`, from, y+3, lifePanel.top-8)
		g.text(at, y, "faint", "start", name)
	}
}

func (g *drawing) frame(p panel, title, most string) {
	g.add(`<path class="grid" d="M%d %.0fH%d"/>`, left, p.bottom, right)
	g.text(left, p.top-6, "faint", "start", title)
	if most != "" {
		g.text(left-6, p.top+4, "faint", "end", most)
		g.text(left-6, p.bottom+4, "faint", "end", "0")
	}
}

// life is what is left of each process's token.
func (g *drawing) life(d *day) {
	g.frame(lifePanel, "token life left, in each process", d.schedule.lifetime.String())
	for n, i := range d.instances {
		var path strings.Builder
		own := slices.DeleteFunc(slices.Clone(d.services.tokens), func(t *token) bool { return t.instance != i.number })
		slices.SortFunc(own, func(a, b *token) int { return cmp.Compare(a.issued, b.issued) })
		command := "M"
		for k, t := range own {
			last := min(t.ends, i.ended)
			if k+1 < len(own) {
				last = min(last, own[k+1].issued)
			}
			left := func(at time.Duration) float64 {
				return lifePanel.y((t.requested + d.schedule.lifetime - at).Seconds() / d.schedule.lifetime.Seconds())
			}
			fmt.Fprintf(&path, "%s%.1f %.1fL%.1f %.1f", command, g.x(t.issued), left(t.issued), g.x(last), left(last))
			if command = "L"; t.ends <= last {
				fmt.Fprintf(&path, "V%.0f", lifePanel.bottom)
				if k+1 < len(own) {
					fmt.Fprintf(&path, "H%.1f", g.x(own[k+1].issued))
				}
			}
		}
		g.add(`<path class="line" stroke="%s" d="%s"/>`, []string{"#3b82e0", "#d9822b"}[n%2], path.String())
	}
}

// buckets is how many stretches the counts are of.
const buckets = 300

func (g *drawing) bucket(at time.Duration) int {
	return min(int(buckets*at.Seconds()/g.length.Seconds()), buckets-1)
}

func (g *drawing) rate(d *day) {
	var counts [buckets]float64
	for _, r := range d.load.requests {
		if r.code == "" {
			counts[g.bucket(r.end)]++
		}
	}
	each := g.length.Seconds() / buckets
	most := slices.Max(counts[:])
	g.frame(ratePanel, "requests answered well, a second", fmt.Sprintf("%.0f", most/each))
	fmt.Fprintf(g, `<path class="rate" d="M%d %.0f`, left, ratePanel.bottom)
	for n, count := range counts {
		fmt.Fprintf(g, "V%.1fH%.1f", ratePanel.y(count/most), left+float64(n+1)*(right-left)/buckets)
	}
	g.add(`V%.0fZ"/>`, ratePanel.bottom)
}

func (g *drawing) failures(d *day) {
	counts := make([][buckets]float64, len(failureColours))
	var sums [buckets]float64
	for _, r := range d.load.requests {
		if r.code == "" {
			continue
		}
		n := slices.IndexFunc(failureColours, func(f struct{ code, colour string }) bool { return f.code == r.code })
		if n < 0 {
			n = len(failureColours) - 1
		}
		counts[n][g.bucket(r.end)]++
		sums[g.bucket(r.end)]++
	}
	each := g.length.Seconds() / buckets
	most := max(slices.Max(sums[:]), 1)
	g.frame(failurePanel, "requests failed, a second, by code", fmt.Sprintf("%.0f", most/each))
	var under [buckets]float64
	for n, f := range failureColours {
		var path strings.Builder
		for k, count := range counts[n] {
			if count == 0 {
				continue
			}
			at := left + float64(k)*(right-left)/buckets
			fmt.Fprintf(&path, "M%.1f %.1fV%.1fh%.1fV%.1fz", at, failurePanel.y(under[k]/most), failurePanel.y((under[k]+count)/most),
				float64(right-left)/buckets, failurePanel.y(under[k]/most))
			under[k] += count
		}
		if path.Len() > 0 {
			g.add(`<path fill="%s" d="%s"/>`, f.colour, path.String())
		}
	}
}

func (g *drawing) logins(d *day) {
	g.frame(loginPanel, "logins, by result", "")
	for n, c := range loginColours {
		y := loginPanel.top + 14 + 23*float64(n)
		g.text(left-6, y+4, "faint", "end", string(c.result))
		g.add(`<path class="grid" stroke-dasharray="1 4" d="M%d %.0fH%d"/>`, left, y, right)
		for _, l := range d.services.logins {
			if l.instance > 0 && l.result == c.result {
				g.add(`<circle class="dot" cx="%.1f" cy="%.0f" r="3.2" fill="%s"/>`, g.x(l.arrived), y, c.colour)
			}
		}
	}
}

func (g *drawing) axis() {
	step := 5 * time.Second
	if g.length > 2*time.Minute {
		step = time.Minute
	}
	for at := time.Duration(0); at <= g.length; at += step {
		g.add(`<path class="grid" d="M%.1f %.0fv5"/>`, g.x(at), loginPanel.bottom)
		g.text(g.x(at), axisAt+6, "faint", "middle", fmt.Sprintf("%d:%02d", int(at.Minutes()), int(at.Seconds())%60))
	}
}

// legend is two lines: what the bands are, and the codes of failures.
func (g *drawing) legend() {
	x := float64(left)
	entry := func(mark, name string, y float64) {
		g.add(`<g transform="translate(%.1f %.0f)">%s<text x="18" class="faint">%s</text></g>`, x, y, mark, name)
		x += 34 + 6*float64(len(name))
	}
	for _, b := range []struct{ class, name string }{{"login", "login fails"}, {"up", "upstream is down"}, {"roll", "rolling restart, to the old process's end"}} {
		entry(fmt.Sprintf(`<rect class="%s" opacity=".4" y="-9" width="13" height="10"/>`, b.class), b.name, legendAt)
	}
	entry(`<path class="rev" d="M6 -10v12"/>`, "all tokens revoked", legendAt)
	entry(`<path class="line" stroke="#3b82e0" d="M0 -4h13"/>`, "token of a process", legendAt)
	entry(`<path class="line" stroke="#d9822b" d="M0 -4h13"/>`, "of the next one", legendAt)
	x = left
	for _, f := range failureColours {
		entry(fmt.Sprintf(`<rect fill="%s" y="-9" width="13" height="10"/>`, f.colour), f.code, legendAt+20)
	}
}
