package assembly

import (
	"context"
	"net/url"
	"testing"

	"github.com/bearerd/bearerd/cmd/internal/config"
	"github.com/bearerd/bearerd/cmd/internal/sysproxy"
)

func TestWhichProxyDecides(t *testing.T) {
	parse := func(text string) *url.URL {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	login, upstream := parse("https://login.example/token"), parse("https://api.example/base")
	find := func(_ context.Context, u *url.URL) sysproxy.Answer {
		return sysproxy.Answer{Proxies: []*url.URL{parse("http://for-" + u.Host + ":1")}, Note: "a note"}
	}
	set := config.ProxyRule{Mode: config.ProxySet, URL: parse("http://user:password@set.example:1")}
	for _, tt := range []struct {
		name      string
		rule      config.ProxyRule
		supported bool
		variable  bool
		mode      config.ProxyMode
		login     string
	}{
		{"nothing set, on Linux", config.ProxyRule{}, false, false, config.ProxyEnv, ""},
		{"nothing set, on Windows", config.ProxyRule{}, true, false, config.ProxySystem, "http://for-login.example:1"},
		{"a variable, on Windows", config.ProxyRule{}, true, true, config.ProxyEnv, ""},
		{"env, on Windows", config.ProxyRule{Mode: config.ProxyEnv}, true, false, config.ProxyEnv, ""},
		{"system before a variable", config.ProxyRule{Mode: config.ProxySystem}, true, true, config.ProxySystem, "http://for-login.example:1"},
		{"off", config.ProxyRule{Mode: config.ProxyOff}, true, true, config.ProxyOff, ""},
		{"a URL", set, true, true, config.ProxySet, "http://set.example:1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, name := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"} {
				t.Setenv(name, "")
			}
			if tt.variable {
				t.Setenv("HTTPS_PROXY", "http://environment.example:1")
			}
			w := newWayOut(config.Config{TokenURL: login, Upstream: upstream, ProxyRule: tt.rule}, tt.supported, find)
			w.Start()
			defer w.Close()
			if w.Mode() != tt.mode {
				t.Errorf("mode: got %s, want %s", w.Mode(), tt.mode)
			}
			if tt.mode == config.ProxyEnv {
				return // net/http reads the environment once in a process
			}
			if got := w.For(login); got != tt.login {
				t.Errorf("got %q, want %q", got, tt.login)
			}
			if note := w.Note(login); (note != "") != (tt.mode == config.ProxySystem) {
				t.Errorf("note: got %q", note)
			}
			w.Use(config.ProxyRule{Mode: config.ProxyOff})
			if got := w.For(upstream); got != "" {
				t.Errorf("after another rule: got %q", got)
			}
		})
	}
}
