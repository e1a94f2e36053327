//go:build unix

package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/logs"
	"github.com/bearerd/bearerd/cmd/internal/querysim"
	"github.com/bearerd/bearerd/cmd/internal/service"
)

// authority signs certificates.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  crypto.Signer
	pem  string
}

func newAuthority(t testing.TB, name string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{t, cert, key, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}
}

// issue makes a certificate for a name and 127.0.0.1.
func (a *authority) issue(name string) (pair tls.Certificate, certPEM, keyPEM string) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(30 * time.Minute),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	certPEM = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	keyPEM = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
	if pair, err = tls.X509KeyPair([]byte(certPEM), []byte(keyPEM)); err != nil {
		a.t.Fatal(err)
	}
	return pair, certPEM, keyPEM
}

// mutualServer is a TLS server that takes clients of an authority only, and whose
// own certificate can be changed.
type mutualServer struct {
	*httptest.Server
	own  atomic.Pointer[tls.Certificate]
	seen atomic.Value // common name of the last client
}

func newMutualServer(t *testing.T, clients, own *authority, h http.Handler) *mutualServer {
	t.Helper()
	m := &mutualServer{}
	m.seen.Store("")
	m.present(own)
	m.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.seen.Store(r.TLS.PeerCertificates[0].Subject.CommonName)
		h.ServeHTTP(w, r)
	}))
	pool := x509.NewCertPool()
	pool.AddCert(clients.cert)
	m.TLS = &tls.Config{
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool,
		SessionTicketsDisabled: true, // by one, a client would not see another certificate of the server
		GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return m.own.Load(), nil },
	}
	m.EnableHTTP2 = true
	m.Config.ErrorLog = log.New(io.Discard, "", 0)
	m.StartTLS()
	// httptest would show its own.
	m.TLS.Certificates = nil
	t.Cleanup(func() { m.CloseClientConnections(); m.Close() })
	return m
}

func (m *mutualServer) present(own *authority) {
	pair, _, _ := own.issue("server")
	m.own.Store(&pair)
}

