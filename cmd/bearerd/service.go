package main

import (
	"context"
	"errors"
	"fmt"
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
	log     logs
	manager *tokens.Manager
	proxy   *proxy.Handler

	started  time.Time
	registry *prometheus.Registry

	data           *http.Server
	dataListeners  []net.Listener
	silent         *silentConns
	accepting      sync.WaitGroup                   // goroutines that accept connections of data
	requests       *running                         // handlers of data
	header         atomic.Pointer[proxy.HeaderRule] // that callers must send
	endRequests    func()                           // cancels them all
	admin          *http.Server
	adminListeners []net.Listener

	quit     chan struct{} // asks for a stop; holds one
	stopping atomic.Bool
}

// observers are told what happens, besides the metrics. Both must be set.
type observers struct {
	request func(*proxy.Exchange)
	login   func(tokens.Event)
}

// newService opens the listeners that are not inherited, so that a taken port
// is an error here. It starts nothing.
func newService(cfg Config, log logs, o observers, in inherited) (*service, error) {
	s := &service{
		cfg: cfg, log: log, requests: newRunning(), silent: newSilentConns(),
		started: time.Now(), registry: prometheus.NewRegistry(), quit: make(chan struct{}, 1),
	}
	err := s.readHeader()
	if err != nil {
		return nil, err
	}
	if s.dataListeners = in.data; in.data == nil {
		if s.dataListeners, err = listenData(cfg.Listen, cfg.SocketMode); err != nil {
			return nil, err
		}
	}
	if s.adminListeners = in.admin; in.admin == nil {
		if s.adminListeners, err = listenAdmin(cfg.AdminListen, cfg.SocketMode); err != nil {
			closeAll(s.dataListeners)
			return nil, err
		}
	}

	m := metrics.New(s.registry, metrics.Options{Version: version(), State: s.state})
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
	hosts := append(hostsOf(s.dataListeners), cfg.AllowedHosts...)
	s.proxy = proxy.New(proxy.Options{
		Upstream:              cfg.Upstream,
		Source:                tokenSource{s.manager},
		Transport:             cfg.upstreamTransport(),
		ResponseHeaderTimeout: cfg.ResponseHeaderTimeout,
		Hosts:                 hosts,
		Origins:               cfg.AllowedOrigins,
		RequireHeader:         func() proxy.HeaderRule { return *s.header.Load() },
		Methods:               cfg.AllowedMethods,
		Paths:                 cfg.AllowedPaths,
		AllowUpgrade:          cfg.AllowUpgrade,
		ForwardCookies:        cfg.ForwardCookies,
		ReplayBuffer:          int64(cfg.ReplayBuffer),
		MaxInFlight:           cfg.MaxInFlight,
		// Whoever uses a connection until Shutdown closes it may have a request
		// on its way.
		SendAway: s.stopping.Load,
		Done: func(ex *proxy.Exchange) {
			observeRequest(m, ex)
			o.request(ex)
		},
	})

	s.data = newServer(s.counted(s.proxy), log.events, "data")
	// With a cause, the proxy knows that it was not the client who left.
	base, end := context.WithCancelCause(context.Background())
	s.endRequests = func() { end(errStopping) }
	s.data.BaseContext = func(net.Listener) context.Context { return base }
	s.data.ConnState = s.silent.observe
	answers := admin{
		status:   s.manager.Status,
		stopping: s.stopping.Load,
		page:     s.statusPage,
		metrics:  promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{}),
		hosts:    proxy.NewHosts(append(hostsOf(s.adminListeners), hosts...)...),
		logIn:    s.manager.LogIn,
		asked:    cfg.asked(),
	}
	if cfg.AllowQuit {
		answers.quit = s.askToQuit
	}
	s.admin = newServer(answers.handler(), log.events, "admin")
	// Nothing there takes a body or lasts: net/http would wait for a body that
	// somebody announces and does not send.
	s.admin.ReadTimeout = s.admin.ReadHeaderTimeout
	s.admin.WriteTimeout = time.Minute
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

// counted keeps account of the handlers that run: Shutdown does not wait for
// those of upgraded connections.
func (s *service) counted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.begin()
		defer s.requests.end()
		next.ServeHTTP(w, r)
	})
}

var (
	errStopping = errors.New("bearerd is stopping")
	// errSecondSignal ends a stop that somebody has lost patience with.
	errSecondSignal = errors.New("stopped at once by a second signal")
)

