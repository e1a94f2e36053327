package page

import (
	"cmp"
	"fmt"
	"html/template"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/bearerd/bearerd/cmd/internal/advice"
	"github.com/bearerd/bearerd/cmd/internal/display"
	"github.com/bearerd/bearerd/cmd/internal/history"
	"github.com/bearerd/bearerd/proxy"
	"github.com/bearerd/bearerd/tokens"
)

// parts are the templates that an open page is told anew. Each is one element
// with an id.
var parts = []string{"health", "life", "traffic", "requests", "logins", "tools", "about"}

// shownLogins is how many logins are listed.
const shownLogins = 50

// shownRequests is how many requests are listed at most.
const shownRequests = 200

// view is what the templates show.
type view struct {
	Version string // of the page's files
	Title   string
	Health  advice.Health
	Symbol  string
	Now     string
	Zone    string
	Open    bool // paths, user agents and settings are shown
	Button  bool // who looks may log in from here
	Command string

	Pictures pictures
	Numbers  []number
	Filter   filter
	Requests []row
	Kept     string // of how many these are
	Logins   []loginRow
	Settings []Setting
	Tools    []tool
	Others   string // requests of tools that are not listed
	Paste    []Paste
	Listen   []string
	About    []fact
}

// number is one that stands above a picture.
type number struct{ Name, Value, Class string }

type fact struct{ Name, Value string }

// row is a request.
type row struct {
	ID, Time, Exact, Method, Path, Status, Took, Waited, In, Out, Replayed string
	Class                                                                  string // by whose fault
	What, Cause, Remedy                                                    string
}

type loginRow struct {
	ID, Time, Exact, Why, Result, Took, Token, Rule, Cause, Remedy, Class, Symbol string
}

type tool struct{ ID, Name, Requests, Last string }

// filter is which requests are to be shown.
type filter struct {
	Failed bool
	Path   string
	Slow   time.Duration
}

// slowest are the choices of filter.Slow.
var slowest = []time.Duration{0, 100 * time.Millisecond, time.Second, 10 * time.Second}

func filterOf(q url.Values) filter {
	f := filter{Failed: q.Get("failed") != "", Path: q.Get("path")}
	f.Path = f.Path[:min(len(f.Path), 200)]
	if d, err := time.ParseDuration(q.Get("slow")); err == nil && slices.Contains(slowest, d) {
		f.Slow = d
	}
	return f
}

func (f filter) is(r history.Request) bool {
	return (!f.Failed || r.Fault != history.Well) && r.Duration >= f.Slow &&
		strings.Contains(strings.ToLower(r.Path), strings.ToLower(f.Path))
}

// Choices are those of the form.
func (f filter) Choices() (all []choice) {
	for _, d := range slowest {
		c := choice{Value: d.String(), Text: "longer than " + display.Spoken(d), Chosen: d == f.Slow}
		if d == 0 {
			c.Value, c.Text = "", "however long"
		}
		all = append(all, c)
	}
	return all
}

type choice struct {
	Value, Text string
	Chosen      bool
}

// Set reports whether anything is filtered.
func (f filter) Set() bool { return f != filter{} }

var functions = template.FuncMap{"visible": visible}

