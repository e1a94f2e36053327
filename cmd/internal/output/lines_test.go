package output

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
)

func TestLinesThatMayWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bearerdtest.Output
		l := &Lines{W: &out}
		lazy := l.Lazy()
		expect := func(when, want string) {
			t.Helper()
			synctest.Wait()
			if got := out.String(); got != want {
				t.Errorf("%s: got %q, want %q", when, got, want)
			}
		}
		fmt.Fprint(lazy, "a\n")
		expect("at once", "")
		time.Sleep(lazyDelay)
		expect("after the delay", "a\n")
		fmt.Fprint(lazy, "b\n")
		fmt.Fprint(l, "c\n")
		expect("with a line that may not wait", "a\nb\nc\n")
		fmt.Fprint(lazy, "d\n")
		if !l.Flush(time.Second) {
			t.Error("not flushed")
		}
		expect("after Flush", "a\nb\nc\nd\n")
		time.Sleep(time.Hour)
		expect("later", "a\nb\nc\nd\n")
		fmt.Fprint(lazy, strings.Repeat("e", lazyBytes))
		expect("when there are many", "a\nb\nc\nd\n"+strings.Repeat("e", lazyBytes))
	})
}

func TestLinesKeepWholeAndInOrder(t *testing.T) {
	var out bearerdtest.Output
	l := &Lines{W: &out}
	const writers, lines = 8, 2000
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			to := l.Lazy()
			for i := range lines {
				fmt.Fprintf(to, "%d %d\n", w, i)
				if i%97 == 0 {
					fmt.Fprint(l, "now\n")
				}
			}
		})
	}
	wg.Wait()
	if !l.Flush(time.Minute) {
		t.Fatal("not flushed")
	}
	var next [writers]int
	for line := range strings.Lines(out.String()) {
		var w, i int
		if n, _ := fmt.Sscanf(line, "%d %d\n", &w, &i); n != 2 {
			continue
		}
		if i != next[w] {
			t.Fatalf("writer %d: got line %d, want %d", w, i, next[w])
		}
		next[w]++
	}
	for w, n := range next {
		if n != lines {
			t.Errorf("writer %d: got %d lines, want %d", w, n, lines)
		}
	}
}

func tellLost(n uint64) []byte { return fmt.Appendf(nil, "lost %d\n", n) }

// Nobody reads: nobody who logs waits, what is held is bounded, lines of
// requests go first, and who comes back is told.
func TestLinesThatNobodyReads(t *testing.T) {
	asked, gate := make(chan struct{}, 1000), make(chan struct{})
	var out bearerdtest.Output
	l := &Lines{most: 1000, tellLost: tellLost, W: bearerdtest.WriterFunc(func(p []byte) (int, error) {
		asked <- struct{}{}
		<-gate
		return out.Write(p)
	})}
	held := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.waiting) + l.flying
	}
	to := l.Lazy()
	fmt.Fprint(l, "first\n")
	<-asked // the writer has it
	for i := range 100 {
		fmt.Fprintf(to, "request %03d\n", i)
	}
	if got, most := held(), 750; got > most || got < most-20 {
		t.Errorf("lines of requests: got %d bytes held, want nearly %d", got, most)
	}
	before := l.Lost()
	fmt.Fprintln(l, strings.Repeat("x", 1000)) // which no other could make room for
	if got := l.Lost(); got != before+1 {
		t.Errorf("a line that is too long lost %d lines, want itself", got-before)
	}
	for i := range 50 {
		fmt.Fprintf(l, "state %03d\n", i)
	}
	if got := held(); got > 1000 {
		t.Errorf("got %d bytes held, want at most 1000", got)
	}
	if got := l.Lost(); got != 101 {
		t.Errorf("lost: got %d, want the 100 lines of requests and the one that was too long", got)
	}
	for range 100 {
		fmt.Fprint(l, "too many\n")
	}
	lost := l.Lost()
	if l.Flush(time.Millisecond) {
		t.Error("flushed, says Flush")
	}
	close(gate)
	if !l.Flush(time.Minute) {
		t.Fatal("not flushed")
	}
	var want strings.Builder
	fmt.Fprint(&want, "first\n")
	for i := range 50 {
		fmt.Fprintf(&want, "state %03d\n", i)
	}
	got, _ := strings.CutPrefix(out.String(), want.String())
	kept := strings.Count(got, "too many\n")
	if tail := fmt.Sprintf("lost %d\n", lost); !strings.HasSuffix(got, tail) || lost+uint64(kept) != 201 || strings.Contains(got, "request") {
		t.Errorf("got\n%s\nwant the states, some of the last lines, and %q", &out, tail)
	}
	fmt.Fprint(l, "later\n")
	if !l.Flush(time.Minute) || strings.Count(out.String(), "lost") != 1 || !strings.HasSuffix(out.String(), "later\n") {
		t.Errorf("then: got\n%s", &out)
	}
}

