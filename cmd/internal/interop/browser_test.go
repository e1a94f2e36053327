package interop_test

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// pages serves testdata, and redirects to anywhere.
func pages(t *testing.T) *httptest.Server {
	mux := http.NewServeMux()
	mux.Handle("/", http.FileServer(http.Dir("testdata")))
	mux.HandleFunc("/redirect", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, r.URL.Query().Get("to"), http.StatusTemporaryRedirect)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server
}

// at is the URL of a server of this machine by another of its names.
func at(host string, server *httptest.Server) string {
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	return "http://" + net.JoinHostPort(host, port)
}

// newBrowser starts a browser with a profile of its own. To it, the names under
// .test are this machine's, and pages of the secure origins came by https.
func newBrowser(t *testing.T, secure ...string) context.Context {
	t.Helper()
	var file string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			file = found
			break
		}
	}
	if file == "" {
		lacking(t, "chromium")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 80*time.Second)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx,
		chromedp.ExecPath(file),
		chromedp.Flag("headless", "new"),
		chromedp.NoSandbox, // root, as whom containers run, cannot have it
		chromedp.DisableGPU,
		chromedp.NoFirstRun,
		chromedp.Flag("no-proxy-server", true),
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.Flag("disable-popup-blocking", true),
		chromedp.Flag("host-resolver-rules", "MAP *.test 127.0.0.1"),
		chromedp.Flag("unsafely-treat-insecure-origin-as-secure", strings.Join(secure, ",")),
		// What newer browsers do for the likes of bearerd, and others do not.
		chromedp.Flag("disable-features", strings.Join([]string{
			"LocalNetworkAccessChecks", "LocalNetworkAccessChecksWebSockets", "LocalNetworkAccessForNavigations",
			"LocalNetworkAccessForSubframeNavigations", "LocalNetworkAccessForWorkers",
			"BlockInsecurePrivateNetworkRequests", "PrivateNetworkAccessNullIpAddress",
		}, ",")),
	)
	t.Cleanup(cancel) // waits until the browser has ended
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("starting %s: %v", file, err)
	}
	return ctx
}

// open shows url in a tab of its own.
func open(t *testing.T, browser context.Context, url string) context.Context {
	t.Helper()
	tab, cancel := chromedp.NewContext(browser)
	t.Cleanup(cancel)
	if err := chromedp.Do(tab, chromedp.Navigate(url)); err != nil {
		t.Fatalf("opening %s: %v", url, err)
	}
	return tab
}

// run calls the page's function run, as if its user had asked for it, and
// returns what it does.
func run(t *testing.T, tab context.Context, args string) map[string]string {
	t.Helper()
	asUser := func(p *runtime.EvaluateParams) { p.UserGesture = new(true) }
	result, err := chromedp.Run(tab, chromedp.Evaluate[map[string]string]("run("+args+")", chromedp.EvalAwaitPromise, asUser))
	if err != nil {
		t.Fatalf("run(%s): %v", args, err)
	}
	return result
}

// cannot are the attacks that no request comes of, with the reason.
var cannot = map[string]string{
	"fetch-same-origin": "the page itself asks the browser not to",
}

// readers are the attacks that read the answer where nobody stands guard.
var readers = []string{
	"script.js", "module.js", "stylesheet.css",
	"fetch", "fetch-credentials", "fetch-header", "fetch-json", "fetch-delete", "fetch-redirected",
	"xhr", "xhr-credentials", "xhr-put", "source.events", "web.socket",
	"null-sandbox", "null-data", "null-socket.socket",
	"worker", "worker-import.js", "service-worker", "own-name-fetch", "zero-fetch",
}

// reboundReaders are those of them that a page of a rebound name makes.
var reboundReaders = []string{"get", "post-json", "delete", "iframe", "source.events", "web.socket"}

// wantBroken expects that what a page did to the bare proxy before u, with
// paths below base, worked.
func wantBroken(t *testing.T, u *upstream, base string, readers []string, reads map[string]string) {
	t.Helper()
	arrived := 0
	for name := range reads {
		if cannot[name] == "" {
			eventually(t, "upstream gets "+base+name, func() bool { return len(u.to(base+name)) > 0 })
			arrived++
		}
	}
	for name := range cannot {
		if got := len(u.to(base + name)); got != 0 {
			t.Errorf("%s: %d requests reached upstream, want 0, as %s", name, got, cannot[name])
		}
	}
	for _, name := range readers {
		if !strings.Contains(reads[name], treasure) {
			t.Errorf("%s: the page read %q, want what the account may see: the attack is none", name, reads[name])
		}
	}
	t.Logf("%s: %d of %d attacks got to upstream, and %d of them read its answer", base, arrived, len(reads), len(readers))
}

