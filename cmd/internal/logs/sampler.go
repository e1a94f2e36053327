package logs

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Of lines of one kind that anybody can cause, the log has so many at once, and
// then one each interval.
const (
	SampleBurst = 20
	sampleEvery = 10 * time.Second
)

// sampler lets some lines of each kind through and counts the rest: what a web
// page can make bearerd say must not fill a disk. tell must be set.
type sampler struct {
	// tell is called with what was left out of a kind since the first of it: at
	// most once in sampleEvery for a kind.
	tell func(kind string, n int, since time.Time)

	mu    sync.Mutex // guards kinds and what they hold; not held while tell runs
	kinds map[string]*sampled
}

type sampled struct {
	limit *rate.Limiter
	left  int // out, and not yet told of
	since time.Time
	timer *time.Timer
}

// allow reports whether a line of kind may be written. There must be few kinds.
func (s *sampler) allow(kind string) bool {
	if s == nil {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.kinds[kind]
	if k == nil {
		if s.kinds == nil {
			s.kinds = make(map[string]*sampled)
		}
		k = &sampled{limit: rate.NewLimiter(rate.Every(sampleEvery), SampleBurst)}
		s.kinds[kind] = k
	}
	if k.left == 0 && k.limit.Allow() {
		return true
	}
	if k.left++; k.left == 1 {
		k.since = time.Now()
		k.timer = time.AfterFunc(sampleEvery, func() { s.tellOf(kind) })
	}
	return false
}

func (s *sampler) tellOf(kind string) {
	s.mu.Lock()
	k := s.kinds[kind]
	k.timer.Stop()
	n, since := k.left, k.since
	k.left = 0
	s.mu.Unlock()
	if n > 0 {
		s.tell(kind, n, since)
	}
}

// close tells of what was left out and not yet told of.
func (s *sampler) close() {
	s.mu.Lock()
	kinds := make([]string, 0, len(s.kinds))
	for kind, k := range s.kinds {
		if k.left > 0 {
			kinds = append(kinds, kind)
		}
	}
	s.mu.Unlock()
	for _, kind := range kinds {
		s.tellOf(kind)
	}
}
