package history_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/bearerd/bearerd/cmd/internal/history"
	"github.com/bearerd/bearerd/proxy"
	"github.com/bearerd/bearerd/tokens"
)

// good is a request that went well and has just ended.
func good() *proxy.Exchange {
	return &proxy.Exchange{
		Method: "GET", Path: "/a/b", UserAgent: "tool/1", Status: 200, Outcome: proxy.Completed,
		Start: time.Now().Add(-3 * time.Millisecond), Duration: 3 * time.Millisecond, Generation: 1, Attempts: 1, BytesOut: 10,
	}
}

// with is good but for a change; it too has just ended, however long it took.
func with(change func(*proxy.Exchange)) *proxy.Exchange {
	ex := good()
	start, end := ex.Start, ex.Start.Add(ex.Duration)
	change(ex)
	if ex.Start.Equal(start) {
		ex.Start = end.Add(-ex.Duration)
	}
	return ex
}

func TestWhoseFault(t *testing.T) {
	t.Parallel()
	stopping := false
	for name, c := range map[string]struct {
		ex   *proxy.Exchange
		want history.Fault
	}{
		"well":                 {good(), history.Well},
		"redirect":             {with(func(ex *proxy.Exchange) { ex.Status = 302 }), history.Well},
		"no token":             {with(func(ex *proxy.Exchange) { ex.Error, ex.Status, ex.Generation = proxy.LoginUnavailable, 503, 0 }), history.Login},
		"refused login":        {with(func(ex *proxy.Exchange) { ex.Error, ex.Status, ex.Generation = proxy.LoginRejected, 502, 0 }), history.Login},
		"slow login":           {with(func(ex *proxy.Exchange) { ex.Error, ex.Status, ex.Generation = proxy.LoginTimeout, 503, 0 }), history.Login},
		"upstream down":        {with(func(ex *proxy.Exchange) { ex.Error, ex.Status = proxy.UpstreamUnreachable, 502 }), history.Upstream},
		"upstream slow":        {with(func(ex *proxy.Exchange) { ex.Error, ex.Status = proxy.UpstreamTimeout, 504 }), history.Upstream},
		"upstream's fault":     {with(func(ex *proxy.Exchange) { ex.Status = 500 }), history.Upstream},
		"cut short":            {with(func(ex *proxy.Exchange) { ex.Outcome = proxy.Aborted }), history.Upstream},
		"a good token":         {with(func(ex *proxy.Exchange) { ex.Status, ex.Refused = 401, true }), history.Upstream},
		"not found":            {with(func(ex *proxy.Exchange) { ex.Status = 404 }), history.Caller},
		"client left":          {with(func(ex *proxy.Exchange) { ex.Outcome = proxy.ClientClosed }), history.Caller},
		"a page":               {with(func(ex *proxy.Exchange) { ex.Error, ex.Status, ex.Generation = proxy.CrossSite, 403, 0 }), history.Caller},
		"too many":             {with(func(ex *proxy.Exchange) { ex.Error, ex.Status, ex.Generation = proxy.Overloaded, 503, 0 }), history.Bearerd},
		"cut by bearerd's end": {with(func(ex *proxy.Exchange) { ex.Outcome, stopping = proxy.Aborted, true }), history.Bearerd},
	} {
		h := history.New(history.Options{Stopping: func() bool { return name == "cut by bearerd's end" && stopping }})
		h.Request(c.ex)
		s := h.Snapshot()
		if got := s.Recent[0].Fault; got != c.want || s.Totals[c.want] != 1 || s.Totals.All() != 1 {
			t.Errorf("%s: got %v of %v, want %v", name, got, s.Totals, c.want)
		}
		if failed := len(s.Failed) == 1; failed != (c.want != history.Well) {
			t.Errorf("%s: kept with the failed ones: %v", name, failed)
		}
	}
}

