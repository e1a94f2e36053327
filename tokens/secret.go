package tokens

import (
	"fmt"
	"log/slog"
)

const redacted = "[redacted]"

// Secret is a string that prints, formats and marshals as "[redacted]".
// Only [Secret.Reveal] gives its text.
type Secret string

// Reveal returns the text of the secret. Call it where the secret is used,
// not where it is carried.
func (s Secret) Reveal() string { return string(s) }

func (Secret) String() string               { return redacted }
func (Secret) GoString() string             { return redacted }
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
func (Secret) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (Secret) Format(f fmt.State, _ rune)   { _, _ = f.Write([]byte(redacted)) }

// Source says where a secret is: its text, or the file that holds it.
// The zero Source is no secret at all.
type Source struct {
	Value Secret // used when File is empty
	File  string // path; read again before every login
}

// IsZero reports whether there is no secret.
func (s Source) IsZero() bool { return s.File == "" && s.Value == "" }
