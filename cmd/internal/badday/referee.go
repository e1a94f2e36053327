package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/bearerd/bearerd/proxy"
)

// margin grows by what the machine was late: a stall is not bearerd's.
func (d *day) margin() time.Duration { return margin + d.lag }

// How long a failed login is waited for, as docs/faults.md has it.
const (
	firstTransient = time.Second
	mostTransient  = 30 * time.Second
	firstRejected  = 30 * time.Second
	healsFile      = 5 * time.Second // after a credential file changed
	slack          = 2 * time.Second // besides margin
)

// culprit is whose a failure is.
type culprit string

const (
	theLogin    culprit = "no token was to be had"
	theUpstream culprit = "upstream was down"
	theStop     culprit = "still running at the end of SHUTDOWN_GRACE"
	bearerd     culprit = "bearerd"
)

// verdict is what the referee says of a day.
type verdict struct {
	requests  map[string]int // by kind
	succeeded map[string]int // of them
	failures  map[culprit]map[string]int
	blamed    []request // on bearerd

	logins                map[result]int // of all instances
	minimum               int
	needless, late        []string // logins
	lockouts              int      // that bearerd caused
	withoutToken, foreign int      // requests that upstream saw
	atOnce                int      // logins of one process

	problems []string // what makes the day fail
}

// judge looks at a day that is over.
func judge(d *day) verdict {
	stats := d.services.sim.Stats()
	v := verdict{
		requests:     map[string]int{},
		succeeded:    map[string]int{},
		failures:     map[culprit]map[string]int{},
		logins:       map[result]int{},
		lockouts:     stats.Lockouts,
		withoutToken: stats.WithoutToken,
		foreign:      d.services.notIssued,
		atOnce:       d.services.atOnce,
	}
	slices.SortFunc(d.services.logins, func(a, b login) int { return cmp.Compare(a.arrived, b.arrived) })
	slices.SortFunc(d.bands, func(a, b band) int { return cmp.Compare(a.from, b.from) })
	for i := range d.bands {
		d.bands[i].healed = d.healing(d.bands[i])
		if d.bands[i].kind == lock {
			v.lockouts--
		}
	}
	for _, r := range d.load.requests {
		v.requests[r.kind]++
		if r.code == "" {
			v.succeeded[r.kind]++
			continue
		}
		whose := d.culprit(r)
		if v.failures[whose] == nil {
			v.failures[whose] = map[string]int{}
		}
		v.failures[whose][r.code]++
		if whose == bearerd {
			v.blamed = append(v.blamed, r)
		}
	}
	for _, l := range d.services.logins {
		if l.instance > 0 {
			v.logins[l.result]++
		}
	}
	for _, i := range d.instances {
		needless, late := d.discipline(i)
		v.needless, v.late = append(v.needless, needless...), append(v.late, late...)
		v.minimum += d.necessary(i)
	}

	expect := func(good bool, format string, args ...any) {
		if !good {
			v.problems = append(v.problems, fmt.Sprintf(format, args...))
		}
	}
	expect(len(v.blamed) == 0, "%d requests failed because of bearerd, such as %v", len(v.blamed), v.blamed[:min(len(v.blamed), 5)])
	expect(len(v.needless) == 0, "%d logins were needless or too soon, such as %v", len(v.needless), v.needless[:min(len(v.needless), 5)])
	expect(len(v.late) == 0, "%d logins were late: %v", len(v.late), v.late)
	expect(v.lockouts == 0, "bearerd locked the account %d times", v.lockouts)
	expect(v.withoutToken == 0, "upstream saw %d requests without a token", v.withoutToken)
	expect(v.foreign == 0, "upstream saw %d requests with a token that the login server did not issue", v.foreign)
	expect(v.atOnce == 1, "%d logins of one process at once, want 1", v.atOnce)
	expect(atRest(d.base, d.final), "bearerd at rest takes %v, and took %v at the start", d.final, d.base)
	// A day on which nothing happened would prove nothing.
	expect(len(d.bands) == len(d.schedule.events), "%d of %d events happened", len(d.bands), len(d.schedule.events))
	for _, kind := range requestKinds {
		expect(v.succeeded[kind] > 0, "no %s succeeded", kind)
	}
	for _, r := range []result{ok, rejected, throttled, transient} {
		expect(v.logins[r] > 0, "no login was %s", r)
	}
	expect(stats.Unauthorized > 0, "upstream refused no token")
	expect(v.failures[theUpstream] != nil, "no request met upstream down")
	for _, b := range d.bands {
		free := d.free(b)
		if patience := free + slack + d.lag; patience < d.dayEnd() {
			expect(d.back(free) <= patience, "after %s at %v no request succeeded for %v", b.label(), b.from.Round(time.Second), patience-free)
		}
	}
	return v
}

