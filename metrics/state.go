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
	Shared       bool      // SharedUp means something
	SharedUp     bool      // the engine that the account's bearerds share answered last
	LinesLost    uint64    // lines of the log that its reader did not take, since the start
}

// stateSeries are the series that State gives: a row is all that there is of
// one. value's ok is false where it is not known.
var stateSeries = []struct {
	name, help string
	kind       prometheus.ValueType
	value      func(s State) (value float64, ok bool)
}{
	{"bearerd_token_generation", "Serial number of the token in this process; 0 before the first.", prometheus.GaugeValue,
		func(s State) (float64, bool) { return float64(s.Generation), true }},
	{"bearerd_token_expiry_timestamp_seconds", "When the token ends, as Unix time.", prometheus.GaugeValue,
		func(s State) (float64, bool) { return unix(s.Expiry), !s.Expiry.IsZero() }},
	{"bearerd_token_lifetime_seconds", "How long the token is usable in all, from its login on.", prometheus.GaugeValue,
		func(s State) (float64, bool) { return s.Lifetime.Seconds(), s.Lifetime > 0 }},
	{"bearerd_clock_skew_seconds", "Local time minus the login server's, at the last login that told it.", prometheus.GaugeValue,
		func(s State) (float64, bool) { return s.Skew.Seconds(), s.SkewKnown }},
	{"bearerd_ready", "1 while /readyz answers 200, else 0.", prometheus.GaugeValue,
		func(s State) (float64, bool) { return truth(s.Ready), true }},
	{"bearerd_login_stopped", "1 when logins were stopped because the credentials were refused, else 0.", prometheus.GaugeValue,
		func(s State) (float64, bool) { return truth(s.LoginStopped), true }},
	{"bearerd_next_login_timestamp_seconds", "When the next login is planned, as Unix time.", prometheus.GaugeValue,
		func(s State) (float64, bool) { return unix(s.NextLogin), !s.NextLogin.IsZero() }},
	{"bearerd_requests_in_flight", "Requests now being served, those that wait for a token included.", prometheus.GaugeValue,
		func(s State) (float64, bool) { return float64(s.InFlight), true }},
	{"bearerd_replay_buffer_bytes", "Memory reserved for request bodies that may have to be sent again.", prometheus.GaugeValue,
		func(s State) (float64, bool) { return float64(s.ReplayBuffer), true }},
	{"bearerd_shared_up", "1 while the engine of BEARERD_SHARED answers and can be written to, else 0.", prometheus.GaugeValue,
		func(s State) (float64, bool) { return truth(s.SharedUp), s.Shared }},
	{"bearerd_log_lines_lost_total", "Lines of the log that were dropped, as its reader did not take them in time or they could not be written.", prometheus.CounterValue,
		func(s State) (float64, bool) { return float64(s.LinesLost), true }},
}

// stateCollector reads all series of one scrape from one State, so that they
// fit together.
type stateCollector struct {
	read  func() State
	descs []*prometheus.Desc // of stateSeries, in that order
}

func newStateCollector(read func() State) *stateCollector {
	c := &stateCollector{read: read}
	for _, series := range stateSeries {
		c.descs = append(c.descs, prometheus.NewDesc(series.name, series.help, nil, nil))
	}
	return c
}

func (c *stateCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		ch <- d
	}
}

func (c *stateCollector) Collect(ch chan<- prometheus.Metric) {
	s := c.read()
	for i, series := range stateSeries {
		if value, ok := series.value(s); ok {
			ch <- prometheus.MustNewConstMetric(c.descs[i], series.kind, value)
		}
	}
}

func unix(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
