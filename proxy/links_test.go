package proxy_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/bearerd/bearerd/proxy"
)

// links are Link headers (RFC 8288) of an upstream https://up.example/base.
var links = []struct{ link, want string }{
	{`<https://up.example/base/a?page=2>; rel="next"`, `</a?page=2>; rel="next"`},
	{`<https://up.example/base/a?page=2>;rel=next,<https://up.example/base/a?page=9>;rel=last`, `</a?page=2>;rel=next,</a?page=9>;rel=last`},
	{`</base/a>; rel=next`, `</a>; rel=next`},
	{`<https://up.example/base>; rel=start`, `</>; rel=start`},
	{`< https://up.example/base/a >; rel=next`, `</a>; rel=next`},
	{"\t<https://up.example/base/a>\t;\trel=next \t,\t , <https://up.example/base/b>", "\t</a>\t;\trel=next \t,\t , </b>"},
	{`<https://up.example/base/a?x=1,2;y=>; rel=next, <https://up.example/base/b,c>; rel=last`, `</a?x=1,2;y=>; rel=next, </b,c>; rel=last`},
	{`<https://up.example/base/a>; title="a, <https://up.example/base/b>; c"; rel=next, <https://up.example/base/d>`, `</a>; title="a, <https://up.example/base/b>; c"; rel=next, </d>`},
	{`<https://up.example/base/a>; title="a \", <https://up.example/base/b>", <https://up.example/base/c>`, `</a>; title="a \", <https://up.example/base/b>", </c>`},
	{`<https://up.example/base/a>; rel="next", <https://other.example/b>; rel="help", <https://up.example/other>; rel=up`, `</a>; rel="next", <https://other.example/b>; rel="help", <https://up.example/other>; rel=up`},
	{`<https://up.example/base/a>; rel=x; anchor="https://up.example/base/b"; title="c"`, `</a>; rel=x; anchor="/b"; title="c"`},
	{`<?page=2>; rel=next; anchor="#part"`, same_},
	{`<a/b>; rel=next`, same_},
	{`<https://up.example/basement/a>; rel=next`, same_},
	{`<https://up.example/base/../a>; rel=next`, same_},
	{`<https://up.example/base//evil.example>; rel=next`, same_},
	{`<https://up.example/base/a`, same_},
	{`https://up.example/base/a; rel=next`, same_},
	{`x, <https://up.example/base/a>`, same_},
	{`<>; rel=self`, same_},
	{`<https://up.example/base/a>; title="left open, <https://up.example/base/b>`, `</a>; title="left open, <https://up.example/base/b>`},
	{``, same_}, {`,`, same_}, {`<`, same_}, {`>`, same_},
}

