package proxy_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/bearerd/bearerd/proxy"
)

// oddTargets are sent byte for byte, whatever net/url thinks of them.
var oddTargets = []string{
	"/", "/a", "/a/", "/a%2Fb", "/a%2fb", "/%7e", "/~", "/a%20b", "/%41", "/a;b=1/c", "/a,b@c:d", "/*", "/a#b",
	`/a|b^{}<>"` + "`", "/a[b]", "/a'b(c)!$&+=", "/%e2%82%ac", "/\xe2\x82\xac", "/\xff\xfe", "/%zz", "/%",
	"/x?", "/x??", "/x?a=1;b=2", "/x?a=%zz&b=%", `/x?a=|^{}<>"` + "`", "/x?a=/../b", "/x?a=1#f", "/x?\xff", "/x?a=http://other/",
	"//a//b", "/a//b", "///a", "/a/.hidden/b..c", "//?x", "//other.example/x",
}

func TestThreatQueryRewriting(t *testing.T) {
	for _, prefix := range []string{"", "/", "/base", "/base/", "/b%2Fc", "/base/v1"} {
		var up recorder
		u := listen(t, up.serve)
		u = parse(t, u.String()+prefix)
		d := start(t, proxy.Options{Upstream: u})
		for _, target := range oddTargets {
			if strings.Contains(target, "%zz") && !strings.Contains(target, "?") || target == "/%" {
				continue // net/http refuses them: TestTargetMalformedEscape
			}
			resp, _ := d.get(t, target)
			if resp.StatusCode != 200 {
				t.Errorf("prefix %q, target %q: got %d, want 200", prefix, target, resp.StatusCode)
				continue
			}
			want := "GET " + strings.TrimRight(prefix, "/") + target + " HTTP/1.1"
			if got := up.last(t).line; got != want {
				t.Errorf("prefix %q, target %q: got %q, want %q", prefix, target, got, want)
			}
		}
	}
}

// net/http's server refuses these before the handler has a say.
func TestTargetMalformedEscape(t *testing.T) {
	var up recorder
	d := start(t, proxy.Options{Upstream: listen(t, up.serve)})
	for _, target := range []string{"/%zz", "/%", "/a\x7fb", "/a\x01b"} {
		resp, _ := d.get(t, target)
		same(t, target, resp.StatusCode, 400)
	}
	same(t, "requests upstream", len(up.all()), 0)
}

// A path that begins with two slashes and holds what a URL must escape would
// go as an authority (net/url: URL.RequestURI).
func TestTargetDoubleSlashOdd(t *testing.T) {
	var up recorder
	u := listen(t, up.serve)
	d := start(t, proxy.Options{Upstream: u})
	for _, target := range []string{"//a|b", "//other.example/|", "//\xff", `//"`, "//a#b"} {
		resp, _ := d.get(t, target)
		wantError(t, resp, proxy.BadPath)
	}
	same(t, "requests upstream", len(up.all()), 0)

	// Behind a prefix it begins with one.
	d = start(t, proxy.Options{Upstream: parse(t, u.String()+"/base")})
	resp, _ := d.get(t, "//a|b")
	same(t, "status", resp.StatusCode, 200)
	same(t, "line", up.last(t).line, "GET /base//a|b HTTP/1.1")
}

// Whatever else HTTP allows as a target names a host, and upstream's is the
// only one there is (Traefik PR 13796).
func TestThreatTargetIsNoPath(t *testing.T) {
	var up recorder
	d := start(t, proxy.Options{Upstream: listen(t, up.serve)})
	for _, c := range []struct{ line, host string }{
		{"GET http://h/p", "h"},
		{"GET http://localhost/p", "localhost"},
		{"GET http://localhost/p", "other.example"},
		{"GET HTTP://127.0.0.1:1/p?q", "localhost"},
		{"GET x:http://other/steal", "localhost"},
		{"GET x:/p", "localhost"},
		{"GET x://other/p", "localhost"},
		{"GET https://user:pw@other/p", "localhost"},
		{"OPTIONS *", "localhost"},
		{"GET *", "localhost"},
	} {
		w := d.dial(t)
		w.send(t, c.line+" HTTP/1.1\r\nHost: "+c.host+"\r\n\r\n")
		resp, _ := w.answer(t, "GET")
		if got := resp.Header.Get("Proxy-Status"); !strings.Contains(got, `"bad_target"`) {
			t.Errorf("%s, Host %s: got %d %q, want bad_target", c.line, c.host, resp.StatusCode, got)
			continue
		}
		wantError(t, resp, proxy.BadTarget)
	}
	// net/http's server itself refuses what is no request target at all.
	for _, line := range []string{"GET other:80", "GET other", "GET ?x", "GET \\x"} {
		w := d.dial(t)
		w.send(t, line+" HTTP/1.1\r\nHost: localhost\r\n\r\n")
		resp, _ := w.answer(t, "GET")
		same(t, line, resp.StatusCode, 400)
	}
	same(t, "requests upstream", len(up.all()), 0)
	for _, ex := range d.exchanges(t, len(d.ended)) {
		same(t, "path of a target that is none", ex.Path, "")
	}
}

