package config

import (
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/bearerd/bearerd/cmd/internal/display"
	"github.com/bearerd/bearerd/cmd/internal/endpoint"
	"github.com/bearerd/bearerd/proxy"
)

func (l *loader) checkListeners(c *Config) {
	var taken []endpoint.Addr
	add := func(name, text string) (endpoint.Addr, bool) {
		e, err := endpoint.Parse(text)
		if err != nil {
			l.refuse(name, "%v", err)
			return e, false
		}
		if slices.ContainsFunc(taken, e.Overlaps) {
			what := "port"
			if e.Path != "" {
				what = "path"
			}
			l.refuse(name, "%s is taken by another listener of bearerd; choose another %s", display.Quote(text), what)
		}
		taken = append(taken, e)
		return e, true
	}
	for _, text := range c.Listen {
		e, ok := add("BEARERD_LISTEN", text)
		if ok && !e.IsLocal() && !c.AllowNonLoopback && !l.refused("BEARERD_ALLOW_NON_LOOPBACK") {
			l.refuse("BEARERD_LISTEN", "%s can be reached from other machines, which would then speak with this account; "+
				"write localhost, or set BEARERD_ALLOW_NON_LOOPBACK=true and BEARERD_ALLOWED_HOSTS", display.Quote(text))
		}
	}
	if strings.EqualFold(c.AdminListen, "off") {
		c.AdminListen = "off"
	} else {
		add("BEARERD_ADMIN_LISTEN", c.AdminListen)
	}
	_, given := l.origins["BEARERD_SOCKET_MODE"]
	switch {
	case given && !endpoint.HasSocketMode:
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
		if err == nil && c.HeaderSource().IsZero() {
			l.checkName(host)
		}
	}
	for i, text := range c.AllowedOrigins {
		origin, err := parseOrigin(text)
		if err != nil {
			l.refuse("BEARERD_ALLOWED_ORIGINS", "%v", err)
		}
		c.AllowedOrigins[i] = origin
	}
	if source := c.HeaderSource(); !source.IsZero() {
		if _, err := readHeaderRule(source); err != nil {
			l.refuse(SecretSource{Name: RequireHeader, Source: source}.Variable(), "%v", err)
		}
	}
	for i, method := range c.AllowedMethods {
		method = strings.ToUpper(method)
		switch {
		case !isToken(method):
			l.refuse("BEARERD_ALLOWED_METHODS", "%s is not a method; write e.g. GET,HEAD", display.Quote(method))
		case method == "CONNECT" || method == "TRACE":
			l.refuse("BEARERD_ALLOWED_METHODS", "%s is never forwarded; take it out", method)
		}
		c.AllowedMethods[i] = method
	}
	for _, path := range c.AllowedPaths {
		_, err := url.PathUnescape(path)
		switch {
		case !strings.HasPrefix(path, "/"):
			l.refuse("BEARERD_ALLOWED_PATHS", "%s does not begin with /; write e.g. /cpmm/api", display.Quote(path))
		case proxy.Traverses(path):
			l.refuse("BEARERD_ALLOWED_PATHS", "%s has a . or .. segment; write the path it leads to", display.Quote(path))
		case err != nil || strings.ContainsAny(path, "?#\\;"):
			l.refuse("BEARERD_ALLOWED_PATHS", `%s is not a plain path; leave out ?, #, \ and ;, and write %% as %%25`, display.Quote(path))
		}
	}
}

// checkName tells of a listed name that others than this machine may answer for.
// A browser that is led by it to this machine takes what bearerd serves for that
// name's own, and lets a page of it read.
func (l *loader) checkName(host string) {
	const name = "BEARERD_ALLOWED_HOSTS"
	switch _, err := netip.ParseAddr(host); {
	case err == nil || host == "localhost" || strings.HasSuffix(host, ".localhost"):
	case !strings.Contains(host, "."):
		l.note(name, "%s has no dot, as names between containers; keep it out of networks where others could answer for it, or set BEARERD_REQUIRE_HEADER", host)
	default:
		l.warn(name, "whoever answers for %s on a network that this machine joins can have a web page use the account; list it only if you call bearerd by it, and set BEARERD_REQUIRE_HEADER if you can", host)
	}
}
