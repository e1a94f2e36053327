package proxy_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/bearerd/bearerd/proxy"
)

// wantFields checks that a request came upstream with exactly these fields,
// besides Host and Authorization.
func wantFields(t *testing.T, h head, host string, want ...string) {
	t.Helper()
	if got := h.values("Host"); len(got) != 1 || got[0] != host {
		t.Errorf("got Host %q, want %q once", got, host)
	}
	if got := h.values("Authorization"); len(got) != 1 || got[0] != bearer(1) {
		t.Errorf("got Authorization %q, want %q once", got, bearer(1))
	}
	var got []string
	for _, f := range h.fields {
		name, _, _ := strings.Cut(f, ":")
		if name != "Host" && name != "Authorization" {
			got = append(got, f)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got fields\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

func TestThreatSpoofedForwardingHeaders(t *testing.T) {
	var up recorder
	u := listen(t, up.serve)
	d := start(t, proxy.Options{Upstream: u})
	for _, c := range []struct {
		name string
		sent []string
		want []string
	}{
		{"none: no User-Agent is made up", nil, nil},
		{"User-Agent and Accept-Encoding as they came", []string{"User-Agent: x/1", "Accept-Encoding: br"}, []string{"User-Agent: x/1", "Accept-Encoding: br"}},
		{"own fields, duplicates kept in order", []string{"X-A: 1", "X-A: 2", "x-a: 3"}, []string{"X-A: 1", "X-A: 2", "X-A: 3"}},
		{"Authorization replaced", []string{"Authorization: Basic eDp5", "authorization: Bearer other", "Proxy-Authorization: Basic eDp5"}, nil},
		{"forwarding fields (CVE-2025-64484)", []string{
			"Forwarded: for=1.2.3.4", "X-Forwarded-For: 1.2.3.4", "X-Forwarded-Host: evil", "X-Forwarded-Proto: https",
			"X-Forwarded-Port: 1", "X-Forwarded-User: root", "x-forwarded-email: a", "X-Forwarded-Access-Token: a", "X-Real-IP: 1.2.3.4",
			"X-Original-URL: /admin", "X-Rewrite-URL: /admin", "X-Original-Urls: kept",
		}, []string{"X-Original-Urls: kept"}},
		// Upstreams that make variables of them read X_Real_Ip as X-Real-Ip.
		{"spellings of what is removed or set", []string{
			"X_Forwarded_For: 1", "x_real_ip: 1", "X-Forwarded_For: 1", "x_FORWARDED-host: 1", "X_Forwarded-Anything: 1", "X-Original_URL: /a", "X_Rewrite_Url: /a",
			"Proxy_Authorization: x", "Proxy_Connection: x", "Content_Length: 5", "content_length: 5", "Transfer_Encoding: chunked", "Transfer-encoding_: kept", "Keep_Alive: 1",
			"Proxy_Authenticate: x", "Http2_Settings: AA", "X.Real.Ip: 1", "X'Forwarded~For: 1", "Content.Length: 5", "X-Ok: 1",
		}, []string{"Transfer-Encoding_: kept", "X-Ok: 1"}},
		{"other names with an underscore", []string{
			"api_key: 1", "Subscription_Key: 2", "X_A: 1", "Authori_zation: x", "Authorization_Code: 1", "X_Forwarded: 1", "_: 1", "A_: 1", "X.A: 1", "Set_Cookie: 1",
		}, []string{"Api_key: 1", "Subscription_key: 2", "X_a: 1", "Authori_zation: x", "Authorization_code: 1", "X_forwarded: 1", "_: 1", "A_: 1", "X.a: 1", "Set_cookie: 1"}},
		{"hop by hop", []string{
			"Connection: close, X-Hop", "X-Hop: 1", "Keep-Alive: timeout=5", "Proxy-Connection: keep-alive", "Te: deflate", "Proxy-Authenticate: x", "X-Ok: 1",
		}, []string{"X-Ok: 1"}},
		{"TE: only trailers", []string{"TE: trailers, deflate;q=0.5", "Connection: TE"}, []string{"Te: trailers"}},
		{"Connection names several, twice", []string{"Connection: x-a,x-b", "Connection: X-C", "X-A: 1", "X-B: 1", "X-C: 1", "X-D: 1"}, []string{"X-D: 1"}},
		{"cookies", []string{"Cookie: a=b", "Cookie: c=d", "Coo_kie: kept", "Cookie2: kept"}, []string{"Cookie2: kept", "Coo_kie: kept"}},
		{"idempotency key", []string{"Idempotency-Key: 1"}, []string{"Idempotency-Key: 1"}},
		{"Upgrade-Insecure-Requests is none", []string{"Upgrade-Insecure-Requests: 1"}, []string{"Upgrade-Insecure-Requests: 1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			resp, _ := d.get(t, "/", append([]string{"Host: localhost:8080"}, c.sent...)...)
			same(t, "status", resp.StatusCode, 200)
			wantFields(t, up.last(t), u.Host, c.want...)
		})
	}
}

// Hop-by-hop rules must not take the injected field away (golang/go 50580,
// Traefik CVE-2024-45410).
func TestThreatConnectionAuthorization(t *testing.T) {
	var up recorder
	u := listen(t, up.serve)
	d := start(t, proxy.Options{Upstream: u})
	for _, conn := range []string{"Authorization", "authorization, host", "close, AUTHORIZATION", "Host", "Content-Length, X"} {
		resp, _ := d.get(t, "/", "Host: localhost", "Connection: "+conn, "Authorization: Bearer mine")
		same(t, "status", resp.StatusCode, 200)
		wantFields(t, up.last(t), u.Host)
	}
}

func TestForwardCookies(t *testing.T) {
	for _, forward := range []bool{false, true} {
		up := &recorder{reply: "HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\nX-Ok: 1\r\nContent-Length: 0\r\n\r\n"}
		d := start(t, proxy.Options{Upstream: listen(t, up.serve), ForwardCookies: forward})
		resp, _ := d.get(t, "/", "Cookie: a=b; c=d")
		cookie, setCookie := up.last(t).values("Cookie"), resp.Header.Values("Set-Cookie")
		if forward {
			if !slices.Equal(cookie, []string{"a=b; c=d"}) || !slices.Equal(setCookie, []string{"a=b", "c=d"}) {
				t.Errorf("forwarding: got Cookie %q and Set-Cookie %q, want them as they came", cookie, setCookie)
			}
		} else if cookie != nil || setCookie != nil {
			t.Errorf("not forwarding: got Cookie %q and Set-Cookie %q, want none", cookie, setCookie)
		}
		same(t, "another field", resp.Header.Get("X-Ok"), "1")
	}
}

func TestHeadersDownstream(t *testing.T) {
	up := &recorder{reply: "HTTP/1.1 207 Multi\r\nX-A: 1\r\nX-A: 2\r\nServer: up\r\nWWW-Authenticate: Basic\r\n" +
		"Access-Control-Allow-Origin: *\r\nAccess-Control-Allow-Credentials: true\r\naccess-control-expose-headers: X\r\nAccess-Control-Anything: x\r\n" +
		"Alt-Svc: h3=\":443\"\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nProxy-Connection: x\r\nConnection: X-Hop\r\nX-Hop: 1\r\n" +
		"Date: Tue, 15 Nov 1994 08:12:31 GMT\r\nContent-Type: a/b\r\nContent-Length: 2\r\n\r\nok"}
	d := start(t, proxy.Options{Upstream: listen(t, up.serve)})
	resp, body := d.get(t, "/")
	same(t, "status", resp.StatusCode, 207)
	same(t, "body", body, "ok")
	want := http.Header{
		"X-A": {"1", "2"}, "Server": {"up"}, "Www-Authenticate": {"Basic"}, "Date": {"Tue, 15 Nov 1994 08:12:31 GMT"},
		"Content-Type": {"a/b"}, "Content-Length": {"2"},
	}
	for name, values := range resp.Header {
		if !slices.Equal(values, want[name]) {
			t.Errorf("got %s: %q, want %q", name, values, want[name])
		}
	}
	same(t, "number of fields", len(resp.Header), len(want))
}

// Upstream's answer to a CORS question is never the browser's to see.
func TestThreatCORSFromUpstream(t *testing.T) {
	up := &recorder{reply: "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: http://evil.example\r\nAccess-Control-Allow-Private-Network: true\r\nContent-Length: 0\r\n\r\n"}
	d := start(t, proxy.Options{Upstream: listen(t, up.serve)})
	resp, _ := d.get(t, "/")
	same(t, "status", resp.StatusCode, 200)
	for name := range resp.Header {
		if strings.HasPrefix(name, "Access-Control-") {
			t.Errorf("got %s: %q, want none", name, resp.Header.Get(name))
		}
	}
}

func TestRequestTrailersDropped(t *testing.T) {
	var up recorder
	d := start(t, proxy.Options{Upstream: listen(t, up.serve), ReplayBuffer: 1 << 20})
	for _, trailer := range []string{"X-T: 1\r\n", "Authorization: Bearer x\r\n", "X-Forwarded-For: 1\r\nX-U: 2\r\n", ""} {
		for _, announced := range []bool{false, true} {
			w := d.dial(t)
			fields := "Host: localhost\r\nTransfer-Encoding: chunked\r\n"
			if announced {
				fields += "Trailer: X-T, X-U\r\nTE: trailers\r\n"
			}
			w.send(t, "POST / HTTP/1.1\r\n"+fields+"\r\n3\r\nabc\r\n0\r\n"+trailer+"\r\n")
			resp, _ := w.answer(t, "POST")
			same(t, "status", resp.StatusCode, 200) // the recorder refuses trailers
			same(t, "body", strings.Join(up.bodies(), ","), "abc")
			h := up.last(t)
			if got := h.values("Trailer"); got != nil {
				t.Errorf("got Trailer %q, want none", got)
			}
			same(t, "Authorization", strings.Join(h.values("Authorization"), ","), bearer(1))
		}
	}
}

func TestResponseTrailers(t *testing.T) {
	for name, reply := range map[string]string{
		"announced":   "HTTP/1.1 200 OK\r\nTrailer: X-T\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n",
		"unannounced": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n",
		"empty body":  "HTTP/1.1 200 OK\r\nTrailer: X-T\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-T: 1\r\n\r\n",
	} {
		up := &recorder{reply: reply}
		d := start(t, proxy.Options{Upstream: listen(t, up.serve)})
		resp, body := d.get(t, "/", "TE: trailers")
		if name != "empty body" {
			same(t, name+": body", body, "abc")
		}
		same(t, name+": trailer", resp.Trailer.Get("X-T"), "1")
	}
}

// A client that takes trailers for fields would find another length, or another
// connection, behind the answer.
func TestThreatTrailersThatFrame(t *testing.T) {
	u := listen(t, func(_ int, c *wire) {
		c.head()
		c.send(t, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nContent-Length: 50\r\ntransfer-encoding: chunked\r\n"+
			"Connection: close\r\nKeep-Alive: x\r\nUpgrade: h2c\r\nTrailer: X\r\nHost: evil.example\r\nWWW-Authenticate: Basic\r\nX-T: 1\r\n\r\n")
	})
	resp, body := start(t, proxy.Options{Upstream: u}).get(t, "/", "TE: trailers")
	same(t, "body", body, "abc")
	same(t, "trailer", fmt.Sprint(resp.Trailer), "map[X-T:[1]]")
}

// What is dropped from an answer's header is dropped from its trailer too.
func TestThreatCORSFromUpstreamsTrailer(t *testing.T) {
	for _, announced := range []string{"", "Trailer: Access-Control-Allow-Origin, Set-Cookie, X-T\r\n", "Trailer: X-T\r\n"} {
		up := &recorder{reply: "HTTP/1.1 200 OK\r\n" + announced + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n" +
			"Access-Control-Allow-Origin: *\r\nSet-Cookie: a=b\r\nAlt-Svc: h2\r\nX-T: 1\r\n\r\n"}
		d := start(t, proxy.Options{Upstream: listen(t, up.serve)})
		resp, body := d.get(t, "/")
		same(t, "body", body, "abc")
		same(t, "trailer", fmt.Sprint(resp.Trailer), "map[X-T:[1]]")
	}
}

// 1xx answers pass ModifyResponse by (golang/go 81319): none but 101 goes on,
// and none clears what the final answer says.
func TestThreatInformationalAnswers(t *testing.T) {
	up := &recorder{reply: "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\nSet-Cookie: a=b\r\nAuthorization: Bearer t1\r\nAccess-Control-Allow-Origin: *\r\n\r\n" +
		"HTTP/1.1 102 Processing\r\nX-P: 1\r\n\r\nHTTP/1.1 100 Continue\r\nX-C: 1\r\n\r\nHTTP/1.1 199 Odd\r\n\r\n" +
		"HTTP/1.1 200 OK\r\nX-Ok: 1\r\nContent-Length: 2\r\n\r\nok"}
	d := start(t, proxy.Options{Upstream: listen(t, up.serve), ReplayBuffer: 1 << 20},
		func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("X-Outer", "1") // as CORS fields of the guard will be
				h.ServeHTTP(w, r)
			})
		})
	for _, request := range []string{
		"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc",
		"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
	} {
		w := d.dial(t)
		w.send(t, request)
		h, _ := w.head()
		same(t, "first line", h.line, "HTTP/1.1 200 OK")
		for name, want := range map[string]string{"X-Ok": "1", "X-Outer": "1", "Link": "", "Set-Cookie": "", "Authorization": "", "X-P": "", "X-C": "", "Access-Control-Allow-Origin": ""} {
			same(t, name, strings.Join(h.values(name), ","), want)
		}
	}
	for _, ex := range d.exchanges(t, 3) {
		same(t, "status", ex.Status, 200)
	}
}

// What upstream does not call HTML must not become HTML on localhost.
func TestContentTypeIsNotGuessed(t *testing.T) {
	u := listen(t, func(_ int, c *wire) {
		c.head()
		c.send(t, "HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n<html></html>")
	})
	d := start(t, proxy.Options{Upstream: u})
	resp, body := d.get(t, "/")
	same(t, "body", body, "<html></html>")
	same(t, "Content-Type", fmt.Sprint(resp.Header["Content-Type"]), "[]")
}
