package metrics_test

import (
	"fmt"
	"io"
	"maps"
	"net/http/httptest"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/bearerd/bearerd/metrics"
)

// scrape returns the samples named bearerd_…, each with its value, as
// Prometheus reads them.
func scrape(t *testing.T, reg prometheus.Gatherer) map[string]string {
	t.Helper()
	rec := httptest.NewRecorder()
	promhttp.HandlerFor(reg, promhttp.HandlerOpts{}).ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	body, err := io.ReadAll(rec.Result().Body)
	if err != nil || rec.Code != 200 {
		t.Fatalf("scrape: status %d, %v", rec.Code, err)
	}
	samples := make(map[string]string)
	for line := range strings.Lines(string(body)) {
		if i := strings.LastIndexByte(line, ' '); strings.HasPrefix(line, "bearerd_") {
			samples[line[:i]] = strings.TrimSpace(line[i:])
		}
	}
	return samples
}

func full() metrics.State {
	return metrics.State{
		Generation: 3, Expiry: time.UnixMilli(1700000000500), Lifetime: 5 * time.Minute,
		Skew: -1500 * time.Millisecond, SkewKnown: true, Ready: true, LoginStopped: true,
		NextLogin: time.Unix(1700000300, 0), InFlight: 7, ReplayBuffer: 4096, LinesLost: 11, Shared: true, SharedUp: true,
	}
}

// As docs/operations.md names them: name, type, labels.
var wantSeries = map[string]string{
	"bearerd_requests_total":                 "counter code method",
	"bearerd_request_duration_seconds":       "histogram",
	"bearerd_requests_in_flight":             "gauge",
	"bearerd_rejections_total":               "counter code",
	"bearerd_upstream_unauthorized_total":    "counter outcome",
	"bearerd_upstream_errors_total":          "counter code",
	"bearerd_upstream_attempts_total":        "counter",
	"bearerd_logins_total":                   "counter result",
	"bearerd_login_duration_seconds":         "histogram",
	"bearerd_token_wait_seconds":             "histogram",
	"bearerd_token_generation":               "gauge",
	"bearerd_token_expiry_timestamp_seconds": "gauge",
	"bearerd_token_lifetime_seconds":         "gauge",
	"bearerd_clock_skew_seconds":             "gauge",
	"bearerd_ready":                          "gauge",
	"bearerd_login_stopped":                  "gauge",
	"bearerd_next_login_timestamp_seconds":   "gauge",
	"bearerd_replay_buffer_bytes":            "gauge",
	"bearerd_log_lines_lost_total":           "counter",
	"bearerd_shared_up":                      "gauge",
	"bearerd_shared_operations_total":        "counter op result",
	"bearerd_shared_adopted_total":           "counter",
	"bearerd_build_info":                     "gauge goversion version",
}

// described notes the name of each series that is registered.
type described struct {
	prometheus.Registerer
	names []string
}

func (d *described) MustRegister(collectors ...prometheus.Collector) {
	for _, c := range collectors {
		descs := make(chan *prometheus.Desc)
		go func() { c.Describe(descs); close(descs) }()
		for desc := range descs {
			_, name, _ := strings.Cut(desc.String(), `fqName: "`)
			name, _, _ = strings.Cut(name, `"`)
			d.names = append(d.names, name)
		}
	}
	d.Registerer.MustRegister(collectors...)
}

func TestNamesAndLabels(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	all := &described{Registerer: reg}
	m := metrics.New(all, metrics.Options{Version: "v1.2.3", State: full, RejectionCodes: []string{"bad_path"}, UpstreamErrorCodes: []string{"upstream_timeout"},
		SharedOps: []string{"look"}, SharedResults: []string{"ok"}})
	m.SharedOperation("look", "ok")
	m.Adopted()
	m.Request("GET", 200, time.Millisecond)

	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]string)
	var runtime, process bool
	for _, f := range families {
		runtime = runtime || f.GetName() == "go_goroutines"
		process = process || strings.HasPrefix(f.GetName(), "process_")
		if !strings.HasPrefix(f.GetName(), "bearerd_") {
			continue
		}
		shape := []string{strings.ToLower(f.GetType().String())}
		for _, l := range f.GetMetric()[0].GetLabel() {
			shape = append(shape, l.GetName())
		}
		got[f.GetName()] = strings.Join(shape, " ")
	}
	if !maps.Equal(got, wantSeries) {
		t.Errorf("got  %v\nwant %v", got, wantSeries)
	}
	for _, name := range all.names {
		if _, ok := wantSeries[name]; !ok && strings.HasPrefix(name, "bearerd_") {
			t.Errorf("%s has no row in wantSeries", name) // one that appears only sometimes, too
		}
	}
	if !runtime || !process {
		t.Errorf("Go runtime: %v, process: %v, want both", runtime, process)
	}
	problems, err := testutil.GatherAndLint(reg) // what promtool check metrics says
	if err != nil || len(problems) > 0 {
		t.Errorf("lint: %v %v", problems, err)
	}
}

