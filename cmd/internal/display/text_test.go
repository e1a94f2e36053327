package display

import (
	"net/url"
	"strings"
	"testing"
)

// No text of somebody else's steers a terminal, by C1 and Unicode's controls either.
func TestTextsThatSteerTerminals(t *testing.T) {
	const csi, toTheLeft = "\u009b", "\u202e"
	for text, want := range map[string]string{
		"a b~":                    "a b~",
		"\x1b[2Ja\r\n\x00\x7f":    "?[2Ja????",
		csi + "2J" + toTheLeft:    "?2J?",
		"\xff":                    "?",
		strings.Repeat("x", 1001): strings.Repeat("x", 1000) + "...",
	} {
		if got := Printable(text); got != want {
			t.Errorf("Printable(%q): got %q, want %q", text, got, want)
		}
	}
	for text, want := range map[string]string{
		"é, a b~":      "é, a b~",
		"\x1b[2J\r\n":  `\x1b[2J\r\n`,
		csi + "2J\x7f": `\u009b2J\x7f`,
	} {
		if got := Escape(text); got != want {
			t.Errorf("Escape(%q): got %q, want %q", text, got, want)
		}
	}
	for text, want := range map[string]string{
		"a\x1b" + csi:            `"a\x1b\u009b"`,
		`C:\Users\me\a.env`:      `"C:\Users\me\a.env"`,
		"C:\\\nme":               `"C:\\\nme"`,
		"https://me:pw@host":     "the value",
		"https://host?key=x":     "the value",
		"pass#word":              "the value",
		strings.Repeat("x", 101): `"` + strings.Repeat("x", 100) + `..."`,
	} {
		if got := Quote(text); got != want {
			t.Errorf("Quote(%q): got %s, want %s", text, got, want)
		}
	}
}

func TestWithoutQuery(t *testing.T) {
	u, err := url.Parse("https://host/path?key=secret#part")
	if err != nil {
		t.Fatal(err)
	}
	if got := WithoutQuery(u); strings.Contains(got, "secret") || !strings.HasPrefix(got, "https://host/path") {
		t.Errorf("got %s", got)
	}
	if u.RawQuery == "" {
		t.Error("the URL itself lost its query")
	}
}
