// Package display makes values fit for people to read: quoted, escaped, cut and
// rounded, so that no text of a server's or a caller's steers a terminal. It knows
// nothing of where they come from, or of bearerd.
package display

import (
	"net/url"
	"strconv"
	"strings"
	"unicode"
)

// Printable is text of a server's choice, fit for a terminal.
func Printable(s string) string {
	const most = 1000 // letters
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	if len(s) > most {
		s = s[:most] + "..."
	}
	return s
}

// Escape is a message with its control characters escaped: a remedy may repeat
// what was written, and a terminal would obey it.
func Escape(message string) string {
	var b strings.Builder
	for _, r := range message {
		if unicode.IsControl(r) {
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// WithoutQuery is a URL fit to be logged: a query may hold what it should not.
func WithoutQuery(u *url.URL) string {
	shown := *u
	shown.RawQuery = ""
	return shown.String()
}

// Quote quotes a value that is no secret for a message. A value with one of
// @, ? and # may be a URL with a password or a key in it, and is not shown.
func Quote(value string) string {
	if strings.ContainsAny(value, "@?#") {
		return "the value"
	}
	if len(value) > 100 {
		value = value[:100] + "..."
	}
	quoted := strconv.Quote(value)
	if plain := `"` + value + `"`; quoted == strings.ReplaceAll(plain, `\`, `\\`) {
		return plain // a path of Windows, as people write it
	}
	return quoted
}
