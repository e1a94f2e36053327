package page

import (
	"fmt"
	"html/template"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/display"
	"github.com/bearerd/bearerd/cmd/internal/history"
	"github.com/bearerd/bearerd/cmd/internal/timeline"
	"github.com/bearerd/bearerd/tokens"
)

// pictures are SVGs, each with what it shows in words.
type pictures struct {
	Life, Rate, Failed, Latency picture
	Span                        string // of time that they show
}

type picture struct {
	SVG    template.HTML
	Height int
	Words  string
	Most   string // what the top of the picture stands for
}

// spans are the stretches of time that pictures show, and what is between two
// times on their axis: a bearerd that has just begun has no hour to show.
var spans = []struct{ length, between time.Duration }{
	{2 * time.Minute, 30 * time.Second},
	{3 * time.Minute, time.Minute},
	{5 * time.Minute, time.Minute},
	{10 * time.Minute, 2 * time.Minute},
	{15 * time.Minute, 5 * time.Minute},
	{30 * time.Minute, 5 * time.Minute},
	{history.Kept, 10 * time.Minute},
}

const (
	// steps is how many stretches counts are drawn for, at most.
	steps = 120
	// ahead is the share of the picture that is yet to come.
	ahead = 0.12
)

// frame is what all pictures share: the time from left to right.
type frame struct {
	timeline.Drawing
	begin, now time.Time
	span       time.Duration // up to now
	step       time.Duration // that counts are added up for
	between    time.Duration // two times on the axis
}

func newFrame(h history.Snapshot) *frame {
	chosen := spans[len(spans)-1]
	for _, s := range spans {
		if h.Now.Sub(h.Start) <= s.length {
			chosen = s
			break
		}
	}
	span := chosen.length
	step := max(span/steps, history.Every)
	// Whole steps, so that the bars stand still until the next one begins.
	end := h.Now.Truncate(step).Add(step)
	begin := end.Add(-span)
	return &frame{
		Drawing: timeline.Drawing{Length: time.Duration(float64(span) * (1 + ahead)), Right: 100, Unit: "%"},
		begin:   begin, now: h.Now, span: span, step: step, between: chosen.between,
	}
}

// again is an empty drawing of the same time.
func (f *frame) again() *frame {
	return &frame{Drawing: timeline.Drawing{Length: f.Length, Right: 100, Unit: "%"}, begin: f.begin, now: f.now, span: f.span, step: f.step, between: f.between}
}

func (f *frame) at(t time.Time) time.Duration { return t.Sub(f.begin) }

// bars is the picture of the steps alone, in which bars stand, up to now.
func (f *frame) bars() *timeline.Drawing {
	return &timeline.Drawing{Length: f.span, Right: f.X(f.span), Unit: "%", Clip: f.X(f.at(f.now))}
}

// axis draws the clock below, and the moment that is now.
func (f *frame) axis(p timeline.Panel) {
	step, layout, edge := f.between, "15:04", 5.0
	if step < time.Minute {
		layout, edge = "15:04:05", 8
	}
	grid := timeline.Ink{Class: "grid"}
	f.Line(0, p.Bottom, 100, p.Bottom, grid)
	_, offset := f.begin.Zone() // or half hours would be wrong in India
	first := f.begin.Add(time.Duration(offset) * time.Second).Truncate(step).Add(-time.Duration(offset) * time.Second)
	for t := first.Add(step); !t.After(f.begin.Add(f.span)); t = t.Add(step) {
		x := f.X(f.at(t))
		f.Line(x, p.Top, x, p.Bottom+4, grid)
		switch {
		case f.begin.Add(f.span).Sub(t) < f.span/9: // where "now" stands
		case x < edge: // it would be cut
		default:
			f.Text(x, p.Bottom+17, "clock", "middle", t.Format(layout))
		}
	}
	x := f.X(f.at(f.now.Truncate(time.Second)))
	f.Line(x, p.Top, x, p.Bottom, timeline.Ink{Class: "now"})
	f.Text(x+0.6, p.Bottom+17, "clock now-text", "start", "now")
}