// Of what a stall has left, the writer has no more than it must: the rest can
// still make room.
func TestLinesOfAStallStayInOrder(t *testing.T) {
	asked, gate := make(chan struct{}), make(chan struct{})
	var out bearerdtest.Output
	const most = 512 << 10
	l := &Lines{most: most, tellLost: tellLost, W: bearerdtest.WriterFunc(func(p []byte) (int, error) {
		asked <- struct{}{}
		<-gate
		return out.Write(p)
	})}
	to := l.Lazy()
	fmt.Fprint(l, "first\n")
	<-asked
	long := strings.Repeat("x", 1000)
	for i := 0; l.Lost() == 0; i++ {
		fmt.Fprintf(to, "request %d %s\n", i, long)
		if i%100 == 0 {
			fmt.Fprintf(l, "state %d\n", i)
		}
	}
	gate <- struct{}{}
	<-asked // the second piece
	fmt.Fprintf(l, "large %s\n", strings.Repeat("x", most-2*pieceBytes))
	go func() {
		for range asked {
		}
	}()
	close(gate)
	if !l.Flush(time.Minute) {
		t.Fatal("not flushed")
	}
	close(asked)
	requests, states := 0, 0
	for line := range strings.Lines(out.String()) {
		var n int
		if count, _ := fmt.Sscanf(line, "request %d", &n); count == 1 {
			if n != requests {
				t.Fatalf("got request %d, want %d", n, requests)
			}
			requests++
		}
		if count, _ := fmt.Sscanf(line, "state %d", &n); count == 1 {
			if n != states*100 {
				t.Fatalf("got state %d, want %d", n, states*100)
			}
			states++
		}
	}
	if got := requests * 1012; got > pieceBytes || got < pieceBytes/2 {
		t.Errorf("got %d requests, want those of one piece", requests)
	}
	if states != 4 || !strings.Contains(out.String(), "large ") {
		t.Errorf("got %d states, want all, and the line that made them make room", states)
	}
	if !strings.HasSuffix(out.String(), fmt.Sprintf("lost %d\n", l.Lost())) {
		t.Errorf("it ends with %.100q", out.String()[len(out.String())-50:])
	}
}

// A writer that fails, a full disk say, costs its lines, no more; what it has
// taken in part does not run into the next line.
func TestLinesThatCannotBeWritten(t *testing.T) {
	var out bearerdtest.Output
	room := 8
	full := bearerdtest.WriterFunc(func(p []byte) (int, error) {
		n := min(room, len(p))
		room -= n
		_, _ = out.Write(p[:n])
		if n < len(p) {
			return n, syscall.ENOSPC
		}
		return n, nil
	})
	l := &Lines{W: full, tellLost: tellLost}
	for _, line := range []string{"one\n", "two two two\n", "three\n"} {
		fmt.Fprint(l, line)
		if !l.Flush(time.Minute) {
			t.Fatal("not flushed")
		}
	}
	if got, want := out.String(), "one\ntwo "; got != want || l.Lost() != 2 {
		t.Errorf("got %q and %d lost, want %q and 2", got, l.Lost(), want)
	}
	room = 1000
	fmt.Fprint(l, "four\n")
	if !l.Flush(time.Minute) {
		t.Fatal("not flushed")
	}
	if got, want := out.String(), "one\ntwo \nfour\nlost 2\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A line, a flush, and writers that take a part at a time: with an error that
// means later, or without one.
func TestLinesInParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, failure := range map[string]error{"EAGAIN": syscall.EAGAIN, "no error": nil} {
			var out bearerdtest.Output
			l := &Lines{W: bearerdtest.WriterFunc(func(p []byte) (int, error) {
				_, _ = out.Write(p[:1])
				return 1, failure
			})}
			fmt.Fprint(l, "abc\nd\n")
			if !l.Flush(time.Second) || out.String() != "abc\nd\n" || l.Lost() != 0 {
				t.Errorf("%s: got %q, %d lost", name, &out, l.Lost())
			}
		}
		// It neither takes anything nor says why: that is an error too.
		for _, failure := range []error{nil, errors.New("other")} {
			l := &Lines{W: bearerdtest.WriterFunc(func([]byte) (int, error) { return 0, failure })}
			fmt.Fprint(l, "abc\nd\n")
			if !l.Flush(time.Second) || l.Lost() != 2 {
				t.Errorf("%v: got %d lost, want 2", failure, l.Lost())
			}
		}
		var open atomic.Bool
		never := &Lines{W: bearerdtest.WriterFunc(func(p []byte) (int, error) {
			if open.Load() {
				return len(p), nil
			}
			return 0, syscall.EAGAIN
		})}
		fmt.Fprint(never, "x\n")
		if began := time.Now(); never.Flush(time.Second) || time.Since(began) != time.Second {
			t.Errorf("a flush took %v, want 1 s", time.Since(began))
		}
		open.Store(true) // or the bubble would never end
		never.Flush(time.Second)
	})
}

// Whatever the writer does, each line is written once or counted once, whole and
// in order.
func TestEachLineIsWrittenOrLost(t *testing.T) {
	for range 20 {
		var out bearerdtest.Output
		l := &Lines{most: 2000, W: bearerdtest.WriterFunc(func(p []byte) (int, error) {
			n := len(p)
			switch rand.N(10) {
			case 0:
				n = rand.N(len(p))
			case 1:
				time.Sleep(rand.N(time.Millisecond)) // a reader that is slow
			}
			_, _ = out.Write(p[:n])
			if n < len(p) {
				return n, errors.New("no room")
			}
			return n, nil
		})}
		const writers, each = 4, 500
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				to := io.Writer(l)
				if w%2 == 0 {
					to = l.Lazy()
				}
				for i := range each {
					fmt.Fprintf(to, "%d %d end\n", w, i)
				}
			})
		}
		wg.Wait()
		if !l.Flush(time.Minute) {
			t.Fatal("not flushed")
		}
		last := [writers]int{-1, -1, -1, -1}
		whole := uint64(0)
		for line := range strings.Lines(out.String()) {
			var w, i int
			if n, _ := fmt.Sscanf(line, "%d %d end\n", &w, &i); n != 2 || !strings.HasSuffix(strings.TrimSuffix(line, "\n"), " end") {
				continue // torn, and so counted as lost
			}
			if i <= last[w] {
				t.Fatalf("writer %d: line %d after %d", w, i, last[w])
			}
			last[w] = i
			whole++
		}
		if whole+l.Lost() != writers*each {
			t.Fatalf("got %d lines and %d lost, want %d in all\n%s", whole, l.Lost(), writers*each, &out)
		}
	}
}
