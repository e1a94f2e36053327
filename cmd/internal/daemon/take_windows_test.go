package daemon

import (
	"context"
	"net/url"
	"testing"

	"github.com/bearerd/bearerd/cmd/internal/config"
	"github.com/bearerd/bearerd/cmd/internal/sysproxy"
)

// proxies answers by the host's name; "": none.
func proxies(by map[string]string) sysproxy.Find {
	return func(_ context.Context, u *url.URL) sysproxy.Answer {
		if by[u.Host] == "" {
			return sysproxy.Answer{}
		}
		via, err := url.Parse(by[u.Host])
		if err != nil {
			panic(err)
		}
		return sysproxy.Answer{Proxies: []*url.URL{via}}
	}
}

// The proxy that the user's programs have is offered where the service's account has
// another, and one setting does for both hosts.
func TestProxyToTake(t *testing.T) {
	const a, b = "http://a.example:1", "http://b.example:2"
	both := func(is string) map[string]string { return map[string]string{"login.example": is, "api.example": is} }
	login, upstream := &url.URL{Scheme: "https", Host: "login.example"}, &url.URL{Scheme: "https", Host: "api.example"}
	for _, tt := range []struct {
		name         string
		mine, theirs map[string]string
		mode         config.ProxyMode
		proxy        string
		told         bool
	}{
		{"none", nil, nil, config.ProxyByDefault, "", false},
		{"the same", both(a), both(a), config.ProxyByDefault, "", false},
		{"the user's alone", both(a), nil, config.ProxyByDefault, a, true},
		{"another", both(a), both(b), config.ProxyByDefault, a, true},
		{"the service's alone", nil, both(b), config.ProxyByDefault, "off", true},
		{"for one host", map[string]string{"api.example": a}, nil, config.ProxyByDefault, "", true},
		{"a setting decides", both(a), nil, config.ProxyOff, "", false},
	} {
		c := config.Config{TokenURL: login, Upstream: upstream, ProxyRule: config.ProxyRule{Mode: tt.mode}}
		proxy, told := proxyToTake(c, proxies(tt.mine), proxies(tt.theirs))
		if proxy != tt.proxy || (told != "") != tt.told {
			t.Errorf("%s: got %q and %q, want %q", tt.name, proxy, told, tt.proxy)
		}
	}
}
