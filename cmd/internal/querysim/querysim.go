// Package querysim is a stand-in for the services that bearerd logs in to and
// calls: the login servers of the three presets and the Query Service. It is
// strict about what the vendors require, signs real JWTs and verifies them on
// every query. Its accounts are public and its data is made up.
package querysim

import (
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// Options say how a [Simulator] behaves. The zero value works.
type Options struct {
	Lifetime   time.Duration    // of a token, in whole seconds; 0: 300 s
	LoginDelay time.Duration    // how long each login takes; 0: none
	Seed       uint64           // of the data; 0 is a seed too
	Username   string           // of the account; empty: the constant Username
	Now        func() time.Time // called from many goroutines; nil: time.Now
	ClientKey  *ecdsa.PublicKey // verifies client assertions (RFC 7523, ES256), in place of a client secret; nil: none is accepted

	// OnEvent is told of each login, before it is answered, and of each
	// revocation. It may be called from many goroutines at once and should
	// return soon. Nil: nobody is told.
	OnEvent func(Event)
}

// EventKind tells what an [Event] is about.
type EventKind string

const (
	EventLogin      EventKind = "login"
	EventRevocation EventKind = "revocation"
)

// Event is something a Simulator tells its owner. It never holds a secret.
type Event struct {
	Kind   EventKind
	Vendor string // of a login: as in Vendor.Name
	Result string // of a login: "ok", an OAuth error code, the name of a fault, or another single word such as "unavailable"
	Serial int    // counts the events of this kind, from 1; a login is numbered as it arrives
	Tokens int    // of a revocation: how many tokens were live
}

// Stats count what happened since the start. Logins are OK, refused,
// unavailable, faulty, abandoned or still under way.
type Stats struct {
	Logins            int `json:"logins"`             // requests to a login path, whatever became of them
	LoginsOK          int `json:"logins_ok"`          // answered with a token
	LoginsRefused     int `json:"logins_refused"`     // answered 4xx
	LoginsUnavailable int `json:"logins_unavailable"` // answered 5xx
	LoginsFaulty      int `json:"logins_faulty"`      // spoiled by a fault: 2xx or 3xx without a good token, or no answer
	LoginsAbandoned   int `json:"logins_abandoned"`   // the client left during the login delay
	LoginsAtOnce      int `json:"logins_at_once"`     // the most that were ever under way together
	LoginsLocked      int `json:"logins_locked"`      // of those refused, because the account was locked
	Lockouts          int `json:"lockouts"`           // how often the account was locked
	Queries           int `json:"queries"`            // requests to the Query Service, or to what RequireToken guards
	QueriesFaulty     int `json:"queries_faulty"`     // of them, met by a fault
	Unauthorized      int `json:"unauthorized"`       // of the queries, answered 401
	WithoutToken      int `json:"without_token"`      // of the queries, with no Authorization header or a malformed one
	Revocations       int `json:"revocations"`        // calls of Revoke
	Revoked           int `json:"revoked"`            // live tokens these ended
}

// Simulator is the login servers and the Query Service, as HTTP handlers to
// be served wherever the owner likes. Its methods may be called at any time
// from any goroutine.
type Simulator struct {
	username string
	now      func() time.Time
	onEvent  func(Event)
	clients  *ecdsa.PublicKey // Options.ClientKey
	tokens   *tokenStore
	data     data

	mu             sync.Mutex // guards what follows
	password       string
	faults         Faults
	locks          map[string]bruteForceLock // by the vendor's name
	used           map[net.Addr]bool         // the connections that QueryStale has spared, until it ends
	loginsUnderWay int
	stats          Stats
}

// New makes a simulator with a signing key of its own. It reports an error if
// the options cannot be met.
func New(o Options) (*Simulator, error) {
	if o.Lifetime == 0 {
		o.Lifetime = 300 * time.Second
	}
	if err := checkLifetime(o.Lifetime); err != nil {
		return nil, err
	}
	if o.LoginDelay < 0 {
		return nil, errors.New("login delay: give 0 or more")
	}
	if o.Username == "" {
		o.Username = Username
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.OnEvent == nil {
		o.OnEvent = func(Event) {}
	}
	tokens, err := newTokenStore(o.Lifetime)
	if err != nil {
		return nil, err
	}
	return &Simulator{
		username: o.Username,
		now:      o.Now,
		onEvent:  o.OnEvent,
		clients:  o.ClientKey,
		tokens:   tokens,
		data:     data{seed: o.Seed},
		password: Password,
		faults:   Faults{LoginDelay: o.LoginDelay},
		locks:    map[string]bruteForceLock{},
		used:     map[net.Addr]bool{},
	}, nil
}

// expires_in, iat and exp are whole seconds at all three vendors.
func checkLifetime(d time.Duration) error {
	if d < time.Second || d%time.Second != 0 {
		return fmt.Errorf("token lifetime %v: give whole seconds, 1s or more", d)
	}
	return nil
}

// SetLifetime changes how long tokens live that are issued from now on. It
// reports an error, and changes nothing, unless d is as Options.Lifetime must be.
func (s *Simulator) SetLifetime(d time.Duration) error {
	if err := checkLifetime(d); err != nil {
		return err
	}
	s.tokens.mu.Lock()
	defer s.tokens.mu.Unlock()
	s.tokens.lifetime = d
	return nil
}

// SetPassword changes the account's password. Tokens already issued stay good.
func (s *Simulator) SetPassword(p string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.password = p
}

// SetLoginDelay changes how long logins take that arrive from now on.
func (s *Simulator) SetLoginDelay(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.LoginDelay = d
}

// SetLoginDown makes the login servers answer 503 with an HTML page and no
// Retry-After, as a load balancer with nothing behind it does, or ends that:
// it sets the fault LoginDown. It applies to logins under way too.
func (s *Simulator) SetLoginDown(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if down {
		s.faults.Login, s.faults.LoginNext = LoginDown, 0
	} else if s.faults.Login == LoginDown {
		s.faults.Login, s.faults.LoginNext = "", 0
	}
}

// Revoke ends every token issued so far, at once, and returns how many were
// live.
func (s *Simulator) Revoke() int {
	n := s.tokens.revoke(s.clock())
	s.mu.Lock()
	s.stats.Revocations++
	s.stats.Revoked += n
	serial := s.stats.Revocations
	s.mu.Unlock()
	s.onEvent(Event{Kind: EventRevocation, Result: resultOK, Serial: serial, Tokens: n})
	return n
}

// PublicKey returns the key that verifies the signature of every token.
func (s *Simulator) PublicKey() *ecdsa.PublicKey { return &s.tokens.key.PublicKey }

// Stats returns the counts so far. A request is counted before it is answered.
func (s *Simulator) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// errorBody is the JSON of every error, in the shape of RFC 6749 5.2.
type errorBody struct {
	Error       string `json:"error"`
	Description string `json:"error_description,omitempty"`
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(mustJSON(v)) // the client may have gone
}

func mustJSON(v any) []byte {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err) // only this package's own types come here
	}
	return body
}
