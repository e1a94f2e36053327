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
			FormatPrepare: shortTimes,
			FieldsOrder: []string{
				"listen", "admin", "upstream", "method", "path", "status", "code", "cause",
				"impact", "token_expiry", "next_login", "remedy", "logging_in", "failing_since",
				"failed_for_s", "failed_logins", "failed_requests",
				"duration_ms", "generation", "lifetime_s",
			},
		})
		return logs{events: all, access: all, flush: func() {}}
	}
	lines := &lineLog{w: w}
	return logs{events: open(lines), access: open(lines.lazy()), flush: func() { _ = lines.Flush() }}
}

// shortTimes has the console show the times in a line like the line's own, and
// those of another day with their date.
func shortTimes(fields map[string]any) error {
	now, _ := parseTime(fields[zerolog.TimestampFieldName])
	for _, name := range []string{"token_expiry", "next_login", "failing_since"} {
		t, ok := parseTime(fields[name])
		switch {
		case !ok:
		case t.Format(time.DateOnly) == now.Format(time.DateOnly):
			fields[name] = t.Format(time.TimeOnly)
		default:
			fields[name] = t.Format("2006-01-02T15:04:05")
		}
	}
	return nil
}

// parseTime reads a time of a log line, as local time.
func parseTime(field any) (time.Time, bool) {
	text, _ := field.(string)
	t, err := time.Parse(zerolog.TimeFieldFormat, text)
	return t.Local(), err == nil
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
		e.Str("cause", upstreamCause(ex))
	}
	e.Msg("request")
}

func milliseconds(d time.Duration) float64 {
	return float64(d.Round(time.Microsecond)) / float64(time.Millisecond)
}

// seconds is d to the millisecond.
func seconds(d time.Duration) float64 { return d.Round(time.Millisecond).Seconds() }
