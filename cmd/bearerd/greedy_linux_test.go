package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

// Clients that are slow, or want much. Each of these loads must leave bearerd
// to the others, cost little memory, and leave nothing behind.

// most is the memory that no load may exceed, in KiB.
const most = 200 << 10

// fds counts the process's open file descriptors.
func (p *process) fds() int {
	p.t.Helper()
	all, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	return len(all)
}

// load is what is watched of a process while greedy clients are at it.
type load struct {
	p               *process
	fds, goroutines int // before
	stop            chan struct{}
	polled          chan struct{} // one for each poll, as long as it holds them

	done sync.WaitGroup
	// Of the poller, to be read when it is done.
	polls int
	worst time.Duration
	err   error
}

// watch notes what the process is like at rest, and polls url by another
// client until end.
func (p *process) watch(url string) *load {
	c := newClient(p.t)
	for range 20 {
		if err := expectStatus(c, url, 200); err != nil {
			p.t.Fatal(err)
		}
	}
	c.CloseIdleConnections()
	l := &load{p: p, fds: p.fds(), goroutines: int(p.metric("go_goroutines")), stop: make(chan struct{}), polled: make(chan struct{}, 1<<16)}
	poller := newClient(p.t)
	// How long it waits is for the log: this process wants the processors too.
	// What it must not do is wait until a load is over.
	poller.Timeout = 10 * time.Second
	l.done.Go(func() {
		defer poller.CloseIdleConnections()
		for tick := time.NewTicker(20 * time.Millisecond); ; {
			began := time.Now()
			if err := expectStatus(poller, url, 200); err != nil && l.err == nil {
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

// wait waits for n more polls.
func (l *load) wait(n int) {
	l.p.t.Helper()
	for len(l.polled) > 0 {
		<-l.polled
	}
	for range n {
		select {
		case <-l.polled:
		case <-time.After(20 * time.Second):
			l.p.t.Fatal("the other client is not served")
		}
	}
}

// end ends the poller and checks that the load harmed nobody, was cheap, and
// has left nothing.
func (l *load) end() {
	t := l.p.t
	t.Helper()
	close(l.stop)
	l.done.Wait()
	if l.err != nil {
		t.Errorf("the other client: %v", l.err)
	}
	peak := l.p.memory("VmHWM")
	if peak > most {
		t.Errorf("peak memory: got %d MiB, want at most %d", peak>>10, most>>10)
	}
	// A few connections upstream are kept for 30 s; a load has hundreds.
	const few = 40
	var fds, goroutines int
	for deadline := time.Now().Add(10 * time.Second); ; {
		fds, goroutines = l.p.fds(), int(l.p.metric("go_goroutines"))
		if fds <= l.fds+few && goroutines <= l.goroutines+few {
			break
		}
		if time.Now().After(deadline) {
			t.Errorf("still open after 10 s: got %d descriptors and %d goroutines, want about %d and %d", fds, goroutines, l.fds, l.goroutines)
			break
		}
	}
	t.Logf("%d polls, the longest %v; VmHWM %d MiB; descriptors %d, then %d; goroutines %d, then %d",
		l.polls, l.worst.Round(time.Millisecond), peak>>10, l.fds, fds, l.goroutines, goroutines)
}

// heavy skips a test whose figures the race detector changes.
func heavy(t *testing.T, why string) {
	t.Helper()
	if testing.Short() || len(buildFlags) > 0 {
		t.Skip(why)
	}
}

// Each sends a byte of its header now and then (slowloris), and is closed
// after 10 s all the same.
func TestFaultManySlowHeaderClients(t *testing.T) {
	heavy(t, "takes 10 s")
	t.Parallel()
	w := newWorld(t, querysim.Options{}, http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprint(rw, "ok") }))
	p := w.start(t, w.env("vyopta")...)
	l := p.watch(p.url + "/")
	before := l.fds
	err := many(500, func(i int) error {
		conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
		if err != nil {
			return err
		}
		defer conn.Close()
		began := time.Now()
		_ = conn.SetDeadline(began.Add(20 * time.Second))
		closed := make(chan error, 1)
		go func() {
			_, err := io.Copy(io.Discard, conn)
			closed <- err
		}()
		_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case err := <-closed:
				if err != nil && !errors.Is(err, syscall.ECONNRESET) {
					return fmt.Errorf("connection %d: %w, want it closed", i, err)
				}
				if held := time.Since(began); held < 8*time.Second || held > 13*time.Second {
					return fmt.Errorf("connection %d was closed after %v, want 10 s", i, held)
				}
				return nil
			case <-tick.C:
				if held := time.Since(began); i == 0 && held > 5*time.Second && held < 8*time.Second && p.fds() < before+500 {
					return fmt.Errorf("got %d descriptors after %v, want all connections open", p.fds(), held)
				}
				_, _ = io.WriteString(conn, "x")
			}
		}
	})
	if err != nil {
		t.Error(firstLines(err))
	}
	l.end()
}

// Each takes a little of a large answer at a time: bearerd holds no more of it
// than its buffers.
func TestFaultManySlowReaders(t *testing.T) {
	heavy(t, "moves 1 GiB")
	const readers, patient, size = 500, 10, 10 << 20
	body := make([]byte, size)
	w := newWorld(t, querysim.Options{}, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/large" {
			fmt.Fprint(rw, "ok")
			return
		}
		rw.Header().Set("Content-Length", strconv.Itoa(size))
		_, _ = rw.Write(body)
	}))
	p := w.start(t, w.env("vyopta")...)
	l := p.watch(p.url + "/")

	var reading sync.WaitGroup // until each has had a part
	reading.Add(readers)
	enough := make(chan struct{}) // closed when the slow time is over
	slow := make(chan error, 1)
	go func() {
		slow <- many(readers, func(i int) error {
			began := false
			defer func() {
				if !began {
					reading.Done()
				}
			}()
			dialer := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
				var err error
				return errors.Join(c.Control(func(fd uintptr) {
					err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 16<<10)
				}), err)
			}}
			transport := &http.Transport{DialContext: dialer.DialContext, ReadBufferSize: 1 << 10}
			defer transport.CloseIdleConnections()
			resp, err := (&http.Client{Transport: transport}).Get(p.url + "/large")
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			part := make([]byte, 1<<10)
			total := 0
			tick := time.NewTicker(200 * time.Millisecond)
			defer tick.Stop()
			for {
				n, err := io.ReadFull(resp.Body, part)
				total += n
				if err != nil {
					return fmt.Errorf("reader %d: %w", i, err)
				}
				if !began {
					began = true
					reading.Done()
				}
				select {
				case <-tick.C:
					continue
				case <-enough:
				}
				break
			}
			if i >= patient {
				return nil // leaves
			}
			rest, err := io.Copy(io.Discard, resp.Body)
			if total += int(rest); err != nil || total != size {
				return fmt.Errorf("reader %d: got %d bytes and %v, want %d", i, total, err, size)
			}
			return nil
		})
	}()
	reading.Wait()
	if got := p.fds(); got < l.fds+2*readers {
		t.Errorf("descriptors: got %d, want those of %d clients and as many upstream", got, readers)
	}
	l.wait(100)
	close(enough)
	if err := <-slow; err != nil {
		t.Error(firstLines(err))
	}
	l.end()
}

