package querysim

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// LoginFault is a way in which the login servers misbehave, by name. Some take
// an argument, written name=argument (see [LoginFault.With]) and otherwise
// chosen for them. Empty is none.
type LoginFault string

// Faults in front of the login servers: whatever is asked is answered so.
const (
	LoginDown        LoginFault = "down"
	LoginStatus      LoginFault = "status"
	LoginTooMany     LoginFault = "429"
	LoginTooManyDate LoginFault = "429-date"
	LoginBusy        LoginFault = "503"
	LoginBusyDate    LoginFault = "503-date"
	LoginHTML        LoginFault = "html"
	LoginFirewall    LoginFault = "firewall"
	LoginLater       LoginFault = "later"
	LoginBare        LoginFault = "bare"
	LoginRedirect    LoginFault = "redirect"
	LoginReset       LoginFault = "reset"
)

// Faults of the login servers themselves: a bad request is refused as ever,
// and a good one is answered so.
const (
	LoginRejected      LoginFault = "rejected"
	LoginCut           LoginFault = "cut"
	LoginTruncated     LoginFault = "truncated"
	LoginErrorMember   LoginFault = "error-member"
	LoginEmptyError    LoginFault = "empty-error"
	LoginCreated       LoginFault = "created"
	LoginNoExpiresIn   LoginFault = "no-expires-in"
	LoginTextExpiresIn LoginFault = "text-expires-in"
	LoginNoIssuedAt    LoginFault = "no-iat"
	LoginOpaque        LoginFault = "opaque"
	LoginSameToken     LoginFault = "same-token"
)

// QueryFault is a way in which the Query Service misbehaves, like [LoginFault].
// It meets every request, whether its token is good or not.
type QueryFault string

const (
	QueryUnauthorizedEarly QueryFault = "401-early"
	QueryUnauthorizedLate  QueryFault = "401-late"
	QueryStatus            QueryFault = "status"
	QueryReset             QueryFault = "reset"
	QueryCut               QueryFault = "cut"
	QueryStale             QueryFault = "stale"
)

// faultRow describes one fault.
type faultRow struct {
	name, meaning string
	argument      *argument // nil: it takes none
}

type argument struct {
	name, fallback string
	check          func(string) error
}

var (
	statusArgument = &argument{"status", "500", func(text string) error {
		if n, err := strconv.Atoi(text); err != nil || n < 400 || n > 599 {
			return errors.New("give a status of 400 to 599")
		}
		return nil
	}}
	refusalArgument = &argument{"status", "403", func(text string) error {
		if !slices.Contains([]string{"400", "401", "403", "422", "423"}, text) {
			return errors.New("give 400, 401, 403, 422 or 423")
		}
		return nil
	}}
	waitArgument = &argument{"wait", "30s", func(text string) error {
		if d, err := time.ParseDuration(text); err != nil || d < 0 || d%time.Second != 0 {
			return errors.New("give whole seconds, such as 30s")
		}
		return nil
	}}
	// A name that is never resolved (RFC 2606): by default nobody is sent a password.
	locationArgument = &argument{"url", "https://elsewhere.invalid/token", func(text string) error {
		if u, err := url.Parse(text); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return errors.New("give an http or https URL with a host")
		}
		return nil
	}}
)

var loginFaults = []faultRow{
	{string(LoginDown), "503 with an HTML page and no Retry-After, as a load balancer with nothing behind it", nil},
	{string(LoginStatus), "this status with a JSON error", statusArgument},
	{string(LoginTooMany), "429 with Retry-After in seconds", waitArgument},
	{string(LoginTooManyDate), "429 with Retry-After as a date", waitArgument},
	{string(LoginBusy), "503 with Retry-After in seconds", waitArgument},
	{string(LoginBusyDate), "503 with Retry-After as a date", waitArgument},
	{string(LoginHTML), "200 with an HTML page, as a captive portal", nil},
	{string(LoginFirewall), "403 with an HTML page, as a firewall", nil},
	{string(LoginLater), "400 temporarily_unavailable with Retry-After, as some servers say that they are busy", waitArgument},
	{string(LoginBare), "this status and nothing else, as some servers refuse a wrong password", refusalArgument},
	{string(LoginRedirect), "307 to this URL", locationArgument},
	{string(LoginReset), "connection reset before any answer", nil},
	{string(LoginRejected), "credentials refused, though they are right", nil},
	{string(LoginCut), "connection closed in the middle of the body", nil},
	{string(LoginTruncated), "half of the JSON, with the Content-Length of that half", nil},
	{string(LoginErrorMember), "a good 200 that also has an error member", nil},
	{string(LoginEmptyError), "a good 200 that also has an error member of no text", nil},
	{string(LoginCreated), "201 with a good token", nil},
	{string(LoginNoExpiresIn), "no expires_in; the JWT has iat and exp", nil},
	{string(LoginTextExpiresIn), "expires_in as a string", nil},
	{string(LoginNoIssuedAt), "no expires_in; the JWT has exp and no iat", nil},
	{string(LoginOpaque), "no expires_in; the token is no JWT, though the Query Service takes it", nil},
	{string(LoginSameToken), "the token of the last login again, as long as it has a second to live", nil},
}

var queryFaults = []faultRow{
	{string(QueryUnauthorizedEarly), "401 before the body is read; the connection closes", nil},
	{string(QueryUnauthorizedLate), "401 once the body is read", nil},
	{string(QueryStatus), "this status with a JSON error", statusArgument},
	{string(QueryReset), "connection reset before any answer", nil},
	{string(QueryCut), "200, and the connection closed in the middle of the body", nil},
	{string(QueryStale), "each connection good for one request from now on: the next one finds it closed, without an answer", nil},
}

