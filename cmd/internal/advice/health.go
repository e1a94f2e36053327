package advice

import (
	"fmt"
	"net/http"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/display"
	"github.com/bearerd/bearerd/tokens"
)

// Mood is what a state is to a person at a glance.
type Mood string

const (
	Good    Mood = "good"
	Warning Mood = "warning" // it works, and something should be looked at
	Bad     Mood = "bad"     // requests fail
	Quiet   Mood = "quiet"   // nothing is asked for, or nothing is known yet
)

// Health is how a bearerd is.
type Health struct {
	State    string `json:"state"` // for programs: well, renewing, too_young, idle, starting, logging_in, waiting, refused, stopped, throttled, login_down, upstream, stopping
	Mood     Mood   `json:"mood"`
	Headline string `json:"headline"` // a few words, which change with the state alone: they are read out
	Sentence string `json:"sentence"` // whose fault it is and since when, or how long all is well
	Cause    string `json:"cause,omitempty"`
	Next     string `json:"next,omitempty"`   // what bearerd does next, and when
	Remedy   string `json:"remedy,omitempty"` // what a person can do
	// LogIn says what logging in again costs, where it can help; empty: it cannot.
	LogIn string `json:"log_in,omitempty"`
}

// Moment is what is known of a bearerd at one moment.
type Moment struct {
	Now       time.Time
	Login     tokens.Status
	Way       Way
	Stopping  bool
	Grace     time.Duration // that a stop leaves to requests
	TokenWait time.Duration // that a request waits for a token at most
	LoginTook time.Duration // the last good one; 0: unknown
	Asked     time.Time     // the last request ended; zero: unknown
	Upstream  UpstreamTrouble
	Young     bool // upstream did not know the token yet, just now
}

// UpstreamTrouble is what upstream has done since its last good answer. The zero
// value is nothing bad.
type UpstreamTrouble struct {
	Since, Last   time.Time
	Requests      int // that failed
	Cause, Remedy string
	Refused       bool // the token, by the last
}

const (
	// upstreamRemembered is for how long a failure says something of upstream,
	// where nobody has asked since.
	upstreamRemembered = 5 * time.Minute
	// upstreamFailsFrom is how many failures in a row are upstream's, and not of a
	// request.
	upstreamFailsFrom = 3
)

const (
	impactNone        = "none yet: requests go on with the old token until token_expiry"
	impactRejected    = "requests are answered with 502 login_rejected"
	impactUnavailable = "requests are answered with 503 login_unavailable"
)

// ImpactOf says what requests meet where a login failed.
func ImpactOf(good, rejected bool) string {
	switch {
	case good:
		return impactNone
	case rejected:
		return impactRejected
	}
	return impactUnavailable
}

// Health says how m is: whose fault it is, since when, what bearerd does next,
// and what a person can do.
func (m Moment) Health() Health {
	st := m.Login
	switch {
	case m.Stopping:
		return Health{
			State: "stopping", Mood: Warning, Headline: "Stopping",
			Sentence: "bearerd was told to stop, and ends when the requests under way have.",
			Next:     "lets them finish, for " + display.Spoken(m.Grace) + " at most, and takes no new ones, or will not in a moment",
		}
	case st.Kind != "":
		return m.loginFails()
	case st.Good && m.upstreamFailing():
		return m.upstreamFails()
	case st.Good:
		return m.well()
	case st.LoggingIn && st.LoggedInOnce:
		return Health{
			State: "logging_in", Mood: Quiet, Headline: "Logging in",
			Sentence: "A request came and no token was good: it waits for the login that is under way.",
			Next:     m.waits(),
		}
	case !st.LoggedInOnce:
		return Health{
			State: "starting", Mood: Quiet, Headline: "Starting",
			Sentence: "The first login is under way, and requests wait for it.",
			Next:     m.waits(),
		}
	}
	idle := Health{
		State: "idle", Mood: Quiet, Headline: "Idle",
		Sentence: "No token is held, as nobody needs one: no request has come for a while.",
		Next:     "logs in when the next request comes, which waits for that",
	}
	if !m.Asked.IsZero() {
		idle.Sentence = fmt.Sprintf("No token is held, as nobody needs one: the last request was %s ago.", display.Spoken(m.Now.Sub(m.Asked)))
	}
	if m.LoginTook > 0 {
		idle.Next += fmt.Sprintf("; the last login took %s", display.Spoken(m.LoginTook))
	}
	return idle
}

func (m Moment) waits() string {
	return "lets requests wait for it, for " + display.Spoken(m.TokenWait) + " at most"
}

// left says how long the token is good.
func (m Moment) left() string {
	return "The token is good for " + display.Spoken(m.Login.Expiry.Sub(m.Now))
}

// well is where a token is good and nothing fails.
func (m Moment) well() Health {
	h := Health{State: "well", Mood: Good, Headline: "Well"}
	switch next := m.Login.NextLogin; {
	case m.Login.LoggingIn:
		h.State, h.Headline = "renewing", "Well, renewing"
		h.Sentence = "Requests go through. The token is being renewed; the old one is good for " + display.Spoken(m.Login.Expiry.Sub(m.Now)) + "."
	case !next.IsZero():
		h.Sentence = fmt.Sprintf("Requests go through. %s and will be renewed in %s.", m.left(), display.Spoken(next.Sub(m.Now)))
	default:
		h.Sentence = m.left() + ". Nobody has used it yet: unused it is let go, and used it is renewed ahead of its end."
	}
	if m.Young {
		h.State, h.Headline = "too_young", "Well, with the token before"
		h.Sentence = "Requests go through. Upstream does not know the new token yet, so they use the one before until it does."
		h.Next = "tries the new token with each request, and uses it alone when it is 3 s old"
	}
	return h
}

