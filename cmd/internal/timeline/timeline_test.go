package timeline_test

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/timeline"
)

// parse expects XML, and returns each element with its attributes as text.
func parse(t *testing.T, svg string) (elements []string) {
	t.Helper()
	for decoder := xml.NewDecoder(strings.NewReader("<svg>" + svg + "</svg>")); ; {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return elements
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, svg)
		}
		if e, ok := token.(xml.StartElement); ok {
			parts := []string{e.Name.Local}
			for _, a := range e.Attr {
				parts = append(parts, a.Name.Local+"="+a.Value)
			}
			elements = append(elements, strings.Join(parts, " "))
		}
	}
}

func expect(t *testing.T, svg string, want ...string) {
	t.Helper()
	all := strings.Join(parse(t, svg), "\n")
	for _, w := range want {
		if !strings.Contains(all, w) {
			t.Errorf("there is no %q in\n%s", w, all)
		}
	}
}

var panel = timeline.Panel{Top: 0, Bottom: 100}

func hour() *timeline.Drawing {
	return &timeline.Drawing{Length: time.Hour, Left: 0, Right: 100, Unit: "%"}
}

// A token falls from its lifetime to what is left of it when the next one comes,
// or to nothing.
func TestLife(t *testing.T) {
	t.Parallel()
	m := time.Minute
	d := hour()
	d.Life(panel, 10*m, []timeline.Token{
		{Requested: 0, From: 0, To: 6 * m, Lifetime: 10 * m},
		{Requested: 6 * m, From: 6 * m, To: 16 * m, Lifetime: 10 * m}, // nobody used it
		{Requested: 30 * m, From: 30 * m, To: 33 * m, Lifetime: 10 * m},
	}, timeline.Ink{Class: "life"})
	expect(t, d.String(),
		"line x1=0% y1=0 x2=10% y2=60",      // falls
		"line x1=10% y1=60 x2=10% y2=0",     // is renewed
		"line x1=10% y1=0 x2=26.67% y2=100", // ends
		"line x1=26.67% y1=100 x2=26.67% y2=100",
		"line x1=26.67% y1=100 x2=50% y2=100", // none
		"line x1=50% y1=100 x2=50% y2=0",
		"line x1=50% y1=0 x2=55% y2=30",
	)
}

// A token from before the drawing begins within it.
func TestLifeFromBefore(t *testing.T) {
	t.Parallel()
	d := hour()
	d.Life(panel, 10*time.Minute, []timeline.Token{{Requested: -5 * time.Minute, From: -5 * time.Minute, To: 3 * time.Minute, Lifetime: 10 * time.Minute}}, timeline.Ink{})
	expect(t, d.String(), "line x1=0% y1=50 x2=5% y2=80")
}

func TestBars(t *testing.T) {
	t.Parallel()
	d := hour()
	d.Bars(panel, 10, timeline.Series{Counts: []float64{0, 5, 0, 0}, Ink: timeline.Ink{Class: "well"}},
		timeline.Series{Counts: []float64{0, 5, 0, 0.001}, Ink: timeline.Ink{Class: "bad"}, Title: func(i int) string { return fmt.Sprint("<", i, ">") }})
	expect(t, d.String(), "rect x=25% y=50 width=25.75% height=50 class=well", "rect x=25% y=0 width=25.75% height=50 class=bad",
		"rect x=75% y=99 width=25.75% height=1 class=bad") // one of thousands is seen
	if !strings.Contains(d.String(), "<title>&lt;3&gt;</title>") {
		t.Error("a title is missing or not escaped")
	}
}

func TestCurve(t *testing.T) {
	t.Parallel()
	d := hour()
	d.Curve(panel, []float64{0.5, -1, 0.25, 1}, timeline.Ink{Class: "p50", Colour: "#123456"})
	if got := parse(t, d.String()); len(got) != 6 { // svg, g, three stretches and a step
		t.Errorf("got %q", got)
	}
}

// Whatever is named, no text becomes markup, and no number leaves the drawing.
func TestHostile(t *testing.T) {
	t.Parallel()
	const hostile = `</title><script>alert(1)</script>"'&`
	d := hour()
	d.Text(0, 0, "c", "start", hostile)
	for shape := range timeline.Diamond + 1 {
		d.Mark(99*time.Hour, 5, shape, timeline.Ink{Class: "c"}, hostile)
		d.Mark(-99*time.Hour, 5, shape, timeline.Ink{Class: "c", Colour: "#fff"}, hostile)
	}
	d.Rect(0, 0, 1, 0, 1, timeline.Ink{}, hostile)
	d.Life(panel, time.Minute, []timeline.Token{{Title: hostile, Lifetime: 9 * time.Hour, To: time.Second}}, timeline.Ink{})
	for _, e := range parse(t, d.String()) {
		if strings.HasPrefix(e, "script") {
			t.Error(e)
		}
	}
	expect(t, d.String(), "circle cx=100%", "circle cx=0%", "y1=0 ")
}
