package proxy

import (
	"container/list"
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// dialsAtOnce is how many connections to upstream are being made at once. More
	// do not come sooner: each handshake is work for this machine and for
	// upstream's, and of thousands at once each waits for the last.
	dialsAtOnce = 32
	// seekersAtOnce is how many requests look for a connection at once: for each
	// net/http has a goroutine that waits for its turn to dial.
	seekersAtOnce = 8 * dialsAtOnce
)

// Dials bounds how many connections are being made at once, up to the end of
// their TLS handshake, and how many requests look for one, but not how many there
// are. Its zero value is good. All transports that go to one upstream share one,
// and the Handler whose requests they carry.
//
// Who is above the bound waits for its turn, in the order of arrival, as long as
// connections come about; a request that is given one which came free waits no
// more. Once a dial has timed out, and until one succeeds, nobody waits longer
// than a dial may take.
type Dials struct {
	mu      sync.Mutex // guards all below, and the state of turns
	active  int
	waiting list.List // of *turn, in the order of arrival
	seeking int       // requests that look for a connection
	outside list.List // of *wish: those that may not look yet, in the order of arrival
	last    time.Time // when a dial succeeded
	failing bool      // a dial has timed out since
	expiry  *time.Timer
}

// wish is a request's for a connection.
type wish struct {
	open  atomic.Bool  // it looks for one
	turn  *turn        // the last that it waited for; guarded by its Dials
	dials atomic.Int32 // that were begun for it

	of      *Dials        // whom it counts with while it looks; nil: it does not count
	since   time.Time     // it has waited from then on; zero: it has not
	place   *list.Element // outside; nil: not, or no more. Guarded by its Dials
	mayLook chan struct{}
}

// begin is for the next attempt.
func (w *wish) begin() {
	w.open.Store(false)
	w.dials.Store(0)
	w.since = time.Time{}
}

// seek returns when the request of w may look for a connection, or when ctx ends:
// then it is net/http that ends the request.
func (d *Dials) seek(ctx context.Context, w *wish) {
	if d == nil || w.of != nil {
		return
	}
	d.mu.Lock()
	if d.seeking < seekersAtOnce {
		d.seeking++
		d.mu.Unlock()
		w.of = d
		return
	}
	w.since, w.mayLook = time.Now(), make(chan struct{})
	w.place = d.outside.PushBack(w)
	d.mu.Unlock()
	select {
	case <-w.mayLook:
		w.of = d
	case <-ctx.Done():
		d.mu.Lock()
		defer d.mu.Unlock()
		if w.place == nil {
			w.of = d // it was its turn all the same
			return
		}
		d.outside.Remove(w.place)
		w.place = nil
	}
}

// end is for a request that looks no more. Who waits outside comes next.
func (w *wish) end() {
	w.open.Store(false)
	d := w.of
	if d == nil {
		return
	}
	w.of = nil
	d.mu.Lock()
	defer d.mu.Unlock()
	first := d.outside.Front()
	if first == nil {
		d.seeking--
		return
	}
	next := d.outside.Remove(first).(*wish)
	next.place = nil
	close(next.mayLook)
}

// turn is the leave to dial once.
type turn struct {
	of    *Dials
	wish  *wish // that the dial is for; nil: nobody says
	most  time.Duration
	since time.Time     // waits from then on
	place *list.Element // in the queue; nil: not, or no more
	told  chan error    // holds one when it is no more in the queue
	held  bool
}

// errUnwanted ends a dial that no request waits for, as far as is known: a
// request that gets to see it looks for a connection anew.
var errUnwanted = errors.New("the request has another connection")

