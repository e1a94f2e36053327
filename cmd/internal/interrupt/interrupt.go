// Package interrupt has signals end what a command waits for. It knows which
// signals bearerd takes, and not what a running service makes of them: that is
// package service's.
package interrupt

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
)

// Notify sends the signals that end or reload bearerd to signals. A SIGHUP that
// was ignored when it started, as nohup has it, stays ignored: Notify would
// switch it on again.
func Notify(signals chan<- os.Signal) {
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(signals, syscall.SIGHUP)
	}
}

// Context returns a context that a signal ends. Its stop must be called.
func Context(signals <-chan os.Signal) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		select {
		case <-signals:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		cancel()
		<-watching
	}
}

// ErrInterrupted ends a command that a signal came to before it began its work.
var ErrInterrupted = errors.New("interrupted")
