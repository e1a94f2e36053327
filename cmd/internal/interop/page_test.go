package interop_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/heapprofiler"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/bearerd/bearerd/cmd/internal/advice"
	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/history"
	people "github.com/bearerd/bearerd/cmd/internal/page"
	"github.com/bearerd/bearerd/cmd/internal/querysim"
	"github.com/bearerd/bearerd/proxy"
	"github.com/bearerd/bearerd/tokens"
)

// pictures is where screenshots of the page are kept.
const pictures = "../../../dist/page"

// stage is a simulator that a test has misbehave, before a bearerd that has a page.
type stage struct {
	sim    *querysim.Simulator
	login  *httptest.Server
	query  *httptest.Server
	vendor querysim.Vendor
}

func newStage(t *testing.T, lifetime time.Duration) *stage {
	t.Helper()
	sim, err := querysim.New(querysim.Options{Lifetime: lifetime})
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{sim: sim, vendor: querysim.Vendors()[0]}
	s.login = httptest.NewServer(sim.LoginHandler())
	t.Cleanup(s.login.Close)
	s.query = httptest.NewServer(sim.QueryHandler())
	t.Cleanup(s.query.Close)
	return s
}

func (s *stage) start(t *testing.T, env ...string) *process {
	t.Helper()
	return start(t, append([]string{
		"BEARERD_PRESET=" + s.vendor.Name,
		"BEARERD_TOKEN_URL=" + s.login.URL + s.vendor.LoginPath,
		"BEARERD_UPSTREAM=" + s.query.URL,
		"BEARERD_USERNAME=" + querysim.Username, "BEARERD_PASSWORD=" + querysim.Password,
		"BEARERD_ADMIN_LISTEN=localhost:0",
	}, env...)...)
}

func (s *stage) fault(t *testing.T, f querysim.Faults) {
	t.Helper()
	if err := s.sim.SetFaults(f); err != nil {
		t.Fatal(err)
	}
}

const namesPath = "/cpmm/api/v1/orgs/42/metrics/names"

// askNames makes requests as a tool does, whatever comes of them.
func askNames(t *testing.T, p *process, times int) {
	t.Helper()
	for range times {
		resp, err := http.Get(p.url + namesPath)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
}

// traffic asks several times a second, until its end.
func traffic(t *testing.T, p *process) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var tool sync.WaitGroup
	tool.Go(func() {
		for tick := time.NewTicker(150 * time.Millisecond); ctx.Err() == nil; <-tick.C {
			req, err := http.NewRequestWithContext(ctx, "GET", p.url+namesPath, nil)
			if err != nil {
				panic(err)
			}
			req.Header.Set("User-Agent", "report/2.1")
			if resp, err := http.DefaultClient.Do(req); err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
		}
	})
	end = sync.OnceFunc(func() { cancel(); tool.Wait() })
	t.Cleanup(end)
	return end
}

