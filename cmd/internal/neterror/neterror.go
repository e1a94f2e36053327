// Package neterror says why an HTTP exchange failed: by kind, for programs, and
// in words that are safe to log. It knows net/http, crypto/tls and net, and
// neither what was asked nor which setting could mend it.
package neterror

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Cause says why an exchange failed. It is an error whose text is safe to log,
// and that of an arbitrary error is not: net/http quotes malformed answers, the
// status line of an HTTP proxy, and the proxy's URL with the password in it.
// Two can be compared by ==. Make one with [Of].
type Cause struct {
	Kind    Kind
	AtProxy bool // the connection that failed is that to the HTTP proxy
	Status  int  // with ProxyRefused: of the proxy's answer

	detail string // what the words of the kind lack: ours, the system's or Go's fixed texts, names and addresses
}

// Kind is the kind of a [Cause].
type Kind string

const (
	Unknown    Kind = "unknown"
	Closed     Kind = "closed"      // the peer closed the connection without a word
	Connection Kind = "connection"  // the system says why: refused, unreachable, reset
	TooSlow    Kind = "too_slow"    // connecting, or the TLS handshake
	NoHost     Kind = "no_host"     // the name server knows no such host
	NameServer Kind = "name_server" // it gave no answer
	Descriptor Kind = "descriptor"  // none is left, for this process or the machine
	NotHTTP    Kind = "not_http"    // what came is no answer of HTTP/1
	Stream     Kind = "stream"      // HTTP/2: the peer reset the stream

	ProxyRefused Kind = "proxy_refused" // the HTTP proxy did not connect

	UnknownAuthority Kind = "unknown_authority" // who signed the certificate is not trusted
	OtherHost        Kind = "other_host"        // the certificate has names, and this host is none of them
	NamesNoHost      Kind = "names_no_host"     // the certificate has no subjectAltName
	Expired          Kind = "expired"           // or not valid yet
	BadCertificate   Kind = "bad_certificate"   // another fault of the certificate
	NoTLS            Kind = "no_tls"            // the peer speaks something else
	NoCommonTLS      Kind = "no_common_tls"     // no version or cipher that both have
	HandshakeRefused Kind = "handshake_refused" // the same, or a client certificate is missing: the alert is one for both
	WantsCertificate Kind = "wants_certificate" // the peer asks for a client certificate, or refuses the one it got
	Renegotiation    Kind = "renegotiation"     // the peer asks for it, which Go's client refuses
	TLSRefused       Kind = "tls_refused"       // the peer refused for another reason
	TLSFailed        Kind = "tls_failed"        // the handshake failed on this side for another reason
)

var words = map[Kind]string{
	Unknown:          "the exchange failed",
	Closed:           "the server closed the connection",
	TooSlow:          "connecting took too long",
	Descriptor:       "no file descriptor is left",
	NotHTTP:          "what answered does not speak HTTP/1",
	Stream:           "the server broke the HTTP/2 stream off",
	ProxyRefused:     "the proxy answered HTTP ",
	UnknownAuthority: "TLS: the server's certificate is signed by an unknown authority",
	OtherHost:        "TLS: the server's certificate is for another host: check the URL",
	NamesNoHost:      "TLS: the server's certificate names no host: it has no subjectAltName, and a common name does not count",
	Expired:          "TLS: the server's certificate has expired or is not valid yet: check its dates and the local clock",
	BadCertificate:   "TLS: the server's certificate is not valid",
	NoTLS:            "TLS: the server does not speak it: check the scheme of the URL",
	NoCommonTLS:      "TLS: the server shares no version or cipher with bearerd, which has TLS 1.2 and later and no RSA key exchange",
	HandshakeRefused: "TLS: the server refuses the handshake: it shares no version or cipher with bearerd, which has TLS 1.2 and later and no RSA key exchange, or it wants a client certificate",
	WantsCertificate: "TLS: the server wants another client certificate than it got, or any",
	Renegotiation:    "TLS: the server wants to renegotiate, as for a client certificate that only some paths need; bearerd refuses",
	TLSRefused:       "TLS: the server refused",
	TLSFailed:        "TLS: the handshake failed",
}

