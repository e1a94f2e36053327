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
	Rejected  Result = "rejected"  // the credentials are held to be wrong: a 400, 401, 403, 422 or 423 that is nothing else
	Throttled Result = "throttled" // the server asked to be left alone for a while
	Transient Result = "transient" // anything else: network, TLS, time-out, a fault, a firewall's page, a bad answer, a missing credential file
)

// A Failure is what is known of a login that failed, and of those before it. The
// zero Failure is none. It holds no secret.
type Failure struct {
	Kind  Result // Rejected, Throttled or Transient; "": it did not fail
	Cause Cause  // why

	// Waiting says that nothing was sent: a credential file, which Cause names,
	// is empty or unreadable, or a store does not give the secret. The login is made
	// when there is one.
	Waiting      bool
	Stopped      bool      // no login is made until the credentials change or a person asks for one
	Rejections   int       // of these credentials since their last success
	Worked       bool      // these credentials have succeeded in this process
	FailingSince time.Time // end of the first login that failed after the last success
}

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
	Failure
	RetryAfter time.Duration // to the next login, at least 1 s; 0 when stopped
}

func (e *Unavailable) Error() string {
	if e.Stopped {
		return fmt.Sprintf("login %s: %s; stopped", e.Kind, e.Cause)
	}
	return fmt.Sprintf("login %s: %s; next in %v", e.Kind, e.Cause, e.RetryAfter.Round(time.Second))
}
