package proxy

import (
	"context"
	"time"
)

// Token is what a [Source] gives: the header value to send, the token's serial
// number and its age.
type Token struct {
	Authorization string // value of the Authorization header, a secret
	Generation    uint64
	Came          time.Time     // when the login brought it; zero: long ago
	RefreshAfter  time.Duration // from Came until it is refreshed ahead; 0: unknown
}

// Source gives the token that requests carry. [tokens.Manager] is one, behind
// an adapter. Its errors are those of ctx, or an [Error] to answer with.
//
// [tokens.Manager]: https://pkg.go.dev/github.com/bearerd/bearerd/tokens#Manager
type Source interface {
	// Token returns the current token. It may wait for one, until ctx ends.
	Token(ctx context.Context) (Token, error)

	// Before returns the token before that of generation, if there is one that
	// has not ended. It must not block.
	Before(generation uint64) (Token, bool)

	// Renew returns a token newer than refused, the generation that upstream
	// refused. Where that takes a login it asks may, which must not
	// block, whether the login is worth it. Any error means that there is none.
	Renew(ctx context.Context, refused uint64, may func() bool) (Token, error)
}
