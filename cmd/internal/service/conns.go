package service

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/descriptors"
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

// silentConns holds connections whose first request has not come to its handler
// yet. Once net/http's Shutdown has begun, it drops what they send and waits 5 s
// for those that send nothing (server.go, serve and closeIdleConns). Make it with
// newSilentConns.
type silentConns struct {
	count *running // of conns; read without the lock, as net/http calls observe twice a request

	mu    sync.Mutex // guards conns
	conns map[net.Conn]silence
}

type silence struct {
	since time.Time
	over  bool // its first request is there
}

func newSilentConns() *silentConns {
	return &silentConns{count: newRunning(), conns: make(map[net.Conn]silence)}
}

// watch has c know of s's connections.
func (c *silentConns) watch(s *http.Server) {
	s.ConnState = c.observe
	s.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		return context.WithValue(ctx, connKey{}, conn)
	}
	next := s.Handler
	s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c.count.n.Load() > 0 {
			if conn, ok := r.Context().Value(connKey{}).(net.Conn); ok {
				c.forget(conn)
			}
		}
		next.ServeHTTP(w, r)
	})
}

type connKey struct{}

func (c *silentConns) observe(conn net.Conn, state http.ConnState) {
	switch {
	case state == http.StateNew:
		c.mu.Lock()
		defer c.mu.Unlock()
		c.conns[conn] = silence{since: time.Now()}
		c.count.begin()
	case c.count.n.Load() == 0:
	case state == http.StateActive: // net/http looks once more whether it stops, and drops the request then
		c.mu.Lock()
		defer c.mu.Unlock()
		if s, ok := c.conns[conn]; ok {
			s.over = true
			c.conns[conn] = s
		}
	default:
		c.forget(conn)
	}
}

func (c *silentConns) forget(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.conns[conn]; ok {
		delete(c.conns, conn)
		c.count.end()
	}
}

// settle waits until the first request of each connection has come to its handler,
// or the connection has had its time, and is closed. No further connection may
// come. It returns early when ctx ends.
func (c *silentConns) settle(ctx context.Context) {
	c.mu.Lock()
	for conn, s := range c.conns {
		timer := time.AfterFunc(time.Until(s.since.Add(descriptors.FirstRequest)), func() { c.close(conn) })
		defer timer.Stop()
	}
	c.mu.Unlock()
	c.count.wait(ctx)
}

func (c *silentConns) close(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s, ok := c.conns[conn]; ok && !s.over {
		_ = conn.Close()
	}
}