// wantRefused expects that what a page did to p, with paths below base, came
// and was refused.
func wantRefused(t *testing.T, p *process, u *upstream, base string, reads map[string]string) {
	t.Helper()
	for name, read := range reads {
		if cannot[name] == "" {
			eventually(t, "bearerd refuses "+base+name, func() bool { return len(p.to(base+name)) > 0 })
		}
		if strings.Contains(read, treasure) {
			t.Errorf("%s: the page read what the account may see: %q", name, read)
		}
	}
	for _, r := range p.to(base) {
		if r.Code != "cross_site" && r.Code != "host_not_allowed" {
			t.Errorf("%s %s was answered with %d %s, want a refusal of the guard", r.Method, r.Path, r.Status, r.Code)
		}
	}
	for _, r := range u.to(base) {
		t.Errorf("%s %s reached upstream", r.Method, r.URL.Path)
	}
}

// wantOnly ends the browser, makes a request that is allowed, and expects that
// upstream has had that one only.
func wantOnly(t *testing.T, browser context.Context, p *process, u *upstream) {
	t.Helper()
	if err := chromedp.Cancel(browser); err != nil {
		t.Fatalf("ending the browser: %v", err)
	}
	resp, err := http.Get(p.url + "/last")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("the request of a program: got %s, want 200", resp.Status)
	}
	for _, r := range u.to("/") {
		if r.URL.Path != "/last" {
			t.Errorf("%s %s reached upstream (Sec-Fetch-Site %q)", r.Method, r.URL.Path, r.Header.Get("Sec-Fetch-Site"))
		}
	}
}

// TestBrowserAttacks has pages do all that they can, from the internet and from
// another port of this machine.
func TestBrowserAttacks(t *testing.T) {
	evil, neighbour := pages(t), pages(t)
	internet := at("evil.test", evil)
	origins := map[string]string{"internet": internet, "neighbour": at("localhost", neighbour)}

	t.Run("bare", func(t *testing.T) {
		u := newUpstream(t)
		bare := httptest.NewServer(u.bare(t))
		t.Cleanup(bare.Close)
		browser := newBrowser(t, internet)
		for name, origin := range origins {
			base := "/" + name + "/"
			reads := run(t, open(t, browser, origin+"/attack.html"), fmt.Sprintf("attacks, %q", at("localhost", bare)+base))
			wantBroken(t, u, base, readers, reads)
		}
	})
	t.Run("bearerd", func(t *testing.T) {
		u := newUpstream(t)
		p := u.start(t, "BEARERD_ALLOW_UPGRADE=true")
		browser := newBrowser(t, internet)
		for name, origin := range origins {
			base := "/" + name + "/"
			reads := run(t, open(t, browser, origin+"/attack.html"), fmt.Sprintf("attacks, %q", p.url+base))
			for attack, read := range reads {
				if read != "" {
					t.Errorf("%s: the page read %q, want nothing", attack, read)
				}
			}
			wantRefused(t, p, u, base, reads)
		}
		wantOnly(t, browser, p, u)
	})
}

