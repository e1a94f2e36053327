package proxy

import (
	"context"
	"sync/atomic"
	"time"
)

// An API whose clock is behind the login server's, or that learns of new tokens
// late, refuses a good token at first.
const (
	youngFor = 3 * time.Second // a refusal before may be for the token's youth
	ripeFrom = time.Second     // when most upstreams take it
)

// youth knows which tokens upstream does not take yet.
type youth struct {
	budget  *budget
	source  Source
	refused atomic.Uint64 // generation that was last refused while it was young
	// early is the generation that upstream refused while it took the one before:
	// meanwhile all requests carry that one.
	early atomic.Uint64
	// late says that upstream was late to take a token, and took none at once
	// since.
	late atomic.Bool
}

// age returns how long ago the login brought t.
func (t Token) age() time.Duration { return time.Since(t.Came) }

// ripen waits until t is ripe, or ctx ends.
func ripen(ctx context.Context, t Token) error {
	timer := time.NewTimer(ripeFrom - t.age())
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// note learns from what upstream says of token.
func (y *youth) note(token Token, v verdict) {
	if v != tokenTaken || y.budget.hasTaken(token.Generation) {
		return
	}
	if y.refused.Load() == token.Generation {
		y.late.Store(true)
	} else if token.age() < ripeFrom {
		y.late.Store(false)
	}
}

// standIn returns the token to send: the one before token as long as upstream
// takes that and not yet token.
func (y *youth) standIn(token Token) Token {
	if y.early.Load() == token.Generation && y.young(token) {
		if before, ok := y.before(token); ok {
			return before
		}
	}
	return token
}

// stoodIn learns from upstream's answer to before, sent for a token that was
// refused.
func (y *youth) stoodIn(route uint64, before, young Token, v verdict) {
	switch v {
	case tokenTaken:
		y.early.Store(young.Generation)
	case tokenRefused:
		y.budget.refuse(route, before, time.Now())
	}
	y.budget.answered(route, before, v)
}

// young reports whether upstream may not know token yet.
func (y *youth) young(token Token) bool {
	return token.age() < youngFor && !y.budget.hasTaken(token.Generation)
}

// before returns the token before token, if it has not ended and nothing says
// that it was revoked.
func (y *youth) before(token Token) (Token, bool) {
	t, ok := y.source.Before(token.Generation)
	return t, ok && y.budget.mayBeGood(t.Generation)
}
