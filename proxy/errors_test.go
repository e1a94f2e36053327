package proxy_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bearerd/bearerd/proxy"
)

// wantError checks an answer's header against wantErrors.
func wantError(t testing.TB, resp *http.Response, code proxy.Code) {
	t.Helper()
	want, ok := wantErrors[code]
	if !ok {
		t.Fatalf("%q is not in wantErrors", code)
	}
	if resp.StatusCode != want.status {
		t.Errorf("%s: got status %d, want %d", code, resp.StatusCode, want.status)
	}
	for name, value := range map[string]string{
		"Content-Type":  "application/problem+json",
		"Cache-Control": "no-store",
		"Proxy-Status":  `bearerd; error=` + want.proxyError + `; details="` + string(code) + `"`,
		"Retry-After":   want.retryAfter,

		"Content-Security-Policy": "default-src 'none'",
	} {
		if got := resp.Header.Get(name); got != value {
			t.Errorf("%s: got %s %q, want %q", code, name, got, value)
		}
	}
	if got := resp.Header.Get("Allow"); (got != "") != (code == proxy.MethodNotAllowed) {
		t.Errorf("%s: got Allow %q", code, got)
	}
}

type wantAnswer struct {
	fault      proxy.Fault
	status     int
	proxyError string
	retryAfter string
	names      string // what detail must name
}

// wantErrors are the codes that docs/errors.md names.
var wantErrors = map[proxy.Code]wantAnswer{
	proxy.LoginRejected:       {proxy.FaultLogin, 502, "proxy_configuration_error", "", "BEARERD_PASSWORD, or BEARERD_CLIENT_ID and BEARERD_CLIENT_SECRET, unless bearerd's log names another"},
	proxy.LoginUnavailable:    {proxy.FaultLogin, 503, "destination_unavailable", "7", "log"},
	proxy.LoginTimeout:        {proxy.FaultLogin, 503, "destination_unavailable", "1", "BEARERD_TOKEN_WAIT"},
	proxy.UpstreamUnreachable: {proxy.FaultUpstream, 502, "destination_unavailable", "", "BEARERD_UPSTREAM"},
	proxy.UpstreamTimeout:     {proxy.FaultUpstream, 504, "http_response_timeout", "", "BEARERD_RESPONSE_HEADER_TIMEOUT"},
	proxy.Overloaded:          {proxy.FaultCaller, 503, "connection_limit_reached", "1", "BEARERD_MAX_IN_FLIGHT"},
	proxy.HostNotAllowed:      {proxy.FaultCaller, 421, "http_request_denied", "", "BEARERD_ALLOWED_HOSTS"},
	proxy.CrossSite:           {proxy.FaultCaller, 403, "http_request_denied", "", "BEARERD_ALLOWED_ORIGINS"},
	proxy.HeaderRequired:      {proxy.FaultCaller, 403, "http_request_denied", "", "BEARERD_REQUIRE_HEADER"},
	proxy.PathNotAllowed:      {proxy.FaultCaller, 403, "http_request_denied", "", "BEARERD_ALLOWED_PATHS"},
	proxy.MethodNotAllowed:    {proxy.FaultCaller, 405, "http_request_denied", "", "BEARERD_ALLOWED_METHODS"},
	proxy.BadTarget:           {proxy.FaultCaller, 400, "http_request_error", "", "HTTP_PROXY"},
	proxy.BadPath:             {proxy.FaultCaller, 400, "http_request_error", "", "BEARERD_ALLOWED_PATHS"},
	proxy.BadBody:             {proxy.FaultCaller, 400, "http_request_error", "", "body"},
	proxy.UpgradeNotAllowed:   {proxy.FaultCaller, 400, "http_request_error", "", "BEARERD_ALLOW_UPGRADE"},
	proxy.HTTP11Required:      {proxy.FaultCaller, 505, "http_request_error", "", "HTTP/1.1"}, // in the record: TestHTTP2WithPriorKnowledge
}

// problem is the body of bearerd's own answers.
type problem struct {
	Title  string
	Status int
	Detail string
	Code   proxy.Code
}

func readProblem(t testing.TB, body string) problem {
	t.Helper()
	var p problem
	if err := json.Unmarshal([]byte(body), &p); err != nil {
		t.Fatalf("reading %q: %v", body, err)
	}
	return p
}

