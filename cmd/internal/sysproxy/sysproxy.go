// Package sysproxy asks the system by which proxy its programs go out: Windows with a
// PAC file and what it finds by itself, macOS with what is set by hand. It looks again
// each minute, beside the requests, and does not know what goes through the proxy.
package sysproxy

import (
	"context"
	"maps"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

const (
	every    = time.Minute
	patience = 3 * time.Second // at the start; a search of Windows for a PAC file can take longer
	longest  = 30 * time.Second
)

// An Answer is what the system says of one URL.
type Answer struct {
	// Proxies are those to be tried in turn, where nil stands for none. Without any
	// the system has set none.
	Proxies []*url.URL
	// Note says what of the system's settings is not heeded, or could not be; "": all.
	// It holds no part of an address.
	Note string
}

// Find asks for a URL. It may block until ctx ends.
type Find func(ctx context.Context, u *url.URL) Answer

// Supported reports whether bearerd can ask this system.
const Supported = supported

// System asks this system.
func System() Find { return find }

// A Watch knows the proxies for some URLs, and keeps them up to date. It is to be
// started and closed.
type Watch struct {
	find    Find
	targets []*url.URL
	known   atomic.Pointer[map[string]chosen] // by scheme and host; not changed once stored
	cancel  context.CancelFunc
	wg      sync.WaitGroup
}

type chosen struct {
	via  *url.URL // nil: none
	note string
}

// NewWatch returns a watch that has not looked yet.
func NewWatch(f Find, targets ...*url.URL) *Watch {
	w := &Watch{find: f, targets: targets}
	w.known.Store(&map[string]chosen{})
	return w
}

// Start begins to look, and returns after the first look, or after 3 s.
func (w *Watch) Start() {
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	looked := make(chan struct{})
	w.wg.Go(func() {
		w.look(ctx)
		close(looked)
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				w.look(ctx)
			}
		}
	})
	select {
	case <-looked:
	case <-time.After(patience):
	}
}

// Close ends the looking. It does not wait for a call of the system that is under way.
func (w *Watch) Close() {
	if w.cancel != nil {
		w.cancel()
		w.wg.Wait()
	}
}

// Via returns the proxy for u as it was last found; nil: none.
func (w *Watch) Via(u *url.URL) *url.URL { return (*w.known.Load())[key(u)].via }

// Note is the Answer's, for u.
func (w *Watch) Note(u *url.URL) string { return (*w.known.Load())[key(u)].note }

func key(u *url.URL) string { return u.Scheme + "://" + u.Host }

// look asks once for each target. What is not answered in time stays as it was.
func (w *Watch) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	for _, u := range w.targets {
		came := make(chan chosen, 1)
		go func() { // ends when the system answers
			answer := w.find(ctx, u)
			came <- chosen{choose(ctx, answer.Proxies), answer.Note}
		}()
		select {
		case c := <-came:
			known := make(map[string]chosen)
			maps.Copy(known, *w.known.Load())
			known[key(u)] = c
			w.known.Store(&known)
		case <-ctx.Done():
		}
	}
}

// choose returns the first proxy that can be reached. A PAC file names more than one
// so that the next is used where one is down.
func choose(ctx context.Context, all []*url.URL) *url.URL {
	if len(all) == 0 {
		return nil
	}
	if len(all) > 1 {
		for _, via := range all {
			if via == nil {
				return nil
			}
			dialer := net.Dialer{Timeout: 2 * time.Second}
			if conn, err := dialer.DialContext(ctx, "tcp", via.Host); err == nil {
				_ = conn.Close()
				return via
			}
		}
	}
	return all[0]
}