// logInAgain has p log in again.
func logInAgain(t *testing.T, p *process) {
	t.Helper()
	resp, err := http.Post(p.Admin+"/login", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusAccepted {
		t.Fatalf("POST /login: %s", resp.Status)
	}
}

// value is what a page's script says.
func value[T any](t *testing.T, tab context.Context, expression string) T {
	t.Helper()
	got, err := chromedp.Run(tab, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	return got
}

// openPage opens a page in a tab of its own that keeps account of what its policy
// forbids.
func openPage(t *testing.T, browser context.Context, url string) context.Context {
	t.Helper()
	tab := open(t, browser, "about:blank")
	if _, err := chromedp.Call(tab, emulation.SetScrollbarsHidden, emulation.SetScrollbarsHiddenParams{Hidden: true}); err != nil {
		t.Fatal(err)
	}
	watch := `globalThis.violations = []; document.addEventListener('securitypolicyviolation', (e) => violations.push(e.violatedDirective + ' ' + e.blockedURI + ' ' + e.sample))`
	if _, err := chromedp.Call(tab, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: watch}); err != nil {
		t.Fatal(err)
	}
	if err := chromedp.Do(tab, chromedp.EmulateViewport(1024, 1500), chromedp.Navigate(url)); err != nil {
		t.Fatal(err)
	}
	return tab
}

// show waits until the page, which is not loaded again, is in a state and says
// what it should, and keeps a picture of it.
func show(t *testing.T, tab context.Context, state, sentence string) {
	t.Helper()
	says := regexp.MustCompile(sentence)
	var last string
	defer func() {
		if t.Failed() {
			t.Logf("the page said %s", last)
		}
	}()
	bearerdtest.Eventually(t, bearerdtest.Soon, "the page is in the state "+state+" and says "+sentence, func() bool {
		last = value[string](t, tab, `document.getElementById('health').dataset.state + ': ' + document.getElementById('headline').textContent + ': ' + document.getElementById('sentence').textContent + ' ' + (document.querySelector('#health dl')?.textContent ?? '')`)
		last = strings.ReplaceAll(last, "\u00a0", " ")
		return strings.HasPrefix(last, state+": ") && says.MatchString(last)
	})
	keep(t, tab, state)
}

// keep keeps a picture of what is to be seen.
func keep(t *testing.T, tab context.Context, name string) {
	t.Helper()
	png, err := chromedp.Run(tab, chromedp.CaptureScreenshot())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(pictures, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(pictures, name+".png"), png, 0o644); err != nil {
		t.Fatal(err)
	}
}

// wantAccessible expects that axe finds nothing serious, in either scheme of
// colours, and that the page's own policy forbids nothing of it.
func wantAccessible(t *testing.T, tab context.Context) {
	t.Helper()
	axe, err := os.ReadFile("testdata/node/node_modules/axe-core/axe.min.js")
	if err != nil {
		bearerdtest.Lacking(t, "axe-core among testdata/node/node_modules")
	}
	value[bool](t, tab, string(axe)+"; true")
	for _, scheme := range []string{"light", "dark"} {
		emulate(t, tab, scheme)
		found := value[[]string](t, tab, `axe.run(document, {resultTypes: ['violations']}).then((r) => r.violations.filter((v) => ['serious', 'critical'].includes(v.impact)).flatMap((v) => v.nodes.map((n) => v.id + ': ' + n.target + ': ' + n.failureSummary)))`)
		for _, f := range found {
			t.Errorf("axe, %s: %s", scheme, f)
		}
	}
	emulate(t, tab, "light")
	for _, v := range value[[]string](t, tab, "violations") {
		t.Errorf("its policy forbids the page %s", v)
	}
}

func emulate(t *testing.T, tab context.Context, scheme string) {
	t.Helper()
	if _, err := chromedp.Call(tab, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
	}); err != nil {
		t.Fatal(err)
	}
}

