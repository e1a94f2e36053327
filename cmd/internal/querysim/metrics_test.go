package querysim_test

import (
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

// metric asks for one metric over the first minutes of 2026-03-01.
func (c client) metric(resultType string, minutes int, more string) reply {
	c.t.Helper()
	start := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	body := fmt.Sprintf(`{"name":"activeCalls","resultType":%q,"start":%q,"end":%d%s}`,
		resultType, start.Format(time.RFC3339), start.Add(time.Duration(minutes)*time.Minute).UnixMilli(), more)
	got := c.ask(c.token, "POST", org42+"metrics", body)
	if got.status != 200 {
		c.t.Fatalf("POST metrics %s: got %d %s", body, got.status, got.body)
	}
	return got
}

type sample struct {
	Timestamp time.Time
	Value     float64
}

type trend struct {
	Name, ResultType string
	Interval         int
	Values           []sample
}

func TestMetrics(t *testing.T) {
	c := newClient(t, 0)
	start := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

	var hour trend
	c.metric("trend", 60, "").decode(t, &hour)
	if hour.Name != "activeCalls" || hour.ResultType != "trend" || hour.Interval != 60 || len(hour.Values) != 60 {
		t.Fatalf("an hour's trend: got %+v, want 60 values a minute apart", hour)
	}
	different := map[float64]bool{}
	for i, v := range hour.Values {
		if want := start.Add(time.Duration(i) * time.Minute); !v.Timestamp.Equal(want) {
			t.Errorf("value %d: got time %v, want %v", i, v.Timestamp, want)
		}
		if v.Value < 0 || v.Value > 240 {
			t.Errorf("value %d: got %v, want 0 to 240", i, v.Value)
		}
		different[v.Value] = true
	}
	if len(different) < 30 {
		t.Errorf("got %d different values of 60", len(different))
	}

	var kpi sample
	c.metric("kpi", 60, "").decode(t, &kpi)
	if kpi != hour.Values[59] {
		t.Errorf("kpi: got %v, want the last of the trend, %v", kpi, hour.Values[59])
	}
	if keys, want := keysOf(t, c.metric("kpi", 60, "").body), []string{"name", "resultType", "start", "end", "timestamp", "value"}; !slices.Equal(keys, want) {
		t.Errorf("members of a kpi: got %q, want %q", keys, want)
	}

	var year trend
	c.metric("trend", 365*24*60, "").decode(t, &year)
	if n := len(year.Values); n < 150 || n > 300 {
		t.Errorf("a year's trend: got %d values, want 150 to 300", n)
	}
	for i := 1; i < len(year.Values); i++ {
		if got := year.Values[i].Timestamp.Sub(year.Values[i-1].Timestamp); got != time.Duration(year.Interval)*time.Second {
			t.Fatalf("value %d of a year: got %v after the one before, want %d s", i, got, year.Interval)
		}
	}

	var model trend
	c.metric("trend", 60, `,"model":"Pexip Infinity","unknown":true`).decode(t, &model)
	if len(model.Values) != 60 || fmt.Sprint(model.Values) == fmt.Sprint(hour.Values) {
		t.Error("the trend of one model is that of all")
	}
}

// A window that holds no full minute holds no sample.
func TestMetricWithoutSample(t *testing.T) {
	c := newClient(t, 0)
	const body = `{"name":"portsInUse","resultType":%q,"start":1772323201000,"end":"2026-03-01T00:00:59Z"}`
	for resultType, want := range map[string]string{
		"kpi":   `{"name":"portsInUse","resultType":"kpi","start":"2026-03-01T00:00:01Z","end":"2026-03-01T00:00:59Z"}`,
		"trend": `{"name":"portsInUse","resultType":"trend","start":"2026-03-01T00:00:01Z","end":"2026-03-01T00:00:59Z","interval":60,"values":[]}`,
	} {
		if got := c.ask(c.token, "POST", org42+"metrics", fmt.Sprintf(body, resultType)); got.status != 200 || got.body != want {
			t.Errorf("%s: got %d %s, want %s", resultType, got.status, got.body, want)
		}
	}
}

func TestBadMetricQueries(t *testing.T) {
	c := newClient(t, 0)
	const span = `"start":"2026-03-01T00:00:00Z","end":"2026-03-02T00:00:00Z"`
	for _, body := range []string{
		``, `null`, `[]`, `{`, `{}`, `text`,
		`{"name":"activeCalls","resultType":"kpi",` + span + `} trailing`,
		`{"name":"unheardOf","resultType":"kpi",` + span + `}`,
		`{"resultType":"kpi",` + span + `}`,
		`{"name":"activeCalls",` + span + `}`,
		`{"name":"activeCalls","resultType":"sum",` + span + `}`,
		`{"name":"activeCalls","resultType":"KPI",` + span + `}`,
		`{"name":"activeCalls","model":"unheard of","resultType":"kpi",` + span + `}`,
		`{"name":"activeCalls","resultType":"kpi"}`,
		`{"name":"activeCalls","resultType":"kpi","start":"2026-03-01T00:00:00Z"}`,
		`{"name":"activeCalls","resultType":"kpi","start":null,"end":1772323201000}`,
		`{"name":"activeCalls","resultType":"kpi","start":"yesterday","end":1772323201000}`,
		`{"name":"activeCalls","resultType":"kpi","start":1.5,"end":1772323201000}`,
		`{"name":"activeCalls","resultType":"kpi","start":{},"end":1772323201000}`,
		`{"name":"activeCalls","resultType":"trend","start":1772323201000,"end":1772323201000}`,
		`{"name":"activeCalls","resultType":"trend","start":1772323201001,"end":1772323201000}`,
		`{"name":"activeCalls","resultType":"trend","start":-1,"end":1772323201000}`,
		`{"name":"activeCalls","resultType":"trend","start":0,"end":9000000000000000}`,
		`{"name":"` + strings.Repeat("a", 1<<20) + `"}`,
	} {
		if got := c.ask(c.token, "POST", org42+"metrics", body); got.status != 400 || got.oauthError() != "bad_request" {
			t.Errorf("%.100s: got %d %s, want 400", body, got.status, got.body)
		}
	}
	req := httptest.NewRequest("POST", org42+"metrics", strings.NewReader(`{"name":"activeCalls","resultType":"kpi",`+span+`}`))
	req.Header.Set("Authorization", "Bearer "+c.token)
	w := httptest.NewRecorder()
	c.sim.QueryHandler().ServeHTTP(w, req)
	if w.Code != 415 {
		t.Errorf("no Content-Type: got %d, want 415", w.Code)
	}
}
