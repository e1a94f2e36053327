package tokens

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
)

// describe says why a login's exchange failed. ctx is that of the login.
func (l *Login) describe(ctx context.Context, err error) string {
	// Not err: a dial that took DialTimeout claims to be a DeadlineExceeded too.
	switch ctx.Err() {
	case context.DeadlineExceeded:
		return "no answer within " + l.Timeout.String()
	case context.Canceled:
		return "the login was cancelled"
	}
	return DescribeError(err)
}

// DescribeError says in words that are safe to log why an HTTP exchange failed.
// The text of an arbitrary error is not: net/http quotes malformed answers, the
// status line of an HTTP proxy, and the proxy's URL with the password in it.
func DescribeError(err error) string {
	if cause := describeTLS(err); cause != "" {
		return cause
	}
	if e, ok := errors.AsType[*net.DNSError](err); ok {
		return describeDNS(e)
	}
	if refused, ok := errors.AsType[proxyRefusal](err); ok {
		return refused.Error()
	}
	if e, ok := errors.AsType[*net.OpError](err); ok {
		return describeOp(e)
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return "connecting took too long"
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "the server closed the connection"
	}
	return "the exchange failed"
}

// ProxyConnected is for [http.Transport.OnProxyConnectResponse]. Its error, of
// an HTTP proxy that refuses to connect, is one that DescribeError can name:
// net/http's own is the text that the proxy chose.
func ProxyConnected(_ context.Context, _ *url.URL, _ *http.Request, answer *http.Response) error {
	if answer.StatusCode != http.StatusOK {
		return proxyRefusal(answer.StatusCode)
	}
	return nil
}

// proxyRefusal is the status of a proxy's answer to CONNECT.
type proxyRefusal int

func (status proxyRefusal) Error() string {
	return "the proxy answered HTTP " + strconv.Itoa(int(status))
}

// describeTLS returns "" when TLS had no part in err.
func describeTLS(err error) string {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "TLS: the server's certificate is signed by an unknown authority"
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return "TLS: the server's certificate is for another host: check the URL"
	}
	if e, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		if e.Reason == x509.Expired {
			return "TLS: the server's certificate has expired or is not valid yet: check its dates and the local clock"
		}
		return "TLS: the server's certificate is not valid"
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "TLS: the server's certificate is not valid"
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return "TLS: the server does not speak it: check the scheme of the URL"
	}
	return ""
}

// describeDNS does not use the error's text: that names the port the resolver
// asked from, another each time, and the log would take it for a new cause.
func describeDNS(e *net.DNSError) string {
	what := "the name server did not answer"
	switch {
	case e.IsNotFound:
		what = "no such host"
	case e.IsTimeout:
		what = "the name server took too long"
	}
	return "lookup " + e.Name + ": " + what
}

// describeOp names the operation, the address and the error of the system, such
// as "dial tcp 192.0.2.1:443: connection refused".
func describeOp(e *net.OpError) string {
	if inner, ok := errors.AsType[*net.OpError](e.Err); ok && e.Op == "proxyconnect" { // net/http's
		return "the proxy: " + describeOp(inner)
	}
	if e.Op == "remote error" { // how crypto/tls marks an alert, whose texts are fixed
		return "TLS: the server refused: " + e.Err.Error()
	}
	parts := []string{e.Op, e.Net}
	if e.Addr != nil {
		parts = append(parts, e.Addr.String())
	}
	what := "failed"
	if errno, ok := errors.AsType[syscall.Errno](e); ok {
		what = errno.Error()
	} else if e.Timeout() {
		what = "took too long"
	}
	return strings.Join(parts, " ") + ": " + what
}
