package page_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/advice"
	"github.com/bearerd/bearerd/cmd/internal/history"
	"github.com/bearerd/bearerd/cmd/internal/page"
	"github.com/bearerd/bearerd/proxy"
	"github.com/bearerd/bearerd/tokens"
)

// world is what a page is shown of.
type world struct {
	*history.History
	mu     sync.Mutex // guards health
	health advice.Health
}

func newWorld() *world {
	return &world{
		History: history.New(history.Options{Explain: func(*proxy.Exchange) (string, string) { return "the cause", "the remedy" }}),
		health:  advice.Health{State: "well", Mood: advice.Good, Headline: "Well", Sentence: "Requests go through."},
	}
}

func (w *world) say(h advice.Health) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.health = h
}

func (w *world) facts() page.Facts {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	return page.Facts{
		Health: w.health, History: w.Snapshot(), Base: "http://localhost:8080", Admin: "http://localhost:9180",
		Token:    page.Token{Generation: 1, Good: true, Lifetime: 5 * time.Minute, Requested: now, Expiry: now.Add(5 * time.Minute), Renewal: now.Add(4 * time.Minute)},
		Settings: []page.Setting{{Name: "BEARERD_UPSTREAM", Value: "https://api.example", From: "environment"}},
		Version:  "v1", Started: now,
	}
}

func (w *world) ask(path string, status int) {
	w.Request(&proxy.Exchange{Method: "GET", Path: path, UserAgent: "tool<b>/1", Status: status, Outcome: proxy.Completed, Start: time.Now(), Duration: time.Millisecond, Generation: 1})
}

func (w *world) logIn() {
	now := time.Now()
	w.Login(tokens.Event{Why: tokens.AtStart, Duration: time.Second, Token: &tokens.Token{
		Generation: 1, Lifetime: 5 * time.Minute, Rule: tokens.RuleExpiresIn, Requested: now, Came: now, Expiry: now.Add(5 * time.Minute)}})
}

func near(*http.Request) bool { return true }

// get asks for a path, and returns the answer and its text.
func get(t *testing.T, h http.Handler, path string) (*http.Response, string) {
	t.Helper()
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest("GET", path, nil))
	return rec.Result(), rec.Body.String()
}

func contains(t *testing.T, text string, all ...string) {
	t.Helper()
	for _, want := range all {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing", want)
		}
	}
}

func lacks(t *testing.T, text string, all ...string) {
	t.Helper()
	for _, not := range all {
		if strings.Contains(text, not) {
			t.Errorf("%q is there", not)
		}
	}
}

// Without any script the page shows all there is.
func TestPageShowsAll(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.logIn()
	w.ask("/orgs/42", 200)
	w.ask("/broken", 503)
	w.say(advice.Health{State: "login", Mood: advice.Bad, Headline: "Login fails", Sentence: "No token since noon.", Cause: "HTTP 500", Next: "tries again", Remedy: "none here", LogIn: "It costs one attempt."})
	resp, text := get(t, page.New(page.Options{Facts: w.facts, Near: near}), "/")
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Fatalf("got %s, %v", resp.Status, resp.Header)
	}
	contains(t, text, "Login fails", "No token since noon.", "HTTP 500", "tries again", "none here", "It costs one attempt.", `action="/login"`,
		"/orgs/42", "/broken", "the cause", "the remedy", "bearerd started", "expires_in", "BEARERD_UPSTREAM", "https://api.example",
		"tool&lt;b&gt;/1", "curl --fail-with-body &#39;http://localhost:8080/PATH&#39;", "Power BI", "Postman", "Grafana", "Python", `aria-label="In the last 2`)
	lacks(t, text, "<b>/1", "style=", "onclick", "javascript:")
}

