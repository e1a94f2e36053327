// Querysim serves the simulated login servers and Query Service of package
// querysim, for trying bearerd out without an account.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

// stopGrace is how long requests may take to finish once the program is told
// to stop.
const stopGrace = 5 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// config is the command line.
type config struct {
	loginListen, queryListen, controlListen string
	passwordFile                            string
	certFile, keyFile                       string
	options                                 querysim.Options
	faults                                  querysim.Faults
}

// run serves until ctx ends and returns the exit code: 0 after a clean stop, 1
// after a failure, 2 for a command line it cannot use.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var c config
	flags := flag.NewFlagSet("querysim", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&c.loginListen, "login-listen", "127.0.0.1:8081", "`address` of the login servers; port 0 picks a free one")
	flags.StringVar(&c.queryListen, "query-listen", "127.0.0.1:8082", "`address` of the Query Service")
	flags.StringVar(&c.controlListen, "control-listen", "127.0.0.1:8083", "`address` of POST /revoke, POST /lock, GET /stats and /faults, which GET shows, POST changes and DELETE ends; open to whoever reaches it")
	flags.DurationVar(&c.options.Lifetime, "lifetime", 300*time.Second, "how long a token lives, in whole seconds")
	flags.Uint64Var(&c.options.Seed, "seed", 0, "`number` that the made-up data comes from")
	flags.StringVar(&c.options.Username, "username", querysim.Username, "`name` of the account")
	probing := flags.Bool("probe", false, "asks the querysim that runs at -control-listen, and exits with 0 if it serves: for HEALTHCHECK, where there is no shell")
	flags.StringVar(&c.passwordFile, "password-file", "", "`file` with the account's password; without it, a fixed one that is no secret")
	flags.StringVar(&c.certFile, "cert-file", "", "PEM `file` of a certificate: with it and -key-file login servers and Query Service speak TLS, and HTTP/2")
	flags.StringVar(&c.keyFile, "key-file", "", "PEM `file` of its private key")
	for _, s := range querysim.FaultSettings() {
		set := func(text string) error { return s.Set(&c.faults, text) }
		if s.Switch {
			flags.BoolFunc(s.Name, s.Usage, set)
		} else {
			flags.Func(s.Name, s.Usage, set)
		}
	}
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return 2
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(stderr, "querysim: %q is not a flag; see querysim -h\n", flags.Arg(0))
		return 2
	}
	if *probing {
		if err := probe(ctx, c.controlListen); err != nil {
			fmt.Fprintf(stderr, "querysim: -probe: %v\n", err)
			return 1
		}
		return 0
	}
	if (c.certFile == "") != (c.keyFile == "") {
		fmt.Fprintln(stderr, "querysim: give both -cert-file and -key-file, or neither")
		return 2
	}
	if c.options.Username == "" {
		fmt.Fprintln(stderr, "querysim: -username: the name must not be empty")
		return 2
	}

	// A log.Logger, because logins are reported from many goroutines.
	out := log.New(stdout, "", 0)
	c.options.OnEvent = func(e querysim.Event) {
		switch e.Kind {
		case querysim.EventLogin:
			out.Printf("login %d: %s, %s", e.Serial, e.Vendor, e.Result)
		case querysim.EventRevocation:
			out.Printf("revocation %d: live tokens ended: %d", e.Serial, e.Tokens)
		}
	}
	sim, err := newSimulator(c)
	if err != nil {
		fmt.Fprintf(stderr, "querysim: %v\n", err)
		return 2
	}
	if err := serve(ctx, c, sim, out, log.New(stderr, "querysim: ", 0)); err != nil {
		fmt.Fprintf(stderr, "querysim: %v\n", err)
		return 1
	}
	return 0
}

// probe asks the querysim whose control address is at listen, for at most five
// seconds.
func probe(ctx context.Context, listen string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+listen+"/stats", nil)
	if err != nil {
		return err
	}
	resp, err := new(http.Transport).RoundTrip(req) // no proxy of the environment
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", listen, resp.Status)
	}
	return nil
}