func newView(f Facts, open, near bool, by filter) *view {
	if !open {
		by.Path = "" // or who asks could guess what may not be seen
		f.Health.Cause = ""
		f.Settings = nil
		f.Example, f.Socket, f.Listen = "", "", nil
	}
	now := f.History.Now
	v := &view{
		Health: f.Health, Symbol: symbols[f.Health.Mood], Open: open, Filter: by,
		Title: symbols[f.Health.Mood] + " " + f.Health.Headline + " · bearerd",
		Now:   now.Format(time.TimeOnly), Zone: now.Format("MST (UTC-07:00)"),
		Button: near && f.Health.LogIn != "", Command: logInCommand(f),
		Pictures: draw(f), Numbers: numbersOf(f.History),
		Settings: f.Settings, Listen: f.Listen,
		About: []fact{
			{"bearerd", f.Version},
			{"Go", f.Go},
			{"Platform", f.Platform},
			{"Runs since", f.Started.Format(time.DateTime) + ", for " + display.Spoken(now.Sub(f.Started))},
			{"Requests since then", fmt.Sprintf("%s, of which %s failed", grouped(f.History.Totals.All()), grouped(f.History.Totals.Failed()))},
		},
	}
	v.requests(f.History, open)
	for _, l := range f.History.Logins[:min(len(f.History.Logins), shownLogins)] {
		v.Logins = append(v.Logins, loginRowOf(l, now, open))
	}
	if open {
		for i, a := range f.History.Agents {
			name := visible(a.Name)
			if a.Name == "" {
				name = "(says nothing of itself)"
			}
			v.Tools = append(v.Tools, tool{"tool" + strconv.Itoa(i), name, grouped(a.Requests), display.Clock(a.Last, now)})
		}
		if f.History.Others > 0 {
			v.Others = grouped(f.History.Others)
		}
	}
	v.Paste = Pastes(f)
	return v
}

var symbols = map[advice.Mood]string{advice.Good: "✓", advice.Warning: "!", advice.Bad: "✕", advice.Quiet: "…"}

// logInCommand is how to log in again where the page cannot.
func logInCommand(f Facts) string {
	if f.Health.LogIn == "" {
		return ""
	}
	return "curl -X POST " + cmp.Or(f.Admin, "http://localhost:9180") + "/login"
}

// requests lists those that the filter lets through, the last first: of all that
// are kept, as those that failed or were slow are kept for longer.
func (v *view) requests(h history.Snapshot, open bool) {
	all := slices.Concat(h.Recent, h.Failed, h.Slow)
	if !v.Filter.Failed && v.Filter.Slow < history.Slow {
		all = h.Recent
	}
	slices.SortStableFunc(all, func(a, b history.Request) int { return cmp.Compare(b.Seq, a.Seq) })
	all = slices.CompactFunc(all, func(a, b history.Request) bool { return a.Seq == b.Seq })
	for _, r := range all {
		if len(v.Requests) == shownRequests {
			break
		}
		if v.Filter.is(r) {
			v.Requests = append(v.Requests, rowOf(r, h.Now, open))
		}
	}
	v.Kept = fmt.Sprintf("%d of the last %d", len(v.Requests), len(all))
	if !v.Filter.Set() {
		v.Kept = fmt.Sprintf("the last %d", len(v.Requests))
	}
}

// faultWords say whose a failure is.
var faultWords = [history.Faults]struct{ class, name string }{
	history.Well:     {"well", "went well"},
	history.Login:    {"login", "for want of a token"},
	history.Upstream: {"upstream", "by upstream"},
	history.Caller:   {"caller", "by the request itself"},
	history.Bearerd:  {"bearerd", "by bearerd's limits"},
}

func rowOf(r history.Request, now time.Time, open bool) row {
	ended := r.Start.Add(r.Duration)
	out := row{
		ID: "r" + strconv.FormatUint(r.Seq, 10), Time: display.Clock(ended, now), Exact: ended.Format(time.RFC3339Nano),
		Method: visible(r.Method), Path: "(not shown here)", Status: strconv.Itoa(r.Status),
		Took: display.Spoken(r.Duration), In: bytesOf(r.BytesIn), Out: bytesOf(r.BytesOut),
		Class: faultWords[r.Fault].class,
	}
	if r.TokenWait >= time.Millisecond {
		out.Waited = display.Spoken(r.TokenWait)
	}
	switch {
	case r.TooYoung:
		out.Replayed = "with the token before"
	case r.Replayed:
		out.Replayed = "with a new token"
	}
	if r.Status == 0 {
		out.Status = "–"
	}
	if open {
		out.Path = visible(r.Path)
		if r.Path == "" {
			out.Path = "(no path)"
		}
	}
	switch {
	case r.Fault == history.Well:
		return out
	case r.Code != "":
		out.What = string(r.Code)
	case r.Outcome == proxy.ClientClosed:
		out.What = "client left"
	case r.Outcome == proxy.Aborted:
		out.What = "cut short"
	default:
		out.What = "HTTP " + strconv.Itoa(r.Status)
	}
	out.Remedy = visible(r.Remedy)
	if open && r.Cause != out.What {
		out.Cause = visible(r.Cause)
	}
	return out
}

