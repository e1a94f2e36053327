package config

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"

	"github.com/bearerd/bearerd/cmd/internal/display"
)

// TLSFiles are the paths of CA_FILE, CLIENT_CERT_FILE and CLIENT_KEY_FILE; empty
// where they are not set.
type TLSFiles struct{ Ca, Cert, Key string }

// The variables of these files, for messages.
const (
	CAVar   = "BEARERD_CA_FILE"
	CertVar = "BEARERD_CLIENT_CERT_FILE"
	KeyVar  = "BEARERD_CLIENT_KEY_FILE"
)

// TLSFiles are those that c names.
func (c Config) TLSFiles() TLSFiles { return TLSFiles{c.CAFile, c.ClientCertFile, c.ClientKeyFile} }

// TLSTexts are what these files held at one moment.
type TLSTexts struct{ ca, cert, key FileText }

// Read reads them now.
func (f TLSFiles) Read() TLSTexts {
	return TLSTexts{readFileText(f.Ca), readFileText(f.Cert), readFileText(f.Key)}
}

// Fingerprint tells t apart from other contents.
func (t TLSTexts) Fingerprint() Fingerprint { return FingerprintOf(t.ca, t.cert, t.key) }

// Trust is what a TLS connection is made with.
type Trust struct {
	Roots        *x509.CertPool    // nil: the system's
	Certificates []tls.Certificate // to show; none: no client certificate
}

// Trust makes a trust of t, which is of f, or says what is wrong with it.
func (f TLSFiles) Trust(t TLSTexts) (Trust, []Problem) {
	var (
		made     Trust
		problems []Problem
	)
	refuse := func(variable, format string, args ...any) {
		problems = append(problems, Problem{Variable: variable, Text: display.Escape(fmt.Sprintf(format, args...))})
	}
	if f.Ca != "" {
		roots, err := x509.SystemCertPool()
		if err != nil {
			roots = x509.NewCertPool() // then CA_FILE's are all
		}
		certs, err := parseCertificates(f.Ca, t.ca)
		if err != nil {
			refuse(CAVar, "%v", err)
		}
		for _, cert := range certs {
			roots.AddCert(cert)
		}
		made.Roots = roots
	}

	switch {
	case f.Cert == "" && f.Key == "":
		return made, problems
	case f.Key == "":
		refuse(KeyVar, "missing; %s needs it", CertVar)
		return made, problems
	case f.Cert == "":
		refuse(CertVar, "missing; %s needs it", KeyVar)
		return made, problems
	}
	_, certErr := parseCertificates(f.Cert, t.cert)
	if certErr != nil {
		refuse(CertVar, "%v", certErr)
	}
	keyErr := checkKey(f.Key, t.key)
	if keyErr != nil {
		refuse(KeyVar, "%v", keyErr)
	}
	if certErr != nil || keyErr != nil {
		return made, problems
	}
	pair, err := tls.X509KeyPair([]byte(t.cert.Text), []byte(t.key.Text))
	if err != nil {
		// Not err's text: an error of asn1 can quote bytes of the key.
		refuse(KeyVar, "%s is not the private key of the first certificate in %s; compare `openssl pkey -pubout -in KEY` with `openssl x509 -noout -pubkey -in CERT`",
			display.Quote(f.Key), CertVar)
		return made, problems
	}
	made.Certificates = []tls.Certificate{pair}
	return made, problems
}

// parseCertificates returns the certificates of a PEM file, one at least.
func parseCertificates(path string, file FileText) ([]*x509.Certificate, error) {
	if file.Err != nil {
		return nil, fmt.Errorf("%s: %w; write the path of a PEM file", display.Quote(path), file.Err)
	}
	var certs []*x509.Certificate
	for block, rest := pem.Decode([]byte(file.Text)); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: certificate %d cannot be parsed: %w; replace the file", display.Quote(path), len(certs)+1, err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, fmt.Errorf("%s holds no certificate in PEM form; it must have a BEGIN CERTIFICATE line", display.Quote(path))
	}
	return certs, nil
}

// checkKey returns what is wrong with the PEM file of a private key, before it is
// parsed.
func checkKey(path string, file FileText) error {
	if file.Err != nil {
		return fmt.Errorf("%s: %w; write the path of a PEM file", display.Quote(path), file.Err)
	}
	for block, rest := pem.Decode([]byte(file.Text)); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "" {
			return fmt.Errorf("%s is encrypted; decrypt it with openssl pkey", display.Quote(path))
		}
		if strings.HasSuffix(block.Type, "PRIVATE KEY") {
			return nil
		}
	}
	return fmt.Errorf("%s holds no private key in PEM form; it must have a BEGIN PRIVATE KEY line", display.Quote(path))
}

// loadCertificates reads CA_FILE, CLIENT_CERT_FILE and CLIENT_KEY_FILE into c.
func (l *loader) loadCertificates(c *Config) {
	ensureRoots()
	texts := c.TLSFiles().Read()
	made, problems := c.TLSFiles().Trust(texts)
	l.problems = append(l.problems, problems...)
	c.RootCAs, c.Certificates, c.TLSFingerprint = made.Roots, made.Certificates, texts.Fingerprint()
}
