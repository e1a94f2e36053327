package main

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
)

// running counts what runs. Unlike a WaitGroup it may be begun and waited for
// at the same time. Make it with newRunning.
type running struct {
	n    atomic.Int64
	zero chan struct{} // holds one when n has fallen to 0
}

func newRunning() *running { return &running{zero: make(chan struct{}, 1)} }

func (r *running) begin() { r.n.Add(1) }

func (r *running) end() {
	if r.n.Add(-1) == 0 {
		select {
		case r.zero <- struct{}{}:
		default:
		}
	}
}

// wait waits until nothing runs, or ctx ends. One goroutine may wait at a time.
func (r *running) wait(ctx context.Context) {
	for r.n.Load() > 0 {
		select {
		case <-r.zero:
		case <-ctx.Done():
			return
		}
	}
}

// connSet holds connections that have sent nothing yet: net/http's Shutdown
// takes them for busy for their first 5 s (server.go, closeIdleConns).
type connSet struct {
	n atomic.Int64 // of conns; read without the lock, as net/http calls observe twice a request

	mu     sync.Mutex // guards all below
	conns  map[net.Conn]bool
	closed bool
}

func (c *connSet) observe(conn net.Conn, state http.ConnState) {
	if state != http.StateNew && c.n.Load() == 0 {
		return
	}
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
	c.n.Store(int64(len(c.conns)))
}

func (c *connSet) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for conn := range c.conns {
		_ = conn.Close()
	}
	clear(c.conns)
	c.n.Store(0)
}
