package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/bearerd/bearerd/cmd/internal/advice"
	"github.com/bearerd/bearerd/metrics"
	"github.com/bearerd/bearerd/proxy"
	"github.com/bearerd/bearerd/tokens"
)

// calls counts what an admin listener's answers have set off.
type calls struct{ logIn, quit int }

func testAdmin(c *calls) http.Handler {
	return Facts{
		Status:   func() tokens.Status { return tokens.Status{LoggedInOnce: true} },
		Stopping: func() bool { return false },
		Page:     func() Status { return Status{} },
		Metrics:  http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "series") }),
		Hosts:    proxy.NewHosts("proxy.example"),
		LogIn:    func() { c.logIn++ },
		Quit:     func() { c.quit++ },
	}.Handler()
}

const (
	here      = "127.0.0.1:50000"
	elsewhere = "10.244.1.1:50000"
)

// ask makes a request as net/http would hand it on.
func ask(h http.Handler, method, path, peer, host string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, nil)
	r.RemoteAddr, r.Host = peer, host
	for i := 0; i < len(header); i += 2 {
		r.Header[header[i]] = append(r.Header[header[i]], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestAdminPeersAndHosts(t *testing.T) {
	for _, test := range []struct {
		peer, host           string
		probes, status, post int
	}{
		{here, "localhost:9180", 200, 200, 202},
		{"127.9.9.9:1", "127.0.0.1:9180", 200, 200, 202},
		{"[::1]:50000", "[::1]:9180", 200, 200, 202},
		{"[::ffff:127.0.0.1]:50000", "LOCALHOST.", 200, 200, 202},
		{here, "proxy.example", 200, 200, 202},
		{here, "host.docker.internal:9180", 200, 421, 421}, // somebody else's, unless listed
		// What kubelet and Prometheus send.
		{elsewhere, "10.244.1.7:9180", 200, 421, 403},
		{"[fd00::1]:50000", "[fd00::7]:9180", 200, 421, 403},
		{here, "10.244.1.7:9180", 200, 421, 421},
		{"[::1]:50000", "[fd00::7]:9180", 200, 421, 421},
		// A rebound name, and none.
		{here, "evil.example:9180", 200, 421, 421},
		{here, "", 200, 421, 421},
		{here, "0.0.0.0:9180", 200, 421, 421},
		// From elsewhere no Host helps.
		{elsewhere, "localhost:9180", 200, 200, 403},
		{"[fd00::1]:50000", "[::1]:9180", 200, 200, 403},
		{"[fe80::1%eth0]:50000", "localhost", 200, 200, 403},
		{"[::ffff:10.0.0.1]:50000", "localhost", 200, 200, 403},
		{"0.0.0.0:50000", "localhost", 200, 200, 403},
		{"[::]:50000", "localhost", 200, 200, 403},
		{"", "localhost", 200, 200, 403},
		{"@", "localhost", 200, 200, 403}, // a unix peer's, but on no unix socket
	} {
		var c calls
		h := testAdmin(&c)
		for _, path := range []string{"/livez", "/startupz", "/readyz", "/metrics", "/status"} {
			want := test.probes
			if path == "/status" {
				want = test.status
			}
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				if got := ask(h, method, path, test.peer, test.host).Code; got != want {
					t.Errorf("from %q, Host %q: %s %s: got %d, want %d", test.peer, test.host, method, path, got, want)
				}
			}
		}
		var want calls
		if test.post == 202 {
			want = calls{1, 1}
		}
		for _, path := range []string{"/login", "/quitquitquit"} {
			w := ask(h, http.MethodPost, path, test.peer, test.host)
			if w.Code != test.post {
				t.Errorf("from %q, Host %q: POST %s: got %d, want %d", test.peer, test.host, path, w.Code, test.post)
			}
			if w.Code != 202 {
				wantRefusal(t, w)
			}
		}
		if c != want {
			t.Errorf("from %q, Host %q: the POSTs did %+v, want %+v", test.peer, test.host, c, want)
		}
	}
}

// wantRefusal checks that an answer says which rule it was and what to do.
func wantRefusal(t *testing.T, w *httptest.ResponseRecorder) {
	t.Helper()
	var got answer
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || got.OK || got.Reason == "" || got.Remedy == "" {
		t.Errorf("got %q, want a reason and a remedy", w.Body)
	}
	if w.Code == http.StatusMisdirectedRequest && !strings.Contains(got.Remedy, "BEARERD_ALLOWED_HOSTS") {
		t.Errorf("got %q, want the setting named", w.Body)
	}
}

// A POST without a body needs no preflight: any page could send it.
func TestThreatAdminCrossSitePOST(t *testing.T) {
	for _, test := range []struct {
		host   string
		header []string
		want   int
	}{
		{"localhost:9180", []string{"Origin", "http://localhost:9180"}, 202},
		{"LocalHost:9180", []string{"Origin", "http://localhost:9180"}, 202},
		{"localhost:9180", []string{"Origin", "HTTP://LOCALHOST:9180"}, 202},
		{"[::1]:9180", []string{"Origin", "http://[::1]:9180", "Sec-Fetch-Site", "same-origin"}, 202},
		{"localhost:9180", []string{"Sec-Fetch-Site", "none"}, 202},
		{"localhost:9180", []string{"Origin", "null"}, 403},
		{"localhost:9180", []string{"Origin", ""}, 403},
		{"localhost:9180", []string{"Origin", "http://localhost"}, 403},
		{"localhost:9180", []string{"Origin", "http://localhost:3000"}, 403},
		{"localhost:9180", []string{"Origin", "https://localhost:9180"}, 403},
		{"localhost:9180", []string{"Origin", "http://127.0.0.1:9180"}, 403},
		{"localhost:9180", []string{"Origin", "http://localhost:9180/"}, 403},
		{"localhost:9180", []string{"Origin", "http://evil.example"}, 403},
		{"localhost:9180", []string{"Origin", "http://localhost:9180", "Origin", "http://localhost:9180"}, 403},
		{"localhost:9180", []string{"Origin", "chrome-extension://abcdef"}, 403},
		{"localhost:9180", []string{"Sec-Fetch-Site", "same-site"}, 403},
		{"localhost:9180", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"localhost:9180", []string{"Sec-Fetch-Site", ""}, 403},
		{"localhost:9180", []string{"Sec-Fetch-Site", "none", "Sec-Fetch-Site", "cross-site"}, 403},
		{"localhost:9180", []string{"Origin", "http://localhost:9180", "Sec-Fetch-Site", "cross-site"}, 403},
		{"localhost:9180", []string{"Origin", "http://evil.example", "Sec-Fetch-Site", "same-origin"}, 403},
		// A rebound name is of its own origin.
		{"evil.example:9180", []string{"Origin", "http://evil.example:9180", "Sec-Fetch-Site", "same-origin"}, 421},
	} {
		for _, path := range []string{"/login", "/quitquitquit"} {
			var c calls
			w := ask(testAdmin(&c), http.MethodPost, path, here, test.host, test.header...)
			if w.Code != test.want {
				t.Errorf("POST %s, Host %s, %q: got %d, want %d", path, test.host, test.header, w.Code, test.want)
			}
			if w.Code != 202 {
				wantRefusal(t, w)
			}
			if done := c != (calls{}); done != (test.want == 202) {
				t.Errorf("POST %s, Host %s, %q: got %d and did %+v", path, test.host, test.header, w.Code, c)
			}
		}
	}
}

// Who may write to the socket is decided by its mode.
func TestAdminOnAUnixSocket(t *testing.T) {
	var c calls
	r := httptest.NewRequest(http.MethodPost, "http://localhost/login", nil)
	r.RemoteAddr = "@"
	at := &net.UnixAddr{Name: "/run/bearerd.sock", Net: "unix"}
	r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, net.Addr(at)))
	w := httptest.NewRecorder()
	testAdmin(&c).ServeHTTP(w, r)
	if w.Code != 202 || c.logIn != 1 {
		t.Errorf("POST /login over a unix socket: got %d and %d logins, want 202 and 1", w.Code, c.logIn)
	}
}

