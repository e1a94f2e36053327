package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"strings"

	_ "golang.org/x/crypto/x509roots/fallback" // Mozilla's roots, for an image that has none
)

// loadCertificates reads CA_FILE, CLIENT_CERT_FILE and CLIENT_KEY_FILE into c.
func (l *loader) loadCertificates(c *Config) {
	if c.CAFile != "" {
		roots, err := x509.SystemCertPool()
		if err != nil {
			roots = x509.NewCertPool() // then CA_FILE's are all
		}
		_, certs, err := readCertificates(c.CAFile)
		if err != nil {
			l.refuse("BEARERD_CA_FILE", "%v", err)
		}
		for _, cert := range certs {
			roots.AddCert(cert)
		}
		c.RootCAs = roots
	}

	const certVar, keyVar = "BEARERD_CLIENT_CERT_FILE", "BEARERD_CLIENT_KEY_FILE"
	switch {
	case c.ClientCertFile == "" && c.ClientKeyFile == "":
		return
	case c.ClientKeyFile == "":
		l.refuse(keyVar, "missing; %s needs it", certVar)
		return
	case c.ClientCertFile == "":
		l.refuse(certVar, "missing; %s needs it", keyVar)
		return
	}
	certPEM, _, certErr := readCertificates(c.ClientCertFile)
	if certErr != nil {
		l.refuse(certVar, "%v", certErr)
	}
	keyPEM, keyErr := readKey(c.ClientKeyFile)
	if keyErr != nil {
		l.refuse(keyVar, "%v", keyErr)
	}
	if certErr != nil || keyErr != nil {
		return
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		// Not err's text: an error of asn1 can quote bytes of the key.
		l.refuse(keyVar, "%s is not the private key of the first certificate in %s; compare `openssl pkey -pubout -in KEY` with `openssl x509 -noout -pubkey -in CERT`",
			show(c.ClientKeyFile), certVar)
		return
	}
	c.Certificates = []tls.Certificate{pair}
}

// readCertificates returns the text of a PEM file and its certificates, one
// at least.
func readCertificates(path string) ([]byte, []*x509.Certificate, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, nil, err
	}
	var certs []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: certificate %d cannot be parsed: %w; replace the file", show(path), len(certs)+1, err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, nil, fmt.Errorf("%s holds no certificate in PEM form; it must have a BEGIN CERTIFICATE line", show(path))
	}
	return text, certs, nil
}

func readKey(path string) ([]byte, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, err
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "" {
			return nil, fmt.Errorf("%s is encrypted; decrypt it with openssl pkey", show(path))
		}
		if strings.HasSuffix(block.Type, "PRIVATE KEY") {
			return text, nil
		}
	}
	return nil, fmt.Errorf("%s holds no private key in PEM form; it must have a BEGIN PRIVATE KEY line", show(path))
}

// readFile reads a regular file of a sane size: a pipe or a device could keep
// the start waiting for ever.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; write the path of a PEM file", show(path), reason(err))
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file; write the path of a PEM file", show(path))
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; make it readable", show(path), reason(err))
	}
	defer func() { _ = f.Close() }()
	text, err := readText(f) // a BOM would hide the first certificate from package pem
	if err != nil {
		return nil, fmt.Errorf("%s: %w", show(path), err)
	}
	return []byte(text), nil
}
