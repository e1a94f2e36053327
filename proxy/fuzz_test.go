package proxy_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math"
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bearerd/bearerd/proxy"
)

// readings returns a path as servers may read it: decoded up to ten times, with
// / and \ as separators, parameters cut off, and dot segments resolved, each
// also with the first ? or # as its end, without the blanks that Windows strips,
// and with lookalikes of dots and slashes as these.
func readings(p string) []string {
	var all []string
	for range 10 {
		ended := p
		if end := strings.IndexAny(p, "?#"); end >= 0 {
			ended = p[:end]
		}
		for _, whole := range []string{p, ended, lookalikes.Replace(p)} {
			segments := strings.Split(strings.ReplaceAll(whole, `\`, "/"), "/")
			for i, s := range segments {
				segments[i], _, _ = strings.Cut(s, ";")
			}
			all = append(all, path.Clean("/"+strings.Join(segments, "/")))
			for i, s := range segments {
				segments[i] = strings.TrimRight(s, " \t")
			}
			all = append(all, path.Clean("/"+strings.Join(segments, "/")))
		}
		decoded := decode(p)
		if decoded == p {
			break
		}
		p = decoded
	}
	return all
}

var lookalikes = strings.NewReplacer("\uff0e", ".", "\u2024", ".", "\u2025", "..", "\uff0f", "/", "\u2215", "/", "\uff3c", `\`, "\xc0\xae", ".", "\xc0\xaf", "/", "\xc1\x9c", `\`)

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

// settings are those of the arenas of FuzzRawRequest and FuzzRequest.
var settings = []setting{
	{prefix: "/base"},
	{},
	{
		hosts: []string{"proxy.example"}, origins: []string{"http://localhost:3000"}, methods: []string{"GET", "HEAD", "POST", "OPTIONS"},
		paths: []string{"/a", "/end"}, header: proxy.HeaderRule{Name: "X-Key", Value: "k3y"},
	},
	{prefix: "/base", paths: []string{"/api"}},
	{prefix: "/base", good: 2}, // each request is replayed
	{good: math.MaxUint64},     // … and refused again
}

// arenas returns one for each of settings.
func arenas(t testing.TB) []*arena {
	var all []*arena
	for _, s := range settings {
		all = append(all, newArena(t, s, 20*time.Millisecond))
	}
	return all
}

// attack plays raw and what ends the connection behind it: whatever raw has begun
// is ended by the empty lines, or they are no request.
func (a *arena) attack(t testing.TB, raw string) {
	t.Helper()
	a.judge(t, a.play(t, raw+"\r\n\r\n"+end))
}

// FuzzRawRequest writes any bytes to a server like bearerd's, in each of
// settings. arena.judge says what must hold of what goes upstream and of what
// comes back.
func FuzzRawRequest(f *testing.F) {
	for i, c := range attacks {
		if len(c.raw) < 1<<12 { // the larger ones cost too much; TestThreatRequestSmuggling has them
			f.Add(uint8(i%len(settings)), []byte(c.raw))
		}
	}
	all := arenas(f)
	f.Fuzz(func(t *testing.T, which uint8, raw []byte) {
		all[int(which)%len(all)].attack(t, string(raw))
	})
}

// hazards are the fields of all attacks, and what browsers say of web pages.
var hazards = func() []string {
	all := []string{
		"X-Key: k3y", "X-Key: ", "x_key: k3y", "Connection: X-Key", "Connection: close", "Connection: Host, Origin, Sec-Fetch-Site",
		"Origin: http://localhost:3000", "Origin: http://LOCALHOST:3000", "Origin: http://localhost:3000, null", "Origin: http://localhost",
		"Origin: null", "Origin:", "Origin: https://evil.example", "Origin: http://proxy.example", "Access-Control-Request-Method: POST",
		"Sec-Fetch-Site: none", "Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: same-site", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Site:",
		"Idempotency-Key: 1", "User-Agent:", "Accept-Encoding: br", "X-Forwarded-Prefix: /x", "x-forwarded-port: 1",
	}
	for _, c := range attacks {
		if len(c.raw) > 1000 {
			continue
		}
		for line := range strings.SplitSeq(c.raw, "\r\n") {
			if strings.Contains(line, ":") && !strings.Contains(line, " HTTP/") && !slices.Contains(all, line) {
				all = append(all, line)
			}
		}
	}
	return all
}()

// FuzzRequest writes requests that are made of hazards: picks are indexes of
// fields, and more is one more. arena.judge has the invariants.
func FuzzRequest(f *testing.F) {
	if len(hazards) > 256 {
		f.Fatal("a byte no longer picks any of the hazards")
	}
	const prefixed, bare, guarded, below, replayed = 0, 1, 2, 3, 4
	for _, target := range slices.Concat(oddTargets, traversal, []string{"http://localhost/a", "x:http://other/steal", "*", "", "/api/a?x=/../"}) {
		f.Add(uint8(prefixed), "GET", target, "localhost", []byte{}, "", "")
		f.Add(uint8(below), "GET", target, "localhost", []byte{}, "", "")
	}
	for _, target := range []string{"/a/b", "/ab", "/a/%2e%2e/b", "/A"} {
		f.Add(uint8(guarded), "GET", target, "localhost", []byte{0}, "", "")
	}
	for _, host := range []string{
		"LOCALHOST.:80", "127.0.0.1", "[::1]:1", "host.docker.internal", "proxy.example:8080", "127.0.0.2", "0.0.0.0", "[::]", "", ":80", "2130706433",
		"localhost.evil.example", "localhost:80:80", "localhost@evil.example", "localhost\r\nHost: evil.example", "[::1", "::1", "localhost, evil.example",
	} {
		f.Add(uint8(bare), "GET", "/a", host, []byte{}, "", "")
		f.Add(uint8(guarded), "GET", "/a", host, []byte{0}, "", "")
	}
	for _, method := range []string{"HEAD", "OPTIONS", "CONNECT", "TRACE", "PATCH", "PROPFIND", "get"} {
		f.Add(uint8(bare), method, "/a", "localhost", []byte{}, "", "")
		f.Add(uint8(guarded), method, "/a", "localhost", []byte{0}, "Origin: http://localhost:3000\r\nAccess-Control-Request-Method: PUT", "")
	}
	for _, method := range []string{"", "PUT"} {
		f.Add(uint8(bare), "OPTIONS", "/a", "localhost", []byte{}, "Origin: http://localhost\r\nAccess-Control-Request-Method: "+method, "")
	}
	for pick, hazard := range hazards {
		which, picks := pick%len(settings), []byte{byte(pick)}
		if strings.Contains(hazard, "Origin") || strings.Contains(hazard, "Sec-Fetch") || strings.Contains(hazard, "ey: ") {
			which, picks = guarded, []byte{0, byte(pick)}
		}
		f.Add(uint8(which), "POST", "/a", "localhost", picks, "Content-Length: 3", "abc")
		if strings.Contains(hazard, "hunked") {
			f.Add(uint8(which), "POST", "/a", "localhost", picks, "", "3\r\nabc\r\n0\r\n\r\n")
		}
	}
	for _, which := range []uint8{prefixed, replayed} {
		f.Add(which, "POST", "/a", "localhost", []byte{}, "Content-Length: 999", "abc")
		f.Add(which, "POST", "/a", "localhost", []byte{}, "Expect: 100-continue\r\nContent-Length: 2000", strings.Repeat("a", 2000))
		f.Add(which, "PUT", "/a", "localhost", []byte{}, "Transfer-Encoding: chunked", "7d0\r\n"+strings.Repeat("a", 2000)+"\r\n0\r\n\r\n")
	}
	all := arenas(f)
	f.Fuzz(func(t *testing.T, which uint8, method, target, host string, picks []byte, more, body string) {
		fields := []string{"Host: " + host}
		for _, pick := range picks[:min(len(picks), 16)] {
			fields = append(fields, hazards[int(pick)%len(hazards)])
		}
		if more != "" {
			fields = append(fields, more)
		}
		all[int(which)%len(all)].attack(t, method+" "+target+" HTTP/1.1\r\n"+strings.Join(fields, "\r\n")+"\r\n\r\n"+body)
	})
}

// FuzzReply has upstream answer with any bytes. Besides what arena.judge says of
// answers: one that can be read in one way only comes with its status and its
// body, one that is cut short upstream is cut short, and then the next request on
// the connection gets its own answer. (Bytes behind an answer are another's:
// net/http may have sent the next request by then, and takes them for its answer.)
func FuzzReply(f *testing.F) {
	const listed = "http://localhost:3000"
	asks := []string{post("Content-Length: 3") + "abc", get("/a"), get("/a", "Origin: "+listed, "TE: trailers"), "HEAD /a HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"GET /a HTTP/1.0\r\nHost: localhost\r\n\r\n", post("Transfer-Encoding: chunked") + "3\r\nabc\r\n0\r\n\r\n"}
	for _, c := range replyAttacks {
		if len(c.reply) > 1<<16 {
			continue // TestThreatUpstreamAnswers has it
		}
		for i := range asks {
			f.Add(uint8(i), i%2 == 0, []byte(c.reply))
		}
	}
	a := newArena(f, setting{origins: []string{listed}}, patience)
	f.Fuzz(func(t *testing.T, which uint8, early bool, reply []byte) {
		if strings.Contains(string(reply), "Bearer t") {
			t.Skip() // for judge it would be the token
		}
		a.reply, a.early = string(reply), early
		got := a.play(t, asks[int(which)%len(asks)]+end)
		a.judge(t, got)
		v := a.visits[0]
		want, plain := plainly(reply, v.Method)
		if len(got) == 0 {
			if plain && want.whole || v.exchange.Outcome != proxy.Aborted {
				t.Fatalf("got no answer, want %.200q", fmt.Sprint(want))
			}
			return
		}
		first := got[0]
		if !plain || v.exchange.Error != "" {
			return
		}
		same(t, "status", first.status(), want.status())
		same(t, "whole", first.whole, want.whole)
		if !strings.HasPrefix(want.body, first.body) || first.whole && first.body != want.body {
			t.Errorf("got the body %.200q, want %.200q", first.body, want.body)
		}
		switch {
		case len(got) > 1:
			same(t, "the next answer", got[1].status()+got[1].body, "200ok")
		case first.whole && v.ProtoAtLeast(1, 1) && first.values("Connection") == nil:
			t.Errorf("the next request got no answer behind %.200q", fmt.Sprint(first))
		}
	})
}

// plainly returns the answer to method that reply is, and nothing else, where it
// can be read in one way only.
func plainly(reply []byte, method string) (m message, ok bool) {
	in := bufio.NewReader(bytes.NewReader(reply))
	for {
		m, err := strictly(in, false, method, nil)
		if err != nil || m.line == "" || m.status() < "100" {
			return m, false
		}
		if m.status() >= "200" {
			_, behind := in.ReadByte()
			// HTTP/1.0 knows no chunks.
			return m, behind == io.EOF && (strings.HasPrefix(m.line, "HTTP/1.1") || m.values("Transfer-Encoding") == nil)
		}
	}
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
