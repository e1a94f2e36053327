// Package assembly makes what package tokens and package proxy take of a Config, so
// that serving and check use the very same. It opens and starts nothing.
package assembly

import (
	"net/http"
	"os/signal"
	"syscall"

	"github.com/bearerd/bearerd/cmd/internal/advice"
	"github.com/bearerd/bearerd/cmd/internal/config"
	"github.com/bearerd/bearerd/cmd/internal/keyring"
	"github.com/bearerd/bearerd/cmd/internal/neterror"
	"github.com/bearerd/bearerd/tokens"
)

// LoginWay is how c logs in.
func LoginWay(c config.Config) advice.Way {
	return advice.Way{
		Typed:      c.Typed(),
		Grant:      c.GrantType,
		ClientAuth: c.ClientAuth,
		Proof:      clientProof(c),
		Stored:     c.PasswordKeyring != "" || c.ClientSecretKeyring != "",
		Deaf:       signal.Ignored(syscall.SIGHUP),
	}
}

// clientProof is what a client without a secret proves itself by.
func clientProof(c config.Config) string {
	switch {
	case c.ClientSecret != "" || c.ClientSecretFile != "" || c.ClientSecretKeyring != "":
	case c.ClientAssertionFile != "":
		return "BEARERD_CLIENT_ASSERTION_FILE (subject and audience of the assertion, and its end)"
	case config.HasField(c.TokenParams, "client_assertion") || c.TokenParamsFile != "" && c.ClientCertFile == "" && c.GrantType == "client_credentials":
		return "the client_assertion among BEARERD_TOKEN_PARAMS"
	case c.ClientCertFile != "":
		return "BEARERD_CLIENT_CERT_FILE (whether the server knows that certificate for this client)"
	}
	return ""
}

// LoginTransport makes the transport that logins go by.
func LoginTransport(c config.Config, out *WayOut) *http.Transport {
	t := tokens.NewTransport(tokens.TransportOptions{
		RootCAs:      c.RootCAs,
		Certificates: c.Certificates,
		DialTimeout:  c.DialTimeout,
	})
	t.Proxy = out.Proxy
	t.OnProxyConnectResponse = neterror.ProxyConnected
	return t
}

// stored is an entry of a store, or nil.
func stored(store *keyring.Store, entry string) tokens.StoredSecret {
	if entry == "" {
		return nil
	}
	return store.Entry(entry)
}

// Login makes the login that c describes, by transport.
func Login(c config.Config, transport http.RoundTripper) tokens.Login {
	store := keyring.New(nil)
	return tokens.Login{
		URL:          c.TokenURL.String(),
		Host:         c.TokenHost,
		Grant:        c.GrantType,
		ClientID:     c.ClientID,
		ClientAuth:   c.ClientAuth,
		ClientSecret: tokens.Source{Value: c.ClientSecret, File: c.ClientSecretFile, Stored: stored(store, c.ClientSecretKeyring)},
		Username:     tokens.Source{Value: c.Username, File: c.UsernameFile},
		Password:     tokens.Source{Value: c.Password, File: c.PasswordFile, Stored: stored(store, c.PasswordKeyring)},
		Assertion:    tokens.Source{File: c.ClientAssertionFile},
		Params:       tokens.Source{Value: c.TokenParams, File: c.TokenParamsFile},
		Scope:        c.Scope,
		Timeout:      c.LoginTimeout,
		Transport:    transport,
		Explain:      func(err error) error { return neterror.Of(err) },
	}
}
