package tokens

import (
	"context"
	"time"
)

const (
	// pollEvery is the time between two looks at the credential files. Their
	// content is compared: Kubernetes swaps symlinks, and neither an mtime nor a
	// file watcher tells of that everywhere.
	pollEvery = time.Second

	// settleAfter is the time between two reads of files that a login found
	// changed. It uses them when two reads agree: a file may be half written.
	settleAfter = 50 * time.Millisecond
)

// settle reads the credentials for a login. Files that differ from what the last
// login found, in tried, are read until two reads in a row agree; ok is false
// when ctx ends before they do. A store is read once; asked is for it.
func settle(ctx context.Context, from sources, tried *reading, asked bool) (r reading, ok bool) {
	r = from.read(func(s StoredSecret) (Secret, error) { return s.Read(ctx, asked) })
	for from.watched() && (tried == nil || r != *tried) {
		select {
		case <-time.After(settleAfter):
		case <-ctx.Done():
			return r, false
		}
		again := from.look(false)
		if again == r {
			break
		}
		r = again
	}
	return r, true
}

// look reads all files, and has the stores say what they know.
func (s sources) look(failing bool) reading {
	return s.read(func(s StoredSecret) (Secret, error) { return s.Look(failing) })
}

// A watch tells what a change of the credential files is worth. The zero value
// has seen none.
type watch struct {
	tried *reading // what the last login found in them
	seen  *reading // what the last poll found
}

// A worth is what a change of the credential files is worth.
type worth int

const (
	worthNothing worth = iota
	worthLogin         // also one that had been stopped
	worthProof         // one login, as of proofLimit
)

// poll notes what a poll found, and says what it is worth where the last login
// failed by f; nil: it did not. due says that the back-off is over.
func (w *watch) poll(r reading, h *history, f *Failure, due bool) worth {
	settled := w.seen != nil && r == *w.seen
	w.seen = &r
	if !settled || f == nil {
		return worthNothing
	}
	if r.problem != "" {
		if f.Waiting && (w.tried == nil || r != *w.tried) {
			return worthLogin // it has another problem than the one reported: the attempt reports it
		}
		return worthNothing
	}
	change := h.change(r.credentials)
	switch {
	case change == replaced:
		return worthLogin
	case f.Waiting && due: // back again, not changed
		return worthLogin
	case change == newProof:
		return worthProof
	}
	return worthNothing
}
