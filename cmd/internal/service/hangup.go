package service

import (
	"time"

	"github.com/bearerd/bearerd/cmd/internal/output"
)

// hangup is what SIGHUP means. To a service it says that files are to be read
// again, to a program that a person started at a terminal that the terminal has
// gone, and nobody could stop it any more. The zero hangup is a service's.
type hangup struct {
	typed      bool // a person typed a part of the credentials
	atTerminal bool // standard input was a terminal at the start
}

// stops reports whether a SIGHUP that has come is the end.
func (h hangup) stops() bool {
	return h.typed || h.atTerminal && !output.StdinIsTerminal() // one that hung up answers no more
}

// afterSignal is how soon a terminal goes whose shell has told its programs so
// before it ends itself, as zsh does.
const afterSignal = 2 * time.Second

// comes returns when to look again whether the terminal has gone.
func (h hangup) comes() <-chan time.Time {
	if !h.atTerminal {
		return nil
	}
	return time.After(afterSignal)
}
