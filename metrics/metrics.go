// Package metrics counts what bearerd does, for Prometheus.
package metrics

import (
	"net/http"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Options of a [Metrics].
type Options struct {
	// Version of the program, for bearerd_build_info. May be empty.
	Version string

	// The codes that Rejection and UpstreamError are called with: each has a
	// series from the start.
	RejectionCodes, UpstreamErrorCodes []string

	// What SharedOperation is called with: each pair has a series from the start.
	// Empty leaves out the series of what bearerds share.
	SharedOps, SharedResults []string

	// State is called once for each scrape, from any goroutine. It must not
	// block. Nil leaves the series that it gives out.
	State func() State
}

// Metrics holds the series of one process. All methods may be called from
// any goroutine and none blocks on I/O.
type Metrics struct {
	requests         *prometheus.CounterVec
	byMethod         [len(methods)]requestCounters
	duration         prometheus.Histogram
	rejections       *prometheus.CounterVec
	unauthorized     *prometheus.CounterVec
	upstreamErrors   *prometheus.CounterVec
	attempts         prometheus.Counter
	logins           *prometheus.CounterVec
	loginDuration    prometheus.Histogram
	tokenWaitSeconds prometheus.Histogram
	sharedOperations *prometheus.CounterVec // nil: nothing is shared
	adopted          prometheus.Counter
}

// Code is how a request ended: the status that the client saw, from 100 to
// 999, or one of the constants. What is neither counts as [Aborted]; statuses
// that are not registered (IANA's list, as [http.StatusText] has it) count
// together, as an upstream could make series without end of them.
type Code int

const (
	// Aborted: the response was cut off, or there was none.
	Aborted Code = 0
	// ClientClosed: the client went away before the response ended.
	ClientClosed Code = 1

	other Code = 2 // any status that is not registered
)

func (c Code) String() string {
	switch c {
	case Aborted:
		return "aborted"
	case ClientClosed:
		return "client_closed"
	case other:
		return "other"
	}
	return strconv.Itoa(int(c))
}

// requestCounters are the counters of one method, by Code. Each is looked up
// once in the vector, which costs a lock and a hash, and kept here.
type requestCounters [1000]atomic.Pointer[prometheus.Counter]

// methods are the values of the label method. A method is whatever a client
// sends, so that any further one would let it make series without end; they
// share the last value.
var methods = [...]string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE", "other"}

// New makes the series and registers them, with those of the Go runtime and
// the process. It panics if one of them is registered already.
func New(reg prometheus.Registerer, o Options) *Metrics {
	counterVec := func(name, help, label string, values ...string) *prometheus.CounterVec {
		vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
		for _, value := range values {
			// A rate over the first event needs the 0 before it.
			vec.WithLabelValues(value)
		}
		reg.MustRegister(vec)
		return vec
	}
	histogram := func(name, help string, buckets ...float64) prometheus.Histogram {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
		reg.MustRegister(h)
		return h
	}

	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "bearerd_requests_total",
			Help: "Requests answered, by method and by the status the client saw, or other for one that is not registered; aborted: cut off by upstream or bearerd; client_closed: the client went away.",
		}, []string{"method", "code"}),
		duration: histogram("bearerd_request_duration_seconds",
			"Time from a request's arrival to the end of its response, waiting for a token and long streams included.",
			.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60),
		rejections: counterVec("bearerd_rejections_total",
			"Requests that bearerd answered itself, other than for an upstream error, by the code of that answer.",
			"code", o.RejectionCodes...),
		unauthorized: counterVec("bearerd_upstream_unauthorized_total",
			"Requests that upstream answered 401, or another of BEARERD_RENEW_STATUS, by what followed: sent again with a newer token (replayed) or the one before (too_young), the 401 passed to the client (passed), or passed because the body was gone (not_replayable).",
			"outcome", "replayed", "too_young", "passed", "not_replayable"),
		upstreamErrors: counterVec("bearerd_upstream_errors_total",
			"Requests that upstream did not answer, by the code of bearerd's answer.",
			"code", o.UpstreamErrorCodes...),
		logins: counterVec("bearerd_logins_total",
			"Logins, by result: ok, rejected (credentials refused), throttled (told to wait) or transient (any other failure).",
			"result", "ok", "rejected", "throttled", "transient"),
		loginDuration: histogram("bearerd_login_duration_seconds",
			"Time that one login took, whatever its result.",
			.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10),
		tokenWaitSeconds: histogram("bearerd_token_wait_seconds",
			"Time until a forwarded request had its token: that of a lookup when a good one was at hand.",
			.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 15),
	}
	m.attempts = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "bearerd_upstream_attempts_total",
		Help: "How often a request was sent upstream, or may have been: a request takes up to three attempts.",
	})
	buildInfo := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "bearerd_build_info",
		Help:        "Always 1; the labels say what runs.",
		ConstLabels: prometheus.Labels{"version": o.Version, "goversion": runtime.Version()},
	})
	buildInfo.Set(1)
	reg.MustRegister(m.requests, m.attempts, buildInfo,
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if len(o.SharedOps) > 0 {
		m.sharedOperations = prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "bearerd_shared_operations_total",
			Help: "Commands to the engine of BEARERD_SHARED, by what they do and how they ended.",
		}, []string{"op", "result"})
		for _, op := range o.SharedOps {
			for _, result := range o.SharedResults {
				m.sharedOperations.WithLabelValues(op, result)
			}
		}
		m.adopted = prometheus.NewCounter(prometheus.CounterOpts{
			Name: "bearerd_shared_adopted_total",
			Help: "Tokens taken over from another bearerd of the account: logins that were not made.",
		})
		reg.MustRegister(m.sharedOperations, m.adopted)
	}
	if o.State != nil {
		reg.MustRegister(newStateCollector(o.State))
	}
	return m
}

