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

// Options are the options of [New]. Login must be filled in; the zero value of
// each other field works.
type Options struct {
	Login           Login
	DefaultLifetime time.Duration // of a token whose end the server does not tell; 0: 60 s
	Wait            time.Duration // how long a call waits for a login; 0: 15 s
	KeepWarm        bool          // refresh ahead even when nobody used the token
	Clock           Clock         // nil: time.Now, called once each time
	Store           Store         // what others of the account, or this one's successor, shall know; nil: nothing

	// Observe is called after each login attempt, one call at a time and in
	// order; nil: nobody is told. Those who waited for the login do not wait for
	// Observe, but the next login and Close do: it may call Status, and must not
	// wait for a token or call Close.
	Observe func(Event)
}

// A Manager holds the token of one account. Its methods may be called from any
// goroutine. Make one with [New].
//
// Who finds a good token takes no lock. Everything else goes by mu, which is held
// for memory alone, never while a file is read, the server is asked or somebody
// is told. What mu guards has methods of its own that know nothing of it: a
// method of Manager either takes mu, or its comment says that the caller holds it.
type Manager struct {
	login    *Login // see Format
	fallback time.Duration
	patience time.Duration
	clock    Clock
	observe  func(Event)
	store    Store

	current atomic.Pointer[Token] // the last token, good or over; nil before the first
	before  atomic.Pointer[Token] // the one before it, likewise; stored first

	ctx    context.Context // of the loop and the logins; ends with Close
	cancel context.CancelFunc
	wake   chan struct{} // tells the loop to look again; holds one
	wg     sync.WaitGroup

	mu         sync.Mutex // guards what follows
	started    bool
	closed     bool
	flight     *flight       // the login under way; nil: none
	observed   chan struct{} // closed when the last flight's Observe has returned
	generation uint64        // of the last token
	skew       time.Duration
	skewKnown  bool
	schedule   schedule
	history    history
	files      watch
	shared     shared // with the others of the account
}

// New returns a Manager that has done nothing yet. Without [Manager.Start] it
// logs in when [Manager.Token], Renew or LogInAgain ask for it, and neither refreshes
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
		schedule: schedule{keepWarm: o.KeepWarm},
		clock:    o.Clock,
		observe:  o.Observe,
		store:    o.Store,
		wake:     make(chan struct{}, 1),
		observed: make(chan struct{}),
	}
	close(m.observed)
	if m.store == nil {
		m.store = alone{}
	}
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
	if m.flight == nil && m.generation == 0 && m.schedule.failure == nil {
		m.begin(AtStart)
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
		f = m.begin(ForRequest)
	}
	m.mu.Unlock()
	return m.join(ctx, f)
}

// Before returns the token before that of generation if it is good still, else
// nil. It is for a server that does not take the newer one yet. It does not block.
func (m *Manager) Before(generation uint64) *Token {
	t := m.before.Load()
	if t == nil || t.Generation >= generation || t.over(m.clock()) {
		return nil
	}
	return t
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
	m.shared.refused = max(m.shared.refused, refused)
	if t := m.current.Load(); t != nil && t.Generation > refused {
		if t := m.good(); t != nil {
			m.mu.Unlock()
			return t, false, nil
		}
	}
	if m.closed || m.schedule.failure != nil {
		m.mu.Unlock()
		return nil, false, ErrNotRenewed
	}
	f := m.flight
	if f == nil {
		if may != nil && !may() {
			m.mu.Unlock()
			return nil, false, ErrNotRenewed
		}
		f, started = m.begin(AfterRefusal), true
	}
	m.mu.Unlock()
	t, err = m.join(ctx, f)
	return t, started, err
}

// LogInAgain starts a login, unless one is under way, because a person wants it:
// it lifts a stop and ends a back-off. It does not wait.
//
// A script that calls it in a loop must not lock the account: such logins are at
// least a second apart, and after five there is one a minute. Calls in between
// ask for the next of these, which a Manager that was not started does not make.
func (m *Manager) LogInAgain() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed || m.flight != nil {
		return
	}
	if _, elapsed := m.clock(); m.schedule.operator.ask(elapsed) {
		m.begin(Asked)
	} else {
		m.look()
	}
}