// take returns when the dial may begin. most is how long it may take then, and
// by that how long it waits here where dials fail.
func (d *Dials) take(ctx context.Context, network string, w *wish, most time.Duration) (*turn, error) {
	t := &turn{of: d, wish: w, most: most}
	d.mu.Lock()
	if d.active < dialsAtOnce {
		d.active++
		t.held = true
		d.mu.Unlock()
		return t, nil
	}
	t.since, t.told = time.Now(), make(chan error, 1)
	if w != nil && !w.since.IsZero() {
		t.since = w.since
	}
	d.queueLocked(t)
	d.expireLocked()
	d.mu.Unlock()
	select {
	case err := <-t.told:
		if err == errLate {
			err = &net.OpError{Op: "dial", Net: network, Err: os.ErrDeadlineExceeded} // as the dials before it met
		}
		return t, err
	case <-ctx.Done():
		d.mu.Lock()
		defer d.mu.Unlock()
		d.tellLocked(t, ctx.Err())
		d.endLocked(t)
		return nil, ctx.Err()
	}
}

// errLate is for who waited too long while dials fail.
var errLate = errors.New("no turn came")

// queueLocked has t wait: in the place of the turn that the same request waits
// for already, which net/http has left behind with a connection that came free
// and proved to be of no use.
func (d *Dials) queueLocked(t *turn) {
	if t.wish != nil {
		before := t.wish.turn
		t.wish.turn = t
		if before != nil && before.place != nil {
			t.since = before.since
			t.place = d.waiting.InsertBefore(t, before.place)
			d.tellLocked(before, errUnwanted)
			return
		}
	}
	t.place = d.waiting.PushBack(t)
}

// tellLocked takes t out of the queue.
func (d *Dials) tellLocked(t *turn, err error) {
	if t.place == nil {
		return
	}
	d.waiting.Remove(t.place)
	t.place = nil
	t.told <- err
}

// end gives the turn back, once. Who waits comes next.
func (t *turn) end(err error) {
	d := t.of
	d.mu.Lock()
	defer d.mu.Unlock()
	if !t.held {
		return
	}
	switch {
	case err == nil:
		d.last, d.failing = time.Now(), false
	case isTimeout(err):
		d.failing = true
	}
	d.endLocked(t)
	d.expireLocked()
}

func (d *Dials) endLocked(t *turn) {
	if !t.held {
		return
	}
	t.held = false
	d.active--
	for d.active < dialsAtOnce && d.waiting.Len() > 0 {
		next := d.waiting.Front().Value.(*turn)
		if next.wish != nil && !next.wish.open.Load() {
			d.tellLocked(next, errUnwanted)
			continue
		}
		d.active++
		next.held = true
		d.tellLocked(next, nil)
	}
}

// expireLocked ends the wait of those who may wait no longer. Who waits outside
// came later than they.
func (d *Dials) expireLocked() {
	if d.expiry != nil {
		d.expiry.Stop()
		d.expiry = nil
	}
	for d.failing && d.waiting.Len() > 0 {
		first := d.waiting.Front().Value.(*turn)
		from := first.since
		if from.Before(d.last) {
			from = d.last
		}
		if left := first.most - time.Since(from); left > 0 {
			d.expiry = time.AfterFunc(left, func() {
				d.mu.Lock()
				defer d.mu.Unlock()
				d.expireLocked()
			})
			return
		}
		d.tellLocked(first, errLate)
	}
}

// opening is a connection up to the end of its TLS handshake, which net/http
// tells nobody of who knows the connection.
type opening struct {
	turn  *turn
	since time.Time
	hello bool // a ClientHello was written
}

// writes notes what is written, and reports whether the handshake is over: what
// follows a ClientHello ends it, as that takes but the proof that both have the
// keys.
func (o *opening) writes(p []byte) bool {
	const handshake = 22 // RFC 8446, section 5.1
	switch {
	case o.hello:
		return true
	case len(p) > 0 && p[0] == handshake:
		o.hello = true
	}
	return false // or it is for a proxy before upstream
}

// closes notes that the connection closed before the end of its handshake.
func (o *opening) closes() {
	err := error(net.ErrClosed)
	if time.Since(o.since) >= o.turn.most {
		err = os.ErrDeadlineExceeded
	}
	o.turn.end(err)
}