// Request counts a request that ended after d. It does not allocate.
func (m *Metrics) Request(method string, code Code, d time.Duration) {
	m.duration.Observe(d.Seconds())
	switch {
	case code == ClientClosed:
	case code < 100 || code > 999:
		code = Aborted
	case http.StatusText(int(code)) == "":
		code = other
	}
	i := methodIndex(method)
	cached := &m.byMethod[i][code]
	counter := cached.Load()
	if counter == nil {
		c := m.requests.WithLabelValues(methods[i], code.String())
		counter = &c
		cached.Store(counter) // who comes second stores the same counter
	}
	(*counter).Inc()
}

func methodIndex(method string) int {
	for i, known := range methods[:len(methods)-1] {
		if method == known {
			return i
		}
	}
	return len(methods) - 1
}

// Rejection counts an answer of bearerd's own that is not for an upstream
// error, by its code.
func (m *Metrics) Rejection(code string) { m.rejections.WithLabelValues(code).Inc() }

// UpstreamError counts a request that upstream did not answer, by the code of
// bearerd's answer.
func (m *Metrics) UpstreamError(code string) { m.upstreamErrors.WithLabelValues(code).Inc() }

// Attempts counts that a request was sent upstream n times.
func (m *Metrics) Attempts(n int) { m.attempts.Add(float64(n)) }

// Unauthorized counts a request whose token upstream refused, once: the outcome
// is replayed, too_young, passed or not_replayable.
func (m *Metrics) Unauthorized(outcome string) { m.unauthorized.WithLabelValues(outcome).Inc() }

// Login counts a login that took d: the result is ok, rejected, throttled or
// transient.
func (m *Metrics) Login(result string, d time.Duration) {
	m.logins.WithLabelValues(result).Inc()
	m.loginDuration.Observe(d.Seconds())
}

// TokenWait records how long a request waited for its token; next to nothing
// when one was at hand.
func (m *Metrics) TokenWait(d time.Duration) { m.tokenWaitSeconds.Observe(d.Seconds()) }

// SharedOperation counts a command to the engine that bearerds share.
func (m *Metrics) SharedOperation(op, result string) {
	m.sharedOperations.WithLabelValues(op, result).Inc()
}

// Adopted counts a token that another bearerd has got.
func (m *Metrics) Adopted() { m.adopted.Inc() }
