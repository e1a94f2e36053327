package proxy

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// reserve is the memory that all held request bodies share, in bytes.
type reserve struct {
	limit int64
	used  atomic.Int64
}

func (r *reserve) take(n int64) bool {
	if r.used.Add(n) <= r.limit {
		return true
	}
	r.used.Add(-n)
	return false
}

func (r *reserve) give(n int64) { r.used.Add(-n) }

// An upload is a request body that may be sent twice.
//
// A body of known length that fits is held whole before it is sent: then the
// transport may send it again by itself too, where it is safe. One of unknown
// length is sent as it comes; its first bytes are kept, and it can be sent
// again while they are all there. Of any other nothing is kept: it is
// announced by Expect: 100-continue, and can be sent again while upstream has
// not asked for it.
type upload struct {
	announce bool   // send Expect: 100-continue and wait
	held     []byte // all of it, or nil

	src     io.Reader
	reserve *reserve
	limit   int64 // most that is kept

	reading sync.Mutex // held while src is read: one reader at a time

	mu       sync.Mutex // guards all below; never held while src is read
	kept     []byte     // the first bytes of src
	reserved int64      // what reserve gave
	spilled  bool       // src gave bytes that were not kept
	srcErr   error      // how src ended
	current  *attempt
	pause    chan struct{} // while not nil, current waits for it to close
}

var (
	errSuperseded = errors.New("a later attempt sends this body")
	errStopped    = errors.New("the request has ended")
	errSpilled    = errors.New("the first bytes of this body are gone")
)

// newUpload prepares the body of r, whose reader is src. It reads the whole
// of a body that it holds: the error is src's.
func newUpload(r *http.Request, src io.Reader, limit int64, res *reserve) (*upload, error) {
	u := &upload{src: src, reserve: res, limit: limit}
	if r.ContentLength < 0 {
		return u, nil
	}
	if r.ContentLength > limit || !res.take(r.ContentLength) {
		u.announce = true
		u.limit = 0
		return u, nil
	}
	u.reserved = r.ContentLength
	u.held = make([]byte, r.ContentLength)
	_, err := io.ReadFull(src, u.held)
	return u, err
}

// release gives back what was reserved. No attempt may read on.
func (u *upload) release() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.current = nil
	if u.pause != nil {
		close(u.pause)
		u.pause = nil
	}
	u.reserve.give(u.reserved)
	u.reserved = 0
}

// attach makes the body that of an attempt upstream. A second attempt takes
// over from the first, which reads no more. It reports false, and changes
// nothing, when the first bytes are gone.
func (u *upload) attach(req *http.Request) bool {
	if u.held != nil {
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(u.held)), nil }
		req.Body, _ = req.GetBody()
		return true
	}
	body, err := u.again()
	if err != nil {
		return false
	}
	// The transport too may have to begin anew, where nothing of the request can
	// have been processed: on an HTTP/2 connection that ends as it is taken.
	req.Body, req.GetBody = body, u.again
	return true
}

// again returns the body of a new attempt, which takes over from the last. The
// error is errSpilled.
func (u *upload) again() (io.ReadCloser, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.spilled {
		return nil, errSpilled
	}
	u.current = &attempt{upload: u}
	u.resumeLocked()
	return u.current, nil
}

// hold stops the attempt under way where it is, so that no more of the body
// is lost while a login decides. attach or resume must follow.
func (u *upload) hold() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.pause == nil {
		u.pause = make(chan struct{})
	}
}

// resume lets the attempt go on that hold stopped.
func (u *upload) resume() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.resumeLocked()
}

func (u *upload) resumeLocked() {
	if u.pause != nil {
		close(u.pause)
		u.pause = nil
	}
}

// attempt is the body of one request upstream. Close does not reach the
// inbound body: a second attempt may need the rest of it.
type attempt struct {
	upload *upload
	off    int64 // read so far; used by the transport's one reading goroutine
}

func (a *attempt) Close() error {
	u := a.upload
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.current == a {
		u.current = nil
	}
	return nil
}

func (a *attempt) Read(p []byte) (int, error) {
	if n, err := a.readKept(p); n > 0 || err != nil {
		return n, err
	}
	u := a.upload
	u.reading.Lock()
	defer u.reading.Unlock()
	// Another reader may have brought something, or taken over, meanwhile.
	if n, err := a.readKept(p); n > 0 || err != nil {
		return n, err
	}
	n, err := u.src.Read(p)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.keepLocked(p[:n], u.current != a)
	u.srcErr = err
	a.off += int64(n)
	return n, err
}