// A constant without a row in the table of meanings would be answered with status 0.
func TestEveryCodeHasAMeaningAndATest(t *testing.T) {
	codes := proxy.Codes()
	text, err := os.ReadFile("errors.go")
	if err != nil {
		t.Fatal(err)
	}
	constants := regexp.MustCompile(`(?m)^\t\w+ +Code = "(\w+)"$`).FindAllStringSubmatch(string(text), -1)
	same(t, "number of constants and codes", len(constants), len(codes))
	for _, constant := range constants {
		if code := proxy.Code(constant[1]); !slices.Contains(codes, code) {
			t.Errorf("%s has no row in meanings", code)
		}
	}
	for _, code := range codes {
		if want, ok := wantErrors[code]; !ok {
			t.Errorf("%s has no row in wantErrors", code)
		} else {
			same(t, string(code)+"'s fault", code.Fault(), want.fault)
		}
	}
	for code := range wantErrors {
		if !slices.Contains(codes, code) {
			t.Errorf("wantErrors has %s, which is no code", code)
		}
	}
	same(t, "fault of no code", proxy.Code("").Fault(), "")
	same(t, "fault of an unknown code", proxy.Code("unknown").Fault(), "")
}

// secretWord is in all that clients and upstreams send here; no answer of
// bearerd's own may repeat it.
const secretWord = "xyzzy"

// causes makes each failure happen, in every way that an answer has a code.
func causes(t *testing.T) map[proxy.Code]*daemon {
	up := &recorder{reply: "HTTP/1.1 200 OK\r\nX-Up: " + secretWord + "\r\nContent-Length: 0\r\n\r\n"}
	u := listen(t, up.serve)
	fails := func(e error) *daemon { return start(t, proxy.Options{Upstream: u, Source: &source{err: e}}) }
	garbage := listen(t, func(_ int, c *wire) { c.head(); c.send(t, secretWord+"\r\n\r\n") })
	slow := listen(t, func(_ int, c *wire) { c.head(); _, _ = io.Copy(io.Discard, c.in) })
	t.Cleanup(func() { same(t, "requests upstream", len(up.all()), 0) })
	return map[proxy.Code]*daemon{
		proxy.LoginRejected:       fails(&proxy.Error{Code: proxy.LoginRejected}),
		proxy.LoginUnavailable:    fails(fmt.Errorf("wrapped, %s: %w", secretWord, &proxy.Error{Code: proxy.LoginUnavailable, RetryAfter: 6001 * time.Millisecond})),
		proxy.LoginTimeout:        fails(&proxy.Error{Code: proxy.LoginTimeout, RetryAfter: time.Second}),
		proxy.UpstreamUnreachable: start(t, proxy.Options{Upstream: garbage}),
		proxy.UpstreamTimeout:     start(t, proxy.Options{Upstream: slow, ResponseHeaderTimeout: 50 * time.Millisecond}),
		proxy.HostNotAllowed:      start(t, proxy.Options{Upstream: u}),
		proxy.CrossSite:           start(t, proxy.Options{Upstream: u}),
		proxy.HeaderRequired:      start(t, proxy.Options{Upstream: u, RequireHeader: func() proxy.HeaderRule { return proxy.HeaderRule{Name: "X-Key", Value: secretWord} }}),
		proxy.PathNotAllowed:      start(t, proxy.Options{Upstream: u, Paths: []string{"/api"}}),
		proxy.MethodNotAllowed:    start(t, proxy.Options{Upstream: u, Methods: []string{"PUT"}}),
		proxy.BadTarget:           start(t, proxy.Options{Upstream: u}),
		proxy.BadPath:             start(t, proxy.Options{Upstream: u, Paths: []string{"/"}}),
		proxy.BadBody:             start(t, proxy.Options{Upstream: u}),
		proxy.UpgradeNotAllowed:   start(t, proxy.Options{Upstream: u}),
	}
}

