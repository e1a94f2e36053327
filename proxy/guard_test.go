package proxy_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/bearerd/bearerd/proxy"
)

// A rebound page's GET carries neither Origin nor Sec-Fetch-Site: Host alone
// decides, on loopback too.
func TestThreatDNSRebinding(t *testing.T) {
	var up recorder
	d := start(t, proxy.Options{
		Upstream: listen(t, up.serve),
		Hosts:    []string{"Proxy.Example", "host.docker.internal", "[2001:db8::1]", "2001:db8::2", "10.0.0.7"},
	})
	for _, host := range []string{
		"localhost", "LOCALHOST", "localhost:8080", "localhost:1", "localhost:", "localhost.", "localhost.:8080",
		"127.0.0.1", "127.0.0.1:8080", "[::1]", "[::1]:8080",
		"HOST.docker.internal:8080",
		"proxy.example", "PROXY.example:443", "proxy.example.", "[2001:db8::1]:80", "[2001:DB8::2]", "10.0.0.7:9",
	} {
		resp, _ := d.get(t, "/", "Host: "+host)
		same(t, "status of Host "+host, resp.StatusCode, 200)
		if resp.StatusCode == 200 {
			up.last(t)
		}
	}
	for _, host := range []string{
		"", ":8080", "evil.example", "evil.example:8080", "localhost.evil.example", "evil.localhost", "localhost..",
		"0.0.0.0", "0.0.0.0:8080", "[::]", "[::]:8080", "[::]:", "0", "2130706433", "0x7f000001", "127.1", "127.0.0.2", "127.0.0.1.nip.io",
		"::1", "[::1", "[::1]x", "[::1]:x", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::1%25lo]",
		"localhost:8080:80", "localhost:80x", "user@localhost", "localhost@evil.example", "localhost,evil.example",
		"sub.proxy.example", "proxy.example.evil", "host.containers.internal", "host.lima.internal", "docker.internal", "x.host.docker.internal", "10.0.0.70", "xlocalhost", "localhost%00", ".localhost", ".",
	} {
		resp, _ := d.get(t, "/", "Host: "+host)
		if host == "[::1" || strings.ContainsAny(host, "@") {
			// net/http itself may refuse it.
			if resp.StatusCode != 400 && resp.StatusCode != 421 {
				t.Errorf("Host %q: got %d, want 400 or 421", host, resp.StatusCode)
			}
			continue
		}
		if resp.StatusCode != 421 {
			t.Errorf("Host %q: got %d, want 421", host, resp.StatusCode)
			continue
		}
		wantError(t, resp, proxy.HostNotAllowed)
	}
	// Without any, and twice.
	w := d.dial(t)
	w.send(t, "GET / HTTP/1.0\r\n\r\n")
	resp, _ := w.answer(t, "GET")
	wantError(t, resp, proxy.HostNotAllowed)
	resp, _ = d.get(t, "/", "Host: localhost", "Host: evil.example")
	same(t, "status of two Hosts", resp.StatusCode, 400)
	same(t, "requests upstream", len(up.all()), 0)
}

// An empty entry, as a trailing comma leaves, allows nothing.
func TestHostsEmptyEntry(t *testing.T) {
	var up recorder
	d := start(t, proxy.Options{Upstream: listen(t, up.serve), Hosts: []string{""}})
	resp, _ := d.get(t, "/", "Host: ")
	wantError(t, resp, proxy.HostNotAllowed)
	resp, _ = d.get(t, "/", "Host: :80")
	wantError(t, resp, proxy.HostNotAllowed)
	same(t, "requests upstream", len(up.all()), 0)
}

// A connection that CONNECT has made a tunnel of poisons the pool (Traefik
// CVE-2026-71326).
func TestThreatConnectRefused(t *testing.T) {
	var up recorder
	u := listen(t, up.serve)
	for _, methods := range [][]string{nil, {"GET", "CONNECT", "TRACE"}} {
		d := start(t, proxy.Options{Upstream: u, Methods: methods})
		for _, line := range []string{
			"CONNECT localhost:80", "CONNECT other.example:443", "CONNECT /", "TRACE /", "TRACE http://other.example/",
		} {
			w := d.dial(t)
			w.send(t, line+" HTTP/1.1\r\nHost: localhost\r\n\r\n")
			resp, _ := w.answer(t, "GET")
			if resp.StatusCode != 405 {
				t.Errorf("%s: got %d, want 405", line, resp.StatusCode)
				continue
			}
			wantError(t, resp, proxy.MethodNotAllowed)
			if allow := resp.Header.Get("Allow"); strings.Contains(allow, "CONNECT") || strings.Contains(allow, "TRACE") {
				t.Errorf("%s: got Allow %q, want neither CONNECT nor TRACE", line, allow)
			}
		}
	}
	same(t, "requests upstream", len(up.all()), 0)
}

