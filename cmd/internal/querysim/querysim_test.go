package querysim_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

// clock is an Options.Now that moves when it is told to.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock {
	return &clock{t: time.Date(2026, 3, 4, 5, 6, 7, 900_000_000, time.UTC)}
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// rig is a simulator with its handlers on real listeners.
type rig struct {
	t                     testing.TB
	sim                   *querysim.Simulator
	login, query, control string // base URLs
}

func newRig(t testing.TB, o querysim.Options) rig {
	t.Helper()
	sim, err := querysim.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return rig{t, sim, newServer(t, sim.LoginHandler()), newServer(t, sim.QueryHandler()), newServer(t, sim.ControlHandler())}
}

// newServer serves h until the test ends and returns its base URL.
func newServer(t testing.TB, h http.Handler) string {
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.URL
}

// reply is a response, read whole.
type reply struct {
	status int
	header http.Header
	body   string
}

func (r reply) decode(t testing.TB, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(r.body), v); err != nil {
		t.Fatalf("body %q: %v", r.body, err)
	}
}

func (r reply) oauthError() string {
	var e struct{ Error string }
	_ = json.Unmarshal([]byte(r.body), &e)
	return e.Error
}

func do(t testing.TB, req *http.Request) reply {
	t.Helper()
	resp, err := http.DefaultTransport.RoundTrip(req) // follows no redirect
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Header, string(body)}
}

// attempt is a login request in parts, so that a test can spoil one of them.
type attempt struct {
	method, path, host, query string
	header                    http.Header
	form                      url.Values
	raw                       string // the body; empty: form
}

