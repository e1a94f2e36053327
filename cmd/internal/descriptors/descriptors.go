// Package descriptors shares out the file descriptors that the system allows, between
// clients and upstream, so that neither can starve the other or a login. It knows
// connections, and nothing of what is sent on them.
package descriptors

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"github.com/bearerd/bearerd/cmd/internal/advice"
	"github.com/bearerd/bearerd/cmd/internal/neterror"
)

// Shares shares out the file descriptors that the system lets this process
// have, so that nobody takes those that others need: each client of the data
// listener may need one more upstream, and whatever clients do, the admin
// listener, a login and the files that it reads find some. With no limit nothing
// is counted.
type Shares struct {
	limit       int // of the process; 0: none
	Data, Admin *Door
	Upstream    *Allotment
}

// What is kept besides connections of clients and upstream.
const (
	// OwnDescriptors are for a login, name servers, files that are read, and the
	// one connection of each listener that waits at its door.
	OwnDescriptors = 16
	// leastAdmin is how many connections the admin listener has at least.
	leastAdmin = 8
	mostAdmin  = 256
	// LeastClients is the least of the data listener, where the limit is too low
	// for all of this.
	LeastClients = 4
)

// shareDescriptors returns how many connections each may have, of limit
// descriptors of which open are taken; 0: as many as come.
func shareDescriptors(limit, open int) (clients, admin int) {
	if limit == 0 {
		return 0, 0
	}
	admin = min(max(limit/8, leastAdmin), mostAdmin)
	return max((limit-open-OwnDescriptors-admin)/2, LeastClients), admin
}

// New shares out limit descriptors, of which open are taken.
func New(limit, open int, log zerolog.Logger) *Shares {
	clients, admin := shareDescriptors(limit, open)
	told := &scarcity{log: log, limit: limit}
	return &Shares{
		limit:    limit,
		Data:     newDoor("data", clients, told),
		Admin:    newDoor("admin", admin, told),
		Upstream: newAllotment(clients),
	}
}

// scarcity tells of descriptors that are short, once a minute at most.
type scarcity struct {
	log   zerolog.Logger
	limit int
	last  atomic.Int64 // when it was told, in ns since 1970
}

const (
	// SayScarce is the log's line.
	SayScarce   = "file descriptors are short"
	scarceEvery = time.Minute
)

// tell writes the line, unless it has been written a moment ago.
func (s *scarcity) tell(cause string) {
	last, now := s.last.Load(), time.Now().UnixNano()
	if now-last < int64(scarceEvery) || !s.last.CompareAndSwap(last, now) {
		return
	}
	e := s.log.Warn().Str("cause", cause)
	if s.limit > 0 {
		e.Int("limit", s.limit)
	}
	e.Str("impact", "the client connections that have been idle longest are closed, and new ones wait until there is room").
		Str("remedy", advice.RaiseLimit).Msg(SayScarce)
}

// An Allotment is how many connections upstream may have at once.
type Allotment struct {
	slots chan struct{} // holds one for each connection; nil: as many as come
	// closeIdle closes those that carry no request. It is set before the first dial.
	CloseIdle func()
}

func newAllotment(most int) *Allotment {
	if most == 0 {
		return &Allotment{}
	}
	return &Allotment{slots: make(chan struct{}, most)}
}

type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// Dialer returns a dialFunc that keeps to the allotment: it makes room for a
// connection by closing idle ones, or waits for it for at most patience.
func (a *Allotment) Dialer(dial dialFunc, patience time.Duration) dialFunc {
	if a.slots == nil {
		return dial
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if err := a.take(ctx, patience); err != nil {
			return nil, err
		}
		conn, err := dial(ctx, network, address)
		if neterror.IsNoDescriptor(err) { // others took those that were kept
			a.CloseIdle()
			conn, err = dial(ctx, network, address)
		}
		if err != nil {
			<-a.slots
			return nil, err
		}
		return &allotted{Conn: conn, give: sync.OnceFunc(func() { <-a.slots })}, nil
	}
}

func (a *Allotment) take(ctx context.Context, patience time.Duration) error {
	select {
	case a.slots <- struct{}{}:
		return nil
	default:
	}
	a.CloseIdle()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case a.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return &net.OpError{Op: "dial", Err: syscall.EMFILE} // as the system would say soon
	}
}

// allotted is a connection that gives its part back when it is closed.
type allotted struct {
	net.Conn
	give func()
}

func (c *allotted) Close() error {
	err := c.Conn.Close()
	c.give()
	return err
}
