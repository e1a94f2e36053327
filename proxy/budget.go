package proxy

import (
	"hash/maphash"
	"net/http"
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
	// worked has, at its hash's slot, the route that was last answered other
	// than 401. A lost entry costs nothing but the better allowance.
	worked [1024]atomic.Uint64
	// open is the last bill that its own request could not settle.
	open atomic.Pointer[bill]

	mu      sync.Mutex // guards the three below
	proven  allowance  // for routes that have worked
	doubted allowance  // for all others, and for what proven denies
	all     bucket     // for both, helpful or not
}

func newBudget() *budget {
	return &budget{
		seed: maphash.MakeSeed(),
		// Two: one may go to a path that worked until the account lost it.
		proven:  allowance{burst: 2},
		doubted: allowance{burst: 3},
	}
}

// allowance is a number of logins at once and, when they do not help, waits
// that double.
type allowance struct {
	burst int       // at once
	spent int       // logins that have not cured their 401
	next  time.Time // when there is one more after burst
}

func (a *allowance) has(now time.Time) bool { return a.spent < a.burst || !now.Before(a.next) }

func (a *allowance) spend(now time.Time) {
	a.spent++
	a.next = now.Add(min(firstWait<<min(a.spent-1, 8), longWait))
}

// bucket bounds logins that seem to help: an upstream of which one replica
// refuses good tokens would otherwise cost one for each of its 401s.
type bucket struct {
	level int       // logins in it
	leak  time.Time // when one leaves it
}

const (
	bucketSize = 40
	leakEvery  = time.Minute
)

func (b *bucket) has(now time.Time) bool {
	for b.level > 0 && !now.Before(b.leak) {
		b.level--
		b.leak = b.leak.Add(leakEvery)
	}
	return b.level < bucketSize
}

func (b *bucket) spend(now time.Time) {
	if b.level == 0 {
		b.leak = now.Add(leakEvery)
	}
	b.level++
}

// bill is a login that a 401 caused, until an answer tells whether it helped.
type bill struct {
	route, generation uint64 // of the 401
	from              *allowance
}

// route is what an account may be allowed or not: a hash of method and path.
func (b *budget) route(method, path string) uint64 {
	return maphash.String(b.seed, path) ^ 31*maphash.String(b.seed, method)
}

func (b *budget) slot(route uint64) *atomic.Uint64 { return &b.worked[route%uint64(len(b.worked))] }

// allow returns the bill for a login because upstream refused the token of that
// generation on route, or nil when there shall be none.
func (b *budget) allow(route, generation uint64, now time.Time) *bill {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case !b.all.has(now):
		return nil
	case b.slot(route).Load() == route && b.proven.has(now):
		b.proven.spend(now)
		// As well, so that an upstream which refuses everything costs no more
		// logins than one path that does.
		b.doubted.spend(now)
		b.all.spend(now)
		return &bill{route, generation, &b.proven}
	case b.doubted.has(now):
		b.doubted.spend(now)
		b.all.spend(now)
		return &bill{route, generation, &b.doubted}
	}
	return nil
}

// answered learns from upstream's answer to a first attempt with a token of
// that generation.
func (b *budget) answered(route, generation uint64, status int) {
	if worked(status) {
		if slot := b.slot(route); slot.Load() != route {
			slot.Store(route)
		}
	}
	open := b.open.Load()
	if open != nil && open.route == route && generation > open.generation && b.open.CompareAndSwap(open, nil) {
		b.settle(open, status)
	}
}

// replayed learns from upstream's answer to a second attempt. due is the bill
// of its login; nil: that was another request's. As long as a request can
// settle its bill nobody else may: that the account may send one request to a
// path proves nothing for others.
func (b *budget) replayed(route uint64, status int, due *bill) {
	switch slot := b.slot(route); {
	case worked(status):
		slot.Store(route)
	case status == http.StatusUnauthorized:
		// Refusing the new token too, it is no witness for the next revocation.
		slot.CompareAndSwap(route, 0)
	}
	b.settle(due, status)
}

func (b *budget) settle(due *bill, status int) {
	switch {
	case due == nil || status == http.StatusUnauthorized:
	case !worked(status):
		b.leave(due)
	default:
		b.mu.Lock()
		defer b.mu.Unlock()
		if due.from == &b.proven {
			b.doubted.spent = max(0, b.doubted.spent-b.proven.spent)
		}
		due.from.spent, due.from.next = 0, time.Time{}
	}
}

// leave lets the next answer on due's route to a newer token settle it: its
// own request was not sent again, or got no answer.
func (b *budget) leave(due *bill) {
	if due != nil {
		b.open.Store(due)
	}
}

// worked reports whether a status shows that upstream took the token. A
// gateway's 502 says nothing of it.
func worked(status int) bool { return status != http.StatusUnauthorized && status < 500 }