// run serves until a signal or POST /quitquitquit ends it, or a listener fails.
// It returns nil after a clean stop.
func (s *service) run(signals <-chan os.Signal) error {
	failed := make(chan error, len(s.dataListeners)+len(s.adminListeners))
	// Clients may connect before there is a token: they wait for the first
	// login.
	for _, l := range s.adminListeners {
		go func() { failed <- s.admin.Serve(l) }() // ends with the server
	}
	for _, l := range s.dataListeners {
		s.accepting.Go(func() { failed <- s.data.Serve(l) })
	}
	s.manager.Start()

	// All that may wait, for requests or for a reader of the log, is done
	// beside this loop: a second signal must always be heard.
	stopped := make(chan struct{})
	signalled := false
	stop := func(key, by string) {
		if !s.stopping.CompareAndSwap(false, true) {
			return
		}
		go func() {
			defer close(stopped)
			s.log.events.Info().Str(key, by).Msg("stopping")
			s.drain()
			s.close()
			s.log.events.Info().Msg("stopped")
		}()
	}
	for {
		select {
		case err := <-failed:
			if s.stopping.Load() {
				continue // the servers end because they were told to
			}
			s.close()
			return err
		case <-stopped:
			return nil
		case <-s.quit:
			stop("request", "POST /quitquitquit")
		case signal := <-signals:
			switch {
			case signal == syscall.SIGHUP:
				if err := s.readHeader(); err != nil {
					s.log.events.Warn().Str("cause", err.Error()).
						Str("remedy", "mend it and send SIGHUP again; until then callers must send the old header").
						Msg("required header not read")
				}
				s.manager.LogIn() // which reads the credential files again
			case signalled:
				s.abandon()
				return errSecondSignal
			default:
				// The first is no sign of impatience, even where a stop was asked
				// for before: Kubernetes sends it to a Job's pod that is deleted.
				signalled = true
				stop("signal", signal.String())
			}
		}
	}
}

// askToQuit asks run for a clean stop. It does not wait, and to ask again
// changes nothing.
func (s *service) askToQuit() {
	select {
	case s.quit <- struct{}{}:
	default:
	}
}

// readHeader reads the header that callers must send. An error leaves the one
// in force that was read before.
func (s *service) readHeader() error {
	var rule proxy.HeaderRule
	if source := s.cfg.requireHeader(); !source.IsZero() {
		var err error
		if rule, err = readHeaderRule(source); err != nil {
			return fmt.Errorf("%s: %w", secretSource{Name: requireHeader, Source: source}.variable(), err)
		}
	}
	s.header.Store(&rule)
	return nil
}

// drain lets requests finish: it serves on for DRAIN_DELAY, then accepts no
// more, and after SHUTDOWN_GRACE ends what is left.
func (s *service) drain() {
	<-time.After(s.cfg.DrainDelay)
	grace, cancel := context.WithTimeout(context.Background(), s.cfg.ShutdownGrace)
	defer cancel()
	closeAll(s.dataListeners)
	s.accepting.Wait()
	s.silent.settle(grace)
	_ = s.data.Shutdown(grace) // an error means that something is left
	s.requests.wait(grace)
}

// close ends everything, and waits for what that takes.
func (s *service) close() {
	s.endRequests()
	_ = s.data.Close()
	// They have been cancelled, and have something to log.
	moment, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	s.requests.wait(moment)
	s.manager.Close()
	_ = s.admin.Close()
	// A listener that run had not come to serve is not its server's to close,
	// and a unix socket would stay.
	closeAll(s.dataListeners)
	closeAll(s.adminListeners)
	s.log.flush()
}

// abandon ends as much as can be ended at once. The process exits after it.
func (s *service) abandon() {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		s.close()
	}()
	select {
	case <-closed:
	case <-time.After(200 * time.Millisecond): // somebody waits, or the log's reader is stuck
		closeAll(s.adminListeners) // which close has not come to; a unix socket would stay
	}
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

// addresses are those of listeners, as the log shows them.
func addresses(listeners []net.Listener) []string {
	all := make([]string, len(listeners))
	for i, l := range listeners {
		all[i] = shownAddress(l)
	}
	return all
}

// shownAddress is where l is, as LISTEN has it.
func shownAddress(l net.Listener) string {
	if at := l.Addr(); at.Network() == "unix" {
		return "unix:" + at.String()
	}
	return l.Addr().String()
}

// localhostAddress is how a tool on this machine writes the first listener's
// address, which is TCP.
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
