package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/bearerd/bearerd/proxy"
	"github.com/bearerd/bearerd/tokens"
)

const requireHeader = "REQUIRE_HEADER" // the one secret that is not for a login

const maxReplayBuffer = 64 << 20 // bytes; what all requests together may hold

// secretSource is a secret that is set, and where.
type secretSource struct {
	Name   string // PASSWORD, without BEARERD_
	Source tokens.Source
	origin origin // of the variable that was set
}

// From says where the secret was given: env, file or asked.
func (s secretSource) From() string {
	switch {
	case s.Source.File != "" || s.origin == fromFile:
		return "file"
	case s.origin == fromAsking:
		return "asked"
	}
	return "env"
}

// variable returns the name of the variable that was set.
func (s secretSource) variable() string {
	if s.Source.File != "" {
		return "BEARERD_" + s.Name + "_FILE"
	}
	return "BEARERD_" + s.Name
}

// SecretSources returns the secrets that are set, in the order of the help.
func (c Config) SecretSources() []secretSource {
	all := []secretSource{
		{Name: "CLIENT_SECRET", Source: tokens.Source{Value: c.ClientSecret, File: c.ClientSecretFile}},
		{Name: "USERNAME", Source: tokens.Source{Value: c.Username, File: c.UsernameFile}},
		{Name: "PASSWORD", Source: tokens.Source{Value: c.Password, File: c.PasswordFile}},
		{Name: "TOKEN_PARAMS", Source: tokens.Source{Value: c.TokenParams, File: c.TokenParamsFile}},
		{Name: requireHeader, Source: c.requireHeader()},
	}
	for i, s := range all {
		all[i].origin = c.Origins[s.variable()]
	}
	return slices.DeleteFunc(all, func(s secretSource) bool { return s.Source.IsZero() })
}

// requireHeader is where the header is that callers must send.
func (c Config) requireHeader() tokens.Source {
	return tokens.Source{Value: c.RequireHeader, File: c.RequireHeaderFile}
}

// asked reports whether a person typed a part of the credentials.
func (c Config) asked() bool {
	return slices.ContainsFunc(c.SecretSources(), func(s secretSource) bool { return s.origin == fromAsking })
}

// validate refuses what each setting alone may say but not with the others, or
// not in its place, and completes c: lists in the form they are compared in,
// certificates.
func (l *loader) validate(c *Config, p preset) {
	l.checkUpstream(c)
	l.checkTokenURL(c)
	l.checkGrant(c, p)
	l.checkTokenParams(c)
	l.checkSecretFiles(c)
	l.checkExposure(c)
	l.checkListeners(c)
	l.checkGuard(c)
	l.checkLimits(c)
	l.loadCertificates(c)
}

func (l *loader) checkUpstream(c *Config) {
	const name = "BEARERD_UPSTREAM"
	switch {
	case l.refused(name) || l.refused("BEARERD_PRESET"):
		return
	case c.Upstream.Host == "":
		l.refuse(name, "missing; write the base URL of the API, e.g. https://api.example.com, or choose a BEARERD_PRESET that has one (vyopta, wxp)")
		return
	case c.Upstream.RawQuery != "" || c.Upstream.ForceQuery:
		l.refuse(name, "has a query; end it before the ?")
	case c.Upstream.Fragment != "":
		l.refuse(name, "has a fragment; end it before the #")
	case proxy.Traverses(c.Upstream.EscapedPath()):
		l.refuse(name, "%s has a . or .. in its path; write the path it leads to", show(c.Upstream.EscapedPath()))
	}
	l.checkScheme(c, name, c.Upstream, "every token")
}

