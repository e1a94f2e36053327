package querysim_test

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

const (
	org42 = "/cpmm/api/v1/orgs/42/"
	day   = "start=2026-03-01T00:00:00Z&end=2026-03-02T00:00:00Z"
)

var kinds = []string{"calls", "endpoints", "systems", "meetings", "trunks"}

// page is the envelope of an information query.
type page struct {
	TotalCount   int              `json:"totalCount"`
	TotalPages   int              `json:"totalPages"`
	PageNumber   int              `json:"pageNumber"`
	PageSize     int              `json:"pageSize"`
	LimitReached bool             `json:"limitReached"`
	Content      []map[string]any `json:"content"`
}

// client is a rig with a token.
type client struct {
	rig
	token string
}

func newClient(t testing.TB, seed uint64) client {
	t.Helper()
	r := newRig(t, querysim.Options{Seed: seed, Now: newClock().Now})
	return client{r, r.token()}
}

func (c client) get(path string) reply {
	c.t.Helper()
	got := c.ask(c.token, "GET", path)
	if got.status != 200 || got.header.Get("Content-Type") != "application/json" {
		c.t.Fatalf("GET %s: got %d %s", path, got.status, got.body)
	}
	return got
}

func (c client) page(path string) (p page) {
	c.t.Helper()
	c.get(path).decode(c.t, &p)
	return p
}

func TestNamesAndModels(t *testing.T) {
	c := newClient(t, 0)
	for _, path := range []string{"metrics/names", "metrics/models"} {
		var got []string
		c.get(org42+path).decode(t, &got)
		if len(got) < 5 || slices.Contains(got, "") || len(slices.Compact(slices.Sorted(slices.Values(got)))) != len(got) {
			t.Errorf("%s: got %q, want several different strings", path, got)
		}
	}
}

func TestWalkOverAllPages(t *testing.T) {
	c := newClient(t, 7)
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			whole := c.page(org42 + kind + "?size=1000&" + day)
			total := len(whole.Content)
			if total < 3 || whole.TotalCount != total || whole.TotalPages != 1 || whole.LimitReached {
				t.Fatalf("in one page: got %+v with %d records", whole, total)
			}
			const size = 2
			pages := (total + size - 1) / size
			var walked []map[string]any
			for n := range pages {
				p := c.page(fmt.Sprintf("%s%s?size=%d&page=%d&%s", org42, kind, size, n, day))
				if p.TotalCount != total || p.TotalPages != pages || p.PageNumber != n || p.PageSize != size {
					t.Fatalf("page %d: got %+v, want %d records in %d pages", n, p, total, pages)
				}
				want := size
				if n == pages-1 {
					want = total - n*size
				}
				if len(p.Content) != want {
					t.Fatalf("page %d: got %d records, want %d", n, len(p.Content), want)
				}
				walked = append(walked, p.Content...)
			}
			if fmt.Sprint(walked) != fmt.Sprint(whole.Content) {
				t.Error("the pages together are not the whole")
			}
			ids := map[any]bool{}
			for _, rec := range walked {
				ids[rec["id"]] = true
			}
			if len(ids) != total || ids[nil] {
				t.Errorf("got %d different ids of %d records", len(ids), total)
			}
			for _, beyond := range []string{fmt.Sprint(pages), "9223372036854775807"} {
				got := c.get(org42 + kind + "?size=2&page=" + beyond + "&" + day)
				want := fmt.Sprintf(`{"totalCount":%d,"totalPages":%d,"pageNumber":%s,"pageSize":2,"limitReached":false,"content":[]}`, total, pages, beyond)
				if got.body != want {
					t.Errorf("page %s: got %s, want %s", beyond, got.body, want)
				}
			}
		})
	}
}

func TestPageDefaults(t *testing.T) {
	c := newClient(t, 0)
	got := c.get(org42 + "calls")
	// The clock stands at 2026-03-04T05:06:07Z: 24 h of calls, one each 10 min.
	want := `{"totalCount":144,"totalPages":8,"pageNumber":0,"pageSize":20,"limitReached":false,"content":[{"id":`
	if !strings.HasPrefix(got.body, want) {
		t.Errorf("got %.150s, want %s...", got.body, want)
	}
	for _, query := range []string{
		"start=2026-03-03T05:00:00Z", "end=2026-03-04T05:00:00Z", "start=2026-03-03T05:00:00Z&end=2026-03-04T05:00:00Z",
		"start=1772514000000&end=1772600400000", "start=2026-03-03T07:00:00%2B02:00&end=2026-03-04T05:00:00.0Z", "unknown=1",
	} {
		if other := c.get(org42 + "calls?" + query); other.body != got.body {
			t.Errorf("%s: got %.150s, want the same as without", query, other.body)
		}
	}
}

