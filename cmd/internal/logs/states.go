package logs

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/bearerd/bearerd/cmd/internal/advice"
	"github.com/bearerd/bearerd/cmd/internal/display"
	"github.com/bearerd/bearerd/proxy"
	"github.com/bearerd/bearerd/tokens"
)

// What a States says. docs/operations.md tells what to do about each.
const (
	SayLoggedIn        = "logged in"
	SayRenewed         = "token renewed"
	sayLoginFailed     = "login failed"
	sayLoginWaits      = "login waits for a file"
	SayLoginRejected   = "login rejected"
	sayLoginStopped    = "login stopped"
	SayLoginWorks      = "login works again"
	SaySharedLost      = "shared engine lost"
	SaySharedFound     = "shared engine found"
	SaySharedEntry     = "shared entry unreadable"
	SayStateDir        = "state folder fails"
	SayNoToken         = "requests fail: no token"
	SayUpstreamFails   = "upstream fails"
	SayTokensDie       = "tokens die early"
	sayUpstreamAnswers = "upstream answers again"
	sayClockDiffers    = "local clock differs from the login server's"
	sayClockAgrees     = "local clock agrees with the login server's again"
)

const (
	// maxCauses bounds what is remembered of one episode, and the lines that it
	// can cost.
	maxCauses = 16
	// upstreamCalm is the time without a failure that ends upstream's episode:
	// one that fails now and then is not to write two lines for each time.
	upstreamCalm = 30 * time.Second
	// shortLivedCalm is the time without a token that died early after which the
	// next one is told of again.
	shortLivedCalm = time.Hour
	// clockRight is the clock skew below which a clock that was wrong is right
	// again: one near advice.ClockWrong is not to write a line for each token.
	clockRight = 3 * time.Second
)

// States logs what changes in the state of the login and of upstream: a line a
// change, however many requests and attempts there are. What changes nothing is
// counted, and told when the trouble is over; a login that fails once more is
// for the debug level.
type States struct {
	Logger zerolog.Logger
	Status func() tokens.Status // of the token manager; set it before there are requests or logins
	Ending func() bool          // bearerd itself cuts answers short; nil: never
	Way    advice.Way

	upstreamFails atomic.Bool // upstream.failures > 0; a good request looks no further

	mu        sync.Mutex // guards all below; never held while a line is written
	logins    episode
	upstream  episode
	loginOnce bool // a login has succeeded
	lost      int  // requests answered with an error for want of a token since a login succeeded
	clockOff  bool
	died      time.Time // when a request last told of tokens that die early
}

// episode is a time in which something fails. The zero value is one in which
// nothing does.
type episode struct {
	since, last time.Time // the first failure and the last
	failures    int
	causes      []string // seen so far, at most maxCauses
}

// add notes the cause of a failure, and reports whether it is a new one. Causes
// that alternate are each new once.
func (ep *episode) add(cause string) bool {
	if slices.Contains(ep.causes, cause) || len(ep.causes) == maxCauses {
		return false
	}
	ep.causes = append(ep.causes, cause)
	return true
}

// stateLine is a line that is yet to be written. The zero value is none.
type stateLine struct {
	event   *zerolog.Event
	message string
}

func (n stateLine) write() { n.event.Msg(n.message) }

// Login takes note of a login that ended: tokens.Options.Observe.
func (l *States) Login(ev tokens.Event) {
	l.mu.Lock()
	clock := l.clock(ev)
	var login stateLine
	if ev.Result() == tokens.OK {
		login = l.loginSucceeded(ev)
	} else {
		login = l.loginFailed(ev)
	}
	l.mu.Unlock()
	login.write()
	clock.write()
}

// Request takes note of a request that ended: proxy.Options.Done. One that
// nothing is wrong with costs an atomic load.
func (l *States) Request(ex *proxy.Exchange) {
	if ex.ShortLived {
		l.tokenDied(ex).write()
	}
	switch ex.Error.Fault() {
	case "":
		switch {
		case ex.ShortLived && ex.Refused: // told of
		case advice.BadAnswer(ex) && !l.stopping():
			l.upstreamFailed(ex).write()
		case l.upstreamFails.Load():
			l.upstreamAnswered(ex).write()
		}
	case proxy.FaultLogin:
		l.noToken(ex).write()
	case proxy.FaultUpstream:
		l.upstreamFailed(ex).write()
	}
}