// CertificateChanged tells m that Login.Transport now shows another client
// certificate. It earns one login where the last one was rejected, and the stop or
// back-off stays as it was: it is another proof of the same client.
func (m *Manager) CertificateChanged() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.schedule.earn(m.flight != nil)
	m.look()
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
	t, err := f.wait(ctx, m.patience)
	if t != nil {
		// It was good when it came. To look again could mean a login without end
		// for a token that lives shorter than the way to here.
		wall, elapsed := m.clock()
		m.use(t, wall, elapsed)
	}
	return t, err
}

// refusal returns the error for a request that finds no good token, or nil when
// it may wait for a login. The caller holds mu.
func (m *Manager) refusal() error {
	switch {
	case m.closed:
		return ErrClosed
	case m.schedule.failure != nil:
		_, elapsed := m.clock()
		return m.schedule.unavailable(elapsed)
	}
	return nil
}

// Status returns the state of m.
func (m *Manager) Status() Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	wall, elapsed := m.clock()
	wall = wall.Round(0)
	s := Status{
		Skew:         m.skew,
		SkewKnown:    m.skewKnown,
		LoggedInOnce: m.generation > 0,
		LoggingIn:    m.flight != nil,
	}
	t := m.current.Load()
	if t != nil {
		s.Generation, s.Good = t.Generation, !t.over(wall, elapsed)
		s.Lifetime, s.Rule = t.Lifetime, t.Rule
		s.Requested, s.Expiry, s.LastUsed = t.Requested, t.Expiry, t.used()
	}
	if f := m.schedule.failure; f != nil {
		s.Failure = *f
	}
	// A login under way may be with others than the failure's.
	s.Rejections, s.Worked = m.history.backoff.rejections, m.history.backoff.worked
	if wait, ok := m.schedule.next(t, wall, elapsed); ok && m.flight == nil {
		s.NextLogin = wall.Add(wait)
	}
	return s
}

// loop makes the logins that no request asks for: those of the schedule, and the
// one after a change of a credential file.
func (m *Manager) loop() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var poll <-chan time.Time
	if m.login.sources().watched() {
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
			m.poll()
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
	wall, elapsed := m.clock()
	wait, ok = m.schedule.next(m.current.Load(), wall, elapsed)
	if ok && wait <= 0 {
		m.begin(m.schedule.why(elapsed))
		return 0, false
	}
	return max(wait, time.Millisecond), ok
}

// poll looks at the credential files and stores, and starts the login that a change
// of them is worth.
func (m *Manager) poll() {
	m.mu.Lock()
	failing := m.schedule.failure != nil
	m.mu.Unlock()
	r := m.login.sources().look(failing)
	m.mu.Lock()
	defer m.mu.Unlock()
	failure := m.schedule.failure
	if m.flight != nil || m.closed {
		failure = nil // a change is worth nothing now
	}
	_, elapsed := m.clock()
	switch m.files.poll(r, &m.history, failure, elapsed >= m.schedule.retry) {
	case worthLogin:
		m.begin(ForCredentials)
	case worthProof:
		m.schedule.earn(false)
	}
}

// begin begins a login. There must be none under way, and m must not be closed.
// The caller holds mu.
func (m *Manager) begin(why Reason) *flight {
	_, elapsed := m.clock()
	m.schedule.begin(why, elapsed)
	m.shared.unfollow()
	f := newFlight(why)
	before, observed := m.observed, make(chan struct{})
	m.flight, m.observed = f, observed
	m.wg.Go(func() {
		defer close(observed)
		<-before
		e, end := m.attempt(f)
		close(f.done)
		m.look()
		end()
		if e != nil && m.observe != nil {
			m.observe(*e)
		}
	})
	return f
}

