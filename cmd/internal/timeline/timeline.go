// Package timeline draws a stretch of time as SVG: the life of tokens, logins,
// counts, durations. It knows lines and marks, and nothing of where they come
// from: the bad day's picture and the page's are both made by it.
package timeline

import (
	"fmt"
	"html"
	"strings"
	"time"
)

// Drawing is an SVG in the making. Time goes from Left to Right, which with
// Unit "%" are shares of the width: such a drawing fits any, and its letters
// stay as large as they are. Heights are pixels.
//
// Nothing but numbers and the constants of this program stands in an attribute,
// and whatever text there is, is escaped: html/template would not know which of
// SVG's attributes are dangerous.
type Drawing struct {
	strings.Builder
	Length      time.Duration
	Left, Right float64
	Unit        string
	Clip        float64 // where bars and curves end, though their last stretch does not; 0: nowhere
}

// Ink is how something is drawn: by a class, for a stylesheet, and by a colour
// where there is none.
type Ink struct{ Class, Colour string }

// Panel is where a quantity is drawn.
type Panel struct{ Top, Bottom float64 }

// Y is where share of p's height is.
func (p Panel) Y(share float64) float64 {
	return p.Bottom - min(max(share, 0), 1)*(p.Bottom-p.Top)
}

// X is where a time since the drawing's beginning is.
func (d *Drawing) X(at time.Duration) float64 {
	at = min(max(at, 0), d.Length)
	return d.Left + (d.Right-d.Left)*at.Seconds()/d.Length.Seconds()
}

func (d *Drawing) clipped(x float64) float64 {
	if d.Clip > 0 {
		return min(x, d.Clip)
	}
	return x
}

// Place is x as an attribute has it.
func (d *Drawing) Place(x float64) string { return number(x) + d.Unit }

// number is x to the hundredth, in as few letters as it takes.
func number(x float64) string {
	text := fmt.Sprintf("%.2f", x)
	return strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
}

// Add writes markup, which must hold nothing that came from elsewhere.
func (d *Drawing) Add(format string, args ...any) { fmt.Fprintf(d, format+"\n", args...) }

// Line draws a straight line.
func (d *Drawing) Line(x1, y1, x2, y2 float64, ink Ink) {
	d.Add(`<line x1="%s" y1="%s" x2="%s" y2="%s"%s/>`, d.Place(x1), number(y1), d.Place(x2), number(y2), stroke(ink))
}

// Rect draws a rectangle between two places, at least width wide in the
// drawing's unit.
func (d *Drawing) Rect(x1, x2, width, top, height float64, ink Ink, title string) {
	d.Add(`<rect x="%s" y="%s" width="%s" height="%s"%s>%s</rect>`, d.Place(x1), number(top), d.Place(max(x2-x1, width)), number(height), fill(ink), titled(title))
}

// Text writes. anchor is start, middle or end.
func (d *Drawing) Text(x, y float64, class, anchor, text string) {
	d.Add(`<text x="%s" y="%s" class="%s" text-anchor="%s">%s</text>`, d.Place(x), number(y), class, anchor, html.EscapeString(text))
}

func fill(ink Ink) string {
	if ink.Colour == "" {
		return fmt.Sprintf(` class="%s"`, ink.Class)
	}
	return fmt.Sprintf(` class="%s" fill="%s"`, ink.Class, ink.Colour)
}

func stroke(ink Ink) string {
	if ink.Colour == "" {
		return fmt.Sprintf(` class="%s"`, ink.Class)
	}
	return fmt.Sprintf(` class="%s" stroke="%s"`, ink.Class, ink.Colour)
}

func titled(text string) string {
	if text == "" {
		return ""
	}
	return "<title>" + html.EscapeString(text) + "</title>"
}

// Token is the life of a token. All times are since the drawing's beginning.
type Token struct {
	Requested time.Duration // from when on its lifetime counts
	From, To  time.Duration // while it was the one in use
	Lifetime  time.Duration
	Ended     bool // at To there was no token any more: it was refused
	Title     string
}