func (f *frame) picture(height int, words, most string) picture {
	return picture{SVG: template.HTML(f.String()), Height: height, Words: words, Most: most} // see timeline.Drawing: all text in it is escaped
}

func draw(f Facts) pictures {
	frame := newFrame(f.History)
	return pictures{
		Span:    display.Spoken(frame.span),
		Life:    life(frame.again(), f),
		Rate:    requests(frame.again(), f.History),
		Failed:  failed(frame.again(), f.History),
		Latency: latency(frame.again(), f.History),
	}
}

// life draws the tokens, the logins and the requests that found no token.
func life(d *frame, f Facts) picture {
	panel := timeline.Panel{Top: 8, Bottom: 128}
	const loginsAt, lostAt, bottom = 146, 158, 172
	all, full := lives(d, f)
	top := ""
	if full > 0 {
		top = display.Spoken(full)
	}
	full = max(full, time.Second)
	// What no token covers, up to now.
	uncovered := max(d.at(f.History.Start), 0)
	gap := func(from, to time.Duration) {
		if to > from {
			d.Rect(d.X(from), d.X(to), 0, panel.Top, panel.Bottom-panel.Top, timeline.Ink{Class: "gap"}, "no token was held for "+display.Spoken(to-from))
		}
	}
	for _, t := range all {
		gap(uncovered, t.From)
		uncovered = max(uncovered, t.To)
	}
	now := d.at(d.now.Truncate(time.Second))
	gap(uncovered, now)
	d.axis(timeline.Panel{Top: panel.Top, Bottom: bottom})
	d.Line(0, panel.Bottom, 100, panel.Bottom, timeline.Ink{Class: "grid"})
	d.Life(panel, full, all, timeline.Ink{Class: "life"})
	if t := f.Token; t.Good {
		left := func(at time.Duration) float64 { return panel.Y((d.at(t.Expiry) - at).Seconds() / full.Seconds()) }
		end := min(d.at(t.Expiry), d.Length)
		d.Line(d.X(now), left(now), d.X(end), left(end), timeline.Ink{Class: "life coming"})
		if at := d.at(t.Renewal); !t.Renewal.IsZero() && at < d.Length && at > now {
			d.Mark(at, left(at), timeline.Diamond, timeline.Ink{Class: "planned"}, "renewal planned for "+t.Renewal.Format(time.TimeOnly))
		}
	}
	good, bad := 0, 0
	for i := len(f.History.Logins) - 1; i >= 0; i-- {
		l := f.History.Logins[i]
		if l.At.Before(d.begin) || l.Waiting {
			continue
		}
		words := resultWords[l.Result]
		shape := timeline.Triangle
		switch l.Result {
		case tokens.OK:
			shape = timeline.Dot
			good++
		case tokens.Rejected:
			shape = timeline.Cross
			bad++
		default:
			bad++
		}
		d.Mark(d.at(l.At), loginsAt, shape, timeline.Ink{Class: "login-" + words.class},
			fmt.Sprintf("%s: login, %s (%s)", l.At.Format(time.TimeOnly), words.words, whyWords[l.Why]))
	}
	lost := counts(d, f.History.Buckets, func(b *history.Bucket) float64 { return float64(b.Counts[history.Login]) })
	var lostAll float64
	for _, n := range lost {
		lostAll += n
	}
	bars := d.bars()
	bars.Bars(timeline.Panel{Top: lostAt, Bottom: lostAt + 8}, 0.001, timeline.Series{Counts: lost, Ink: timeline.Ink{Class: "login"}, Title: func(i int) string {
		return fmt.Sprintf("%.0f requests failed for want of a token", lost[i])
	}})
	d.WriteString(bars.String())
	words := fmt.Sprintf("In the last %s: %d logins brought a token, %d did not; %.0f requests failed for want of a token.", display.Spoken(d.span), good, bad, lostAll)
	return d.picture(int(bottom)+24, words, top)
}