// Each answer forbids what the page does not need.
func TestHeaders(t *testing.T) {
	t.Parallel()
	h := page.New(page.Options{Facts: newWorld().facts})
	for _, path := range []string{"/", "/page/style.css", "/page/script.js", "/page/icon.svg", "/page/none"} {
		resp, text := get(t, h, path)
		csp := resp.Header.Get("Content-Security-Policy")
		contains(t, csp, "default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'", "script-src 'self';", "style-src 'self';", "trusted-types 'none'")
		lacks(t, csp, "unsafe", "*", "data:")
		if resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %v", path, resp.Header)
		}
		if (resp.StatusCode == 200) != (path != "/page/none") {
			t.Errorf("%s: %s", path, resp.Status)
		}
		if strings.HasSuffix(path, ".js") {
			lacks(t, text, "innerHTML", "insertAdjacent", "outerHTML", "document.write", "eval(", "DOMParser")
		}
	}
}

// Who comes from another machine sees no path, user agent, setting or cause, and
// a command in place of the button.
func TestStrangersSeeLess(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.logIn()
	w.ask("/orgs/42", 200)
	w.ask("/orgs/43", 503)
	w.say(advice.Health{State: "login", Mood: advice.Bad, Headline: "Login fails", Sentence: "No token since noon.", Cause: "file /run/secrets/p", LogIn: "It costs one attempt."})
	secret := []string{"/orgs/42", "/orgs/43", "tool", "BEARERD_UPSTREAM", "api.example", "/run/secrets", "the cause", "<button>Log in again", `action="/login"`}
	stranger := page.New(page.Options{Facts: w.facts, Near: func(*http.Request) bool { return false }})
	_, text := get(t, stranger, "/?path=/orgs/42&failed=1")
	contains(t, text, "Login fails", "No token since noon.", "curl -X POST http://localhost:9180/login", "503", "BEARERD_PAGE=full")
	lacks(t, strings.ReplaceAll(text, "Which tools connect", ""), secret[:2]...)
	for _, s := range secret[3:] {
		lacks(t, text, s)
	}
	lacks(t, text, "tool&lt;b&gt;/1")
	lacks(t, firstEvent(t, stranger, "/page/events"), "/orgs/42", "/orgs/43", "tool<b>", "BEARERD_UPSTREAM", "/run/secrets", "the cause", "Log in again")

	_, text = get(t, page.New(page.Options{Facts: w.facts, Full: true}), "/")
	contains(t, text, "/orgs/42", "tool&lt;b&gt;/1", "BEARERD_UPSTREAM", "/run/secrets", "curl -X POST http://localhost:9180/login")
	lacks(t, text, `action="/login"`)
}

// What strangers choose is text: in the page, in a stream, and as a filter.
func TestHostileTexts(t *testing.T) {
	t.Parallel()
	hostile := []string{
		`/<script>alert(1)</script>`, `/"><img src=x onerror=alert(1)>`, `/' onmouseover='alert(1)`, "/\x00\x01\x1b[31m", "/\u202egnp.exe", "/\xff\xfe",
		`/</td></tr></table><h1>owned`, `/{{.Version}}`, `/]]>`, `/&lt;&amp;`, "/" + strings.Repeat("é", 4000), "/\n\nevent: page\ndata: {}\n\n", "/\u2028\u2029",
	}
	w := newWorld()
	for _, text := range hostile {
		w.Request(&proxy.Exchange{Method: text, Path: text, UserAgent: text, Status: 503, Error: proxy.UpstreamUnreachable, Start: time.Now()})
		w.Login(tokens.Event{Failure: tokens.Failure{Kind: tokens.Transient, Cause: tokens.Cause{Kind: tokens.CauseFile, Problem: text}}})
		w.say(advice.Health{Headline: "H", Sentence: text, Cause: text, Next: text, Remedy: text, LogIn: text})
	}
	h := page.New(page.Options{Facts: w.facts, Near: near})
	resp, text := get(t, h, "/?path="+`%22%3E%3Cscript%3Ealert(1)%3C/script%3E&slow=%3Cb%3E&failed=%3Cb%3E`)
	if resp.StatusCode != 200 {
		t.Fatal(resp.Status)
	}
	_, all := get(t, h, "/")
	for _, text := range []string{text, all} {
		lacks(t, text, "<script>alert", "<img src=x", "onmouseover='", "<h1>owned", "\x00", "\x1b", "\u202e", "\u2028", "slow=<b>")
		if n := len(regexp.MustCompile(`<script`).FindAllString(text, -1)); n != 1 {
			t.Errorf("%d scripts, want one", n)
		}
	}
	contains(t, all, `\u{202e}gnp.exe`, `\x1b[31m`, `\xff\xfe`)
	event := firstEvent(t, h, "/page/events")
	// Whatever it is, it is a text of the tree.
	var walk func(any)
	walk = func(n any) {
		m, ok := n.(map[string]any)
		if !ok {
			return
		}
		if name, _ := m["n"].(string); name == "script" || name == "img" || name == "iframe" {
			t.Errorf("an element %s", name)
		}
		attributes, _ := m["a"].(map[string]any)
		for name := range attributes {
			if strings.HasPrefix(name, "on") || name == "style" {
				t.Errorf("an attribute %s", name)
			}
		}
		children, _ := m["c"].([]any)
		for _, c := range children {
			walk(c)
		}
	}
	var news struct{ Parts []any }
	if err := json.Unmarshal([]byte(event), &news); err != nil || len(news.Parts) == 0 {
		t.Fatalf("%v in %s", err, event)
	}
	for _, p := range news.Parts {
		walk(p)
	}
}

