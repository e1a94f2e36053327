package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/bearerd/bearerd/proxy"
	"github.com/bearerd/bearerd/tokens"
)

// errNotHealthy is what check returns when its report says so.
var errNotHealthy = errors.New("not healthy")

const (
	upstreamPatience = 30 * time.Second // until upstream's header
	bodyPatience     = 2 * time.Second  // what is read of a body after it: it may be a stream
	maxProblemBody   = 64 << 10         // bytes
)

// check is the doctor: one login, one GET upstream by the way that every
// request goes, and a report.
func check(from sources, path string, asJSON bool, signals <-chan os.Signal, stdout, stderr io.Writer) error {
	cfg, err := from.load(signals, stderr)
	if err != nil {
		if bad, ok := errors.AsType[*configError](err); ok && asJSON {
			r := newReport()
			for _, p := range bad.problems {
				r.Problems = append(r.Problems, finding{Severity: severityError, Setting: p.variable, Problem: p.text})
			}
			if writeErr := r.writeJSON(stdout); writeErr != nil {
				return errors.Join(err, writeErr)
			}
		}
		return err
	}
	if path == "" {
		path = "/"
		if len(cfg.AllowedPaths) > 0 {
			path = cfg.AllowedPaths[0]
		}
	}
	target, err := url.ParseRequestURI(path)
	if err != nil {
		return usageError("-path is not the path of a URL")
	}
	ctx, stop := untilSignal(signals)
	defer stop()
	r := newReport()
	r.describeSettings(cfg)
	token := r.logIn(ctx, cfg)
	if token != nil {
		r.askUpstream(ctx, cfg, target, token, max(upstreamPatience, cfg.ResponseHeaderTimeout+time.Second))
	}
	if ctx.Err() != nil {
		return errInterrupted
	}
	r.judge()
	write := r.writeText
	if asJSON {
		write = r.writeJSON
	}
	if err := write(stdout); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	if !r.Healthy {
		return errNotHealthy
	}
	return nil
}

// logIn makes the one login. It returns nil when there is no token.
func (r *report) logIn(ctx context.Context, cfg Config) *tokens.Token {
	trace := new(connTrace)
	login := cfg.login()
	login.Transport = traced{login.Transport, trace}
	var event tokens.Event
	manager := tokens.New(tokens.Options{ // not started: it makes the login that Token asks for, and no other
		Login:           login,
		DefaultLifetime: cfg.DefaultTokenLifetime,
		Wait:            cfg.LoginTimeout + time.Minute, // the login's own limit comes first
		Observe:         func(ev tokens.Event) { event = ev },
	})
	token, _ := manager.Token(ctx) // the event has more than the error
	manager.Close()                // and with it event is complete

	l := loginReport{
		URL:        withoutQuery(cfg.TokenURL),
		Host:       cfg.TokenHost,
		Grant:      cfg.GrantType,
		Proxy:      proxyFor(cfg.TokenURL),
		Result:     string(event.Result),
		Status:     event.Status,
		Cause:      event.Cause,
		Waiting:    event.Waiting,
		Duration:   milliseconds(event.Duration),
		Connection: trace.report(cfg.TokenURL),
	}
	if event.SkewKnown {
		seconds := event.Skew.Seconds()
		l.Skew = &seconds
	}
	if token != nil {
		l.Token = describeToken(token)
	} else {
		l.remedy = loginFailure{result: event.Result, cause: event.Cause, waiting: event.Waiting, asked: cfg.asked()}.remedy()
	}
	r.Login = &l
	return token
}