func TestRecordsLieInTheWindow(t *testing.T) {
	c := newClient(t, 3)
	for _, kind := range []string{"calls", "meetings"} {
		const start, end = "2026-03-01T10:07:00Z", "2026-03-01T19:43:00Z"
		part := c.page(org42 + kind + "?size=1000&start=" + start + "&end=" + end)
		var want []map[string]any
		for _, rec := range c.page(org42 + kind + "?size=1000&" + day).Content {
			if at := rec["startTime"].(string); at >= start && at < end {
				want = append(want, rec)
			}
		}
		if len(want) < 10 || fmt.Sprint(part.Content) != fmt.Sprint(want) {
			t.Errorf("%s: got %d records, want the %d of the day that begin in the window", kind, len(part.Content), len(want))
		}
	}
}

func TestLimitReached(t *testing.T) {
	c := newClient(t, 0)
	p := c.page(org42 + "calls?start=2000-01-01T00:00:00Z&end=2026-01-01T00:00:00Z&page=9&size=1000")
	if !p.LimitReached || p.TotalCount != 10_000 || p.TotalPages != 10 || len(p.Content) != 1000 {
		t.Errorf("got limitReached %v, %d records, %d pages, %d here", p.LimitReached, p.TotalCount, p.TotalPages, len(p.Content))
	}
}

func TestFilter(t *testing.T) {
	c := newClient(t, 0)
	all := c.page(org42 + "calls?size=1000&" + day)
	for _, filter := range []string{"status:failed", "status:FAILED", "protocol:SIP,direction:inbound"} {
		var want []map[string]any
		for _, rec := range all.Content {
			keep := true
			for term := range strings.SplitSeq(filter, ",") {
				name, value, _ := strings.Cut(term, ":")
				keep = keep && strings.EqualFold(rec[name].(string), value)
			}
			if keep {
				want = append(want, rec)
			}
		}
		got := c.page(org42 + "calls?size=1000&" + day + "&filter=" + url.QueryEscape(filter))
		if len(want) == 0 || len(want) == len(all.Content) || got.TotalCount != len(want) || fmt.Sprint(got.Content) != fmt.Sprint(want) {
			t.Errorf("filter %s: got %d records, want %d of %d", filter, got.TotalCount, len(want), len(all.Content))
		}
	}
	none := c.get(org42 + "calls?filter=status:unheard-of&" + day)
	if want := `{"totalCount":0,"totalPages":0,"pageNumber":0,"pageSize":20,"limitReached":false,"content":[]}`; none.body != want {
		t.Errorf("filter without a match: got %s, want %s", none.body, want)
	}
	number := all.Content[0]["duration"]
	if got := c.page(fmt.Sprintf("%scalls?filter=duration:%v&%s", org42, number, day)); got.TotalCount < 1 {
		t.Errorf("filter by the number %v: got none", number)
	}
}

func TestSort(t *testing.T) {
	c := newClient(t, 0)
	for _, tt := range []struct {
		sort    string
		field   string
		ordered func(a, b any) bool
	}{
		{"duration", "duration", func(a, b any) bool { return a.(float64) <= b.(float64) }},
		{"duration,asc", "duration", func(a, b any) bool { return a.(float64) <= b.(float64) }},
		{"duration,desc", "duration", func(a, b any) bool { return a.(float64) >= b.(float64) }},
		{"site,asc", "site", func(a, b any) bool { return a.(string) <= b.(string) }},
		{"startTime,desc", "startTime", func(a, b any) bool { return a.(string) > b.(string) }},
	} {
		got := c.page(org42 + "calls?size=1000&" + day + "&sort=" + tt.sort)
		if len(got.Content) != 144 {
			t.Errorf("sort=%s: got %d records, want 144", tt.sort, len(got.Content))
		}
		for i := 1; i < len(got.Content); i++ {
			if a, b := got.Content[i-1][tt.field], got.Content[i][tt.field]; !tt.ordered(a, b) {
				t.Errorf("sort=%s: %v comes before %v", tt.sort, a, b)
			}
		}
	}
}

func TestBadListQueries(t *testing.T) {
	c := newClient(t, 0)
	for _, query := range []string{
		"page=-1", "page=x", "size=0", "size=1001", "size=-5", "size=x",
		"start=yesterday", "end=2026-03-01", "start=2026-03-02T00:00:00Z&end=2026-03-01T00:00:00Z",
		"start=2026-03-01T00:00:00Z&end=2026-03-01T00:00:00Z", "start=-1&end=5", "start=0&end=9000000000000000",
		"filter=failed", "filter=colour:red", "filter=status:failed,", "sort=colour", "sort=duration,up", "sort=,asc", "a=%zz", "a;b",
	} {
		for _, kind := range kinds {
			if got := c.ask(c.token, "GET", org42+kind+"?"+query); got.status != 400 || got.oauthError() != "bad_request" {
				t.Errorf("%s?%s: got %d %s, want 400", kind, query, got.status, got.body)
			}
		}
	}
}