// Error says it in words that are safe to log.
func (c Cause) Error() string {
	text := words[c.Kind]
	switch {
	case c.Kind == ProxyRefused:
		text += strconv.Itoa(c.Status)
	case text == "":
		text = c.detail
	case c.detail != "":
		text += ": " + c.detail
	}
	if c.AtProxy {
		text = "the proxy: " + text
	}
	return text
}

// Of says why an exchange failed by err, which must not be nil.
func Of(err error) Cause {
	if IsNoDescriptor(err) {
		return Cause{Kind: Descriptor}
	}
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Op == "proxyconnect" { // net/http's
		c := Of(e.Err)
		c.AtProxy = true
		return c
	}
	if c := tlsCause(err); c.Kind != "" {
		return c
	}
	return otherCause(err)
}

// IsNoDescriptor reports whether err says that the system gives this process no
// file descriptor more, or nobody (EMFILE, ENFILE).
func IsNoDescriptor(err error) bool {
	if e, ok := errors.AsType[*net.DNSError](err); ok { // it wraps no error of the system
		return slices.ContainsFunc(noDescriptor, func(target error) bool { return strings.HasSuffix(e.Err, target.Error()) })
	}
	return slices.ContainsFunc(noDescriptor, func(target error) bool { return errors.Is(err, target) })
}

// The last is Winsock's, which package syscall has no name for elsewhere.
var noDescriptor = []error{syscall.EMFILE, syscall.ENFILE, syscall.Errno(10024)}

// otherCause is the cause of a failure in which TLS had no part.
func otherCause(err error) Cause {
	if e, ok := errors.AsType[*net.DNSError](err); ok {
		return dnsCause(e)
	}
	if refused, ok := errors.AsType[proxyRefusal](err); ok {
		return Cause{Kind: ProxyRefused, Status: int(refused)}
	}
	if e, ok := errors.AsType[*net.OpError](err); ok {
		return opCause(e)
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return Cause{Kind: TooSlow}
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return Cause{Kind: Closed}
	}
	if e, ok := errors.AsType[streamError](err); ok {
		return Cause{Kind: Stream, detail: "error code " + strconv.FormatUint(uint64(e.Code), 10)}
	}
	if isNotHTTP(err) {
		return Cause{Kind: NotHTTP}
	}
	return Cause{Kind: Unknown}
}

// isNotHTTP reports whether err says that an answer could not be read. What
// net/http returns then has no type that others could name, and a wrapper with a
// fixed beginning (net/http/transport.go, mapRoundTripError).
func isNotHTTP(err error) bool {
	for ; err != nil; err = errors.Unwrap(err) {
		if strings.HasPrefix(err.Error(), "net/http: HTTP/1.x transport connection broken") {
			return true
		}
	}
	return false
}

// streamError has the fields of net/http's http2StreamError, whose As method
// fills whatever has them (net/http/h2_error.go).
type streamError struct {
	StreamID uint32
	Code     uint32 // RFC 9113 7
	Cause    error
}

func (streamError) Error() string { return "stream error" }

// ProxyConnected is for [http.Transport.OnProxyConnectResponse]. Its error, of
// an HTTP proxy that refuses to connect, is one that Of can name: net/http's own
// is the text that the proxy chose.
func ProxyConnected(_ context.Context, _ *url.URL, _ *http.Request, answer *http.Response) error {
	if answer.StatusCode != http.StatusOK {
		return proxyRefusal(answer.StatusCode)
	}
	return nil
}

// proxyRefusal is the status of a proxy's answer to CONNECT.
type proxyRefusal int

func (status proxyRefusal) Error() string { return "HTTP " + strconv.Itoa(int(status)) }