// askUpstream makes the one GET, through the proxy's own handler: the report
// tells what a tool's request would meet. Upstream's header may take patience.
func (r *report) askUpstream(ctx context.Context, cfg Config, target *url.URL, token *tokens.Token, patience time.Duration) {
	// As from a server, so that ReverseProxy panics when an answer is cut short.
	ctx = context.WithValue(ctx, http.ServerContextKey, new(http.Server))
	ctx, cancel := context.WithCancel(ctx) // and no deadline, which would look like a stop
	defer cancel()
	limit := time.AfterFunc(patience, cancel)
	defer limit.Stop()
	trace := new(connTrace)
	var ex proxy.Exchange
	handler := proxy.New(proxy.Options{
		Upstream:              cfg.Upstream,
		Source:                oneToken{token},
		Transport:             cfg.upstreamTransport(),
		ResponseHeaderTimeout: cfg.ResponseHeaderTimeout,
		Methods:               cfg.AllowedMethods,
		Paths:                 cfg.AllowedPaths,
		Done:                  func(e *proxy.Exchange) { ex = *e },
	})
	req, err := http.NewRequestWithContext(trace.context(ctx), http.MethodGet, "http://localhost/", nil)
	if err != nil {
		panic(err) // a constant
	}
	req.URL, req.RequestURI = target, target.RequestURI()
	req.Header.Set("User-Agent", "bearerd")
	w := &checkAnswer{header: make(http.Header), begun: func() { limit.Reset(bodyPatience) }}
	func() {
		defer func() {
			if p := recover(); p != nil && p != http.ErrAbortHandler {
				panic(p)
			}
		}()
		handler.ServeHTTP(w, req)
	}()

	u := &upstreamReport{
		URL:        strings.TrimRight(withoutQuery(cfg.Upstream), "/") + target.EscapedPath(),
		Proxy:      proxyFor(cfg.Upstream),
		Status:     ex.Status,
		Duration:   milliseconds(ex.Duration),
		Connection: trace.report(cfg.Upstream),
		CutShort:   ex.Outcome == proxy.Aborted,
	}
	switch {
	case ex.Error != "" && ex.Cause == nil: // the guard's
		u.Status, u.Code, u.remedy = 0, ex.Error, w.detail()
	case ex.Error != "":
		u.Status, u.Code, u.Cause = 0, ex.Error, upstreamCause(&ex)
		u.remedy = upstreamRemedy(&ex, u.Cause)
	case ex.Status == 0:
		u.Code, u.Cause = proxy.UpstreamTimeout, fmt.Sprintf("no answer within %v", patience)
		u.remedy = "ask for another path by -path, or ask whoever runs " + u.URL
	}
	r.Upstream = u
}

// oneToken gives the one token and no other, so that a 401 costs no login.
type oneToken struct{ token *tokens.Token }

func (s oneToken) Token(context.Context) (proxy.Token, error) { return proxyToken(s.token, nil) }

func (s oneToken) Renew(context.Context, uint64, func() bool) (proxy.Token, error) {
	return proxy.Token{}, tokens.ErrNotRenewed
}

// checkAnswer is the ResponseWriter of the one GET. It keeps what may be bearerd's
// own error, and ends a long body.
type checkAnswer struct {
	header http.Header
	begun  func()
	body   []byte
}

func (a *checkAnswer) Header() http.Header { return a.header }

func (a *checkAnswer) WriteHeader(int) { a.begun() }

func (a *checkAnswer) Write(p []byte) (int, error) {
	if len(a.body)+len(p) > maxProblemBody {
		return 0, errors.New("enough")
	}
	a.body = append(a.body, p...)
	return len(p), nil
}

// detail is that of bearerd's own error.
func (a *checkAnswer) detail() string {
	var problem struct{ Detail string }
	_ = json.Unmarshal(a.body, &problem) // bearerd wrote it
	return problem.Detail
}

// judge finds what is wrong, and so whether all is well.
func (r *report) judge() {
	add := func(severity, problem, remedy string) {
		r.Problems = append(r.Problems, finding{Severity: severity, Problem: problem, Remedy: remedy})
	}
	l := r.Login
	if l.Token == nil {
		what := "login " + l.Result + ": " + l.Cause
		if l.Waiting {
			what = "no login was made: " + l.Cause
		}
		add(severityError, what, l.remedy)
	} else if l.Token.Rule == tokens.RuleDefault {
		add(severityWarning, "the login server does not say how long the token lives",
			"ask the vendor, and set BEARERD_DEFAULT_TOKEN_LIFETIME to that")
	}
	if l.Skew != nil && math.Abs(*l.Skew) >= clockWrong.Seconds() {
		add(severityWarning, clockSays(skewOf(*l.Skew)), clockRemedy)
	}
	if u := r.Upstream; u != nil {
		switch {
		case u.Code != "" && u.Cause == "":
			add(severityError, fmt.Sprintf("bearerd itself refuses this request (%s): upstream was not asked", u.Code), u.remedy)
		case u.Code != "":
			add(severityError, fmt.Sprintf("upstream gave no answer (%s): %s", u.Code, u.Cause), u.remedy)
		case u.Status == http.StatusUnauthorized:
			add(severityError, "upstream refuses the token that the login server has just given (HTTP 401)",
				refusedRemedy)
		case u.Status >= 500:
			add(severityError, fmt.Sprintf("upstream has a fault (HTTP %d)", u.Status), "none here: ask whoever runs "+u.URL)
		case u.Status == http.StatusForbidden:
			add(severityWarning, "the account may not read this path (HTTP 403)", "try a path that it may: bearerd check -path /x")
		case u.CutShort:
			add(severityWarning, "upstream closed the connection in the middle of its answer", "none here: ask whoever runs "+u.URL+", or the proxy before it")
		}
	}
	r.Healthy = true
	for _, p := range r.Problems {
		r.Healthy = r.Healthy && p.Severity != severityError
	}
}
