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

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
)

// pages serves testdata, and redirects to anywhere.
func pages(t *testing.T) *httptest.Server {
	server := httptest.NewServer(pagesHandler())
	t.Cleanup(server.Close)
	return server
}

// pagesIPv6 is pages at ::1.
func pagesIPv6(t *testing.T) *httptest.Server {
	t.Helper()
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		bearerdtest.Lacking(t, "::1")
	}
	server := httptest.NewUnstartedServer(pagesHandler())
	_ = server.Listener.Close()
	server.Listener = l
	server.Start()
	t.Cleanup(server.Close)
	return server
}

func pagesHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", http.FileServer(http.Dir("testdata")))
	mux.HandleFunc("/redirect", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, r.URL.Query().Get("to"), http.StatusTemporaryRedirect)
	})
	return mux
}

// at is the URL of a server of this machine by another of its names.
func at(host string, server *httptest.Server) string {
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	return "http://" + net.JoinHostPort(host, port)
}

// newBrowser starts a browser with a profile of its own, without what newer
// browsers do for the likes of bearerd, and others do not. To it, the names under
// .test are this machine's, and pages of the secure origins came by https.
func newBrowser(t *testing.T, secure ...string) context.Context {
	t.Helper()
	return startBrowser(t,
		chromedp.Flag("unsafely-treat-insecure-origin-as-secure", strings.Join(secure, ",")),
		withoutLocalNetworkAccess,
	)
}

var withoutLocalNetworkAccess = chromedp.Flag("disable-features", strings.Join([]string{
	"LocalNetworkAccessChecks", "LocalNetworkAccessChecksWebSockets", "LocalNetworkAccessForNavigations",
	"LocalNetworkAccessForSubframeNavigations", "LocalNetworkAccessForWorkers",
	"BlockInsecurePrivateNetworkRequests", "PrivateNetworkAccessNullIpAddress",
}, ","))

// startBrowser starts a browser with a profile of its own.
func startBrowser(t *testing.T, options ...chromedp.ExecAllocatorOption) context.Context {
	t.Helper()
	var file string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			file = found
			break
		}
	}
	if file == "" {
		bearerdtest.Lacking(t, "chromium")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, append([]chromedp.ExecAllocatorOption{
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
	}, options...)...)
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
			bearerdtest.Eventually(t, bearerdtest.Soon, "upstream gets "+base+name, func() bool { return len(u.to(base+name)) > 0 })
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
			bearerdtest.Eventually(t, bearerdtest.Soon, "bearerd refuses "+base+name, func() bool { return len(p.to(base+name)) > 0 })
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
		p.watch(t)
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

// succeed has a page of name call its own origin, after the server that it came
// from has gone and next has the port: to the browser that is what it is when the
// name gets another address, or when another program is started there.
func succeed(t *testing.T, browser context.Context, former *httptest.Server, name, base string, next func(addr string)) map[string]string {
	t.Helper()
	origin := at(name, former)
	tab := open(t, browser, origin+"/attack.html")
	former.Close()
	_, port, _ := net.SplitHostPort(former.Listener.Addr().String())
	next(net.JoinHostPort("127.0.0.1", port))
	return run(t, tab, fmt.Sprintf("rebound, %q", origin+base))
}

// bareAt serves the bare proxy before u at addr.
func bareAt(t *testing.T, u *upstream, addr string) {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	bare := httptest.NewUnstartedServer(u.bare(t))
	_ = bare.Listener.Close()
	bare.Listener = l
	bare.Start()
	t.Cleanup(bare.Close)
}

// TestBrowserRebinding has a page's name get another address.
func TestBrowserRebinding(t *testing.T) {
	const base = "/rebound/"
	t.Run("bare", func(t *testing.T) {
		u := newUpstream(t)
		reads := succeed(t, newBrowser(t), pages(t), "rebind.test", base, func(addr string) { bareAt(t, u, addr) })
		wantBroken(t, u, base, reboundReaders, reads)
	})
	t.Run("bearerd", func(t *testing.T) {
		wantRebindingRefused(t, newBrowser(t), pages(t), "rebind.test", base)
	})
}