// lives are the tokens that the picture shows, the oldest first, and the longest
// lifetime.
func lives(d *frame, f Facts) (all []timeline.Token, full time.Duration) {
	now := d.at(d.now)
	logins := f.History.Logins
	for i := len(logins) - 1; i >= 0; i-- {
		l := logins[i]
		if l.Result != tokens.OK {
			continue
		}
		if n := len(all); n > 0 {
			last := &all[n-1]
			last.To = min(last.To, d.at(l.At))
		}
		end := min(d.at(l.Expiry), now)
		all = append(all, timeline.Token{
			Requested: d.at(l.Requested), From: d.at(l.At), To: max(end, d.at(l.At)), Lifetime: l.Lifetime,
			Title: fmt.Sprintf("token %d, since %s, for %s", l.Generation, l.At.Format(time.TimeOnly), display.Spoken(l.Lifetime)),
		})
	}
	if t := f.Token; t.Good && !slices.ContainsFunc(logins, func(l history.LoginRecord) bool { return l.Generation == t.Generation }) {
		// Its login is not among those that are kept, or was another process's.
		from := d.at(t.Requested)
		if n := len(all); n > 0 {
			all[n-1].To = min(all[n-1].To, from)
		}
		all = append(all, timeline.Token{Requested: from, From: from, To: max(now, from), Lifetime: t.Lifetime, Title: fmt.Sprintf("token %d, for %s", t.Generation, display.Spoken(t.Lifetime))})
	}
	shown := all[:0]
	for _, t := range all {
		if t.To >= 0 && t.To >= t.From {
			shown = append(shown, t)
			full = max(full, t.Lifetime)
		}
	}
	return shown, full
}

// counts adds up what value gives of each bucket, by the picture's steps.
func counts(d *frame, buckets []history.Bucket, value func(*history.Bucket) float64) []float64 {
	all := make([]float64, int(d.span/d.step))
	for i := range buckets {
		b := &buckets[i]
		if k := d.stepOf(b); k >= 0 && k < len(all) {
			all[k] += value(b)
		}
	}
	return all
}

func (f *frame) stepOf(b *history.Bucket) int {
	return int(math.Floor(float64(f.at(b.At())) / float64(f.step)))
}

func most(all []float64) (m float64) {
	for _, n := range all {
		m = max(m, n)
	}
	return m
}

var requestPanel = timeline.Panel{Top: 8, Bottom: 108}

const requestHeight = 132

// requests draws how many requests went well and failed.
func requests(d *frame, h history.Snapshot) picture {
	well := counts(d, h.Buckets, func(b *history.Bucket) float64 { return float64(b.Counts[history.Well]) })
	bad := counts(d, h.Buckets, func(b *history.Bucket) float64 { return float64(b.Counts.Failed()) })
	sum := make([]float64, len(well))
	var all, failed float64
	for i := range sum {
		sum[i] = well[i] + bad[i]
		all += sum[i]
		failed += bad[i]
	}
	top := max(most(sum), 1)
	d.axis(requestPanel)
	bars := d.bars()
	bars.Bars(requestPanel, top, timeline.Series{Counts: well, Ink: timeline.Ink{Class: "well"}}, timeline.Series{Counts: bad, Ink: timeline.Ink{Class: "bad"}})
	d.WriteString(bars.String())
	return d.picture(requestHeight, fmt.Sprintf("Requests in the last %s: %.0f, of which %.0f failed.", display.Spoken(d.span), all, failed), perSecond(top/d.step.Seconds()))
}

// failed draws the failures by whose fault they were.
func failed(d *frame, h history.Snapshot) picture {
	var series []timeline.Series
	sum := make([]float64, int(d.span/d.step))
	var words []string
	for fault := history.Well + 1; int(fault) < history.Faults; fault++ {
		n := counts(d, h.Buckets, func(b *history.Bucket) float64 { return float64(b.Counts[fault]) })
		all := 0.0
		for i := range n {
			sum[i] += n[i]
			all += n[i]
		}
		named := faultWords[fault]
		series = append(series, timeline.Series{Counts: n, Ink: timeline.Ink{Class: named.class}, Title: func(i int) string {
			return fmt.Sprintf("%.0f: %s", n[i], named.name)
		}})
		words = append(words, fmt.Sprintf("%.0f %s", all, named.name))
	}
	top := max(most(sum), 1)
	d.axis(requestPanel)
	bars := d.bars()
	bars.Bars(requestPanel, top, series...)
	d.WriteString(bars.String())
	return d.picture(requestHeight, fmt.Sprintf("Failures in the last %s: %s.", display.Spoken(d.span), strings.Join(words, "; ")), perSecond(top/d.step.Seconds()))
}

