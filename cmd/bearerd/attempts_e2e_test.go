//go:build unix

package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

// Each fault of the Query Service that hits one request of a connection that is
// there, over both protocols.
func TestFaultsOfUpstreamOverBothProtocols(t *testing.T) {
	type end struct {
		status, attempts int
		cut              bool
	}
	expected := map[querysim.QueryFault]map[string]end{
		querysim.QueryUnauthorizedEarly: {"GET": {200, 2, false}, "POST": {200, 2, false}},
		querysim.QueryUnauthorizedLate:  {"GET": {200, 2, false}}, // a fourth login would have to wait
		querysim.QueryStatus:            {"GET": {500, 1, false}, "POST": {500, 1, false}},
		querysim.QueryReset:             {"GET": {200, 2, false}, "POST": {502, 1, false}},
		querysim.QueryCut:               {"GET": {200, 1, true}, "POST": {200, 1, true}},
		querysim.QueryStale:             {"GET": {200, 2, false}, "POST": {502, 1, false}},
	}
	for name, protocol := range map[string]string{"HTTP/1.1": "HTTP/1.1", "HTTP/2": "HTTP/2.0"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
			handler := w.Sim.QueryHandler()
			upstream := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if r.Proto != protocol {
					t.Errorf("got %s, want %s", r.Proto, protocol)
				}
				handler.ServeHTTP(rw, r)
			}))
			upstream.EnableHTTP2 = name == "HTTP/2"
			upstream.Config.ConnContext = querysim.ConnContext
			upstream.StartTLS()
			t.Cleanup(upstream.Close)
			p := w.Serve(t, "BEARERD_UPSTREAM="+upstream.URL, bearerdtest.Trusting(t, upstream))
			client := bearerdtest.NewClient(t)
			asked := 0.0
			ask := func(method string) (status int, cut bool) {
				t.Helper()
				req, err := http.NewRequest(method, p.URL+bearerdtest.NamesPath, nil)
				if err != nil {
					t.Fatal(err)
				}
				if method == "POST" {
					req.URL.Path = strings.TrimSuffix(bearerdtest.NamesPath, "/names")
					req.Header.Set("Content-Type", "application/json")
					req.Body = io.NopCloser(strings.NewReader(`{"name":"x"}`))
				}
				asked++
				resp, err := client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				_, err = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
				return resp.StatusCode, err != nil
			}
			const sent = "bearerd_upstream_attempts_total"
			counted := func() float64 { // once every request that was answered is
				bearerdtest.Eventually(t, bearerdtest.Soon, "the requests are counted", func() bool { return p.Metric("bearerd_request_duration_seconds_count") >= asked })
				return p.Metric(sent)
			}
			total := 0.0
			for _, fault := range querysim.QueryFaults() {
				for _, method := range []string{"GET", "POST"} {
					want, ok := expected[fault][method]
					if !ok && method == "GET" {
						t.Errorf("no expectation for %s", fault)
					}
					if !ok {
						continue
					}
					if status, _ := ask("GET"); status != 200 {
						t.Fatalf("before %s: got %d, want 200", fault, status)
					}
					if err := w.Sim.SetFaults(querysim.Faults{Query: fault, QueryNext: 1}); err != nil {
						t.Fatal(err)
					}
					if fault == querysim.QueryStale {
						if status, _ := ask("GET"); status != 200 { // the one that it spares
							t.Fatalf("got %d, want 200", status)
						}
					}
					before, queries := counted(), w.Sim.Stats().Queries
					status, cut := ask(method)
					if status == 400 && want.status == 200 {
						status = 200 // the POST names no metric
					}
					if status != want.status || cut != want.cut {
						t.Errorf("%s, %s: got %d, cut %v, want %+v", fault, method, status, cut, want)
					}
					if got := w.Sim.Stats().Queries - queries; got != want.attempts {
						t.Errorf("%s, %s: got %d requests upstream, want %d", fault, method, got, want.attempts)
					}
					if got := int(counted() - before); got != want.attempts {
						t.Errorf("%s, %s: got %d attempts counted, want %d", fault, method, got, want.attempts)
					}
					_ = w.Sim.SetFaults(querysim.Faults{})
					total++
				}
			}
			if p.Metric(sent) <= total {
				t.Errorf("got %v attempts in all", p.Metric(sent))
			}
			p.Until(`"attempts":2`)
		})
	}
}
