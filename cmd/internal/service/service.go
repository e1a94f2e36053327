// Package service is the life of one running bearerd: listeners, token manager and
// proxy from start to stop, signals, and files that change meanwhile. It is given
// its settings, and does not know where they come from.
package service

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

	"github.com/bearerd/bearerd/cmd/internal/admin"
	"github.com/bearerd/bearerd/cmd/internal/advice"
	"github.com/bearerd/bearerd/cmd/internal/assembly"
	"github.com/bearerd/bearerd/cmd/internal/config"
	"github.com/bearerd/bearerd/cmd/internal/descriptors"
	"github.com/bearerd/bearerd/cmd/internal/history"
	"github.com/bearerd/bearerd/cmd/internal/listen"
	"github.com/bearerd/bearerd/cmd/internal/logs"
	"github.com/bearerd/bearerd/cmd/internal/output"
	"github.com/bearerd/bearerd/cmd/internal/shared"
	"github.com/bearerd/bearerd/metrics"
	"github.com/bearerd/bearerd/proxy"
	"github.com/bearerd/bearerd/tokens"
)

// Service is one running bearerd: the token manager, the proxy that uses it,
// and the listeners.
type Service struct {
	cfg     config.Config
	version string
	log     logs.Log
	Manager *tokens.Manager
	proxy   *proxy.Handler
	out     *assembly.WayOut

	started  time.Time
	history  *history.History // nil: there is no page to show it
	registry *prometheus.Registry

	data              *http.Server
	dataListeners     []net.Listener
	silent            *silentConns
	accepting         sync.WaitGroup                   // goroutines that accept connections of data
	requests          *running                         // handlers of data
	header            atomic.Pointer[proxy.HeaderRule] // that callers must send
	headerFingerprint config.Fingerprint               // of the file that it was first read from
	logins            switchable                       // the transport of logins
	folder            *tokens.Folder                   // what is kept over restarts; nil: nothing is
	shared            *shared.Store                    // with the account's other bearerds; nil: nothing is
	sharedTrust       atomic.Pointer[config.Trust]     // of the engine
	files             *watcher
	endRequests       func() // cancels them all
	admin             *http.Server
	adminListeners    []net.Listener

	open     *descriptors.Shares
	dials    proxy.Dials // to upstream
	hangup   hangup
	quit     chan struct{} // asks for a stop; holds one
	Stopping atomic.Bool
}

// Options are what a service is made with, besides its settings.
type Options struct {
	Version string // of bearerd
	Log     logs.Log
	States  *logs.States // told of what happens; nil: nobody is
	// Request and Login are told too, each unless it is nil.
	Request func(*proxy.Exchange)
	Login   func(tokens.Event)
	in      listen.Inherited
}