// TestPageStates brings a bearerd into each state for real, and looks at a page
// that was opened once.
func TestPageStates(t *testing.T) {
	t.Run("from well to the stop", func(t *testing.T) {
		t.Parallel()
		browser := startBrowser(t) // its own: a tab behind another is no longer live
		s := newStage(t, time.Minute)
		s.sim.SetLoginDelay(3 * time.Second)
		p := s.start(t, "BEARERD_DRAIN_DELAY=30s")
		tab := openPage(t, browser, p.Admin)
		show(t, tab, "starting", "The first login is under way")
		end := traffic(t, p)
		show(t, tab, "well", `Requests go through\. The token is good for \d+ s and will be renewed in \d+ s\.`)
		wantAccessible(t, tab)

		logInAgain(t, p)
		show(t, tab, "renewing", `The token is being renewed; the old one is good for \d+ s`)
		show(t, tab, "well", `good for 5[0-2] s`) // old enough for what comes

		s.sim.SetLoginDelay(0)
		s.fault(t, querysim.Faults{TokenDelay: 2500 * time.Millisecond})
		logInAgain(t, p)
		show(t, tab, "too_young", "Upstream does not know the new token yet")
		show(t, tab, "well", "Requests go through")

		s.fault(t, querysim.Faults{Query: querysim.QueryStatus.With("503")})
		show(t, tab, "upstream", `(?s)upstream does not: since [\d:]+ it has answered none of \d+ requests well.*HTTP 503.*none here: upstream has a fault`)
		wantAccessible(t, tab)
		s.fault(t, querysim.Faults{Query: querysim.QueryReset})
		show(t, tab, "upstream", `(?s)upstream does not.*connection`)
		s.fault(t, querysim.Faults{})
		show(t, tab, "well", "Requests go through")

		s.fault(t, querysim.Faults{Login: querysim.LoginTooMany.With("30s")})
		logInAgain(t, p)
		show(t, tab, "throttled", `(?s)Well for now.*left alone for a while.*Requests go through meanwhile.*logs in again in`)
		s.fault(t, querysim.Faults{})
		click(t, tab, "#again button") // a person does not want to wait
		show(t, tab, "well", "Requests go through")

		end()
		if err := p.Cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		show(t, tab, "stopping", `(?s)told to stop.*lets them finish`)
		_ = p.Cmd.Process.Kill()
		bearerdtest.Eventually(t, bearerdtest.Soon, "the page says that bearerd is gone", func() bool {
			return strings.Contains(value[string](t, tab, `document.getElementById('lost').textContent`), "has not been heard since")
		})
		keep(t, tab, "lost")
		// And the next bearerd there is found.
		s.start(t, "BEARERD_ADMIN_LISTEN="+strings.TrimPrefix(p.Admin, "http://"))
		show(t, tab, "well", "Nobody has used it yet")
		if value[bool](t, tab, `document.getElementById('lost').hidden`) != true {
			t.Error("the page still says that bearerd is gone")
		}
	})
	t.Run("idle and login down", func(t *testing.T) {
		t.Parallel()
		browser := startBrowser(t) // its own: a tab behind another is no longer live
		s := newStage(t, 3*time.Second)
		p := s.start(t)
		askNames(t, p, 1)
		tab := openPage(t, browser, p.Admin)
		show(t, tab, "idle", `No token is held, as nobody needs one: the last request was \d.* ago\.`)
		s.sim.SetLoginDown(true)
		askNames(t, p, 3)
		show(t, tab, "login_down", `(?s)The login server has a fault since [\d:]+\. Requests are answered with 503 login_unavailable\..*HTTP 503`)
		wantAccessible(t, tab)
		s.login.CloseClientConnections()
		s.login.Listener.Close()
		show(t, tab, "login_down", `(?s)The login server cannot be reached since.*connection refused.*BEARERD_TOKEN_URL`)
	})
	t.Run("refused and stopped", func(t *testing.T) {
		t.Parallel()
		browser := startBrowser(t) // its own: a tab behind another is no longer live
		s := newStage(t, time.Minute)
		s.sim.SetPassword("another")
		p := s.start(t)
		askNames(t, p, 2)
		tab := openPage(t, browser, p.Admin)
		show(t, tab, "refused", `(?s)refuses the credentials since [\d:]+\. Requests are answered with 502 login_rejected\..*logs in again in.*BEARERD_PASSWORD`)
		for range 4 {
			before := s.sim.Stats().LoginsRefused
			bearerdtest.Eventually(t, bearerdtest.Soon, "a login is refused", func() bool {
				if s.sim.Stats().LoginsRefused == before {
					click(t, tab, "#again button")
					return false
				}
				return true
			})
		}
		show(t, tab, "stopped", `(?s)refused these credentials 5 times since [\d:]+, and they never worked: bearerd has stopped asking\. Requests are answered with 502`)
		wantAccessible(t, tab)
		s.sim.SetPassword(querysim.Password)
		bearerdtest.Eventually(t, bearerdtest.Soon, "the button brings a token", func() bool {
			if s.sim.Stats().LoginsOK == 0 {
				click(t, tab, "#again button")
				return false
			}
			return true
		})
		show(t, tab, "well", "good for")
	})
	t.Run("a file", func(t *testing.T) {
		t.Parallel()
		browser := startBrowser(t) // its own: a tab behind another is no longer live
		s := newStage(t, time.Minute)
		file := filepath.Join(t.TempDir(), "password")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		p := s.start(t, "BEARERD_PASSWORD=", "BEARERD_PASSWORD_FILE="+file)
		tab := openPage(t, browser, p.Admin)
		show(t, tab, "waiting", `(?s)for want of a credential file.*password file.*mend that file`)
		if err := os.WriteFile(file, []byte(querysim.Password), 0o600); err != nil {
			t.Fatal(err)
		}
		show(t, tab, "well", "good for")
	})
}

// click clicks what selector finds, if it is there and can be.
func click(t *testing.T, tab context.Context, selector string) {
	t.Helper()
	value[bool](t, tab, fmt.Sprintf(`(() => { const e = document.querySelector(%q); if (!e || e.disabled) return false; e.click(); return true })()`, selector))
	// The browser's own time, and bearerd's, until something comes of it.
	value[bool](t, tab, `new Promise((done) => setTimeout(() => done(true), 300))`)
}

