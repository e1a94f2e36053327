package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// State is what holds at one moment. A series whose value is not known is
// left out of the scrape: a 0 would be a statement.
type State struct {
	Generation   uint64        // serial number of the token; 0: there was none yet
	Expiry       time.Time     // of the token; zero: there is none
	Lifetime     time.Duration // of the token; zero: there is none
	Skew         time.Duration // local time minus the login server's, if SkewKnown
	SkewKnown    bool
	Ready        bool      // what /readyz says
	LoginStopped bool      // no login until a person or a new secret ends it
	NextLogin    time.Time // zero: none is planned
	InFlight     int64     // requests being served, waiting ones too
	ReplayBuffer int64     // bytes of request bodies held in memory for a replay
}

// stateCollector reads all gauges of one scrape from one State, so that they
// fit together.
type stateCollector struct {
	read func() State

	generation, expiry, lifetime, skew *prometheus.Desc
	ready, stopped, nextLogin          *prometheus.Desc
	inFlight, replayHeld               *prometheus.Desc
}

func newStateCollector(read func() State) *stateCollector {
	desc := func(name, help string) *prometheus.Desc { return prometheus.NewDesc(name, help, nil, nil) }
	return &stateCollector{
		read:       read,
		generation: desc("bearerd_token_generation", "Serial number of the token in this process; 0 before the first."),
		expiry:     desc("bearerd_token_expiry_timestamp_seconds", "When the token ends, as Unix time."),
		lifetime:   desc("bearerd_token_lifetime_seconds", "How long the token is usable in all, from its login on."),
		skew:       desc("bearerd_clock_skew_seconds", "Local time minus the login server's, at the last login that told it."),
		ready:      desc("bearerd_ready", "1 while /readyz answers 200, else 0."),
		stopped:    desc("bearerd_login_stopped", "1 when logins were stopped because the credentials were refused, else 0."),
		nextLogin:  desc("bearerd_next_login_timestamp_seconds", "When the next login is planned, as Unix time."),
		inFlight:   desc("bearerd_requests_in_flight", "Requests now being served, those that wait for a token included."),
		replayHeld: desc("bearerd_replay_buffer_bytes", "Memory reserved for request bodies that may have to be sent again."),
	}
}

func (c *stateCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.generation, c.expiry, c.lifetime, c.skew, c.ready, c.stopped, c.nextLogin, c.inFlight, c.replayHeld,
	} {
		ch <- d
	}
}

func (c *stateCollector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value)
	}
	s := c.read()
	gauge(c.generation, float64(s.Generation))
	if !s.Expiry.IsZero() {
		gauge(c.expiry, unix(s.Expiry))
	}
	if s.Lifetime > 0 {
		gauge(c.lifetime, s.Lifetime.Seconds())
	}
	if s.SkewKnown {
		gauge(c.skew, s.Skew.Seconds())
	}
	gauge(c.ready, truth(s.Ready))
	gauge(c.stopped, truth(s.LoginStopped))
	if !s.NextLogin.IsZero() {
		gauge(c.nextLogin, unix(s.NextLogin))
	}
	gauge(c.inFlight, float64(s.InFlight))
	gauge(c.replayHeld, float64(s.ReplayBuffer))
}

func unix(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