// A client that does not wait for the answer before it uses the tunnel sends
// what somebody else wants sent: that must not be taken for requests.
func TestThreatRefusedTunnelEndsItsConnection(t *testing.T) {
	var up recorder
	d := start(t, proxy.Options{Upstream: listen(t, up.serve)})
	for _, request := range []string{
		"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
	} {
		w := d.dial(t)
		w.send(t, request+"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n")
		resp, _ := w.answer(t, "GET")
		if resp.StatusCode != 405 && resp.StatusCode != 400 {
			t.Errorf("%.10q: got %d, want 405 or 400", request, resp.StatusCode)
		}
		if line, err := w.in.ReadString('\n'); err != io.EOF {
			t.Errorf("%.10q: got %q and %v behind the answer, want the connection's end", request, line, err)
		}
	}
	same(t, "requests upstream", len(up.all()), 0)
}

func TestMethods(t *testing.T) {
	var up recorder
	u := listen(t, up.serve)
	d := start(t, proxy.Options{Upstream: u, Methods: []string{"GET", "PROPFIND"}})
	for method, status := range map[string]int{"GET": 200, "PROPFIND": 200, "HEAD": 405, "POST": 405, "get": 405, "OPTIONS": 405} {
		resp, _ := d.do(t, method, "/")
		same(t, "status of "+method, resp.StatusCode, status)
		if status == 405 {
			wantError(t, resp, proxy.MethodNotAllowed)
			same(t, "Allow", resp.Header.Get("Allow"), "GET, PROPFIND")
		} else {
			same(t, "line", up.last(t).line, method+" / HTTP/1.1")
		}
	}
	// All, when no list is set: also those that nobody knows.
	d = start(t, proxy.Options{Upstream: u})
	for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "QUERY", "Foo"} {
		resp, _ := d.do(t, method, "/")
		same(t, "status of "+method, resp.StatusCode, 200)
		same(t, "line", up.last(t).line, method+" / HTTP/1.1")
	}
}

func TestPathsByWholeSegments(t *testing.T) {
	var up recorder
	u := listen(t, up.serve)
	d := start(t, proxy.Options{Upstream: u, Paths: []string{"/api/v1", "/b%2Fc/", "/one"}})
	for path, status := range map[string]int{
		"/api/v1": 200, "/api/v1/": 200, "/api/v1/x": 200, "/api/v1?x": 200, "/api/v1/x?/../": 200, "/api/v1//x": 200,
		"/b%2Fc": 200, "/b%2Fc/d": 200, "/one": 200, "/api/v1/..x": 200, "/api/v1/...": 200,
		"/": 403, "/api": 403, "/api/": 403, "/api/v10": 403, "/api/v1x": 403, "/api/v1;x": 403, "/API/v1": 403, "//api/v1": 403,
		"/api//v1": 403, "/x/api/v1": 403, "/%61pi/v1": 403, "/b/c": 403, "/b%2fc": 403, "/api%2Fv1": 403, "/?/api/v1": 403, "/onerous": 403,
	} {
		resp, _ := d.get(t, path)
		if resp.StatusCode != status {
			t.Errorf("%s: got %d, want %d", path, resp.StatusCode, status)
			continue
		}
		if status == 403 {
			wantError(t, resp, proxy.PathNotAllowed)
		} else {
			same(t, "line", up.last(t).line, "GET "+path+" HTTP/1.1")
		}
	}
	same(t, "requests upstream", len(up.all()), 0)

	d = start(t, proxy.Options{Upstream: u, Paths: []string{"/"}})
	resp, _ := d.get(t, "/any/thing")
	same(t, "status below /", resp.StatusCode, 200)
}