func TestErrors(t *testing.T) {
	daemons := causes(t)
	elsewhere := []proxy.Code{proxy.Overloaded, proxy.HTTP11Required} // TestOverloaded, TestHTTP2WithPriorKnowledge
	for code := range wantErrors {
		if daemons[code] == nil && !slices.Contains(elsewhere, code) {
			t.Errorf("%s has no row in causes", code)
		}
	}
	for code, d := range daemons {
		for _, method := range []string{"GET", "HEAD", "POST"} {
			t.Run(string(code)+" "+method, func(t *testing.T) {
				target, host, fields := "/"+secretWord+"?"+secretWord, "localhost", "X: "+secretWord+"\r\nAuthorization: Bearer "+secretWord+"\r\n"
				body := ""
				switch code {
				case proxy.HostNotAllowed:
					host = secretWord + ".example"
				case proxy.CrossSite:
					fields += "Origin: https://" + secretWord + ".example\r\n"
				case proxy.BadTarget:
					target = "http://" + secretWord + ".example/"
				case proxy.BadPath:
					target = "/../" + secretWord
				case proxy.UpgradeNotAllowed:
					fields += "Connection: Upgrade\r\nUpgrade: " + secretWord + "\r\n"
				case proxy.BadBody:
					fields += "Transfer-Encoding: chunked\r\n"
					body = secretWord + "\r\n"
				}
				w := d.dial(t)
				w.send(t, method+" "+target+" HTTP/1.1\r\nHost: "+host+"\r\n"+fields+"\r\n"+body)
				resp, got := w.answer(t, method)
				wantError(t, resp, code)
				same(t, "Content-Length", resp.Header.Get("Content-Length") != "", true)
				for name, values := range resp.Header {
					if s := fmt.Sprint(name, values); strings.Contains(strings.ToLower(s), secretWord) {
						t.Errorf("got %s: what somebody sent", s)
					}
				}
				if method == "HEAD" {
					same(t, "body", got, "")
					return
				}
				if strings.Contains(got, secretWord) || strings.Contains(got, "Bearer") {
					t.Errorf("got the body %q: what somebody sent", got)
				}
				p, want := readProblem(t, got), wantErrors[code]
				same(t, "status in the body", p.Status, want.status)
				same(t, "code in the body", p.Code, code)
				if p.Title == "" || !strings.Contains(p.Detail, want.names) {
					t.Errorf("got title %q and detail %q, want %q to be named", p.Title, p.Detail, want.names)
				}
			})
		}
		for _, ex := range d.exchanges(t, 3) {
			same(t, "code in the exchange", ex.Error, code)
			same(t, "status in the exchange", ex.Status, wantErrors[code].status)
			same(t, "outcome in the exchange", ex.Outcome, proxy.Completed)
		}
	}
}

// Retry-After is whole seconds, never 0.
func TestErrorsRetryAfter(t *testing.T) {
	for wait, want := range map[time.Duration]string{
		0: "", time.Nanosecond: "1", time.Second: "1", 1001 * time.Millisecond: "2", time.Hour: "3600", -time.Second: "",
	} {
		src := &source{err: &proxy.Error{Code: proxy.LoginUnavailable, RetryAfter: wait}}
		d := start(t, proxy.Options{Upstream: parse(t, "http://up.invalid"), Source: src})
		resp, _ := d.get(t, "/")
		same(t, fmt.Sprint("Retry-After of ", wait), resp.Header.Get("Retry-After"), want)
	}
}

// A request that waits for its token is in flight too.
func TestOverloaded(t *testing.T) {
	const most = 3
	var up recorder
	waiting, release := make(chan struct{}, most), make(chan struct{})
	src := waitingSource{waiting, release}
	d := start(t, proxy.Options{Upstream: listen(t, up.serve), Source: src, MaxInFlight: most})
	var wg sync.WaitGroup
	for range most {
		wg.Go(func() {
			resp, _ := d.get(t, "/")
			same(t, "status", resp.StatusCode, 200)
		})
	}
	for range most {
		within(t, "a waiting request", patience, waiting)
	}
	same(t, "in flight", d.proxy.InFlight(), most)
	for _, method := range []string{"GET", "HEAD"} {
		resp, body := d.do(t, method, "/")
		wantError(t, resp, proxy.Overloaded)
		if method == "GET" {
			p := readProblem(t, body)
			same(t, "code in the body", p.Code, proxy.Overloaded)
			same(t, "detail names the setting", strings.Contains(p.Detail, wantErrors[proxy.Overloaded].names), true)
		}
	}
	same(t, "in flight", d.proxy.InFlight(), most)
	close(release)
	wg.Wait()
	for i, ex := range d.exchanges(t, most+2) {
		if refused := i < 2; refused != (ex.Error == proxy.Overloaded) || !refused && ex.TokenWait <= 0 {
			t.Errorf("request %d: got error %q, waited %v", i, ex.Error, ex.TokenWait)
		}
	}
	same(t, "in flight at the end", d.proxy.InFlight(), 0)
}