func TestAdminMethodsAndPaths(t *testing.T) {
	var c calls
	h := testAdmin(&c)
	for _, test := range []struct {
		method, path string
		want         int
		allow        string
	}{
		{"GET", "/login", 405, "POST"},
		{"HEAD", "/login", 405, "POST"},
		{"OPTIONS", "/login", 405, "POST"},
		{"PUT", "/quitquitquit", 405, "POST"},
		{"GET", "/quitquitquit", 405, "POST"},
		{"PROPFIND", "/quitquitquit", 405, "POST"},
		{"POST", "/readyz", 405, "GET, HEAD"},
		{"POST", "/metrics", 405, "GET, HEAD"},
		{"DELETE", "/status", 405, "GET, HEAD"},
		{"GET", "/", 404, ""},
		{"HEAD", "/", 404, ""},
		{"POST", "/x", 404, ""},
		{"PROPFIND", "/x", 404, ""},
		{"GET", "/readyz/", 404, ""},
		{"GET", "//readyz", 404, ""},
		{"GET", "/cpmm/api", 404, ""},
		{"OPTIONS", "*", 404, ""},
	} {
		w := ask(h, test.method, test.path, here, "localhost:9180")
		if w.Code != test.want || w.Header().Get("Allow") != test.allow {
			t.Errorf("%s %s: got %d, Allow %q; want %d, Allow %q", test.method, test.path, w.Code, w.Header().Get("Allow"), test.want, test.allow)
		}
	}
	if c != (calls{}) {
		t.Errorf("they did %+v, want nothing", c)
	}
	for _, part := range []string{`"GET /livez"`, `"GET /startupz"`, `"GET /readyz"`, `"GET /metrics"`, `"GET /status"`, `"POST /login"`, `"POST /quitquitquit"`} {
		if body := ask(h, "GET", "/", elsewhere, "10.244.1.7:9180").Body.String(); !strings.Contains(body, part) {
			t.Errorf("the answer to GET / lacks %s: %s", part, body)
		}
	}
}

