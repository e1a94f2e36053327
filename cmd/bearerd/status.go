package main

import (
	"runtime"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/bearerd/bearerd/tokens"
)

// statusPage is what /status shows. It holds no secret and nothing that names
// the account. Fields that end in _s are seconds.
type statusPage struct {
	Version  string    `json:"version"`
	Go       string    `json:"go"`
	Platform string    `json:"platform"` // system/architecture
	Started  time.Time `json:"started"`
	Uptime   float64   `json:"uptime_s"`

	Ready  bool   `json:"ready"` // as /readyz
	Reason string `json:"reason,omitempty"`

	Token *tokenStatus `json:"token"` // null before the first
	Login loginStatus  `json:"login"`

	Preset   string   `json:"preset,omitempty"`
	Grant    string   `json:"grant"`
	Upstream string   `json:"upstream"`
	TokenURL string   `json:"token_url"`
	Listen   []string `json:"listen"`
	Admin    []string `json:"admin"`

	InFlight int64          `json:"in_flight"`
	Counters map[string]any `json:"counters"`
}

// tokenStatus tells of the last token, good or over.
type tokenStatus struct {
	Generation uint64      `json:"generation"`
	Good       bool        `json:"good"`
	Lifetime   float64     `json:"lifetime_s"`
	ExpiryRule tokens.Rule `json:"expiry_rule"`
	Requested  time.Time   `json:"requested"`
	Expiry     time.Time   `json:"expiry"`
	Age        float64     `json:"age_s"`
	Remaining  float64     `json:"remaining_s"` // 0 when it is over, by whichever clock
	LastUsed   *time.Time  `json:"last_used"`   // null: never
}

// loginStatus tells of the last login that ended.
type loginStatus struct {
	LastResult   tokens.Result `json:"last_result,omitempty"` // absent before the first
	Cause        string        `json:"cause,omitempty"`
	Remedy       string        `json:"remedy,omitempty"`
	FailingSince time.Time     `json:"failing_since,omitzero"`
	NextLogin    time.Time     `json:"next_login,omitzero"` // absent: none is planned
	LoggingIn    bool          `json:"logging_in"`
	Stopped      bool          `json:"stopped"`
	Waiting      bool          `json:"waiting"` // for a credential file
	Rejections   int           `json:"rejections"`
	ClockSkew    *float64      `json:"clock_skew_s,omitempty"` // absent when unknown
}

// statusPage describes s at this moment. Its counters are those of /metrics.
func (s *service) statusPage() statusPage {
	now, st := time.Now(), s.manager.Status()
	reason := notReady(st, s.stopping.Load())
	return statusPage{
		Version:  version(),
		Go:       runtime.Version(),
		Platform: platform,
		Started:  utc(s.started),
		Uptime:   seconds(now.Sub(s.started)),
		Ready:    reason == "",
		Reason:   reason,
		Token:    statusOfToken(st, now),
		Login:    statusOfLogin(st, s.cfg.asked()),
		Preset:   s.cfg.Preset,
		Grant:    s.cfg.GrantType,
		Upstream: withoutQuery(s.cfg.Upstream),
		TokenURL: withoutQuery(s.cfg.TokenURL),
		Listen:   addresses(s.dataListeners),
		Admin:    addresses(s.adminListeners),
		InFlight: s.proxy.InFlight(),
		Counters: countersOf(s.registry),
	}
}

func statusOfToken(st tokens.Status, now time.Time) *tokenStatus {
	if st.Generation == 0 {
		return nil
	}
	t := &tokenStatus{
		Generation: st.Generation,
		Good:       st.Good,
		Lifetime:   seconds(st.Lifetime),
		ExpiryRule: st.Rule,
		Requested:  utc(st.Requested),
		Expiry:     utc(st.Expiry),
		Age:        seconds(max(now.Sub(st.Requested), 0)), // a clock may be set back
	}
	if st.Good {
		t.Remaining = seconds(max(st.Expiry.Sub(now), 0))
	}
	if !st.LastUsed.IsZero() {
		used := utc(st.LastUsed)
		t.LastUsed = &used
	}
	return t
}

func statusOfLogin(st tokens.Status, asked bool) loginStatus {
	l := loginStatus{
		LastResult:   st.LastResult,
		Cause:        st.Cause,
		Remedy:       adviceFor(st, asked),
		FailingSince: utc(st.FailingSince),
		NextLogin:    utc(st.NextLogin),
		LoggingIn:    st.LoggingIn,
		Stopped:      st.Stopped,
		Waiting:      st.Waiting,
		Rejections:   st.Rejections,
	}
	if st.SkewKnown {
		skew := seconds(st.Skew)
		l.ClockSkew = &skew
	}
	return l
}

// countersOf returns the counters of bearerd's own by name. One with labels is
// an object by the values of its first label, by those of its second, and so
// on, in the order of the labels' names.
func countersOf(g prometheus.Gatherer) map[string]any {
	all := make(map[string]any)
	families, _ := g.Gather() // what it could not gather is missing, and /metrics says why
	for _, f := range families {
		name := f.GetName()
		if !strings.HasPrefix(name, "bearerd_") || !strings.HasSuffix(name, "_total") {
			continue
		}
		for _, m := range f.GetMetric() {
			at, key := all, name
			for _, label := range m.GetLabel() {
				under, ok := at[key].(map[string]any)
				if !ok {
					under = make(map[string]any)
					at[key] = under
				}
				at, key = under, label.GetValue()
			}
			at[key] = m.GetCounter().GetValue()
		}
	}
	return all
}
