package proxy_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/bearerd/bearerd/proxy"
)

// The header that callers must send is a secret of theirs and bearerd's, however
// it is spelled.
func TestThreatRequiredHeaderInAnotherSpelling(t *testing.T) {
	var up recorder
	u := listen(t, up.serve)
	d := start(t, proxy.Options{Upstream: u, RequireHeader: func() proxy.HeaderRule { return proxy.HeaderRule{Name: "X-Bearerd-Key", Value: "k3y"} }})
	resp, _ := d.get(t, "/", "Host: localhost", "X-Bearerd-Key: k3y", "X_Bearerd_Key: k3y", "x-bearerd_key: k3y", "X.Bearerd.Key: k3y", "X-Bearerd-Key-Id: 7")
	same(t, "status", resp.StatusCode, 200)
	wantFields(t, up.last(t), u.Host, "X-Bearerd-Key-Id: 7")
	resp, _ = d.get(t, "/", "X_Bearerd_Key: k3y")
	wantError(t, resp, proxy.HeaderRequired)
}

// With FORWARDED, upstream is told what the caller wrote, and by bearerd alone.
func TestForwarded(t *testing.T) {
	var up recorder
	u := listen(t, up.serve)
	spoofed := []string{
		"Forwarded: host=evil", "X-Forwarded-Host: evil", "X-Forwarded-Proto: https", "X-Forwarded-Prefix: /evil", "X-Forwarded-For: 1.2.3.4",
		"X_Forwarded_Host: evil", "X-Forwarded_Prefix: /evil", "X_FORWARDED_PROTO: https",
	}
	for _, c := range []struct {
		prefix, host string
		want         []string
	}{
		{"", "localhost:8080", []string{`Forwarded: host="localhost:8080";proto=http`, "X-Forwarded-Host: localhost:8080", "X-Forwarded-Proto: http"}},
		{"/", "LOCALHOST", []string{`Forwarded: host="LOCALHOST";proto=http`, "X-Forwarded-Host: LOCALHOST", "X-Forwarded-Proto: http"}},
		{"/fhir", "[::1]:8080", []string{`Forwarded: host="[::1]:8080";proto=http`, "X-Forwarded-Host: [::1]:8080", "X-Forwarded-Proto: http", "X-Forwarded-Prefix: /"}},
	} {
		d := start(t, proxy.Options{Upstream: parse(t, u.String()+c.prefix), Forwarded: true})
		resp, _ := d.get(t, "/", append([]string{"Host: " + c.host}, spoofed...)...)
		same(t, "status", resp.StatusCode, 200)
		wantFields(t, up.last(t), u.Host, c.want...)
	}
	d := start(t, proxy.Options{Upstream: parse(t, u.String()+"/fhir")})
	d.get(t, "/", append([]string{"Host: localhost"}, spoofed...)...)
	wantFields(t, up.last(t), u.Host)
}

// What rules over a whole origin, or reports of it, is not upstream's to say:
// the origin is localhost.
func TestThreatUpstreamRulesTheOrigin(t *testing.T) {
	const hostile = "Clear-Site-Data: \"*\"\r\nNEL: {\"report_to\":\"x\",\"max_age\":9}\r\nReport-To: {\"group\":\"x\"}\r\nReporting-Endpoints: x=\"https://evil.example\"\r\n" +
		"Alt-Svc: h3=\":443\"\r\nProxy-Status: bearerd; details=\"login_rejected\"\r\n"
	for name, reply := range map[string]string{
		"header":              "HTTP/1.1 200 OK\r\n" + hostile + "X-T: 1\r\nContent-Length: 0\r\n\r\n",
		"trailer":             "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n" + hostile + "X-T: 1\r\n\r\n",
		"trailer, announced":  "HTTP/1.1 200 OK\r\nTrailer: Clear-Site-Data, NEL, Report-To, Reporting-Endpoints, Proxy-Status, X-T\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n" + hostile + "X-T: 1\r\n\r\n",
		"trailer, some of it": "HTTP/1.1 200 OK\r\nTrailer: NEL\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n" + hostile + "X-T: 1\r\n\r\n",
	} {
		up := &recorder{reply: reply}
		resp, _ := start(t, proxy.Options{Upstream: listen(t, up.serve)}).get(t, "/")
		for _, h := range []http.Header{resp.Header, resp.Trailer} {
			for _, field := range []string{"Clear-Site-Data", "Nel", "Report-To", "Reporting-Endpoints", "Alt-Svc", "Proxy-Status"} {
				if got := h.Values(field); got != nil {
					t.Errorf("%s: got %s: %q, want none", name, field, got)
				}
			}
		}
		same(t, name+": another field", resp.Header.Get("X-T")+resp.Trailer.Get("X-T"), "1")
	}
}