func TestAdminHeaders(t *testing.T) {
	h := testAdmin(new(calls))
	for _, line := range []string{
		"GET /livez", "GET /startupz", "GET /readyz", "GET /metrics", "GET /status", "HEAD /metrics",
		"POST /login", "POST /quitquitquit", "GET /login", "GET /", "PROPFIND /x",
	} {
		method, path, _ := strings.Cut(line, " ")
		for _, host := range []string{"localhost", "evil.example"} {
			got := ask(h, method, path, here, host).Header()
			if got.Get("Cache-Control") != "no-store" || got.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("%s, Host %s: got %v, want no-store and nosniff", line, host, got)
			}
		}
	}
}

func TestQuitNeedsItsSetting(t *testing.T) {
	w := ask(Facts{Metrics: http.NotFoundHandler(), Hosts: proxy.NewHosts()}.Handler(), http.MethodPost, "/quitquitquit", here, "localhost")
	if w.Code != 403 || !strings.Contains(w.Body.String(), "BEARERD_ALLOW_QUIT=true") {
		t.Errorf("got %d %q, want 403 and the setting", w.Code, w.Body)
	}
}

// Who asked has the whole answer before the stop begins.
func TestQuitAnswersFirst(t *testing.T) {
	began, release := make(chan struct{}), make(chan struct{})
	defer close(release)
	server := httptest.NewServer(Facts{Metrics: http.NotFoundHandler(), Hosts: proxy.NewHosts(), Quit: func() {
		close(began)
		<-release
	}}.Handler())
	defer server.CloseClientConnections()
	client := http.Client{Timeout: 5 * time.Second}
	resp, err := client.Post(server.URL+"/quitquitquit", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 202 || !strings.HasSuffix(string(body), "}\n") {
		t.Errorf("got %d %q %v, want 202 and a whole body", resp.StatusCode, body, err)
	}
	<-began
}

// Nobody waits for a body that is announced and not sent.
func TestAdminReadsNoBody(t *testing.T) {
	server := httptest.NewServer(testAdmin(new(calls)))
	defer server.Close()
	for _, path := range []string{"/login", "/quitquitquit", "/"} {
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, "POST "+path+" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nabc"); err != nil {
			t.Fatal(err)
		}
		if _, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil {
			t.Errorf("POST %s: got %v, want an answer without the body", path, err)
		}
	}
}

