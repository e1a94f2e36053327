package main

import (
	"io"
	"log"
	"os"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/term"

	"github.com/bearerd/bearerd/proxy"
	"github.com/bearerd/bearerd/tokens"
)

// zerolog has no other place for it.
func init() { zerolog.TimeFieldFormat = "2006-01-02T15:04:05.000Z07:00" }

// logs are the process's log, by what goes into it.
type logs struct {
	events zerolog.Logger // what happens to bearerd: each line goes out at once
	access zerolog.Logger // what happens to requests: lines may wait a moment
	flush  func()         // sends what waits
}

// openLog opens the log: for people on a terminal, JSON elsewhere, where format
// is "auto". level is one that zerolog knows.
func openLog(w io.Writer, level, format string) logs {
	least, err := zerolog.ParseLevel(level)
	if err != nil {
		panic(err) // loadConfig takes no other
	}
	open := func(w io.Writer) zerolog.Logger {
		return zerolog.New(w).Level(least).With().Timestamp().Logger()
	}
	if format == "console" || format == "auto" && isTerminal(w) {
		all := open(zerolog.ConsoleWriter{
			Out: w, TimeFormat: "15:04:05.000", NoColor: !isTerminal(w),
			FieldsOrder: []string{"listen", "admin", "upstream", "method", "path", "status", "code", "result", "cause"},
		})
		return logs{events: all, access: all, flush: func() {}}
	}
	lines := &lineLog{w: w}
	return logs{events: open(lines), access: open(lines.lazy()), flush: func() { _ = lines.Flush() }}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// serverLog passes on what net/http has to say of connections and panics.
func serverLog(logger zerolog.Logger, server string) *log.Logger {
	return log.New(lineWriter(func(line string) {
		logger.Warn().Str("server", server).Str("error", line).Msg("http server")
	}), "", 0)
}

type lineWriter func(line string)

func (w lineWriter) Write(p []byte) (int, error) {
	w(strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}

// accessLog logs requests as ACCESS_LOG says.
type accessLog struct {
	logger zerolog.Logger
	mode   string
}

func (a accessLog) log(ex *proxy.Exchange) {
	failed := ex.Status >= 400 || ex.Outcome != proxy.Completed
	if a.mode == "off" || a.mode == "errors" && !failed {
		return
	}
	e := a.logger.Info()
	if e == nil {
		return
	}
	e.Str("method", ex.Method).
		Str("path", ex.Path).
		Int("status", ex.Status).
		Float64("duration_ms", milliseconds(ex.Duration)).
		Int64("bytes_in", ex.BytesIn).
		Int64("bytes_out", ex.BytesOut).
		Uint64("generation", ex.Generation).
		Bool("replayed", ex.Unauthorized == proxy.Replayed)
	if ex.Outcome != proxy.Completed {
		e.Str("outcome", string(ex.Outcome))
	}
	if ex.Error != "" {
		e.Str("code", string(ex.Error))
	}
	if ex.Cause != nil {
		e.Str("cause", tokens.DescribeError(ex.Cause))
	}
	e.Msg("request")
}

func milliseconds(d time.Duration) float64 {
	return float64(d.Round(time.Microsecond)) / float64(time.Millisecond)
}

// loginLog logs logins: each that succeeds, and of those that fail each change
// of what is wrong. Repeated failures are for the debug level.
type loginLog struct {
	logger zerolog.Logger
	cause  string // of the failures since the last success
}

func (l *loginLog) log(ev tokens.Event) {
	if ev.Result == tokens.OK {
		l.succeeded(ev)
		return
	}
	cause := string(ev.Result) + ev.Cause
	changed := cause != l.cause || ev.Stopped
	l.cause = cause
	e := l.logger.Debug()
	if changed {
		e = l.logger.Warn()
		if ev.Result == tokens.Rejected {
			e = l.logger.Error()
		}
	}
	e.Str("result", string(ev.Result)).
		Str("cause", ev.Cause).
		Float64("duration_ms", milliseconds(ev.Duration))
	if ev.Status != 0 {
		e.Int("status", ev.Status)
	}
	if !ev.FailingSince.IsZero() {
		e.Time("failing_since", ev.FailingSince)
	}
	if !ev.NextLogin.IsZero() {
		e.Time("next_login", ev.NextLogin)
	}
	e.Str("remedy", remedy(ev))
	switch {
	case ev.Waiting:
		e.Msg("login waits for a file")
	case ev.Stopped:
		e.Msg("login stopped")
	case ev.Result == tokens.Rejected:
		e.Msg("login rejected")
	default:
		e.Msg("login failed")
	}
}

func (l *loginLog) succeeded(ev tokens.Event) {
	message := "login"
	if l.cause != "" {
		message = "login works again"
	}
	l.cause = ""
	e := l.logger.Info().
		Uint64("generation", ev.Token.Generation).
		Float64("lifetime_s", ev.Token.Lifetime.Seconds()).
		Str("expiry_rule", string(ev.Token.Rule)).
		Float64("duration_ms", milliseconds(ev.Duration))
	if ev.SkewKnown {
		e.Float64("clock_skew_s", ev.Skew.Seconds())
	}
	e.Msg(message)
}

// remedy says what a person can do about a failed login.
func remedy(ev tokens.Event) string {
	switch {
	case ev.Waiting:
		return "mend that file; bearerd looks at it every second and logs in when it can be used"
	case ev.Stopped:
		return "these credentials never worked, so that the account is not locked bearerd asks no more; correct the credentials file, or set the right values and restart, or send SIGHUP"
	case ev.Result == tokens.Rejected:
		return "check BEARERD_USERNAME and BEARERD_PASSWORD, or BEARERD_CLIENT_ID and BEARERD_CLIENT_SECRET; a changed credentials file is tried at once"
	case ev.Result == tokens.Throttled:
		return "none needed: the login server is busy, and bearerd waits"
	default:
		return "check BEARERD_TOKEN_URL and the network; bearerd tries again by itself"
	}
}