// waitingSource says when Token is asked for and gives it after release.
type waitingSource struct{ waiting, release chan struct{} }

func (s waitingSource) Token(ctx context.Context) (proxy.Token, error) {
	s.waiting <- struct{}{}
	select {
	case <-s.release:
		return proxy.Token{Authorization: bearer(1), Generation: 1}, nil
	case <-ctx.Done():
		return proxy.Token{}, ctx.Err()
	}
}

func (waitingSource) Before(uint64) (proxy.Token, bool) { return proxy.Token{}, false }

func (waitingSource) Renew(context.Context, uint64, func() bool) (proxy.Token, error) {
	return proxy.Token{}, errNotRenewed
}

// A client that leaves while it waits is gone, not answered.
func TestClientLeavesWhileItWaits(t *testing.T) {
	src := waitingSource{make(chan struct{}, 1), make(chan struct{})}
	var up recorder
	d := start(t, proxy.Options{Upstream: listen(t, up.serve), Source: src})
	w := d.dial(t)
	w.send(t, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	within(t, "the waiting request", patience, src.waiting)
	w.Close()
	ex := d.one(t)
	same(t, "outcome", ex.Outcome, proxy.ClientClosed)
	same(t, "generation", ex.Generation, 0)
	same(t, "requests upstream", len(up.all()), 0)
}

// A client that closes its sending side behind a request, as printf | nc -N does,
// looks to net/http like one that leaves: the request is cancelled, and nothing
// comes. The record says so, which is all that can be told from the other.
func TestClientThatHalfCloses(t *testing.T) {
	arrived := make(chan struct{}, 2)
	d := start(t, proxy.Options{Upstream: upstream(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/begun" {
			w.WriteHeader(200)
			_ = http.NewResponseController(w).Flush()
		}
		arrived <- struct{}{}
		<-r.Context().Done()
	})})
	for i, path := range []string{"/", "/begun"} {
		w := d.dial(t)
		w.send(t, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\n\r\n")
		within(t, "the request", patience, arrived)
		if path == "/begun" {
			if _, ok := w.head(); !ok {
				t.Fatal("no head came")
			}
		}
		if err := w.Conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if rest, err := io.ReadAll(w.Conn); strings.HasSuffix(string(rest), "\r\n0\r\n\r\n") {
			t.Errorf("%s: got %q %v, which looks whole", path, rest, err)
		}
		ex := d.exchanges(t, i+1)[i]
		same(t, path+": outcome", ex.Outcome, proxy.ClientClosed)
		same(t, path+": status", ex.Status, 200*i)
	}
}

// No request goes upstream without a token, the second attempt included.
func TestNeverWithoutToken(t *testing.T) {
	var up recorder
	u := listen(t, up.serve)
	for name, src := range map[string]*source{
		"no token":            {err: &proxy.Error{Code: proxy.LoginUnavailable, RetryAfter: 7 * time.Second}},
		"an unexpected error": {err: errors.New("what is this")},
		"an empty token":      {empty: true},
	} {
		d := start(t, proxy.Options{Upstream: u, Source: src, ReplayBuffer: 100})
		for _, body := range []string{"", "abc", strings.Repeat("x", 1000)} {
			w := d.dial(t)
			w.send(t, fmt.Sprintf("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\nAuthorization: Bearer mine\r\n\r\n%s", len(body), body))
			resp, _ := w.answer(t, "POST")
			same(t, name+": status", resp.StatusCode, 503)
			same(t, name+": a login's failure", strings.Contains(resp.Header.Get("Proxy-Status"), "login_unavailable"), true)
		}
		for _, ex := range d.exchanges(t, 3) {
			same(t, name+": generation", ex.Generation, 0)
		}
	}
	same(t, "requests upstream", len(up.all()), 0)

	// The newer token is the empty one.
	up.reply = unauthorized
	src := &source{}
	src.login = func(context.Context, uint64) error {
		src.mu.Lock()
		defer src.mu.Unlock()
		src.empty = true
		return nil
	}
	d := start(t, proxy.Options{Upstream: u, Source: src})
	resp, _ := d.get(t, "/")
	same(t, "status", resp.StatusCode, 503)
	same(t, "requests upstream", len(up.all()), 1)
}

