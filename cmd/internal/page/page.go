// Package page is the page for people at the admin listener's root. It knows how
// to show what it is told, to whom and live; it does not know where that comes
// from, and asks nothing of a running bearerd but Facts.
package page

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/bearerd/bearerd/cmd/internal/advice"
	"github.com/bearerd/bearerd/cmd/internal/history"
	"github.com/bearerd/bearerd/tokens"
)

//go:embed page.html style.css script.js icon.svg
var files embed.FS

// Facts is what a page shows of one moment. It holds no secret.
type Facts struct {
	Health  advice.Health
	History history.Snapshot
	Token   Token

	Base     string   // where tools connect, as http://localhost:8080
	Socket   string   // in place of Base, the path of a unix socket
	Example  string   // a path that upstream has; empty: none is known
	Admin    string   // as Base, of the admin listener; empty: it has no port
	Listen   []string // every address of the data listener
	Settings []Setting
	Version  string
	Go       string
	Platform string
	Started  time.Time
}

// Token is the last token, good or over. The zero value is none.
type Token struct {
	Generation uint64
	Good       bool
	Lifetime   time.Duration
	Rule       tokens.Rule
	Requested  time.Time
	Expiry     time.Time
	Renewal    time.Time // when it is to be renewed; zero: not, unless somebody uses it
}

// Setting is a setting and where it came from.
type Setting struct{ Name, Value, From string }

// Options are the options of [New]. Facts must be set.
type Options struct {
	Facts func() Facts
	// Full shows paths, user agents and settings to every peer, and not only to
	// those that Near says are of this machine.
	Full bool
	// Near reports whether a request came from this machine; nil: none does.
	Near func(*http.Request) bool
	// Tick is how often an open page is told what changed; 0: each second.
	Tick time.Duration
	// Streams is how many pages may be open at once, and live; 0: 32.
	Streams int
}

// Page is the page, with what belongs to it. It is for GET and HEAD at / and
// below /page/, and sees to its own headers, but neither to Host nor to Origin.
// Make one with [New].
type Page struct {
	opt      Options
	template *template.Template
	version  string // of the files: a page that was made by another bearerd loads anew
	streams  atomic.Int32
	strange  *rate.Limiter // of what is made for other machines
}

// New returns a page.
func New(o Options) *Page {
	if o.Tick <= 0 {
		o.Tick = time.Second
	}
	if o.Streams <= 0 {
		o.Streams = 32
	}
	// A page costs milliseconds to make, and a neighbour could ask for any number.
	p := &Page{opt: o, version: fingerprint(), strange: rate.NewLimiter(5, 20)}
	p.template = template.Must(template.New("").Funcs(functions).ParseFS(files, "page.html"))
	return p
}

// policy is the Content-Security-Policy: our own script, style, icon, stream and
// form, and nothing else. Trusted types make text that became markup by a slip
// of the script an error.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; " +
	"base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// setHeaders are those of every answer.
func setHeaders(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	// Not no-referrer: a form would have the Origin null then.
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
}

// ServeHTTP answers at /, /page/events and for the page's files.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	setHeaders(w)
	if path := r.URL.Path; (path == "/" || path == "/page/events") && !p.near(r) && !p.strange.Allow() {
		busy(w, "other machines ask for this page more often than it is made for them")
		return
	}
	switch r.URL.Path {
	case "/":
		p.serve(w, r)
	case "/page/events":
		p.stream(w, r)
	case "/page/style.css":
		serveFile(w, "style.css", "text/css; charset=utf-8")
	case "/page/script.js":
		serveFile(w, "script.js", "text/javascript; charset=utf-8")
	case "/page/icon.svg":
		serveFile(w, "icon.svg", "image/svg+xml")
	default:
		http.NotFound(w, r)
	}
}

// near reports whether r came from this machine.
func (p *Page) near(r *http.Request) bool { return p.opt.Near != nil && p.opt.Near(r) }

func busy(w http.ResponseWriter, why string) {
	w.Header().Set("Retry-After", "10")
	http.Error(w, why, http.StatusServiceUnavailable)
}

func serveFile(w http.ResponseWriter, name, kind string) {
	text, err := files.ReadFile(name)
	if err != nil {
		panic(err) // it is embedded
	}
	w.Header().Set("Content-Type", kind)
	_, _ = w.Write(text) // the client may have gone
}

