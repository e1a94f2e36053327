// Package output holds what stands between bearerd and whoever reads what it
// writes: lines that nobody waits for, and what is known of a terminal. It does not
// know what the lines say.
package output

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// Lines of requests wait at most so long, and go out when they are so many.
	lazyDelay = 100 * time.Millisecond
	lazyBytes = 32 << 10
	// pieceBytes is what the writer is given at a time.
	pieceBytes = 64 << 10
	// maxLogBytes bounds what waits for the writer: some 7,000 lines of requests.
	maxLogBytes = 2 << 20
	// againAfter is the pause before a writer is asked again that said EAGAIN.
	againAfter = 20 * time.Millisecond
)

// Lines is a buffer, bounded in bytes, between whoever logs and a writer that
// may stand still: a pipe that nobody reads, a terminal after Ctrl-S, a journal
// that stalls. Nobody who logs waits for the writer, nor learns that it fails.
// What does not fit is lost, lines of requests first; it is counted, and told
// of when the writer takes lines again.
//
// Lines of requests may wait a moment and go out together: a write for each
// costs a tenth of a request's processor time. Any other line goes out at once,
// with all that wait before it.
//
// The zero value with a w is ready for use. A goroutine runs only while there is
// something to write, or w keeps it.
type Lines struct {
	W    io.Writer
	most int // bytes that may wait; 0: maxLogBytes

	mu sync.Mutex // guards all below; never held while w is written
	// tellLost makes the line that tells of n lost ones. It is called while no
	// lock is held. Nil: nothing tells.
	tellLost func(n uint64) []byte
	waiting  []byte
	spans    []span // of waiting, in order
	lazy     int    // bytes of waiting that are lines of requests
	spare    []byte
	flying   int           // bytes that w is being given
	due      bool          // what waits is to be written now
	writing  chan struct{} // closed when the goroutine that writes has ended; nil: there is none
	timer    *time.Timer
	lost     uint64 // lines
	told     uint64 // of them

	torn bool // the writer's own: w has taken part of a line, and then failed
}

// span is a row of lines of one class.
type span struct {
	end  int // in waiting
	lazy bool
}

// Write takes lines that go out at once. It does not fail.
func (l *Lines) Write(p []byte) (int, error) {
	l.add(p, false)
	return len(p), nil
}

// TellLostBy has tell make the line that tells of n lost ones. Lines may be on
// their way already: those of the prompt.
func (l *Lines) TellLostBy(tell func(n uint64) []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tellLost = tell
}

// Lazy is the writer for lines that may wait, and are the first to be lost.
func (l *Lines) Lazy() io.Writer { return lazyLines{l} }

type lazyLines struct{ log *Lines }

func (lazy lazyLines) Write(p []byte) (int, error) {
	lazy.log.add(p, true)
	return len(p), nil
}

// Lost returns how many lines were lost.
func (l *Lines) Lost() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost
}

// Flush waits until the writer has had all lines, but no longer than most, and
// reports whether it has. Those that it refused are among them.
func (l *Lines) Flush(most time.Duration) bool {
	limit := time.NewTimer(most)
	defer limit.Stop()
	for once := true; ; once = false {
		l.mu.Lock()
		untold := once && l.lost > l.told
		if len(l.waiting) == 0 && l.writing == nil && !untold {
			l.mu.Unlock()
			return true
		}
		l.beDue()
		writing := l.writing
		l.mu.Unlock()
		select {
		case <-writing:
		case <-limit.C:
			return false
		}
	}
}

func (l *Lines) add(p []byte, lazy bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	most := l.most
	if most == 0 {
		most = maxLogBytes
	}
	if lazy {
		most -= most / 4 // the rest is for what matters more
	}
	over := len(l.waiting) + l.flying + len(p) - most
	if over > 0 && (lazy || over > l.lazy) {
		l.lost += lines(p)
		return
	}
	if over > 0 {
		l.loseLazy()
	}
	first := len(l.waiting) == 0
	l.waiting = append(l.waiting, p...)
	if last := len(l.spans) - 1; last >= 0 && l.spans[last].lazy == lazy {
		l.spans[last].end = len(l.waiting)
	} else {
		l.spans = append(l.spans, span{len(l.waiting), lazy})
	}
	if lazy {
		l.lazy += len(p)
	}
	switch {
	case !lazy || len(l.waiting) >= lazyBytes:
		l.beDue()
	case first && l.timer == nil:
		l.timer = time.AfterFunc(lazyDelay, l.lazyDue)
	case first:
		l.timer.Reset(lazyDelay)
	}
}