// place replaces files as a program does that writes a new one and renames it.
func place(t *testing.T, path, text string) {
	t.Helper()
	bearerdtest.Put(t, path+".new", text)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// Certificate, key and roots are replaced while bearerd runs, as cert-manager and
// SPIFFE's helper do it, and taken up by login and upstream; the client has no other
// secret (RFC 8705).
func TestFaultCertificatesAreReplaced(t *testing.T) {
	t.Parallel()
	servers, others, clients := newAuthority(t, "servers"), newAuthority(t, "others"), newAuthority(t, "clients")
	sim, err := querysim.New(querysim.Options{Lifetime: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	login := newMutualServer(t, clients, servers, sim.LoginHandler())
	query := newMutualServer(t, clients, servers, sim.RequireToken(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto) })))
	var vendor querysim.Vendor
	for _, v := range querysim.Vendors() {
		if v.GrantType == "client_credentials" {
			vendor = v
		}
	}
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	_, cert, key := clients.issue("one")
	place(t, file("cert"), cert)
	place(t, file("key"), key)
	place(t, file("ca"), servers.pem)
	p := startRun(t, "BEARERD_PRESET="+vendor.Name, "BEARERD_TOKEN_URL="+login.URL+vendor.LoginPath, "BEARERD_UPSTREAM="+query.URL, "BEARERD_CLIENT_ID="+vendor.ClientID,
		"BEARERD_CA_FILE="+file("ca"), "BEARERD_CLIENT_CERT_FILE="+file("cert"), "BEARERD_CLIENT_KEY_FILE="+file("key"))
	expect := func(when, client string) {
		t.Helper()
		if status, _, body := bearerdtest.Fetch(t, http.DefaultClient, p.URL+"/x"); status != http.StatusOK || body != "HTTP/2.0" || query.seen.Load() != client {
			t.Errorf("%s: got %d %q with the certificate of %v, want HTTP/2.0 with that of %s", when, status, body, query.seen.Load(), client)
		}
	}
	taken := func(n int) {
		t.Helper()
		p.stderr.Until(t, `(?s)`+strings.Repeat(regexp.QuoteMeta(service.SayFileTaken)+".*", n))
	}
	expect("at the start", "one")
	if login.seen.Load() != "one" {
		t.Errorf("the login came with the certificate of %v", login.seen.Load())
	}

	_, cert, key = clients.issue("two")
	place(t, file("cert"), cert)
	p.signals <- syscall.SIGHUP
	p.stderr.Until(t, `"file":"BEARERD_CLIENT_KEY_FILE","cause":"[^}]*is not the private key[^}]*"`+service.SayFileBad)
	expect("with a certificate whose key is yet to come", "one")
	place(t, file("key"), key) // nobody says so
	taken(1)
	expect("with both", "two")
	if !strings.Contains(p.stderr.String(), `"certificate_expiry":"`) {
		t.Errorf("the log does not say when the certificate ends:\n%s", p.stderr)
	}

	query.present(others)
	query.CloseClientConnections()
	bearerdtest.Eventually(t, bearerdtest.Soon, "upstream's new certificate is not trusted", func() bool {
		return bearerdtest.ExpectStatus(http.DefaultClient, p.URL+"/x", http.StatusBadGateway) == nil
	})
	place(t, file("ca"), others.pem+servers.pem)
	p.signals <- syscall.SIGHUP
	taken(2)
	expect("with upstream's new root", "two")

	place(t, file("ca"), "nothing")
	p.signals <- syscall.SIGHUP
	p.stderr.Until(t, `"file":"BEARERD_CA_FILE","cause":"[^}]*holds no certificate[^}]*"`+service.SayFileBad)
	expect("with a bad file", "two")
	place(t, file("ca"), others.pem+servers.pem)
	_, cert, key = clients.issue("three")
	place(t, file("cert"), cert)
	place(t, file("key"), key)
	p.signals <- syscall.SIGHUP
	taken(3)
	before := sim.Stats().Logins
	bearerdtest.Eventually(t, bearerdtest.Soon, "a login with the third certificate", func() bool {
		select {
		case p.signals <- syscall.SIGHUP: // one that finds a login under way causes none
		default:
		}
		return sim.Stats().Logins > before && login.seen.Load() == "three"
	})
	if got := sim.Stats(); got.LoginsRefused > 0 || got.LoginsOK == 0 { // one may be under way
		t.Errorf("got %+v, want no login refused", got)
	}
}

// A client that has nothing but an assertion, written anew by whoever runs the
// machine (RFC 7523).
func TestClientAssertionEndToEnd(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	w := bearerdtest.NewWorld(t, querysim.Options{Lifetime: time.Hour, ClientKey: &key.PublicKey}, nil)
	env := w.Env("graphnet")
	id := ""
	for _, line := range env {
		if value, ok := strings.CutPrefix(line, "BEARERD_CLIENT_ID="); ok {
			id = value
		}
	}
	assertion := func(subject string) string {
		t.Helper()
		text, err := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.RegisteredClaims{
			Subject: subject, ExpiresAt: jwt.NewNumericDate(time.Now().Add(time.Minute)), ID: rand.Text(),
		}).SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	for name, setting := range map[string]string{"file": "BEARERD_CLIENT_ASSERTION_FILE", "params": "BEARERD_TOKEN_PARAMS_FILE"} {
		t.Run(name, func(t *testing.T) {
			prefix := ""
			if name == "params" {
				prefix = "audience=x&client_assertion="
			}
			path := bearerdtest.WriteFile(t, prefix+assertion("somebody-else"))
			before := w.Sim.Stats()
			p := startRun(t, append(bearerdtest.Without(env, "BEARERD_CLIENT_ID", "BEARERD_CLIENT_SECRET"), setting+"="+path)...)
			p.stderr.Until(t, `"error invalid_client|invalid_client`)
			good := assertion(id)
			place(t, path, prefix+good)
			p.signals <- syscall.SIGHUP
			p.stderr.Until(t, logs.SayLoginWorks)
			if got := w.Sim.Stats(); got.LoginsOK != before.LoginsOK+1 {
				t.Errorf("got %+v, want one good login more than %+v", got, before)
			}
			if strings.Contains(p.stderr.String(), good[len(good)-20:]) {
				t.Error("the log holds the assertion")
			}
		})
	}
}
