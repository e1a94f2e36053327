package main

import (
	"net"
	"net/http"
	"sync"
)

// running counts what runs. Unlike a WaitGroup it may be begun and waited for
// at the same time.
type running struct {
	mu   sync.Mutex // guards all below
	n    int
	zero chan struct{} // closed when n falls to 0; nil: nobody waits
}

func (r *running) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n++
}

func (r *running) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.n--; r.n == 0 && r.zero != nil {
		close(r.zero)
		r.zero = nil
	}
}

// idle returns a channel that is closed as soon as nothing runs.
func (r *running) idle() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.zero != nil {
		return r.zero
	}
	zero := make(chan struct{})
	if r.n == 0 {
		close(zero)
	} else {
		r.zero = zero
	}
	return zero
}

// connSet holds connections that have sent nothing yet: net/http's Shutdown
// takes them for busy for their first 5 s (server.go, closeIdleConns).
type connSet struct {
	mu     sync.Mutex // guards all below
	conns  map[net.Conn]bool
	closed bool
}

func (c *connSet) observe(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case state != http.StateNew:
		delete(c.conns, conn)
	case c.closed:
		_ = conn.Close()
	default:
		if c.conns == nil {
			c.conns = make(map[net.Conn]bool)
		}
		c.conns[conn] = true
	}
}

func (c *connSet) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for conn := range c.conns {
		_ = conn.Close()
	}
	clear(c.conns)
}