// healing returns when bearerd could work again after b: its first login after
// those that failed in b.
func (d *day) healing(b band) time.Duration {
	if !b.hurtsLogin() {
		return b.over
	}
	failing := false
	for _, l := range d.services.logins {
		inside := l.answered >= b.from && l.answered <= b.over+d.margin()
		switch {
		case l.instance == 0:
		case inside && l.result != ok:
			failing = true
		case inside && l.answered < b.over:
			failing = false
		case failing && l.result == ok:
			return max(b.over, l.answered)
		}
	}
	if failing {
		return d.dayEnd()
	}
	return b.over
}

func (d *day) dayEnd() time.Duration { return d.current().told }

// free returns when b had healed, and what began before bearerd can have worked
// again.
func (d *day) free(b band) time.Duration {
	free := b.healed
	for _, next := range d.bands {
		if next.from >= b.from && next.from <= free+d.margin() {
			free = max(free, next.healed)
		}
	}
	return free
}

// back returns when the first poll succeeded that began after that moment, or
// the end of the day.
func (d *day) back(after time.Duration) time.Duration {
	first := d.dayEnd()
	for _, r := range d.load.requests {
		if r.kind == poll && r.code == "" && r.start >= after {
			first = min(first, r.end)
		}
	}
	return first
}

// culprit tells whose a failure is. Its code must say the same, or it is
// bearerd's.
func (d *day) culprit(r request) culprit {
	fault := proxy.Code(r.code).Fault()
	switch {
	case fault == proxy.FaultLogin, r.code == "401":
		if d.troubled(r.start, r.end, event.hurtsLogin) && !d.held(r.start, r.end) {
			return theLogin
		}
	case fault == proxy.FaultUpstream:
		if d.troubled(r.start, r.end, event.hurtsUpstream) {
			return theUpstream
		}
	case r.code == cutShort: // perhaps long after it began
		if d.troubled(r.end, r.end, event.hurtsUpstream) {
			return theUpstream
		}
		for _, i := range d.instances {
			if i.told > 0 && r.end >= i.told+d.schedule.drain+d.schedule.grace-d.margin() && r.end <= i.ended+d.margin() {
				return theStop
			}
		}
	}
	return bearerd
}

// troubled tells whether something of the kind went on at some time between.
func (d *day) troubled(from, to time.Duration, by func(event) bool) bool {
	return slices.ContainsFunc(d.bands, func(b band) bool { return by(b.event) && b.from <= to && from <= b.healed+d.margin() })
}

// held tells whether any bearerd that was to serve held a good token all the
// time.
func (d *day) held(from, to time.Duration) bool {
	return slices.ContainsFunc(d.services.tokens, func(t *token) bool {
		ends := t.ends
		if !t.revoked {
			ends -= d.margin()
		}
		if told := d.instances[t.instance-1].told; told > 0 {
			ends = min(ends, told)
		}
		return t.issued+d.margin() <= from && to <= ends
	})
}

