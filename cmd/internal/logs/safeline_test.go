package logs

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/bearerd/bearerd/cmd/internal/display"
	"github.com/bearerd/bearerd/proxy"
)

// Terminals obey C1 as they obey ESC; bidi controls make a line read otherwise
// than it is; line separators end a line for some readers; tags show nothing.
var unseen = map[string]string{
	"\x7f": `\u007f`, "\u0085": `\u0085`, "\u009b31m": `\u009b31m`, "\u202e": `\u202e`, "\u2066": `\u2066`, "\u200b": `\u200b`,
	"\u2028": `\u2028`, "\u2029": `\u2029`, "\ufeff": `\ufeff`, "\U000e0041": `\udb40\udc41`, "\ue000": `\ue000`, "\xff": `\ufffd`,
	"\u00a0": `\u00a0`,
}

func TestThreatLogLinesThatSteerTerminals(t *testing.T) {
	for text, want := range unseen {
		for _, format := range []string{"json", "console"} {
			var out bytes.Buffer
			logger := NewLogger(&out, false, "info", format)
			logger.Info().Str("path", "a"+text+"b").Strs("list", []string{"a" + text + "b"}).Msg("message " + text)
			got := out.String()
			if strings.ContainsFunc(strings.TrimSuffix(got, "\n"), func(r rune) bool { return !unicode.IsPrint(r) }) || strings.Contains(got, "\ufffd") {
				t.Errorf("%s: %q holds what does not show", format, got)
			}
			if format == "console" {
				continue // which writes some in Go's way
			}
			if n := strings.Count(got, want); n != 3 {
				t.Errorf("%s: got %s, want %s three times", format, got, want)
			}
			var line struct{ Path, Message string }
			if err := json.Unmarshal(out.Bytes(), &line); err != nil {
				t.Errorf("%s: %v in %s", format, err, got)
			}
			if valid := strings.ToValidUTF8(text, "\ufffd"); line.Path != "a"+valid+"b" || line.Message != "message "+valid {
				t.Errorf("%s: it reads as %q, want %q", format, line.Path, valid)
			}
		}
	}
	// ASCII's own, in a message: zerolog's console writes those as they are.
	var out bytes.Buffer
	logger := NewLogger(&out, false, "info", "console")
	logger.Info().Msg("one\ntwo\x1b[2J")
	if got := out.String(); strings.Count(got, "\n") != 1 || strings.Contains(got, "\x1b") {
		t.Errorf("got %q, want one line without an escape", got)
	}
	// What shows stays.
	const shows = `Grüße, 世界 … → "quoted" \ 🙂`
	out.Reset()
	logger = NewLogger(&out, false, "info", "json")
	logger.Info().Str("path", shows).Msg("x")
	if got := out.String(); !strings.Contains(got, `Grüße, 世界 … → \"quoted\" \\ 🙂`) {
		t.Errorf("got %s", got)
	}
}

// Whatever a client sends, its line is short.
func TestThreatLongTextsInTheLog(t *testing.T) {
	for _, format := range []string{"json", "console"} {
		for _, part := range []string{"x", "ü", "\u202e", `"`, "\x00", "🙂", "\xff"} {
			var out bytes.Buffer
			Access{Logger: NewLogger(&out, false, "info", format), Mode: "all"}.Log(&proxy.Exchange{
				Method: strings.Repeat("M", 60<<10), Path: "/" + strings.Repeat(part, 60<<10), Status: 405,
			})
			got := out.String()
			most := 2*display.MaxText + 300
			if format == "console" {
				most = 6*display.MaxText + 300 // of what JSON has as it is, it escapes some
			}
			if len(got) > most || strings.Count(got, display.CutMark) != 2 || !utf8.ValidString(got) {
				t.Errorf("%s, %q: got %d bytes, want at most %d with two cuts: %.100q", format, part, len(got), most, got)
			}
			if format == "json" && !json.Valid(out.Bytes()) {
				t.Errorf("%q: no JSON: %s", part, got)
			}
		}
	}
	for _, text := range []string{strings.Repeat("x", display.MaxText), strings.Repeat("ü", display.MaxText/2)} {
		if got := display.CutText(text); got != text {
			t.Errorf("what is not too long was cut to %d bytes", len(got))
		}
		if got := display.CutText(text + "ü"); len(got) > display.MaxText+len(display.CutMark) || !utf8.ValidString(got) || !strings.HasSuffix(got, display.CutMark) {
			t.Errorf("got %d bytes, want at most %d and the mark", len(got), display.MaxText+len(display.CutMark))
		}
	}
}

// A line stays JSON, in one line, with each text as short as it must be and
// nothing in it that does not show.
func FuzzSafeLine(f *testing.F) {
	for text := range unseen {
		f.Add(text, "message")
	}
	f.Add(strings.Repeat(`\`, 3000), strings.Repeat("\u202e", 3000))
	f.Fuzz(func(t *testing.T, path, message string) {
		var out bytes.Buffer
		logger := NewLogger(&out, false, "info", "json")
		logger.Info().Str("path", path).Msg(message)
		line := out.Bytes()
		var fields map[string]string
		if err := json.Unmarshal(line, &fields); err != nil {
			t.Fatalf("%v: %q", err, line)
		}
		if bytes.Count(line, []byte("\n")) != 1 || bytes.ContainsFunc(line[:len(line)-1], func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("got %q", line)
		}
		if len(line) > 2*(display.MaxText+len(display.CutMark))+200 {
			t.Errorf("got %d bytes", len(line))
		}
		if valid := strings.ToValidUTF8(path, "\ufffd"); len(path)*6 < display.MaxText && !strings.ContainsRune(path, utf8.RuneError) && utf8.ValidString(path) && fields["path"] != valid {
			t.Errorf("got %q, want %q", fields["path"], valid)
		}
		// And never a panic for what is no JSON.
		_ = display.AppendSafe(nil, []byte(path))
		logger = NewLogger(io.Discard, false, "info", "console")
		logger.Info().Str("path", path).Msg(message)
	})
}
