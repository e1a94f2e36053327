package tokens

import (
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// Clock tells the time: wall is the wall clock, elapsed the monotonic time since
// any fixed start. They are apart because they may go apart: a laptop sleeps, or
// somebody sets the clock. It is called from many goroutines.
type Clock func() (wall time.Time, elapsed time.Duration)

// Token is what one login brought. It is shared by all that use it: read it,
// never write its fields. Nothing that prints, marshals or walks a Token comes
// upon its text; only [Token.Authorization] gives it.
type Token struct {
	Generation uint64        // serial number of the token in this Manager, from 1
	Lifetime   time.Duration // from Requested to Expiry: more than 0, at most 24 h
	Rule       Rule          // how Lifetime was found
	Requested  time.Time     // wall clock when the login request was sent
	Expiry     time.Time     // wall clock when the token is over, if no clock is set until then
	Came       time.Time     // wall clock when it came; with the default Clock time.Since goes by the monotonic one

	// Scope is the answer's scope member (RFC 6749 5.1): free text of the login
	// server, not for a log; "" when it said nothing, which means what was asked for.
	Scope string

	// A func and not a string: fmt prints unexported strings, and spew and
	// its like follow pointers.
	authorization func() string

	ends         time.Duration // monotonic counterpart of Expiry
	refresh      time.Time     // when to refresh ahead, by the wall clock
	refreshAfter time.Duration // … and by the monotonic clock

	// lastUsed is when the token was last handed out, in Unix seconds; 0 means
	// never. All cores read it on every call, so it is written only when the
	// second has changed.
	lastUsed atomic.Int64
}

// token makes of i the token of that generation. requested and sent are when the
// request for it was sent, by both clocks, and came is when it came.
func (i Issued) token(generation uint64, requested time.Time, sent time.Duration, came time.Time) *Token {
	// Drawn for each token, so that a fleet does not log in at one moment.
	refresh := time.Duration((0.70 + 0.15*rand.Float64()) * float64(i.Lifetime))
	authorization := bearerPrefix + i.Bearer()
	return &Token{
		Generation:    generation,
		Lifetime:      i.Lifetime,
		Rule:          i.Rule,
		Scope:         i.Scope,
		Requested:     requested,
		Expiry:        requested.Add(i.Lifetime),
		Came:          came,
		authorization: func() string { return authorization },
		ends:          sent + i.Lifetime,
		refresh:       requested.Add(refresh),
		refreshAfter:  sent + refresh,
	}
}

// Authorization returns the value of the Authorization header that carries the
// token: "Bearer", a space and its text (RFC 6750 2.1), which is free of spaces
// and control characters.
func (t *Token) Authorization() string { return t.authorization() }

// Bearer returns the text of the token alone.
func (t *Token) Bearer() string { return t.authorization()[len(bearerPrefix):] }

const bearerPrefix = "Bearer "

// String returns "token generation 3" and the like.
func (t *Token) String() string { return fmt.Sprintf("token generation %d", t.Generation) }

// GoString is String: %#v would read the mark of the last use without care.
func (t *Token) GoString() string { return t.String() }

// over reports whether either clock says that the token has ended. The
// monotonic clock stands still while a laptop sleeps, and the wall clock may be
// set back: neither is enough alone.
func (t *Token) over(wall time.Time, elapsed time.Duration) bool {
	return elapsed >= t.ends || !wall.Before(t.Expiry)
}

// RefreshAfter returns how long after Requested the token is refreshed ahead,
// where it is used.
func (t *Token) RefreshAfter() time.Duration { return t.refresh.Sub(t.Requested) }

// untilRefresh returns the time to the point of the refresh ahead, by the clock
// that comes to it first. It is negative after that point.
func (t *Token) untilRefresh(wall time.Time, elapsed time.Duration) time.Duration {
	return min(t.refresh.Sub(wall), t.refreshAfter-elapsed)
}

// used tells when the token was last handed out; zero means never.
func (t *Token) used() time.Time {
	if seconds := t.lastUsed.Load(); seconds != 0 {
		return time.Unix(seconds, 0)
	}
	return time.Time{}
}