// latency draws how long half of the requests took at most, and 99 of 100.
func latency(d *frame, h history.Snapshot) picture {
	all := make([]history.Latency, int(d.span/d.step))
	var whole history.Latency
	for i := range h.Buckets {
		b := &h.Buckets[i]
		if k := d.stepOf(b); k >= 0 && k < len(all) {
			all[k].Merge(&b.Latency)
			whole.Merge(&b.Latency)
		}
	}
	p50, p99 := make([]float64, len(all)), make([]float64, len(all))
	top := 10 * time.Millisecond
	for i := range all {
		top = max(top, all[i].Quantile(0.99))
	}
	// By magnitude: both a millisecond and a minute are to be read.
	least := 100 * time.Microsecond
	ceiling := least
	for ceiling < top {
		ceiling *= 10
	}
	share := func(d time.Duration) float64 {
		if d == 0 {
			return -1 // no request
		}
		return max(math.Log(float64(d)/float64(least)), 0) / math.Log(float64(ceiling)/float64(least))
	}
	for i := range all {
		p50[i], p99[i] = share(all[i].Quantile(0.5)), share(all[i].Quantile(0.99))
	}
	d.axis(requestPanel)
	for t := least; t <= ceiling; t *= 10 {
		y := requestPanel.Y(share(t))
		d.Line(0, y, 100, y, timeline.Ink{Class: "grid"})
		if t < ceiling {
			d.Text(100, y-3, "clock level", "end", display.Spoken(t))
		}
	}
	bars := d.bars()
	bars.Curve(requestPanel, p99, timeline.Ink{Class: "p99"})
	bars.Curve(requestPanel, p50, timeline.Ink{Class: "p50"})
	d.WriteString(bars.String())
	words := "No request went upstream."
	if q := whole.Quantile(0.5); q > 0 {
		words = fmt.Sprintf("In the last %s half of the requests took at most %s, and 99 of 100 at most %s.", display.Spoken(d.span), display.Spoken(q), display.Spoken(whole.Quantile(0.99)))
	}
	return d.picture(requestHeight, words, display.Spoken(ceiling))
}

func perSecond(n float64) string {
	switch {
	case n >= 100:
		return fmt.Sprintf("%.0f/s", n)
	case n >= 0.995:
		return fmt.Sprintf("%.1f/s", n)
	}
	return fmt.Sprintf("%.1f/min", n*60)
}

// numbersOf are of the last minute.
func numbersOf(h history.Snapshot) []number {
	var sum history.Counts
	var took history.Latency
	since := h.Now.Add(-time.Minute)
	for i := range h.Buckets {
		b := &h.Buckets[i]
		if b.At().Before(since) {
			continue
		}
		for fault, n := range b.Counts {
			sum[fault] += n
		}
		took.Merge(&b.Latency)
	}
	var whose []string
	for fault := history.Well + 1; int(fault) < history.Faults; fault++ {
		if n := sum[fault]; n > 0 {
			whose = append(whose, grouped(n)+" "+faultWords[fault].name)
		}
	}
	class := "bad-text"
	if len(whose) == 0 {
		whose, class = []string{"none"}, ""
	}
	all := []number{
		{"Requests", perSecond(float64(sum.All()) / min(60, max(h.Now.Sub(h.Start).Seconds(), 1))), ""},
		{"Failed", strings.Join(whose, ", "), class},
		{"Half took at most", "–", ""},
		{"99 of 100", "–", ""},
	}
	if q := took.Quantile(0.5); q > 0 {
		all[2].Value, all[3].Value = display.Spoken(q), display.Spoken(took.Quantile(0.99))
	}
	return all
}
