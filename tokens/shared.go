package tokens

import (
	"context"
	"errors"
	"time"
)

// shared is what a Manager knows of its account beside what it would know alone.
// The zero value is for none.
type shared struct {
	account    Account
	known      bool   // account is one
	generation uint64 // of the account's last token, which may have another number here
	logins     uint64 // as in State
	token      *Token // the account's last; nil: none is known
	whole      time.Duration
	early      early
	refused    uint64 // newest generation that a caller of Renew was refused

	cancel context.CancelFunc // ends the waiting for news; nil: nobody waits
}

// use notes whose logins are made from now on.
func (s *shared) use(a Account) {
	if s.known && s.account == a {
		return
	}
	*s = shared{account: a, known: true, refused: s.refused, cancel: s.cancel}
}

// unfollow ends the waiting for news.
func (s *shared) unfollow() {
	if s.cancel != nil {
		s.cancel()
		s.cancel = nil
	}
}

// loggedIn notes a login that brought t. before is the token until then.
func (s *shared) loggedIn(why Reason, t, before *Token, elapsed time.Duration) {
	s.logins++
	s.generation, s.token = t.Generation, t
	if why == AfterRefusal {
		s.early.spend(elapsed)
	} else if before != nil && before.Generation > s.refused {
		s.early.lived(why, elapsed)
	}
}

// refusedLogin notes a login that the server refused, after which the next one
// waits.
func (s *shared) refusedLogin(wait time.Duration) {
	s.logins++
	s.whole = wait
}

// early bounds the logins that tokens cause which are refused before their end,
// for all that share the account: as many at once, and then as far apart, as one
// program alone makes. The zero value has had none.
type early struct {
	spent int
	last  time.Duration // by the monotonic clock, and so is the next
	next  time.Duration
}

const (
	earlyAtOnce = 3
	firstEarly  = 10 * time.Second
	longEarly   = 5 * time.Minute
	earlyLived  = 10 * time.Minute // a token that lived so long did not die early
)

func (e *early) allows(elapsed time.Duration) bool { return e.spent < earlyAtOnce || elapsed >= e.next }

func (e *early) spend(elapsed time.Duration) {
	e.spent++
	e.last = elapsed
	if e.spent >= earlyAtOnce {
		e.next = elapsed + doubled(firstEarly, e.spent-earlyAtOnce, longEarly)
	}
}

// lived notes a login that no refused token caused: the token before was good to
// its refresh ahead, or long enough.
func (e *early) lived(why Reason, elapsed time.Duration) {
	if why == RefreshAhead || elapsed-e.last >= earlyLived {
		*e = early{}
	}
}

// state is what others may know. The caller holds mu.
func (m *Manager) state() State {
	wall, elapsed := m.clock()
	b := m.history.backoff
	s := State{
		Generation: m.shared.generation, Logins: m.shared.logins,
		Rejections: b.rejections, Refused: b.refused, Doubtful: b.doubtful, Worked: b.worked,
		Early: m.shared.early.spent, EarlyWait: max(m.shared.early.next-elapsed, 0),
	}
	if t := m.shared.token; t != nil && !t.over(wall.Round(0), elapsed) {
		s.Token = &Issued{
			Bearer: t.Bearer, Scope: t.Scope, Rule: t.Rule, Lifetime: t.Lifetime,
			Age:  max(elapsed-(t.ends-t.Lifetime), wall.Round(0).Sub(t.Requested)),
			Here: max(wall.Sub(t.Came), 0),
		}
	}
	if f := m.schedule.failure; f != nil && (f.Kind == Rejected || f.Kind == Throttled) {
		s.Failure, s.Whole = *f, m.shared.whole
		if !f.Stopped {
			s.Wait = min(max(m.schedule.retry-elapsed, 0), s.Whole)
		}
	}
	return s
}

var (
	errTurnOver    = errors.New("the turn to log in was over before the login went out")
	errOthersTurns = errors.New("others of this account have been logging in, and none has got a token")
)

// turn waits for the turn to log in. Where others have made that login, turn is
// nil and e tells of it. o is how f ends where there is neither.
func (m *Manager) turn(f *flight) (turn *Turn, e *Event, o *outcome) {
	// One that holds the turn may die, and its successor take as long as a login does.
	ctx, cancel := context.WithTimeout(m.ctx, 2*m.login.Timeout+10*time.Second)
	defer cancel()
	for {
		m.mu.Lock()
		a, known := m.shared.account, m.state()
		m.mu.Unlock()
		found, turn, err := m.store.Turn(ctx, a, known)
		switch {
		case err != nil && ctx.Err() != nil:
			o := unanswered(Cause{Kind: CauseTimeout, Err: errOthersTurns})
			return nil, nil, &o
		case err != nil:
			return &Turn{End: func(State, bool) {}}, nil, nil
		case turn == nil:
			if e, ok := m.adopt(f, found); ok {
				return nil, e, nil
			}
			continue // what they found out is no longer so
		}
		if turn.Common && f.why == AfterRefusal && !m.mayBeEarly(f) {
			turn.End(known, false)
			return nil, nil, nil
		}
		return turn, nil, nil
	}
}