func TestProbeReasons(t *testing.T) {
	since, next := time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC), time.Date(2026, 1, 2, 3, 5, 5, 0, time.FixedZone("", 3600))
	const times = `,"since":"2026-01-02T03:04:05.678Z","next_login":"2026-01-02T02:05:05Z"`
	for _, test := range []struct {
		st       tokens.Status
		stopping bool
		want     string // beginning of the answer
	}{
		{tokens.Status{}, false, `{"ok":false,"reason":"the first login is under way"}` + "\n"},
		{tokens.Status{Failure: tokens.Failure{Kind: tokens.Rejected, Cause: tokens.Cause{Kind: tokens.CauseStatus, Status: 401, Code: "invalid_grant"}, Rejections: 1, FailingSince: since}, NextLogin: next}, false,
			`{"ok":false,"reason":"the login server refuses the credentials (HTTP 401, error invalid_grant)"` + times + `,"remedy":"check BEARERD_USERNAME`},
		{tokens.Status{Failure: tokens.Failure{Kind: tokens.Rejected, Cause: tokens.Cause{Kind: tokens.CauseStatus, Status: 401, Code: "invalid_grant"}, Stopped: true, Rejections: 5, FailingSince: since}}, false,
			`{"ok":false,"reason":"logins stopped after 5 refusals (HTTP 401, error invalid_grant)","since":"2026-01-02T03:04:05.678Z","remedy":"check BEARERD_USERNAME`},
		{tokens.Status{Failure: tokens.Failure{Kind: tokens.Throttled, Cause: tokens.Cause{Kind: tokens.CauseStatus, Status: 429}, FailingSince: since}, NextLogin: next}, false,
			`{"ok":false,"reason":"the login server asks to be left alone for a while (HTTP 429)"` + times + `,"remedy":"none needed`},
		{tokens.Status{Failure: tokens.Failure{Kind: tokens.Transient, Cause: tokens.Cause{Kind: tokens.CauseNoAnswer, Err: errors.New("dial tcp 192.0.2.1:443: connection refused")}, FailingSince: since}, NextLogin: next}, false,
			`{"ok":false,"reason":"no token from the login server (dial tcp 192.0.2.1:443: connection refused)"` + times + `,"remedy":"check BEARERD_TOKEN_URL`},
		{tokens.Status{Failure: tokens.Failure{Kind: tokens.Transient, Waiting: true, Cause: tokens.Cause{Kind: tokens.CauseFile, Problem: `waiting for the password file "/run/p": it is empty`}, FailingSince: since}}, false,
			`{"ok":false,"reason":"waiting for the password file \"/run/p\": it is empty","since":"2026-01-02T03:04:05.678Z","remedy":"mend that file`},
		{tokens.Status{Failure: tokens.Failure{Kind: tokens.Transient, Cause: tokens.Cause{Kind: tokens.CauseStatus, Status: 500}, FailingSince: since}, NextLogin: next}, true,
			`{"ok":false,"reason":"stopping"}` + "\n"},
	} {
		h := Facts{
			Status:   func() tokens.Status { return test.st },
			Stopping: func() bool { return test.stopping },
			Metrics:  http.NotFoundHandler(),
			Hosts:    proxy.NewHosts(),
		}.Handler()
		for _, path := range []string{"/readyz", "/startupz"} {
			if got := ask(h, "GET", path, here, "localhost:9180").Body.String(); !strings.HasPrefix(got, test.want) {
				t.Errorf("%s: got  %s\nwant %s", path, got, test.want)
			}
		}
	}
}