// traversal holds paths below /api that some server may read as a way out.
var traversal = []string{
	"/api/../admin", "/api/..", "/api/.", "/api/./x", "/..", "/.", "/../api", "/api/x/../../admin",
	"/api/%2e%2e/admin", "/api/%2E%2E/admin", "/api/.%2e/admin", "/api/%2e./admin", "/api/%2e",
	"/api/..%2fadmin", "/api/..%2Fadmin", "/api%2f..%2fadmin", "/api/%2e%2e%2fadmin",
	"/api/%252e%252e/admin", "/api/%252e%252e%252fadmin", "/api/..%252fadmin", "/api/%25%32%65%25%32%65/admin", "/api/%%32%65%%32%65/admin",
	"/api/%25252e%25252e/admin", "/api/..%25252fadmin", "/api/%2525252e%2525252e/admin", "/api/%252525252e%252525252e/x",
	"/api/..;/admin", "/api/..;x/admin", "/api/..;x=1;y/admin", "/api/.;x", "/api/..%3b/admin", "/api/..%3Bx/admin", "/api/..%253bx/admin", "/api/%2e%2e;x/admin",
	"/api/..#", "/api/..#x", "/api/.#/x", "/api/%2e%2e#/x", "/api/..%23x", "/api/..%3fx", "/api/..%253Fx", "/api/%2e%23",
	`/api\..\admin`, `/api/..\admin`, `/api\../admin`, "/api/..%5cadmin", "/api%5C..%5Cadmin", "/api/..%255cadmin", `/api\%2e%2e\x`,
	"/api/%00", "/api/x%00.json", "/api/%2500", "/api/%252500", "/api/..%00/admin",
	"//../admin", "/api//../admin", "/api/..//admin",
	"/api/%zz/%2e%2e/x", "/api/%/../x",

	// Blanks that Windows strips, or a server that trims.
	"/api/..%20/admin", "/api/..%20", "/api/..%09/admin", "/api/..%0d%0a/x", "/api/..%0b", "/api/%20../x", "/api/.%20./x", "/api/..%20./x", "/api/..%20.../x", "/api/.%20/x",
	"/api/..%c2%a0/x", "/api/..%e3%80%80/x", "/api/..%e2%80%8b/x", "/api/.%c2%ad./x", "/api/..%2520/x", "/api/..%7f/x", "/api/..%20;x/y",
	// A stream's name on Windows.
	"/api/..:x/y", "/api/..::$INDEX_ALLOCATION/x", "/api/..%3a%3a$DATA",
	// Characters that become dots and slashes on the way to ASCII.
	"/api/%ef%bc%8e%ef%bc%8e/x", "/api/\uff0e\uff0e/x", "/api/.%ef%bc%8e/x", "/api/%e2%80%a4%e2%80%a4/x", "/api/%e2%80%a5/x", "/api/%ef%b9%92%ef%b9%92/x",
	"/api/%e3%80%82%e3%80%82/x", "/api/%ef%bd%a1./x", "/api/%ef%b8%b0/x", "/api/..%ef%bc%8fx", "/api/..%ef%bc%bcx", "/api/..%e2%88%95x", "/api/..%e2%81%84x",
	"/api/..%e2%88%96x", "/api/..%ef%b9%a8x", "/api/..%c2%a5x", "/api/..%e2%82%a9x", "/api/..%ef%bc%9bx", "/api/%ef%bc%852e%ef%bc%852e/x", "/api/%25ef%25bc%258e./x",
	"/api/..%ef%bc%a0/../x", "/api/x%ef%bc%8f..%ef%bc%8fy",
	// Overlong UTF-8, and as a careless decoder reads it.
	"/api/%c0%ae%c0%ae/x", "/api/.%c0%ae/x", "/api/..%c0%afx", "/api/..%c1%9cx", "/api/..%c1%1cx", "/api/%c0%2e%c0%2e/x", "/api/%c0%6e./x", "/api/..%c0%2fx", "/api/..%c1%5cx",
	"/api/%e0%80%ae%e0%80%ae/x", "/api/%e0%40%ae./x", "/api/%f0%80%80%ae./x", "/api/%f8%80%80%80%ae./x", "/api/%fc%80%80%80%80%ae./x", "/api/..%e0%80%afx", "/api/%25c0%25ae./x",
	"/api/x%c0%80", "/api/%c0%a52e%c0%a52e/x", "/api/%c1/../x", "/api/%c1%2f..%2fx", "/api/%e0%00%25",
	// Microsoft's escapes, which net/http lets pass only within others.
	"/api/%25u002e%25u002e/x", "/api/%25uff0e./x", "/api/..%25U2215x",
}

