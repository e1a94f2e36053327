package interop_test

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
)

// sServer is OpenSSL's s_server: it asks for a certificate when it is told to, in
// the middle of a connection, as IIS does once it has seen the path. Go's own
// server cannot.
type sServer struct {
	address string
	stdin   io.Writer

	mu     sync.Mutex // guards output
	output bytes.Buffer
}

func (s *sServer) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.output.String()
}

func (s *sServer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.output.Write(p)
}

// startSServer serves the connections that come, one at a time.
// It takes the client certificate that clients holds.
func startSServer(t *testing.T, cert, key, clients string) *sServer {
	t.Helper()
	file, err := exec.LookPath("openssl")
	if err != nil {
		bearerdtest.Lacking(t, "openssl")
	}
	s := &sServer{}
	cmd := exec.Command(file, "s_server", "-accept", "127.0.0.1:0", "-tls1_2", "-crlf", "-msg", "-cert", cert, "-key", key, "-CAfile", clients)
	cmd.Stdout, cmd.Stderr = s, s
	if s.stdin, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("what s_server wrote:\n%s", s.text())
		}
	})
	accept := regexp.MustCompile(`ACCEPT (127\.0\.0\.1:\d+)`)
	bearerdtest.Eventually(t, bearerdtest.Soon, "s_server listens", func() bool { return accept.MatchString(s.text()) })
	s.address = accept.FindStringSubmatch(s.text())[1]
	return s
}

var certificateVerify = regexp.MustCompile(`<<< TLS 1\.2, Handshake \[length \w+\], CertificateVerify`)

// askAndAnswer waits for a request that holds text, asks for a certificate, and
// answers when there is one.
func (s *sServer) askAndAnswer(t *testing.T, text, answer string) {
	t.Helper()
	bearerdtest.Eventually(t, bearerdtest.Soon, "a request with "+text, func() bool { return strings.Contains(s.text(), text) })
	fmt.Fprint(s.stdin, "R\n")
	// Which only who has shown a certificate can send.
	bearerdtest.Eventually(t, bearerdtest.Soon, "a certificate", func() bool { return certificateVerify.MatchString(s.text()) })
	fmt.Fprint(s.stdin, answer)
}

// TestRenegotiationAsClient has login server and upstream ask for the client
// certificate when they have seen the request.
func TestRenegotiationAsClient(t *testing.T) {
	cert, key := writeSelfSigned(t, "bearerd-the-client")
	serverCert, serverKey := writeSelfSigned(t, "server")
	login, query := startSServer(t, serverCert, serverKey, cert), startSServer(t, serverCert, serverKey, cert)
	p := start(t, "BEARERD_GRANT_TYPE=client_credentials", "BEARERD_CLIENT_ID=tool",
		"BEARERD_TOKEN_URL=https://"+login.address+"/token", "BEARERD_UPSTREAM=https://"+query.address,
		"BEARERD_CA_FILE="+serverCert, "BEARERD_CLIENT_CERT_FILE="+cert, "BEARERD_CLIENT_KEY_FILE="+key)
	const token = `{"access_token":"t","expires_in":3600}`
	login.askAndAnswer(t, "grant_type=client_credentials", fmt.Sprintf("HTTP/1.1 200 OK\nContent-Length: %d\nConnection: close\n\n%s\n", len(token)+2, token))
	bearerdtest.Eventually(t, bearerdtest.Soon, "a login", func() bool { return strings.Contains(p.Text(), "logged in") })

	got := make(chan string, 1)
	go func() {
		resp, err := http.Get(p.url + "/x")
		if err != nil {
			got <- err.Error()
			return
		}
		defer resp.Body.Close()
		line, _ := bufio.NewReader(resp.Body).ReadString('\n')
		got <- resp.Status + " " + strings.TrimSpace(line)
	}()
	query.askAndAnswer(t, "GET /x HTTP/1.1", "HTTP/1.1 200 OK\nContent-Length: 7\nConnection: close\n\nhello\n")
	select {
	case answer := <-got:
		if answer != "200 OK hello" {
			t.Errorf("got %q", answer)
		}
	case <-time.After(20 * time.Second):
		t.Error("no answer")
	}
}

// writeSelfSigned writes a certificate for 127.0.0.1 and its key.
func writeSelfSigned(t *testing.T, name string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	certDER, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: certDER}, key: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}
