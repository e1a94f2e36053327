package endpoint

import (
	"net/netip"
	"net/url"
	"testing"
)

func TestThreatUpstreamIsBearerdItself(t *testing.T) {
	box := Machine{name: "Box.corp.example", addrs: []netip.Addr{
		netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1"), netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7"), netip.MustParseAddr("fe80::7"),
	}}
	for _, test := range []struct {
		listen string
		own    []string
		other  []string
	}{
		{"localhost:8080",
			[]string{"http://localhost:8080", "http://LOCALHOST.:8080/x", "http://127.0.0.1:8080", "https://[::1]:8080", "http://[::ffff:127.0.0.1]:8080",
				"http://app.localhost:8080", "http://localhost.localdomain:8080", "http://ip6-localhost:8080", "http://0.0.0.0:8080", "http://[::]:8080"},
			[]string{"http://localhost:8081", "http://localhost", "http://127.0.0.2:8080", "http://192.0.2.7:8080", "http://box:8080", "http://notlocalhost:8080", "http://localhosts:8080"}},
		{"127.0.0.1:80", []string{"http://localhost", "http://127.0.0.1/x", "http://localhost:80", "https://localhost:80"}, []string{"https://localhost", "http://[::1]"}},
		{"[::1]:443", []string{"https://localhost", "https://[::1]"}, []string{"https://127.0.0.1", "http://localhost"}},
		{":8080",
			[]string{"http://127.0.0.2:8080", "http://localhost:8080", "http://192.0.2.7:8080", "http://[2001:db8::7]:8080", "http://[fe80::7%25eth0]:8080", "http://[::ffff:192.0.2.7]:8080",
				"http://box:8080", "http://BOX.corp.example.:8080", "http://box.local:8080"},
			[]string{"http://192.0.2.8:8080", "http://boxes:8080", "http://box.example:8080", "http://corp.example:8080"}},
		{"0.0.0.0:8080", []string{"http://192.0.2.7:8080", "http://127.0.0.1:8080", "http://box:8080"}, []string{"http://[2001:db8::7]:8080", "http://[::1]:8080"}},
		{"192.0.2.7:8080", []string{"http://192.0.2.7:8080", "http://box:8080"}, []string{"http://localhost:8080", "http://[2001:db8::7]:8080"}},
		{"localhost:0", nil, []string{"http://localhost:80", "http://localhost", "http://localhost:8080"}},
	} {
		at, err := Parse(test.listen)
		if err != nil {
			t.Fatal(err)
		}
		for want, urls := range map[bool][]string{true: test.own, false: test.other} {
			for _, text := range urls {
				u, err := url.Parse(text)
				if err != nil {
					t.Fatal(err)
				}
				if got := box.Leads(u, at); got != want {
					t.Errorf("LISTEN=%s: %s: got %v, want %v", test.listen, text, got, want)
				}
			}
		}
	}
	// Of a machine that does not know its name, none is meant.
	at, _ := Parse(":8080")
	if u, _ := url.Parse("http://box:8080"); (Machine{addrs: box.addrs}).Leads(u, at) {
		t.Error("got true for a name, and the machine has none")
	}
	if got := ThisMachine(); len(got.addrs) == 0 || got.addrs[0].Zone() != "" {
		t.Errorf("got %v, want this machine's addresses", got)
	}
}