// events reads a stream's events, without those that only say that it lives.
func events(body io.Reader) func() string {
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, 16<<20)
	return func() string {
		kind := ""
		for lines.Scan() {
			if name, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
				kind = name
			}
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok && kind == "page" {
				return data
			}
		}
		return ""
	}
}

func firstEvent(t *testing.T, h http.Handler, path string) string {
	t.Helper()
	server := httptest.NewServer(h)
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", server.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return events(resp.Body)()
}

// A stream tells what has changed, and no more: a row that is as it was goes by
// its name alone.
func TestStreamTellsChanges(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.ask("/one", 200)
	server := httptest.NewServer(page.New(page.Options{Facts: w.facts, Near: near, Tick: 5 * time.Millisecond}))
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, "GET", server.URL+"/page/events", nil)
	resp, err := server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	next := events(resp.Body)
	contains(t, next(), "/one", `"id":"r1"`, `"id":"health"`)
	w.ask("/two", 200)
	for event := next(); ; event = next() {
		if event == "" {
			t.Fatal("the stream ended")
		}
		lacks(t, event, "/one")
		if strings.Contains(event, "/two") {
			contains(t, event, `{"k":"r1"}`)
			break
		}
	}
	w.say(advice.Health{Headline: "Login fails", Mood: advice.Bad})
	for event := next(); !strings.Contains(event, "Login fails"); event = next() {
		if event == "" {
			t.Fatal("the stream ended")
		}
		lacks(t, event, "/one", "/two")
	}
}

// A stream shows what its filter lets through.
func TestFilter(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.ask("/a/good", 200)
	w.ask("/a/bad", 503)
	w.ask("/b/bad", 404)
	w.Request(&proxy.Exchange{Method: "GET", Path: "/b/slow", Status: 200, Start: time.Now(), Duration: 3 * time.Second, Generation: 1, Outcome: proxy.Completed})
	for range 300 {
		w.ask("/flood", 200)
	}
	h := page.New(page.Options{Facts: w.facts, Near: near})
	for query, want := range map[string][]string{
		"failed=1":                     {"/a/bad", "/b/bad"}, // though 300 came after them
		"failed=1&path=B/B":            {"/b/bad"},
		"slow=1s":                      {"/b/slow"},
		"slow=10s":                     {},
		"slow=nonsense&failed=&path=x": {},
	} {
		_, text := get(t, h, "/?"+query)
		event := firstEvent(t, h, "/page/events?"+query)
		for _, path := range []string{"/a/good", "/a/bad", "/b/bad", "/b/slow"} {
			wanted := strings.Contains(strings.Join(want, " "), path)
			if strings.Contains(text, path) != wanted || strings.Contains(event, path) != wanted {
				t.Errorf("%s: is %s shown? want %v", query, path, wanted)
			}
		}
	}
}