// Done hears of each request once, with what there is to know.
func TestDone(t *testing.T) {
	const answer = "0123456789"
	u := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(202)
		_, _ = io.WriteString(w, answer)
	})
	d := start(t, proxy.Options{Upstream: u, ReplayBuffer: 100})
	before := time.Now()
	for i, c := range []struct {
		request string
		want    proxy.Exchange
	}{
		{"GET /a%2Fb?secret HTTP/1.1\r\nHost: localhost\r\nUser-Agent: tool/1\r\n\r\n", proxy.Exchange{Method: "GET", Path: "/a%2Fb", UserAgent: "tool/1", Status: 202, BytesOut: 10, Generation: 1, Attempts: 1}},
		{"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n", proxy.Exchange{Method: "HEAD", Path: "/", Status: 202, Generation: 1, Attempts: 1}},
		{"POST /p HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc", proxy.Exchange{Method: "POST", Path: "/p", Status: 202, BytesIn: 3, BytesOut: 10, Generation: 1, Attempts: 1}},
		{"POST /p HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200\r\n\r\n" + strings.Repeat("x", 200), proxy.Exchange{Method: "POST", Path: "/p", Status: 202, BytesIn: 200, BytesOut: 10, Generation: 1, Attempts: 1}},
		{"PUT /p HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n", proxy.Exchange{Method: "PUT", Path: "/p", Status: 202, BytesIn: 4, BytesOut: 10, Generation: 1, Attempts: 1}},
		{"GET x:y?secret HTTP/1.1\r\nHost: localhost\r\n\r\n", proxy.Exchange{Method: "GET", Status: 400, Error: proxy.BadTarget}},
		{"GET /p HTTP/1.1\r\nHost: evil\r\n\r\n", proxy.Exchange{Method: "GET", Path: "/p", Status: 421, Error: proxy.HostNotAllowed}},
	} {
		w := d.dial(t)
		w.send(t, c.request)
		method, _, _ := strings.Cut(c.request, " ")
		_, body := w.answer(t, method)
		got := d.exchanges(t, i+1)[i]
		if got.Start.Before(before) || got.Duration < 0 || got.Duration > 10*time.Second || got.TokenWait < 0 || got.TokenWait > got.Duration {
			t.Errorf("%d: got start %v, duration %v, token wait %v", i, got.Start, got.Duration, got.TokenWait)
		}
		if c.want.Error != "" {
			c.want.BytesOut = int64(len(body))
		}
		c.want.Outcome = proxy.Completed
		c.want.Start, c.want.Duration, c.want.TokenWait = got.Start, got.Duration, got.TokenWait
		// Of a HEAD's answer ReverseProxy writes no body.
		if got != c.want {
			t.Errorf("%d: got %+v, want %+v", i, got, c.want)
		}
	}
}

// The zero value of each option but two is good, and Done may be nil.
func TestZeroOptions(t *testing.T) {
	t.Parallel()
	var up recorder
	h := proxy.New(proxy.Options{Upstream: listen(t, up.serve), Source: &source{}})
	r := httptest.NewRequest("POST", "/p", strings.NewReader("abc"))
	r.Host = "localhost"
	r.RequestURI = "/p"
	rec := httptest.NewRecorder()
	// Announced, as nothing is held: the recorder answers no 100.
	h.ServeHTTP(rec, r)
	same(t, "status", rec.Code, 200)
	same(t, "body upstream", strings.Join(up.bodies(), ","), "abc")
	same(t, "in flight", h.InFlight(), 0)
	same(t, "bytes held", h.ReplayBytes(), 0)
}
