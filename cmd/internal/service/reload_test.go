package service

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/config"
	"github.com/bearerd/bearerd/cmd/internal/descriptors"
	"github.com/bearerd/bearerd/proxy"
	"github.com/bearerd/bearerd/tokens"
)

// putPair writes a new client certificate and its key.
func putPair(t *testing.T, certPath, keyPath string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	bearerdtest.Put(t, certPath, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})))
	bearerdtest.Put(t, keyPath, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
}

// Logins that were stopped are tried once more with another client certificate, and
// not with other roots alone.
func TestAnotherCertificateEarnsALogin(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	putPair(t, file("roots"), file("unused"))
	putPair(t, file("cert"), file("key"))
	cfg, err := config.Sources{Environ: []string{
		"BEARERD_UPSTREAM=https://api.example.com", "BEARERD_TOKEN_URL=https://login.example.com", "BEARERD_GRANT_TYPE=client_credentials", "BEARERD_CLIENT_ID=x",
		"BEARERD_CA_FILE=" + file("roots"), "BEARERD_CLIENT_CERT_FILE=" + file("cert"), "BEARERD_CLIENT_KEY_FILE=" + file("key"),
	}}.Load(nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		var logins atomic.Int32
		m := tokens.New(tokens.Options{Login: tokens.Login{URL: "https://login.example.com", Grant: "client_credentials", ClientID: "x",
			Transport: refusing(func() { logins.Add(1) })}})
		s := &Service{cfg: cfg, Manager: m, proxy: proxy.New(proxy.Options{Upstream: cfg.Upstream}), open: descriptors.New(0, 0, zerolog.Nop())}
		files := s.filesToWatch()[0]
		expect := func(after string, want int32) {
			t.Helper()
			time.Sleep(24 * time.Hour)
			synctest.Wait()
			if got := logins.Load(); got != want {
				t.Errorf("%s: got %d logins, want %d", after, got, want)
			}
		}
		take := func() {
			t.Helper()
			files.look()
			if wrong := files.take(); wrong != nil {
				t.Fatal(wrong)
			}
		}
		m.Start()
		defer m.Close()
		expect("refused", tokens.QuickRejections)
		putPair(t, file("roots"), file("unused"))
		take()
		expect("other roots", tokens.QuickRejections)
		putPair(t, file("cert"), file("key"))
		take()
		expect("another certificate", tokens.QuickRejections+1)
	})
}

// refusing is a login server that refuses everybody. It is called at each login.
type refusing func()

func (called refusing) RoundTrip(r *http.Request) (*http.Response, error) {
	called()
	w := httptest.NewRecorder()
	w.WriteHeader(http.StatusUnauthorized)
	return w.Result(), nil
}