func (l *loader) checkTokenURL(c *Config) {
	const name = "BEARERD_TOKEN_URL"
	switch {
	case l.refused(name) || l.refused("BEARERD_PRESET"):
		return
	case c.TokenURL.Host == "":
		l.refuse(name, "missing; write the URL that logins are posted to, or choose a BEARERD_PRESET (%s)", presetNames())
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
	if _, err := parsePort(port); err != nil {
		l.refuse("BEARERD_TOKEN_HOST", "%s has no valid port; write host or host:port", show(c.TokenHost))
	} else if _, err := parseHost(host); err != nil {
		l.refuse("BEARERD_TOKEN_HOST", "%v", err)
	}
	if l.env["BEARERD_TOKEN_HOST"] == "" && c.TokenHost != c.TokenURL.Host && !isLoopback(c.TokenURL.Hostname()) {
		l.warn("BEARERD_TOKEN_HOST", "logins go to %s with the preset's Host header, %s; set it if that server wants another",
			c.TokenURL.Host, c.TokenHost)
	}
}

// checkScheme refuses clear text that would leave the machine, and a URL that
// leads back to bearerd, which would forward to itself for ever.
func (l *loader) checkScheme(c *Config, name string, u *url.URL, what string) {
	if u.Scheme == "http" && !isLoopback(u.Hostname()) {
		if c.AllowInsecure {
			l.warn(name, "%s can be read by anybody between here and %s, as it is http (BEARERD_ALLOW_INSECURE)", what, u.Host)
		} else if !l.refused("BEARERD_ALLOW_INSECURE") {
			l.refuse(name, "http would show %s to anybody on the way; write https, or set BEARERD_ALLOW_INSECURE=true", what)
		}
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	target, err := parseEndpoint(net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return // a host name: what it resolves to is not known here
	}
	for _, item := range c.Listen {
		own, err := parseEndpoint(item)
		if err == nil && isLoopback(target.host) && own.overlaps(target) {
			l.refuse(name, "%s is where bearerd itself listens (BEARERD_LISTEN); change one of them", show(u.Host))
		}
	}
}

// checkProxy refuses a proxy that net/http would pass over, or take for another
// one: a password with a character that must be escaped then stands where a host
// or a path does, and is looked up, sent and shown.
func (l *loader) checkProxy(name, value string) {
	if strings.EqualFold(name, "NO_PROXY") || value == "" {
		return
	}
	if !strings.Contains(value, "://") {
		value = "http://" + value // as net/http reads it
	}
	u, err := url.Parse(value)
	if err != nil || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.ForceQuery || strings.Contains(value, "#") {
		l.refuse(name, "not the URL of a proxy; write http://proxy.example.com:3128, and in a password %%23 for #, %%2F for /, %%3F for ?, %%40 for @ and %%20 for a space")
	}
}

func (l *loader) checkGrant(c *Config, p preset) {
	if l.refused("BEARERD_PRESET") {
		return // what it would have filled is not known
	}
	var (
		id       = c.ClientID != ""
		secret   = c.ClientSecret != "" || c.ClientSecretFile != ""
		username = c.Username != "" || c.UsernameFile != ""
		password = c.Password != "" || c.PasswordFile != ""
	)
	need := func(have bool, name, remedy string) {
		if !have && !l.refused(name) {
			l.refuse(name, "missing; %s", remedy)
		}
	}
	ask := func(have bool, name, remedy string) {
		if !have && !l.refused(name) {
			l.problems = append(l.problems, problem{name, "missing; " + remedy, true})
		}
	}
	switch c.GrantType {
	case "password":
		ask(username, "BEARERD_USERNAME", "write the name of the account, or set BEARERD_USERNAME_FILE")
		ask(password, "BEARERD_PASSWORD", "set it, or set BEARERD_PASSWORD_FILE to the file that holds it")
	case "client_credentials":
		for _, s := range c.SecretSources() {
			if s.Name == "USERNAME" || s.Name == "PASSWORD" {
				l.warn(s.variable(), "ignored, as BEARERD_GRANT_TYPE is client_credentials")
			}
		}
	default:
		need(false, "BEARERD_GRANT_TYPE", "write password or client_credentials, or choose a BEARERD_PRESET ("+presetNames()+")")
	}
	if c.GrantType == "client_credentials" || c.ClientAuth == "basic" || p.client {
		need(secret, "BEARERD_CLIENT_SECRET", "set it, or set BEARERD_CLIENT_SECRET_FILE to the file that holds it")
		need(id, "BEARERD_CLIENT_ID", "write the client_id that the vendor allotted")
	}
	if secret {
		need(id, "BEARERD_CLIENT_ID", "write the client_id that BEARERD_CLIENT_SECRET belongs to")
	}
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
		case "grant_type", "client_id", "client_secret", "username", "password", "scope":
			l.refuse(name, "has %s, which would be sent twice; set BEARERD_%s instead", key, strings.ToUpper(key))
		}
	}
}