// upstreamFailing reports whether upstream has answered nothing well of late.
func (m Moment) upstreamFailing() bool {
	return m.Upstream.Requests > 0 && m.Now.Sub(m.Upstream.Last) < upstreamRemembered
}

func (m Moment) upstreamFails() Health {
	u := m.Upstream
	h := Health{
		State: "upstream", Mood: Bad, Headline: "Upstream fails",
		Sentence: fmt.Sprintf("The login works, upstream does not: since %s it has answered none of %d requests well.", display.Clock(u.Since, m.Now), u.Requests),
		Cause:    u.Cause, Remedy: u.Remedy,
		Next: "sends each new request on at once; all is well again with the first good answer. " + m.left() + ".",
	}
	if u.Requests < upstreamFailsFrom {
		h.Mood, h.Headline = Warning, "A request failed upstream"
		h.Sentence = fmt.Sprintf("The login works, but upstream has not answered the last request well, at %s.", display.Clock(u.Last, m.Now))
		if u.Requests == 2 {
			h.Sentence = fmt.Sprintf("The login works, but upstream has not answered the last two requests well, since %s.", display.Clock(u.Since, m.Now))
		}
	}
	if u.Refused {
		h.LogIn = "It costs one login, and brings another token, which upstream may take."
	}
	return h
}

// loginFails is where the last login failed.
func (m Moment) loginFails() Health {
	st := m.Login
	f := LoginFailure{st.Failure, m.Way}
	since := display.Clock(st.FailingSince, m.Now)
	h := Health{State: "login", Mood: Bad, Cause: st.Cause.String(), Remedy: f.Remedy(), Next: f.next()}
	when := ""
	switch {
	case st.LoggingIn:
		when = "is logging in once more now"
	case !st.NextLogin.IsZero():
		when = fmt.Sprintf("logs in again in %s, at %s", display.Spoken(st.NextLogin.Sub(m.Now)), display.Clock(st.NextLogin, m.Now))
	}
	switch {
	case when == "":
	case f.next() == triesAgain:
		h.Next = when
	default:
		h.Next = when + "; " + f.next()
	}
	switch {
	case st.Waiting:
		h.State, h.Headline, h.Next = "waiting", "Waiting for a file", f.looks()
		h.Sentence = fmt.Sprintf("No login can be made since %s, for want of a credential file.", since)
		if st.Cause.Kind == tokens.CauseStore {
			h.Headline = "Waiting for the key store"
			h.Sentence = fmt.Sprintf("No login can be made since %s: the system's key store does not give the secret.", since)
		}
	case st.Stopped:
		h.State, h.Headline, h.Next = "stopped", "Logins stopped", asksNoMore+f.again()+"; "+f.soon()
		h.Sentence = fmt.Sprintf("The login server has refused these credentials %d times since %s, and they never worked: bearerd has stopped asking.", st.Rejections, since)
		h.LogIn = logInCost
	case st.Kind == tokens.Rejected:
		h.State, h.Headline = "refused", "Login refused"
		h.Sentence = fmt.Sprintf("The login server refuses the credentials since %s%s.", since, times(st.Rejections))
		h.LogIn = logInCost
	case st.Kind == tokens.Throttled:
		h.State, h.Headline = "throttled", "The login server wants a pause"
		h.Sentence = fmt.Sprintf("The login server has asked to be left alone for a while, since %s.", since)
		h.LogIn = "The server has asked for a pause: a login before its end may make it longer."
	default:
		h.State, h.Headline = "login_down", "Login fails"
		h.Sentence = fmt.Sprintf("%s since %s.", whoseLogin(st.Cause), since)
		h.LogIn = "It is one attempt, made now and not later."
	}
	if st.Good {
		h.Mood = Warning
		h.Headline = "Well for now: " + lowerFirst(h.Headline)
		h.Sentence += " Requests go through meanwhile. " + m.left() + "."
		return h
	}
	h.Sentence += " R" + ImpactOf(false, st.Stopped || st.Kind == tokens.Rejected)[1:] + "."
	return h
}

const logInCost = "It is one more attempt with these credentials: where they are wrong, it counts towards a lock of the account."

// whoseLogin says whose it is that no login succeeds.
func whoseLogin(c tokens.Cause) string {
	switch c.Kind {
	case tokens.CauseNoAnswer:
		return "The login server cannot be reached"
	case tokens.CauseTimeout:
		return "The login server does not answer in time"
	case tokens.CauseBrokeOff:
		return "The login server, or a proxy before it, breaks off its answers"
	case tokens.CausePage:
		return "A firewall, a proxy or a portal answers in place of the login server"
	case tokens.CauseDescriptor, tokens.CauseUnsendable:
		return "bearerd cannot make a login"
	case tokens.CauseStatus:
		if c.Status >= http.StatusInternalServerError {
			return "The login server has a fault"
		}
	}
	return "What answers as the login server gives no token"
}

func times(n int) string {
	switch n {
	case 0, 1:
		return ""
	case 2:
		return ", twice so far"
	}
	return fmt.Sprintf(", %d times so far", n)
}

func lowerFirst(s string) string {
	if s == "" || s[0] < 'A' || s[0] > 'Z' {
		return s
	}
	return string(s[0]+'a'-'A') + s[1:]
}
