// Package history keeps the last hour of one bearerd in memory of a fixed size:
// requests, logins, and how many went how. It knows what a request and a login
// are, and nothing of how they are shown.
package history

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/bearerd/bearerd/proxy"
	"github.com/bearerd/bearerd/tokens"
)

// How much is kept. All of it together stays below 2 MiB, which a test holds.
const (
	lastRequests = 200
	lastFailed   = 200 // which a busy minute would push out of the last requests
	lastSlow     = 100
	lastLogins   = 512 // of which the picture of the tokens' life is made
	lastAgents   = 32

	longestMethod = 24 // bytes
	longestPath   = 240
	longestAgent  = 96
	longestText   = 400 // of a cause or a remedy
)

// Slow is how long a request takes at least that is kept for it.
const Slow = time.Second

// Fault says whose it is that a request did not go well.
type Fault uint8

const (
	Well     Fault = iota
	Login          // there was no token to be had
	Upstream       // upstream gave no answer, a bad one, or refused a token that it should take
	Caller         // the request: refused here or there, or its client left
	Bearerd        // it was overloaded, or is stopping
	Faults   int   = iota
)

// Options are the options of [New]. The zero value works.
type Options struct {
	// Explain says why a request failed and what can be done about it, in words
	// that are safe to show; nil: nobody does. It is not called for one that went
	// well.
	Explain func(*proxy.Exchange) (cause, remedy string)
	// Advise is Explain for a login; nil: only the cause is known.
	Advise func(tokens.Event) (remedy string)
	// Stopping reports whether bearerd itself cuts answers short; nil: never.
	Stopping func() bool
}

// History is what is kept. Its methods may be called from any goroutine. Make
// one with [New].
type History struct {
	opt   Options
	start time.Time

	mu       sync.Mutex // guards what follows
	seq      uint64     // of the last request
	recent   [lastRequests]slot
	failed   [lastFailed]slot
	slow     [lastSlow]slot
	nFailed  uint64
	nSlow    uint64
	logins   [lastLogins]LoginRecord
	nLogins  uint64
	buckets  [buckets]Bucket
	agents   agents
	totals   Counts
	failing  Failing
	young    time.Time
	took     time.Duration // the last good login
	ended    time.Time     // the last request
	lastSaid said
}

// said is what Explain last said of a request that found no token: while none is
// to be had there may be thousands a second.
type said struct {
	code          proxy.Code
	at            time.Time
	cause, remedy string
}

// Counts are numbers of requests, by whose fault it was.
type Counts [Faults]uint64

// All is how many there were.
func (c Counts) All() (n uint64) {
	for _, k := range c {
		n += k
	}
	return n
}

// Failed is how many of them did not go well.
func (c Counts) Failed() uint64 { return c.All() - c[Well] }

// Failing tells of upstream, since its last good answer.
type Failing struct {
	Since, Last   time.Time // of the first and the last failure
	Requests      int       // that failed; 0: it does not fail
	Cause, Remedy string    // of the last
	Refused       bool      // the last was a refusal of a token
}

// New returns a History in which nothing has happened.
func New(o Options) *History { return &History{opt: o, start: time.Now()} }

// slot is a Request as it is kept: it holds on to no memory of the request's.
type slot struct {
	Request
	method [longestMethod]byte
	path   [longestPath]byte
	nm, np uint8
}

// Request is what is known of a request that ended.
type Request struct {
	Seq        uint64 // they are counted from 1
	Start      time.Time
	Duration   time.Duration
	TokenWait  time.Duration
	Method     string // cut where it is long; so is the next
	Path       string // without the query
	Status     int    // 0: no answer was sent
	BytesIn    int64
	BytesOut   int64
	Generation uint64 // of the token that went upstream last; 0: none did
	Replayed   bool
	TooYoung   bool // replayed with the token before, as upstream did not know the new one yet
	Outcome    proxy.Outcome
	Code       proxy.Code // of bearerd's own answer
	Fault      Fault
	Cause      string // of a failure; so is the next
	Remedy     string
}

