package service

import (
	"context"
	"sync"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/config"
)

// A watcher looks at the files that a running bearerd was made with, and takes up
// what they hold now. It is for those that no login reads: tokens.Manager looks at
// its own, by the same rule. Files are compared by content, as Kubernetes swaps
// symlinks, and used when two looks agree: a file may be half written, and a
// certificate be there before its key.
type watcher struct {
	watched []*watchedFiles
	again   chan func() // asks for a look at once, and what to do then; holds one
	cancel  context.CancelFunc
	wg      sync.WaitGroup
}

const (
	watchEvery  = time.Second           // between two looks
	watchSettle = 50 * time.Millisecond // between two looks when somebody waits for them
	// badFor is how many looks find the same that cannot be used before a person is
	// told: what is replaced file by file is mended within seconds.
	badFor = 5
)

// watchedFiles is what is made of some files.
type watchedFiles struct {
	// look reads the files. take, which is called in the same goroutine before the
	// next look, makes what it is for of what was read and puts it into use, or says
	// what is wrong and leaves the old in use.
	look func() config.Fingerprint
	take func() []config.Problem
	// tell is told of what cannot be used, once for each such content and whenever
	// somebody waits, and, with nil, of what was taken up.
	tell func([]config.Problem)

	used   config.Fingerprint // the content that is in use
	last   config.Fingerprint // … of the last look
	same   int                // how many looks before it found the same
	taken  config.Fingerprint // what take was last called for
	wrong  []config.Problem   // what it said
	told   bool               // of wrong
	warned bool               // something was told, and nothing good since
}

// newWatcher returns a watcher that has not looked yet. It is to be closed.
func newWatcher(watched ...*watchedFiles) *watcher {
	w := &watcher{watched: watched, again: make(chan func(), 1)}
	for _, f := range watched {
		f.last, f.taken = f.used, f.used
	}
	return w
}

// start begins to look.
func (w *watcher) start() {
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	w.wg.Go(func() { w.loop(ctx) })
}

// close returns when no look is under way, and none will be.
func (w *watcher) close() {
	if w.cancel != nil {
		w.cancel()
		w.wg.Wait()
	}
}

// now has the files looked at, and calls then when what they hold is in use or told
// of as bad. It does not wait. then is not called when a look was asked for already
// that is not over, or when w is closed.
func (w *watcher) now(then func()) {
	select {
	case w.again <- then:
	default:
	}
}

func (w *watcher) loop(ctx context.Context) {
	if len(w.watched) == 0 {
		for { // only those who wait
			select {
			case <-ctx.Done():
				return
			case then := <-w.again:
				then()
			}
		}
	}
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			w.lookAtAll(false)
		case then := <-w.again:
			w.lookAtAll(false)
			select {
			case <-time.After(watchSettle):
			case <-ctx.Done():
				return
			}
			w.lookAtAll(true)
			then()
		}
	}
}

// lookAtAll looks once at each. Where somebody waits, what is bad is told at once.
func (w *watcher) lookAtAll(waited bool) {
	for _, f := range w.watched {
		f.lookOnce(waited)
	}
}

func (f *watchedFiles) lookOnce(waited bool) {
	d := f.look()
	if d != f.last {
		f.last, f.same = d, 0
		return // until another look agrees
	}
	f.same++
	switch {
	case d == f.used:
		f.taken, f.wrong = d, nil
		f.good(false)
		return
	case d != f.taken:
		f.taken, f.told = d, false
		if f.wrong = f.take(); f.wrong == nil {
			f.used = d
			f.good(true)
			return
		}
	}
	if waited || !f.told && f.same >= badFor {
		f.told, f.warned = true, true
		f.tell(f.wrong)
	}
}

// good tells that what the files hold is in use, if that is news.
func (f *watchedFiles) good(changed bool) {
	if changed || f.warned {
		f.warned = false
		f.tell(nil)
	}
}
