package history

import "time"

// Agent is a user agent and how much it asked.
type Agent struct {
	Name     string // cut where it is long; empty: the tool sends none
	Requests uint64
	Last     time.Time
}

// agents counts user agents in a list of a fixed size. Where it is full, a new
// one takes the place of the one that asked least: whoever asks often stays,
// however many names somebody else invents.
type agents struct {
	entries [lastAgents]agent
	n       int
	last    int // where the last request's is: mostly the next one's too
	others  uint64
}

type agent struct {
	name     [longestAgent]byte
	length   uint8
	requests uint64
	at       time.Time
}

func (a *agents) count(name string, at time.Time) {
	name = name[:min(len(name), longestAgent)]
	if a.n > 0 && a.entries[a.last].is(name) {
		a.entries[a.last].seen(at)
		return
	}
	least := 0
	for i := range a.n {
		e := &a.entries[i]
		if e.is(name) {
			a.last = i
			e.seen(at)
			return
		}
		if l := &a.entries[least]; e.requests < l.requests || e.requests == l.requests && e.at.Before(l.at) {
			least = i
		}
	}
	if a.n < lastAgents {
		least = a.n
		a.n++
	}
	e := &a.entries[least]
	a.others += e.requests
	*e = agent{length: uint8(len(name))}
	copy(e.name[:], name)
	e.seen(at)
	a.last = least
}

func (a *agent) is(name string) bool { return string(a.name[:a.length]) == name }

func (a *agent) seen(at time.Time) {
	a.requests++
	a.at = at
}

func (a *agents) list() []Agent {
	all := make([]Agent, a.n)
	for i := range all {
		e := &a.entries[i]
		all[i] = Agent{string(e.name[:e.length]), e.requests, e.at}
		if e.length == longestAgent {
			all[i].Name += "…"
		}
	}
	return all
}
