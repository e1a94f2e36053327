// Package doctor is bearerd check: one login and one request by the ways that serving
// has, and a report of them. It knows nothing of a service that runs.
package doctor

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/advice"
	"github.com/bearerd/bearerd/cmd/internal/assembly"
	"github.com/bearerd/bearerd/cmd/internal/config"
	"github.com/bearerd/bearerd/cmd/internal/display"
	"github.com/bearerd/bearerd/cmd/internal/interrupt"
	"github.com/bearerd/bearerd/proxy"
	"github.com/bearerd/bearerd/tokens"
)

// ErrNotHealthy is what check returns when its report says so.
var ErrNotHealthy = errors.New("not healthy")

const (
	upstreamPatience = 30 * time.Second // until upstream's header
	bodyPatience     = 2 * time.Second  // what is read of a body after it: it may be a stream
	maxProblemBody   = 64 << 10         // bytes
)

// Options are what check looks at, and how it reports.
type Options struct {
	From    config.Sources
	Path    string // what to ask upstream for; empty: the first of ALLOWED_PATHS, or /
	JSON    bool   // the report for machines
	All     bool   // names the settings that have their defaults too
	Version string // of bearerd
}

// Check is the doctor: one login, one GET upstream by the way that every
// request goes, and a report.
func Check(o Options, signals <-chan os.Signal, stdout, stderr io.Writer) error {
	cfg, err := o.From.Load(signals, stderr)
	if err != nil {
		if bad, ok := errors.AsType[*config.Error](err); ok && o.JSON {
			r := newReport(o.Version)
			for _, p := range bad.Problems {
				r.Problems = append(r.Problems, finding{Severity: severityError, Setting: p.Variable, Problem: p.Text})
			}
			if writeErr := r.writeJSON(stdout); writeErr != nil {
				return errors.Join(err, writeErr)
			}
		}
		return err
	}
	path := o.Path
	if path == "" {
		path = "/"
		if len(cfg.AllowedPaths) > 0 {
			path = cfg.AllowedPaths[0]
		}
	}
	target, err := url.ParseRequestURI(path)
	if err != nil {
		return fmt.Errorf("what to ask upstream for: %w", err)
	}
	ctx, stop := interrupt.Context(signals)
	defer stop()
	r := newReport(o.Version)
	r.describeSettings(cfg)
	out := assembly.NewWayOut(cfg)
	out.Start()
	defer out.Close()
	if note := cmp.Or(out.Note(cfg.TokenURL), out.Note(cfg.Upstream)); note != "" {
		r.Problems = append(r.Problems, finding{Severity: severityWarning, Problem: "BEARERD_PROXY: " + note})
	}
	token := r.logIn(ctx, cfg, out)
	if token != nil {
		r.askUpstream(ctx, cfg, out, target, token, max(upstreamPatience, cfg.ResponseHeaderTimeout+time.Second))
	}
	if ctx.Err() != nil {
		return interrupt.ErrInterrupted
	}
	stop() // from here on a signal ends the wait for the report's reader
	r.judge()
	if o.JSON {
		err = r.writeJSON(stdout)
	} else {
		err = r.writeText(stdout, o.All)
	}
	if err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	if !r.Healthy {
		return ErrNotHealthy
	}
	return nil
}

// logIn makes the one login. It returns nil when there is no token.
func (r *Report) logIn(ctx context.Context, cfg config.Config, out *assembly.WayOut) *tokens.Token {
	trace := new(connTrace)
	var event tokens.Event
	manager := tokens.New(tokens.Options{ // not started: it makes the login that Token asks for, and no other
		Login:           assembly.Login(cfg, traced{assembly.LoginTransport(cfg, out), trace}),
		DefaultLifetime: cfg.DefaultTokenLifetime,
		Wait:            cfg.LoginTimeout + time.Minute, // the login's own limit comes first
		Observe:         func(ev tokens.Event) { event = ev },
	})
	host := cfg.TokenHost
	if cfg.Discretion().Is(host) {
		host = config.NotShown
	}
	token, _ := manager.Token(ctx) // the event has more than the error
	manager.Close()                // and with it event is complete

	l := loginReport{
		URL:        display.WithoutQuery(cfg.TokenURL),
		Host:       host,
		Grant:      cfg.GrantType,
		Proxy:      out.For(cfg.TokenURL),
		Result:     string(event.Result()),
		Status:     event.Status,
		Cause:      event.Cause.String(),
		Waiting:    event.Waiting,
		Duration:   display.Milliseconds(event.Duration),
		Connection: trace.report(cfg.TokenURL),
	}
	if event.SkewKnown {
		seconds := event.Skew.Seconds()
		l.Skew = &seconds
	}
	if token != nil {
		l.Token = describeToken(token)
	} else {
		l.remedy = advice.LoginFailure{Failure: event.Failure, Way: assembly.LoginWay(cfg)}.Remedy()
	}
	r.Login = &l
	return token
}