// New opens the listeners that are not inherited, so that a taken port
// is an error here. It starts nothing.
func New(cfg config.Config, o Options) (*Service, error) {
	log, in := o.Log, o.in
	s := &Service{
		cfg: cfg, version: o.Version, log: log, requests: newRunning(), silent: newSilentConns(),
		started: time.Now(), registry: prometheus.NewRegistry(), quit: make(chan struct{}, 1),
		hangup: hangup{typed: cfg.Typed(), atTerminal: output.StdinIsTerminal()},
	}
	s.out = assembly.NewWayOut(cfg)
	err := s.readHeader()
	if err != nil {
		return nil, err
	}
	s.logins.use(assembly.LoginTransport(cfg, s.out))
	if s.dataListeners = in.Data; in.Data == nil {
		if s.dataListeners, err = listen.Data(cfg.Listen, cfg.SocketMode); err != nil {
			return nil, err
		}
	}
	if s.adminListeners = in.Admin; in.Admin == nil {
		if s.adminListeners, err = listen.Admin(cfg.AdminListen, cfg.SocketMode); err != nil {
			listen.CloseAll(s.dataListeners)
			return nil, err
		}
	}

	s.open = descriptors.New(descriptors.Limit(), descriptors.Open(), log.Events)
	if cfg.Page != "false" && len(s.adminListeners) > 0 {
		s.history = history.New(history.Options{
			Explain: func(ex *proxy.Exchange) (string, string) {
				return advice.ForRequest(ex, s.Manager.Status(), assembly.LoginWay(cfg))
			},
			Advise:   func(ev tokens.Event) string { return advice.ForLogin(ev, assembly.LoginWay(cfg)) },
			Stopping: s.Stopping.Load,
		})
	}
	m := metrics.New(s.registry, s.metricsOptions(o.Version))
	store := s.openStore(m)
	s.Manager = tokens.New(tokens.Options{
		Login:           assembly.Login(cfg, &s.logins),
		Store:           store,
		DefaultLifetime: cfg.DefaultTokenLifetime,
		Wait:            cfg.TokenWait,
		KeepWarm:        cfg.KeepWarm,
		Observe: func(ev tokens.Event) {
			switch {
			case ev.Why == tokens.Adopted && ev.Token != nil && s.shared != nil:
				m.Adopted()
			case ev.Why == tokens.Adopted, ev.Waiting: // none was made
			default:
				m.Login(string(ev.Result()), ev.Duration)
			}
			if s.history != nil {
				s.history.Login(ev)
			}
			if o.Login != nil {
				o.Login(ev)
			}
			if o.States != nil {
				o.States.Login(ev)
			}
		},
	})
	if o.States != nil {
		o.States.Status, o.States.Ending = s.Manager.Status, s.Stopping.Load
	}
	hosts := append(listen.Hosts(s.dataListeners), cfg.AllowedHosts...)
	options := assembly.ProxyOptions(cfg)
	options.Source = assembly.TokenSource{Manager: s.Manager}
	options.Transport, options.Dials = s.upstreamTransport(cfg), &s.dials
	options.Hosts = hosts
	options.RequireHeader = func() proxy.HeaderRule { return *s.header.Load() }
	// Whoever uses a connection until Shutdown closes it may have a request
	// on its way; so may one that is closed to make room for another.
	options.SendAway = func() bool { return s.Stopping.Load() || s.open.Data.Full() }
	options.Done = func(ex *proxy.Exchange) {
		observeRequest(m, ex)
		if s.history != nil {
			s.history.Request(ex)
		}
		if o.Request != nil {
			o.Request(ex)
		}
		if o.States != nil {
			o.States.Request(ex)
		}
	}
	s.proxy = proxy.New(options)

	s.open.Upstream.CloseIdle = s.proxy.CloseIdleConnections
	s.files = newWatcher(s.filesToWatch()...)
	s.data = NewServer(s.counted(s.proxy), log, "data")
	// With a cause, the proxy knows that it was not the client who left.
	base, end := context.WithCancelCause(context.Background())
	s.endRequests = func() { end(errStopping) }
	s.data.BaseContext = func(net.Listener) context.Context { return base }
	s.silent.watch(s.data)
	s.open.Data.Guard(s.data)
	answers := admin.Facts{
		Status:   s.Manager.Status,
		Stopping: s.Stopping.Load,
		Page:     s.statusPage,
		Metrics:  promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{}),
		Hosts:    proxy.NewHosts(append(listen.Hosts(s.adminListeners), hosts...)...),
		LogIn:    s.Manager.LogInAgain,
		Way:      assembly.LoginWay(cfg),
	}
	if s.history != nil {
		answers.People = s.page()
	}
	if cfg.AllowQuit {
		answers.Quit = s.AskToQuit
	}
	s.admin = NewServer(answers.Handler(), log, "admin")
	// Nothing there takes a body or lasts: net/http would wait for a body that
	// somebody announces and does not send.
	s.admin.ReadTimeout = s.admin.ReadHeaderTimeout
	s.admin.WriteTimeout = time.Minute
	s.open.Admin.Guard(s.admin)
	return s, nil
}

// upstreamTransport makes a transport for cfg that keeps to the allotment.
func (s *Service) upstreamTransport(cfg config.Config) *http.Transport {
	return assembly.UpstreamTransport(cfg, s.out, &s.dials, s.open.Upstream.Dialer(proxy.Dialer(cfg.DialTimeout).DialContext, cfg.DialTimeout))
}

// NewServer returns a server that closes slow and idle clients. It bounds
// neither a request's body nor its answer in time: streams are long.
func NewServer(handler http.Handler, log logs.Log, name string) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    128 << 10,
		// OPTIONS * gets the proxy's own answer, like any other bad target.
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     logs.ForServer(log, name),
	}
}

// counted keeps account of the handlers that run: Shutdown does not wait for
// those of upgraded connections.
func (s *Service) counted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.begin()
		defer s.requests.end()
		next.ServeHTTP(w, r)
	})
}

var (
	errStopping = errors.New("bearerd is stopping")
	// ErrSecondSignal ends a stop that somebody has lost patience with.
	ErrSecondSignal = errors.New("stopped at once by a second signal")
)

