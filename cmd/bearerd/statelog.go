package main

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/bearerd/bearerd/proxy"
	"github.com/bearerd/bearerd/tokens"
)

// What a stateLog says. README tells what to do about each.
const (
	sayLoggedIn        = "logged in"
	sayRenewed         = "token renewed"
	sayLoginFailed     = "login failed"
	sayLoginWaits      = "login waits for a file"
	sayLoginRejected   = "login rejected"
	sayLoginStopped    = "login stopped"
	sayLoginWorks      = "login works again"
	sayNoToken         = "requests fail: no token"
	sayUpstreamFails   = "upstream fails"
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
	// clockRight is the clock skew below which a clock that was wrong is right
	// again: one near clockWrong is not to write a line for each token.
	clockRight = 3 * time.Second
)

// stateLog logs what changes in the state of the login and of upstream: a line a
// change, however many requests and attempts there are. What changes nothing is
// counted, and told when the trouble is over; a login that fails once more is
// for the debug level.
type stateLog struct {
	logger zerolog.Logger
	status func() tokens.Status // of the token manager; set it before there are requests or logins
	ending func() bool          // bearerd itself cuts answers short; nil: never
	asked  bool                 // a person typed the credentials when bearerd started

	upstreamFails atomic.Bool // upstream.failures > 0; a good request looks no further

	mu        sync.Mutex // guards all below; never held while a line is written
	logins    episode
	upstream  episode
	loginOnce bool // a login has succeeded
	lost      int  // requests answered with an error for want of a token since a login succeeded
	clockOff  bool
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

// login takes note of a login that ended: tokens.Options.Observe.
func (l *stateLog) login(ev tokens.Event) {
	l.mu.Lock()
	clock := l.clock(ev)
	var login stateLine
	if ev.Result == tokens.OK {
		login = l.loginSucceeded(ev)
	} else {
		login = l.loginFailed(ev)
	}
	l.mu.Unlock()
	login.write()
	clock.write()
}

// request takes note of a request that ended: proxy.Options.Done. One that
// nothing is wrong with costs an atomic load.
func (l *stateLog) request(ex *proxy.Exchange) {
	switch ex.Error {
	case "":
		switch {
		case upstreamFault(ex) != "" && !l.stopping():
			l.upstreamFailed(ex).write()
		case l.upstreamFails.Load():
			l.upstreamAnswered(ex).write()
		}
	case proxy.LoginRejected, proxy.LoginUnavailable, proxy.LoginTimeout:
		l.noToken(ex).write()
	case proxy.UpstreamUnreachable, proxy.UpstreamTimeout:
		l.upstreamFailed(ex).write()
	}
}

func (l *stateLog) stopping() bool { return l.ending != nil && l.ending() }

// loginSucceeded ends the episode of the login, and the requests' that found no
// token. The caller holds mu.
func (l *stateLog) loginSucceeded(ev tokens.Event) stateLine {
	over, lost := l.logins, l.lost
	message := sayRenewed
	switch {
	case len(over.causes) > 0:
		message = sayLoginWorks
	case !l.loginOnce:
		message = sayLoggedIn
	}
	l.logins, l.lost, l.loginOnce = episode{}, 0, true

	e := l.logger.Info()
	if message == sayLoginWorks {
		e.Time("failing_since", over.since).
			Float64("failed_for_s", seconds(time.Since(over.since))).
			Int("failed_logins", over.failures)
	}
	if message == sayLoginWorks || lost > 0 {
		e.Int("failed_requests", lost)
	}
	e.Uint64("generation", ev.Token.Generation).
		Float64("lifetime_s", ev.Token.Lifetime.Seconds()).
		Str("expiry_rule", string(ev.Token.Rule)).
		Float64("duration_ms", milliseconds(ev.Duration))
	if ev.SkewKnown {
		e.Float64("clock_skew_s", ev.Skew.Seconds())
	}
	return stateLine{e, message}
}

// loginFailed makes a line of a failure that brings something new: a cause, the
// refusal of other credentials than before, or the end of quick attempts. The
// caller holds mu.
func (l *stateLog) loginFailed(ev tokens.Event) stateLine {
	l.logins.since = ev.FailingSince
	if !ev.Waiting {
		l.logins.failures++
	}
	rejected := ev.Result == tokens.Rejected
	isNew := l.logins.add(string(ev.Result)+ev.Cause) || ev.Stopped ||
		rejected && (ev.Rejections == 1 || ev.Rejections == hourlyFrom)
	level := zerolog.DebugLevel
	switch {
	case isNew && rejected:
		level = zerolog.ErrorLevel
	case isNew:
		level = zerolog.WarnLevel
	}
	e := l.logger.WithLevel(level).Str("result", string(ev.Result)).Str("cause", ev.Cause)
	if ev.Status != 0 {
		e.Int("status", ev.Status)
	}
	switch st := l.status(); {
	case st.Good:
		e.Str("impact", "none yet: requests go on with the old token until token_expiry").Time("token_expiry", st.Expiry)
	case rejected:
		e.Str("impact", "requests are answered with 502 login_rejected")
	default:
		e.Str("impact", "requests are answered with 503 login_unavailable")
	}
	addWhen(e, ev.FailingSince, ev.NextLogin)
	failure := loginFailure{ev.Result, ev.Cause, ev.Waiting, ev.Stopped, ev.Rejections, l.asked}
	e.Str("remedy", failure.advice()).Float64("duration_ms", milliseconds(ev.Duration))
	switch {
	case ev.Waiting:
		return stateLine{e, sayLoginWaits}
	case ev.Stopped:
		return stateLine{e, sayLoginStopped}
	case rejected:
		return stateLine{e, sayLoginRejected}
	}
	return stateLine{e, sayLoginFailed}
}

// clock makes a line when the local clock goes wrong, and when it is right
// again. The caller holds mu.
func (l *stateLog) clock(ev tokens.Event) stateLine {
	limit := clockWrong
	if l.clockOff {
		limit = clockRight
	}
	off := ev.Skew.Abs() >= limit
	if !ev.SkewKnown || off == l.clockOff {
		return stateLine{}
	}
	l.clockOff = off
	if !off {
		return stateLine{l.logger.Info().Float64("clock_skew_s", ev.Skew.Seconds()), sayClockAgrees}
	}
	return stateLine{l.logger.Warn().
		Str("cause", clockSays(ev.Skew)).
		Str("remedy", clockRemedy).
		Float64("clock_skew_s", ev.Skew.Seconds()), sayClockDiffers}
}

// noToken takes note of a request that was answered with an error for want of a
// token. The first since a login succeeded is a line.
func (l *stateLog) noToken(ex *proxy.Exchange) stateLine {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost > 0 {
		l.lost++
		return stateLine{}
	}
	// Under mu: when it says that the login fails, its success is still to come,
	// and will find lost counted.
	st := l.status()
	if st.Good || st.Cause == "" && ex.Error != proxy.LoginTimeout {
		return stateLine{} // it was answered before the login that is told of already, or as bearerd stops
	}
	l.lost = 1

	cause, since, remedy := st.Cause, st.FailingSince, failureOf(st, l.asked).advice()
	if cause == "" {
		cause, since = "the login server does not answer within BEARERD_TOKEN_WAIT", ex.Start
		remedy = "the login under way goes on; if logins are always that slow, raise BEARERD_TOKEN_WAIT"
	}
	// Not an error: the login's own line is, where a person must act.
	e := l.logger.Warn().Str("code", string(ex.Error)).Str("cause", cause)
	addWhen(e, since, st.NextLogin)
	if st.LoggingIn {
		e.Bool("logging_in", true)
	}
	return stateLine{e.Str("remedy", remedy), sayNoToken}
}

// upstreamFailed takes note of a request that brought no good answer from
// upstream. A cause that is new in the episode is a line.
func (l *stateLog) upstreamFailed(ex *proxy.Exchange) stateLine {
	cause := upstreamCause(ex)
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
	e := l.logger.Warn().Str("cause", cause)
	if ex.Error != "" {
		e.Str("code", string(ex.Error))
	}
	addWhen(e, l.upstream.since, time.Time{})
	return stateLine{e.Str("remedy", upstreamRemedy(ex, cause)), sayUpstreamFails}
}

// upstreamAnswered ends the episode of upstream with a request that it answered
// well, if none has failed for a while.
func (l *stateLog) upstreamAnswered(ex *proxy.Exchange) stateLine {
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
	return stateLine{l.logger.Info().
		Time("failing_since", over.since).
		Float64("failed_for_s", seconds(over.last.Sub(over.since))).
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
