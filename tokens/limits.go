package tokens

import "time"

// A script that asks for logins in a loop, and an assertion that is made anew
// each second, must not lock the account. All times here are of the monotonic
// clock.

const (
	operatorEvery = time.Minute // between logins that operators ask for, in the long run
	operatorBurst = 5           // of them at once
	proofEvery    = time.Minute // between any login and one that a new proof earns
)

// operatorLimit bounds the logins that operators ask for: they are at least a
// second apart, and after five there is one a minute. What is asked for too early
// is made as soon as it may be. The zero value has had none.
type operatorLimit struct {
	earliest time.Duration // of the next one
	spread   time.Duration // when all that were made would be operatorEvery apart
	pending  bool          // one was asked for too early
}

// ask reports whether a login may be made now; if not, it is pending.
func (l *operatorLimit) ask(now time.Duration) bool {
	l.pending = now < l.earliest
	return !l.pending
}

// spend notes that a login that an operator asked for is made now.
func (l *operatorLimit) spend(now time.Duration) {
	l.spread = max(l.spread, now) + operatorEvery
	l.earliest = max(now+minBackoff, l.spread-(operatorBurst-1)*operatorEvery)
}

// meet notes that a login begins, whoever asked for it.
func (l *operatorLimit) meet() { l.pending = false }

// due returns the time to the login that is pending; ok is false when none is.
func (l *operatorLimit) due(now time.Duration) (wait time.Duration, ok bool) {
	return l.earliest - now, l.pending
}

// proofLimit bounds the logins that a new proof of the same client earns, as a
// client assertion or certificate is: a minute after any other at least. The
// zero value has had none.
type proofLimit struct {
	earliest time.Duration // of the next one
	pending  bool          // one is earned
}

// earn notes whether a new proof earns a login.
func (l *proofLimit) earn(worth bool) { l.pending = worth }

// meet notes that a login begins now, whoever asked for it.
func (l *proofLimit) meet(now time.Duration) { l.pending, l.earliest = false, now+proofEvery }

// due returns the time to the login that is earned; ok is false when none is.
func (l *proofLimit) due(now time.Duration) (wait time.Duration, ok bool) {
	return l.earliest - now, l.pending
}
