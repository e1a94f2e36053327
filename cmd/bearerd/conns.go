package main

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
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

// firstRequest is how long a new connection may take to send its first request
// once bearerd stops. That of a client who has just connected is on its way, and
// to close the connection would fail it.
const firstRequest = time.Second

// silentConns holds connections that have sent nothing yet. Once net/http's
// Shutdown has begun, it drops what they send and waits 5 s for those that send
// nothing (server.go, serve and closeIdleConns). Make it with newSilentConns.
type silentConns struct {
	count *running // of conns; read without the lock, as net/http calls observe twice a request

	mu    sync.Mutex             // guards conns
	conns map[net.Conn]time.Time // since when
}

func newSilentConns() *silentConns {
	return &silentConns{count: newRunning(), conns: make(map[net.Conn]time.Time)}
}

func (c *silentConns) observe(conn net.Conn, state http.ConnState) {
	if state != http.StateNew && c.count.n.Load() == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if state == http.StateNew {
		c.conns[conn] = time.Now()
		c.count.begin()
	} else if _, ok := c.conns[conn]; ok {
		delete(c.conns, conn)
		c.count.end()
	}
}

// settle waits until each connection has sent a request or has had its time,
// and is closed. No further connection may come. It returns early when ctx ends.
func (c *silentConns) settle(ctx context.Context) {
	c.mu.Lock()
	for conn, since := range c.conns {
		timer := time.AfterFunc(time.Until(since.Add(firstRequest)), func() { c.close(conn) })
		defer timer.Stop()
	}
	c.mu.Unlock()
	c.count.wait(ctx)
}

func (c *silentConns) close(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.conns[conn]; ok {
		_ = conn.Close()
	}
}