// A busy minute does not push out the failures and the slow requests before it.
func TestFailedAndSlowAreKept(t *testing.T) {
	t.Parallel()
	h := history.New(history.Options{Explain: func(*proxy.Exchange) (string, string) { return "HTTP 500", "ask upstream" }})
	h.Request(with(func(ex *proxy.Exchange) { ex.Path, ex.Status = "/broken", 500 }))
	h.Request(with(func(ex *proxy.Exchange) { ex.Path, ex.Duration = "/slow", 2*time.Second }))
	for i := range 1000 {
		h.Request(with(func(ex *proxy.Exchange) { ex.Path = fmt.Sprintf("/%d", i) }))
	}
	s := h.Snapshot()
	if len(s.Recent) != 200 || s.Recent[0].Path != "/999" || s.Recent[199].Path != "/800" {
		t.Errorf("got %d requests from %v to %v", len(s.Recent), s.Recent[0], s.Recent[len(s.Recent)-1])
	}
	if len(s.Failed) != 1 || s.Failed[0].Path != "/broken" || s.Failed[0].Cause != "HTTP 500" || s.Failed[0].Remedy != "ask upstream" || s.Failed[0].Seq != 1 {
		t.Errorf("failed: %+v", s.Failed)
	}
	if len(s.Slow) != 1 || s.Slow[0].Path != "/slow" || s.Slow[0].Seq != 2 {
		t.Errorf("slow: %+v", s.Slow)
	}
}

// To keep a request costs no allocation, whatever it brings.
func TestRequestDoesNotAllocate(t *testing.T) {
	h := history.New(history.Options{})
	long := strings.Repeat("/long", 1000)
	var n int
	agents := make([]string, 100)
	for i := range agents {
		agents[i] = fmt.Sprintf("agent/%d", i)
	}
	for name, ex := range map[string]*proxy.Exchange{
		"good":       good(),
		"long":       with(func(ex *proxy.Exchange) { ex.Path, ex.Method, ex.UserAgent = long, long, long }),
		"slow":       with(func(ex *proxy.Exchange) { ex.Duration = time.Hour }),
		"failed":     with(func(ex *proxy.Exchange) { ex.Status = 500 }),
		"new agents": good(),
	} {
		if got := testing.AllocsPerRun(500, func() {
			if name == "new agents" {
				n++
				ex.UserAgent = agents[n%len(agents)]
			}
			h.Request(ex)
		}); got != 0 {
			t.Errorf("%s: %v allocations a request, want 0", name, got)
		}
	}
}

// What is kept is bounded, and holds on to no memory of the requests': a path is
// part of a text that has the query too.
func TestSize(t *testing.T) {
	const most = 2 << 20
	if size := unsafe.Sizeof(history.History{}); size > most/2 {
		t.Errorf("a History has %d bytes, want at most %d", size, most/2)
	}
	long := strings.Repeat("é", 100_000)
	h := history.New(history.Options{
		Explain: func(*proxy.Exchange) (string, string) { return strings.Clone(long), strings.Clone(long) },
		Advise:  func(tokens.Event) string { return strings.Clone(long) },
	})
	before := heap()
	for range 3000 {
		path := strings.Clone(long)
		h.Request(with(func(ex *proxy.Exchange) {
			ex.Path, ex.UserAgent, ex.Method, ex.Status, ex.Duration = path[1:], path[3:], path[5:], 500, 2*time.Second
		}))
		h.Login(tokens.Event{Failure: tokens.Failure{Kind: tokens.Transient, Cause: tokens.Cause{Kind: tokens.CauseNoAnswer, Err: errors.New(path)}}})
	}
	if grown := heap() - before; grown > most {
		t.Errorf("%d bytes are held, want at most %d", grown, most)
	}
	s := h.Snapshot()
	if r := s.Recent[0]; len(r.Path) > 250 || len(r.Method) > 24 || len(r.Cause) > 410 || len(s.Agents[0].Name) > 100 {
		t.Errorf("not cut: %d, %d, %d, %d", len(r.Path), len(r.Method), len(r.Cause), len(s.Agents[0].Name))
	}
	runtime.KeepAlive(h)
}

