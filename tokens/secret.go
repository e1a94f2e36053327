package tokens

import (
	"context"
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

// Source says where a secret is: its text, the file that holds it, or a store of
// the system. The zero Source is no secret at all.
type Source struct {
	Value  Secret       // used when File is empty, and Stored nil
	File   string       // path; read again before every login
	Stored StoredSecret // likewise; used when File is empty; nil: none
}

// IsZero reports whether there is no secret.
func (s Source) IsZero() bool { return s.File == "" && s.Value == "" && s.Stored == nil }

// A StoredSecret is a secret in a store that may be slow, and may ask a person: it
// is read for logins, and while they fail now and then. Two errors of it can be
// compared by ==, and their text is safe to log.
type StoredSecret interface {
	// Read returns the secret as it is now. It returns when ctx ends. If asked, a
	// person wants the login, or has just started the program, and may be asked for
	// what the store wants.
	Read(ctx context.Context, asked bool) (Secret, error)
	// Look returns the secret as it was last read, and does not wait. If failing,
	// logins fail, and another read may be due.
	Look(failing bool) (Secret, error)
}
