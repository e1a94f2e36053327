package proxy_test

import (
	"context"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bearerd/bearerd/proxy"
)

// What browsers say of a page's requests, and programs do not.
func TestThreatCrossSite(t *testing.T) {
	var up recorder
	d := start(t, proxy.Options{Upstream: listen(t, up.serve), Origins: []string{"http://localhost:3000", "chrome-extension://abcdefgh", "https://app.example"}})
	const host = "Host: localhost:8080"
	for _, test := range []struct {
		name   string
		fields []string
		ok     bool
	}{
		{"a program", nil, true},
		{"an address that somebody typed", []string{"Sec-Fetch-Site: none"}, true},
		{"a page of bearerd's own origin", []string{"Sec-Fetch-Site: same-origin", "Origin: http://localhost:8080"}, true},
		{"a page of a dev server, through its proxy", []string{"Sec-Fetch-Site: same-origin"}, true},
		{"a listed page", []string{"Sec-Fetch-Site: same-site", "Origin: http://localhost:3000"}, true},
		{"a listed page on another site", []string{"Sec-Fetch-Site: cross-site", "Origin: https://app.example"}, true},
		{"a listed page through its proxy, with changeOrigin", []string{"Sec-Fetch-Site: same-origin", "Origin: http://localhost:3000"}, true},
		{"a listed extension", []string{"Sec-Fetch-Site: none", "Origin: chrome-extension://abcdefgh"}, true},

		{"img of another site", []string{"Sec-Fetch-Site: cross-site"}, false},
		{"img of another port", []string{"Sec-Fetch-Site: same-site"}, false},
		{"a value of tomorrow", []string{"Sec-Fetch-Site: sideways"}, false},
		{"an empty value", []string{"Sec-Fetch-Site: "}, false},
		{"two values", []string{"Sec-Fetch-Site: none", "Sec-Fetch-Site: cross-site"}, false},
		{"another origin", []string{"Origin: https://evil.example"}, false},
		{"another origin, said to be the same", []string{"Origin: https://evil.example", "Sec-Fetch-Site: same-origin"}, false},
		{"null", []string{"Origin: null", "Sec-Fetch-Site: cross-site"}, false},
		{"null, said to be the same", []string{"Origin: null", "Sec-Fetch-Site: same-origin"}, false},
		{"an empty origin", []string{"Origin: "}, false},
		{"another port", []string{"Origin: http://localhost:8081"}, false},
		{"no port", []string{"Origin: http://localhost"}, false},
		{"https", []string{"Origin: https://localhost:8080"}, false},
		{"another name of this machine", []string{"Origin: http://127.0.0.1:8080"}, false},
		{"more than a listed origin", []string{"Origin: http://localhost:3000.evil.example"}, false},
		{"a listed origin with a slash", []string{"Origin: http://localhost:3000/"}, false},
		{"a part of a listed origin", []string{"Origin: http://localhost:300"}, false},
		{"a list", []string{"Origin: http://localhost:3000, https://evil.example"}, false},
		{"two origins", []string{"Origin: http://localhost:3000", "Origin: https://evil.example"}, false},
		{"own origin twice", []string{"Origin: http://localhost:8080", "Origin: http://localhost:8080"}, false},
		{"an unlisted extension", []string{"Origin: chrome-extension://abcdefg"}, false},
	} {
		for _, method := range []string{"GET", "HEAD", "OPTIONS", "POST", "DELETE", "PROPFIND"} {
			before := len(up.all())
			resp, _ := d.do(t, method, "/", append([]string{host}, test.fields...)...)
			if test.ok {
				same(t, test.name+": status of "+method, resp.StatusCode, 200)
				same(t, test.name+": requests upstream of "+method, len(up.all()), before+1)
				continue
			}
			wantError(t, resp, proxy.CrossSite)
			same(t, test.name+": requests upstream of "+method, len(up.all()), before)
			same(t, test.name+": Access-Control-Allow-Origin", resp.Header.Get("Access-Control-Allow-Origin"), "")
		}
	}
}