// LoginFaults returns all login faults, without arguments.
func LoginFaults() []LoginFault { return faultNames[LoginFault](loginFaults) }

// QueryFaults returns all query faults, without arguments.
func QueryFaults() []QueryFault { return faultNames[QueryFault](queryFaults) }

// With returns f with an argument in place of the one chosen for it.
// [Simulator.SetFaults] judges whether it fits.
func (f LoginFault) With(argument string) LoginFault { return f + "=" + LoginFault(argument) }

// With returns f with an argument in place of the one chosen for it.
// [Simulator.SetFaults] judges whether it fits.
func (f QueryFault) With(argument string) QueryFault { return f + "=" + QueryFault(argument) }

// Meaning says in a few words what f does, and what argument it takes.
func (f LoginFault) Meaning() string { return meaning(loginFaults, string(f)) }

// Meaning says in a few words what f does, and what argument it takes.
func (f QueryFault) Meaning() string { return meaning(queryFaults, string(f)) }

// split returns the name and the argument of a fault that was checked.
func (f LoginFault) split() (LoginFault, string) {
	row, arg, _ := findFault(loginFaults, string(f))
	return LoginFault(row.name), arg
}

func (f QueryFault) split() (QueryFault, string) {
	row, arg, _ := findFault(queryFaults, string(f))
	return QueryFault(row.name), arg
}

func faultNames[F ~string](table []faultRow) []F {
	names := make([]F, len(table))
	for i, row := range table {
		names[i] = F(row.name)
	}
	return names
}

func meaning(table []faultRow, text string) string {
	row, _, err := findFault(table, text)
	if err != nil || row.argument == nil {
		return row.meaning
	}
	return fmt.Sprintf("%s (%s=%s, default %s)", row.meaning, row.name, strings.ToUpper(row.argument.name), row.argument.fallback)
}

// findFault reads name or name=argument. Empty text is the zero row.
func findFault(table []faultRow, text string) (row faultRow, arg string, err error) {
	if text == "" {
		return row, "", nil
	}
	name, arg, given := strings.Cut(text, "=")
	i := slices.IndexFunc(table, func(row faultRow) bool { return row.name == name })
	if i < 0 {
		return row, "", fmt.Errorf("no fault %q; give one of %s, or nothing", name, strings.Join(faultNames[string](table), ", "))
	}
	row = table[i]
	switch {
	case row.argument == nil && given:
		return row, "", fmt.Errorf("fault %s takes no argument", name)
	case row.argument == nil:
		return row, "", nil
	case !given:
		return row, row.argument.fallback, nil
	}
	if err := row.argument.check(arg); err != nil {
		return row, "", fmt.Errorf("fault %s: %w", name, err)
	}
	return row, arg, nil
}

// Faults is how the services misbehave. The zero value is good behaviour.
type Faults struct {
	Login      LoginFault    // what logins meet; empty: nothing
	LoginNext  int           // how many logins meet it, after which it is gone; 0: all
	LoginDelay time.Duration // how long each login takes

	Query      QueryFault    // what requests to the Query Service meet, or to what RequireToken guards
	QueryNext  int           // as LoginNext; the first request of a connection, which QueryStale spares, does not count
	QueryDelay time.Duration // how long each request waits before it is looked at

	OneSession bool          // a login ends the account's other tokens at that vendor
	TokenDelay time.Duration // how long after its issue the Query Service takes a token
	SingleUse  bool          // a token ends when the Query Service has taken it once

	// Skew is what the clock of all servers is ahead of Options.Now. It shifts
	// their Date headers, iat and exp, what the Query Service takes for expired,
	// and the end of a lock.
	Skew time.Duration

	// BruteForceLock makes the login servers that are Keycloaks lock the account
	// after failed logins as a Keycloak's brute-force detection does by default.
	// To turn it off forgets all failures.
	BruteForceLock bool
}

func (f Faults) check() error {
	if _, _, err := findFault(loginFaults, string(f.Login)); err != nil {
		return fmt.Errorf("login %w", err)
	}
	if _, _, err := findFault(queryFaults, string(f.Query)); err != nil {
		return fmt.Errorf("query %w", err)
	}
	if f.LoginNext < 0 || f.QueryNext < 0 {
		return errors.New("how many requests meet a fault: give 0 or more")
	}
	if f.LoginDelay < 0 || f.QueryDelay < 0 || f.TokenDelay < 0 {
		return errors.New("delay: give 0 or more")
	}
	return nil
}

// SetFaults replaces all faults at once. They meet the requests that arrive
// from now on and, but for the delays, those that wait for a delay now. It
// reports an error, and changes nothing, if there is no such fault or an
// argument does not fit.
func (s *Simulator) SetFaults(f Faults) error {
	return s.changeFaults(func(old *Faults) error {
		*old = f
		return nil
	})
}

// Faults returns what is set now: a fault that has met all its requests is
// gone, and LoginNext and QueryNext are what is left.
func (s *Simulator) Faults() Faults {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.faults
}

// changeFaults sets what change makes of the faults, unless it or a check
// reports an error.
func (s *Simulator) changeFaults(change func(*Faults) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.faults
	if err := change(&f); err != nil {
		return err
	}
	if err := f.check(); err != nil {
		return err
	}
	if f.Login == "" {
		f.LoginNext = 0
	}
	if f.Query == "" {
		f.QueryNext = 0
	}
	if !f.BruteForceLock {
		clear(s.locks)
	}
	if f.Query != s.faults.Query {
		clear(s.used)
	}
	s.faults = f
	return nil
}

// clock is the time on the servers' clock.
func (s *Simulator) clock() time.Time { return s.now().Add(s.Faults().Skew) }

// httpDate is t as a Date or Retry-After header has it.
func httpDate(t time.Time) string { return t.UTC().Format(http.TimeFormat) }