// wantRebindingRefused has a page of name become bearerd's neighbour, and expects
// that it reads no more than bearerd's refusal.
func wantRebindingRefused(t *testing.T, browser context.Context, former *httptest.Server, name, base string, env ...string) {
	t.Helper()
	u := newUpstream(t)
	var p *process
	reads := succeed(t, browser, former, name, base, func(addr string) {
		p = u.start(t, append([]string{"BEARERD_LISTEN=" + addr, "BEARERD_ALLOW_UPGRADE=true"}, env...)...)
	})
	want := "host_not_allowed"
	if len(env) > 0 {
		want = "header_required"
	}
	for name, read := range reads {
		bearerdtest.Eventually(t, bearerdtest.Soon, "bearerd refuses "+base+name, func() bool { return len(p.to(base+name)) > 0 })
		if strings.Contains(read, treasure) {
			t.Errorf("%s: the page read what the account may see: %q", name, read)
		}
	}
	for _, r := range p.to(base) {
		if r.Code != want {
			t.Errorf("%s %s was answered with %d %s, want %s", r.Method, r.Path, r.Status, r.Code, want)
		}
	}
	// Its own origin's answer it may read: it says only that.
	if read := reads["get"]; !strings.Contains(read, want) {
		t.Errorf("the page read %q, want bearerd's refusal", read)
	}
	for _, r := range u.to(base) {
		t.Errorf("%s %s reached upstream", r.Method, r.URL.Path)
	}
}

// TestBrowserDockerName has a page come from a name that only Docker's machines
// own, as a rogue name server can have it, and that name then mean this machine.
// Chromium by itself (Local Network Access, as it is by default) stops a page that
// came from a public address, and not one of the network that it is on: it asks
// nobody on the way from there to loopback.
func TestBrowserDockerName(t *testing.T) {
	const base, name = "/rebound/", "host.docker.internal"
	const listed, header = "BEARERD_ALLOWED_HOSTS=" + name, "BEARERD_REQUIRE_HEADER=X-Bearerd-Key: of-this-test"
	for _, test := range []struct {
		what, space string
		off         bool // Local Network Access
		stopped     bool // by the browser
	}{
		{"Local Network Access by default, a page of the internet", "public", false, true},
		{"Local Network Access by default, a page of this network", "local", false, false},
		{"Local Network Access off, a page of the internet", "public", true, false},
	} {
		t.Run(test.what, func(t *testing.T) {
			var formers []*httptest.Server
			var spaces []string
			for range 4 {
				former := pagesIPv6(t)
				formers = append(formers, former)
				spaces = append(spaces, former.Listener.Addr().String()+"="+test.space)
			}
			options := []chromedp.ExecAllocatorOption{
				// ::1, where the page is at first, and 127.0.0.1.
				chromedp.Flag("host-resolver-rules", "MAP *.internal localhost"),
				chromedp.Flag("ip-address-space-overrides", strings.Join(spaces, ",")),
			}
			if test.off {
				options = append(options, withoutLocalNetworkAccess)
			}
			browser := startBrowser(t, options...)

			t.Run("bare", func(t *testing.T) {
				u := newUpstream(t)
				reads := succeed(t, browser, formers[0], name, base, func(addr string) { bareAt(t, u, addr) })
				if !test.stopped {
					wantBroken(t, u, base, reboundReaders, reads)
					return
				}
				for attack, read := range reads {
					if read != "" || len(u.to(base+attack)) > 0 {
						t.Errorf("%s: upstream got %d requests, and the page read %q: Chromium no longer stops it", attack, len(u.to(base+attack)), read)
					}
				}
			})
			if test.stopped {
				return
			}
			t.Run("bearerd", func(t *testing.T) { wantRebindingRefused(t, browser, formers[1], name, base) })
			t.Run("listed, with a header", func(t *testing.T) {
				wantRebindingRefused(t, browser, formers[2], name, base, listed, header)
			})
			t.Run("listed", func(t *testing.T) { // what the warning is about
				u := newUpstream(t)
				var p *process
				reads := succeed(t, browser, formers[3], name, base, func(addr string) {
					p = u.start(t, "BEARERD_LISTEN="+addr, "BEARERD_ALLOW_UPGRADE=true", listed)
				})
				wantBroken(t, u, base, reboundReaders, reads)
				p.Until("whoever answers for " + name)
			})
		})
	}
}

// TestBrowserFormerServersPage has a page of localhost outlive its server, whose
// port bearerd then gets: it is of bearerd's own origin, and only a header that it
// does not know keeps it out.
func TestBrowserFormerServersPage(t *testing.T) {
	const base = "/former/"
	browser := newBrowser(t)
	t.Run("without a header", func(t *testing.T) {
		u := newUpstream(t)
		reads := succeed(t, browser, pages(t), "localhost", base, func(addr string) {
			u.start(t, "BEARERD_LISTEN="+addr, "BEARERD_ALLOW_UPGRADE=true")
		})
		wantBroken(t, u, base, reboundReaders, reads)
	})
	t.Run("with a header", func(t *testing.T) {
		wantRebindingRefused(t, browser, pages(t), "localhost", base, "BEARERD_REQUIRE_HEADER=X-Bearerd-Key: of-this-test")
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
			bearerdtest.Eventually(t, bearerdtest.Soon, "another origin's "+name+" comes to bearerd", func() bool { return len(p.to("/app/other/"+name)) > 0 })
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
	p.watch(t)
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