func (l *States) stopping() bool { return l.Ending != nil && l.Ending() }

// loginSucceeded ends the episode of the login, and the requests' that found no
// token. The caller holds mu.
func (l *States) loginSucceeded(ev tokens.Event) stateLine {
	over, lost := l.logins, l.lost
	message := SayRenewed
	switch {
	case len(over.causes) > 0:
		message = SayLoginWorks
	case !l.loginOnce:
		message = SayLoggedIn
	}
	l.logins, l.lost, l.loginOnce = episode{}, 0, true

	e := l.Logger.Info()
	if message == SayLoginWorks {
		e.Time("failing_since", over.since).
			Float64("failed_for_s", display.Seconds(time.Since(over.since))).
			Int("failed_logins", over.failures)
	}
	if message == SayLoginWorks || lost > 0 {
		e.Int("failed_requests", lost)
	}
	e.Uint64("generation", ev.Token.Generation).
		Float64("lifetime_s", ev.Token.Lifetime.Seconds()).
		Str("expiry_rule", string(ev.Token.Rule)).
		Float64("duration_ms", display.Milliseconds(ev.Duration))
	if ev.SkewKnown {
		e.Float64("clock_skew_s", ev.Skew.Seconds())
	}
	if ev.Why == tokens.Adopted {
		e.Bool("adopted", true) // another's login
	}
	return stateLine{e, message}
}

// loginFailed makes a line of a failure that brings something new: a cause, the
// refusal of other credentials than before, or the end of quick attempts. The
// caller holds mu.
func (l *States) loginFailed(ev tokens.Event) stateLine {
	l.logins.since = ev.FailingSince
	if !ev.Waiting {
		l.logins.failures++
	}
	rejected := ev.Result() == tokens.Rejected
	isNew := l.logins.add(string(ev.Result())+ev.Cause.String()) || ev.Stopped ||
		rejected && (ev.Rejections == 1 || ev.Rejections == tokens.QuickRejections)
	level := zerolog.DebugLevel
	switch {
	case isNew && rejected:
		level = zerolog.ErrorLevel
	case isNew:
		level = zerolog.WarnLevel
	}
	e := l.Logger.WithLevel(level).Str("result", string(ev.Result())).Stringer("cause", ev.Cause)
	if ev.Status != 0 {
		e.Int("status", ev.Status)
	}
	if ev.Why == tokens.Adopted {
		e.Bool("adopted", true) // another's login, or one before the start
	}
	st := l.Status()
	e.Str("impact", advice.ImpactOf(st.Good, rejected))
	if st.Good {
		e.Time("token_expiry", st.Expiry)
	}
	addWhen(e, ev.FailingSince, ev.NextLogin)
	failure := advice.LoginFailure{Failure: ev.Failure, Way: l.Way}
	e.Str("remedy", failure.Advice()).Float64("duration_ms", display.Milliseconds(ev.Duration))
	switch {
	case ev.Waiting:
		return stateLine{e, sayLoginWaits}
	case ev.Stopped:
		return stateLine{e, sayLoginStopped}
	case rejected:
		return stateLine{e, SayLoginRejected}
	}
	return stateLine{e, sayLoginFailed}
}

// clock makes a line when the local clock goes wrong, and when it is right
// again. The caller holds mu.
func (l *States) clock(ev tokens.Event) stateLine {
	limit := advice.ClockWrong
	if l.clockOff {
		limit = clockRight
	}
	off := ev.Skew.Abs() >= limit
	if !ev.SkewKnown || off == l.clockOff {
		return stateLine{}
	}
	l.clockOff = off
	if !off {
		return stateLine{l.Logger.Info().Float64("clock_skew_s", ev.Skew.Seconds()), sayClockAgrees}
	}
	return stateLine{l.Logger.Warn().
		Str("cause", advice.ClockSays(ev.Skew)).
		Str("remedy", advice.ClockRemedy).
		Float64("clock_skew_s", ev.Skew.Seconds()), sayClockDiffers}
}