// heap is how much is allocated and in use.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A day of traffic, of failures and of invented names leaves memory as it was
// after the first hour.
func TestMemoryIsFlatOverADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := history.New(history.Options{Explain: func(*proxy.Exchange) (string, string) { return "a cause", "a remedy" }})
		hour := func(n int) {
			for i := range 3600 {
				ex := good()
				ex.Path = fmt.Sprintf("/%d/%d", n, i)
				switch {
				case i%7 == 0:
					ex.Status, ex.UserAgent = 500, fmt.Sprintf("agent/%d.%d", n, i)
				case i%11 == 0:
					ex.Duration = 2 * time.Second
				}
				h.Request(ex)
				if i%200 == 0 {
					h.Login(tokens.Event{Token: &tokens.Token{Generation: uint64(i), Came: time.Now(), Lifetime: 5 * time.Minute}})
				}
				time.Sleep(time.Second)
			}
		}
		hour(0)
		first := heap()
		for n := range 23 {
			hour(n + 1)
		}
		if grown := heap() - first; grown > 64<<10 {
			t.Errorf("it grew by %d bytes in 23 hours, want none", grown)
		}
		s := h.Snapshot()
		if s.Totals.All() != 24*3600 || len(s.Buckets) < 720 || len(s.Buckets) > 721 {
			t.Errorf("got %v in %d buckets", s.Totals, len(s.Buckets))
		}
		var sum uint64
		for _, b := range s.Buckets {
			sum += b.Counts.All()
		}
		if sum < 3590 || sum > 3610 {
			t.Errorf("the last hour has %d requests, want 3600", sum)
		}
		runtime.KeepAlive(h)
	})
}

// A stretch without requests leaves no bucket of another hour in its place.
func TestBucketsAfterASilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := history.New(history.Options{})
		h.Request(good())
		time.Sleep(5 * time.Hour)
		h.Request(good())
		if s := h.Snapshot(); len(s.Buckets) != 1 || s.Buckets[0].At().After(time.Now()) || time.Since(s.Buckets[0].At()) > history.Every {
			t.Errorf("got %d buckets, want this moment's", len(s.Buckets))
		}
		// As from a clock that was set back, and from before 1970.
		h.Request(with(func(ex *proxy.Exchange) { ex.Start = time.Unix(-1000, 0) }))
		h.Request(with(func(ex *proxy.Exchange) { ex.Start = time.Now().Add(40 * time.Hour) }))
		if s := h.Snapshot(); len(s.Buckets) > 1 {
			t.Errorf("got %d buckets, want one at most", len(s.Buckets))
		}
	})
}

func TestAgents(t *testing.T) {
	t.Parallel()
	h := history.New(history.Options{})
	ask := func(agent string, times int) {
		for range times {
			h.Request(with(func(ex *proxy.Exchange) { ex.UserAgent = agent }))
		}
	}
	ask("curl/8", 3)
	ask("", 2)
	ask("grafana", 5)
	s := h.Snapshot()
	if len(s.Agents) != 3 || s.Agents[0].Name != "grafana" || s.Agents[0].Requests != 5 || s.Agents[2].Name != "" || s.Others != 0 {
		t.Errorf("got %+v", s.Agents)
	}
	// Who invents names does not push out who asks often.
	for i := range 10_000 {
		ask(fmt.Sprintf("invented/%d", i), 1)
	}
	ask("new", 2)
	s = h.Snapshot()
	names := func(a history.Agent) string { return a.Name }
	var all []string
	sum := s.Others
	for _, a := range s.Agents {
		all = append(all, names(a))
		sum += a.Requests
	}
	if len(all) != 32 || !slices.Contains(all, "grafana") || !slices.Contains(all, "curl/8") || !slices.Contains(all, "new") || sum != 10_012 {
		t.Errorf("got %q, %d requests in all, want 10012", all, sum)
	}
}

func TestUpstreamFailing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := history.New(history.Options{Explain: func(ex *proxy.Exchange) (string, string) { return fmt.Sprintf("HTTP %d", ex.Status), "" }})
		long := good() // it began before the trouble
		long.Duration = time.Minute
		time.Sleep(time.Second)
		begun := time.Now()
		for i := range 3 {
			h.Request(with(func(ex *proxy.Exchange) { ex.Status = 500 + i }))
			time.Sleep(time.Second)
		}
		h.Request(long)
		h.Request(with(func(ex *proxy.Exchange) { ex.Status, ex.Error, ex.Generation = 403, proxy.CrossSite, 0 })) // says nothing of upstream
		if f := h.Brief().Failing; f.Requests != 3 || !f.Since.Equal(begun) || f.Cause != "HTTP 502" {
			t.Errorf("got %+v", f)
		}
		h.Request(with(func(ex *proxy.Exchange) { ex.Status = 404 })) // upstream answers
		if f := h.Brief().Failing; f.Requests != 0 {
			t.Errorf("got %+v, want none", f)
		}
	})
}