// TestBrowserRebinding has a page call its own origin, after the attacker's
// server has gone and another has the port: to the browser that is what it is
// when the name gets another address.
func TestBrowserRebinding(t *testing.T) {
	const base = "/rebound/"
	rebind := func(t *testing.T, browser context.Context, next func(addr string)) map[string]string {
		attacker := pages(t)
		origin, addr := at("rebind.test", attacker), attacker.Listener.Addr().String()
		tab := open(t, browser, origin+"/attack.html")
		attacker.Close()
		next(addr)
		return run(t, tab, fmt.Sprintf("rebound, %q", origin+base))
	}
	t.Run("bare", func(t *testing.T) {
		u := newUpstream(t)
		reads := rebind(t, newBrowser(t), func(addr string) {
			l, err := net.Listen("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			bare := httptest.NewUnstartedServer(u.bare(t))
			_ = bare.Listener.Close()
			bare.Listener = l
			bare.Start()
			t.Cleanup(bare.Close)
		})
		wantBroken(t, u, base, reboundReaders, reads)
	})
	t.Run("bearerd", func(t *testing.T) {
		u := newUpstream(t)
		browser := newBrowser(t)
		var p *process
		reads := rebind(t, browser, func(addr string) {
			p = u.start(t, "BEARERD_LISTEN="+addr, "BEARERD_ALLOW_UPGRADE=true")
		})
		wantRefused(t, p, u, base, reads)
		// Its own origin's answer it may read: it says only that.
		if read := reads["get"]; !strings.Contains(read, "host_not_allowed") {
			t.Errorf("the page read %q, want bearerd's refusal", read)
		}
		wantOnly(t, browser, p, u)
	})
}

// works is what testdata/app.js gets where it may call.
var works = map[string]string{
	"get":           "200 7 " + treasure,
	"post":          `200 POST {"name":"a","list":[1,2]}`,
	"delete":        "200 DELETE",
	"problem":       "403 application/problem+json path_not_allowed",
	"source.events": treasure,
	"web.socket":    treasure + ": hello",
}

func TestBrowserListedOrigin(t *testing.T) {
	listed, other := pages(t), pages(t)
	u := newUpstream(t)
	p := u.start(t, "BEARERD_ALLOWED_ORIGINS="+at("localhost", listed),
		"BEARERD_ALLOWED_PATHS=/app/listed,/app/other,/last", "BEARERD_ALLOW_UPGRADE=true")
	browser := newBrowser(t)

	tab := open(t, browser, at("localhost", listed)+"/app.html")
	if got := run(t, tab, fmt.Sprintf("%q", p.url+"/app/listed/")); !maps.Equal(got, works) {
		t.Errorf("the listed origin got %q, want %q", got, works)
	}
	shoot(t, tab, "listed.png")
	for _, name := range []string{"get", "post"} {
		for _, r := range u.to("/app/listed/" + name) {
			if r.Method == http.MethodOptions || r.Header.Get("X-Client") != "app" {
				t.Errorf("upstream got %s %s with X-Client %q, want no preflight, and app", r.Method, r.URL.Path, r.Header.Get("X-Client"))
			}
		}
	}

	for name, got := range run(t, open(t, browser, at("localhost", other)+"/app.html"), fmt.Sprintf("%q", p.url+"/app/other/")) {
		if !strings.HasPrefix(got, "failed: ") {
			t.Errorf("another origin's %s: got %q, want that it fails", name, got)
		}
	}
	if got := u.to("/app/other/"); len(got) != 0 {
		t.Errorf("%d requests of another origin reached upstream, want 0", len(got))
	}
	for name := range works {
		if name != "problem" { // it is elsewhere
			eventually(t, "another origin's "+name+" comes to bearerd", func() bool { return len(p.to("/app/other/"+name)) > 0 })
		}
	}
}

// TestBrowserAddressBar opens what a user typed.
func TestBrowserAddressBar(t *testing.T) {
	u := newUpstream(t)
	p := u.start(t)
	tab := open(t, newBrowser(t), p.url+"/typed")
	got, err := chromedp.Run(tab, chromedp.Evaluate[string]("document.body.textContent"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(got, treasure) {
		t.Errorf("the window shows %q, want what the account may see", got)
	}
}

// shoot keeps a picture of the page; go test -artifacts says where.
func shoot(t *testing.T, tab context.Context, name string) {
	t.Helper()
	picture, err := chromedp.Run(tab, chromedp.CaptureScreenshot())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(t.ArtifactDir(), name), picture, 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestBrowserDevProxy goes through the proxy of a development server.
func TestBrowserDevProxy(t *testing.T) {
	listed, other := httptest.NewUnstartedServer(nil), httptest.NewUnstartedServer(nil)
	u := newUpstream(t)
	p := u.start(t, "BEARERD_ALLOWED_ORIGINS="+at("localhost", listed), "BEARERD_ALLOW_UPGRADE=true",
		"BEARERD_ALLOWED_PATHS=/kept/listed,/kept/other,/changed/listed,/changed/other,/last")
	for _, server := range []*httptest.Server{listed, other} {
		server.Config.Handler = devServer(t, p.url)
		server.Start()
		t.Cleanup(server.Close)
	}
	evil := pages(t)
	browser := newBrowser(t, at("evil.test", evil))
	for _, test := range []struct {
		base    string
		page    *httptest.Server
		refused map[string]string
	}{
		{"/kept/listed/", listed, nil},
		{"/changed/listed/", listed, nil},
		{"/kept/other/", other, nil},
		// Host is bearerd's then, and Origin, where there is one, another.
		{"/changed/other/", other, map[string]string{
			"post": "403 cross_site", "delete": "403 cross_site", "web.socket": "failed: closed",
		}},
	} {
		want := maps.Clone(works)
		maps.Copy(want, test.refused)
		tab := open(t, browser, at("localhost", test.page)+"/app.html")
		if got := run(t, tab, fmt.Sprintf("%q", test.base)); !maps.Equal(got, want) {
			t.Errorf("%s: the page got %q, want %q", test.base, got, want)
		}
		for name := range test.refused {
			if got := len(u.to(test.base + name)); got != 0 {
				t.Errorf("%s%s: %d requests reached upstream, want 0", test.base, name, got)
			}
		}
	}

	// Others' pages can reach that proxy too.
	tab := open(t, browser, at("evil.test", evil)+"/attack.html")
	const base = "/kept/attack/"
	wantRefused(t, p, u, base, run(t, tab, fmt.Sprintf("attacks, %q", at("localhost", other)+base)))
}

// devServer serves testdata, and passes on what is under /kept and /changed as
// Vite's server.proxy does: with every header; with changeOrigin it puts its
// target's name into Host.
func devServer(t *testing.T, target string) http.Handler {
	t.Helper()
	to, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	pass := func(changeOrigin bool) http.Handler {
		return &httputil.ReverseProxy{Rewrite: func(pr *httputil.ProxyRequest) {
			pr.SetURL(to)
			if !changeOrigin {
				pr.Out.Host = pr.In.Host
			}
		}}
	}
	mux := http.NewServeMux()
	mux.Handle("/", http.FileServer(http.Dir("testdata")))
	mux.Handle("/kept/", pass(false))
	mux.Handle("/changed/", pass(true))
	return mux
}