// TestPageWithoutJavaScript shows that the page is whole without any, and that its
// forms work.
func TestPageWithoutJavaScript(t *testing.T) {
	s := newStage(t, time.Minute)
	s.sim.SetPassword("another")
	p := s.start(t)
	askNames(t, p, 2)
	tab := openPage(t, startBrowser(t), "about:blank")
	if _, err := chromedp.Call(tab, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}); err != nil {
		t.Fatal(err)
	}
	if err := chromedp.Do(tab, chromedp.Navigate(p.Admin)); err != nil {
		t.Fatal(err)
	}
	text := func() string {
		html, err := chromedp.Run(tab, chromedp.OuterHTML(chromedp.CSS("html")))
		if err != nil {
			t.Fatal(err)
		}
		return html
	}
	for _, want := range []string{`data-state="refused"`, namesPath, "login_rejected", "BEARERD_UPSTREAM", "load it again"} {
		if !strings.Contains(text(), want) {
			t.Errorf("%q is missing", want)
		}
	}
	s.sim.SetPassword(querysim.Password)
	if err := chromedp.Do(tab, chromedp.Click(chromedp.CSS("#again button"))); err != nil {
		t.Fatal(err)
	}
	// To go elsewhere at once would end the click's own way there.
	bearerdtest.Eventually(t, bearerdtest.Soon, "the login that was asked for", func() bool { return s.sim.Stats().LoginsOK == 1 })
	bearerdtest.Eventually(t, bearerdtest.Soon, "the page after the login", func() bool {
		// Its answer may still be under way, and end this.
		return chromedp.Do(tab, chromedp.Navigate(p.Admin+"/?failed=1")) == nil && strings.Contains(text(), `data-state="well"`)
	})
	keep(t, tab, "without-javascript")
}

