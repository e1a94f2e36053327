package advice

import (
	"errors"
	"net/http"

	"github.com/bearerd/bearerd/cmd/internal/neterror"
)

// RaiseLimit is the remedy for too few descriptors.
const RaiseLimit = "raise the limit of open files: LimitNOFILE= of systemd, --ulimit nofile= of Docker, ulimit -n of a shell; process_open_fds in /metrics says how many are open"

const proxyWantsLogin = "the proxy wants a login: BEARERD_PROXY or HTTPS_PROXY, http://user:password@proxy:port (basic only)"

func checkNetwork(setting string) string {
	return "check " + setting + ", the network and the proxy (BEARERD_PROXY, HTTPS_PROXY)"
}

// exchangeRemedy says what a person can do about a server that could not be
// asked, or whose answer broke off. setting holds the server's address.
func exchangeRemedy(err error, setting, server string) string {
	cause, _ := errors.AsType[neterror.Cause](err)
	switch {
	case cause.Kind == neterror.ProxyRefused && cause.Status == http.StatusProxyAuthRequired:
		return proxyWantsLogin
	case cause.AtProxy, cause.Kind == neterror.ProxyRefused:
		return "check BEARERD_PROXY or HTTPS_PROXY, and whether the proxy permits the address of " + server
	}
	switch cause.Kind {
	case neterror.Descriptor:
		return RaiseLimit
	case neterror.UnknownAuthority:
		return "if a company proxy signs for " + server + ", give its root certificate by BEARERD_CA_FILE"
	case neterror.OtherHost:
		return "check " + setting + ": the certificate of " + server + " has another name"
	case neterror.NamesNoHost:
		return "none here: whoever runs " + server + " must have its certificate made with a subjectAltName, as browsers want it too"
	case neterror.Expired:
		return "none here if this machine's clock is right: whoever runs " + server + " must renew its certificate"
	case neterror.BadCertificate, neterror.NoCommonTLS, neterror.TLSRefused, neterror.TLSFailed:
		return "check " + setting + "; else whoever runs " + server + " must mend its TLS"
	case neterror.HandshakeRefused:
		return "does " + server + " want a client certificate? then set BEARERD_CLIENT_CERT_FILE; else whoever runs it must allow TLS 1.2 with ECDHE, or TLS 1.3"
	case neterror.WantsCertificate, neterror.Renegotiation:
		return "set BEARERD_CLIENT_CERT_FILE and BEARERD_CLIENT_KEY_FILE to a client certificate that " + server + " takes"
	case neterror.NoTLS, neterror.NotHTTP:
		return "check scheme and port of " + setting + ", and the proxy (BEARERD_PROXY, HTTPS_PROXY): what answers there speaks something else"
	case neterror.Stream:
		return "none here: " + server + ", or a proxy before it, breaks exchanges off"
	}
	return checkNetwork(setting)
}
