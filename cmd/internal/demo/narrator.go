package demo

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/display"
	"github.com/bearerd/bearerd/cmd/internal/output"
)

// narrator writes what happens, with the seconds since the start. What it tells
// of does not wait for whoever reads.
type narrator struct {
	start    time.Time
	terminal bool // w is one, and a countdown may be shown
	w        *output.Lines

	mu    sync.Mutex // guards shown, and keeps what is written in order
	shown string     // the countdown that is now; "": none is
}

func newNarrator(w io.Writer) *narrator {
	lines := &output.Lines{W: w}
	lines.TellLostBy(func(n uint64) []byte { return fmt.Appendf(nil, "(%d lines were lost)\n", n) })
	return &narrator{start: time.Now(), terminal: output.IsTerminal(w), w: lines}
}

func (n *narrator) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.erase()
	return display.VisibleLines(n.w).Write(p)
}

// say writes a line.
func (n *narrator) say(format string, args ...any) {
	fmt.Fprintln(n, n.clock()+fmt.Sprintf(format, args...))
}

// tell writes what somebody says, or nobody in particular, in as many lines as it
// takes.
func (n *narrator) tell(who, format string, args ...any) {
	head := n.clock()
	if who != "" {
		head += fmt.Sprintf("%-8s", who)
	}
	fmt.Fprintln(n, fold(head, fmt.Sprintf(format, args...)))
}

func (n *narrator) clock() string { return fmt.Sprintf("%6.1f s  ", time.Since(n.start).Seconds()) }

// countdown shows on a terminal, until the next line, what is waited for and how
// long it may take.
func (n *narrator) countdown(what string, left time.Duration) {
	if !n.terminal {
		return
	}
	text := fmt.Sprintf("          … waiting for %s", what)
	if left > 0 {
		text += fmt.Sprintf(": %.0f s", left.Seconds())
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if text != n.shown {
		n.erase()
		fmt.Fprint(n.w, text)
		n.shown = text
	}
}

// erase needs n.mu. Spaces do on any terminal.
func (n *narrator) erase() {
	if n.shown != "" {
		fmt.Fprintf(n.w, "\r%*s\r", len(n.shown), "")
		n.shown = ""
	}
}

// fold breaks text into lines of at most 79 columns. The first begins with head,
// the others with as much space.
func fold(head, text string) string {
	var all strings.Builder
	line, width := head, len(head)
	for i, word := range strings.Fields(text) {
		n := len([]rune(word))
		switch {
		case i == 0:
		case width+1+n > 79:
			all.WriteString(line + "\n")
			line, width = strings.Repeat(" ", len(head)), len(head)
		default:
			line, width = line+" ", width+1
		}
		line, width = line+word, width+n
	}
	return all.String() + line
}
