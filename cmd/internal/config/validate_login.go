package config

import (
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/bearerd/bearerd/cmd/internal/display"
	"github.com/bearerd/bearerd/cmd/internal/endpoint"
	"github.com/bearerd/bearerd/tokens"
)

func (l *loader) checkRenewStatus(c *Config) {
	const name = "BEARERD_RENEW_STATUS"
	for _, text := range c.RenewStatus {
		if text != "401" && text != "403" {
			l.refuse(name, "%s cannot mean that; write 401 or 401,403", display.Quote(text))
			return
		}
	}
	if !slices.Contains(c.RenewStatus, "401") {
		l.refuse(name, "401 always means that (RFC 6750); write 401 or 401,403")
	}
}

// RenewStatuses is RenewStatus, which was checked, in numbers.
func (c Config) RenewStatuses() []int {
	if slices.Contains(c.RenewStatus, "403") {
		return []int{http.StatusUnauthorized, http.StatusForbidden}
	}
	return []int{http.StatusUnauthorized}
}

func (l *loader) checkTokenURL(c *Config) {
	const name = "BEARERD_TOKEN_URL"
	switch {
	case l.refused(name) || l.refused("BEARERD_PRESET"):
		return
	case c.TokenURL.Host == "":
		l.refuse(name, "missing; write the URL that logins are posted to, or choose a BEARERD_PRESET (%s)", presetsWith(name))
		return
	case c.TokenURL.Fragment != "":
		l.refuse(name, "has a fragment; end it before the #")
	}
	l.checkScheme(c, name, c.TokenURL, "the login's secrets")

	if c.TokenHost == "" {
		return
	}
	host, port := c.TokenHost, "443"
	if h, p, err := net.SplitHostPort(c.TokenHost); err == nil && !strings.Contains(p, "/") { // not of https://host
		host, port = h, p
	}
	if _, err := endpoint.ParsePort(port); err != nil {
		l.refuse("BEARERD_TOKEN_HOST", "%s has no valid port; write host or host:port", display.Quote(c.TokenHost))
	} else if _, err := parseHost(host); err != nil {
		l.refuse("BEARERD_TOKEN_HOST", "%v", err)
	}
	if l.env["BEARERD_TOKEN_HOST"] == "" && c.TokenHost != c.TokenURL.Host && !endpoint.IsLoopback(c.TokenURL.Hostname()) {
		l.warn("BEARERD_TOKEN_HOST", "logins go to %s with the preset's Host header, %s; set it if that server wants another",
			c.TokenURL.Host, c.TokenHost)
	}
}

func (l *loader) checkGrant(c *Config, p preset) {
	if l.refused("BEARERD_PRESET") {
		return // what it would have filled is not known
	}
	var (
		id        = c.ClientID != ""
		secret    = c.ClientSecret != "" || c.ClientSecretFile != "" || c.ClientSecretKeyring != ""
		assertion = c.ClientAssertionFile != "" || c.TokenParamsFile != "" || HasField(c.TokenParams, "client_assertion") // a file may hold one
		noSecret  = assertion || c.ClientCertFile != ""
		username  = c.Username != "" || c.UsernameFile != ""
		password  = c.Password != "" || c.PasswordFile != "" || c.PasswordKeyring != ""
	)
	need := func(have bool, name, remedy string) {
		if !have && !l.refused(name) {
			l.refuse(name, "missing; %s", remedy)
		}
	}
	ask := func(have bool, name, remedy string) {
		if !have && !l.refused(name) {
			l.problems = append(l.problems, Problem{name, "missing; " + remedy, true})
		}
	}
	switch c.GrantType {
	case "password":
		ask(username, "BEARERD_USERNAME", "write the name of the account, or set BEARERD_USERNAME_FILE")
		ask(password, "BEARERD_PASSWORD", "set it, or set BEARERD_PASSWORD_FILE to the file that holds it")
	case "client_credentials":
		for _, s := range c.SecretSources() {
			if s.Name == "USERNAME" || s.Name == "PASSWORD" {
				l.warn(s.Variable(), "ignored, as BEARERD_GRANT_TYPE is client_credentials")
			}
		}
	default:
		need(false, "BEARERD_GRANT_TYPE", "write password or client_credentials, or choose a BEARERD_PRESET ("+presetsWith("BEARERD_GRANT_TYPE")+")")
	}
	if secret && c.ClientAssertionFile != "" {
		l.refuse("BEARERD_CLIENT_ASSERTION_FILE", "set, and a client secret too; unset one, as a login authenticates its client in one way")
	}
	inHeader := c.ClientAuth != "body" && !l.refused("BEARERD_CLIENT_AUTH")
	if c.GrantType == "client_credentials" || inHeader || p.client {
		const remedy = "set it, or set BEARERD_CLIENT_SECRET_FILE to the file that holds it"
		switch {
		case inHeader && noSecret:
			need(secret, "BEARERD_CLIENT_SECRET", remedy+"; for a login without one unset BEARERD_CLIENT_AUTH")
		case !noSecret:
			need(secret, "BEARERD_CLIENT_SECRET", remedy)
		}
		// An assertion names the client itself (RFC 7521 4.2); for a certificate
		// client_id does (RFC 8705 2).
		named := c.ClientAssertionFile != "" || assertion && c.ClientCertFile == ""
		need(id || named && !secret, "BEARERD_CLIENT_ID", "write the client_id that the vendor allotted")
	}
	if c.ClientAuth == "basic-plain" && strings.Contains(c.ClientID, ":") {
		l.refuse("BEARERD_CLIENT_ID", "has a colon, which would end it in the header of BEARERD_CLIENT_AUTH=basic-plain; write basic, or body")
	}
	if secret {
		need(id, "BEARERD_CLIENT_ID", "write the client_id that BEARERD_CLIENT_SECRET belongs to")
	}
}

// HasField reports whether form fields have a name.
func HasField(fields tokens.Secret, name string) bool {
	form, _ := url.ParseQuery(fields.Reveal())
	return form.Has(name)
}

// checkTokenParams names no key and no value of its own: they are a secret.
// What a file holds is checked at each login.
func (l *loader) checkTokenParams(c *Config) {
	const name = "BEARERD_TOKEN_PARAMS"
	if c.TokenParams == "" {
		return
	}
	for pair := range strings.SplitSeq(c.TokenParams.Reveal(), "&") {
		text, _, ok := strings.Cut(pair, "=")
		key, _ := url.QueryUnescape(text)
		if _, err := url.ParseQuery(pair); err != nil || !ok || key == "" {
			l.refuse(name, "not of the form a=b&c=d; escape & as %%26, %% as %%25, + as %%2B and ; as %%3B in a value")
			return
		}
		switch key {
		case "client_assertion":
			if c.ClientAssertionFile != "" {
				l.refuse(name, "has client_assertion, and BEARERD_CLIENT_ASSERTION_FILE is set too; unset one")
			}
		case "grant_type", "client_id", "client_secret", "username", "password", "scope":
			l.refuse(name, "has %s, which would be sent twice; set BEARERD_%s instead", key, strings.ToUpper(key))
		}
	}
}