// A plain http upstream behind an HTTP proxy needs the absolute form.
func TestTargetThroughHTTPProxy(t *testing.T) {
	for _, prefix := range []string{"", "/base"} {
		var hop recorder
		tr := proxy.NewTransport(proxy.TransportOptions{})
		tr.Proxy = http.ProxyURL(listen(t, hop.serve))
		t.Cleanup(tr.CloseIdleConnections)
		const host = "upstream.invalid:81"
		d := start(t, proxy.Options{Upstream: parse(t, "http://"+host+prefix), Transport: tr})
		for _, target := range append([]string{"//a|b"}, oddTargets...) {
			if strings.Contains(target, "%zz") && !strings.Contains(target, "?") || target == "/%" {
				continue
			}
			resp, _ := d.get(t, target)
			same(t, "status", resp.StatusCode, 200)
			h := hop.last(t)
			same(t, "line of "+target, h.line, "GET http://"+host+prefix+target+" HTTP/1.1")
			same(t, "Host of "+target, strings.Join(h.values("Host"), ","), host)
			same(t, "Authorization of "+target, strings.Join(h.values("Authorization"), ","), bearer(1))
		}
	}
}

// Through a SOCKS proxy the connection is upstream's own, and so is the form.
func TestTargetThroughSOCKSProxy(t *testing.T) {
	var up recorder
	lines := make(chan string, 4)
	socks := listen(t, func(n int, c *wire) {
		// RFC 1928: greeting, no authentication; CONNECT by name, granted.
		greeting := make([]byte, 2)
		if _, err := c.in.Read(greeting); err != nil {
			return
		}
		if _, err := c.in.Discard(int(greeting[1])); err != nil {
			return
		}
		c.send(t, "\x05\x00")
		if _, err := c.in.Discard(4); err != nil {
			return
		}
		n8, err := c.in.ReadByte()
		if err != nil {
			return
		}
		if _, err := c.in.Discard(int(n8) + 2); err != nil {
			return
		}
		c.send(t, "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
		up.serve(n, c)
		lines <- ""
	})
	tr := proxy.NewTransport(proxy.TransportOptions{})
	tr.Proxy = http.ProxyURL(&url.URL{Scheme: "socks5", Host: socks.Host})
	t.Cleanup(tr.CloseIdleConnections)
	d := start(t, proxy.Options{Upstream: parse(t, "http://upstream.invalid"), Transport: tr})
	for _, target := range []string{"/a", "/a|b", "/x?"} {
		resp, _ := d.get(t, target)
		same(t, "status", resp.StatusCode, 200)
		same(t, "line", up.last(t).line, "GET "+target+" HTTP/1.1")
	}
}

var locations = []struct{ upstream, loc, want string }{
	// into upstream: a path
	{"https://up.example", "https://up.example/next?x=1#f", "/next?x=1#f"},
	{"https://up.example", "https://up.example", "/"},
	{"https://up.example", "https://up.example?x", "/?x"},
	{"https://up.example", "https://up.example#f", "/#f"},
	{"https://up.example", "https://UP.Example:443/a", "/a"},
	{"https://up.example:443", "https://up.example/a", "/a"},
	{"https://up.example", "https://up.example:/a", "/a"},
	{"https://up.example", "HTTPS://up.example/a", "/a"},
	{"https://up.example", "//up.example/a", "/a"},
	{"https://up.example", "http://up.example/a", "/a"},
	{"https://up.example", "http://up.example:80/a", "/a"},
	{"https://up.example", "http://up.example:443/a", "/a"},
	{"https://up.example:8443", "https://up.example:8443/a", "/a"},
	{"https://up.example:8443", "http://up.example:8443/a", "/a"},
	{"http://up.example", "http://up.example:80/a", "/a"},
	{"http://up.example:8080", "http://up.example:8080/a%2Fb?c|d", "/a%2Fb?c|d"},
	{"https://[2001:db8::1]", "https://[2001:DB8::1]:443/a", "/a"},
	{"https://up.example", "https://up.example/a/../b", "/a/../b"},
	{"https://up.example", "/next?x=1#f", "/next?x=1#f"},
	{"https://up.example", "/", "/"},

	// with a prefix: removed
	{"https://up.example/base", "https://up.example/base/next?x=1#f", "/next?x=1#f"},
	{"https://up.example/base/", "https://up.example/base/next", "/next"},
	{"https://up.example/base", "https://up.example/base", "/"},
	{"https://up.example/base", "https://up.example/base/", "/"},
	{"https://up.example/base", "https://up.example/base?x", "/?x"},
	{"https://up.example/base", "/base/next#f", "/next#f"},
	{"https://up.example/base", "//up.example/base/next", "/next"},
	{"https://up.example/b%2Fc", "https://up.example/b%2Fc/d", "/d"},
	{"https://up.example", "https://up.example/x?u=https://up.example/y", "/x?u=https://up.example/y"},

	// outside: as it came
	{"https://up.example/base", "https://up.example/other", same_},
	{"https://up.example/base", "https://up.example/basement", same_},
	{"https://up.example/base", "https://up.example/", same_},
	{"https://up.example/base", "https://up.example", same_},
	{"https://up.example/base", "/other", same_},
	{"https://up.example/base", "https://up.example/base/../other", same_},
	{"https://up.example/base", "https://up.example/base/%2e%2e/other", same_},
	{"https://up.example/base", "https://up.example/base//evil.example/", same_},
	{"https://up.example", "https://up.example//evil.example/", same_},
	{"https://up.example", `https://up.example/\evil.example/`, same_},
	{"https://up.example", `/\evil.example/`, same_},
	{"https://up.example", "https://other.example/a", same_},
	{"https://up.example", "https://up.example:8443/a", same_},
	{"https://up.example", "http://up.example:8080/a", same_},
	{"https://up.example:8443", "http://up.example/a", same_},
	{"https://up.example:8443", "https://up.example/a", same_},
	{"http://up.example", "https://up.example/a", same_},
	{"http://up.example:8080", "https://up.example:8080/a", same_},
	{"https://up.example", "ftp://up.example/a", same_},
	{"https://up.example", "//evil.example/a", same_},
	{"https://up.example", "///evil.example/a", same_},
	{"https://up.example", "////evil.example/a", same_},
	{"https://up.example", "https:///a", same_},
	{"https://up.example", "https:////evil.example", same_},
	{"https://up.example", "https:/a", same_},
	{"https://up.example", "https:a", same_},
	{"https://up.example", "https://user@up.example/a", same_},
	{"https://up.example", "https://user:pw@up.example/a", same_},
	{"https://up.example", "https://up.example@evil.example/a", same_},
	{"https://up.example", "https://up.example.evil.example/a", same_},
	{"https://up.example", `https://up.example\@evil.example/a`, same_},
	{"https://up.example", "next", same_},
	{"https://up.example", "../next", same_},
	{"https://up.example", "?x=1", same_},
	{"https://up.example", "#f", same_},
	{"https://up.example", "", same_},
	{"https://up.example", "https://up.example/%zz", same_},
	{"https://up.example", "mailto:a@b", same_},
}

const same_ = "\x00as it came"

func TestLocation(t *testing.T) {
	for _, c := range locations {
		want := c.want
		if want == same_ {
			want = c.loc
		}
		if got := proxy.Location(parse(t, c.upstream), c.loc); got != want {
			t.Errorf("upstream %s: got %q for %q, want %q", c.upstream, got, c.loc, want)
		}
	}
}

// Location is looked at in a 3xx, a 201 and a 202, and bearerd follows none.
func TestLocationByStatus(t *testing.T) {
	for status, rewritten := range map[int]bool{
		200: false, 201: true, 202: true, 301: true, 302: true, 303: true, 304: true, 307: true, 308: true, 400: false, 503: false,
	} {
		var host string
		u := upstream(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/a" {
				t.Errorf("status %d: got a request for %s: it was followed", status, r.URL)
			}
			w.Header().Set("Location", "http://"+host+"/next")
			w.WriteHeader(status)
		})
		host = u.Host
		d := start(t, proxy.Options{Upstream: u})
		resp, _ := d.get(t, "/a")
		same(t, "status", resp.StatusCode, status)
		want := "http://" + host + "/next"
		if rewritten {
			want = "/next"
		}
		if got := resp.Header.Values("Location"); len(got) != 1 || got[0] != want {
			t.Errorf("status %d: got Location %q, want %q", status, got, want)
		}
	}
}