// noToken takes note of a request that was answered with an error for want of a
// token. The first since a login succeeded is a line.
func (l *States) noToken(ex *proxy.Exchange) stateLine {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost > 0 {
		l.lost++
		return stateLine{}
	}
	// Under mu: when it says that the login fails, its success is still to come,
	// and will find lost counted.
	st := l.Status()
	if st.Good || st.Cause.Kind == "" && ex.Error != proxy.LoginTimeout {
		return stateLine{} // it was answered before the login that is told of already, or as bearerd stops
	}
	l.lost = 1

	cause, since, remedy := st.Cause.String(), st.FailingSince, advice.LoginFailure{Failure: st.Failure, Way: l.Way}.Advice()
	if cause == "" {
		cause, since, remedy = advice.SlowLoginCause, ex.Start, advice.SlowLoginRemedy
	}
	// Not an error: the login's own line is, where a person must act.
	e := l.Logger.Warn().Str("code", string(ex.Error)).Str("cause", cause)
	addWhen(e, since, st.NextLogin)
	if st.LoggingIn {
		e.Bool("logging_in", true)
	}
	return stateLine{e.Str("remedy", remedy), SayNoToken}
}

// tokenDied takes note of a request which found that tokens die early. The first
// in a while is a line.
func (l *States) tokenDied(ex *proxy.Exchange) stateLine {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.died
	if ended := ex.Start.Add(ex.Duration); ended.After(before) {
		l.died = ended
	}
	if !before.IsZero() && ex.Start.Sub(before) < shortLivedCalm {
		return stateLine{}
	}
	e := l.Logger.Warn().Str("cause", advice.ShortLivedCause).Str("impact", advice.ShortLivedImpact)
	addWhen(e, ex.Start, time.Time{})
	return stateLine{e.Str("remedy", advice.ShortLivedRemedy), SayTokensDie}
}

// upstreamFailed takes note of a request that brought no good answer from
// upstream. A cause that is new in the episode is a line.
func (l *States) upstreamFailed(ex *proxy.Exchange) stateLine {
	failure := advice.FailureOfUpstream(ex)
	cause := failure.String()
	l.mu.Lock()
	defer l.mu.Unlock()
	ended := ex.Start.Add(ex.Duration)
	if l.upstream.failures == 0 {
		l.upstream.since, l.upstream.last = ended, ended
		l.upstreamFails.Store(true)
	}
	if ended.After(l.upstream.last) {
		l.upstream.last = ended
	}
	l.upstream.failures++
	if !l.upstream.add(string(ex.Error) + cause) {
		return stateLine{}
	}
	e := l.Logger.Warn().Str("cause", cause)
	if ex.Error != "" {
		e.Str("code", string(ex.Error))
	}
	addWhen(e, l.upstream.since, time.Time{})
	return stateLine{e.Str("remedy", failure.Remedy()), SayUpstreamFails}
}

// upstreamAnswered ends the episode of upstream with a request that it answered
// well, if none has failed for a while.
func (l *States) upstreamAnswered(ex *proxy.Exchange) stateLine {
	if ex.Generation == 0 || ex.Status == 0 || ex.Outcome == proxy.Aborted {
		return stateLine{} // no answer, or one of bearerd's own
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	over := l.upstream
	// A long stream may have begun before the trouble.
	if over.failures == 0 || ex.Start.Before(over.last) || ex.Start.Add(ex.Duration).Sub(over.last) < upstreamCalm {
		return stateLine{}
	}
	l.upstream = episode{}
	l.upstreamFails.Store(false)
	return stateLine{l.Logger.Info().
		Time("failing_since", over.since).
		Float64("failed_for_s", display.Seconds(over.last.Sub(over.since))).
		Int("failed_requests", over.failures), sayUpstreamAnswers}
}

// addWhen adds the times that are known.
func addWhen(e *zerolog.Event, failingSince, nextLogin time.Time) {
	if !failingSince.IsZero() {
		e.Time("failing_since", failingSince)
	}
	if !nextLogin.IsZero() {
		e.Time("next_login", nextLogin)
	}
}