// checkSecretFiles only warns: a secret that is mounted late is waited for.
func (l *loader) checkSecretFiles(c *Config) {
	for _, s := range c.SecretSources() {
		name, path := s.variable(), s.Source.File
		if path == "" || s.Name == requireHeader { // which must be there at the start
			continue
		}
		info, err := os.Stat(path)
		absolute := filepath.IsAbs(path)
		switch {
		case errors.Is(err, fs.ErrNotExist) && !absolute:
			// Not shown: it may be the secret itself, put in the wrong place.
			l.warn(name, "no such file, and not an absolute path; waiting for it (to give the secret itself, set BEARERD_%s)", s.Name)
		case errors.Is(err, fs.ErrNotExist):
			l.warn(name, "%s: no such file; waiting for it", path)
		case err != nil && absolute:
			l.warn(name, "%s: %v; waiting for it", path, reason(err))
		case err != nil:
			l.warn(name, "%v; waiting for it", reason(err))
		case info.IsDir():
			// Docker makes one for a bind mount whose source is missing.
			l.warn(name, "%s is a directory; waiting for a file there", path)
		case !absolute:
			l.warn(name, "%s is relative to the directory bearerd was started in; write an absolute path", path)
		}
	}
}

// checkExposure warns of files of secrets that other users can read.
func (l *loader) checkExposure(c *Config) {
	check := func(name, path string) {
		if info, err := os.Stat(path); err == nil && exposed(info, path) {
			l.warn(name, "%s", exposure(info, path))
		}
	}
	for _, s := range c.SecretSources() {
		if s.Source.File != "" {
			check(s.variable(), s.Source.File)
		}
	}
	if c.ClientKeyFile != "" {
		check("BEARERD_CLIENT_KEY_FILE", c.ClientKeyFile)
	}
}

// exposure says that a file is exposed, and what to do.
func exposure(info fs.FileInfo, path string) string {
	return fmt.Sprintf("%s has the mode %04o, with which other users may read or change it; run chmod 600 %[1]s", path, info.Mode().Perm())
}

func (l *loader) checkListeners(c *Config) {
	var taken []endpoint
	add := func(name, text string) (endpoint, bool) {
		e, err := parseEndpoint(text)
		if err != nil {
			l.refuse(name, "%v", err)
			return e, false
		}
		if slices.ContainsFunc(taken, e.overlaps) {
			what := "port"
			if e.path != "" {
				what = "path"
			}
			l.refuse(name, "%s is taken by another listener of bearerd; choose another %s", show(text), what)
		}
		taken = append(taken, e)
		return e, true
	}
	for _, text := range c.Listen {
		e, ok := add("BEARERD_LISTEN", text)
		if ok && !e.isLocal() && !c.AllowNonLoopback && !l.refused("BEARERD_ALLOW_NON_LOOPBACK") {
			l.refuse("BEARERD_LISTEN", "%s can be reached from other machines, which would then speak with this account; "+
				"write localhost, or set BEARERD_ALLOW_NON_LOOPBACK=true and BEARERD_ALLOWED_HOSTS", show(text))
		}
	}
	if strings.EqualFold(c.AdminListen, "off") {
		c.AdminListen = "off"
	} else {
		add("BEARERD_ADMIN_LISTEN", c.AdminListen)
	}
	_, given := l.origins["BEARERD_SOCKET_MODE"]
	switch {
	case given && !hasSocketMode:
		l.refuse("BEARERD_SOCKET_MODE", "this system has no unix sockets with a mode; unset it")
	case c.SocketMode&0o002 != 0:
		l.warn("BEARERD_SOCKET_MODE", "with %04o every user of this machine may connect, and speaks with this account; write 0600, or 0660 for a group", c.SocketMode)
	}
	if c.AllowNonLoopback && len(c.AllowedHosts) == 0 && !l.refused("BEARERD_ALLOWED_HOSTS") {
		l.refuse("BEARERD_ALLOWED_HOSTS", "missing; BEARERD_ALLOW_NON_LOOPBACK needs it: list the hosts that callers write in their URLs")
	}
}