// A rebound name, and a kubelet, read which kind of trouble it is: no file, no
// address, no word of a server.
func TestThreatProbesTellForeignHostsACode(t *testing.T) {
	hidden := tokens.Cause{Kind: tokens.CauseFile, Problem: "a file, an address, a server's words"}
	now := time.Now()
	for want, st := range map[string]tokens.Status{
		`"starting","remedy":"none needed"`:                                                     {},
		`"login_rejected","remedy":"correct the credentials"`:                                   {Failure: tokens.Failure{Kind: tokens.Rejected, Cause: hidden, Rejections: 1, FailingSince: now}, NextLogin: now},
		`"login_stopped","remedy":"correct the credentials"`:                                    {Failure: tokens.Failure{Kind: tokens.Rejected, Cause: hidden, Stopped: true, Rejections: 5, FailingSince: now}},
		`"login_throttled","remedy":"none needed"`:                                              {Failure: tokens.Failure{Kind: tokens.Throttled, Cause: hidden, FailingSince: now}, NextLogin: now},
		`"login_unavailable","remedy":"look at the login server, the network and the settings"`: {Failure: tokens.Failure{Kind: tokens.Transient, Cause: hidden, FailingSince: now}, NextLogin: now},
		`"waiting_for_file","remedy":"mend a file"`:                                             {Failure: tokens.Failure{Kind: tokens.Transient, Waiting: true, Cause: hidden, FailingSince: now}},
		`"stopping"`: {Failure: tokens.Failure{Kind: tokens.Transient, Cause: hidden}},
	} {
		stopping := want == `"stopping"`
		h := Facts{
			Status:   func() tokens.Status { return st },
			Stopping: func() bool { return stopping },
			Metrics:  http.NotFoundHandler(),
			Hosts:    proxy.NewHosts("proxy.example"),
		}.Handler()
		want = `{"ok":false,"reason":` + want + `,"detail":"` + askByName + `"}` + "\n"
		if stopping {
			want = `{"ok":false,"reason":"stopping"}` + "\n"
		}
		for _, path := range []string{"/readyz", "/startupz"} {
			for _, host := range []string{"evil.example:9180", "10.244.1.7:9180", "host.docker.internal", ""} {
				if w := ask(h, "GET", path, elsewhere, host); w.Code != 503 || w.Body.String() != want {
					t.Errorf("%s, Host %q: got  %d %s\nwant 503 %s", path, host, w.Code, w.Body, want)
				}
			}
			// As a listed one does, and who may open a socket.
			if got := ask(h, "GET", path, here, "proxy.example").Body.String(); strings.Contains(got, askByName) {
				t.Errorf("%s, a listed Host: got %s, want the reason", path, got)
			}
			r := httptest.NewRequest("GET", path, nil)
			r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, net.Addr(&net.UnixAddr{Net: "unix"})))
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if strings.Contains(w.Body.String(), askByName) {
				t.Errorf("%s over a unix socket: got %s, want the reason", path, w.Body)
			}
		}
	}
}

func TestStatusOfToken(t *testing.T) {
	requested := time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("", 3600))
	st := tokens.Status{
		Generation: 3, Good: true, Rule: tokens.RuleExpiresIn,
		Lifetime: 5 * time.Minute, Requested: requested, Expiry: requested.Add(5 * time.Minute),
	}
	text := func(st tokens.Status, now time.Time) string {
		b, err := json.Marshal(TokenOf(st, now))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	const times = `"lifetime_s":300,"expiry_rule":"expires_in","requested":"2026-01-02T02:04:05Z","expiry":"2026-01-02T02:09:05Z"`
	used, late := st, st
	used.LastUsed = requested.Add(time.Second)
	late.Good = false
	for _, test := range []struct {
		what string
		st   tokens.Status
		now  time.Duration // after requested
		want string
	}{
		{"none", tokens.Status{}, 0, `null`},
		{"unused", st, 1500 * time.Millisecond, `{"generation":3,"good":true,` + times + `,"age_s":1.5,"remaining_s":298.5,"last_used":null}`},
		{"used", used, time.Minute, `{"generation":3,"good":true,` + times + `,"age_s":60,"remaining_s":240,"last_used":"2026-01-02T02:04:06Z"}`},
		{"over by the monotonic clock, the other set back", late, -time.Hour, `{"generation":3,"good":false,` + times + `,"age_s":0,"remaining_s":0,"last_used":null}`},
	} {
		if got := text(test.st, requested.Add(test.now)); got != test.want {
			t.Errorf("%s: got  %s\nwant %s", test.what, got, test.want)
		}
	}
}

func TestStatusOfLogin(t *testing.T) {
	const flags = `"logging_in":false,"stopped":false,"waiting":false,"rejections":0`
	for _, test := range []struct {
		st   tokens.Status
		want string
	}{
		{tokens.Status{}, `{` + flags + `}`},
		{tokens.Status{LoggedInOnce: true, SkewKnown: true}, `{"last_result":"ok",` + flags + `,"clock_skew_s":0}`},
		{tokens.Status{LoggedInOnce: true, Skew: -90 * time.Second, SkewKnown: true, LoggingIn: true},
			`{"last_result":"ok","logging_in":true,"stopped":false,"waiting":false,"rejections":0,"clock_skew_s":-90}`},
		{tokens.Status{Failure: tokens.Failure{Kind: tokens.Throttled, Cause: tokens.Cause{Kind: tokens.CauseStatus, Status: 429}, FailingSince: time.Unix(0, 0)}, NextLogin: time.Unix(60, 0)},
			`{"last_result":"throttled","cause":"HTTP 429","remedy":"none needed: the login server is busy; bearerd tries again by itself","failing_since":"1970-01-01T00:00:00Z","next_login":"1970-01-01T00:01:00Z",` + flags + `}`},
	} {
		got, err := json.Marshal(LoginOf(test.st, advice.Way{}))
		if err != nil || string(got) != test.want {
			t.Errorf("got  %s %v\nwant %s", got, err, test.want)
		}
	}
}