// Of Proxy-Status, what others say of themselves goes on, and nothing that
// speaks for bearerd.
func TestThreatProxyStatusInBearerdsName(t *testing.T) {
	for sent, want := range map[string]string{
		`bearerd`: ``, `bearerd; error=x`: ``, `BEARERD;a`: ``, `"bearerd"; details="x"`: ``, ` bearerd-2`: ``,
		`cdn; error=dns_timeout`:                             `cdn; error=dns_timeout`,
		`"My, bearerd proxy"; details="a\", bearerd; b"`:     `"My, bearerd proxy"; details="a\", bearerd; b"`,
		`cdn; received-status=200, bearerd; details="x"`:     `cdn; received-status=200`,
		`bearerd; details="a, b", cdn;a, "bearerd", last; b`: `cdn;a, last; b`,
		`cdn; details="left open, bearerd; x`:                ``,
		``:                                                   ``, `,`: ``,
	} {
		up := &recorder{reply: "HTTP/1.1 200 OK\r\nProxy-Status: " + sent + "\r\nContent-Length: 0\r\n\r\n"}
		resp, _ := start(t, proxy.Options{Upstream: listen(t, up.serve)}).get(t, "/")
		if got := strings.Join(resp.Header.Values("Proxy-Status"), "|"); got != want {
			t.Errorf("got %q for %q, want %q", got, sent, want)
		}
	}
	// bearerd's own stands beside what another says.
	u := listen(t, func(_ int, c *wire) {
		h, _ := c.head()
		if h.values("Expect") != nil {
			c.send(t, "HTTP/1.1 100 Continue\r\n\r\n")
		}
		_, _ = c.body(h)
		c.send(t, "HTTP/1.1 401 Unauthorized\r\nProxy-Status: bearerd; details=\"x\"\r\nProxy-Status: cdn; a\r\nContent-Length: 0\r\n\r\n")
	})
	w := start(t, proxy.Options{Upstream: u}).dial(t)
	w.send(t, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc")
	resp, _ := w.answer(t, "POST")
	same(t, "status", resp.StatusCode, 401)
	same(t, "Proxy-Status", fmt.Sprint(resp.Header.Values("Proxy-Status")), `[cdn; a bearerd; details="reauthenticated_not_replayed"]`)
}

// What an upstream sends of header is bounded, by whichever transport it comes.
func TestFaultUpstreamHeaderTooLarge(t *testing.T) {
	const limit = 1 << 20
	serve := func(w http.ResponseWriter, r *http.Request) {
		size := limit + 100<<10
		if r.URL.Path == "/fits" {
			size = limit - 100<<10
		}
		for i := range 16 {
			w.Header().Set(fmt.Sprint("X-", i), strings.Repeat("x", size/16))
		}
	}
	for _, h2 := range []bool{false, true} {
		u, tr := upstreamTLS(t, h2, serve)
		d := start(t, proxy.Options{Upstream: u, Transport: tr, AllowUpgrade: true})
		for _, path := range []string{"/fits", "/large"} {
			for transport, request := range map[string]string{
				"pooled":    "GET " + path + " HTTP/1.1\r\nHost: localhost\r\n\r\n",
				"oneShot":   "POST " + path + " HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc",
				"onlyHTTP1": "GET " + path + " HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
			} {
				w := d.dial(t)
				w.send(t, request)
				resp, _ := w.answer(t, "GET")
				if want := map[string]int{"/fits": 200, "/large": 502}[path]; resp.StatusCode != want {
					t.Errorf("HTTP/2 %v, %s, %s: got %d, want %d", h2, transport, path, resp.StatusCode, want)
				}
				if resp.StatusCode == 502 {
					wantError(t, resp, proxy.UpstreamUnreachable)
				}
				w.Close()
			}
		}
	}
}

// net/http's frame reader bounds what is in CONTINUATION frames, but not how
// many come with nothing in them. It is the silence of the connection, which
// PINGs find, that ends them.
func TestFaultEndlessContinuation(t *testing.T) {
	ended := make(chan int, 4)
	u, tr := rawHTTP2(t, func(c net.Conn) {
		// HEADERS of stream 1, :status 200, without END_HEADERS.
		frames := []byte("\x00\x00\x01\x01\x00\x00\x00\x00\x01\x88")
		empty := []byte(strings.Repeat("\x00\x00\x00\x09\x00\x00\x00\x00\x01", 1000))
		n := 0
		for ; ; n++ {
			if _, err := c.Write(frames); err != nil {
				break
			}
			frames = empty
		}
		ended <- n
	})
	tr.HTTP2.SendPingTimeout, tr.HTTP2.PingTimeout = tr.HTTP2.SendPingTimeout/100, tr.HTTP2.PingTimeout/100
	d := start(t, proxy.Options{Upstream: u, Transport: tr})
	w := d.dial(t)
	w.send(t, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
	resp, _ := w.answer(t, "POST")
	wantError(t, resp, proxy.UpstreamUnreachable)
	if n := <-ended; n < 2 {
		t.Errorf("got %d thousand frames, want more: net/http may bound them now", n)
	}
}

// rawHTTP2 accepts connections of HTTP/2, and gives each to serve when its first
// request has begun.
func rawHTTP2(t *testing.T, serve func(c net.Conn)) (*url.URL, *http.Transport) {
	t.Helper()
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS()
	s.Close()
	u := listen(t, func(_ int, plain *wire) {
		c := tls.Server(plain, &tls.Config{Certificates: s.TLS.Certificates, NextProtos: []string{"h2"}})
		if _, err := io.ReadFull(c, make([]byte, len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))); err != nil {
			t.Errorf("reading the preface: %v", err)
			return
		}
		if _, err := c.Write([]byte("\x00\x00\x00\x04\x00\x00\x00\x00\x00")); err != nil { // SETTINGS
			t.Errorf("writing: %v", err)
			return
		}
		for frame := make([]byte, 9); frame[3] != 1; { // to HEADERS
			if _, err := io.ReadFull(c, frame); err != nil {
				t.Errorf("reading a frame: %v", err)
				return
			}
			length := int64(frame[0])<<16 | int64(frame[1])<<8 | int64(frame[2])
			if _, err := io.CopyN(io.Discard, c, length); err != nil {
				t.Errorf("reading a frame: %v", err)
				return
			}
		}
		serve(c)
	})
	u.Scheme = "https"
	tr := proxy.NewTransport(proxy.TransportOptions{RootCAs: s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs})
	t.Cleanup(tr.CloseIdleConnections)
	return u, tr
}