// attempt makes one login with what the sources hold now, unless others have made
// it. e is nil when there is nothing to tell: m was closed, say. end is to be
// called when those who wait for f know of it.
func (m *Manager) attempt(f *flight) (e *Event, end func()) {
	none := func() {}
	r := m.reading(f.why)
	if r.problem != "" {
		kind := CauseFile
		switch {
		case r.short:
			kind = CauseDescriptor
		case r.stored != nil:
			kind = CauseStore
		}
		o := unanswered(Cause{Kind: kind, Problem: r.problem, Err: r.stored})
		o.Waiting = true
		return m.end(f, o), none
	}
	turn, e, o := m.turn(f)
	if o != nil {
		return m.end(f, *o), none
	}
	if turn == nil {
		return e, none
	}
	ctx, cancel := context.WithTimeout(m.ctx, m.login.Timeout)
	defer cancel()
	if turn.Over != nil {
		defer watchTurn(turn, cancel)()
	}
	e = m.end(f, m.login.post(ctx, r.credentials, m.clock, m.fallback, turn.Over))
	m.mu.Lock()
	s := m.state()
	m.mu.Unlock()
	return e, func() { turn.End(s, e == nil) }
}

// reading reads the credentials that a login is made with, and notes them.
func (m *Manager) reading(why Reason) reading {
	ctx, cancel := context.WithTimeout(m.ctx, m.login.Timeout)
	defer cancel()
	m.mu.Lock()
	tried := m.files.tried
	m.mu.Unlock()
	r, ok := settle(ctx, m.login.sources(), tried, why == AtStart || why == Asked)
	if !ok {
		r.problem = "waiting for the credential files, which keep changing"
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.files.tried = &r
	if r.problem == "" {
		m.history.use(r.credentials)
		m.shared.use(m.login.account(r.credentials))
	}
	return r
}

// end notes how f ended. It returns nil when it ended only because m was closed,
// which is not worth telling.
func (m *Manager) end(f *flight, o outcome) *Event {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.flight = nil
	if o.Kind != "" && m.closed {
		f.err = ErrClosed
		return nil
	}
	came, elapsed := m.clock()
	wall := came.Round(0)
	var t *Token
	if o.Kind == "" {
		t = o.newToken(max(m.generation, m.shared.generation)+1, came)
		if t.over(wall, elapsed) {
			t, o.Failure = nil, Failure{Kind: Transient, Cause: Cause{Kind: CauseTokenOver, Status: o.status}}
		}
	}
	if o.skewKnown {
		m.skew, m.skewKnown = o.skew, true
	}
	e := Event{
		Why: f.why, Token: t, Duration: o.took,
		Status: o.status, Skew: o.skew, SkewKnown: o.skewKnown,
	}
	if t != nil {
		m.shared.loggedIn(f.why, t, m.current.Load(), elapsed)
		m.history.succeeded()
		m.schedule.succeeded()
		m.take(f, t)
		e.Worked = true
		e.NextLogin = wall.Add(t.untilRefresh(wall, elapsed))
		return &e
	}
	e.Failure = m.fail(o, wall, elapsed)
	f.err = m.schedule.unavailable(elapsed)
	if wait, ok := m.schedule.next(m.current.Load(), wall, elapsed); ok {
		e.NextLogin = wall.Add(wait)
	}
	m.follow()
	return &e
}

// take puts t into use, which f brought. The caller holds mu.
func (m *Manager) take(f *flight, t *Token) {
	m.generation = t.Generation
	m.before.Store(m.current.Load())
	m.current.Store(t)
	if f != nil {
		f.token = t
	}
}

// fail notes a login that failed, and says all that is known of it. The caller
// holds mu.
func (m *Manager) fail(o outcome, wall time.Time, elapsed time.Duration) Failure {
	f, retry := o.Failure, elapsed
	f.FailingSince = wall
	if last := m.schedule.failure; last != nil {
		f.FailingSince = last.FailingSince
		if f.Waiting {
			// Nothing was sent: a file that comes back unchanged is not to end the
			// back-off early.
			retry = m.schedule.retry
		}
	}
	if !f.Waiting {
		var wait time.Duration
		wait, f.Stopped = m.history.backoff.failed(f, o.retryAfter)
		retry += wait
		if f.Kind != Transient {
			m.shared.refusedLogin(wait)
		}
	}
	f.Rejections, f.Worked = m.history.backoff.rejections, m.history.backoff.worked
	m.schedule.failed(f, retry)
	return f
}
