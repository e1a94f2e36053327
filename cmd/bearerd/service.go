package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"

	"github.com/bearerd/bearerd/metrics"
	"github.com/bearerd/bearerd/proxy"
	"github.com/bearerd/bearerd/tokens"
)

// service is one running bearerd: the token manager, the proxy that uses it,
// and the listeners.
type service struct {
	cfg     Config
	logger  zerolog.Logger
	manager *tokens.Manager
	proxy   *proxy.Handler

	data           *http.Server
	dataListeners  []net.Listener
	newConns       connSet
	requests       sync.WaitGroup     // handlers of data
	endRequests    context.CancelFunc // cancels them all
	admin          *http.Server
	adminListeners []net.Listener

	stopping atomic.Bool
}

// observers are told what happens, besides the metrics. Both must be set.
type observers struct {
	request func(*proxy.Exchange)
	login   func(tokens.Event)
}

// newService opens the listeners, so that a taken port is an error here. It
// starts nothing.
func newService(cfg Config, logger zerolog.Logger, o observers) (*service, error) {
	s := &service{cfg: cfg, logger: logger}
	var err error
	if s.dataListeners, err = listenData(cfg.Listen); err != nil {
		return nil, err
	}
	if s.adminListeners, err = listenAdmin(cfg.AdminListen); err != nil {
		closeAll(s.dataListeners)
		return nil, err
	}

	registry := prometheus.NewRegistry()
	m := metrics.New(registry, metrics.Options{Version: version(), State: s.state})
	s.manager = tokens.New(tokens.Options{
		Login:           cfg.login(),
		DefaultLifetime: cfg.DefaultTokenLifetime,
		Wait:            cfg.TokenWait,
		KeepWarm:        cfg.KeepWarm,
		Observe: func(ev tokens.Event) {
			if !ev.Waiting {
				m.Login(string(ev.Result), ev.Duration)
			}
			o.login(ev)
		},
	})
	s.proxy = proxy.New(proxy.Options{
		Upstream: cfg.Upstream,
		Source:   tokenSource{s.manager},
		Transport: proxy.NewTransport(proxy.TransportOptions{
			RootCAs:               cfg.RootCAs,
			Certificates:          cfg.Certificates,
			DialTimeout:           cfg.DialTimeout,
			ResponseHeaderTimeout: cfg.ResponseHeaderTimeout,
		}),
		ResponseHeaderTimeout: cfg.ResponseHeaderTimeout,
		Hosts:                 append(hostsOf(s.dataListeners), cfg.AllowedHosts...),
		Methods:               cfg.AllowedMethods,
		Paths:                 cfg.AllowedPaths,
		AllowUpgrade:          cfg.AllowUpgrade,
		ForwardCookies:        cfg.ForwardCookies,
		ReplayBuffer:          int64(cfg.ReplayBuffer),
		MaxInFlight:           cfg.MaxInFlight,
		Done: func(ex *proxy.Exchange) {
			observeRequest(m, ex)
			o.request(ex)
		},
	})

	s.data = newServer(s.counted(s.proxy), logger, "data")
	var base context.Context
	base, s.endRequests = context.WithCancel(context.Background())
	s.data.BaseContext = func(net.Listener) context.Context { return base }
	s.data.ConnState = s.newConns.observe
	s.data.RegisterOnShutdown(s.newConns.close)
	s.admin = newServer(admin{
		status:   s.manager.Status,
		stopping: s.stopping.Load,
		metrics:  promhttp.HandlerFor(registry, promhttp.HandlerOpts{}),
	}.handler(), logger, "admin")
	return s, nil
}

// newServer returns a server that closes slow and idle clients. It bounds
// neither a request's body nor its answer in time: streams are long.
func newServer(handler http.Handler, logger zerolog.Logger, name string) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    128 << 10,
		// OPTIONS * gets the proxy's own answer, like any other bad target.
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     serverLog(logger, name),
	}
}

// counted keeps account of the handlers that run, for stop: Shutdown does not
// wait for those of upgraded connections.
func (s *service) counted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		defer s.requests.Done()
		next.ServeHTTP(w, r)
	})
}

// errSecondSignal ends a stop that somebody has lost patience with.
var errSecondSignal = errors.New("stopped at once by a second signal")

