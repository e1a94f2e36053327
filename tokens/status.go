package tokens

import (
	"errors"
	"fmt"
	"time"
)

// Result says how a login ended. All but OK are kinds of failure, and each has
// a back-off of its own.
type Result string

const (
	OK        Result = "ok"
	Rejected  Result = "rejected"  // the credentials are held to be wrong
	Throttled Result = "throttled" // the server asked to be left alone for a while
	Transient Result = "transient" // anything else: network, TLS, time-out, a bad answer, a missing credential file
)

var (
	// ErrWait means that a login is under way and did not end within
	// [Options.Wait]. It goes on.
	ErrWait = errors.New("waited too long for a login")
	// ErrNotRenewed means that [Manager.Renew] made no login and knows of no
	// newer token.
	ErrNotRenewed = errors.New("no login to renew the token is allowed now")
	// ErrClosed means that the Manager has been closed.
	ErrClosed = errors.New("the token manager is closed")
)

// Unavailable is the error of [Manager.Token] and [Manager.Renew] while the
// last login failed and no token is good. Its text is safe to log.
type Unavailable struct {
	Kind       Result        // Rejected, Throttled or Transient
	Stopped    bool          // no login is made until the credentials change or a person asks for one
	RetryAfter time.Duration // to the next login, at least 1 s; 0 when stopped
	Cause      string        // as Event.Cause
}

func (e *Unavailable) Error() string {
	if e.Stopped {
		return fmt.Sprintf("login %s: %s; stopped", e.Kind, e.Cause)
	}
	return fmt.Sprintf("login %s: %s; next in %v", e.Kind, e.Cause, e.RetryAfter.Round(time.Second))
}

// Event tells of one login attempt that ended, good or bad, or with Waiting set
// of one that was not made. It holds no secret.
type Event struct {
	Result   Result
	Duration time.Duration // from the request to the end of the answer; 0 when none was sent
	Token    *Token        // with OK only

	Status    int           // HTTP status of the answer; 0 when there was none
	Cause     string        // why it failed: our own words, safe to log; "" with OK
	Skew      time.Duration // local time minus the server's Date header, in whole seconds
	SkewKnown bool          // the answer had a Date header

	// Waiting says that nothing was sent: a credential file, which Cause names,
	// is empty or unreadable. The login is made when the file has content.
	Waiting bool
	// NextLogin is when the failed login is retried, or with OK when the
	// refresh ahead is due if the token is used. Zero when stopped or waiting.
	NextLogin    time.Time
	Stopped      bool      // no login is made until the credentials change or a person asks for one
	Rejections   int       // of these credentials since their last success
	FailingSince time.Time // end of the first login that failed after the last success; zero with OK
}

// Status is the state of a [Manager] at one moment. It holds no secret.
type Status struct {
	// The last token, good or over; all zero before the first.
	Generation uint64
	Good       bool // usable now
	Lifetime   time.Duration
	Requested  time.Time
	Expiry     time.Time
	LastUsed   time.Time // to the second; zero: never
	Rule       Rule

	// The last login that ended; all zero before the first. Fields as in Event.
	LastResult   Result
	Cause        string
	Waiting      bool
	Stopped      bool
	Rejections   int
	FailingSince time.Time

	// Of the last answer that had a Date header, as in Event.
	Skew      time.Duration
	SkewKnown bool

	LoggedInOnce bool
	LoggingIn    bool      // a login is under way
	NextLogin    time.Time // retry or refresh ahead; zero when none is planned, or when one is under way
}

// Ready reports whether a request would find a token: one is good, or none is
// and the last login succeeded, so that the next request will bring one.
func (s Status) Ready() bool { return s.Good || s.LastResult == OK }
