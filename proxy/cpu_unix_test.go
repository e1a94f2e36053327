//go:build unix

package proxy_test

import (
	"net/http"
	"net/url"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// cpuTime is what this process has used, of user and system time.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkRatio has both take turns, so that what else the machine does
// falls on both, and reports CPU time of the handler by that of the bare
// proxy. The goal is 1.10.
func BenchmarkRatio(b *testing.B) {
	const turn = 4000
	var ended atomic.Int64
	u, tr := benchUpstream(b)
	full := newLoad(b, fullProxy(u, tr, &ended))
	bareTransport := func() http.RoundTripper { return tr.Clone() }()
	bare := newLoad(b, bareProxy(&url.URL{Scheme: u.Scheme, Host: u.Host}, bareTransport))
	cost := func(l *load) float64 {
		before := cpuTime()
		l.run(b, turn)
		return float64(cpuTime() - before)
	}
	var ratios []float64
	for i := 0; b.Loop(); i++ {
		var f, p float64
		if i%2 == 0 {
			f, p = cost(full), cost(bare)
		} else {
			p, f = cost(bare), cost(full)
		}
		ratios = append(ratios, f/p)
	}
	slices.Sort(ratios)
	b.ReportMetric(ratios[len(ratios)/2], "ratio")
	b.ReportMetric(0, "ns/op")
}
