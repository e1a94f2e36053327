// Package tokens holds one bearer token for one account. A [Manager] logs in
// with OAuth 2.0 (RFC 6749 4.3 and 4.4), hands the token out, renews it before it
// ends, and sees to it that a failing login neither floods the server nor locks
// the account.
package tokens

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// Clock tells the time: wall is the wall clock, elapsed the monotonic time since
// any fixed start. They are apart because they may go apart: a laptop sleeps, or
// somebody sets the clock. It is called from many goroutines.
type Clock func() (wall time.Time, elapsed time.Duration)

// Options are the options of [New]. Login must be filled in; the zero value of
// each other field works.
type Options struct {
	Login           Login
	DefaultLifetime time.Duration // of a token whose end the server does not tell; 0: 60 s
	Wait            time.Duration // how long a call waits for a login; 0: 15 s
	KeepWarm        bool          // refresh ahead even when nobody used the token
	Clock           Clock         // nil: time.Now, called once each time

	// Observe is called after each login attempt, one call at a time and in
	// order; nil: nobody is told. Those who waited for the login do not wait for
	// Observe, but the next login and Close do: it may call Status, and must not
	// wait for a token or call Close.
	Observe func(Event)
}

// A Manager holds the token of one account. Its methods may be called from any
// goroutine. Make one with [New].
type Manager struct {
	login    *Login // see Format
	fallback time.Duration
	patience time.Duration
	keepWarm bool
	clock    Clock
	observe  func(Event)

	current atomic.Pointer[Token] // the last token, good or over; nil before the first

	ctx    context.Context // of the loop and the logins; ends with Close
	cancel context.CancelFunc
	wake   chan struct{} // tells the loop to look again; holds one
	wg     sync.WaitGroup

	mu           sync.Mutex // guards what follows
	started      bool
	closed       bool
	flight       *flight       // the login under way; nil: none
	observed     chan struct{} // closed when the last flight's Observe has returned
	generation   uint64        // of the last token
	last         Result        // of the last login
	failure      *failure      // why the last login failed; nil when it did not, or none has ended
	failingSince time.Time
	nextAsked    time.Duration // when LogIn may start the next login, by the monotonic clock
	asked        time.Duration // the time at which the logins that LogIn started would all be askEvery apart
	wanted       bool          // LogIn was called before nextAsked; the login is made then
	skew         time.Duration
	skewKnown    bool

	backoff backoff      // of the credentials in used
	used    *credentials // sent last; nil: none yet
	worked  *credentials // sent with the last login that succeeded; nil: none has
	tried   *reading     // what the last login found in the sources
	seen    *reading     // what the last poll found in them
}

// A flight is one login and those who wait for it. token and err are set before
// done is closed.
type flight struct {
	done  chan struct{}
	token *Token
	err   error
}

// A failure says why the last login failed and when the next one is due. It is
// not changed once it is set.
type failure struct {
	kind    Result
	cause   string
	waiting bool          // for a credential file: the poll starts the next login
	stopped bool          // no next login
	next    time.Duration // by the monotonic clock
}

// New returns a Manager that has done nothing yet. Without [Manager.Start] it
// logs in when [Manager.Token], Renew or LogIn ask for it, and neither refreshes
// ahead nor tries again by itself. [Manager.Close] it when done.
func New(o Options) *Manager {
	login := o.Login
	if login.Transport == nil {
		login.Transport = NewTransport(TransportOptions{})
	}
	login.Timeout = orDefault(login.Timeout, 10*time.Second)
	m := &Manager{
		login:    &login,
		fallback: orDefault(o.DefaultLifetime, time.Minute),
		patience: orDefault(o.Wait, 15*time.Second),
		keepWarm: o.KeepWarm,
		clock:    o.Clock,
		observe:  o.Observe,
		wake:     make(chan struct{}, 1),
		observed: make(chan struct{}),
	}
	close(m.observed)
	if m.clock == nil {
		start := time.Now()
		m.clock = func() (time.Time, time.Duration) {
			now := time.Now()
			return now, now.Sub(start)
		}
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	return m
}

func orDefault(d, zero time.Duration) time.Duration {
	if d <= 0 {
		return zero
	}
	return d
}

// Start begins to refresh ahead and to retry failed logins, and makes the first
// login unless there was one. It does not wait for it.
func (m *Manager) Start() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.started || m.closed {
		return
	}
	m.started = true
	m.wg.Go(m.loop)
	if m.flight == nil && m.last == "" {
		m.start()
	}
}

// Close ends the login under way and all waiting, and returns when every
// goroutine of the Manager has ended, a running Observe included.
func (m *Manager) Close() {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.cancel()
	m.wg.Wait()
}

