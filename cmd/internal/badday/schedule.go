package main

import (
	"time"

	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

// kind is what goes wrong.
type kind string

const (
	revocation      kind = "revocation"
	outage          kind = "login outage"
	throttling      kind = "429"
	rotation        kind = "rotation"
	lock            kind = "account locked"
	upstreamRestart kind = "upstream restart"
	rolling         kind = "rolling restart"
)

// event is one thing that goes wrong.
type event struct {
	at    time.Duration // since the start
	kind  kind
	lasts time.Duration       // until whoever caused it has mended it
	fault querysim.LoginFault // of an outage or a throttling

	// revokes says that a rotation ends all tokens too, as some login servers
	// do when a password changes.
	revokes bool
	// unlocked says that an administrator ends a lock and a person has bearerd
	// log in again. Otherwise lasts is Keycloak's minute.
	unlocked bool
}

// schedule is a day. Its events are in order and, but for revocations during a
// rolling restart, each is over and healed before the next begins: so it can be
// told whose each failure is.
type schedule struct {
	length       time.Duration
	lifetime     time.Duration // of a token
	drain, grace time.Duration // DRAIN_DELAY and SHUTDOWN_GRACE
	rate         int           // bytes of a download a second
	events       []event
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func revocations(at ...float64) []event {
	var all []event
	for _, s := range at {
		all = append(all, event{at: seconds(s), kind: revocation})
	}
	return all
}

// longDay is an hour of trouble in ten minutes.
func longDay() schedule {
	s := schedule{
		length: 10 * time.Minute, lifetime: 10 * time.Second,
		drain: 5 * time.Second, grace: 25 * time.Second, rate: 16 << 20,
	}
	s.add(revocations(10, 16, 22, 28, 34, 40, 46, 52)...)
	s.add(event{at: seconds(57), kind: upstreamRestart, lasts: seconds(1)},
		event{at: seconds(62), kind: outage, fault: querysim.LoginDown, lasts: seconds(3)})
	s.add(revocations(72, 76, 80, 84)...)
	s.add(event{at: seconds(88), kind: outage, fault: querysim.LoginReset, lasts: seconds(4)})
	s.add(revocations(104, 108, 112)...)
	s.add(event{at: seconds(115), kind: upstreamRestart, lasts: seconds(0.5)},
		event{at: seconds(120), kind: rotation})
	s.add(revocations(130, 134, 138)...)
	s.add(event{at: seconds(145), kind: outage, fault: querysim.LoginHTML, lasts: seconds(6)})
	s.add(revocations(164, 168, 172, 176)...)
	s.add(event{at: seconds(180), kind: outage, fault: querysim.LoginStatus, lasts: seconds(25)})
	s.add(revocations(230, 234, 238, 242)...)
	s.add(event{at: seconds(246), kind: upstreamRestart, lasts: seconds(2)},
		event{at: seconds(250), kind: rolling})
	s.add(revocations(253)...) // both processes hold a token
	s.add(event{at: seconds(285), kind: throttling, fault: querysim.LoginTooMany.With("5s"), lasts: seconds(20)})
	s.add(revocations(315, 319, 323)...)
	s.add(event{at: seconds(330), kind: rotation, revokes: true, lasts: seconds(3)})
	s.add(revocations(345, 349)...)
	s.add(event{at: seconds(355), kind: lock, lasts: time.Minute})
	s.add(revocations(460, 464, 468, 472)...)
	s.add(event{at: seconds(480), kind: upstreamRestart, lasts: seconds(3)},
		event{at: seconds(488), kind: rolling})
	s.add(revocations(491)...)
	s.add(revocations(525, 540)...)
	s.add(event{at: seconds(560), kind: upstreamRestart, lasts: seconds(1)})
	return s
}

// shortDay is a minute with everything of a longDay in it, with tokens of half
// the lifetime.
func shortDay() schedule {
	s := schedule{
		length: time.Minute, lifetime: 5 * time.Second,
		drain: 2 * time.Second, grace: 3 * time.Second, rate: 48 << 20,
	}
	s.add(revocations(1.5)...)
	s.add(event{at: seconds(2.5), kind: outage, fault: querysim.LoginDown, lasts: seconds(1.5)})
	s.add(revocations(7)...)
	s.add(event{at: seconds(8), kind: outage, fault: querysim.LoginReset, lasts: seconds(1.5)},
		event{at: seconds(12), kind: upstreamRestart, lasts: seconds(0.5)},
		event{at: seconds(13.5), kind: outage, fault: querysim.LoginHTML, lasts: seconds(2)},
		event{at: seconds(18.5), kind: rotation})
	s.add(revocations(19.5)...)
	s.add(event{at: seconds(20.5), kind: outage, fault: querysim.LoginStatus, lasts: seconds(6)})
	s.add(revocations(32)...)
	s.add(event{at: seconds(33), kind: throttling, fault: querysim.LoginTooMany.With("2s"), lasts: seconds(5)},
		event{at: seconds(41), kind: rotation, revokes: true, lasts: seconds(1)},
		event{at: seconds(45), kind: lock, lasts: seconds(5), unlocked: true},
		event{at: seconds(51), kind: upstreamRestart, lasts: seconds(0.5)},
		event{at: seconds(52.5), kind: rolling})
	s.add(revocations(53.5, 58)...)
	return s
}

func (s *schedule) add(events ...event) { s.events = append(s.events, events...) }

// margin is how long after something happened at a server bearerd, or a client,
// may not have noticed.
const margin = 250 * time.Millisecond

// label is what the report calls e.
func (e event) label() string {
	switch {
	case e.kind == outage:
		return string(e.kind) + ": " + string(e.fault)
	case e.kind == rotation && e.revokes:
		return "rotation, file late"
	}
	return string(e.kind)
}

// hurtsLogin tells whether no login succeeds while e lasts.
func (e event) hurtsLogin() bool {
	return e.kind == outage || e.kind == throttling || e.kind == rotation || e.kind == lock
}

// hurtsUpstream tells whether upstream is gone while e lasts.
func (e event) hurtsUpstream() bool { return e.kind == upstreamRestart }

// revoked tells whether e ends all tokens as it begins.
func (e event) revoked() bool { return e.kind == revocation || e.revokes }
