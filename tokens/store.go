package tokens

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"
	"unique"
)

// A Store is where those who log in to one account find what the others have come
// to: other processes, or this one before it was restarted. Its methods may be
// called from any goroutine.
type Store interface {
	// Turn waits for the caller's turn to log in to a. Where the store knows more
	// than known, found is that and turn is nil: somebody has tried already. An
	// error means that the store cannot be had now, and the caller is on its own;
	// when ctx has ended it means that another's login goes on.
	Turn(ctx context.Context, a Account, known State) (found State, turn *Turn, err error)

	// News waits until the store knows more of a than known. An error means that
	// ctx has ended.
	News(ctx context.Context, a Account, known State) (State, error)
}

// A Turn is the right to make one login.
type Turn struct {
	Over   func() bool // the right has ended, and no login may begin or go on; nil: it does not end
	Common bool        // others use the token too: logins for refused tokens count for all

	// End gives the right back with what is known then. cut says that the caller
	// ended in the middle of a login, of which it knows nothing. To be called once;
	// it blocks for less than a second.
	End func(s State, cut bool)
}

// An Account is a login and its credential, of which a client assertion is no
// part. Two can be compared by ==. It is a secret as a whole.
type Account struct {
	// A handle and not a string: fmt prints unexported strings, and does not follow
	// pointers within.
	material unique.Handle[string]
	common   bool
}

// Material returns what tells a from every other account, its secrets included.
func (a Account) Material() []byte { return []byte(a.material.Value()) }

// HasSecret reports whether a password or a client secret is in a.
func (a Account) HasSecret() bool { return a.common }

// Format prints nothing of a.
func (Account) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[account]") }

// MarshalText shows nothing of a.
func (Account) MarshalText() ([]byte, error) { return []byte("[account]"), nil }

// Account returns the account that a login would be made to now; ok is false when
// a secret cannot be read.
func (l *Login) Account() (a Account, ok bool) {
	r := l.sources().look(false)
	return l.account(r.credentials), r.problem == ""
}

// account is what a login with c is for.
func (l *Login) account(c credentials) Account {
	c = c.lasting()
	if l.Grant != "password" {
		c.username, c.password = "", ""
	}
	var material []byte
	for _, part := range []string{
		"bearerd account 1", l.URL, l.Host, l.Grant, l.ClientID, l.ClientAuth, l.Scope,
		c.params.Reveal(), c.username.Reveal(), c.password.Reveal(), c.clientSecret.Reveal(),
	} {
		material = strconv.AppendInt(material, int64(len(part)), 10)
		material = append(append(material, ':'), part...) // so that no two logins look alike
	}
	return Account{material: unique.Make(string(material)), common: c.password != "" || c.clientSecret != ""}
}

// State is what is known of an account's logins at one moment: ages are until
// then, and waits from then on. The zero State is of an account that nobody has
// logged in to. It holds a secret, which no way of printing shows.
type State struct {
	Generation uint64  // of the last token, good or over
	Logins     uint64  // that the login server answered; grows
	Token      *Issued // nil: none is good

	Failure Failure       // of the last login, Rejected or Throttled; FailingSince is by the reader's wall clock
	Wait    time.Duration // until the next login, where it failed and did not stop
	Whole   time.Duration // … of which this is all

	Rejections int  // as in Failure
	Refused    bool // one of them was sure to be the login server's
	Doubtful   int  // throttled since the last success, by a status of refusals
	Worked     bool // as in Failure

	Early     int           // logins for refused tokens, since tokens lived
	EarlyWait time.Duration // until the next of these
}

// Issued is a token as others take it over.
type Issued struct {
	Bearer   func() string // a func as fmt prints strings
	Scope    string
	Rule     Rule
	Lifetime time.Duration
	Age      time.Duration // since the request for it was sent
	Here     time.Duration // since it came
}

// NewerThan reports whether s tells more than known.
func (s State) NewerThan(known State) bool {
	if s.Generation != known.Generation {
		return s.Generation > known.Generation
	}
	return s.Logins > known.Logins
}

// Holds reports whether s says that no login is to be made now.
func (s State) Holds() bool { return s.Failure.Kind != "" && (s.Failure.Stopped || s.Wait > 0) }

// A record is a State as it is kept: its times are points, in milliseconds of
// the keeper's clock.
type record struct {
	Version    int           `json:"version"`
	Generation uint64        `json:"generation,omitempty"`
	Logins     uint64        `json:"logins"`
	Token      *recordToken  `json:"token,omitempty"`
	Failure    *recordFailed `json:"failure,omitempty"`
	Rejections int           `json:"rejections,omitempty"`
	Refused    bool          `json:"refused,omitempty"`
	Doubtful   int           `json:"doubtful,omitempty"`
	Worked     bool          `json:"worked,omitempty"`
	Early      int           `json:"early,omitempty"`
	EarlyUntil int64         `json:"early_until,omitempty"`
}