// Token returns a token that is good now. With one at hand it neither locks nor
// allocates. Otherwise it waits for a login, which it starts unless one is under
// way, and which goes on when the caller leaves.
//
// The error is ctx's; [ErrWait] after Options.Wait; an [*Unavailable] at once
// when the last login failed, or as soon as the one waited for does; or
// [ErrClosed].
func (m *Manager) Token(ctx context.Context) (*Token, error) {
	if t := m.good(); t != nil {
		return t, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	if t := m.good(); t != nil { // a login ended in between
		m.mu.Unlock()
		return t, nil
	}
	if err := m.refusal(); err != nil {
		m.mu.Unlock()
		return nil, err
	}
	f := m.flight
	if f == nil {
		f = m.start()
	}
	m.mu.Unlock()
	return m.join(ctx, f)
}

// Renew returns a token newer than the generation refused, for a caller whose
// request came back with 401. It returns one that is there already, or joins the
// login under way, or starts one if may says yes; nil means yes. may is called
// under a lock: it must not block or call the Manager. started is true for the
// one caller whose may led to the login, even if that fails. The refused token
// stays in use until there is another.
//
// The error is [ErrNotRenewed] when may said no, or the last login failed and
// the next one is not for requests to make; else as of [Manager.Token].
func (m *Manager) Renew(ctx context.Context, refused uint64, may func() bool) (t *Token, started bool, err error) {
	if err := ctx.Err(); err != nil {
		return nil, false, err
	}
	m.mu.Lock()
	if t := m.current.Load(); t != nil && t.Generation > refused {
		if t := m.good(); t != nil {
			m.mu.Unlock()
			return t, false, nil
		}
	}
	if m.closed || m.failure != nil {
		m.mu.Unlock()
		return nil, false, ErrNotRenewed
	}
	f := m.flight
	if f == nil {
		if may != nil && !may() {
			m.mu.Unlock()
			return nil, false, ErrNotRenewed
		}
		f, started = m.start(), true
	}
	m.mu.Unlock()
	t, err = m.join(ctx, f)
	return t, started, err
}

// LogIn starts a login, unless one is under way, because a person wants it: it
// lifts a stop and ends a back-off. It does not wait.
//
// A script that calls it in a loop must not lock the account: such logins are at
// least a second apart, and after five there is one a minute. Calls in between
// ask for the next of these, which a Manager that was not started does not make.
func (m *Manager) LogIn() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed || m.flight != nil {
		return
	}
	if _, elapsed := m.clock(); elapsed < m.nextAsked {
		m.wanted = true
		m.look()
		return
	}
	m.logIn()
}

const (
	askEvery = time.Minute // between logins that LogIn starts, in the long run
	askBurst = 5           // of them at once
)

// logIn starts the login that a person wants. The caller holds mu.
func (m *Manager) logIn() {
	_, elapsed := m.clock()
	m.asked = max(m.asked, elapsed) + askEvery
	m.nextAsked = max(elapsed+minBackoff, m.asked-(askBurst-1)*askEvery)
	if m.failure != nil {
		lifted := *m.failure
		lifted.next = elapsed
		lifted.stopped = false
		m.failure = &lifted
	}
	m.start()
}

// Format prints nothing of what m holds, whatever the verb: fmt would print the
// secrets in unexported fields as they are. For a Manager in an unexported field
// it does not ask Format, but then it does not follow the pointers here.
func (m *Manager) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "token manager") }

// good returns the current token, marked as used, or nil when there is none or
// it is over. It needs no lock.
func (m *Manager) good() *Token {
	t := m.current.Load()
	if t == nil {
		return nil
	}
	wall, elapsed := m.clock()
	if t.over(wall, elapsed) {
		return nil
	}
	m.use(t, wall, elapsed)
	return t
}

// use marks t as used. It wakes the loop at the first use, which makes the
// refresh ahead due at its point, and once a second after that point: a wall
// clock that jumped forward moves no timer.
func (m *Manager) use(t *Token, wall time.Time, elapsed time.Duration) {
	now, before := wall.Unix(), t.lastUsed.Load()
	if before == now || !t.lastUsed.CompareAndSwap(before, now) {
		return // another goroutine did it
	}
	if before == 0 || t.untilRefresh(wall, elapsed) <= 0 {
		m.look()
	}
}

// join waits for f.
func (m *Manager) join(ctx context.Context, f *flight) (*Token, error) {
	timer := time.NewTimer(m.patience)
	defer timer.Stop()
	select {
	case <-f.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-timer.C:
		return nil, ErrWait
	}
	if f.token != nil {
		// It was good when it came. To look again could mean a login without end
		// for a token that lives shorter than the way to here.
		wall, elapsed := m.clock()
		m.use(f.token, wall, elapsed)
	}
	return f.token, f.err
}

// refusal returns the error for a request that finds no good token, or nil when
// it may wait for a login. The caller holds mu.
func (m *Manager) refusal() error {
	switch {
	case m.closed:
		return ErrClosed
	case m.failure != nil:
		return m.unavailable()
	}
	return nil
}

// unavailable describes m.failure. The caller holds mu.
func (m *Manager) unavailable() *Unavailable {
	e := &Unavailable{Kind: m.failure.kind, Stopped: m.failure.stopped, Cause: m.failure.cause}
	switch {
	case e.Stopped:
	case m.failure.waiting:
		e.RetryAfter = 2 * pollEvery // two looks must agree
	default:
		_, elapsed := m.clock()
		e.RetryAfter = max(m.failure.next-elapsed, minBackoff)
	}
	return e
}

// Status returns the state of m.
func (m *Manager) Status() Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	wall, elapsed := m.clock()
	wall = wall.Round(0)
	s := Status{
		LastResult:   m.last,
		FailingSince: m.failingSince,
		Rejections:   m.backoff.rejections,
		Skew:         m.skew,
		SkewKnown:    m.skewKnown,
		LoggedInOnce: m.generation > 0,
		LoggingIn:    m.flight != nil,
	}
	if t := m.current.Load(); t != nil {
		s.Generation, s.Good = t.Generation, !t.over(wall, elapsed)
		s.Lifetime, s.Rule = t.Lifetime, t.Rule
		s.Requested, s.Expiry, s.LastUsed = t.Requested, t.Expiry, t.used()
	}
	if f := m.failure; f != nil {
		s.Cause, s.Waiting, s.Stopped = f.cause, f.waiting, f.stopped
	}
	if wait, ok := m.next(wall, elapsed); ok && m.flight == nil {
		s.NextLogin = wall.Add(wait)
	}
	return s
}
