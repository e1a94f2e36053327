package admin

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/bearerd/bearerd/cmd/internal/advice"
	"github.com/bearerd/bearerd/cmd/internal/display"
	"github.com/bearerd/bearerd/tokens"
)

// Status is what /status shows. It holds no secret and nothing that names
// the account. Fields that end in _s are seconds.
type Status struct {
	Version  string    `json:"version"`
	Go       string    `json:"go"`
	Platform string    `json:"platform"` // system/architecture
	Started  time.Time `json:"started"`
	Uptime   float64   `json:"uptime_s"`

	Ready  bool   `json:"ready"` // as /readyz
	Reason string `json:"reason,omitempty"`

	Health advice.Health `json:"health"` // as the page for people has it

	Token *TokenStatus `json:"token"` // null before the first
	Login LoginStatus  `json:"login"`

	Preset   string   `json:"preset,omitempty"`
	Grant    string   `json:"grant"`
	Upstream string   `json:"upstream"`
	TokenURL string   `json:"token_url"`
	Listen   []string `json:"listen"`
	Admin    []string `json:"admin"`

	InFlight int64          `json:"in_flight"`
	Counters map[string]any `json:"counters"`
}

// TokenStatus tells of the last token, good or over.
type TokenStatus struct {
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

// LoginStatus tells of the last login that ended.
type LoginStatus struct {
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

// TokenOf tells of st's token; nil before the first.
func TokenOf(st tokens.Status, now time.Time) *TokenStatus {
	if st.Generation == 0 {
		return nil
	}
	t := &TokenStatus{
		Generation: st.Generation,
		Good:       st.Good,
		Lifetime:   display.Seconds(st.Lifetime),
		ExpiryRule: st.Rule,
		Requested:  UTC(st.Requested),
		Expiry:     UTC(st.Expiry),
		Age:        display.Seconds(max(now.Sub(st.Requested), 0)), // a clock may be set back
	}
	if st.Good {
		t.Remaining = display.Seconds(max(st.Expiry.Sub(now), 0))
	}
	if !st.LastUsed.IsZero() {
		used := UTC(st.LastUsed)
		t.LastUsed = &used
	}
	return t
}

// LoginOf tells of st's login, which is made by way.
func LoginOf(st tokens.Status, way advice.Way) LoginStatus {
	l := LoginStatus{
		LastResult:   st.LastResult(),
		Cause:        st.Cause.String(),
		Remedy:       advice.For(st, way),
		FailingSince: UTC(st.FailingSince),
		NextLogin:    UTC(st.NextLogin),
		LoggingIn:    st.LoggingIn,
		Stopped:      st.Stopped,
		Waiting:      st.Waiting,
		Rejections:   st.Rejections,
	}
	if st.SkewKnown {
		skew := display.Seconds(st.Skew)
		l.ClockSkew = &skew
	}
	return l
}

// Counters returns the counters of bearerd's own by name. One with labels is
// an object by the values of its first label, by those of its second, and so
// on, in the order of the labels' names.
func Counters(g prometheus.Gatherer) map[string]any {
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