func newSimulator(c config) (*querysim.Simulator, error) {
	sim, err := querysim.New(c.options)
	if err != nil {
		return nil, err
	}
	if err := sim.SetFaults(c.faults); err != nil {
		return nil, err
	}
	if c.passwordFile != "" {
		text, err := os.ReadFile(c.passwordFile)
		if err != nil {
			return nil, fmt.Errorf("-password-file: %w", err)
		}
		password := string(text)
		// One newline is trimmed, as bearerd does with its own files.
		if line, ok := strings.CutSuffix(password, "\n"); ok {
			password = strings.TrimSuffix(line, "\r")
		}
		if password == "" {
			return nil, fmt.Errorf("-password-file: %s is empty", c.passwordFile)
		}
		sim.SetPassword(password)
	}
	return sim, nil
}

// serve opens all listeners, says where they are, and serves until ctx ends or
// one of them fails.
func serve(ctx context.Context, c config, sim *querysim.Simulator, out, errorLog *log.Logger) error {
	parts := []struct {
		flag, address string
		handler       http.Handler
		tls           bool
	}{
		{"login-listen", c.loginListen, sim.LoginHandler(), c.certFile != ""},
		{"query-listen", c.queryListen, sim.QueryHandler(), c.certFile != ""},
		{"control-listen", c.controlListen, sim.ControlHandler(), false},
	}
	var listeners []net.Listener
	for _, p := range parts {
		l, err := net.Listen("tcp", p.address)
		if err != nil {
			for _, l := range listeners {
				_ = l.Close()
			}
			return fmt.Errorf("-%s: %w; choose another address with it", p.flag, err)
		}
		listeners = append(listeners, l)
	}
	out.Print(guide(c, urlOf(listeners[0], parts[0].tls), urlOf(listeners[1], parts[1].tls), urlOf(listeners[2], parts[2].tls)))

	var wg sync.WaitGroup
	failed := make(chan error, len(parts))
	servers := make([]*http.Server, len(parts))
	for i, p := range parts {
		servers[i] = &http.Server{Handler: p.handler, ReadHeaderTimeout: 10 * time.Second, ErrorLog: errorLog, ConnContext: querysim.ConnContext}
		wg.Go(func() {
			serve := func() error { return servers[i].Serve(listeners[i]) }
			if p.tls {
				serve = func() error { return servers[i].ServeTLS(listeners[i], c.certFile, c.keyFile) }
			}
			if err := serve(); !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("-%s: %w", p.flag, err)
			}
		})
	}
	var err error
	select {
	case <-ctx.Done():
		out.Print("stopping")
	case err = <-failed:
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopGrace)
	defer cancel()
	for _, s := range servers {
		wg.Go(func() {
			if s.Shutdown(grace) != nil {
				_ = s.Close()
			}
		})
	}
	wg.Wait()
	return err
}

// urlOf returns the base URL that a client on this machine uses for l.
func urlOf(l net.Listener, tls bool) string {
	address := l.Addr().String()
	if ap, err := netip.ParseAddrPort(address); err == nil && ap.Addr().IsUnspecified() {
		address = fmt.Sprintf("localhost:%d", ap.Port())
	}
	if tls {
		return "https://" + address
	}
	return "http://" + address
}

// guide is the text shown at start: the addresses, and what to give bearerd
// for each preset.
func guide(c config, login, query, control string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "login servers: %s\nQuery Service: %s\ncontrol:       %s (POST /revoke, POST /lock, GET /stats, POST /faults)\n\n", login, query, control)
	b.WriteString("To make them misbehave, post a form of the flags that querysim -h tells of to /faults; DELETE /faults ends it.\n")
	b.WriteString("To point bearerd here, give it the lines of one preset as environment variables:\n")
	if c.certFile != "" {
		b.WriteString("and BEARERD_CA_FILE, the file of the certificate or of who signed it.\n")
	}
	for _, v := range querysim.Vendors() {
		fmt.Fprintf(&b, "\nBEARERD_PRESET=%s\nBEARERD_TOKEN_URL=%s%s\nBEARERD_UPSTREAM=%s\n", v.Name, login, v.LoginPath, query)
		if v.ClientSecret != "" {
			fmt.Fprintf(&b, "BEARERD_CLIENT_ID=%s\nBEARERD_CLIENT_SECRET=%s\n", v.ClientID, v.ClientSecret)
			continue // its grant needs no user
		}
		fmt.Fprintf(&b, "BEARERD_USERNAME=%s\n", c.options.Username)
		if c.passwordFile != "" {
			fmt.Fprintf(&b, "BEARERD_PASSWORD_FILE=%s\n", c.passwordFile)
		} else {
			fmt.Fprintf(&b, "BEARERD_PASSWORD=%s\n", querysim.Password)
		}
	}
	return b.String()
}