func (a attempt) request(t testing.TB, base string) *http.Request {
	t.Helper()
	body := a.raw
	if body == "" {
		body = a.form.Encode()
	}
	req, err := http.NewRequest(a.method, base+a.path+a.query, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header, req.Host = a.header, a.host
	return req
}

func formHeader() http.Header {
	return http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
}

// What the vendors' pages say, written out here and not taken from Vendors.
func vyoptaAttempt() attempt {
	return attempt{
		method: "POST", path: "/auth/realms/vyopta/protocol/openid-connect/token", host: "login.vyopta.com", header: formHeader(),
		form: url.Values{"grant_type": {"password"}, "client_id": {"vyopta"}, "username": {querysim.Username}, "password": {querysim.Password}},
	}
}

func wxpAttempt() attempt {
	a := vyoptaAttempt()
	a.path, a.host = "/auth/login", "login.wxpcollaboration.hp.com"
	a.form.Set("client_id", "WXP Collaboration")
	return a
}

func graphnetAttempt() attempt {
	v := graphnet()
	return attempt{
		method: "POST", path: "/vlive/hpca/oauth/token", header: formHeader(),
		form: url.Values{"grant_type": {"client_credentials"}, "client_id": {v.ClientID}, "client_secret": {v.ClientSecret}},
	}
}

func graphnet() querysim.Vendor {
	all := querysim.Vendors()
	return all[slices.IndexFunc(all, func(v querysim.Vendor) bool { return v.Name == "graphnet" })]
}

// token logs in at vyopta.
func (r rig) token() string {
	r.t.Helper()
	access, _ := r.tokens(vyoptaAttempt())
	return access
}

// tokens makes the login a and returns what it brings.
func (r rig) tokens(a attempt) (access, refresh string) {
	r.t.Helper()
	got := do(r.t, a.request(r.t, r.login))
	var v struct {
		Access  string `json:"access_token"`
		Refresh string `json:"refresh_token"`
	}
	got.decode(r.t, &v)
	if got.status != 200 || v.Access == "" {
		r.t.Fatalf("login: got %d %s", got.status, got.body)
	}
	return v.Access, v.Refresh
}

// ask sends one query with token.
func (r rig) ask(token, method, path string, body ...string) reply {
	r.t.Helper()
	req, err := http.NewRequest(method, r.query+path, strings.NewReader(strings.Join(body, "")))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if method == "POST" {
		req.Header.Set("Content-Type", "application/json")
	}
	return do(r.t, req)
}

const namesPath = "/cpmm/api/v1/orgs/42/metrics/names"

func TestOptionsRefused(t *testing.T) {
	for _, o := range []querysim.Options{
		{Lifetime: -time.Second},
		{Lifetime: time.Second / 2},
		{Lifetime: 1500 * time.Millisecond},
		{LoginDelay: -1},
	} {
		if _, err := querysim.New(o); err == nil {
			t.Errorf("New(%+v): got no error", o)
		}
	}
}

func TestVendorsIsACopy(t *testing.T) {
	querysim.Vendors()[0].LoginPath = "/spoiled"
	if got, want := querysim.Vendors()[0].LoginPath, vyoptaAttempt().path; got != want {
		t.Errorf("login path: got %q, want %q", got, want)
	}
}

func TestControl(t *testing.T) {
	var events []querysim.Event
	r := newRig(t, querysim.Options{OnEvent: func(e querysim.Event) { events = append(events, e) }})
	token := r.token()
	wrong := vyoptaAttempt()
	wrong.form.Set("password", "wrong")
	do(t, wrong.request(t, r.login))
	r.ask(token, "GET", namesPath)

	req := func(method, path string) reply {
		req, err := http.NewRequest(method, r.control+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		return do(t, req)
	}
	if got := req("GET", "/revoke"); got.status != 405 || got.header.Get("Allow") != "POST" {
		t.Errorf("GET /revoke: got %d, Allow %q, want 405, POST", got.status, got.header.Get("Allow"))
	}
	if got := req("POST", "/revoke"); got.status != 200 || got.body != `{"revoked":1}` {
		t.Errorf("POST /revoke: got %d %s, want one token revoked", got.status, got.body)
	}
	if got := r.ask(token, "GET", namesPath); got.status != 401 {
		t.Errorf("revoked token: got %d, want 401", got.status)
	}

	var got querysim.Stats
	req("GET", "/stats").decode(t, &got)
	want := querysim.Stats{Logins: 2, LoginsOK: 1, LoginsRefused: 1, LoginsAtOnce: 1, Queries: 2, Unauthorized: 1, Revocations: 1, Revoked: 1}
	if got != want {
		t.Errorf("GET /stats: got %+v, want %+v", got, want)
	}
	wantEvents := []querysim.Event{
		{Kind: querysim.EventLogin, Vendor: "vyopta", Result: "ok", Serial: 1},
		{Kind: querysim.EventLogin, Vendor: "vyopta", Result: "invalid_grant", Serial: 2},
		{Kind: querysim.EventRevocation, Result: "ok", Serial: 1, Tokens: 1},
	}
	if fmt.Sprint(events) != fmt.Sprint(wantEvents) {
		t.Errorf("events: got %+v, want %+v", events, wantEvents)
	}
	for _, path := range []string{"/revoke", "/stats"} {
		if got := r.ask(r.token(), "POST", path); got.status != 404 {
			t.Errorf("%s on the Query Service: got %d, want 404", path, got.status)
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	r := newRig(t, querysim.Options{OnEvent: func(querysim.Event) {}})
	const clients, each = 16, 10
	var mu sync.Mutex // guards seen
	seen := map[int]int{}
	t.Run("clients", func(t *testing.T) {
		for c := range clients {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				r := r
				r.t = t
				for range each {
					token := r.token()
					if c == 0 {
						r.sim.Revoke()
					}
					got := r.ask(token, "GET", namesPath)
					mu.Lock()
					seen[got.status]++
					mu.Unlock()
				}
			})
		}
	})
	if seen[200]+seen[401] != clients*each || seen[401] < each {
		t.Errorf("answers: got %v, want %d, only 200 and at least %d times 401", seen, clients*each, each)
	}
	s := r.sim.Stats()
	if s.Logins != clients*each || s.LoginsOK != s.Logins || s.Queries != clients*each || s.Unauthorized != seen[401] || s.WithoutToken != 0 || s.Revocations != each {
		t.Errorf("stats: got %+v", s)
	}
}

func Example() {
	sim, err := querysim.New(querysim.Options{})
	if err != nil {
		panic(err)
	}
	login := httptest.NewServer(sim.LoginHandler())
	defer login.Close()
	query := httptest.NewServer(sim.QueryHandler())
	defer query.Close()

	v := querysim.Vendors()[0]
	req, err := http.NewRequest("POST", login.URL+v.LoginPath, strings.NewReader(url.Values{
		"grant_type": {v.GrantType},
		"client_id":  {v.ClientID},
		"username":   {querysim.Username},
		"password":   {querysim.Password},
	}.Encode()))
	if err != nil {
		panic(err)
	}
	req.Host = v.LoginHost
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		panic(err)
	}
	defer resp.Body.Close()
	var answer struct {
		Token   string `json:"access_token"`
		Expires int    `json:"expires_in"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		panic(err)
	}
	fmt.Println(answer.Token[:4], answer.Expires)

	resp, err = http.Get(query.URL + "/cpmm/api/v1/orgs/42/metrics/names")
	if err != nil {
		panic(err)
	}
	defer resp.Body.Close()
	fmt.Println("without the token:", resp.Status)
	// Output:
	// eyJh 300
	// without the token: 401 Unauthorized
}
