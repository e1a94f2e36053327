// Package logs writes bearerd's log: what happens, what becomes of requests, and the
// states of login and upstream, a line a change. It takes its words from package
// advice, and does not know who reads.
package logs

import (
	"bytes"
	"io"
	"log"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/bearerd/bearerd/cmd/internal/display"
	"github.com/bearerd/bearerd/cmd/internal/output"
)

// zerolog has no other place for it.
func init() { zerolog.TimeFieldFormat = "2006-01-02T15:04:05.000Z07:00" }

// Log is the process's log, by what goes into it.
type Log struct {
	Events  zerolog.Logger // what happens to bearerd: each line goes out at once
	Access  zerolog.Logger // what happens to requests: lines may wait a moment, and are the first to be lost
	Sparing *sampler       // of lines that anybody can cause; nil: all are written
	Lost    func() uint64  // how many lines were lost
	Flush   func()         // waits a moment until all lines are read
}

const (
	// SayLinesLost tells of what whoever reads the log has missed.
	SayLinesLost = "log lines lost"
	// SayLeftOut tells of lines like others that were written.
	SayLeftOut = "lines left out"
)

// Open opens the log that goes into lines: for people on a terminal, JSON
// elsewhere, where format is "auto". level is one that zerolog knows.
func Open(lines *output.Lines, level, format string) Log {
	terminal := output.IsTerminal(lines)
	switch {
	case format != "auto":
	case terminal:
		format = "console"
	default:
		format = "json"
	}
	colours := terminal && format == "console" && output.ShowsColours(output.FileBehind(lines))
	lines.TellLostBy(func(n uint64) []byte {
		var line bytes.Buffer
		// At any level: without it the log would lie.
		logger := NewLogger(&line, colours, zerolog.LevelTraceValue, format)
		logger.Warn().Uint64("lines", n).
			Str("cause", "whoever reads the log did not take them in time, or they could not be written").
			Msg(SayLinesLost)
		return line.Bytes()
	})
	events := NewLogger(lines, colours, level, format)
	sparing := &sampler{tell: func(kind string, n int, since time.Time) {
		events.Warn().Str("of", kind).Int("lines", n).Float64("for_s", display.Seconds(time.Since(since))).Msg(SayLeftOut)
	}}
	return Log{
		Events:  events,
		Access:  NewLogger(lines.Lazy(), colours, level, format),
		Sparing: sparing,
		Lost:    lines.Lost,
		Flush: func() {
			sparing.close()
			lines.Flush(output.FlushPatience)
		},
	}
}

// NewLogger makes lines in format, console or json, and gives each to w.
func NewLogger(w io.Writer, colours bool, level, format string) zerolog.Logger {
	least, err := zerolog.ParseLevel(level)
	if err != nil {
		panic(err) // config takes no other
	}
	if format == "console" {
		w = zerolog.ConsoleWriter{
			Out: display.VisibleLines(w), TimeFormat: "15:04:05.000", NoColor: !colours,
			FormatPrepare: forPeople,
			FieldsOrder: []string{
				"listen", "admin", "page", "upstream", "method", "path", "status", "code", "cause",
				"impact", "token_expiry", "next_login", "remedy", "logging_in", "failing_since",
				"failed_for_s", "failed_logins", "failed_requests",
				"duration_ms", "generation", "lifetime_s",
			},
		}
	}
	return zerolog.New(display.SafeLines(w)).Level(least).With().Timestamp().Logger()
}

// forPeople has the console show the times in a line like the line's own, and
// those of another day with their date. Of all texts the message alone is shown
// as it is.
func forPeople(fields map[string]any) error {
	if message, ok := fields[zerolog.MessageFieldName].(string); ok {
		fields[zerolog.MessageFieldName] = display.OneLine(message)
	}
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

// ForServer passes on what net/http has to say of connections and panics. What
// follows a first line, as the stack of a panic does, is a list: a text is cut
// where it is long.
func ForServer(l Log, server string) *log.Logger {
	return log.New(output.LineFunc(func(text string) {
		if !l.Sparing.allow("http server " + server) {
			return
		}
		first, rest, _ := strings.Cut(text, "\n")
		e := l.Events.Warn().Str("server", server).Str("error", first)
		if rest != "" {
			e.Strs("stack", strings.Split(rest, "\n"))
		}
		e.Msg("http server")
	}), "", 0)
}