// tlsCause returns the zero Cause when TLS had no part in err.
func tlsCause(err error) Cause {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return Cause{Kind: UnknownAuthority}
	}
	if e, ok := errors.AsType[x509.HostnameError](err); ok {
		if namesNoHost(e.Certificate) {
			return Cause{Kind: NamesNoHost}
		}
		return Cause{Kind: OtherHost}
	}
	if e, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		if e.Reason == x509.Expired {
			return Cause{Kind: Expired}
		}
		return Cause{Kind: BadCertificate}
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return Cause{Kind: BadCertificate}
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return Cause{Kind: NoTLS}
	}
	if e, ok := errors.AsType[*net.OpError](err); ok {
		switch e.Op { // how crypto/tls marks an alert, whose texts are fixed
		case "remote error":
			return alertCause(e.Err, TLSRefused)
		case "local error":
			return alertCause(e.Err, TLSFailed)
		}
	}
	for inner := err; inner != nil; inner = errors.Unwrap(inner) {
		// crypto/tls gives its other errors no type. Their texts may hold what
		// the server sent.
		if text := inner.Error(); strings.HasPrefix(text, "tls: ") {
			if strings.HasPrefix(text, "tls: server selected unsupported protocol version") ||
				strings.HasPrefix(text, "tls: server chose an unconfigured cipher suite") {
				return Cause{Kind: NoCommonTLS}
			}
			return Cause{Kind: TLSFailed}
		}
	}
	return Cause{}
}

// namesNoHost reports whether cert has none of the names that count (RFC 6125):
// a common name alone is what old tools make.
func namesNoHost(cert *x509.Certificate) bool {
	return cert != nil && len(cert.DNSNames)+len(cert.IPAddresses)+len(cert.URIs)+len(cert.EmailAddresses) == 0
}

// alertCause names a TLS alert (RFC 8446 6.2, RFC 5246 7.2): kind is for those
// that have none of their own.
func alertCause(err error, kind Kind) Cause {
	// crypto/tls's own type is not exported, and has the texts of the one that is.
	text := err.Error()
	is := func(alerts ...tls.AlertError) bool {
		for _, a := range alerts {
			if a.Error() == text {
				return true
			}
		}
		return false
	}
	c := Cause{Kind: kind, detail: strings.TrimPrefix(text, "tls: ")}
	switch {
	case is(100): // no_renegotiation
		return Cause{Kind: Renegotiation}
	case is(40): // handshake_failure: the words say what it can mean
		return Cause{Kind: HandshakeRefused}
	case is(70, 71): // protocol_version, insufficient_security
		c.Kind = NoCommonTLS
	case is(42, 43, 44, 45, 46, 48, 116): // of the certificate that the server got, or missed
		c.Kind = WantsCertificate
	}
	return c
}

// dnsCause does not use the error's text: that names the port the resolver
// asked from, another each time, and the log would take it for a new cause.
func dnsCause(e *net.DNSError) Cause {
	c := Cause{Kind: NameServer}
	what := "the name server did not answer"
	switch {
	case e.IsNotFound:
		c.Kind, what = NoHost, "no such host"
	case e.IsTimeout:
		what = "the name server took too long"
	}
	c.detail = "lookup " + e.Name + ": " + what
	return c
}

// opCause names the operation, the address and the error of the system, such
// as "dial tcp 192.0.2.1:443: connection refused".
func opCause(e *net.OpError) Cause {
	parts := []string{e.Op}
	if e.Net != "" {
		parts = append(parts, e.Net)
	}
	if e.Addr != nil {
		parts = append(parts, e.Addr.String())
	}
	what := "failed"
	if errno, ok := errors.AsType[syscall.Errno](e); ok {
		what = errno.Error()
	} else if e.Timeout() {
		what = "took too long"
	}
	return Cause{Kind: Connection, detail: strings.Join(parts, " ") + ": " + what}
}
