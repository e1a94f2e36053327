package tokens

import (
	"cmp"
	"time"
)

// Reason says why a login was made.
type Reason string

const (
	AtStart        Reason = "start"         // [Manager.Start]
	ForRequest     Reason = "request"       // [Manager.Token] found no token that was good
	RefreshAhead   Reason = "refresh_ahead" // the token came near its end
	AfterRefusal   Reason = "refusal"       // [Manager.Renew]: the server refused the token
	Retry          Reason = "retry"         // the login before failed
	ForCredentials Reason = "credentials"   // a credential file changed, or can be used at last
	Asked          Reason = "asked"         // [Manager.LogInAgain]
	Adopted        Reason = "adopted"       // none was: others of the account made it, see Options.Store
)

// Event tells of one login attempt that ended, good or bad, or with Waiting set
// of one that was not made. It holds no secret.
type Event struct {
	Failure  // with Kind "" it brought Token; Worked holds then too
	Why      Reason
	Token    *Token        // nil where it failed
	Duration time.Duration // from the request to the end of the answer; 0 when none was sent

	Status    int           // HTTP status of the answer; 0 when there was none
	Skew      time.Duration // local time minus the server's Date header, in whole seconds
	SkewKnown bool          // the answer had a Date header

	// NextLogin is when the failed login is retried, or after a good one when the
	// refresh ahead is due if the token is used. Zero when stopped or waiting.
	NextLogin time.Time
}

// Result returns how the login ended.
func (e Event) Result() Result { return cmp.Or(e.Kind, OK) }

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

	// Failure is the last login's; Rejections and Worked are of the credentials
	// in use, whether it failed or not.
	Failure

	// Of the last answer that had a Date header, as in Event.
	Skew      time.Duration
	SkewKnown bool

	LoggedInOnce bool
	LoggingIn    bool      // a login is under way
	NextLogin    time.Time // retry or refresh ahead; zero when none is planned, or when one is under way
}

// LastResult returns how the last login ended; "" before the first has.
func (s Status) LastResult() Result {
	if s.Kind == "" && s.LoggedInOnce {
		return OK
	}
	return s.Kind
}

// Ready reports whether a request would find a token: one is good, or none is
// and the last login succeeded, so that the next request will bring one.
func (s Status) Ready() bool { return s.Good || s.LastResult() == OK }