// readKept reads from what src gave already. It returns 0 and nil where src
// itself must be read.
func (a *attempt) readKept(p []byte) (int, error) {
	u := a.upload
	u.mu.Lock()
	defer u.mu.Unlock()
	for u.current == a && u.pause != nil {
		pause := u.pause
		u.mu.Unlock()
		<-pause
		u.mu.Lock()
	}
	if u.current != a {
		return 0, errSuperseded
	}
	if a.off < int64(len(u.kept)) {
		n := copy(p, u.kept[a.off:])
		a.off += int64(n)
		return n, nil
	}
	return 0, u.srcErr
}

// keepLocked keeps what src gave, or drops all that is kept when it no longer
// fits. What a superseded attempt was still reading is always kept: the next
// one needs it, and it is one read at most.
func (u *upload) keepLocked(p []byte, superseded bool) {
	if len(p) == 0 || u.spilled {
		return
	}
	need := int64(len(u.kept) + len(p))
	if !superseded && (need > u.limit || !u.reserveLocked(need)) {
		u.spilled = true
		u.kept = nil
		u.reserve.give(u.reserved)
		u.reserved = 0
		return
	}
	u.kept = append(u.kept, p...)
}

// reserveLocked makes the reservation at least n bytes, doubling.
func (u *upload) reserveLocked(n int64) bool {
	if n <= u.reserved {
		return true
	}
	more := min(max(n, 2*u.reserved, 4<<10), u.limit) - u.reserved
	if !u.reserve.take(more) {
		return false
	}
	u.reserved += more
	// append would make room that is not reserved.
	u.kept = append(make([]byte, 0, u.reserved), u.kept...)
	return true
}

// inbound reads a client's request body: it counts, remembers how it failed,
// and gives up on a client that sends nothing for as long as idle.
type inbound struct {
	body io.Reader // nil: the request has none
	conn *http.ResponseController
	idle time.Duration
	n    atomic.Int64

	reading sync.Mutex // held while body is read

	mu      sync.Mutex // guards all below and the connection's deadline
	due     time.Time  // when the read under way has been idle for too long
	whole   bool       // body was read to its end
	stopped bool       // no further read
	err     error      // what ended body before its end
}

func (b *inbound) Read(p []byte) (int, error) {
	b.reading.Lock()
	defer b.reading.Unlock()
	b.mu.Lock()
	if b.stopped {
		b.mu.Unlock()
		return 0, errStopped
	}
	b.due = time.Now().Add(b.idle)
	b.setDeadlineLocked(b.due)
	b.mu.Unlock()
	n, err := b.body.Read(p)
	b.n.Add(int64(n))
	if err == nil {
		return n, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case err == io.EOF:
		b.whole = true
		if !b.stopped {
			// A deadline left behind would end the request: net/http goes on
			// reading the connection to see the client leave.
			b.setDeadlineLocked(time.Time{})
		}
	case b.stopped && errors.Is(err, os.ErrDeadlineExceeded) && time.Now().Before(b.due):
		// It was stop, not the client.
	default:
		b.err = err
	}
	return n, err
}

func (b *inbound) setDeadlineLocked(t time.Time) {
	_ = b.conn.SetReadDeadline(t) // a recorder in a test has no connection
}

// unread reports whether there is a body that was not read to its end.
func (b *inbound) unread() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.body != nil && !b.whole
}

// failure returns what ended the body before its end.
func (b *inbound) failure() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

// stop ends a read under way, allows no other, and returns when there is none:
// then failure is the last word. net/http cancels the request's context before
// the read that saw the reason returns.
func (b *inbound) stop() {
	b.end()
	b.reading.Lock()
	defer b.reading.Unlock()
}

// end ends a read under way, and allows no other.
func (b *inbound) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped {
		return
	}
	b.stopped = true
	if b.body != nil && !b.whole {
		b.setDeadlineLocked(time.Now())
	}
}

// A client that has its answer may take as long as linger to end its body before
// it is cut off; a stop of the program waits for it. As long as it sends nothing
// for lingerIdle the end of the answer waits too, where that is a last chunk.
const (
	linger     = 2 * time.Second
	lingerIdle = 500 * time.Millisecond
)

// drain takes what the client of an answered request still sends: one that
// reads nothing before it has sent all would be reset, and lose the answer. With
// more than 256 KiB left, net/http takes nothing (transfer.go, Close); what less
// a client is late with is left to it.
func (b *inbound) drain() {
	if !b.unread() {
		return
	}
	end := time.Now().Add(linger)
	within := func(d time.Duration) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.stopped = true
		b.setDeadlineLocked(time.Now().Add(d))
	}
	within(lingerIdle) // for a read under way too
	b.reading.Lock()
	defer b.reading.Unlock()
	// By large reads: of small ones the kernel makes a window that closes, and a
	// pause of its own before the client may send on.
	buf := copyBuffers{}.Get()
	defer copyBuffers{}.Put(buf)
	for err := error(nil); err == nil && time.Now().Before(end); {
		within(lingerIdle)
		_, err = b.body.Read(buf)
	}
	within(time.Until(end))
}
