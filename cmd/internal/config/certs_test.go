package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/x509roots/fallback/bundle"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/tokens"
)

// writeKeyPair writes a new self-signed certificate and its key and returns
// the paths.
func writeKeyPair(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	certDER, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return writePEM(t, "CERTIFICATE", certDER), writePEM(t, "PRIVATE KEY", keyDER)
}

func writePEM(t *testing.T, kind string, der []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCAFileIsAddedToTheSystems(t *testing.T) {
	path, _ := writeKeyPair(t)
	c := mustLoad(t, bearerdtest.With("BEARERD_CA_FILE="+path))
	certs, err := parseCertificates(path, readFileText(path))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := certs[0].Verify(x509.VerifyOptions{Roots: c.RootCAs}); err != nil {
		t.Errorf("not trusted: %v", err)
	}
	want, err := x509.SystemCertPool()
	if err != nil {
		t.Skip("no system pool here")
	}
	want.AddCert(certs[0])
	if !c.RootCAs.Equal(want) {
		t.Error("got other roots than the system's and the file's")
	}
}

func TestCertificateProblems(t *testing.T) {
	cert, key := writeKeyPair(t)
	_, otherKey := writeKeyPair(t)
	keyText, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(keyText)
	// Its first bytes are what an error of asn1 would quote.
	brokenKey := writePEM(t, "PRIVATE KEY", block.Bytes[7:])
	encrypted := writePEM(t, "ENCRYPTED PRIVATE KEY", block.Bytes)
	brokenCert := writePEM(t, "CERTIFICATE", []byte("x"))
	empty := bearerdtest.WriteFile(t, "")
	large := filepath.Join(t.TempDir(), "large")
	if err := os.WriteFile(large, make([]byte, tokens.MaxTextFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()

	for _, tt := range []struct {
		name    string
		environ []string
		want    string // the line's beginning and, after …, its end
	}{
		{"no CA", []string{"BEARERD_CA_FILE=" + empty}, "BEARERD_CA_FILE: … holds no certificate in PEM form; it must have a BEGIN CERTIFICATE line"},
		{"broken CA", []string{"BEARERD_CA_FILE=" + brokenCert}, "BEARERD_CA_FILE: …certificate 1 cannot be parsed: x509: malformed certificate; replace the file"},
		{"key as CA", []string{"BEARERD_CA_FILE=" + key}, "BEARERD_CA_FILE: … holds no certificate in PEM form; it must have a BEGIN CERTIFICATE line"},
		{"missing CA", []string{"BEARERD_CA_FILE=" + empty + "x"}, "BEARERD_CA_FILE: …; write the path of a PEM file"},
		{"directory", []string{"BEARERD_CA_FILE=" + dir}, "BEARERD_CA_FILE: …: it is a directory; write the path of a PEM file"},
		{"large", []string{"BEARERD_CA_FILE=" + large}, "BEARERD_CA_FILE: …: it is larger than 1 MiB: is it the right file?; write the path of a PEM file"},
		{"no key", []string{CertVar + "=" + cert}, KeyVar + ": missing; BEARERD_CLIENT_CERT_FILE needs it"},
		{"no certificate", []string{KeyVar + "=" + key}, CertVar + ": missing; BEARERD_CLIENT_KEY_FILE needs it"},
		{"swapped", []string{CertVar + "=" + cert, KeyVar + "=" + cert}, KeyVar + ": … holds no private key in PEM form; it must have a BEGIN PRIVATE KEY line"},
		{"encrypted", []string{CertVar + "=" + cert, KeyVar + "=" + encrypted}, KeyVar + ": … is encrypted; decrypt it with openssl pkey"},
		{"other key", []string{CertVar + "=" + cert, KeyVar + "=" + otherKey}, KeyVar + ": … is not the private key of the first certificate in BEARERD_CLIENT_CERT_FILE; …"},
		{"broken key", []string{CertVar + "=" + cert, KeyVar + "=" + brokenKey}, KeyVar + ": … is not the private key of the first certificate in BEARERD_CLIENT_CERT_FILE; …"},
		{"broken certificate", []string{CertVar + "=" + brokenCert, KeyVar + "=" + key}, CertVar + ": …; replace the file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := problems(t, bearerdtest.With(tt.environ...))
			if len(got) != 1 {
				t.Fatalf("got %q, want one line", got)
			}
			rest, ok := got[0], true
			for i, part := range strings.Split(tt.want, "…") {
				before, after, found := strings.Cut(rest, part)
				ok = ok && found && (i > 0 || before == "")
				rest = after
			}
			if !ok {
				t.Errorf("got %s, want %s", got[0], tt.want)
			}
			encoded := base64.StdEncoding.EncodeToString(block.Bytes)
			if strings.Contains(got[0], encoded[:20]) || strings.Contains(got[0], "asn1") {
				t.Errorf("bytes of the key, or a text that may hold some: %s", got[0])
			}
		})
	}
}

// Windows editors put one before the text.
func TestCAFileWithABOM(t *testing.T) {
	one, _ := writeKeyPair(t)
	two, _ := writeKeyPair(t)
	path := bearerdtest.WriteFile(t, "\ufeff"+bearerdtest.TextOf(t, one)+bearerdtest.TextOf(t, two))
	certs, err := parseCertificates(path, readFileText(path))
	if err != nil || len(certs) != 2 {
		t.Errorf("got %d certificates, %v; want 2", len(certs), err)
	}
	if _, err := parseCertificates("x", readFileText(bearerdtest.WriteFile(t, "\xff\xfe-\x00"))); err == nil || !strings.Contains(err.Error(), "UTF-16") {
		t.Errorf("UTF-16: got %v, want that it says so", err)
	}
}

// Go reads the system's roots once in a process: each case is one of its own.
func TestRootsOfTheSystemOrBuiltIn(t *testing.T) {
	if runtime.GOOS == "windows" || runtime.GOOS == "darwin" {
		t.Skip("the system itself checks certificates")
	}
	const asked = "BEARERD_TEST_BUILT_IN_ROOTS"
	if os.Getenv(asked) == "" {
		none := filepath.Join(t.TempDir(), "none") // as in an image from scratch
		system, _ := writeKeyPair(t)
		for builtIn, file := range map[string]string{"true": none, "false": system} {
			cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
			cmd.Env = append(os.Environ(), asked+"="+builtIn, "SSL_CERT_FILE="+file, "SSL_CERT_DIR="+none)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("built in: %s: %v\n%s", builtIn, err, out)
			}
		}
		return
	}
	ensureRoots()
	roots, err := x509.SystemCertPool()
	if err != nil {
		t.Fatal(err)
	}
	builtIn := x509.NewCertPool()
	for root := range bundle.Roots() {
		cert, err := x509.ParseCertificate(root.Certificate)
		if err != nil {
			t.Fatal(err)
		}
		if root.Constraint == nil {
			builtIn.AddCert(cert)
		} else {
			builtIn.AddCertWithConstraint(cert, root.Constraint)
		}
	}
	if got, want := strconv.FormatBool(roots.Equal(builtIn)), os.Getenv(asked); got != want {
		t.Errorf("built-in roots: %s, want %s", got, want)
	}
	caFile, _ := writeKeyPair(t)
	certs, err := parseCertificates(caFile, readFileText(caFile))
	if err != nil {
		t.Fatal(err)
	}
	roots.AddCert(certs[0])
	if c := mustLoad(t, bearerdtest.With("BEARERD_CA_FILE="+caFile)); !c.RootCAs.Equal(roots) {
		t.Error("CA_FILE does not add to them")
	}
}

// A login as a client needs no secret where it has a certificate (RFC 8705, which
// wants client_id) or an assertion (RFC 7523, where that is optional).
func TestWithoutClientSecret(t *testing.T) {
	cert, key := writeKeyPair(t)
	own := []string{CertVar + "=" + cert, KeyVar + "=" + key}
	token := bearerdtest.WriteFile(t, "ey.a.b")
	params := bearerdtest.WriteFile(t, "client_assertion=ey.a.b")
	client := bearerdtest.Without(bearerdtest.With("BEARERD_GRANT_TYPE=client_credentials"), "BEARERD_USERNAME", "BEARERD_PASSWORD")
	client = slices.Clip(client)
	nameless := bearerdtest.Without(client, "BEARERD_CLIENT_ID")
	nameless = slices.Clip(nameless)
	const noSecret = "BEARERD_CLIENT_SECRET: missing; set it, or set BEARERD_CLIENT_SECRET_FILE to the file that holds it"
	const noID = "BEARERD_CLIENT_ID: missing; write the client_id that the vendor allotted"
	for name, test := range map[string]struct {
		environ []string
		want    []string
	}{
		"neither":                              {client, []string{noSecret}},
		"certificate":                          {append(slices.Clip(own), client...), nil},
		"certificate, no id":                   {append(slices.Clip(own), nameless...), []string{noID}},
		"certificate, other parameters, no id": {append(append(slices.Clip(own), "BEARERD_TOKEN_PARAMS=a=b"), nameless...), []string{noID}},
		"assertion":                            {append(client, "BEARERD_CLIENT_ASSERTION_FILE="+token), nil},
		"assertion, no id":                     {append(nameless, "BEARERD_CLIENT_ASSERTION_FILE="+token), nil},
		"assertion and certificate, no id":     {append(append(slices.Clip(own), "BEARERD_CLIENT_ASSERTION_FILE="+token), nameless...), nil},
		"parameters":                           {append(nameless, "BEARERD_TOKEN_PARAMS=a=b&client_assertion=ey.a.b"), nil},
		"a file of parameters":                 {append(nameless, "BEARERD_TOKEN_PARAMS_FILE="+params), nil},
		"other parameters":                     {append(client, "BEARERD_TOKEN_PARAMS=a=b"), []string{noSecret}},
		"a preset that allots a client":        {append(bearerdtest.Without(client, "BEARERD_GRANT_TYPE"), "BEARERD_PRESET=graphnet", "BEARERD_CLIENT_ASSERTION_FILE="+token), nil},
	} {
		_, err := loadConfig(given{fromEnvironment, test.environ})
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != strings.Join(test.want, "\n") {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}
