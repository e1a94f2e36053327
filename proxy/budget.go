package proxy

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"
)

// Logins that refused tokens may cause: some at once, then one after each wait.
const (
	loginsAtOnce = 3
	firstWait    = 10 * time.Second // doubles
	longWait     = 5 * time.Minute
	// lived is when a token has shown that tokens do not die early, if it is not
	// refreshed ahead before.
	lived = 10 * time.Minute
)

// verdict is what an answer of upstream says of the token that it was given.
type verdict int

const (
	saysNothing  verdict = iota // 5xx: a gateway's 502 has not asked
	tokenTaken                  // whatever became of the request
	tokenRefused                // one of Options.RenewStatus
)

// budget decides whether a refused token is worth a login. Each login counts,
// cured or not: where every login ends the account's other token, two programs
// would otherwise cure each other's without end. What was counted is forgotten
// when the last login cured its refusal and its token, or one after it, lived.
//
// A path that the account may not read is refused whatever the token. It must not
// use up what a token that was really revoked needs. So a refusal on a path that
// has worked, which is what a revoked token looks like, has an allowance of its
// own, and bears what has cured others. The other allowance bears all: an upstream
// which refuses everything costs no more logins than one path that does.
type budget struct {
	seed maphash.Seed
	// worked has, at its hash's slot, the route that was last answered other
	// than refused. A lost entry costs nothing but the better allowance.
	worked [1024]atomic.Uint64
	// open is the last bill that its own request could not settle.
	open atomic.Pointer[bill]
	// newest is the newest token that upstream has taken; nil: none.
	newest atomic.Pointer[life]

	mu      sync.Mutex // guards what follows, and the storing of newest
	proven  allowance  // for routes that have worked
	doubted allowance  // for all others
	// revoked is the newest generation that seems to be: it was refused where
	// tokens have been taken, or was worth a login.
	revoked uint64
}

// life is what the budget remembers of a token.
type life struct {
	generation uint64
	refresh    time.Time // when it is refreshed ahead; zero: unknown
}

func newBudget() *budget { return &budget{seed: maphash.MakeSeed()} }

// allowance is the logins that a kind of routes may cause.
type allowance struct {
	spent   int       // logins since it was whole
	cured   int       // of them
	last    *bill     // of the last of them
	next    time.Time // when there is one more after loginsAtOnce
	refused uint64    // newest generation that was refused there
}

// bill is a login that a refusal caused.
type bill struct {
	route, generation uint64 // of the refusal
	at                time.Time
	from              *allowance
	cured             bool // guarded by the budget's mu
}

// route is what an account may be allowed or not: a hash of method and path.
func (b *budget) route(method, path string) uint64 {
	return maphash.String(b.seed, path) ^ 31*maphash.String(b.seed, method)
}

func (b *budget) slot(route uint64) *atomic.Uint64 { return &b.worked[route%uint64(len(b.worked))] }

// spend counts a login, the nth of those that the wait before the next goes by.
func (a *allowance) spend(due *bill, n int) {
	a.spent++
	a.last = due
	// The exponent is bounded lest the wait overflow.
	wait := min(firstWait<<min(max(n-loginsAtOnce, 0), 8), longWait)
	if next := due.at.Add(wait); next.After(a.next) {
		a.next = next
	}
}

// allowance returns that of route, and how many logins count there. The caller
// holds mu.
func (b *budget) allowance(route uint64) (a *allowance, spent int) {
	if b.slot(route).Load() == route {
		return &b.proven, b.proven.spent
	}
	return &b.doubted, b.proven.spent + b.doubted.spent
}

// refuse notes that upstream refused token on route. It reports whether tokens
// die early again and again, although logins help.
func (b *budget) refuse(route uint64, token Token, now time.Time) (dying bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forget(now)
	a, spent := b.allowance(route)
	a.refused = max(a.refused, token.Generation)
	if a == &b.proven {
		b.revoked = max(b.revoked, token.Generation)
	}
	// Most, not all: a token may die before the replay that it is for.
	return spent >= loginsAtOnce && b.proven.spent >= loginsAtOnce && 2*b.proven.cured > b.proven.spent
}