type recordToken struct {
	Bearer   string `json:"bearer"`
	Scope    string `json:"scope,omitempty"`
	Rule     Rule   `json:"rule"`
	Lifetime int64  `json:"lifetime"`
	Sent     int64  `json:"sent"`
	Came     int64  `json:"came"`
}

type recordFailed struct {
	Kind    Result    `json:"kind"`
	Status  int       `json:"status,omitempty"`
	Code    ErrorCode `json:"code,omitempty"`
	Recoded bool      `json:"recoded,omitempty"`
	Stopped bool      `json:"stopped,omitempty"`
	Since   int64     `json:"since"`
	Began   int64     `json:"began,omitempty"` // of the wait
	Whole   int64     `json:"whole,omitempty"`
}

// Encode returns s as it is to be kept, its token too. now is by the keeper's
// clock, local is the wall clock of FailingSince.
func (s State) Encode(now, local time.Time) []byte {
	at := func(ago time.Duration) int64 { return now.Add(-ago).UnixMilli() }
	r := record{
		Version: 1, Generation: s.Generation, Logins: s.Logins,
		Rejections: s.Rejections, Refused: s.Refused, Doubtful: s.Doubtful, Worked: s.Worked, Early: s.Early,
	}
	if s.EarlyWait > 0 {
		r.EarlyUntil = at(-s.EarlyWait)
	}
	if t := s.Token; t != nil {
		r.Token = &recordToken{
			Bearer: t.Bearer(), Scope: t.Scope, Rule: t.Rule,
			Lifetime: t.Lifetime.Milliseconds(), Sent: at(t.Age), Came: at(t.Here),
		}
	}
	if f := s.Failure; f.Kind != "" {
		r.Failure = &recordFailed{
			Kind: f.Kind, Status: f.Cause.Status, Code: f.Cause.Code, Recoded: f.Cause.Recoded,
			Stopped: f.Stopped, Since: at(local.Sub(f.FailingSince)),
		}
		if !f.Stopped {
			r.Failure.Began, r.Failure.Whole = at(s.Whole-s.Wait), s.Whole.Milliseconds()
		}
	}
	text, _ := json.Marshal(r) // of such types it cannot fail
	return text
}

var errRecord = errors.New("not a record of logins")

// DecodeState reads what [State.Encode] wrote, at now by the keeper's clock.
// ahead says that a wait begins in the future by that clock, which was set back:
// it is taken to begin now, and to be written so. No wait is longer than its
// whole, and no token lives longer than its lifetime, whatever the clock says.
func DecodeState(text []byte, now, local time.Time) (s State, ahead bool, err error) {
	var r record
	if json.Unmarshal(text, &r) != nil || r.Version != 1 {
		return State{}, false, errRecord
	}
	since := func(at int64) time.Duration { return max(now.Sub(time.UnixMilli(at)), 0) }
	s = State{
		Generation: r.Generation, Logins: r.Logins,
		Rejections: max(r.Rejections, 0), Refused: r.Refused, Doubtful: max(r.Doubtful, 0), Worked: r.Worked, Early: max(r.Early, 0),
	}
	if r.EarlyUntil != 0 {
		s.EarlyWait = min(max(time.UnixMilli(r.EarlyUntil).Sub(now), 0), longEarly)
	}
	if t := r.Token; t != nil {
		lifetime := time.Duration(t.Lifetime) * time.Millisecond
		if !sendable(t.Bearer) || lifetime <= 0 || lifetime > maxLifetime {
			return State{}, false, errRecord
		}
		if age := since(t.Sent); age < lifetime {
			s.Token = &Issued{Bearer: func() string { return t.Bearer }, Scope: t.Scope, Rule: t.Rule, Lifetime: lifetime, Age: age, Here: min(since(t.Came), age)}
		}
	}
	if f := r.Failure; f != nil {
		if f.Kind != Rejected && f.Kind != Throttled {
			return State{}, false, errRecord
		}
		s.Failure = Failure{
			Kind:    f.Kind,
			Cause:   Cause{Kind: CauseStatus, Status: f.Status, Code: f.Code.known(), Recoded: f.Recoded},
			Stopped: f.Stopped, Rejections: s.Rejections, Worked: s.Worked, FailingSince: local.Add(-since(f.Since)).Round(0),
		}
		if !f.Stopped {
			s.Whole = min(max(time.Duration(f.Whole)*time.Millisecond, 0), longestWait)
			passed := now.Sub(time.UnixMilli(f.Began))
			ahead = passed < 0
			s.Wait = min(max(s.Whole-passed, 0), s.Whole)
		}
	}
	return s, ahead, nil
}

// longestWait is the longest that a refused login is waited for.
const longestWait = time.Hour + 12*time.Minute

// alone is the Store of one who shares with nobody and remembers nothing.
type alone struct{}

func (alone) Turn(_ context.Context, _ Account, known State) (State, *Turn, error) {
	return known, &Turn{End: func(State, bool) {}}, nil
}

func (alone) News(ctx context.Context, _ Account, _ State) (State, error) {
	<-ctx.Done()
	return State{}, ctx.Err()
}