// askUpstream makes the one GET, through the proxy's own handler: the report
// tells what a tool's request would meet. Upstream's header may take patience.
func (r *Report) askUpstream(ctx context.Context, cfg config.Config, out *assembly.WayOut, target *url.URL, token *tokens.Token, patience time.Duration) {
	// As from a server, so that ReverseProxy panics when an answer is cut short.
	ctx = context.WithValue(ctx, http.ServerContextKey, new(http.Server))
	ctx, cancel := context.WithCancel(ctx) // and no deadline, which would look like a stop
	defer cancel()
	limit := time.AfterFunc(patience, cancel)
	defer limit.Stop()
	trace := new(connTrace)
	var ex proxy.Exchange
	options := assembly.ProxyOptions(cfg)
	options.Source = oneToken{token}
	options.Transport = assembly.UpstreamTransport(cfg, out, nil, nil)
	options.Done = func(e *proxy.Exchange) { ex = *e }
	handler := proxy.New(options)
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
		URL:        strings.TrimRight(display.WithoutQuery(cfg.Upstream), "/") + target.EscapedPath(),
		Proxy:      out.For(cfg.Upstream),
		Status:     ex.Status,
		Duration:   display.Milliseconds(ex.Duration),
		Connection: trace.report(cfg.Upstream),
		CutShort:   ex.Outcome == proxy.Aborted,
		refused:    ex.Refused,
		late:       ex.Unauthorized == proxy.Replayed && !ex.Refused && ex.Error == "",
	}
	switch {
	case ex.Error.Fault() == proxy.FaultCaller:
		u.Status, u.Code, u.remedy = 0, ex.Error, w.detail()
	case ex.Error != "":
		failure := advice.FailureOfUpstream(&ex)
		u.Status, u.Code, u.Cause, u.remedy = 0, ex.Error, failure.String(), failure.Remedy()
	case ex.Status == 0:
		u.Code, u.Cause = proxy.UpstreamTimeout, fmt.Sprintf("no answer within %v", patience)
		u.remedy = "ask for another path by -path, or ask whoever runs " + u.URL
	}
	r.Upstream = u
}

// oneToken gives the one token and no other, so that a 401 costs no login. One
// that comes in the token's first second may be for its youth: the request is sent
// once more when it is over, as where bearerd serves.
type oneToken struct{ token *tokens.Token }

func (s oneToken) Token(context.Context) (proxy.Token, error) {
	return assembly.ProxyToken(s.token, nil)
}

func (s oneToken) Before(uint64) (proxy.Token, bool) { return proxy.Token{}, false }

func (s oneToken) Renew(context.Context, uint64, func() bool) (proxy.Token, error) {
	if time.Since(s.token.Came) >= time.Second {
		return proxy.Token{}, tokens.ErrNotRenewed
	}
	return assembly.ProxyToken(s.token, nil)
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
func (r *Report) judge() {
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
	if l.Skew != nil && math.Abs(*l.Skew) >= advice.ClockWrong.Seconds() {
		add(severityWarning, advice.ClockSays(SkewOf(*l.Skew)), advice.ClockRemedy)
	}
	if u := r.Upstream; u != nil {
		if u.late {
			add(severityWarning, "upstream refused the token in its first second, and took it then",
				"none needed, bearerd allows for it: upstream's clock is behind the login server's, or it learns of new tokens late")
		}
		switch {
		case u.Code != "" && u.Cause == "":
			add(severityError, fmt.Sprintf("bearerd itself refuses this request (%s): upstream was not asked", u.Code), u.remedy)
		case u.Code != "":
			add(severityError, fmt.Sprintf("upstream gave no answer (%s): %s", u.Code, u.Cause), u.remedy)
		case u.refused:
			add(severityError, fmt.Sprintf("upstream refuses the token that the login server has just given (HTTP %d)", u.Status),
				advice.RefusedRemedy)
		case u.Status >= 500:
			add(severityError, fmt.Sprintf("upstream has a fault (HTTP %d)", u.Status), "none here: ask whoever runs "+u.URL)
		case u.Status == http.StatusForbidden:
			add(severityWarning, "upstream says HTTP 403: the account may not read this path, or upstream answers so to tokens that it does not know",
				"try a path that the account may read: bearerd check -path /x; where each path says 403, look at the token's aud and scope, and set BEARERD_RENEW_STATUS=401,403 if upstream says it to a token that was revoked")
		case u.CutShort:
			add(severityWarning, "upstream closed the connection in the middle of its answer", "none here: ask whoever runs "+u.URL+", or the proxy before it")
		}
	}
	slices.SortStableFunc(r.Problems, func(a, b finding) int { return strings.Compare(a.Severity, b.Severity) }) // errors first
	r.Healthy = true
	for _, p := range r.Problems {
		r.Healthy = r.Healthy && p.Severity != severityError
	}
}