// mayBeEarly reports whether the account may log in for a refused token. If not,
// it ends f.
func (m *Manager) mayBeEarly(f *flight) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, elapsed := m.clock(); m.shared.early.allows(elapsed) {
		return true
	}
	m.flight, f.err = nil, ErrNotRenewed
	return false
}

// adopt takes over what others have found out, which is newer than what m knows:
// a token, or a failure that holds. ok says that f, unless it is nil, has ended by
// it.
func (m *Manager) adopt(f *flight, found State) (e *Event, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now, elapsed := m.clock()
	wall := now.Round(0)
	newer := found.Generation > m.shared.generation
	m.shared.generation, m.shared.logins, m.shared.whole = found.Generation, found.Logins, found.Whole
	m.shared.early = early{spent: found.Early, last: elapsed, next: elapsed + found.EarlyWait}
	b := &m.history.backoff
	b.rejections, b.refused, b.doubtful, b.worked = found.Rejections, found.Refused, found.Doubtful, b.worked || found.Worked

	var t *Token
	if newer {
		m.shared.token = nil
	}
	if i := found.Token; i != nil && newer {
		t = i.token(max(found.Generation, m.generation+1), wall.Add(-i.Age), elapsed-i.Age, now.Add(-i.Here))
		if t.over(wall, elapsed) {
			t = nil
		}
	}
	holds := found.Holds()
	if t == nil && !holds || m.closed {
		return nil, false
	}
	e = &Event{Why: Adopted, Token: t}
	if f != nil {
		m.flight = nil
	}
	if t != nil {
		m.shared.token = t
		m.history.succeeded()
		b.rejections, b.refused, b.doubtful = found.Rejections, found.Refused, found.Doubtful
		m.schedule.succeeded()
		m.take(f, t)
		e.Worked = true
		e.NextLogin = wall.Add(t.untilRefresh(wall, elapsed))
	}
	if holds {
		failure := found.Failure
		m.schedule.failed(failure, elapsed+found.Wait)
		if t == nil {
			e.Failure = failure
			if !failure.Stopped {
				e.NextLogin = wall.Add(found.Wait)
			}
			if f != nil {
				f.err = m.schedule.unavailable(elapsed)
			}
		}
		m.follow()
	}
	return e, true
}

// follow waits for news of the account while logins fail. The caller holds mu.
func (m *Manager) follow() {
	if _, nobody := m.store.(alone); nobody || m.closed || !m.started || !m.shared.known || m.shared.cancel != nil {
		return
	}
	ctx, cancel := context.WithCancel(m.ctx)
	m.shared.cancel = cancel
	a, known := m.shared.account, m.state()
	m.wg.Go(func() {
		defer cancel()
		found, err := m.store.News(ctx, a, known)
		if err != nil {
			return
		}
		m.news(ctx, a, found)
	})
}

// news takes over what News found for a. ctx has ended when a login has begun since.
func (m *Manager) news(ctx context.Context, a Account, found State) {
	m.mu.Lock()
	if ctx.Err() != nil || m.closed || m.flight != nil || m.shared.account != a {
		m.mu.Unlock()
		return
	}
	m.shared.unfollow()
	f := newFlight(Adopted)
	before, observed := m.observed, make(chan struct{})
	m.flight, m.observed = f, observed
	m.mu.Unlock()
	defer close(observed)
	<-before
	e, ok := m.adopt(f, found)
	if !ok {
		// There is neither a token nor a reason to wait: the next request, or the
		// schedule, logs in.
		m.mu.Lock()
		m.flight = nil
		f.token, f.err = nil, m.refusalOr(ErrNotRenewed)
		m.follow()
		m.mu.Unlock()
	}
	close(f.done)
	m.look()
	if e != nil && m.observe != nil {
		m.observe(*e)
	}
}

// refusalOr is refusal, or other where there is none. The caller holds mu.
func (m *Manager) refusalOr(other error) error {
	if err := m.refusal(); err != nil {
		return err
	}
	return other
}

// watchTurn calls cancel when turn is over. It is to be ended by what it returns.
func watchTurn(turn *Turn, cancel context.CancelFunc) (end func()) {
	done := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(100 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				if turn.Over() {
					cancel()
					return
				}
			}
		}
	}()
	return func() { close(done); <-ended }
}