func (l *loader) checkGuard(c *Config) {
	for i, text := range c.AllowedHosts {
		host, err := parseHost(text)
		if err != nil {
			l.refuse("BEARERD_ALLOWED_HOSTS", "%v", err)
		}
		c.AllowedHosts[i] = host
	}
	for i, text := range c.AllowedOrigins {
		origin, err := parseOrigin(text)
		if err != nil {
			l.refuse("BEARERD_ALLOWED_ORIGINS", "%v", err)
		}
		c.AllowedOrigins[i] = origin
	}
	if source := c.requireHeader(); !source.IsZero() {
		if _, err := readHeaderRule(source); err != nil {
			l.refuse(secretSource{Name: requireHeader, Source: source}.variable(), "%v", err)
		}
	}
	for i, method := range c.AllowedMethods {
		method = strings.ToUpper(method)
		switch {
		case !isToken(method):
			l.refuse("BEARERD_ALLOWED_METHODS", "%s is not a method; write e.g. GET,HEAD", show(method))
		case method == "CONNECT" || method == "TRACE":
			l.refuse("BEARERD_ALLOWED_METHODS", "%s is never forwarded; take it out", method)
		}
		c.AllowedMethods[i] = method
	}
	for _, path := range c.AllowedPaths {
		_, err := url.PathUnescape(path)
		switch {
		case !strings.HasPrefix(path, "/"):
			l.refuse("BEARERD_ALLOWED_PATHS", "%s does not begin with /; write e.g. /cpmm/api", show(path))
		case proxy.Traverses(path):
			l.refuse("BEARERD_ALLOWED_PATHS", "%s has a . or .. segment; write the path it leads to", show(path))
		case err != nil || strings.ContainsAny(path, "?#\\;"):
			l.refuse("BEARERD_ALLOWED_PATHS", `%s is not a plain path; leave out ?, #, \ and ;, and write %% as %%25`, show(path))
		}
	}
}

func (l *loader) checkLimits(c *Config) {
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"BEARERD_LOGIN_TIMEOUT", c.LoginTimeout},
		{"BEARERD_TOKEN_WAIT", c.TokenWait},
		{"BEARERD_DEFAULT_TOKEN_LIFETIME", c.DefaultTokenLifetime},
		{"BEARERD_DIAL_TIMEOUT", c.DialTimeout},
	} {
		if d.value == 0 && !l.refused(d.name) {
			l.refuse(d.name, "must be more than 0; write e.g. 10s")
		}
	}
	if c.MaxInFlight < 1 && !l.refused("BEARERD_MAX_IN_FLIGHT") {
		l.refuse("BEARERD_MAX_IN_FLIGHT", `"%d" lets no request through; write 1 or more`, c.MaxInFlight)
	}
	if c.ReplayBuffer > maxReplayBuffer {
		l.refuse("BEARERD_REPLAY_BUFFER", "%s is too much; write 64MiB or less", show(l.env["BEARERD_REPLAY_BUFFER"]))
	}
}

// reason is an error's cause without the path, which it is printed next to.
func reason(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}
