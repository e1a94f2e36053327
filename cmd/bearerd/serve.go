package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"github.com/bearerd/bearerd/metrics"
	"github.com/bearerd/bearerd/proxy"
	"github.com/bearerd/bearerd/tokens"
)

// serve runs the proxy until a signal ends it. It returns nil after a clean
// stop.
func serve(from sources, signals <-chan os.Signal, stderr io.Writer) error {
	cfg, err := from.load(signals, stderr)
	if err != nil {
		return err
	}
	in, err := inherit(from.environ, cfg)
	if err != nil {
		return err
	}
	// Tools go on when the reader of the log has gone.
	signal.Ignore(syscall.SIGPIPE)
	log := openLog(stderr, cfg.LogLevel, cfg.LogFormat)
	requests := accessLog{log.access, cfg.AccessLog}
	states := &stateLog{logger: log.events, asked: cfg.asked()}
	s, err := newService(cfg, log, observers{
		request: func(ex *proxy.Exchange) { requests.log(ex); states.request(ex) },
		login:   states.login,
	}, in)
	if err != nil {
		return err
	}
	states.status, states.ending = s.manager.Status, s.stopping.Load
	for _, w := range slices.Concat(cfg.Warnings, in.warnings) {
		log.events.Warn().Msg(w)
	}
	logStart(s, in)
	return s.run(signals)
}

// logStart writes the start-up line: what is served, from where and by whose
// login, and never a secret.
func logStart(s *service, in inherited) {
	cfg := s.cfg
	e := s.log.events.Info().
		Str("version", version()).
		Str("preset", cfg.Preset).
		Str("upstream", cfg.Upstream.String()).
		Str("token_url", withoutQuery(cfg.TokenURL)).
		Str("grant", cfg.GrantType).
		Strs("listen", addresses(s.dataListeners)).
		Strs("admin", addresses(s.adminListeners))
	if names := in.names(); names != nil {
		e.Strs("inherited", names) // LISTEN or ADMIN_LISTEN does not count
	}
	secrets := zerolog.Dict()
	for _, from := range cfg.SecretSources() {
		secrets.Str(from.Name, from.From())
	}
	e.Dict("secrets", secrets)
	if via := proxyFor(cfg.Upstream); via != "" {
		e.Str("upstream_proxy", via)
	}
	if via := proxyFor(cfg.TokenURL); via != "" {
		e.Str("login_proxy", via)
	}
	if cfg.AllowNonLoopback {
		s.log.events.Warn().Strs("listen", addresses(s.dataListeners)).
			Msg("BEARERD_ALLOW_NON_LOOPBACK is set: whoever can reach the data listener speaks with the account")
	}
	e.Msg("serving")
}

// proxyFor returns the proxy of the environment that requests to u go through,
// without its user information; "" for none.
func proxyFor(u *url.URL) string {
	via, err := http.ProxyFromEnvironment(&http.Request{URL: u})
	if err != nil || via == nil {
		return ""
	}
	shown := *via // via itself is net/http's, which logs in to the proxy with its User
	shown.User = nil
	return shown.String()
}

// withoutQuery is a URL fit to be logged: a query may hold what it should not.
func withoutQuery(u *url.URL) string {
	shown := *u
	shown.RawQuery = ""
	return shown.String()
}

// login makes the login that cfg describes.
func (c Config) login() tokens.Login {
	return tokens.Login{
		URL:          c.TokenURL.String(),
		Host:         c.TokenHost,
		Grant:        c.GrantType,
		ClientID:     c.ClientID,
		ClientAuth:   c.ClientAuth,
		ClientSecret: tokens.Source{Value: c.ClientSecret, File: c.ClientSecretFile},
		Username:     tokens.Source{Value: c.Username, File: c.UsernameFile},
		Password:     tokens.Source{Value: c.Password, File: c.PasswordFile},
		Params:       tokens.Source{Value: c.TokenParams, File: c.TokenParamsFile},
		Scope:        c.Scope,
		Timeout:      c.LoginTimeout,
		Transport: tokens.NewTransport(tokens.TransportOptions{
			RootCAs:      c.RootCAs,
			Certificates: c.Certificates,
			DialTimeout:  c.DialTimeout,
		}),
	}
}

// upstreamTransport makes the transport that cfg describes.
func (c Config) upstreamTransport() *http.Transport {
	t := proxy.NewTransport(proxy.TransportOptions{
		RootCAs:               c.RootCAs,
		Certificates:          c.Certificates,
		DialTimeout:           c.DialTimeout,
		ResponseHeaderTimeout: c.ResponseHeaderTimeout,
	})
	t.OnProxyConnectResponse = tokens.ProxyConnected
	return t
}

// tokenSource gives the proxy the manager's tokens, and its failures as the
// answers that clients get.
type tokenSource struct{ manager *tokens.Manager }

func (s tokenSource) Token(ctx context.Context) (proxy.Token, error) {
	return proxyToken(s.manager.Token(ctx))
}

func (s tokenSource) Renew(ctx context.Context, refused uint64, may func() bool) (proxy.Token, error) {
	t, _, err := s.manager.Renew(ctx, refused, may)
	return proxyToken(t, err)
}

func proxyToken(t *tokens.Token, err error) (proxy.Token, error) {
	if err == nil {
		return proxy.Token{Authorization: t.Authorization(), Generation: t.Generation}, nil
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

// observeRequest counts a request that has ended.
func observeRequest(m *metrics.Metrics, ex *proxy.Exchange) {
	code := metrics.Code(ex.Status)
	switch ex.Outcome {
	case proxy.Aborted:
		code = metrics.Aborted
	case proxy.ClientClosed:
		code = metrics.ClientClosed
	}
	m.Request(ex.Method, code, ex.Duration)
	if ex.TokenWait > 0 {
		m.TokenWait(ex.TokenWait)
	}
	if ex.Unauthorized != "" {
		m.Unauthorized(string(ex.Unauthorized))
	}
	switch ex.Error {
	case "":
	case proxy.UpstreamUnreachable, proxy.UpstreamTimeout:
		m.UpstreamError(string(ex.Error))
	default:
		m.Rejection(string(ex.Error))
	}
}
