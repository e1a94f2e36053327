package interrupt

import (
	"bytes"
	"io"
	"os"
	"sync/atomic"
)

// Writer is a writer that waits for its reader as any command does, until
// a signal comes: bearerd takes all signals itself, so that nothing else would
// end the wait.
type Writer struct {
	W       io.Writer
	signals <-chan os.Signal
	Ended   *atomic.Bool // a signal has come; shared by the writers of a command
}

// Writers returns a command's standard streams as such writers.
func Writers(signals <-chan os.Signal, stdout, stderr io.Writer) (out, err Writer) {
	ended := new(atomic.Bool)
	return Writer{stdout, signals, ended}, Writer{stderr, signals, ended}
}

// Write fails with ErrInterrupted once a signal has come.
func (i Writer) Write(p []byte) (int, error) {
	if i.Ended.Load() {
		return 0, ErrInterrupted
	}
	type result struct {
		n   int
		err error
	}
	done := make(chan result, 1)
	own := bytes.Clone(p)
	// A write that waits cannot be ended. When a signal comes first, the process
	// ends with the goroutine in it.
	go func() {
		n, err := i.W.Write(own)
		done <- result{n, err}
	}()
	select {
	case r := <-done:
		return r.n, r.err
	case <-i.signals:
		i.Ended.Store(true)
		return 0, ErrInterrupted
	}
}