func TestRouting(t *testing.T) {
	c := newClient(t, 0)
	for _, path := range []string{
		"/", "", "/cpmm", "/cpmm/api/v1/orgs/", "/cpmm/api/v1/orgs/42", org42, org42 + "nothing", org42 + "calls/", org42 + "calls/1",
		"/cpmm/api/v1/orgs/acme/calls", "/cpmm/api/v1/orgs//calls", "/cpmm/api/v1/orgs/99999999999999999999/calls", "/cpmm/api/v2/orgs/42/calls",
		"/" + org42 + "calls", org42 + "metrics/other", "/cpmm/api/v1/orgs/42/../42/calls", "/42/calls", "/revoke", "/stats",
	} {
		if got := c.ask(c.token, "GET", path); got.status != 404 || got.body != `{"error":"not_found"}` {
			t.Errorf("GET %s: got %d %s, want 404 in JSON", path, got.status, got.body)
		}
	}
	for _, tt := range []struct{ method, path, allow string }{
		{"POST", "calls", "GET, HEAD"}, {"DELETE", "systems", "GET, HEAD"}, {"PROPFIND", "trunks", "GET, HEAD"},
		{"POST", "metrics/names", "GET, HEAD"}, {"PUT", "metrics/models", "GET, HEAD"}, {"GET", "metrics", "POST"},
	} {
		got := c.ask(c.token, tt.method, org42+tt.path)
		if got.status != 405 || got.header.Get("Allow") != tt.allow || got.oauthError() != "method_not_allowed" {
			t.Errorf("%s %s: got %d, Allow %q, %s, want 405, %q", tt.method, tt.path, got.status, got.header.Get("Allow"), got.body, tt.allow)
		}
	}
	if got := c.ask(c.token, "HEAD", org42+"calls"); got.status != 200 || got.body != "" {
		t.Errorf("HEAD: got %d %q, want 200 and no body", got.status, got.body)
	}
	if got := c.ask("x", "GET", "/nothing"); got.status != 401 {
		t.Errorf("unknown path without a token: got %d, want 401", got.status)
	}
	for _, org := range []string{"0", "1", "-5", "9223372036854775807"} {
		if got := c.page("/cpmm/api/v1/orgs/" + org + "/endpoints"); got.TotalCount < 40 {
			t.Errorf("org %s: got %d endpoints, want 40 or more", org, got.TotalCount)
		}
	}
}

func TestDataComesFromTheSeed(t *testing.T) {
	a, again, other := newClient(t, 1), newClient(t, 1), newClient(t, 2)
	for _, kind := range kinds {
		path := kind + "?size=1000&" + day
		got := a.get(org42 + path).body
		if again.get(org42+path).body != got {
			t.Errorf("%s: the same seed gives other data", kind)
		}
		if other.get(org42+path).body == got {
			t.Errorf("%s: another seed gives the same data", kind)
		}
		if a.get("/cpmm/api/v1/orgs/43/"+path).body == got {
			t.Errorf("%s: another org has the same data", kind)
		}
	}
	got := a.metric("trend", 60, "").body
	if again.metric("trend", 60, "").body != got {
		t.Error("metrics: the same seed gives other data")
	}
	if other.metric("trend", 60, "").body == got {
		t.Error("metrics: another seed gives the same data")
	}
}

// FuzzQuery asks for anything with a good token: the answer is always JSON, and
// never a 401 or a failure of the simulator's own.
func FuzzQuery(f *testing.F) {
	f.Add("calls", day+"&filter=status:failed&sort=duration,desc&page=1&size=5", "")
	f.Add("trunks", "start=0&end=1772323201000", "")
	f.Add("metrics", "", `{"name":"activeCalls","resultType":"trend","start":0,"end":"2026-03-02T00:00:00Z"}`)
	c := newClient(f, 0)
	f.Fuzz(func(t *testing.T, resource, query, body string) {
		req := httptest.NewRequest("GET", "/", nil)
		if body != "" {
			req = httptest.NewRequest("POST", "/", strings.NewReader(body))
			req.Header.Set("Content-Type", "application/json")
		}
		req.URL.Path, req.URL.RawQuery = org42+resource, query
		req.Header.Set("Authorization", "Bearer "+c.token)
		w := httptest.NewRecorder()
		c.sim.QueryHandler().ServeHTTP(w, req)
		if w.Code == 401 || w.Code >= 500 || !json.Valid(w.Body.Bytes()) {
			t.Errorf("got %d %s", w.Code, w.Body)
		}
	})
}