// LoginRecord is what is known of a login that ended.
type LoginRecord struct {
	Seq      uint64
	At       time.Time // its end
	Duration time.Duration
	Why      tokens.Reason
	Result   tokens.Result
	Waiting  bool // for a credential file: none was made
	Stopped  bool
	Cause    string
	Remedy   string

	// With tokens.OK.
	Generation uint64
	Rule       tokens.Rule
	Lifetime   time.Duration
	Requested  time.Time
	Expiry     time.Time
}

// Request keeps ex: proxy.Options.Done. For one that went well it allocates
// nothing.
func (h *History) Request(ex *proxy.Exchange) {
	fault := h.faultOf(ex)
	ended := ex.Start.Add(ex.Duration)
	var cause, remedy string
	if fault != Well {
		cause, remedy = h.explain(ex, fault, ended)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seq++
	s := &h.recent[h.seq%lastRequests]
	s.Request = Request{
		Seq: h.seq, Start: ex.Start, Duration: ex.Duration, TokenWait: ex.TokenWait,
		Status: ex.Status, BytesIn: ex.BytesIn, BytesOut: ex.BytesOut, Generation: ex.Generation,
		Replayed: ex.Unauthorized == proxy.Replayed || ex.Unauthorized == proxy.TooYoung,
		TooYoung: ex.Unauthorized == proxy.TooYoung,
		Outcome:  ex.Outcome, Code: ex.Error, Fault: fault, Cause: cause, Remedy: remedy,
	}
	s.nm, s.np = uint8(copy(s.method[:], ex.Method)), uint8(copy(s.path[:], ex.Path))
	if fault != Well {
		h.nFailed++
		h.failed[h.nFailed%lastFailed] = *s
	}
	if ex.Duration >= Slow {
		h.nSlow++
		h.slow[h.nSlow%lastSlow] = *s
	}
	h.totals[fault]++
	if ended.After(h.ended) {
		h.ended = ended
	}
	b := h.bucket(ended)
	b.Counts[fault]++
	if ex.Generation != 0 {
		b.Latency.add(ex.Duration)
		h.upstream(ex, s, ended)
	}
	if s.TooYoung && ended.After(h.young) {
		h.young = ended
	}
	h.agents.count(ex.UserAgent, ended)
}

// upstream notes whether upstream failed. The caller holds mu.
func (h *History) upstream(ex *proxy.Exchange, s *slot, ended time.Time) {
	f := &h.failing
	switch {
	case s.Fault == Upstream:
		if f.Requests == 0 {
			f.Since = ended
		}
		f.Requests++
		if !ended.Before(f.Last) {
			f.Last, f.Cause, f.Remedy, f.Refused = ended, s.Cause, s.Remedy, ex.Refused
		}
	case f.Requests > 0 && ex.Status != 0 && ex.Outcome == proxy.Completed && !ex.Start.Before(f.Last):
		// A long stream may have begun before the trouble.
		*f = Failing{}
	}
}

func (h *History) faultOf(ex *proxy.Exchange) Fault {
	switch ex.Error.Fault() {
	case proxy.FaultLogin:
		return Login
	case proxy.FaultUpstream:
		return Upstream
	case proxy.FaultCaller:
		if ex.Error == proxy.Overloaded {
			return Bearerd
		}
		return Caller
	}
	switch {
	case ex.Outcome == proxy.Aborted && h.opt.Stopping != nil && h.opt.Stopping():
		return Bearerd
	case ex.Outcome == proxy.ClientClosed:
		return Caller
	case ex.Outcome == proxy.Aborted, ex.Refused, ex.Status >= 500:
		return Upstream
	case ex.Status >= 400:
		return Caller
	}
	return Well
}

// explain asks Options.Explain.
func (h *History) explain(ex *proxy.Exchange, fault Fault, ended time.Time) (cause, remedy string) {
	if h.opt.Explain == nil {
		return "", ""
	}
	if fault == Login {
		h.mu.Lock()
		last := h.lastSaid
		h.mu.Unlock()
		if age := ended.Sub(last.at); last.code == ex.Error && age.Abs() < time.Second {
			return last.cause, last.remedy
		}
	}
	cause, remedy = h.opt.Explain(ex)
	cause, remedy = cut(cause), cut(remedy)
	if fault == Login {
		h.mu.Lock()
		h.lastSaid = said{ex.Error, ended, cause, remedy}
		h.mu.Unlock()
	}
	return cause, remedy
}

// cut makes s a text that is kept.
func cut(s string) string {
	if len(s) <= longestText {
		return s
	}
	return strings.Clone(strings.ToValidUTF8(s[:longestText], "")) + "…"
}

// Login keeps ev: tokens.Options.Observe.
func (h *History) Login(ev tokens.Event) {
	r := LoginRecord{
		At: time.Now(), Duration: ev.Duration, Why: ev.Why, Result: ev.Result(),
		Waiting: ev.Waiting, Stopped: ev.Stopped, Cause: cut(ev.Cause.String()),
	}
	if h.opt.Advise != nil && ev.Kind != "" {
		r.Remedy = cut(h.opt.Advise(ev))
	}
	if t := ev.Token; t != nil {
		r.At = t.Came
		r.Generation, r.Rule, r.Lifetime, r.Requested, r.Expiry = t.Generation, t.Rule, t.Lifetime, t.Requested, t.Expiry
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if ev.Kind == "" {
		h.took = ev.Duration
	}
	h.nLogins++
	r.Seq = h.nLogins
	h.logins[h.nLogins%lastLogins] = r
}

// Brief is the little of it that says how all is now.
type Brief struct {
	Failing   Failing
	Young     time.Time     // when upstream last did not know a token that was new; zero: never
	LoginTook time.Duration // the last good one; 0: none
	Last      time.Time     // end of the last request; zero: none
}

// Brief returns what h says of this moment.
func (h *History) Brief() Brief {
	h.mu.Lock()
	defer h.mu.Unlock()
	return Brief{h.failing, h.young, h.took, h.ended}
}

// A Snapshot is what a History held at one moment.
type Snapshot struct {
	Now    time.Time
	Start  time.Time // of the History
	Recent []Request // the last first; so with the next three
	Failed []Request
	Slow   []Request // they took at least [Slow]
	Logins []LoginRecord

	Buckets []Bucket // of the last hour, the oldest first; one without a request is missing
	Totals  Counts   // since the start
	Agents  []Agent  // the busiest first
	Others  uint64   // requests of user agents that are not in Agents
}

// Snapshot returns what h holds now.
func (h *History) Snapshot() Snapshot {
	now := time.Now()
	h.mu.Lock()
	s := Snapshot{
		Now: now, Start: h.start,
		Recent: latest(h.recent[:], h.seq, slot.request),
		Failed: latest(h.failed[:], h.nFailed, slot.request),
		Slow:   latest(h.slow[:], h.nSlow, slot.request),
		Logins: latest(h.logins[:], h.nLogins, func(l LoginRecord) LoginRecord { return l }),
		Totals: h.totals, Agents: h.agents.list(), Others: h.agents.others,
	}
	oldest, newest := bucketOf(now.Add(-Kept)), bucketOf(now)
	for i := oldest; i <= newest; i++ {
		if b := &h.buckets[i%buckets]; b.number == i {
			s.Buckets = append(s.Buckets, *b)
		}
	}
	h.mu.Unlock()
	slices.SortStableFunc(s.Agents, func(a, b Agent) int { return int(min(max(int64(b.Requests-a.Requests), -1), 1)) })
	return s
}

// latest lists what is in a ring after n of it came, the last first.
func latest[S, T any](ring []S, n uint64, as func(S) T) []T {
	size := uint64(len(ring))
	all := make([]T, 0, min(n, size))
	for i := range min(n, size) {
		all = append(all, as(ring[(n-i)%size]))
	}
	return all
}

func (s slot) request() Request {
	r := s.Request
	r.Method, r.Path = string(s.method[:s.nm]), string(s.path[:s.np])
	if s.np == longestPath {
		r.Path += "…"
	}
	return r
}