func (p *Page) serve(w http.ResponseWriter, r *http.Request) {
	var text bytes.Buffer
	if err := p.template.ExecuteTemplate(&text, "page", p.view(r)); err != nil {
		panic(err) // our own template and types
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(text.Bytes())
}

// view is what r's peer may see, as r asks for it.
func (p *Page) view(r *http.Request) *view {
	near := p.near(r)
	v := newView(p.opt.Facts(), near || p.opt.Full, near, filterOf(r.URL.Query()))
	v.Version = p.version
	return v
}

const (
	// beatEvery is how often an open page hears something, changed or not.
	beatEvery = 10 * time.Second
	// writePatience is how long a page may take to read what it is told.
	writePatience = 30 * time.Second
)

// stream tells an open page what has changed, until it is closed. Nothing is
// kept for a page that does not read: the next thing it hears is how all is then.
func (p *Page) stream(w http.ResponseWriter, r *http.Request) {
	if p.streams.Add(1) > int32(p.opt.Streams) {
		p.streams.Add(-1)
		busy(w, "as many pages are open as may be")
		return
	}
	defer p.streams.Add(-1)
	w.Header().Set("Content-Type", "text/event-stream")
	if r.Method == http.MethodHead {
		return
	}
	answer := http.NewResponseController(w)
	// The server's own limits are for answers that end.
	_ = answer.SetReadDeadline(time.Time{})
	tick := time.NewTicker(p.opt.Tick)
	defer tick.Stop()
	var last told
	var beat time.Time
	for {
		text := p.news(r, &last)
		now := time.Now()
		if text == nil && now.Sub(beat) >= beatEvery {
			text = []byte("event: beat\ndata: {}\n\n")
		}
		if text != nil {
			beat = now
			_ = answer.SetWriteDeadline(now.Add(writePatience))
			if _, err := w.Write(text); err != nil {
				return
			}
			if err := answer.Flush(); err != nil {
				return
			}
		}
		select {
		case <-r.Context().Done():
			return
		case <-tick.C:
		}
	}
}

// told is what a page has been told: it is not told again.
type told struct {
	title string
	parts map[string]uint64 // fingerprints, by id
}

// news is the event that brings a page from what it was told to what is now; nil
// when nothing has changed.
func (p *Page) news(r *http.Request, last *told) []byte {
	v := p.view(r)
	next := told{title: v.Title, parts: make(map[string]uint64)}
	var event struct {
		Version string `json:"version"`
		Title   string `json:"title"`
		Parts   []any  `json:"parts"`
	}
	event.Version, event.Title = v.Version, v.Title
	event.Parts = []any{}
	for _, part := range parts {
		if short := shorten(p.tree(part, v, last.parts), last.parts, next.parts); short.Key == "" {
			event.Parts = append(event.Parts, short)
		}
	}
	changed := len(event.Parts) > 0 || next.title != last.title
	*last = next
	if !changed {
		return nil
	}
	data, err := json.Marshal(event)
	if err != nil {
		panic(err) // our own types
	}
	return fmt.Appendf(nil, "event: page\ndata: %s\n\n", data)
}

// tree is a template's output. Of the rows of requests and logins, which never
// change and are most of a page, those that were told are not made again.
func (p *Page) tree(part string, v *view, before map[string]uint64) *node {
	switch part {
	case "requests":
		bare := *v
		bare.Requests = nil
		n := p.render(part, &bare)
		if len(v.Requests) > 0 {
			rows := n.find("rows")
			rows.Children = nil
			for _, r := range v.Requests {
				rows.Children = append(rows.Children, p.row("request", r.ID, r, before))
			}
		}
		return n
	case "logins":
		bare := *v
		bare.Logins = nil
		n := p.render(part, &bare)
		if len(v.Logins) > 0 {
			rows := n.find("login-rows")
			rows.Children = nil
			for _, l := range v.Logins {
				rows.Children = append(rows.Children, p.row("login", l.ID, l, before))
			}
		}
		return n
	}
	return p.render(part, v)
}

func (p *Page) row(part, id string, data any, before map[string]uint64) *node {
	if sum, ok := before[id]; ok {
		return &node{Key: id, known: sum}
	}
	return p.render(part, data)
}

func (p *Page) render(part string, data any) *node {
	var text bytes.Buffer
	if err := p.template.ExecuteTemplate(&text, part, data); err != nil {
		panic(err) // our own template and types
	}
	tree, err := parse(&text)
	if err != nil {
		panic(fmt.Errorf("template %s: %w", part, err)) // tests have all parsed
	}
	return tree
}
