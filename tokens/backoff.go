package tokens

import (
	"math/rand/v2"
	"net/http"
	"time"
)

const (
	minBackoff    = time.Second      // between a failed login and the next
	maxTransient  = 30 * time.Second // before jitter
	maxThrottled  = 5 * time.Minute  // after jitter
	maxRetryAfter = time.Hour        // heeded at most
	firstRejected = 30 * time.Second
	firstPage     = 30 * time.Second
	maxPage       = 5 * time.Minute
	toHourly      = 10 // pages, or refusals that say when to come back: then there is one an hour
)

// QuickRejections is how many refusals of the same credentials end the quick
// attempts: after them there is one an hour, or none. Vendors lock accounts.
const QuickRejections = 5

// backoff counts what came of the logins with one set of credentials. The zero
// value is for credentials that nobody has tried yet.
type backoff struct {
	rejections int  // since the last success
	refused    bool // one of them was sure to be the login server's: see Cause.refuses
	doubtful   int  // throttled since the last success, by a status of refusals
	transients int  // in a row; neither a page nor one that said when to come back counts between
	pages      int  // in a row; a throttled one between does not count
	worked     bool // a login with these credentials succeeded in this process
}

// ok notes a login that succeeded.
func (b *backoff) ok() { *b = backoff{worked: true} }

// failed notes a login that failed by f and returns how long to wait for the
// next, at least 1 s; stop says that there is none until a person or other
// credentials come. retryAfter is what the server asks for; -1: it does not.
func (b *backoff) failed(f Failure, retryAfter time.Duration) (wait time.Duration, stop bool) {
	switch {
	case f.Kind == Rejected:
		b.rejections++
		b.refused = b.refused || f.Cause.refuses()
		b.transients, b.pages = 0, 0
		switch {
		case b.rejections < QuickRejections:
			wait = firstRejected << (b.rejections - 1)
		case b.refused && !b.worked:
			return 0, true
		default:
			// A lock that passes looks just like a wrong password, and a gateway
			// that refuses looks like some login servers.
			wait = time.Hour - 12*time.Minute + rand.N(24*time.Minute)
		}
		return max(wait, min(retryAfter, maxRetryAfter)), false
	case f.Kind == Throttled && retryAfter >= 0:
		wait = min(retryAfter, maxThrottled)
		if f.Cause.Status != http.StatusTooManyRequests && f.Cause.Status != http.StatusServiceUnavailable {
			// It may be a refusal after all, and Retry-After: 1 is not to make it one
			// a second, nor, unless it says that it is the server, one a minute for ever.
			most := maxThrottled
			if blames[f.Cause.Code] == blameServer {
				most = maxTransient
			}
			wait = max(wait, doubled(minBackoff, b.doubtful, most))
			if b.doubtful++; b.doubtful >= toHourly && most == maxThrottled {
				return jitter(time.Hour), false
			}
		}
		return min(max(jitter(wait), minBackoff), maxThrottled), false
	case f.Cause.Kind == CausePage && f.Kind == Transient:
		wait = doubled(firstPage, b.pages, maxPage)
		if b.pages++; b.pages >= toHourly {
			wait = time.Hour
		}
		return jitter(wait), false
	}
	wait = doubled(minBackoff, b.transients, maxTransient)
	b.transients++
	if f.Kind != Throttled {
		b.pages = 0
	}
	return jitter(wait), false
}

// doubled returns first, doubled n times, and at most most.
func doubled(first time.Duration, n int, most time.Duration) time.Duration {
	return min(first<<min(n, 10), most) // no further, lest it overflow
}

// jitter returns d plus up to 20 %: upward only, a server that asked for d is
// not to see one earlier.
func jitter(d time.Duration) time.Duration { return d + rand.N(d/5+1) }