func TestStatusCounters(t *testing.T) {
	registry := prometheus.NewRegistry()
	m := metrics.New(registry, metrics.Options{})
	m.Request("GET", 200, time.Second)
	m.Request("GET", 200, time.Second)
	m.Request("POST", metrics.Aborted, time.Second)
	m.Login("ok", time.Second)
	// One without a label, and one that is not bearerd's.
	for _, name := range []string{"bearerd_plain_total", "other_total"} {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: name})
		c.Add(7)
		registry.MustRegister(c)
	}
	got := Counters(registry)
	for name, want := range map[string]any{
		"bearerd_requests_total": map[string]any{"200": map[string]any{"GET": 2.0}, "aborted": map[string]any{"POST": 1.0}},
		"bearerd_logins_total":   map[string]any{"ok": 1.0, "rejected": 0.0, "throttled": 0.0, "transient": 0.0},
		"bearerd_plain_total":    7.0,
		"other_total":            nil,
		"go_gc_duration_seconds": nil,
	} {
		if !reflect.DeepEqual(got[name], want) {
			t.Errorf("%s: got %v, want %v", name, got[name], want)
		}
	}
}

func TestProbes(t *testing.T) {
	st := tokens.Status{}
	stopping := false
	h := Facts{
		Status:   func() tokens.Status { return st },
		Stopping: func() bool { return stopping },
		Metrics:  http.NotFoundHandler(),
		Hosts:    proxy.NewHosts(),
	}.Handler()
	for _, test := range []struct {
		name                   string
		st                     tokens.Status
		stopping               bool
		livez, startupz, ready int
		reason                 string
	}{
		{"before the first login", tokens.Status{}, false, 200, 503, 503, "first login"},
		{"token held", tokens.Status{LoggedInOnce: true, Good: true}, false, 200, 200, 200, ""},
		{"token held, login failing", tokens.Status{Failure: tokens.Failure{Kind: tokens.Transient, Cause: tokens.Cause{Kind: tokens.CauseStatus, Status: 500}}, LoggedInOnce: true, Good: true}, false, 200, 200, 200, ""},
		{"idle, token over", tokens.Status{LoggedInOnce: true}, false, 200, 200, 200, ""},
		{"no token, login failing", tokens.Status{Failure: tokens.Failure{Kind: tokens.Transient, Cause: tokens.Cause{Kind: tokens.CauseStatus, Status: 500}}, LoggedInOnce: true}, false, 200, 200, 503, "HTTP 500"},
		{"rejected at the start", tokens.Status{Failure: tokens.Failure{Kind: tokens.Rejected, Cause: tokens.Cause{Kind: tokens.CauseStatus, Status: 401, Code: "invalid_grant"}}}, false, 200, 503, 503, "invalid_grant"},
		{"stopped", tokens.Status{Failure: tokens.Failure{Kind: tokens.Rejected, Stopped: true}}, false, 200, 503, 503, "stopped"},
		{"stopping before the first login", tokens.Status{}, true, 200, 503, 503, "stopping"},
		{"stopping", tokens.Status{LoggedInOnce: true, Good: true}, true, 200, 200, 503, "stopping"},
	} {
		st, stopping = test.st, test.stopping
		for path, want := range map[string]int{"/livez": test.livez, "/startupz": test.startupz, "/readyz": test.ready} {
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				// The kubelet and Prometheus send the pod's address as Host, and get no reason.
				for _, host := range []string{"10.1.2.3:9180", "localhost:9180"} {
					w := ask(h, method, path, here, host)
					if w.Code != want {
						t.Errorf("%s: %s %s, Host %s: got %d, want %d", test.name, method, path, host, w.Code, want)
					}
					if path == "/readyz" && method == http.MethodGet && host == "localhost:9180" && !strings.Contains(w.Body.String(), test.reason) {
						t.Errorf("%s: /readyz: got %q, want the reason %q", test.name, w.Body, test.reason)
					}
				}
			}
		}
	}
}
