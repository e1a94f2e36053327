package assembly

import (
	"net/http"
	"net/url"
	"os"
	"sync/atomic"

	"github.com/bearerd/bearerd/cmd/internal/config"
	"github.com/bearerd/bearerd/cmd/internal/sysproxy"
)

// A WayOut says by which proxy login and upstream are reached. It is to be started,
// which asks the system where that decides, and closed.
type WayOut struct {
	rule   atomic.Pointer[config.ProxyRule]
	system *sysproxy.Watch // nil: the system is not asked
}

// NewWayOut makes the way out that c describes.
func NewWayOut(c config.Config) *WayOut { return newWayOut(c, sysproxy.Supported, sysproxy.System()) }

// newWayOut is NewWayOut on a system that can be asked, if supported, by find.
func newWayOut(c config.Config, supported bool, find sysproxy.Find) *WayOut {
	w := new(WayOut)
	w.rule.Store(&c.ProxyRule)
	if supported && (c.ProxyFile != "" || w.Mode() == config.ProxySystem || c.ProxyRule.Mode == config.ProxyByDefault && !environmentHasProxy()) {
		w.system = sysproxy.NewWatch(find, c.TokenURL, c.Upstream)
	}
	return w
}

// Start asks the system, for 3 s at most, and goes on asking once a minute.
func (w *WayOut) Start() {
	if w.system != nil {
		w.system.Start()
	}
}

func (w *WayOut) Close() {
	if w.system != nil {
		w.system.Close()
	}
}

// Use has requests go by another rule from now on.
func (w *WayOut) Use(rule config.ProxyRule) { w.rule.Store(&rule) }

// Mode is which of the rules decides.
func (w *WayOut) Mode() config.ProxyMode {
	mode := w.rule.Load().Mode
	if mode != config.ProxyByDefault {
		return mode
	}
	if w.system != nil && !environmentHasProxy() {
		return config.ProxySystem
	}
	return config.ProxyEnv
}

// environmentHasProxy reports whether a variable names a proxy.
func environmentHasProxy() bool {
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"} {
		if os.Getenv(name) != "" {
			return true
		}
	}
	return false
}

// Proxy is for [http.Transport]: it never waits.
func (w *WayOut) Proxy(r *http.Request) (*url.URL, error) {
	switch w.Mode() {
	case config.ProxyOff:
		return nil, nil
	case config.ProxySet:
		return w.rule.Load().URL, nil
	case config.ProxySystem:
		if w.system == nil {
			return nil, nil
		}
		return w.system.Via(r.URL), nil
	}
	return http.ProxyFromEnvironment(r)
}

// For returns the proxy that requests to u go through, without its user
// information; "" for none.
func (w *WayOut) For(u *url.URL) string {
	via, err := w.Proxy(&http.Request{URL: u})
	if err != nil || via == nil {
		return ""
	}
	shown := *via // via itself logs in to the proxy with its User
	shown.User = nil
	return shown.String()
}

// Note says what of the system's settings is not heeded for u; "": all is.
func (w *WayOut) Note(u *url.URL) string {
	if w.Mode() != config.ProxySystem || w.system == nil {
		return ""
	}
	return w.system.Note(u)
}