// Run serves until a signal or POST /quitquitquit ends it, or a listener fails.
// It returns nil after a clean stop.
func (s *Service) Run(signals <-chan os.Signal) error {
	failed := make(chan error, len(s.dataListeners)+len(s.adminListeners))
	// Clients may connect before there is a token: they wait for the first
	// login.
	for _, l := range s.adminListeners {
		go func() { failed <- s.admin.Serve(s.open.Admin.By(l)) }() // ends with the server
	}
	for _, l := range s.dataListeners {
		s.accepting.Go(func() { failed <- s.data.Serve(s.open.Data.By(l)) })
	}
	s.Manager.Start()
	s.files.start()

	// All that may wait, for requests, is done beside this loop: a second signal
	// must always be heard. The log never waits.
	stopped := make(chan struct{})
	signalled := false
	var gone <-chan time.Time // says when to look whether the terminal has
	stop := func(key, by string) {
		if !s.Stopping.CompareAndSwap(false, true) {
			return
		}
		go func() {
			defer close(stopped)
			s.log.Events.Info().Str(key, by).Msg("stopping")
			s.drain()
			s.close()
			s.log.Events.Info().Msg("stopped")
			s.log.Flush() // within the hearing of a second signal
		}()
	}
	for {
		select {
		case err := <-failed:
			if s.Stopping.Load() {
				continue // the servers end because they were told to
			}
			s.close()
			return err
		case <-stopped:
			return nil
		case <-s.quit:
			stop("request", "POST /quitquitquit")
		case <-gone:
			if s.hangup.stops() {
				stop("signal", syscall.SIGHUP.String())
			}
		case signal := <-signals:
			switch {
			case signal == syscall.SIGHUP && s.hangup.stops():
				// No sign of impatience, and not the last: the shell sends one, and
				// the kernel.
				stop("signal", signal.String())
			case signal == syscall.SIGHUP:
				gone = s.hangup.comes()
				s.files.now(s.Manager.LogInAgain) // which reads the credential files again
			case signalled:
				s.abandon()
				return ErrSecondSignal
			default:
				// The first is no sign of impatience, even where a stop was asked
				// for before: Kubernetes sends it to a Job's pod that is deleted.
				signalled = true
				stop("signal", signal.String())
			}
		}
	}
}

// URL is where a tool on this machine reaches it, without a slash at the end. The
// first listener, as with AdminURL, must be TCP.
func (s *Service) URL() string { return "http://" + listen.Localhost(s.dataListeners) }

// AdminURL is that of the admin listener.
func (s *Service) AdminURL() string { return "http://" + listen.Localhost(s.adminListeners) }

// AskToQuit asks Run for a clean stop. It does not wait, and to ask again
// changes nothing.
func (s *Service) AskToQuit() {
	select {
	case s.quit <- struct{}{}:
	default:
	}
}

// readHeader reads the header that callers must send, at the start.
func (s *Service) readHeader() error {
	var rule proxy.HeaderRule
	if source := s.cfg.HeaderSource(); !source.IsZero() {
		text, err := source.Read()
		s.headerFingerprint = config.FingerprintOf(config.FileText{Text: text.Reveal(), Err: err})
		if rule, err = config.ParseHeaderRule(source, text, err); err != nil {
			return fmt.Errorf("%s: %w", config.SecretSource{Name: config.RequireHeader, Source: source}.Variable(), err)
		}
	}
	s.header.Store(&rule)
	return nil
}

// drain lets requests finish: it serves on for DRAIN_DELAY, then accepts no
// more, and after SHUTDOWN_GRACE ends what is left.
func (s *Service) drain() {
	<-time.After(s.cfg.DrainDelay)
	grace, cancel := context.WithTimeout(context.Background(), s.cfg.ShutdownGrace)
	defer cancel()
	listen.CloseAll(s.dataListeners)
	s.open.Data.Shut()
	s.accepting.Wait()
	s.silent.settle(grace)
	_ = s.data.Shutdown(grace) // an error means that something is left
	s.requests.wait(grace)
}

// close ends everything, and waits for what that takes.
func (s *Service) close() {
	s.endRequests()
	s.open.Data.Shut()
	s.open.Admin.Shut()
	_ = s.data.Close()
	// They have been cancelled, and have something to log.
	moment, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	s.requests.wait(moment)
	s.files.close()
	s.out.Close()
	s.Manager.Close()
	if s.shared != nil {
		s.shared.Close()
	}
	_ = s.admin.Close()
	// A listener that Run had not come to serve is not its server's to close,
	// and a unix socket would stay.
	listen.CloseAll(s.dataListeners)
	listen.CloseAll(s.adminListeners)
}

// abandon ends as much as can be ended at once. The process exits after it.
func (s *Service) abandon() {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		s.close()
	}()
	select {
	case <-closed:
	case <-time.After(200 * time.Millisecond): // somebody waits
		listen.CloseAll(s.adminListeners) // which close has not come to; a unix socket would stay
	}
}