// run serves until a signal ends it, or a listener fails. It returns nil after
// a clean stop.
func (s *service) run(signals <-chan os.Signal) error {
	failed := make(chan error, len(s.dataListeners)+len(s.adminListeners))
	serve := func(server *http.Server, listeners []net.Listener) {
		for _, l := range listeners {
			go func() { failed <- server.Serve(l) }() // ends with the server
		}
	}
	// Clients may connect before there is a token: they wait for the first
	// login.
	serve(s.admin, s.adminListeners)
	serve(s.data, s.dataListeners)
	s.manager.Start()
	defer s.close()

	for {
		select {
		case err := <-failed:
			return err
		case signal := <-signals:
			if signal != syscall.SIGHUP {
				s.logger.Info().Str("signal", signal.String()).Msg("stopping")
				return s.stop(signals)
			}
			s.logger.Info().Msg("reading credentials again and logging in (SIGHUP)")
			s.manager.LogIn()
		}
	}
}

// stop lets requests finish: it serves on for DRAIN_DELAY, then accepts no
// more, and after SHUTDOWN_GRACE closes what is left.
func (s *service) stop(signals <-chan os.Signal) error {
	s.stopping.Store(true)
	done := make(chan struct{})
	hurry := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-time.After(s.cfg.DrainDelay):
		case <-hurry:
			return
		}
		grace, cancel := context.WithTimeout(context.Background(), s.cfg.ShutdownGrace)
		defer cancel()
		// Its error says that something is left, which is closed below.
		_ = s.data.Shutdown(grace)
		select {
		case <-s.idle():
		case <-grace.Done():
			s.endRequests()
			_ = s.data.Close()
			<-s.idle()
		}
	}()
	for {
		select {
		case <-done:
			s.logger.Info().Msg("stopped")
			return nil
		case signal := <-signals:
			if signal != syscall.SIGHUP {
				close(hurry)
				return errSecondSignal
			}
		}
	}
}

// idle returns a channel that is closed when no handler runs.
func (s *service) idle() <-chan struct{} {
	idle := make(chan struct{})
	go func() {
		s.requests.Wait()
		close(idle)
	}()
	return idle
}

// close ends everything at once.
func (s *service) close() {
	s.endRequests()
	_ = s.data.Close()
	s.manager.Close()
	_ = s.admin.Close()
}

// state is what the metrics show of this moment.
func (s *service) state() metrics.State {
	st := s.manager.Status()
	return metrics.State{
		Generation:   st.Generation,
		Expiry:       st.Expiry,
		Lifetime:     st.Lifetime,
		Skew:         st.Skew,
		SkewKnown:    st.SkewKnown,
		Ready:        st.Ready() && !s.stopping.Load(),
		LoginStopped: st.Stopped,
		NextLogin:    st.NextLogin,
		ReplayBuffer: s.proxy.ReplayBytes(),
		InFlight:     s.proxy.InFlight(),
	}
}

// connSet holds connections that have sent nothing yet: net/http's Shutdown
// takes them for busy for their first 5 s (server.go, closeIdleConns).
type connSet struct {
	mu     sync.Mutex // guards all below
	conns  map[net.Conn]bool
	closed bool
}

func (c *connSet) observe(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case state != http.StateNew:
		delete(c.conns, conn)
	case c.closed:
		_ = conn.Close()
	default:
		if c.conns == nil {
			c.conns = make(map[net.Conn]bool)
		}
		c.conns[conn] = true
	}
}

func (c *connSet) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for conn := range c.conns {
		_ = conn.Close()
	}
	clear(c.conns)
}

// addresses are those of listeners, as the log shows them.
func addresses(listeners []net.Listener) []string {
	all := make([]string, len(listeners))
	for i, l := range listeners {
		all[i] = l.Addr().String()
	}
	return all
}

// localhostAddress is how a tool on this machine writes the first listener's
// address.
func localhostAddress(listeners []net.Listener) string {
	_, port, err := net.SplitHostPort(listeners[0].Addr().String())
	if err != nil {
		panic(err) // a TCP listener has a port
	}
	return net.JoinHostPort("localhost", port)
}

// hostsOf are the loopback addresses of listeners: a tool that was told one
// may use it as Host. That of a wide bind must be listed to be allowed.
func hostsOf(listeners []net.Listener) []string {
	var hosts []string
	for _, l := range listeners {
		if addr, ok := l.Addr().(*net.TCPAddr); ok && addr.IP.IsLoopback() {
			hosts = append(hosts, addr.IP.String())
		}
	}
	return hosts
}
