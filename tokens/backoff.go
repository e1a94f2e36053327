package tokens

import (
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	minBackoff      = time.Second      // between a failed login and the next
	maxTransient    = 30 * time.Second // before jitter
	maxThrottled    = 5 * time.Minute  // after jitter
	firstRejected   = 30 * time.Second
	rejectionsToEnd = 5 // vendors lock accounts
)

// backoff counts what came of the logins with one set of credentials. The zero
// value is for credentials that nobody has tried yet.
type backoff struct {
	rejections int  // since the last success
	transients int  // in a row; a throttled one between does not count
	worked     bool // a login with these credentials succeeded in this process
}

// ok notes a login that succeeded.
func (b *backoff) ok() { *b = backoff{worked: true} }

// failed notes a login that failed and returns how long to wait for the next,
// at least 1 s; stop says that there is none until a person or other credentials
// come. retryAfter is what the server asked for; negative when it asked nothing.
func (b *backoff) failed(result Result, retryAfter time.Duration) (wait time.Duration, stop bool) {
	switch {
	case result == Rejected:
		b.rejections++
		b.transients = 0
		switch {
		case b.rejections < rejectionsToEnd:
			return firstRejected << (b.rejections - 1), false
		case b.worked:
			// A lock that passes looks just like a wrong password.
			return time.Hour - 12*time.Minute + rand.N(24*time.Minute), false
		}
		return 0, true
	case result == Throttled && retryAfter >= 0:
		wait = min(retryAfter, maxThrottled)
		return min(max(jitter(wait), minBackoff), maxThrottled), false
	}
	wait = min(minBackoff<<min(b.transients, 5), maxTransient) // 1<<5 s is above it
	b.transients++
	return jitter(wait), false
}

// jitter returns d plus up to 20 %: upward only, a server that asked for d is
// not to see one earlier.
func jitter(d time.Duration) time.Duration { return d + rand.N(d/5+1) }

// parseRetryAfter reads a Retry-After header (RFC 9110 10.2.3): seconds, or a
// date, which is taken relative to now. It is -1 when there is none to be read.
func parseRetryAfter(value string, now time.Time) time.Duration {
	value = strings.TrimSpace(value)
	if value != "" && strings.Trim(value, "0123456789") == "" {
		seconds, err := strconv.ParseInt(value, 10, 32)
		if err != nil { // only too many digits are left
			return maxThrottled
		}
		return time.Duration(seconds) * time.Second
	}
	if date, err := http.ParseTime(value); err == nil {
		return max(date.Sub(now), 0)
	}
	return -1
}
