package proxy_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/bearerd/bearerd/proxy"
)

// Another client certificate, and other roots, are for new requests. A stream that
// is under way goes on, over HTTP/2 too, where it would hold the old connection for
// all that come after.
func TestSetTransport(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("h2 %v", h2), func(t *testing.T) {
			more := make(chan string)
			s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				who := "nobody"
				if len(r.TLS.PeerCertificates) > 0 {
					who = r.TLS.PeerCertificates[0].Issuer.Organization[0] + fmt.Sprint(len(r.TLS.PeerCertificates[0].DNSNames))
				}
				fmt.Fprintf(w, "%s %s %s\n", r.Proto, who, r.RemoteAddr)
				if r.URL.Path != "/stream" {
					return
				}
				_ = http.NewResponseController(w).Flush()
				for text := range more {
					fmt.Fprintln(w, text)
					_ = http.NewResponseController(w).Flush()
				}
			}))
			s.EnableHTTP2 = h2
			s.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
			s.Config.ErrorLog = log.New(io.Discard, "", 0)
			s.StartTLS()
			t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
			roots := s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
			make := func(roots *x509.CertPool, certificates ...tls.Certificate) *http.Transport {
				tr := proxy.NewTransport(proxy.TransportOptions{RootCAs: roots, Certificates: certificates})
				t.Cleanup(tr.CloseIdleConnections)
				return tr
			}
			d := start(t, proxy.Options{Upstream: parse(t, s.URL), Transport: make(roots)})
			get := func(path string) (*http.Response, *bufio.Reader) {
				t.Helper()
				resp, err := d.Client().Get(d.URL + path)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = resp.Body.Close() })
				return resp, bufio.NewReader(resp.Body)
			}
			line := func(r *bufio.Reader) (proto, who, conn string) {
				t.Helper()
				text, err := r.ReadString('\n')
				if err != nil {
					t.Fatal(err)
				}
				if _, err := fmt.Sscan(text, &proto, &who, &conn); err != nil {
					t.Fatalf("%q: %v", text, err)
				}
				return proto, who, conn
			}
			_, stream := get("/stream")
			proto, who, old := line(stream)
			if who != "nobody" || proto == "HTTP/2.0" != h2 {
				t.Fatalf("got %s from %s", proto, who)
			}
			_, idle := get("/")
			_, _, oldIdle := line(idle)

			certificate := s.TLS.Certificates[0] // any will do
			d.proxy.SetTransport(make(roots, certificate))
			_, r := get("/")
			proto, who, conn := line(r)
			if who == "nobody" || conn == old || conn == oldIdle || proto == "HTTP/2.0" != h2 {
				t.Errorf("after the certificate: got %s by %s, want a new connection with it", proto, who)
			}
			more <- "goes on"
			if text, err := stream.ReadString('\n'); err != nil || text != "goes on\n" {
				t.Errorf("the stream: got %q, %v", text, err)
			}

			// A connection and a TLS session are there that the old roots have let pass.
			d.proxy.SetTransport(make(x509.NewCertPool(), certificate))
			resp, _ := get("/")
			if resp.StatusCode != http.StatusBadGateway {
				t.Errorf("without its root: got %d, want 502", resp.StatusCode)
			}
			again := x509.NewCertPool()
			again.AppendCertsFromPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
			d.proxy.SetTransport(make(again))
			_, r = get("/")
			if proto, who, _ := line(r); who != "nobody" || proto == "HTTP/2.0" != h2 {
				t.Errorf("with its root: got %s by %s", proto, who)
			}
			more <- "still"
			close(more)
			if text, err := stream.ReadString('\n'); err != nil || text != "still\n" {
				t.Errorf("the stream: got %q, %v", text, err)
			}
			// Its connection is kept for nobody.
			if _, err := io.Copy(io.Discard, stream); err != nil {
				t.Error(err)
			}
		})
	}
}
