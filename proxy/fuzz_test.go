package proxy_test

import (
	"io"
	"net"
	"net/url"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/bearerd/bearerd/proxy"
)

// readings returns a path as servers may read it: decoded up to ten times, with
// / and \ as separators, parameters cut off, and dot segments resolved.
func readings(p string) []string {
	var all []string
	for range 10 {
		segments := strings.Split(strings.ReplaceAll(p, `\`, "/"), "/")
		for i, s := range segments {
			segments[i], _, _ = strings.Cut(s, ";")
		}
		all = append(all, path.Clean("/"+strings.Join(segments, "/")))
		decoded := decode(p)
		if decoded == p {
			break
		}
		p = decoded
	}
	return all
}

// decode decodes each valid %XX once.
func decode(s string) string {
	const hex = "0123456789abcdef"
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			hi := strings.IndexByte(hex, s[i+1]|0x20)
			lo := strings.IndexByte(hex, s[i+2]|0x20)
			if hi >= 0 && lo >= 0 && s[i+1] >= '0' && s[i+2] >= '0' {
				b.WriteByte(byte(hi<<4 | lo))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// FuzzTarget writes any request line and fields to a real server. Whatever
// they are: what goes upstream goes to its host, below its prefix, with one
// token, and no more often than the handler was asked.
func FuzzTarget(f *testing.F) {
	for _, target := range append(oddTargets, traversal...) {
		f.Add("GET", target, "X: y", "")
	}
	for _, c := range [][4]string{
		{"GET", "http://evil.example/x", "Authorization: a", ""},
		{"GET", "x:http://other/steal", "Connection: Authorization, Host", ""},
		{"CONNECT", "evil.example:443", "", ""},
		{"OPTIONS", "*", "", ""},
		{"POST", "/a", "Content-Length: 3", "abc"},
		{"POST", "/a", "Content-Length: 0003\r\nContent-Length: 3", "abc"},
		{"POST", "/a", "Transfer-Encoding: chunked", "3\r\nabc\r\n0\r\n\r\n"},
		{"POST", "/a", "Transfer-Encoding: chunked\r\nContent-Length: 3", "3\r\nabc\r\n0\r\nAuthorization: b\r\n\r\n"},
		{"POST", "/a", "Transfer-Encoding: xchunked", "0\r\n\r\n"},
		{"POST", "/a", "Transfer-Encoding : chunked", "0\r\n\r\n"},
		{"POST", "/a", "Expect: 100-continue\r\nContent-Length: 3", "abc"},
		{"GET", "/a", "Host: evil.example", ""},
		{"GET", "/a", "Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AA", "GET /b HTTP/1.1\r\nHost: localhost\r\n\r\n"},
		{"GET", "/a", "X_Authorization: 1\r\nauthorization: 2\r\nX-Forwarded-For: 3", ""},
		{"GET", "/a HTTP/1.1\r\nHost: localhost\r\n\r\nGET /../b", "", ""},
	} {
		f.Add(c[0], c[1], c[2], c[3])
	}

	var up recorder
	u := listen(f, up.serve)
	d := prepare(f, proxy.Options{Upstream: parse(f, u.String()+"/base"), ReplayBuffer: 1000, BodyIdle: 20 * time.Millisecond})
	d.Config.IdleTimeout = 20 * time.Millisecond // a body may take in all that follows
	d.serve(f)
	f.Fuzz(func(t *testing.T, method, target, fields, body string) {
		up.mu.Lock()
		up.heads, up.sent = nil, nil
		up.mu.Unlock()
		d.mu.Lock()
		d.ended = nil
		d.mu.Unlock()
		w := d.dial(t)
		defer w.Close()
		if fields != "" {
			fields += "\r\n"
		}
		// What follows ends whatever head was begun, and the connection.
		_, _ = io.WriteString(w, method+" "+target+" HTTP/1.1\r\nHost: localhost\r\n"+fields+"\r\n"+body+
			"\r\n\r\nGET /end HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
		if _, err := io.Copy(io.Discard, w.in); err != nil {
			if ne, ok := err.(net.Error); ok && ne.Timeout() {
				t.Fatalf("the connection did not end")
			}
		}
		d.mu.Lock()
		asked := len(d.ended)
		d.mu.Unlock()
		heads := up.all()
		if len(heads) > asked {
			t.Errorf("got %d requests upstream, want no more than the handler's %d", len(heads), asked)
		}
		for _, h := range heads {
			if got := h.values("Host"); len(got) != 1 || got[0] != u.Host {
				t.Errorf("got Host %q, want %q", got, u.Host)
			}
			if got := h.values("Authorization"); len(got) != 1 || got[0] != bearer(1) {
				t.Errorf("got Authorization %q, want %q", got, bearer(1))
			}
			for _, name := range []string{"Proxy-Authorization", "Cookie", "X-Forwarded-For", "Forwarded", "Trailer", "Http2-Settings", "Upgrade"} {
				if got := h.values(name); got != nil {
					t.Errorf("got %s %q, want none", name, got)
				}
			}
			if len(h.values("Content-Length"))+len(h.values("Transfer-Encoding")) > 1 {
				t.Errorf("got two lengths: %q", h.fields)
			}
			for _, field := range h.fields {
				if name, _, _ := strings.Cut(field, ":"); strings.Contains(name, "_") {
					t.Errorf("got the field %q, want no underscore", field)
				}
			}
			parts := strings.Split(h.line, " ")
			if len(parts) != 3 || parts[2] != "HTTP/1.1" || parts[0] == "CONNECT" || parts[0] == "TRACE" {
				t.Fatalf("got the line %q", h.line)
			}
			p, _, _ := strings.Cut(parts[1], "?")
			for _, r := range readings(p) {
				if r != "/base" && !strings.HasPrefix(r, "/base/") {
					t.Errorf("got the path %q, which may be read as %q", p, r)
				}
			}
		}
	})
}

// FuzzTraverses: a path that it lets pass leads nowhere but down, however it
// is read; encoding a path once more hides nothing.
func FuzzTraverses(f *testing.F) {
	for _, p := range append(oddTargets, traversal...) {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p string) {
		got := proxy.Traverses(p)
		var encoded strings.Builder
		for _, c := range []byte(p) {
			encoded.WriteString("%" + strings.ToUpper(string("0123456789abcdef"[c>>4])+string("0123456789abcdef"[c&15])))
		}
		if got && !proxy.Traverses(encoded.String()) {
			t.Errorf("got false for %q encoded once more, want true", p)
		}
		if got {
			return
		}
		// Below any prefix it stays there.
		for _, r := range readings("/base/" + p) {
			if r != "/base" && !strings.HasPrefix(r, "/base/") {
				t.Errorf("got false for %q, which may be read as %q", p, r)
			}
			if strings.Contains(r, "\x00") {
				t.Errorf("got false for %q, which holds a NUL byte", p)
			}
		}
	})
}

// FuzzLocation: what is changed is a path of bearerd's own, and means upstream
// what it meant before.
func FuzzLocation(f *testing.F) {
	upstreams := []string{"https://up.example", "https://up.example/base", "http://up.example:8080/b%2Fc/", "https://[2001:db8::1]:8443"}
	for _, c := range locations {
		f.Add(uint(0), c.loc)
		f.Add(uint(1), c.loc)
		f.Add(uint(2), c.loc)
		f.Add(uint(3), c.loc)
	}
	here := &url.URL{Scheme: "http", Host: "localhost:8080", Path: "/a/b"}
	f.Fuzz(func(t *testing.T, which uint, loc string) {
		up := parse(t, upstreams[which%uint(len(upstreams))])
		got := proxy.Location(up, loc)
		if got == loc {
			return
		}
		if !strings.HasPrefix(got, "/") || strings.HasPrefix(got, "//") || strings.HasPrefix(got, `/\`) {
			t.Fatalf("%s: got %q for %q, want a path", up, got, loc)
		}
		u, err := here.Parse(got)
		if err != nil || u.Host != here.Host || u.Scheme != here.Scheme || u.User != nil {
			t.Fatalf("%s: got %q for %q, which leads to %v, %v", up, got, loc, u, err)
		}
		before, err := url.Parse(loc)
		if err != nil {
			t.Fatalf("%s: got %q for %q, which is no URL", up, got, loc)
		}
		same(t, "query", u.RawQuery, before.RawQuery)
		same(t, "fragment", u.Fragment, before.Fragment)
		if before.Host != "" {
			same(t, "host before", strings.ToLower(before.Hostname()), strings.ToLower(up.Hostname()))
		}
		// Asked for through bearerd it is the path it was.
		back, err := url.Parse(got)
		if err != nil {
			t.Fatal(err)
		}
		was, is := before.EscapedPath(), strings.TrimRight(up.EscapedPath(), "/")+back.EscapedPath()
		if was != is && was+"/" != is {
			t.Errorf("%s: got %q for %q: %q upstream, want %q", up, got, loc, is, was)
		}
	})
}
