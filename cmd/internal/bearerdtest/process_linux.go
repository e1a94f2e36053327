package bearerdtest

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// CPU is the processor time that the process has used, user and system.
func (p *Process) CPU() time.Duration {
	p.T.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Cmd.Process.Pid))
	if err != nil {
		p.T.Fatal(err)
	}
	// proc(5): the fields after the name in parentheses, from the third.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	var ticks int64
	for _, field := range fields[11:13] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			p.T.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond // USER_HZ is 100
}

// Memory returns a line of /proc/PID/status, in KiB.
func (p *Process) Memory(field string) int {
	p.T.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Cmd.Process.Pid))
	if err != nil {
		p.T.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			kib, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")))
			if err != nil {
				p.T.Fatal(err)
			}
			return kib
		}
	}
	p.T.Fatalf("no %s in /proc", field)
	return 0
}

// Clients that are slow, or want much. Each of these loads must leave bearerd
// to the others, cost little memory, and leave nothing behind.

// MostMemory is the memory that no load may exceed, in KiB.
const MostMemory = 200 << 10

// FDs counts the process's open file descriptors.
func (p *Process) FDs() int {
	p.T.Helper()
	all, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.Cmd.Process.Pid))
	if err != nil {
		p.T.Fatal(err)
	}
	return len(all)
}

// load is what is watched of a process while greedy clients are at it.
type load struct {
	p               *Process
	Fds, goroutines int // before
	stop            chan struct{}
	polled          chan struct{} // one for each poll, as long as it holds them

	done sync.WaitGroup
	// Of the poller, to be read when it is done.
	polls int
	worst time.Duration
	err   error
}

// Watch notes what the process is like at rest, and polls url by another
// client until end.
func (p *Process) Watch(url string) *load {
	c := NewClient(p.T)
	for range 20 {
		if err := ExpectStatus(c, url, 200); err != nil {
			p.T.Fatal(err)
		}
	}
	c.CloseIdleConnections()
	l := &load{p: p, Fds: p.FDs(), goroutines: int(p.Metric("go_goroutines")), stop: make(chan struct{}), polled: make(chan struct{}, 1<<16)}
	poller := NewClient(p.T)
	// How long it waits is for the log: this process wants the processors too.
	// What it must not do is wait until a load is over.
	poller.Timeout = 10 * time.Second
	l.done.Go(func() {
		defer poller.CloseIdleConnections()
		for tick := time.NewTicker(20 * time.Millisecond); ; {
			began := time.Now()
			if err := ExpectStatus(poller, url, 200); err != nil && l.err == nil {
				l.err = err
			}
			l.worst = max(l.worst, time.Since(began))
			l.polls++
			select {
			case l.polled <- struct{}{}:
			default:
			}
			select {
			case <-tick.C:
			case <-l.stop:
				tick.Stop()
				return
			}
		}
	})
	return l
}

// Wait waits for n more polls.
func (l *load) Wait(n int) {
	l.p.T.Helper()
	for len(l.polled) > 0 {
		<-l.polled
	}
	for range n {
		select {
		case <-l.polled:
		case <-time.After(20 * time.Second):
			l.p.T.Fatal("the other client is not served")
		}
	}
}

// End ends the poller and checks that the load harmed nobody, was cheap, and
// has left nothing.
func (l *load) End() {
	t := l.p.T
	t.Helper()
	close(l.stop)
	l.done.Wait()
	if l.err != nil {
		t.Errorf("the other client: %v", l.err)
	}
	peak := l.p.Memory("VmHWM")
	if peak > MostMemory {
		t.Errorf("peak memory: got %d MiB, want at most %d", peak>>10, MostMemory>>10)
	}
	// A few connections upstream are kept for 30 s; a load has hundreds.
	const few = 40
	var fds, goroutines int
	for deadline := time.Now().Add(10 * time.Second); ; {
		fds, goroutines = l.p.FDs(), int(l.p.Metric("go_goroutines"))
		if fds <= l.Fds+few && goroutines <= l.goroutines+few {
			break
		}
		if time.Now().After(deadline) {
			t.Errorf("still open after 10 s: got %d descriptors and %d goroutines, want about %d and %d", fds, goroutines, l.Fds, l.goroutines)
			break
		}
	}
	t.Logf("%d polls, the longest %v; VmHWM %d MiB; descriptors %d, then %d; goroutines %d, then %d",
		l.polls, l.worst.Round(time.Millisecond), peak>>10, l.Fds, fds, l.goroutines, goroutines)
}