// allow returns the bill for a login because upstream refused the token of that
// generation on route, or nil when there shall be none.
func (b *budget) allow(route, generation uint64, now time.Time) *bill {
	b.mu.Lock()
	defer b.mu.Unlock()
	a, spent := b.allowance(route)
	next := a.next
	if a == &b.doubted && b.proven.next.After(next) {
		next = b.proven.next
	}
	if spent >= loginsAtOnce && now.Before(next) {
		return nil
	}
	a.spend(&bill{route: route, generation: generation, at: now, from: a}, spent+1)
	b.revoked = max(b.revoked, generation)
	return a.last
}

// forget makes an allowance whole where the newest token that was taken has not
// been refused, for as long as it takes. The caller holds mu.
func (b *budget) forget(now time.Time) {
	newest := b.newest.Load()
	if newest == nil {
		return
	}
	refreshed := !newest.refresh.IsZero() && !now.Before(newest.refresh)
	for _, a := range []*allowance{&b.proven, &b.doubted} {
		// From the login and not from the token's own beginning: other routes'
		// logins may replace it.
		if a.last != nil && a.last.cured && a.refused < newest.generation && (refreshed || now.Sub(a.last.at) >= lived) {
			a.spent, a.cured = 0, 0
		}
	}
}

// answered learns from upstream's answer to a first attempt with token.
func (b *budget) answered(route uint64, token Token, v verdict) {
	if v == tokenTaken {
		b.took(token)
		if slot := b.slot(route); slot.Load() != route {
			slot.Store(route)
		}
	}
	open := b.open.Load()
	if open != nil && open.route == route && token.Generation > open.generation && b.open.CompareAndSwap(open, nil) {
		b.settle(open, v)
	}
}

// replayed learns from upstream's answer to a second attempt. due is the bill
// of its login; nil: that was another request's. As long as a request can
// settle its bill nobody else may: that the account may send one request to a
// path proves nothing for others.
func (b *budget) replayed(route uint64, token Token, v verdict, due *bill) {
	switch slot := b.slot(route); v {
	case tokenTaken:
		b.took(token)
		slot.Store(route)
	case tokenRefused:
		// Refusing the new token too, it is no witness for the next revocation.
		slot.CompareAndSwap(route, 0)
	}
	b.settle(due, v)
}

// took notes that upstream has taken token.
func (b *budget) took(token Token) {
	if b.hasTaken(token.Generation) {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.hasTaken(token.Generation) {
		return // by another goroutine
	}
	b.forget(time.Now()) // the token before has lived, or not
	l := &life{generation: token.Generation}
	if token.RefreshAfter > 0 {
		l.refresh = token.Came.Add(token.RefreshAfter)
	}
	b.newest.Store(l)
}

// hasTaken reports whether upstream has taken a token of that generation or a
// newer one.
func (b *budget) hasTaken(generation uint64) bool {
	l := b.newest.Load()
	return l != nil && l.generation >= generation
}

func (b *budget) settle(due *bill, v verdict) {
	switch {
	case due == nil || v == tokenRefused:
	case v == saysNothing:
		b.leave(due)
	default:
		b.mu.Lock()
		defer b.mu.Unlock()
		due.cured = true
		if due.from == &b.doubted && b.doubted.spent > 0 {
			// It was the token after all.
			b.doubted.spent--
			b.proven.spend(due, b.proven.spent+1)
		}
		b.proven.cured++
	}
}

// leave lets the next answer on due's route to a newer token settle it: its
// own request was not sent again, or got no answer.
func (b *budget) leave(due *bill) {
	if due != nil {
		b.open.Store(due)
	}
}

// mayBeGood reports whether nothing says that the token of that generation was
// revoked.
func (b *budget) mayBeGood(generation uint64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return generation > b.revoked
}

// heals reports whether token, or one before it, came of a login for a refused
// one, and upstream has taken none since.
func (b *budget) heals(token Token) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	last := b.proven.last
	if d := b.doubted.last; last == nil || d != nil && d.at.After(last.at) {
		last = d
	}
	return last != nil && last.generation < token.Generation && !b.hasTaken(last.generation+1)
}