var whyWords = map[tokens.Reason]string{
	tokens.AtStart:        "bearerd started",
	tokens.ForRequest:     "a request came and no token was good",
	tokens.RefreshAhead:   "ahead of the token's end",
	tokens.AfterRefusal:   "upstream refused the token",
	tokens.Retry:          "the login before failed",
	tokens.ForCredentials: "a credential file changed",
	tokens.Asked:          "a person asked for it",
	tokens.Adopted:        "another bearerd made it, or this one before it was restarted",
}

// resultWords say what came of a login, and how it is drawn.
var resultWords = map[tokens.Result]struct{ class, symbol, words string }{
	tokens.OK:        {"ok", "✓", "a token"},
	tokens.Rejected:  {"rejected", "✕", "refused"},
	tokens.Throttled: {"failed", "▲", "told to wait"},
	tokens.Transient: {"failed", "▲", "failed"},
}

func loginRowOf(l history.LoginRecord, now time.Time, open bool) loginRow {
	words := resultWords[l.Result]
	r := loginRow{
		ID: "l" + strconv.FormatUint(l.Seq, 10), Time: display.Clock(l.At, now), Exact: l.At.Format(time.RFC3339Nano),
		Why: cmp.Or(whyWords[l.Why], "–"), Result: words.words, Class: words.class, Symbol: words.symbol,
		Rule: string(l.Rule), Remedy: visible(l.Remedy),
	}
	if l.Waiting {
		r.Result = "not made: waits for a file"
	}
	if l.Stopped {
		r.Result += ", and stopped"
	}
	if l.Duration > 0 {
		r.Took = display.Spoken(l.Duration)
	}
	if l.Generation > 0 {
		r.Token = fmt.Sprintf("no. %d, for %s", l.Generation, display.Spoken(l.Lifetime))
	}
	if open {
		r.Cause = visible(l.Cause)
	}
	return r
}

// grouped is a number with its thousands apart.
func grouped(n uint64) string {
	text := strconv.FormatUint(n, 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "\u202f" + text[i:]
	}
	return text
}

func bytesOf(n int64) string {
	switch {
	case n < 1000:
		return strconv.FormatInt(n, 10) + "\u00a0B"
	case n < 999_500:
		return strconv.FormatFloat(float64(n)/1e3, 'f', 1, 64) + "\u00a0kB"
	case n < 999_500_000:
		return strconv.FormatFloat(float64(n)/1e6, 'f', 1, 64) + "\u00a0MB"
	}
	return strconv.FormatFloat(float64(n)/1e9, 'f', 1, 64) + "\u00a0GB"
}

// visible is text of a stranger's choice, of which nothing is hidden, turns the
// line around or leaves XML: what does not print is shown by its number.
func visible(s string) string {
	printed := func(r rune) bool { return r == ' ' || r == '\u00a0' || r == '\u202f' || unicode.IsPrint(r) }
	if strings.IndexFunc(s, func(r rune) bool { return !printed(r) }) < 0 && utf8.ValidString(s) {
		return s
	}
	var all strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&all, `\x%02x`, s[0])
		case printed(r):
			all.WriteRune(r)
		case r < 0x80:
			fmt.Fprintf(&all, `\x%02x`, r)
		default:
			fmt.Fprintf(&all, `\u{%x}`, r)
		}
		s = s[size:]
	}
	return all.String()
}
