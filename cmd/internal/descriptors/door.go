package descriptors

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/neterror"
)

// A Door lets at most so many clients be connected to a server at once. Where one
// more comes, those that have been idle longest are closed for it, and only where
// none is does it wait. The connections are handed on as they are: a client is
// reset by its own *net.TCPConn.
type Door struct {
	most int    // 0: all may come
	name string // of the listener
	told *scarcity

	open     atomic.Int64  // clients inside
	hijacked atomic.Int64  // of them those that net/http has let go of
	waits    atomic.Bool   // somebody waits outside
	moved    chan struct{} // holds one when somebody inside left or became idle

	outside sync.Mutex // held by the one who waits
	inside  sync.Map   // net.Conn to *client, but for those hijacked
	since   time.Time  // what clients' times count from
	closed  chan struct{}
	Shut    func() // ends all waits outside: nobody is kept there while bearerd stops
}

// client is somebody inside.
type client struct {
	idle     atomic.Int64 // from when it may be closed, in ns since Door.since; busy: it has a request
	hijacked atomic.Bool
}

const busy = 0

// nextRequest is how long a client may take after an answer until it counts as
// idle. One that has much to ask has its next request on the way, and a POST
// that meets the close of its connection is lost.
const nextRequest = 50 * time.Millisecond

func newDoor(name string, most int, told *scarcity) *Door {
	d := &Door{name: name, most: most, told: told, moved: make(chan struct{}, 1), since: time.Now(), closed: make(chan struct{})}
	d.Shut = sync.OnceFunc(func() { close(d.closed) })
	return d
}

// Most is how many clients may be inside at once; 0: all that come.
func (d *Door) Most() int { return d.most }

// Guard has the clients of s come in by d. It keeps what s.ConnState and s.ConnContext are already.
func (d *Door) Guard(s *http.Server) {
	if d.most == 0 {
		return
	}
	enrich := s.ConnContext
	s.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		if enrich != nil {
			ctx = enrich(ctx, conn)
		}
		c, _ := d.inside.Load(conn)
		return context.WithValue(ctx, clientKey{}, c)
	}
	observe := s.ConnState
	s.ConnState = func(conn net.Conn, state http.ConnState) {
		if observe != nil {
			observe(conn, state)
		}
		d.observe(conn, state)
	}
	next := s.Handler
	s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer d.handled(r)
		next.ServeHTTP(w, r)
	})
}

type clientKey struct{}

// handled notes that the handler of r has returned: a hijacked connection ends
// with it, and net/http tells of that nowhere.
func (d *Door) handled(r *http.Request) {
	if d.hijacked.Load() == 0 {
		return
	}
	if c, ok := r.Context().Value(clientKey{}).(*client); ok && c.hijacked.CompareAndSwap(true, false) {
		d.hijacked.Add(-1)
		d.leave()
	}
}

func (d *Door) observe(conn net.Conn, state http.ConnState) {
	switch state {
	case http.StateActive, http.StateIdle:
		found, ok := d.inside.Load(conn)
		if !ok {
			return
		}
		if state == http.StateActive {
			found.(*client).idle.Store(busy)
			return
		}
		found.(*client).idle.Store(d.now() + int64(nextRequest))
		d.wake()
	case http.StateHijacked:
		if found, ok := d.inside.LoadAndDelete(conn); ok {
			d.hijacked.Add(1)
			found.(*client).hijacked.Store(true)
		}
	case http.StateClosed:
		if _, ok := d.inside.LoadAndDelete(conn); ok {
			d.leave()
		}
	}
}

// now is never busy.
func (d *Door) now() int64 { return int64(time.Since(d.since)) + 1 }

func (d *Door) leave() {
	d.open.Add(-1)
	d.wake()
}

func (d *Door) wake() {
	if d.waits.Load() {
		select {
		case d.moved <- struct{}{}:
		default:
		}
	}
}

// Full reports whether somebody waits outside: who has had an answer shall
// leave.
func (d *Door) Full() bool { return d.waits.Load() }

// enter lets a client in, and waits until there is room. A door that is shut
// lets in who waits already.
func (d *Door) enter(conn net.Conn) {
	if d.most == 0 {
		return
	}
	d.outside.Lock()
	defer d.outside.Unlock()
	if d.open.Load() < int64(d.most) {
		d.admit(conn)
		return
	}
	d.waits.Store(true)
	defer d.waits.Store(false)
	for d.open.Load() >= int64(d.most) {
		d.told.tell(fmt.Sprintf("all %d connections that clients of the %s listener can have are taken", d.most, d.name))
		closed, next := d.closeIdle()
		if closed > 0 {
			continue
		}
		timer := time.NewTimer(next)
		select {
		case <-d.moved:
		case <-timer.C:
		case <-d.closed:
			timer.Stop()
			d.admit(conn)
			return
		}
		timer.Stop()
	}
	d.admit(conn)
}

func (d *Door) admit(conn net.Conn) {
	c := new(client)
	// One that has sent no request yet may be on its way with it.
	c.idle.Store(d.now() + int64(FirstRequest))
	d.inside.Store(conn, c)
	d.open.Add(1)
}

// closeIdle closes clients that have been idle longest, and returns how many; or
// when to look again, where there was none.
func (d *Door) closeIdle() (closed int, next time.Duration) {
	type idler struct {
		conn net.Conn
		who  *client
		idle int64
	}
	var all []idler
	now, soonest := d.now(), int64(time.Minute)
	d.inside.Range(func(conn, who any) bool {
		c := who.(*client)
		switch idle := c.idle.Load(); {
		case idle == busy:
		case idle <= now:
			all = append(all, idler{conn.(net.Conn), c, idle})
		default:
			soonest = min(soonest, idle-now)
		}
		return true
	})
	slices.SortFunc(all, func(a, b idler) int { return cmp.Compare(a.idle, b.idle) })
	for _, i := range all[:min(len(all), 1+d.most/32)] { // more than one, as each look is at all
		// A request may have come meanwhile.
		if !i.who.idle.CompareAndSwap(i.idle, busy) {
			continue
		}
		if _, ok := d.inside.LoadAndDelete(i.conn); ok {
			_ = i.conn.Close() // returns when the descriptor is free
			d.open.Add(-1)
			closed++
		}
	}
	return closed, time.Duration(soonest)
}

// By returns a listener like l whose clients come in by d.
func (d *Door) By(l net.Listener) net.Listener {
	if d.most == 0 {
		return l
	}
	return doorListener{l, d}
}

type doorListener struct {
	net.Listener
	door *Door
}

// FirstRequest is how long a new connection may take to send its first request
// once bearerd stops. That of a client who has just connected is on its way, and
// to close the connection would fail it.
const FirstRequest = time.Second

// retryAccept is how long a listener waits that the system gives no descriptor.
const retryAccept = 100 * time.Millisecond

func (l doorListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err == nil {
			l.door.enter(conn)
			return conn, nil
		}
		if !neterror.IsNoDescriptor(err) {
			return nil, err
		}
		// Somebody else has them: what was inherited, or the whole machine.
		l.door.told.tell(neterror.Of(err).Error())
		l.door.closeIdle()
		select {
		case <-time.After(retryAccept):
		case <-l.door.closed:
		}
	}
}