// TestPageAttacks has other sites do what they can to a page, and strangers choose
// paths, user agents and answers.
func TestPageAttacks(t *testing.T) {
	const hostile = `<img src=x onerror=pwned=1><script>pwned=1</script>"><svg onload=pwned=1>`
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		if strings.HasPrefix(r.URL.Path, "/broken") {
			fmt.Fprintf(conn, "%s\r\n\r\n", hostile)
			return
		}
		fmt.Fprintf(conn, "HTTP/1.1 500 %[1]s\r\nContent-Length: %[2]d\r\nX: %[1]s\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n%[1]s", hostile, len(hostile))
	}))
	t.Cleanup(upstream.Close)
	s := newStage(t, time.Hour)
	p := s.start(t, "BEARERD_UPSTREAM="+upstream.URL)
	for _, path := range []string{"/" + hostile, "/broken" + hostile, "/%3Cscript%3Epwned=1%3C/script%3E", "/x?query=" + hostile} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: localhost\r\nUser-Agent: %s\r\nConnection: close\r\n\r\n", strings.ReplaceAll(path, " ", "\u00a0"), hostile)
		_, _ = io.Copy(io.Discard, conn)
		_ = conn.Close()
	}
	browser := newBrowser(t)
	tab := openPage(t, browser, p.Admin)
	bearerdtest.Eventually(t, bearerdtest.Soon, "the page shows what strangers chose", func() bool {
		return strings.Contains(value[string](t, tab, `document.getElementById('requests').textContent`), "<script>pwned=1</script>")
	})
	bearerdtest.Eventually(t, bearerdtest.Soon, "the page is live", func() bool { return value[string](t, tab, `document.getElementById('link').textContent`) == "live" })
	askNames(t, p, 1)
	bearerdtest.Eventually(t, bearerdtest.Soon, "a row comes", func() bool {
		return strings.Contains(value[string](t, tab, `document.getElementById('requests').textContent`), namesPath)
	})
	if got := value[string](t, tab, `typeof pwned + document.querySelectorAll('img, iframe, #requests script, #tools script, svg[onload]').length + ' ' + violations.join()`); got != "undefined0 " {
		t.Errorf("what strangers chose was more than text: %s", got)
	}
	keep(t, tab, "hostile")

	// Other sites read nothing, and change nothing.
	logins := s.sim.Stats().Logins
	evil := pages(t)
	for _, site := range []string{at("evil.test", evil), at("localhost", evil)} {
		other := open(t, browser, site+"/")
		reads := value[map[string]string](t, other, fmt.Sprintf(`(async () => {
			const base = %q, out = {}, wait = (ms) => new Promise((d) => setTimeout(d, ms))
			const tried = async (name, f) => { try { out[name] = String(await f() ?? '') } catch (e) { out[name] = '' } }
			for (const path of ['/', '/page/events', '/status', '/page/script.js', '/metrics']) {
				await tried('cors ' + path, async () => { const a = new AbortController(); setTimeout(() => a.abort(), 1500); return (await (await fetch(base + path, { signal: a.signal })).text()) })
				await tried('no-cors ' + path, async () => { const a = new AbortController(); setTimeout(() => a.abort(), 1500); return (await (await fetch(base + path, { mode: 'no-cors', signal: a.signal })).text()) })
			}
			await tried('login', () => fetch(base + '/login', { method: 'POST', mode: 'no-cors' }).then(() => ''))
			await tried('beacon', () => { navigator.sendBeacon(base + '/login'); return '' })
			await tried('form', async () => {
				const f = document.createElement('form'); f.method = 'post'; f.action = base + '/login'; f.target = 'there'
				const i = document.createElement('iframe'); i.name = 'there'; document.body.append(i, f); f.submit(); await wait(500); return i.contentDocument?.body?.textContent
			})
			await tried('frame', async () => { const i = document.createElement('iframe'); i.src = base + '/'; document.body.append(i); await wait(500); return i.contentDocument?.body?.textContent })
			await tried('stream', () => new Promise((done) => { const s = new EventSource(base + '/page/events'); s.onmessage = s.onopen = () => done('open'); s.addEventListener('page', (e) => done(e.data)); s.onerror = () => done('') }))
			await tried('script', () => new Promise((done) => { const s = document.createElement('script'); s.src = base + '/page/script.js'; s.onload = () => done('loaded'); s.onerror = () => done(''); document.head.append(s) }))
			await tried('style', () => new Promise((done) => { const s = document.createElement('link'); s.rel = 'stylesheet'; s.href = base + '/page/style.css'; s.onload = () => done('loaded'); s.onerror = () => done(''); document.head.append(s) }))
			await tried('image', () => new Promise((done) => { const s = new Image(); s.src = base + '/page/icon.svg'; s.onload = () => done('loaded'); s.onerror = () => done('') }))
			await tried('window', async () => { const w = open(base + '/'); await wait(800); const seen = w?.document?.body?.textContent; w?.close(); return seen })
			return out
		})()`, p.Admin))
		for how, read := range reads {
			if read != "" {
				t.Errorf("%s, %s: read %.100q, want nothing", site, how, read)
			}
		}
		if len(reads) != 19 {
			t.Errorf("%s: %d attacks, want 19", site, len(reads))
		}
	}
	if got := s.sim.Stats().Logins; got != logins {
		t.Errorf("%d logins more, want none", got-logins)
	}
	// A page whose name is rebound to this machine is of the same origin to its
	// browser: the Host tells.
	req, err := http.NewRequest("GET", p.Admin+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "rebind.test:9180"
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusMisdirectedRequest || bytes.Contains(body, []byte(namesPath)) {
		t.Errorf("a rebound name: got %s %s", resp.Status, body)
	}
}