func TestThreatTraversal(t *testing.T) {
	var up recorder
	u := listen(t, up.serve)
	for name, o := range map[string]proxy.Options{
		"prefix":           {Upstream: parse(t, u.String()+"/base")},
		"prefix and paths": {Upstream: parse(t, u.String()+"/base"), Paths: []string{"/api"}},
		"paths":            {Upstream: u, Paths: []string{"/api"}},
		"paths /":          {Upstream: u, Paths: []string{"/"}},
	} {
		d := start(t, o)
		for _, path := range traversal {
			resp, _ := d.get(t, path)
			if resp.StatusCode != 400 {
				t.Errorf("%s: %s: got %d, want 400", name, path, resp.StatusCode)
				continue
			}
			if !strings.Contains(path, "%z") && !strings.Contains(path, "%/") && !strings.Contains(path, "%%") {
				wantError(t, resp, proxy.BadPath) // net/http's server refuses the others itself
			}
		}
	}
	same(t, "requests upstream", len(up.all()), 0)

	// What only looks like it, and anything in the query.
	d := start(t, proxy.Options{Upstream: parse(t, u.String()+"/base")})
	for _, path := range []string{
		"/..x", "/x..", "/...", "/.x", "/x.", "/.git/config", "/a..b", "/%2e%2ex", "/x;..", "/;x", "/a:..", "/a%20b", "/a%20", "/..%20x", "/%20", "/a.%20.b", "/a%25b",
		"/caf%c3%a9", "/%e9t%e9/%e0%20la", "/%c0%c1", "/%ef%bc%a1%ef%bc%8e", "/%e2%80%a6x", "/%e6%97%a5%e6%9c%ac%e3%80%82", "/%ff%fe", "/a%ef%bc%85zz", "/100%25",
		"/a%2Fb", "/a\\b", "/x?../..", "/x?a=%2e%2e/..&b=%00", "/%252525",
	} {
		resp, _ := d.get(t, path)
		if resp.StatusCode != 200 {
			t.Errorf("%s: got %d, want 200", path, resp.StatusCode)
			continue
		}
		same(t, "line", up.last(t).line, "GET /base"+path+" HTTP/1.1")
	}
}

// With nothing to break out of, a path is upstream's own affair.
func TestTraversalVerbatimWithoutPrefix(t *testing.T) {
	var up recorder
	for _, slash := range []string{"", "/"} {
		u := listen(t, up.serve)
		d := start(t, proxy.Options{Upstream: parse(t, u.String()+slash)})
		sent := 0
		for _, path := range traversal {
			if strings.Contains(path, "%z") || strings.Contains(path, "%/") || strings.Contains(path, "%%") {
				continue
			}
			resp, _ := d.get(t, path)
			same(t, "status of "+path, resp.StatusCode, 200)
			same(t, "line", up.last(t).line, "GET "+path+" HTTP/1.1")
			sent++
		}
		if sent < 40 {
			t.Errorf("got %d paths, want at least 40", sent)
		}
	}
}

// What a refusal costs: an answer, and nothing of the token or of upstream.
func TestRefusalAsksForNoToken(t *testing.T) {
	src := &source{}
	var up recorder
	d := start(t, proxy.Options{Upstream: listen(t, up.serve), Source: src, Paths: []string{"/api"}})
	for _, target := range []string{"/", "/api/..", "x:y"} {
		d.get(t, target)
	}
	d.get(t, "/api", "Host: evil.example")
	d.get(t, "/api", "Upgrade: websocket", "Connection: Upgrade")
	d.do(t, http.MethodTrace, "/api")
	same(t, "tokens asked for", src.asked, 0)
	same(t, "requests upstream", len(up.all()), 0)
	for _, ex := range d.exchanges(t, 6) {
		if ex.Error == "" || ex.Generation != 0 || ex.Status < 400 || ex.Outcome != proxy.Completed {
			t.Errorf("got %+v, want an error, no generation, a status and completed", ex)
		}
	}
}

func TestTraverses(t *testing.T) {
	for path, want := range map[string]bool{
		"": false, "/": false, "/a/b": false, "/a...b/.c/..d/e.": false, "/%25/%zz": false, "/a;..": false, "/a#b/..c": false, "/a..#": false,
		"/..": true, "/./a": true, `/a\..\b`: true, "/%2e%2E": true, "/a%2f..%5cb": true, "/%252e%252e/": true, "/..;x=1/a": true,
		"/%2525252525252525252525252e": true, // decoded more often than any server does: not plain at all
	} {
		if got := proxy.Traverses(path); got != want {
			t.Errorf("Traverses(%q): got %v, want %v", path, got, want)
		}
	}
}

// A router in front would answer PROPFIND with 405 and send /a//b elsewhere:
// there is none, and every path and method is upstream's.
func TestThreatRouterInFront(t *testing.T) {
	var up recorder
	d := start(t, proxy.Options{Upstream: listen(t, up.serve)})
	for _, request := range []string{"PROPFIND /a//b", "GET /a/./b/", "GET /livez", "GET /metrics", "Odd /status"} {
		method, path, _ := strings.Cut(request, " ")
		resp, _ := d.do(t, method, path)
		same(t, "status of "+request, resp.StatusCode, 200)
		same(t, "line", up.last(t).line, request+" HTTP/1.1")
	}
}