// Preflights are answered here, whoever asks.
func TestPreflights(t *testing.T) {
	var up recorder
	u := listen(t, up.serve)
	open := start(t, proxy.Options{Upstream: u, Origins: []string{"http://localhost:3000"},
		RequireHeader: func() proxy.HeaderRule { return proxy.HeaderRule{Name: "X-Key", Value: "k"} }})
	narrow := start(t, proxy.Options{Upstream: u, Origins: []string{"http://localhost:3000"}, Methods: []string{"GET"}})
	closed := start(t, proxy.Options{Upstream: u})
	ask := func(d *daemon, origin, method string) *http.Response {
		resp, _ := d.do(t, "OPTIONS", "/x", "Host: localhost:8080", "Origin: "+origin, "Access-Control-Request-Method: "+method,
			"Access-Control-Request-Headers: content-type,x-key", "Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: cors")
		return resp
	}
	resp := ask(open, "http://localhost:3000", "DELETE")
	same(t, "status", resp.StatusCode, 200)
	for name, want := range map[string]string{
		"Access-Control-Allow-Origin":      "http://localhost:3000",
		"Access-Control-Allow-Methods":     "DELETE",
		"Access-Control-Allow-Headers":     "Content-Type, X-Key",
		"Access-Control-Allow-Credentials": "",
	} {
		same(t, name, resp.Header.Get(name), want)
	}
	if vary := strings.Join(resp.Header["Vary"], ","); !strings.Contains(vary, "Origin") {
		t.Errorf("got Vary %q, want Origin in it", vary)
	}
	resp = ask(narrow, "http://localhost:3000", "DELETE")
	same(t, "leave for a method that is not allowed", resp.Header.Get("Access-Control-Allow-Origin"), "")
	for _, d := range []*daemon{open, narrow, closed} {
		resp = ask(d, "https://evil.example", "GET")
		wantError(t, resp, proxy.CrossSite)
		same(t, "leave for another", resp.Header.Get("Access-Control-Allow-Origin"), "")
	}
	// One of its own origin: nobody asks, and upstream is not asked either.
	resp, _ = closed.do(t, "OPTIONS", "/", "Host: localhost:8080", "Origin: http://localhost:8080", "Access-Control-Request-Method: GET")
	same(t, "status of its own", resp.StatusCode, 200)
	same(t, "requests upstream", len(up.all()), 0)
	// It is a preflight with both fields only.
	resp, _ = open.do(t, "OPTIONS", "/", "Host: localhost:8080", "X-Key: k")
	same(t, "status of OPTIONS", resp.StatusCode, 200)
	same(t, "requests upstream", len(up.all()), 1)
	for _, ex := range open.exchanges(t, 3) {
		same(t, "outcome", ex.Outcome, proxy.Completed)
	}
}