func (l *Lines) lazyDue() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) > 0 {
		l.beDue()
	}
}

// beDue has all that waits written now. The caller holds mu.
func (l *Lines) beDue() {
	l.due = true
	if l.writing == nil {
		l.writing = make(chan struct{})
		go l.write()
	}
}

// loseLazy makes room by what matters least. The caller holds mu.
func (l *Lines) loseLazy() {
	if l.lazy == 0 {
		return
	}
	kept, begin := l.waiting[:0], 0
	for _, s := range l.spans {
		part := l.waiting[begin:s.end]
		begin = s.end
		if s.lazy {
			l.lost += lines(part)
		} else {
			kept = append(kept, part...)
		}
	}
	l.waiting, l.spans, l.lazy = kept, l.spans[:0], 0
	if len(kept) > 0 {
		l.spans = append(l.spans, span{end: len(kept)})
	}
}

// write gives the writer what is due, until nothing is.
func (l *Lines) write() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.due {
		piece := l.take()
		l.due = len(l.waiting) > 0
		untold := uint64(0)
		tell := l.tellLost
		if !l.due && tell != nil { // what was lost is later than all that waited
			untold = l.lost - l.told
		}
		l.mu.Unlock()
		refused, well := l.give(piece)
		if well && untold > 0 {
			_, well = l.give(tell(untold))
		}
		l.mu.Lock()
		l.flying = 0
		l.lost += refused
		if cap(piece) <= 4*lazyBytes { // what one line has made larger is not kept
			l.spare = piece
		}
		if well && tell != nil {
			l.told += untold
			l.due = l.due || l.lost > l.told // w is back
		}
	}
	close(l.writing)
	l.writing = nil
}

// take takes from what waits the lines that w is given at once: at most
// pieceBytes, or one line. What w keeps can no longer make room, so it is
// little. The caller holds mu.
func (l *Lines) take() []byte {
	n := len(l.waiting)
	if n > pieceBytes {
		if i := bytes.LastIndexByte(l.waiting[:pieceBytes], '\n'); i >= 0 {
			n = i + 1
		} else if i := bytes.IndexByte(l.waiting, '\n'); i >= 0 {
			n = i + 1
		}
	}
	l.flying = n
	if n == len(l.waiting) {
		piece := l.waiting
		l.waiting, l.spare, l.spans, l.lazy = l.spare[:0], nil, l.spans[:0], 0
		return piece
	}
	piece := append(l.spare[:0], l.waiting[:n]...)
	l.spare = nil
	l.waiting = l.waiting[:copy(l.waiting, l.waiting[n:])]
	spans, begin := l.spans, 0
	l.spans, l.lazy = spans[:0], 0
	for _, s := range spans {
		if s.end <= n {
			continue
		}
		s.end -= n
		if s.lazy {
			l.lazy += s.end - begin
		}
		begin = s.end
		l.spans = append(l.spans, s)
	}
	return piece
}

// give writes whole lines, and returns how many of them w refused and whether it
// took all. After a line that it took in part, the next begins on one of its
// own.
func (l *Lines) give(p []byte) (refused uint64, well bool) {
	if l.torn {
		if _, ok := l.giveBytes([]byte("\n")); !ok {
			return lines(p), false
		}
		l.torn = false
	}
	n, well := l.giveBytes(p)
	if well {
		return 0, true
	}
	refused = lines(p[n:])
	if n > 0 {
		l.torn = p[n-1] != '\n'
		if p[n] == '\n' {
			refused-- // it lacks its end alone, and gets that
		}
	}
	return refused, false
}

// giveBytes returns how much of p was written, and whether that is all.
func (l *Lines) giveBytes(p []byte) (n int, well bool) {
	for n < len(p) {
		took, err := l.W.Write(p[n:])
		n += max(0, min(took, len(p)-n))
		switch {
		case errors.Is(err, syscall.EAGAIN):
			// Somebody who shares the descriptor has made it one that does not
			// wait, and nothing tells when it takes more.
			time.Sleep(againAfter)
		case err != nil, took <= 0:
			return n, false
		}
	}
	return n, true
}

// lines is the number of lines in p, of which the last may lack its end.
func lines(p []byte) uint64 {
	n := uint64(bytes.Count(p, []byte("\n")))
	if len(p) > 0 && p[len(p)-1] != '\n' {
		n++
	}
	return n
}

// FlushPatience is how long an end waits for whoever reads the log.
const FlushPatience = time.Second

// LineFunc is a writer that is given one line at a time, and passes it on without
// its end.
type LineFunc func(line string)

func (w LineFunc) Write(p []byte) (int, error) {
	w(strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}
