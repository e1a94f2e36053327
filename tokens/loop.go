package tokens

import (
	"context"
	"math/rand/v2"
	"time"
)

// loop makes the logins that no request asks for: the refresh ahead, the retry
// of a failed login, and the one after a change of a credential file.
func (m *Manager) loop() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var poll <-chan time.Time
	if m.login.watched() {
		ticker := time.NewTicker(pollEvery)
		defer ticker.Stop()
		poll = ticker.C
	}
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-m.wake:
		case <-timer.C:
		case <-poll:
			m.watch()
		}
		if wait, ok := m.due(); ok {
			timer.Reset(wait)
		} else {
			timer.Stop()
		}
	}
}

// look has the loop look again at what is due. It does not block.
func (m *Manager) look() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// due starts the login that is due, or returns the time until one is. A clock
// that crawls must not make the loop spin, hence the least of a millisecond.
func (m *Manager) due() (wait time.Duration, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.flight != nil || m.closed {
		return 0, false // the end of the flight wakes the loop
	}
	wait, ok = m.next(m.clock())
	if ok && wait <= 0 {
		if _, elapsed := m.clock(); m.wanted && elapsed >= m.nextAsked {
			m.logIn()
		} else {
			m.start()
		}
		return 0, false
	}
	return max(wait, time.Millisecond), ok
}

// next returns the time to the next login that is made without being asked for,
// if there is one. The caller holds mu.
func (m *Manager) next(wall time.Time, elapsed time.Duration) (wait time.Duration, ok bool) {
	wait, ok = m.nextUnasked(wall, elapsed)
	if m.wanted {
		if until := m.nextAsked - elapsed; !ok || until < wait {
			return until, true
		}
	}
	return wait, ok
}

// nextUnasked is next, but for the login that a person wants.
func (m *Manager) nextUnasked(wall time.Time, elapsed time.Duration) (wait time.Duration, ok bool) {
	if f := m.failure; f != nil {
		// By the monotonic clock alone: a step of the wall clock must not cost
		// the account an attempt.
		return f.next - elapsed, !f.stopped && !f.waiting
	}
	t := m.current.Load()
	if t == nil {
		return 0, false
	}
	if !m.keepWarm && (t.lastUsed.Load() == 0 || t.over(wall, elapsed)) {
		return 0, false // nobody needs it, or the next request asks for it
	}
	return t.untilRefresh(wall, elapsed), true
}

// start starts a login. There must be none under way, and m must not be closed.
// The caller holds mu.
func (m *Manager) start() *flight {
	m.wanted = false // any login that begins now is the one
	f := &flight{done: make(chan struct{})}
	before, observed := m.observed, make(chan struct{})
	m.flight, m.observed = f, observed
	m.wg.Go(func() {
		defer close(observed)
		<-before
		ctx, cancel := context.WithTimeout(m.ctx, m.login.Timeout)
		defer cancel()
		e, ok := m.end(f, m.attempt(ctx))
		close(f.done)
		m.look()
		if ok && m.observe != nil {
			m.observe(e)
		}
	})
	return f
}

// attempt makes one login with what the sources hold now. ctx is its own, not
// that of a request.
func (m *Manager) attempt(ctx context.Context) outcome {
	r, ok := m.settled(ctx)
	if !ok {
		r.problem = "waiting for the credential files, which keep changing"
	}
	m.mu.Lock()
	m.tried = &r
	if r.problem == "" && (m.used == nil || *m.used != r.credentials) {
		// Others may have been tried since they worked, and locked the account.
		m.used, m.backoff = &r.credentials, backoff{worked: m.worked != nil && *m.worked == r.credentials}
	}
	m.mu.Unlock()
	if r.problem != "" {
		o := failed(r.problem)
		o.waiting = true
		return o
	}
	return m.login.post(ctx, r.credentials, m.clock, m.fallback)
}

// end notes how f ended. ok is false when it ended only because m was closed,
// which is not worth telling.
func (m *Manager) end(f *flight, o outcome) (e Event, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.flight = nil
	if o.result != OK && m.closed {
		f.err = ErrClosed
		return Event{}, false
	}
	wall, elapsed := m.clock()
	wall = wall.Round(0)
	var t *Token
	if o.result == OK {
		t = m.newToken(o)
		if t.over(wall, elapsed) {
			t, o.result, o.cause = nil, Transient, "the token was over before it came"
		}
	}
	if o.skewKnown {
		m.skew, m.skewKnown = o.skew, true
	}
	m.last = o.result
	e = Event{
		Result: o.result, Duration: o.took, Token: t,
		Status: o.status, Cause: o.cause, Skew: o.skew, SkewKnown: o.skewKnown,
		Waiting: o.waiting,
	}
	if o.result == OK {
		m.generation++
		m.backoff.ok()
		m.worked = m.used
		m.failure, m.failingSince = nil, time.Time{}
		m.current.Store(t)
		f.token = t
		e.NextLogin = wall.Add(t.untilRefresh(wall, elapsed))
		return e, true
	}

	if m.failure == nil {
		m.failingSince = wall
	}
	m.failure = m.newFailure(o, elapsed)
	f.err = m.unavailable()
	e.Stopped, e.Rejections, e.FailingSince = m.failure.stopped, m.backoff.rejections, m.failingSince
	if wait, ok := m.next(wall, elapsed); ok {
		e.NextLogin = wall.Add(wait)
	}
	return e, true
}

// newToken makes the next generation's token. The caller holds mu.
func (m *Manager) newToken(o outcome) *Token {
	// Drawn for each token, so that a fleet does not log in at one moment.
	refresh := time.Duration((0.70 + 0.15*rand.Float64()) * float64(o.lifetime))
	authorization := bearerPrefix + o.bearer
	return &Token{
		Generation:    m.generation + 1,
		Lifetime:      o.lifetime,
		Rule:          o.rule,
		Requested:     o.requested,
		Expiry:        o.requested.Add(o.lifetime),
		authorization: func() string { return authorization },
		ends:          o.sent + o.lifetime,
		refresh:       o.requested.Add(refresh),
		refreshAfter:  o.sent + refresh,
	}
}

// newFailure says when the next login after o is due. The caller holds mu.
func (m *Manager) newFailure(o outcome, elapsed time.Duration) *failure {
	f := &failure{kind: o.result, cause: o.cause, waiting: o.waiting, next: elapsed}
	if o.waiting {
		// Nothing was sent: a file that comes back unchanged is not to end the
		// back-off early.
		if m.failure != nil {
			f.next = m.failure.next
		}
		return f
	}
	wait, stop := m.backoff.failed(o.result, o.retryAfter)
	f.next, f.stopped = elapsed+wait, stop
	return f
}