func TestSeriesExistBeforeTheFirstEvent(t *testing.T) {
	reg := prometheus.NewRegistry()
	metrics.New(reg, metrics.Options{RejectionCodes: []string{"bad_path", "cross_site"}, UpstreamErrorCodes: []string{"upstream_timeout"}})
	samples := scrape(t, reg)
	for name, values := range map[string]string{
		`bearerd_logins_total{result="%s"}`:                 "ok rejected throttled transient",
		`bearerd_upstream_unauthorized_total{outcome="%s"}`: "replayed too_young passed not_replayable",
		`bearerd_upstream_errors_total{code="%s"}`:          "upstream_timeout",
		`bearerd_rejections_total{code="%s"}`:               "bad_path cross_site",
	} {
		for value := range strings.FieldsSeq(values) {
			if got := samples[fmt.Sprintf(name, value)]; got != "0" {
				t.Errorf(name+": got %q, want 0", value, got)
			}
		}
	}
	if _, ok := samples["bearerd_ready"]; ok {
		t.Error("bearerd_ready without a State")
	}
}

func TestEvents(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := metrics.New(reg, metrics.Options{})
	m.Request("GET", 200, 2*time.Second)
	m.Request("GET", 200, 2*time.Second)
	m.Request("POST", metrics.Aborted, 2*time.Second)
	m.Request("PROPFIND", metrics.ClientClosed, 90*time.Second)
	m.Rejection("host_not_allowed")
	m.Unauthorized("replayed")
	m.UpstreamError("upstream_timeout")
	m.Attempts(2)
	m.Attempts(0)
	m.Login("rejected", 30*time.Millisecond)
	m.Login("ok", 30*time.Millisecond)
	m.TokenWait(20 * time.Second)

	samples := scrape(t, reg)
	for name, want := range map[string]string{
		`bearerd_requests_total{code="200",method="GET"}`:             "2",
		`bearerd_requests_total{code="aborted",method="POST"}`:        "1",
		`bearerd_requests_total{code="client_closed",method="other"}`: "1",
		`bearerd_request_duration_seconds_sum`:                        "96",
		`bearerd_request_duration_seconds_bucket{le="1"}`:             "0",
		`bearerd_request_duration_seconds_bucket{le="2.5"}`:           "3",
		`bearerd_request_duration_seconds_bucket{le="60"}`:            "3",
		`bearerd_request_duration_seconds_bucket{le="+Inf"}`:          "4",
		`bearerd_rejections_total{code="host_not_allowed"}`:           "1",
		`bearerd_upstream_unauthorized_total{outcome="replayed"}`:     "1",
		`bearerd_upstream_errors_total{code="upstream_timeout"}`:      "1",
		`bearerd_upstream_attempts_total`:                             "2",
		`bearerd_logins_total{result="rejected"}`:                     "1",
		`bearerd_logins_total{result="ok"}`:                           "1",
		`bearerd_login_duration_seconds_bucket{le="0.025"}`:           "0",
		`bearerd_login_duration_seconds_bucket{le="0.05"}`:            "2",
		`bearerd_login_duration_seconds_bucket{le="10"}`:              "2",
		`bearerd_token_wait_seconds_bucket{le="15"}`:                  "0",
		`bearerd_token_wait_seconds_count`:                            "1",
	} {
		if got := samples[name]; got != want {
			t.Errorf("%s: got %q, want %s", name, got, want)
		}
	}
}