func TestLink(t *testing.T) {
	up := parse(t, "https://up.example/base")
	for _, c := range links {
		want := c.want
		if want == same_ {
			want = c.link
		}
		if got := proxy.Link(up, c.link); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// cookies are Set-Cookie headers of the same upstream, for a caller by http.
var cookies = []struct{ cookie, want string }{
	{"a=b", same_}, {"a=b; HttpOnly; Max-Age=3", same_}, {"", same_}, {";", same_},
	{"a=b; Path=/base", "a=b; Path=/"}, {"a=b; path=/base/", "a=b; Path=/"}, {"a=b;PATH = /base/x/y ;HttpOnly", "a=b; Path=/x/y;HttpOnly"},
	{"a=b; Path=/", same_}, {"a=b; Path=/basement", same_}, {"a=b; Path=/other", same_}, {"a=b; Path=base", same_}, {"a=b; Path", same_}, {"a=b; Path=", same_},
	{"a=b; Path=/base; Path=/base/c", "a=b; Path=/; Path=/c"},
	{"Path=/base; HttpOnly", same_}, {"a=/base; Path=/base", "a=/base; Path=/"},
	{"a=b; Domain=up.example; HttpOnly", "a=b; HttpOnly"}, {"a=b; domain=.UP.example", "a=b"}, {"a=b; Domain=example", "a=b"},
	{"a=b; Domain=other.example", same_}, {"a=b; Domain=p.example", same_}, {"a=b; Domain=x.up.example", same_}, {"a=b; Domain=", same_},
	{"a=b; Secure; HttpOnly", "a=b; HttpOnly"}, {"a=b;secure", "a=b"}, {"a=b; Secure=x", "a=b"}, {"secure=b; Path=/", same_},
	{"a=b; SameSite=None; Secure", "a=b"}, {"a=b; Secure; SameSite=Lax; Partitioned", "a=b; SameSite=Lax"}, {"a=b; SameSite=None", same_},
	{"__Host-a=b; Path=/; Secure", same_}, {"__secure-a=b; Path=/base; Secure; SameSite=None", "__secure-a=b; Path=/; Secure; SameSite=None"},
	{"a=b; Expires=Wed, 21 Oct 2026 07:28:00 GMT; Path=/base/x; Domain=up.example; Secure", "a=b; Expires=Wed, 21 Oct 2026 07:28:00 GMT; Path=/x"},
}

func TestCookie(t *testing.T) {
	up := parse(t, "https://up.example:8443/base/")
	for _, c := range cookies {
		want := c.want
		if want == same_ {
			want = c.cookie
		}
		if got := proxy.Cookie(up, c.cookie, false); got != want {
			t.Errorf("got %q for %q, want %q", got, c.cookie, want)
		}
	}
	for _, c := range []struct {
		upstream, cookie, want string
		secure                 bool
	}{
		{"https://up.example", "a=b; Path=/base; Secure", "a=b; Path=/base; Secure", true},
		{"https://up.example", "a=b; Path=/base; SameSite=None; Secure; Partitioned", "a=b; Path=/base; SameSite=None; Secure; Partitioned", true},
		{"https://up.example/a/b", "c=d; Path=/a", "c=d; Path=/", false},
		{"https://up.example/a/b", "c=d; Path=/a/", "c=d; Path=/", false},
		{"https://up.example/a/b", "c=d; Path=/a/bc", "c=d; Path=/a/bc", false},
		{"https://[2001:db8::1]:8443", "a=b; Domain=[2001:db8::1]", "a=b; Domain=[2001:db8::1]", false},
		{"https://192.0.2.1", "a=b; Domain=192.0.2.1", "a=b", false},
	} {
		if got := proxy.Cookie(parse(t, c.upstream), c.cookie, c.secure); got != c.want {
			t.Errorf("%s: got %q for %q, want %q", c.upstream, got, c.cookie, c.want)
		}
	}
}

// Page two is asked for through bearerd too: what upstream says of its own paths
// is true here, in every field that names one, whatever the status. The body is
// upstream's.
func TestUpstreamsPathsAreTrueHere(t *testing.T) {
	var self string
	for _, prefix := range []string{"", "/fhir"} {
		u := upstream(t, func(w http.ResponseWriter, r *http.Request) {
			h := w.Header()
			h.Add("Link", "<"+self+"/a?page=2>; rel=next, <"+self+"/a?page=9>; rel=last")
			h.Add("Link", "<"+self+"/a>; rel=first")
			h.Set("Content-Location", self+"/a/_history/3")
			h.Add("Set-Cookie", "a=b; Path="+prefix+"/x; Secure")
			h.Add("Set-Cookie", "c=d; Path=/")
			h.Set("Location", self+"/l")
			if r.URL.Path == prefix+"/created" {
				w.WriteHeader(201)
			}
			fmt.Fprint(w, `{"next": "`+self+`/a?page=2"}`)
		})
		u = parse(t, u.String()+prefix)
		self = u.String()
		d := start(t, proxy.Options{Upstream: u, ForwardCookies: true})
		for path, location := range map[string]string{"/created": "/l", "/a": self + "/l"} {
			resp, body := d.get(t, path)
			for name, want := range map[string][]string{
				"Link":             {"</a?page=2>; rel=next, </a?page=9>; rel=last", "</a>; rel=first"},
				"Content-Location": {"/a/_history/3"},
				"Set-Cookie":       {"a=b; Path=/x", "c=d; Path=/"},
				"Location":         {location},
			} {
				if got := resp.Header.Values(name); !slices.Equal(got, want) {
					t.Errorf("prefix %q, %s: got %s: %q, want %q", prefix, path, name, got, want)
				}
			}
			same(t, "body", body, `{"next": "`+self+`/a?page=2"}`)
		}
	}
}

// Where a trailer names a path it would come unmapped, and who reads a cookie
// there?
func TestUpstreamsPathsInTrailers(t *testing.T) {
	for _, announced := range []string{"", "Trailer: Link, Content-Location, Set-Cookie\r\n", "Trailer: X-T\r\n"} {
		up := &recorder{reply: "HTTP/1.1 200 OK\r\n" + announced + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n" +
			"Link: <https://up.example/base/a>; rel=next\r\nContent-Location: /base/a\r\nSet-Cookie: a=b; Path=/base\r\nX-T: 1\r\n\r\n"}
		d := start(t, proxy.Options{Upstream: listen(t, up.serve), ForwardCookies: true})
		resp, _ := d.get(t, "/")
		same(t, "trailer", fmt.Sprint(resp.Trailer), "map[X-T:[1]]")
	}
}

// FuzzLink: only targets and anchors change, each into what Location makes of it.
func FuzzLink(f *testing.F) {
	for _, c := range links {
		f.Add(c.link)
	}
	for _, c := range locations {
		f.Add("<" + c.loc + ">; rel=next, <" + c.loc + `>; title="a, b"`)
	}
	up := parse(f, "https://up.example/base")
	f.Fuzz(func(t *testing.T, link string) {
		got := proxy.Link(up, link)
		before, after := readLinks(link), readLinks(got)
		if len(before) != len(after) {
			t.Fatalf("got %q for %q: %d links, want %d", got, link, len(after), len(before))
		}
		for i, b := range before {
			want := b.target
			if mapped := proxy.Location(up, strings.Trim(want, " \t")); mapped != strings.Trim(want, " \t") {
				want = mapped
			}
			same(t, fmt.Sprintf("target %d of %q", i, link), after[i].target, want)
			if !strings.Contains(strings.ToLower(b.rest), "anchor") {
				same(t, fmt.Sprintf("what follows target %d of %q", i, link), after[i].rest, b.rest)
			}
		}
		if strings.Count(got, "\r")+strings.Count(got, "\n") > strings.Count(link, "\r")+strings.Count(link, "\n") {
			t.Errorf("got a new line in %q for %q", got, link)
		}
	})
}

// readLink is a target with what follows it, up to the next one.
type readLink struct{ target, rest string }

// readLinks reads a Link header from its start for as long as it is one.
func readLinks(s string) (all []readLink) {
	for {
		s = strings.TrimLeft(s, ", \t")
		if !strings.HasPrefix(s, "<") || !strings.Contains(s, ">") {
			return all
		}
		var l readLink
		l.target, s, _ = strings.Cut(s[1:], ">")
		quoted, escaped := false, false
		end := strings.IndexFunc(s, func(r rune) bool {
			switch {
			case escaped:
				escaped = false
			case quoted && r == '\\':
				escaped = true
			case r == '"':
				quoted = !quoted
			}
			return r == ',' && !quoted
		})
		if end < 0 {
			end = len(s)
		}
		l.rest, s = s[:end], s[end:]
		all = append(all, l)
	}
}

// FuzzCookie: the cookie itself stays, and of its attributes only Path changes;
// what goes is Domain, Secure and what is nothing without it.
func FuzzCookie(f *testing.F) {
	for _, c := range cookies {
		f.Add(c.cookie, false)
		f.Add(c.cookie, true)
	}
	up := parse(f, "https://up.example/base")
	f.Fuzz(func(t *testing.T, cookie string, secure bool) {
		got := proxy.Cookie(up, cookie, secure)
		was, is := strings.Split(cookie, ";"), strings.Split(got, ";")
		same(t, "cookie", is[0], was[0])
		is = is[1:]
		for _, attribute := range was[1:] {
			name, value, _ := strings.Cut(attribute, "=")
			name, value = strings.ToLower(strings.Trim(name, " \t")), strings.Trim(value, " \t")
			if len(is) > 0 && is[0] == attribute {
				is = is[1:]
				if name == "path" && (value == "/base" || strings.HasPrefix(value, "/base/")) {
					t.Errorf("got %q for %q, want the prefix removed", got, cookie)
				}
				continue
			}
			switch name {
			case "domain":
			case "secure", "partitioned", "samesite":
				if secure {
					t.Errorf("got %q for %q, want %s kept, as it came by TLS", got, cookie, name)
				}
			case "path":
				if len(is) == 0 || !strings.HasPrefix(is[0], " Path=/") {
					t.Fatalf("got %q for %q, want a Path", got, cookie)
				}
				is = is[1:]
			default:
				t.Fatalf("got %q for %q, want %q kept", got, cookie, attribute)
			}
		}
		if len(is) > 0 {
			t.Errorf("got %q for %q: %q are new", got, cookie, is)
		}
	})
}