// discipline looks at each login of an instance and tells which were not to
// be made, or made earlier or later than docs/faults.md says.
func (d *day) discipline(i *instance) (needless, late []string) {
	var (
		previous   *login
		rejections int
		transients int
		wait, most time.Duration // after previous, which failed
	)
	between := func(moments []time.Duration, from, to time.Duration) (time.Duration, bool) {
		n := slices.IndexFunc(moments, func(m time.Duration) bool { return from <= m && m <= to })
		if n < 0 {
			return 0, false
		}
		return moments[n], true
	}
	// due is when the login after previous must have come.
	due := func() time.Duration {
		at := previous.answered + most + slack + d.lag
		if changed, ok := between(d.rotated, previous.arrived-healsFile, at); ok && previous.result == rejected {
			at = min(at, max(changed, previous.answered)+healsFile+slack+d.lag)
		}
		if asked, ok := between(d.asked, previous.arrived, at); ok {
			at = min(at, asked+slack+d.lag)
		}
		return at
	}
	for _, l := range d.services.logins {
		if l.instance != i.number {
			continue
		}
		switch {
		case previous == nil:
		case previous.result == ok:
			t := d.tokenOf(*previous)
			revoked := t.revoked && t.ends <= l.arrived
			if !revoked && l.arrived < t.requested+d.schedule.lifetime*7/10-d.margin() {
				needless = append(needless, fmt.Sprintf("bearerd %d at %v: its token was %v old", i.number, l.arrived, l.arrived-t.requested))
			}
		default:
			_, asked := between(d.asked, previous.arrived, l.arrived)
			_, changed := between(d.rotated, previous.arrived-healsFile, l.arrived)
			if l.arrived < previous.answered+wait-d.margin() && !asked && !changed {
				needless = append(needless, fmt.Sprintf("bearerd %d at %v: %v after one was %s", i.number, l.arrived, l.arrived-previous.answered, previous.result))
			}
			if at := due(); l.arrived > at {
				late = append(late, fmt.Sprintf("bearerd %d at %v, due at %v", i.number, l.arrived, at))
			}
		}
		switch l.result {
		case ok:
			rejections, transients = 0, 0
		case rejected:
			wait = firstRejected << rejections
			most = wait
			rejections++
			transients = 0
		case throttled:
			wait, most = l.retryAfter, l.retryAfter*12/10
		case transient:
			wait = min(firstTransient<<transients, mostTransient)
			most = wait * 12 / 10
			transients++
		}
		previous = &l
	}
	if previous == nil {
		return needless, append(late, fmt.Sprintf("bearerd %d never logged in", i.number))
	}
	if previous.result != ok && i.told > due() {
		late = append(late, fmt.Sprintf("bearerd %d after %v: none", i.number, previous.answered))
	}
	return needless, late
}

func (d *day) tokenOf(l login) *token {
	n := slices.IndexFunc(d.services.tokens, func(t *token) bool { return t.instance == l.instance && t.requested == l.arrived })
	return d.services.tokens[n]
}

// necessary counts the logins of a client in the instance's place that knows
// all and logs in only when its token has ended or is revoked, and login works.
func (d *day) necessary(i *instance) int {
	n := 0
	for at := i.begun; at < i.told+d.schedule.drain; n++ {
		ends := at + d.schedule.lifetime
		for _, b := range d.bands {
			if b.revoked() && b.from > at {
				ends = min(ends, b.from)
			}
		}
		for _, b := range d.bands {
			if b.hurtsLogin() && b.from <= ends && ends < b.healed {
				ends = b.healed
			}
		}
		at = ends
	}
	return n
}

// shown is "code n, code n".
func shown(codes map[string]int) string {
	text := ""
	for _, code := range slices.Sorted(maps.Keys(codes)) {
		if text != "" {
			text += ", "
		}
		text += fmt.Sprintf("%s %d", code, codes[code])
	}
	return text
}