// Who may read is not upstream's to say; a listed page may, errors too.
func TestCORS(t *testing.T) {
	up := recorder{reply: "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nAccess-Control-Allow-Credentials: true\r\n" +
		"Access-Control-Expose-Headers: X-Theirs\r\nVary: Accept\r\nX-Up: 1\r\nContent-Length: 0\r\n\r\n"}
	u := listen(t, up.serve)
	d := start(t, proxy.Options{Upstream: u, Origins: []string{"http://localhost:3000"}, Paths: []string{"/api"}})
	for path, status := range map[string]int{"/api": 200, "/other": 403} {
		resp, _ := d.get(t, path, "Host: localhost:8080", "Origin: http://localhost:3000", "Sec-Fetch-Site: same-site")
		same(t, "status", resp.StatusCode, status)
		same(t, "Access-Control-Allow-Origin", strings.Join(resp.Header["Access-Control-Allow-Origin"], ";"), "http://localhost:3000")
		same(t, "Access-Control-Allow-Credentials", resp.Header.Get("Access-Control-Allow-Credentials"), "")
		same(t, "Access-Control-Expose-Headers", strings.Join(resp.Header["Access-Control-Expose-Headers"], ";"), "*")
		if vary := strings.Join(resp.Header["Vary"], ","); !strings.Contains(vary, "Origin") {
			t.Errorf("got Vary %q, want Origin in it", vary)
		}
	}
	// A cache must not give a program's answer to a page.
	resp, _ := d.get(t, "/api", "Host: localhost:8080")
	same(t, "a program's Access-Control-Allow-Origin", resp.Header.Get("Access-Control-Allow-Origin"), "")
	if vary := strings.Join(resp.Header["Vary"], ","); !strings.Contains(vary, "Origin") || !strings.Contains(vary, "Accept") {
		t.Errorf("got Vary %q, want Origin and Accept in it", vary)
	}
	// Without a list all is as upstream sent it, but for its own CORS.
	d = start(t, proxy.Options{Upstream: u})
	resp, _ = d.get(t, "/")
	for name := range resp.Header {
		if strings.HasPrefix(name, "Access-Control-") {
			t.Errorf("got %s: %q", name, resp.Header[name])
		}
	}
	same(t, "Vary", strings.Join(resp.Header["Vary"], ","), "Accept")
}

func TestRequiredHeader(t *testing.T) {
	var up recorder
	rule := proxy.HeaderRule{Name: "X-Bearerd-Key", Value: "right-0ne"}
	d := start(t, proxy.Options{Upstream: listen(t, up.serve), RequireHeader: func() proxy.HeaderRule { return rule }})
	for _, fields := range [][]string{
		nil, {"X-Bearerd-Key: "}, {"X-Bearerd-Key: wrong-one"}, {"X-Bearerd-Key: right-0n"}, {"X-Bearerd-Key: right-0nee"},
		{"X-Bearerd-Key: right-0ne", "X-Bearerd-Key: right-0ne"}, {"X-Bearerd-Key: right-0ne, right-0ne"}, {"X-Bearerd-Keys: right-0ne"},
		{"X_Bearerd_Key: right-0ne"},
	} {
		resp, body := d.get(t, "/", append([]string{"Host: localhost"}, fields...)...)
		wantError(t, resp, proxy.HeaderRequired)
		if strings.Contains(body, "right-0ne") || strings.Contains(body, rule.Name) {
			t.Errorf("%q: got %s, which tells what to send", fields, body)
		}
	}
	same(t, "requests upstream", len(up.all()), 0)
	resp, _ := d.get(t, "/", "Host: localhost", "x-bearerd-key: right-0ne")
	same(t, "status", resp.StatusCode, 200)
	same(t, "what upstream got of it", strings.Join(up.last(t).values(rule.Name), ","), "")
	// It may be one that bearerd takes for itself.
	rule = proxy.HeaderRule{Name: "Authorization", Value: "Basic dTpw"}
	resp, _ = d.get(t, "/", "Host: localhost", "Authorization: Basic dTpw")
	same(t, "status with Authorization", resp.StatusCode, 200)
	same(t, "Authorization upstream", strings.Join(up.last(t).values("Authorization"), ","), bearer(1))
}

// Through a unix socket any Host will do; the rest of the guard holds.
func TestUnixSocketNeedsNoHost(t *testing.T) {
	var up recorder
	d := prepare(t, proxy.Options{Upstream: listen(t, up.serve)})
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Skip(err)
	}
	_ = d.Listener.Close()
	d.Listener = l
	d.serve(t)
	client := http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", path) }}}
	defer client.CloseIdleConnections()
	for origin, want := range map[string]int{"": 200, "http://any.example": 200, "https://evil.example": 403, "null": 403} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", "http://any.example/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if origin != "" {
			req.Header.Set("Origin", origin)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		same(t, "status with Origin "+origin, resp.StatusCode, want)
	}
}