// No more pages are told what happens than a bearerd can stand.
func TestStreamsAreBounded(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(page.New(page.Options{Facts: newWorld().facts, Near: near}))
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	refused := 0
	for range 40 {
		req, _ := http.NewRequestWithContext(ctx, "GET", server.URL+"/page/events", nil)
		resp, err := server.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode == http.StatusServiceUnavailable {
			refused++
		}
	}
	if refused != 8 {
		t.Errorf("%d of 40 were refused, want 8", refused)
	}
}

// Neighbours who ask again and again do not keep bearerd busy with it; this
// machine is heard.
func TestStrangersAreBounded(t *testing.T) {
	t.Parallel()
	h := page.New(page.Options{Facts: newWorld().facts, Full: true, Near: func(r *http.Request) bool { return r.Header.Get("Near") != "" }})
	refused := 0
	for range 200 {
		if resp, _ := get(t, h, "/"); resp.StatusCode == http.StatusServiceUnavailable {
			refused++
		}
	}
	if refused < 100 {
		t.Errorf("of 200 requests %d were refused, want most", refused)
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Near", "1")
	rec := httptest.NewRecorder()
	if h.ServeHTTP(rec, r); rec.Code != 200 {
		t.Errorf("this machine got %d, want 200", rec.Code)
	}
}

// A page left open for a day costs bearerd no memory.
func TestStreamOfADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		h := page.New(page.Options{Facts: w.facts, Near: near, Tick: 4 * time.Minute})
		ctx, cancel := context.WithCancel(t.Context())
		rec := &counter{header: make(http.Header)}
		var open sync.WaitGroup
		open.Go(func() { h.ServeHTTP(rec, httptest.NewRequestWithContext(ctx, "GET", "/page/events", nil)) })
		var first int64
		for hour := range 24 {
			for i := range 60 {
				w.Request(&proxy.Exchange{Method: "GET", Path: fmt.Sprint("/", hour, "/", i), UserAgent: fmt.Sprint(i), Status: 200 + i%2*300, Start: time.Now(), Generation: 1})
				if i%6 == 0 {
					w.logIn()
				}
				time.Sleep(time.Minute)
			}
			synctest.Wait()
			if hour == 1 {
				first = heap()
			}
		}
		if grown := heap() - first; grown > 256<<10 {
			t.Errorf("it grew by %d bytes in 22 hours, want none", grown)
		}
		if got := rec.count(); got < 24*15 {
			t.Errorf("%d events in a day, want one in each 4 min", got)
		}
		cancel()
		open.Wait()
	})
}

// heap is how much is allocated and in use.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A page hears something every ten seconds, even if nothing happens.
func TestBeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		still := w.facts()
		h := page.New(page.Options{Facts: func() page.Facts { return still }})
		ctx, cancel := context.WithCancel(t.Context())
		rec := &counter{header: make(http.Header)}
		var open sync.WaitGroup
		open.Go(func() { h.ServeHTTP(rec, httptest.NewRequestWithContext(ctx, "GET", "/page/events", nil)) })
		time.Sleep(time.Minute + time.Second)
		synctest.Wait()
		if got := rec.count(); got != 7 {
			t.Errorf("%d events in a minute, want the first and six beats", got)
		}
		cancel()
		open.Wait()
	})
}

// counter is a client that reads all and keeps nothing.
type counter struct {
	header http.Header
	mu     sync.Mutex // guards n
	n      int
}

func (c *counter) Header() http.Header { return c.header }
func (c *counter) WriteHeader(int)     {}
func (c *counter) Flush()              {}

func (c *counter) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	return len(p), nil
}

func (c *counter) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}
