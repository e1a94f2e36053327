package service

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/bearerd/bearerd/cmd/internal/docs"
	"github.com/bearerd/bearerd/cmd/internal/logs"
	"github.com/bearerd/bearerd/metrics"
	"github.com/bearerd/bearerd/proxy"
	"github.com/bearerd/bearerd/tokens"
)

// Metrics and log tell of each code as its fault says. (The access log:
// TestEveryRefusalIsBounded.)
func TestEveryCodeIsToldOfByItsFault(t *testing.T) {
	for _, code := range append(proxy.Codes(), "") {
		registry := prometheus.NewRegistry()
		m := metrics.New(registry, MetricsOptions("", nil))
		rejections, upstreamErrors := `bearerd_rejections_total code=`+string(code), `bearerd_upstream_errors_total code=`+string(code)
		own, other := rejections, upstreamErrors
		if code.Fault() == proxy.FaultUpstream {
			own, other = other, own
		}
		for n := range 2 { // before the first, and after
			got := samplesByCode(t, registry)
			if value, ok := got[own]; code != "" && (!ok || value != float64(n)) {
				t.Errorf("after %d: got %s %v %v", n, own, value, ok)
			}
			if _, ok := got[other]; ok {
				t.Errorf("after %d: %s, too", n, other)
			}
			observeRequest(m, &proxy.Exchange{Method: "GET", Status: 500, Error: code})
		}

		var told bytes.Buffer
		states := &logs.States{
			Logger: logs.NewLogger(&told, false, "info", "json"),
			Status: func() tokens.Status {
				return tokens.Status{Failure: tokens.Failure{Cause: tokens.Cause{Kind: tokens.CauseStatus, Status: 401}}}
			},
		}
		states.Request(&proxy.Exchange{Method: "GET", Path: "/", Status: 502, Error: code, Outcome: proxy.Completed})
		want := map[proxy.Fault]string{proxy.FaultLogin: logs.SayNoToken, proxy.FaultUpstream: logs.SayUpstreamFails, "": logs.SayUpstreamFails}[code.Fault()]
		if got := told.String(); want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%q: got the line %q, want %q", code, got, want)
		}
	}
}

// A gauge that appears only sometimes is missed by nobody where it is not filled.
func TestEveryFieldOfTheMetricsStateIsFilled(t *testing.T) {
	_, state, _ := strings.Cut(docs.Page(t, "cmd/internal/service/metrics.go"), ") state() metrics.State {")
	state, _, ok := strings.Cut(state, "\n}\n")
	if !ok {
		t.Fatal("metrics.go has no state")
	}
	for field := range reflect.TypeFor[metrics.State]().Fields() {
		if name := field.Name; !strings.Contains(state, "\t"+name+":") {
			t.Errorf("state fills no %s", name)
		}
	}
}

// samplesByCode returns the counters with a label code alone, by name and code.
func samplesByCode(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	samples := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if labels := m.GetLabel(); len(labels) == 1 && labels[0].GetName() == "code" {
				samples[f.GetName()+" code="+labels[0].GetValue()] = m.GetCounter().GetValue()
			}
		}
	}
	return samples
}