// Life draws each token as a line that falls from its lifetime to what was left
// of it, and from there up to the next. Where there was none, the line lies on
// the panel's bottom. full is the lifetime at the panel's top.
func (d *Drawing) Life(p Panel, full time.Duration, all []Token, ink Ink) {
	left := func(t Token, at time.Duration) float64 {
		return p.Y((t.Requested + t.Lifetime - at).Seconds() / full.Seconds())
	}
	line := func(x1, y1, x2, y2 float64) {
		fmt.Fprintf(d, `<line x1="%s" y1="%s" x2="%s" y2="%s"/>`, d.Place(x1), number(y1), d.Place(x2), number(y2))
	}
	for i, t := range all {
		over := t.Ended || t.To >= t.Requested+t.Lifetime
		x, y := d.X(t.To), left(t, t.To)
		fmt.Fprintf(d, `<g%s>%s`, stroke(ink), titled(t.Title))
		line(d.X(t.From), left(t, max(t.From, 0)), x, y)
		if over {
			line(x, y, x, p.Bottom)
			y = p.Bottom
		}
		if i+1 < len(all) {
			next := all[i+1]
			if at := d.X(next.From); over && at > x {
				line(x, y, at, y)
				x = at
			}
			line(x, y, x, left(next, max(next.From, 0)))
		}
		d.WriteString("</g>\n")
	}
}

// Series is a count for each of some equal stretches that the drawing's length
// is divided into.
type Series struct {
	Counts []float64
	Ink    Ink
	Title  func(i int) string // nil: none
}

// Bars draws series upon each other. most is the count at the panel's top.
func (d *Drawing) Bars(p Panel, most float64, all ...Series) {
	d.Add(`<g shape-rendering="crispEdges">`)
	var under []float64
	for _, s := range all {
		if under == nil {
			under = make([]float64, len(s.Counts))
		}
		step := (d.Right - d.Left) / float64(len(s.Counts))
		for i, count := range s.Counts {
			if count == 0 {
				continue
			}
			top, bottom := p.Y((under[i]+count)/most), p.Y(under[i]/most)
			under[i] += count
			if bottom-top < 1 {
				top = bottom - 1 // one failure among thousands is to be seen
			}
			title := ""
			if s.Title != nil {
				title = s.Title(i)
			}
			x := d.Left + float64(i)*step
			// A little over the next one, or rounding would part them.
			d.Rect(x, d.clipped(x+step*1.03), 0, top, bottom-top, s.Ink, title)
		}
	}
	d.Add("</g>")
}

// Curve draws shares of a panel's height as a line, which is broken where a
// share is negative.
func (d *Drawing) Curve(p Panel, shares []float64, ink Ink) {
	fmt.Fprintf(d, "<g%s>", stroke(ink))
	step := (d.Right - d.Left) / float64(len(shares))
	for i, share := range shares {
		if share < 0 {
			continue
		}
		x := d.Left + float64(i)*step
		y := number(p.Y(share))
		fmt.Fprintf(d, `<line x1="%s" y1="%s" x2="%s" y2="%s"/>`, d.Place(x), y, d.Place(d.clipped(x+step)), y)
		if i+1 < len(shares) && shares[i+1] >= 0 {
			x := d.Place(x + step)
			fmt.Fprintf(d, `<line x1="%s" y1="%s" x2="%s" y2="%s"/>`, x, y, x, number(p.Y(shares[i+1])))
		}
	}
	d.WriteString("</g>\n")
}

// Shape is a mark's form, so that nobody needs to tell colours apart.
type Shape int

const (
	Dot Shape = iota
	Cross
	Triangle
	Diamond
)

// Mark draws a mark at a place.
func (d *Drawing) Mark(at time.Duration, y float64, shape Shape, ink Ink, title string) {
	x := d.Place(d.X(at))
	switch shape {
	case Dot:
		d.Add(`<circle cx="%s" cy="%s" r="3.4"%s>%s</circle>`, x, number(y), fill(ink), titled(title))
		return
	case Cross:
		d.Add(`<svg x="%s" y="%s" overflow="visible"><path d="M-4-4 4 4M4-4-4 4" stroke-width="2.2"%s>%s</path></svg>`, x, number(y), stroke(ink), titled(title))
		return
	}
	path := "M0-4.6 4.6 3.6H-4.6z"
	if shape == Diamond {
		path = "M0-4.8 4.8 0 0 4.8-4.8 0z"
	}
	// A path has no shares of the width, but what holds it has.
	d.Add(`<svg x="%s" y="%s" overflow="visible"><path d="%s"%s>%s</path></svg>`, x, number(y), path, fill(ink), titled(title))
}