// While no token is to be had, each request fails alike, and is not explained
// each time.
func TestExplainIsNotAskedForEachLostRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		h := history.New(history.Options{Explain: func(*proxy.Exchange) (string, string) { asked++; return "c", "r" }})
		for range 1000 {
			h.Request(with(func(ex *proxy.Exchange) { ex.Error, ex.Status, ex.Generation = proxy.LoginUnavailable, 503, 0 }))
			time.Sleep(10 * time.Millisecond)
		}
		if asked > 11 {
			t.Errorf("asked %d times in 10 s, want once a second", asked)
		}
		if r := h.Snapshot().Recent[0]; r.Cause != "c" || r.Remedy != "r" {
			t.Errorf("got %+v", r)
		}
	})
}

func TestLogins(t *testing.T) {
	t.Parallel()
	h := history.New(history.Options{Advise: func(tokens.Event) string { return "mend it" }})
	came := time.Now()
	h.Login(tokens.Event{Why: tokens.AtStart, Token: &tokens.Token{Generation: 1, Came: came, Lifetime: time.Minute, Rule: tokens.RuleExpiresIn}})
	for range 600 {
		h.Login(tokens.Event{Why: tokens.Retry, Failure: tokens.Failure{Kind: tokens.Rejected, Cause: tokens.Cause{Kind: tokens.CauseStatus, Status: 401}}})
	}
	s := h.Snapshot()
	if len(s.Logins) != 512 {
		t.Fatalf("got %d logins, want 512", len(s.Logins))
	}
	if l := s.Logins[0]; l.Seq != 601 || l.Why != tokens.Retry || l.Cause != "HTTP 401" || l.Remedy != "mend it" {
		t.Errorf("got %+v", l)
	}
}

func TestLatency(t *testing.T) {
	t.Parallel()
	h := history.New(history.Options{})
	var all []time.Duration
	for range 5000 {
		d := time.Duration(float64(time.Millisecond) * (1 + 200*rand.Float64()*rand.Float64()))
		all = append(all, d)
		h.Request(with(func(ex *proxy.Exchange) { ex.Duration = d }))
	}
	slices.Sort(all)
	var sum history.Latency
	for _, b := range h.Snapshot().Buckets {
		sum.Merge(&b.Latency)
	}
	for _, q := range []float64{0, 0.5, 0.99, 1} {
		want := all[int(q*float64(len(all)-1))]
		if got := sum.Quantile(q); got < want*85/100 || got > want*115/100 {
			t.Errorf("quantile %v: got %v, want %v within 15 %%", q, got, want)
		}
	}
	if got := new(history.Latency).Quantile(0.5); got != 0 {
		t.Errorf("of none: got %v, want 0", got)
	}
	for _, d := range []time.Duration{-time.Second, 0, time.Nanosecond, 63 * time.Microsecond, 100 * time.Hour} {
		h.Request(with(func(ex *proxy.Exchange) { ex.Duration = d }))
	}
}

func TestConcurrent(t *testing.T) {
	t.Parallel()
	h := history.New(history.Options{Explain: func(*proxy.Exchange) (string, string) { return "c", "r" }})
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for n := range 500 {
				switch {
				case i == 0:
					h.Login(tokens.Event{Failure: tokens.Failure{Kind: tokens.Transient}})
				case i == 1 && n%20 == 0:
					h.Snapshot()
				default:
					h.Request(with(func(ex *proxy.Exchange) { ex.Status, ex.Error = 503, proxy.LoginUnavailable }))
				}
			}
		})
	}
	all.Wait()
}

func BenchmarkRequest(b *testing.B) {
	h := history.New(history.Options{})
	ex := good()
	b.ReportAllocs()
	for b.Loop() {
		h.Request(ex)
	}
}
