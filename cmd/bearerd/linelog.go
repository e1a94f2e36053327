package main

import (
	"io"
	"sync"
	"time"
)

const (
	lazyDelay = 100 * time.Millisecond
	lazyBytes = 32 << 10
)

// lineLog is where the log goes. Lines of the access log may wait a moment and
// go out together: a write for each costs a tenth of a request's processor
// time. Any other line goes out at once, with all that wait before it.
type lineLog struct {
	writing sync.Mutex // held while w is written, so that lines stay in order
	w       io.Writer

	mu      sync.Mutex // guards all below; never held while w is written
	waiting []byte
	spare   []byte
	timer   *time.Timer
}

// Write writes lines at once.
func (l *lineLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	l.waiting = append(l.waiting, p...)
	l.mu.Unlock()
	return len(p), l.Flush()
}

// lazy is the writer for lines that may wait.
func (l *lineLog) lazy() io.Writer { return lazyLines{l} }

type lazyLines struct{ log *lineLog }

func (lazy lazyLines) Write(p []byte) (int, error) {
	l := lazy.log
	l.mu.Lock()
	first := len(l.waiting) == 0
	l.waiting = append(l.waiting, p...)
	full := len(l.waiting) >= lazyBytes
	if first && !full {
		if l.timer == nil {
			l.timer = time.AfterFunc(lazyDelay, func() { _ = l.Flush() })
		} else {
			l.timer.Reset(lazyDelay)
		}
	}
	l.mu.Unlock()
	if full {
		// Who fills the buffer waits for the reader of the log, and so bounds it.
		return len(p), l.Flush()
	}
	return len(p), nil
}

// Flush writes all lines that wait.
func (l *lineLog) Flush() error {
	l.writing.Lock()
	defer l.writing.Unlock()
	l.mu.Lock()
	lines := l.waiting
	l.waiting, l.spare = l.spare[:0], nil // w has the lines to itself meanwhile
	l.mu.Unlock()
	if len(lines) == 0 {
		return nil
	}
	_, err := l.w.Write(lines)
	if cap(lines) <= 4*lazyBytes { // what a stall has made larger is not kept
		l.mu.Lock()
		l.spare = lines
		l.mu.Unlock()
	}
	return err
}
