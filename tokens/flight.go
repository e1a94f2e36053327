package tokens

import (
	"context"
	"time"
)

// A flight is one login under way, and those who wait for it.
type flight struct {
	why  Reason
	done chan struct{} // closed when it has ended

	// Set before done is closed, one of them.
	token *Token
	err   error
}

func newFlight(why Reason) *flight { return &flight{why: why, done: make(chan struct{})} }

// wait returns what f brings. The error is its own, ctx's, or [ErrWait] after
// patience.
func (f *flight) wait(ctx context.Context, patience time.Duration) (*Token, error) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-f.done:
		return f.token, f.err
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-timer.C:
		return nil, ErrWait
	}
}