// Larger than REPLAY_BUFFER, each is announced and then streamed: bearerd holds
// none of them. On a revoked token all is as well after one login more, but for
// a body that had gone before upstream's 401 came, which here it may take more
// than a second for: that client sends it again.
func TestFaultThousandLargeUploads(t *testing.T) {
	heavy(t, "moves 10 GiB")
	w := newWorld(t, querysim.Options{}, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(rw, n)
	}))
	p := w.start(t, w.env("vyopta")...)
	l := p.watch(p.url + "/")
	c := newClient(t)
	const size = 10 << 20
	body := make([]byte, size)
	var again atomic.Int64
	w.sim.Revoke()
	err := many(1000, func(i int) error {
		for attempt := 0; ; attempt++ {
			resp, err := c.Post(p.url+"/up", "application/octet-stream", bytes.NewReader(body))
			if err != nil {
				return err
			}
			got, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err == nil && resp.StatusCode == 200 && string(got) == strconv.Itoa(size) {
				return nil
			}
			if attempt < 3 && strings.Contains(resp.Header.Get("Proxy-Status"), "reauthenticated_not_replayed") {
				again.Add(1)
				continue
			}
			return fmt.Errorf("upload %d: got %d %.100q %v, want 200 and %d", i, resp.StatusCode, got, err, size)
		}
	})
	if err != nil {
		t.Error(firstLines(err))
	}
	c.CloseIdleConnections()
	l.end()
	t.Logf("sent again by their clients: %d", again.Load())
	if got := w.sim.Stats(); got.Logins != 2 {
		t.Errorf("logins: got %d, want 2", got.Logins)
	}
}
