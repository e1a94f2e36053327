package sysproxy

import (
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"
)

func mustURL(t testing.TB, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// texts are proxies as a test writes them, with "direct" for none.
func texts(all []*url.URL) (out []string) {
	for _, u := range all {
		if u == nil {
			out = append(out, "direct")
		} else {
			out = append(out, u.String())
		}
	}
	return out
}

func TestParseList(t *testing.T) {
	for _, tt := range []struct {
		text, scheme string
		want         []string
		other        bool
	}{
		{"proxy:3128", "https", []string{"http://proxy:3128"}, false},
		{"proxy", "https", []string{"http://proxy:80"}, false},
		{"http=a:1;https=b:2", "https", []string{"http://b:2"}, false},
		{"http=a:1 https=b:2", "http", []string{"http://a:1"}, false},
		{"http=a:1;https=http://b:2/", "https", []string{"http://b:2"}, false},
		{"ftp=a:1", "https", nil, false},
		{"http=a:1;c:3", "https", []string{"http://c:3"}, false},
		{"a:1;b:2", "https", []string{"http://a:1", "http://b:2"}, false},
		{"PROXY a:1; DIRECT", "https", []string{"http://a:1", "direct"}, false},
		{"PROXY a:1;PROXY b:2;", "http", []string{"http://a:1", "http://b:2"}, false},
		{"HTTPS a:443", "https", []string{"https://a:443"}, false},
		{"https://a", "https", []string{"https://a:443"}, false},
		{"SOCKS5 a:1", "https", []string{"socks5://a:1"}, false},
		{"socks=a:1", "https", nil, true},
		{"SOCKS a:1; PROXY b:2", "https", []string{"http://b:2"}, true},
		{"DIRECT", "https", []string{"direct"}, false},
		{"[2001:db8::1]:8080", "https", []string{"http://[2001:db8::1]:8080"}, false},
		{"user:password@a:1", "https", nil, false},
		{"quic://a:1", "https", nil, false},
		{"a:1:2;;=;", "https", nil, false},
		{"", "https", nil, false},
	} {
		got, other := parseList(tt.text, tt.scheme)
		if !slices.Equal(texts(got), tt.want) || other != tt.other {
			t.Errorf("parseList(%q, %s): got %q, %v, want %q, %v", tt.text, tt.scheme, texts(got), other, tt.want, tt.other)
		}
	}
}

func TestBypassed(t *testing.T) {
	for _, tt := range []struct {
		list, url string
		want      bool
	}{
		{"", "https://api.example.com", false},
		{"", "http://localhost:1", true},
		{"", "http://127.0.0.1:1", true},
		{"", "http://[::1]:1", true},
		{"<local>", "https://intranet", true},
		{"<local>", "https://api.example.com", false},
		{"<local>", "https://10.0.0.1", false},
		{"*.example.com", "https://api.example.com", true},
		{"*.EXAMPLE.com", "https://API.example.com", true},
		{"*.example.com", "https://example.com", false},
		{".example.com", "https://api.example.com", true},
		{"x; api.example.com ;y", "https://api.example.com", true},
		{"api.example.com:443", "https://api.example.com", true},
		{"api.example.com:8443", "https://api.example.com", false},
		{"https://api.example.com", "https://api.example.com", true},
		{"http://api.example.com", "https://api.example.com", false},
		{"10.*", "https://10.2.3.4", true},
		{"10.0.0.0/8", "https://10.2.3.4", true},
		{"169.254/16", "https://169.254.1.1", true},
		{"169.254/16", "https://169.255.1.1", false},
		{"10/8", "https://api.example.com", false},
		{"*", "https://api.example.com", true},
		{"[a-z]pi.example.com", "https://api.example.com", false},
		{"?pi.example.com", "https://api.example.com", false},
	} {
		if got := bypassed(tt.list, mustURL(t, tt.url)); got != tt.want {
			t.Errorf("bypassed(%q, %s): got %v, want %v", tt.list, tt.url, got, tt.want)
		}
	}
}

const scutil = `<dictionary> {
  ExceptionsList : <array> {
    0 : *.local
    1 : 169.254/16
    2 : api.example.com
  }
  ExcludeSimpleHostnames : 1
  HTTPEnable : 1
  HTTPPort : 8080
  HTTPProxy : plain.example
  HTTPSEnable : 1
  HTTPSPort : 3128
  HTTPSProxy : proxy.example
  __SCOPED__ : <dictionary> {
    en0 : <dictionary> {
      HTTPSEnable : 1
      HTTPSProxy : wrong.example
    }
  }
}
`

func TestScutil(t *testing.T) {
	for _, tt := range []struct{ name, text, url, want, note string }{
		{"https", scutil, "https://login.example.com/x", "http://proxy.example:3128", ""},
		{"http", scutil, "http://login.example.com", "http://plain.example:8080", ""},
		{"an exception", scutil, "https://api.example.com", "", ""},
		{"a simple name", scutil, "https://intranet", "", ""},
		{"off", strings.ReplaceAll(scutil, "HTTPSEnable : 1", "HTTPSEnable : 0"), "https://login.example.com", "", ""},
		{"nothing set", "<dictionary> {\n}\n", "https://login.example.com", "", ""},
		{"PAC", "<dictionary> {\n  ProxyAutoConfigEnable : 1\n  ProxyAutoConfigURLString : http://x/y.pac\n}\n", "https://login.example.com", "", notPAC},
		{"SOCKS", "<dictionary> {\n  SOCKSEnable : 1\n  SOCKSProxy : s.example\n  SOCKSPort : 1080\n}\n", "https://login.example.com", "socks5://s.example:1080", ""},
		{"cut off", scutil[:60], "https://login.example.com", "", ""},
		{"", "", "https://login.example.com", "", ""},
	} {
		got := parseScutil(tt.text).answer(mustURL(t, tt.url))
		if s := strings.Join(texts(got.Proxies), ";"); s != tt.want || got.Note != tt.note {
			t.Errorf("%s: got %q, %q, want %q, %q", tt.name, s, got.Note, tt.want, tt.note)
		}
	}
}

// Whatever the system writes: no panic, and what comes out is a proxy that net/http
// knows, with a host and a port and no user information.
func FuzzSystemText(f *testing.F) {
	f.Add(scutil, "https://api.example.com")
	f.Add("http=a:1;https=b:2;socks=c", "http://intranet")
	f.Add("PROXY a:1; SOCKS5 b; DIRECT", "https://10.0.0.1:8443")
	f.Fuzz(func(t *testing.T, text, target string) {
		u, err := url.Parse(target)
		if err != nil || u.Host == "" {
			return
		}
		list, _ := parseList(text, u.Scheme)
		for _, via := range append(list, parseScutil(text).answer(u).Proxies...) {
			if via == nil {
				continue
			}
			if via.Hostname() == "" || via.Port() == "" || via.User != nil || !slices.Contains([]string{"http", "https", "socks5"}, via.Scheme) {
				t.Errorf("got %q", via)
			}
		}
		_ = bypassed(text, u)
	})
}

// fakeWindows is a user's settings.
type fakeWindows struct {
	is      current
	err     error
	scripts map[string]string // by address: what it answers
	asked   []string
}

func (f *fakeWindows) current() (current, error) { return f.is, f.err }

func (f *fakeWindows) script(pac string, _ *url.URL) (string, string, error) {
	f.asked = append(f.asked, pac)
	answer, ok := f.scripts[pac]
	if !ok {
		return "", "", errors.New("unreachable")
	}
	return answer, "", nil
}

func TestWindowsSettings(t *testing.T) {
	const pac = "http://wpad/x.pac"
	for _, tt := range []struct {
		name string
		is   fakeWindows
		want string
		note string
	}{
		{"nothing set", fakeWindows{}, "", ""},
		{"by hand", fakeWindows{is: current{proxies: "p:1", bypass: "<local>"}}, "http://p:1", ""},
		{"by hand, bypassed", fakeWindows{is: current{proxies: "p:1", bypass: "*.example.com;<local>"}}, "", ""},
		{"a PAC file", fakeWindows{is: current{pac: pac, proxies: "p:1"}, scripts: map[string]string{pac: "q:2;r:3"}}, "http://q:2;http://r:3", ""},
		{"a PAC file says none", fakeWindows{is: current{pac: pac, proxies: "p:1"}, scripts: map[string]string{pac: ""}}, "", ""},
		{"a PAC file that is away", fakeWindows{is: current{pac: pac, proxies: "p:1"}}, "http://p:1", notFound},
		{"a search that finds none", fakeWindows{is: current{autoDetect: true, proxies: "p:1"}}, "http://p:1", ""},
		{"a search that finds one", fakeWindows{is: current{autoDetect: true, pac: pac}, scripts: map[string]string{"": "q:2", pac: "r:3"}}, "http://q:2", ""},
		{"SOCKS 4", fakeWindows{is: current{proxies: "socks=s:1"}}, "", socks4},
		{"unreadable", fakeWindows{err: errors.New("no such user")}, "", noSetting},
	} {
		got := windowsSettings(&tt.is, mustURL(t, "https://api.example.com/x"))
		if s := strings.Join(texts(got.Proxies), ";"); s != tt.want || got.Note != tt.note {
			t.Errorf("%s: got %q, %q, want %q, %q", tt.name, s, got.Note, tt.want, tt.note)
		}
	}
	local := &fakeWindows{is: current{pac: pac}}
	if got := windowsSettings(local, mustURL(t, "http://localhost:1")); got.Proxies != nil || local.asked != nil {
		t.Errorf("for localhost: got %v, asked %q", got, local.asked)
	}
}

func TestReadConnection(t *testing.T) {
	whole := "F\x00\x00\x00\x07\x00\x00\x00\x0e\x00\x00\x00\x05\x00\x00\x00p:123\x01\x00\x00\x00*\x08\x00\x00\x00http://x\x00\x00"
	if got, want := readConnection([]byte(whole)), (current{true, "http://x", "p:123", "*"}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for n := range whole { // of whatever length
		readConnection([]byte(whole[:n]))
	}
	off := strings.Replace(whole, "\x0e", "\x01", 1)
	if got := readConnection([]byte(off)); got != (current{}) {
		t.Errorf("all is off: got %+v", got)
	}
}
