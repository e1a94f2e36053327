package config

import (
	"crypto/x509"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// ensureRoots has TLS trust Mozilla's roots where the system has none, as in an
// image without any. Package fallback parses them before main wherever it runs,
// and to load the system's only to count them would take longer still.
var ensureRoots = sync.OnceFunc(func() {
	if systemHasRoots() && !strings.Contains(os.Getenv("GODEBUG"), "x509usefallbackroots=1") {
		return
	}
	pool := x509.NewCertPool()
	for root := range bundle.Roots() {
		cert, err := x509.ParseCertificate(root.Certificate)
		if err != nil {
			panic(err) // as package fallback does: it is part of the program
		}
		if root.Constraint == nil {
			pool.AddCert(cert)
		} else {
			pool.AddCertWithConstraint(cert, root.Constraint)
		}
	}
	x509.SetFallbackRoots(pool) // which does nothing where the system has some after all
})

// systemHasRoots reports whether there is a file of them where Go looks first
// (crypto/x509/root_linux.go).
func systemHasRoots() bool {
	if runtime.GOOS == "windows" || runtime.GOOS == "darwin" {
		return true // the system itself checks certificates
	}
	files := []string{
		"/etc/ssl/certs/ca-certificates.crt",
		"/etc/pki/tls/certs/ca-bundle.crt",
		"/etc/ssl/ca-bundle.pem",
		"/etc/pki/tls/cacert.pem",
		"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
		"/etc/ssl/cert.pem",
	}
	if set := os.Getenv("SSL_CERT_FILE"); set != "" {
		files = []string{set}
	}
	return slices.ContainsFunc(files, func(name string) bool {
		const certificate = 300 // bytes that one has at least; a file may be there and empty
		info, err := os.Stat(name)
		return err == nil && info.Size() > certificate
	})
}
