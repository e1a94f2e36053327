package assembly

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/config"
	"github.com/bearerd/bearerd/cmd/internal/neterror"
	"github.com/bearerd/bearerd/proxy"
	"github.com/bearerd/bearerd/tokens"
)

// UpstreamTransport makes the transport that c describes. dial makes its
// connections, and keeps to c.DialTimeout; nil: a net.Dialer does. Those of all
// transports with the same dials take turns.
func UpstreamTransport(c config.Config, out *WayOut, dials *proxy.Dials, dial func(ctx context.Context, network, address string) (net.Conn, error)) *http.Transport {
	t := proxy.NewTransport(proxy.TransportOptions{
		RootCAs:               c.RootCAs,
		Certificates:          c.Certificates,
		DialTimeout:           c.DialTimeout,
		ResponseHeaderTimeout: c.ResponseHeaderTimeout,
		Dials:                 dials,
		Dial:                  dial,
		IdleTimeout:           c.UpstreamIdle,
	})
	t.Proxy = out.Proxy
	t.OnProxyConnectResponse = neterror.ProxyConnected
	return t
}

// ProxyOptions are what c says of the data path. Source and Transport are for
// the caller to set, and the header that callers must send: it may change.
func ProxyOptions(c config.Config) proxy.Options {
	return proxy.Options{
		Upstream:              c.Upstream,
		ResponseHeaderTimeout: c.ResponseHeaderTimeout,
		Hosts:                 c.AllowedHosts,
		Origins:               c.AllowedOrigins,
		Methods:               c.AllowedMethods,
		Paths:                 c.AllowedPaths,
		AllowUpgrade:          c.AllowUpgrade,
		RenewStatus:           c.RenewStatuses(),
		ForwardCookies:        c.ForwardCookies,
		Forwarded:             c.Forwarded,
		ReplayBuffer:          int64(c.ReplayBuffer),
		MaxInFlight:           c.MaxInFlight,
	}
}

// TokenSource gives the proxy the manager's tokens, and its failures as the
// answers that clients get.
type TokenSource struct{ Manager *tokens.Manager }

func (s TokenSource) Token(ctx context.Context) (proxy.Token, error) {
	return ProxyToken(s.Manager.Token(ctx))
}

func (s TokenSource) Before(generation uint64) (proxy.Token, bool) {
	t := s.Manager.Before(generation)
	if t == nil {
		return proxy.Token{}, false
	}
	before, _ := ProxyToken(t, nil)
	return before, true
}

func (s TokenSource) Renew(ctx context.Context, refused uint64, may func() bool) (proxy.Token, error) {
	t, _, err := s.Manager.Renew(ctx, refused, may)
	return ProxyToken(t, err)
}

// ProxyToken is a token, or the failure to get one, as the proxy takes it.
func ProxyToken(t *tokens.Token, err error) (proxy.Token, error) {
	if err == nil {
		return proxy.Token{Authorization: t.Authorization(), Generation: t.Generation, Came: t.Came, RefreshAfter: t.RefreshAfter()}, nil
	}
	if errors.Is(err, tokens.ErrWait) {
		return proxy.Token{}, &proxy.Error{Code: proxy.LoginTimeout, RetryAfter: time.Second}
	}
	if failed, ok := errors.AsType[*tokens.Unavailable](err); ok {
		if failed.Stopped || failed.Kind == tokens.Rejected {
			return proxy.Token{}, &proxy.Error{Code: proxy.LoginRejected}
		}
		return proxy.Token{}, &proxy.Error{Code: proxy.LoginUnavailable, RetryAfter: failed.RetryAfter}
	}
	return proxy.Token{}, err
}