// A client chooses its method: the number of series must not be its choice.
func TestUnknownMethodsAndCodesShareASeries(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := metrics.New(reg, metrics.Options{})
	for i, method := range []string{"get", "", "PROPFIND", "A-1", "other", "GET "} {
		m.Request(method, 200, 0)
		m.Request("GET", metrics.Code([]int{-1, 2, 99, 1000, 1 << 40, -1 << 40}[i]), 0)
	}
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"} {
		m.Request(method, 418, 0)
	}
	var got []string
	for name, value := range scrape(t, reg) {
		if strings.HasPrefix(name, "bearerd_requests_total") {
			got = append(got, name[len("bearerd_requests_total"):]+value)
		}
	}
	slices.Sort(got)
	want := []string{`{code="200",method="other"}6`, `{code="418",method="CONNECT"}1`, `{code="418",method="DELETE"}1`,
		`{code="418",method="GET"}1`, `{code="418",method="HEAD"}1`, `{code="418",method="OPTIONS"}1`, `{code="418",method="PATCH"}1`,
		`{code="418",method="POST"}1`, `{code="418",method="PUT"}1`, `{code="418",method="TRACE"}1`, `{code="aborted",method="GET"}6`}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestState(t *testing.T) {
	state, calls := full(), 0
	reg := prometheus.NewRegistry()
	metrics.New(reg, metrics.Options{Version: "v1.2.3", State: func() metrics.State { calls++; return state }})
	if calls != 0 {
		t.Error("State was read before the first scrape: what it reads may not exist yet")
	}
	samples := scrape(t, reg)
	if calls != 1 {
		t.Errorf("State was read %d times in one scrape", calls)
	}
	known := map[string]string{
		"bearerd_token_generation":               "3",
		"bearerd_token_expiry_timestamp_seconds": "1.7000000005e+09",
		"bearerd_token_lifetime_seconds":         "300",
		"bearerd_clock_skew_seconds":             "-1.5",
		"bearerd_ready":                          "1",
		"bearerd_login_stopped":                  "1",
		"bearerd_next_login_timestamp_seconds":   "1.7000003e+09",
		"bearerd_requests_in_flight":             "7",
		"bearerd_replay_buffer_bytes":            "4096",
		"bearerd_log_lines_lost_total":           "11",
	}
	for name, want := range known {
		if got := samples[name]; got != want {
			t.Errorf("%s: got %q, want %s", name, got, want)
		}
	}
	if matched := slices.ContainsFunc(slices.Collect(maps.Keys(samples)), regexp.MustCompile(
		`^bearerd_build_info\{goversion="go1\..*",version="v1\.2\.3"\}$`).MatchString); !matched {
		t.Error("no bearerd_build_info with both versions")
	}

	// What is not known is left out, what is 0 is not.
	state = metrics.State{SkewKnown: true}
	samples = scrape(t, reg)
	for name, want := range map[string]string{
		"bearerd_token_generation": "0", "bearerd_clock_skew_seconds": "0", "bearerd_ready": "0",
		"bearerd_login_stopped": "0", "bearerd_requests_in_flight": "0", "bearerd_replay_buffer_bytes": "0", "bearerd_log_lines_lost_total": "0",
		"bearerd_token_expiry_timestamp_seconds": "", "bearerd_token_lifetime_seconds": "", "bearerd_next_login_timestamp_seconds": "",
	} {
		if got := samples[name]; got != want {
			t.Errorf("zero state: %s: got %q, want %q", name, got, want)
		}
	}
	state = metrics.State{}
	if got, ok := scrape(t, reg)["bearerd_clock_skew_seconds"]; ok {
		t.Errorf("unknown skew: got %s, want none", got)
	}
}

// A field that no series shows would be filled for nothing.
func TestEveryFieldOfTheStateIsShown(t *testing.T) {
	state := full()
	reg := prometheus.NewRegistry()
	metrics.New(reg, metrics.Options{State: func() metrics.State { return state }})
	all := scrape(t, reg)
	for i := range reflect.TypeFor[metrics.State]().NumField() {
		name := reflect.TypeFor[metrics.State]().Field(i).Name
		state = full()
		field := reflect.ValueOf(&state).Elem().Field(i)
		if field.IsZero() {
			t.Errorf("full has no %s", name)
		}
		field.SetZero()
		if maps.Equal(scrape(t, reg), all) {
			t.Errorf("no series shows %s", name)
		}
	}
}

func TestConcurrentRequests(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := metrics.New(reg, metrics.Options{State: full})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 1000 {
				m.Request("GET", metrics.Code(200+i%5), time.Millisecond)
				if i%500 == 0 {
					if _, err := reg.Gather(); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	samples := scrape(t, reg)
	for i := range 5 {
		name := fmt.Sprintf(`bearerd_requests_total{code="%d",method="GET"}`, 200+i)
		if got := samples[name]; got != "1600" {
			t.Errorf("%s: got %s, want 1600", name, got)
		}
	}
}

func TestRequestDoesNotAllocate(t *testing.T) {
	m := metrics.New(prometheus.NewRegistry(), metrics.Options{})
	for _, tt := range []struct {
		method string
		code   metrics.Code
	}{{"GET", 200}, {"PROPFIND", 599}, {"POST", metrics.Aborted}} {
		if got := testing.AllocsPerRun(1000, func() {
			m.Request(tt.method, tt.code, time.Millisecond)
		}); got != 0 {
			t.Errorf("%s %s: got %v allocations, want 0", tt.method, tt.code, got)
		}
	}
}

func BenchmarkRequest(b *testing.B) {
	m := metrics.New(prometheus.NewRegistry(), metrics.Options{})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			m.Request("DELETE", 204, 20*time.Millisecond)
		}
	})
}

// An upstream that answers with each number in turn must not make a series of
// each.
func TestStatusesThatAreNotRegisteredFold(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := metrics.New(reg, metrics.Options{})
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"} {
		for status := 100; status < 1000; status++ {
			m.Request(method, metrics.Code(status), time.Second)
		}
	}
	samples := scrape(t, reg)
	n := 0
	for name := range samples {
		if strings.HasPrefix(name, "bearerd_requests_total{") {
			n++
		}
	}
	if n > 8*70 {
		t.Errorf("got %d series of 8 methods by 900 statuses, want 560 at most", n)
	}
	for _, code := range []string{"other", "200", "207", "425", "451", "511"} {
		if got := samples[`bearerd_requests_total{code="`+code+`",method="GET"}`]; got == "" || code != "other" && got != "1" {
			t.Errorf("%s: got %q, want it counted", code, got)
		}
	}
	for _, code := range []string{"299", "499", "520", "999"} {
		if got := samples[`bearerd_requests_total{code="`+code+`",method="GET"}`]; got != "" {
			t.Errorf("%s: got a series of its own", code)
		}
	}
}
