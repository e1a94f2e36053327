package main

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

// The page of a bearerd that serves shows what happens, and no secret: no token,
// password, account name or query.
func TestPage(t *testing.T) {
	t.Parallel()
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	p := w.Start(t, w.Env("vyopta")...)
	if _, port, _ := net.SplitHostPort(strings.TrimPrefix(p.Admin, "http://")); !strings.Contains(p.Text(), `"page":"http://localhost:`+port+`/"`) {
		t.Errorf("the start-up line does not say where the page is: %s", p.Text())
	}
	// A request that is there sooner is what the login is for.
	bearerdtest.Eventually(t, bearerdtest.Soon, "a login", func() bool { return strings.Contains(p.Text(), `"message":"logged in"`) })
	c := bearerdtest.NewClient(t)
	if err := bearerdtest.ExpectStatus(c, p.URL+bearerdtest.NamesPath+"?key=in-the-query", 200); err != nil {
		t.Fatal(err)
	}
	if err := bearerdtest.ExpectStatus(c, p.URL+"/nowhere?key=in-the-query", 404); err != nil {
		t.Fatal(err)
	}
	var text string
	bearerdtest.Eventually(t, bearerdtest.Soon, "both requests on the page", func() bool {
		status, header, page := bearerdtest.Fetch(t, c, p.Admin+"/")
		if status != 200 || !strings.Contains(header.Get("Content-Security-Policy"), "default-src 'none'") {
			t.Fatalf("got %d %v", status, header)
		}
		text = page
		return strings.Contains(page, "/nowhere") && strings.Contains(page, bearerdtest.NamesPath)
	})
	for _, want := range []string{`data-state="well"`, "Requests go through. The token is good for", "bearerd started", "Go-http-client", "BEARERD_UPSTREAM", w.Query.URL, "(set)", "curl --fail-with-body &#39;" + p.URL} {
		if !strings.Contains(text, want) && !strings.Contains(text, strings.Replace(want, "127.0.0.1", "localhost", 1)) {
			t.Errorf("%q is missing", want)
		}
	}
	// So does an open page.
	resp, err := http.Get(p.Admin + "/page/events")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() && !strings.HasPrefix(lines.Text(), "data: ") {
	}
	event := lines.Text()
	if !strings.Contains(event, "/nowhere") {
		t.Errorf("got %.300s, want the requests", event)
	}
	_, _, status := bearerdtest.Fetch(t, c, p.Admin+"/status")
	if !strings.Contains(status, `"state": "well"`) {
		t.Errorf("/status has no health: %s", status)
	}
	for _, all := range []string{text, event, status} {
		w.CheckSecrets(t, all)
		if strings.Contains(all, "in-the-query") {
			t.Error("a query is shown")
		}
	}
}

// An open page does not hold up the stop.
func TestPageDoesNotHoldUpTheStop(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("no SIGTERM")
	}
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	p := w.Start(t, w.Env("vyopta")...)
	resp, err := http.Get(p.Admin + "/page/events")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if code := p.Stop(syscall.SIGTERM, bearerdtest.AtOnce); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err == nil {
		t.Error("the stream ended as if it were whole")
	}
}

// BEARERD_PAGE=false: there is none.
func TestPageOff(t *testing.T) {
	t.Parallel()
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	p := w.Start(t, append(w.Env("vyopta"), "BEARERD_PAGE=false")...)
	for _, path := range []string{"/", "/page/events", "/page/script.js"} {
		if status, _, text := bearerdtest.Fetch(t, bearerdtest.NewClient(t), p.Admin+path); status != 404 {
			t.Errorf("%s: got %d %s, want 404", path, status, text)
		}
	}
}

// A neighbour who can reach the admin listener, and can write any Host, sees
// neither paths nor user agents nor settings, unless BEARERD_PAGE=full.
func TestThreatPageFromAnotherMachine(t *testing.T) {
	t.Parallel()
	own := otherAddress(t)
	for _, setting := range []string{"true", "full"} {
		w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
		p := w.Start(t, append(w.Env("vyopta"), "BEARERD_ADMIN_LISTEN="+net.JoinHostPort(own, "0"), "BEARERD_PAGE="+setting)...)
		c := bearerdtest.NewClient(t)
		if err := bearerdtest.ExpectStatus(c, p.URL+bearerdtest.NamesPath, 200); err != nil {
			t.Fatal(err)
		}
		const series = `bearerd_requests_total{code="200",method="GET"}`
		bearerdtest.Eventually(t, bearerdtest.Soon, series, func() bool { return p.Metric(series) == 1 })
		for _, path := range []string{"/", "/?path=names", "/page/events"} {
			req, err := http.NewRequest("GET", p.Admin+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = "localhost:9180"
			resp, err := c.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(resp.Body)
			lines.Buffer(nil, 1<<20)
			var text strings.Builder
			for lines.Scan() && !strings.HasPrefix(lines.Text(), "data: ") {
				text.WriteString(lines.Text())
			}
			text.WriteString(lines.Text())
			_ = resp.Body.Close()
			if resp.StatusCode != 200 || !strings.Contains(text.String(), "Requests go through") {
				t.Fatalf("%s, %s: got %d %.200s", setting, path, resp.StatusCode, text.String())
			}
			for _, secret := range []string{bearerdtest.NamesPath, "Go-http-client", "BEARERD_UPSTREAM"} {
				settings := secret == "BEARERD_UPSTREAM" && path == "/page/events" // they do not change
				if shown := strings.Contains(text.String(), secret); shown != (setting == "full") && !settings {
					t.Errorf("BEARERD_PAGE=%s, %s: is %s shown? %v", setting, path, secret, shown)
				}
			}
		}
		// Its own address is no Host of bearerd's, as that of a rebound name.
		if status, _, _ := bearerdtest.Fetch(t, c, p.Admin+"/"); status != 421 {
			t.Errorf("by the address: got %d, want 421", status)
		}
	}
}

// otherAddress is one of this machine's that is not loopback.
func otherAddress(t *testing.T) string {
	t.Helper()
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && !p.Addr().IsLoopback() && !p.Addr().IsLinkLocalUnicast() {
			return p.Addr().String()
		}
	}
	bearerdtest.Lacking(t, "an address besides loopback")
	return ""
}
