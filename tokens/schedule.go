package tokens

import "time"

// A schedule says when the next login is due that no request asks for: the
// refresh ahead, the retry of a failed one, and what operators and new proofs
// of the client ask for. elapsed is the monotonic clock throughout: a step of the
// wall clock must not cost the account an attempt.
type schedule struct {
	keepWarm bool // as in Options

	failure  *Failure      // of the last login, not changed once it is set; nil: it did not fail, or none has ended
	retry    time.Duration // when the next login after failure is due, unless that is stopped or waiting
	operator operatorLimit
	proof    proofLimit
}

// next returns the time to the next login, if there is one. t is the token that
// there is; nil: none.
func (s *schedule) next(t *Token, wall time.Time, elapsed time.Duration) (wait time.Duration, ok bool) {
	wait, ok = s.nextUnasked(t, wall, elapsed)
	if until, asked := s.operator.due(elapsed); asked && (!ok || until < wait) {
		return until, true
	}
	return wait, ok
}

// nextUnasked is next, but for the login that an operator asks for.
func (s *schedule) nextUnasked(t *Token, wall time.Time, elapsed time.Duration) (wait time.Duration, ok bool) {
	if f := s.failure; f != nil {
		wait, ok = s.retry-elapsed, !f.Stopped && !f.Waiting
		if until, earned := s.proof.due(elapsed); earned && (!ok || until < wait) && s.proofHelps() {
			return until, true
		}
		return wait, ok
	}
	if t == nil || !s.keepWarm && (t.used().IsZero() || t.over(wall, elapsed)) {
		return 0, false // nobody needs it, or the next request asks for it
	}
	return t.untilRefresh(wall, elapsed), true
}

// why is the reason for the login that is due now.
func (s *schedule) why(elapsed time.Duration) Reason {
	wait, asked := s.operator.due(elapsed)
	switch {
	case asked && wait <= 0:
		return Asked
	case s.failure == nil:
		return RefreshAhead
	case s.proof.pending:
		return ForCredentials
	}
	return Retry
}

// begin notes that a login begins.
func (s *schedule) begin(why Reason, elapsed time.Duration) {
	if why == Asked {
		s.operator.spend(elapsed)
		s.lift(elapsed)
	}
	s.operator.meet() // any login that begins now is the one
	s.proof.meet(elapsed)
}

// lift ends a stop and a back-off: a person decided.
func (s *schedule) lift(elapsed time.Duration) {
	if s.failure == nil {
		return
	}
	lifted := *s.failure
	lifted.Stopped = false
	s.failure, s.retry = &lifted, elapsed
}

// succeeded notes that the last login did.
func (s *schedule) succeeded() {
	s.failure = nil
	s.proof.earn(false)
}

// failed notes that the last login failed by f, after which the next is due at
// retry.
func (s *schedule) failed(f Failure, retry time.Duration) { s.failure, s.retry = &f, retry }

// earn notes a new proof of the same client. flying says that a login is under
// way, which may have begun without it.
func (s *schedule) earn(flying bool) { s.proof.earn(flying || s.failure != nil && s.proofHelps()) }

// proofHelps reports whether another proof may mend the failure.
func (s *schedule) proofHelps() bool { return s.failure.Waiting || s.failure.Kind == Rejected }

// unavailable describes the failure.
func (s *schedule) unavailable(elapsed time.Duration) *Unavailable {
	e := &Unavailable{Failure: *s.failure}
	switch {
	case e.Stopped:
	case e.Waiting:
		e.RetryAfter = 2 * pollEvery // two looks must agree
	default:
		e.RetryAfter = max(s.retry-elapsed, minBackoff)
	}
	return e
}
