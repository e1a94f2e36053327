package proxy

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"
)

const (
	firstWait = 10 * time.Second
	longWait  = 5 * time.Minute
)

// budget decides whether a 401 is worth a login. A path that the account may
// not read answers 401 whatever the token: it must not cost a login each time,
// and it must not use up what a token that was really revoked needs. So a 401
// on a path that has worked, which is what a revoked token looks like, has an
// allowance of its own.
type budget struct {
	seed maphash.Seed
	// worked has, at its hash's slot, the path that was last answered other
	// than 401. A lost entry costs nothing but the better allowance.
	worked [1024]atomic.Uint64

	mu      sync.Mutex // guards the two below
	proven  allowance  // for paths that have worked
	doubted allowance  // for all others, and for what proven denies
}

func newBudget() *budget {
	return &budget{
		seed:    maphash.MakeSeed(),
		proven:  allowance{burst: 1},
		doubted: allowance{burst: 3},
	}
}

// allowance is a number of logins at once and, when they did not help, waits
// that double.
type allowance struct {
	burst  int // at once, the first included
	spent  int // of them, since the last cure
	wait   time.Duration
	next   time.Time
	caused atomic.Pointer[refusal] // what the last login was for
}

// refusal is a 401: of which path, for which token.
type refusal struct {
	path       uint64
	generation uint64
}

// answeredBy reports whether an answer on path to that generation tells how
// r's login turned out.
func (r *refusal) answeredBy(path, generation uint64) bool {
	return r != nil && r.path == path && generation > r.generation
}

func (b *budget) hash(path string) uint64 { return maphash.String(b.seed, path) }

func (b *budget) slot(path uint64) *atomic.Uint64 { return &b.worked[path%uint64(len(b.worked))] }

// allow reports whether a login may be made because upstream refused the
// token of that generation on path, and counts it.
func (b *budget) allow(path, generation uint64, now time.Time) bool {
	r := &refusal{path, generation}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.slot(path).Load() == path && b.proven.take(r, now) {
		// Counted here as well, so that an upstream which refuses everything
		// costs no more logins at once than one path that does.
		b.doubted.spent++
		return true
	}
	return b.doubted.take(r, now)
}

func (a *allowance) take(r *refusal, now time.Time) bool {
	if now.Before(a.next) && a.spent >= a.burst {
		return false
	}
	a.spent++
	// Until an answer shows that it helped, each login doubles the wait.
	a.wait = min(max(2*a.wait, firstWait), longWait)
	a.next = now.Add(a.wait)
	a.caused.Store(r)
	return true
}

func (a *allowance) reset() {
	a.spent, a.wait, a.next = 0, 0, time.Time{}
	a.caused.Store(nil)
}

// answered learns from one answer of upstream: what it was for a path with a
// token of that generation.
func (b *budget) answered(path, generation uint64, status int) {
	switch slot := b.slot(path); {
	case status == 401:
		// A path that refuses the new token as well is no witness for the next
		// revocation.
		if b.proven.caused.Load().answeredBy(path, generation) {
			slot.CompareAndSwap(path, 0)
		}
	case status < 500: // a gateway's 502 says nothing of the token
		if slot.Load() != path {
			slot.Store(path)
		}
		if b.proven.caused.Load().answeredBy(path, generation) {
			b.mu.Lock()
			b.doubted.spent = max(0, b.doubted.spent-b.proven.spent)
			b.proven.reset()
			b.mu.Unlock()
		}
		if b.doubted.caused.Load().answeredBy(path, generation) {
			b.mu.Lock()
			b.doubted.reset()
			b.mu.Unlock()
		}
	}
}
