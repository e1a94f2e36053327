//go:build unix

package fleet_test

import (
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
)

// A fault is what is wrong with a link.
type fault string

const (
	good   fault = ""
	silent fault = "is silent" // what is sent arrives when it is whole again, as TCP has it
	late   fault = "is late"   // by more than a command is given
	cut    fault = "is reset, and refuses"
)

// A link lies between some of a fleet and its engine, at a socket of its own.
type link struct {
	socket, engine string

	mu      sync.Mutex // guards what follows
	fault   fault
	changed chan struct{}
	conns   map[net.Conn]bool
}

func newLink(t *testing.T, engine string) *link {
	l := &link{socket: filepath.Join(bearerdtest.SocketDir(t), "link"), engine: engine, changed: make(chan struct{}), conns: map[net.Conn]bool{}}
	listener, err := net.Listen("unix", l.socket)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() {
		_ = listener.Close()
		l.set(cut)
		wg.Wait()
	})
	wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { l.carry(conn) })
		}
	})
	return l
}

// set has the link fail so from now on.
func (l *link) set(f fault) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fault = f
	close(l.changed)
	l.changed = make(chan struct{})
	if f == cut {
		for conn := range l.conns {
			_ = conn.Close()
		}
	}
}

// carry carries what is sent on one connection.
func (l *link) carry(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	to, err := net.Dial("unix", l.engine)
	if err != nil {
		return
	}
	defer func() { _ = to.Close() }()
	l.mu.Lock()
	if l.fault == cut {
		l.mu.Unlock()
		return
	}
	l.conns[conn] = true
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		delete(l.conns, conn)
		l.mu.Unlock()
	}()
	var wg sync.WaitGroup
	wg.Go(func() { l.copy(to, conn) })
	l.copy(conn, to)
	wg.Wait()
}

func (l *link) copy(to, from net.Conn) {
	defer func() { _, _ = to.Close(), from.Close() }()
	chunk := make([]byte, 4<<10)
	for {
		n, err := from.Read(chunk)
		if err != nil || !l.wait() {
			return
		}
		if _, err := to.Write(chunk[:n]); err != nil {
			return
		}
	}
}

// wait returns when the link lets through what was sent, or false.
func (l *link) wait() bool {
	slow := time.After(400 * time.Millisecond)
	for {
		l.mu.Lock()
		f, changed := l.fault, l.changed
		l.mu.Unlock()
		switch f {
		case good:
			return true
		case cut:
			return false
		case silent:
			<-changed
		case late:
			select {
			case <-slow:
				return true
			case <-changed:
			}
		}
	}
}