// TestPageLeftOpen has a page live through as many updates as come in a day of
// looking at it now and then: what its browser holds does not grow.
func TestPageLeftOpen(t *testing.T) {
	h := history.New(history.Options{})
	n := 0
	ask := func() {
		n++
		status := 200
		if n%9 == 0 {
			status = 503
		}
		h.Request(&proxy.Exchange{Method: "GET", Path: fmt.Sprintf("/orgs/42/calls/%d", n), UserAgent: fmt.Sprintf("tool/%d", n%50), Status: status, Outcome: proxy.Completed, Start: time.Now(), Duration: time.Duration(n%1000) * time.Millisecond, Generation: 1})
		if n < 60 || n%2000 == 0 {
			now := time.Now()
			h.Login(tokens.Event{Token: &tokens.Token{Generation: uint64(n), Lifetime: time.Minute, Requested: now, Came: now, Expiry: now.Add(time.Minute)}})
		}
	}
	for range 300 {
		ask()
	}
	var mu sync.Mutex // guards told, and n through ask
	told := 0
	server := httptest.NewServer(people.New(people.Options{Tick: 2 * time.Millisecond, Near: func(*http.Request) bool { return true }, Facts: func() people.Facts {
		mu.Lock()
		defer mu.Unlock()
		told++
		ask()
		now := time.Now()
		return people.Facts{
			Health: advice.Health{State: "well", Mood: advice.Good, Headline: "Well", Sentence: fmt.Sprintf("Update %d.", told)}, History: h.Snapshot(), Started: now,
			Token: people.Token{Generation: uint64(n), Good: true, Lifetime: time.Minute, Expiry: now.Add(time.Minute), Renewal: now.Add(40 * time.Second)},
		}
	}}))
	t.Cleanup(server.Close)
	tab := openPage(t, startBrowser(t), server.URL)
	after := func(updates int) (heap float64, nodes int) {
		heap = math.Inf(1) // the least of some: while an update is taken up, it holds as much again and more
		for i := range 10 {
			bearerdtest.Eventually(t, 2*time.Minute, fmt.Sprintf("%d updates", updates), func() bool {
				mu.Lock()
				defer mu.Unlock()
				return told >= updates+10*i
			})
			if _, err := chromedp.Call(tab, heapprofiler.CollectGarbage, cdp.Empty{}); err != nil {
				t.Fatal(err)
			}
			usage, err := chromedp.Call(tab, runtime.GetHeapUsage, cdp.Empty{})
			if err != nil {
				t.Fatal(err)
			}
			heap = min(heap, usage.UsedSize)
		}
		return heap, value[int](t, tab, `document.querySelectorAll('*').length`)
	}
	first, nodes := after(400)
	last, now := after(1200)
	t.Logf("heap %.0f kB after 400 updates and %.0f kB after 1200; %d and %d elements", first/1e3, last/1e3, nodes, now)
	if last > first+1e6 || now > nodes+300 {
		t.Errorf("the page grows: heap %.0f and %.0f bytes, %d and %d elements", first, last, nodes, now)
	}
	if got := value[string](t, tab, `document.getElementById('link').textContent`); got != "live" {
		t.Errorf("the page is %s, want live", got)
	}
}

var picture = flag.String("picture", "", "take pictures of a bad minute: `file` of the one for the documentation, others go to dist/page")

// TestPagePicture has two bad minutes before bearerd, and takes pictures of its
// page at three widths, light and dark.
func TestPagePicture(t *testing.T) {
	if *picture == "" {
		t.Skip("wants -picture FILE")
	}
	s := newStage(t, 15*time.Second)
	p := s.start(t)
	end := traffic(t, p)
	defer end()
	pass := func(d time.Duration) { <-time.After(d) }
	pass(18 * time.Second)
	s.sim.Revoke()
	pass(8 * time.Second)
	s.fault(t, querysim.Faults{Query: querysim.QueryStatus.With("503"), QueryNext: 12})
	pass(8 * time.Second)
	s.sim.SetLoginDown(true)
	pass(22 * time.Second)
	s.sim.SetLoginDown(false)
	pass(22 * time.Second)
	s.sim.SetLoginDelay(500 * time.Millisecond)
	pass(14 * time.Second)
	s.sim.SetLoginDown(true)
	pass(20 * time.Second)
	browser := startBrowser(t)
	for _, width := range []int64{360, 1024, 1920} {
		for _, scheme := range []string{"light", "dark"} {
			tab := openPage(t, browser, p.Admin)
			emulate(t, tab, scheme)
			if err := chromedp.Do(tab, chromedp.EmulateViewport(width, 1000)); err != nil {
				t.Fatal(err)
			}
			bearerdtest.Eventually(t, bearerdtest.Soon, "the page is live", func() bool { return value[string](t, tab, `document.getElementById('link').textContent`) == "live" })
			if got := value[int64](t, tab, `document.documentElement.scrollWidth`); got > width {
				t.Errorf("at %d the page is %d wide", width, got)
			}
			if width == 1024 && scheme == "light" {
				if err := chromedp.Do(tab, chromedp.EmulateViewport(1080, 1010)); err != nil {
					t.Fatal(err)
				}
				png, err := chromedp.Run(tab, chromedp.CaptureScreenshot())
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(*picture, png, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			keepWhole(t, tab, fmt.Sprintf("bad-minute-%d-%s", width, scheme))
		}
	}
}

// keepWhole keeps a picture of the whole page.
func keepWhole(t *testing.T, tab context.Context, name string) {
	t.Helper()
	png, err := chromedp.Run(tab, chromedp.FullScreenshot(100))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(pictures, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(pictures, name+".png"), png, 0o644); err != nil {
		t.Fatal(err)
	}
}
