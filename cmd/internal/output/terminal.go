package output

import (
	"io"
	"os"

	"golang.org/x/term"

	"github.com/bearerd/bearerd/cmd/internal/interrupt"
)

// StdinIsTerminal tells whether standard input is one now: one that hung up is not.
func StdinIsTerminal() bool { return term.IsTerminal(int(os.Stdin.Fd())) }

// IsTerminal tells whether what is written to w shows on a terminal.
func IsTerminal(w io.Writer) bool {
	f := FileBehind(w)
	return f != nil && term.IsTerminal(int(f.Fd()))
}

// FileBehind is the file that w writes to in the end, or nil.
func FileBehind(w io.Writer) *os.File {
	switch w := w.(type) {
	case *Lines:
		return FileBehind(w.W)
	case interrupt.Writer:
		return FileBehind(w.W)
	case *os.File:
		return w
	}
	return nil
}
