package proxy

import (
	"net/url"
	"strings"
)

// target knows where requests go and how upstream's own addresses look.
type target struct {
	scheme, host string
	path         string // prefix, decoded, no final slash
	rawPath      string // prefix as it is written, no final slash
	viaProxy     bool   // a plain http upstream behind an HTTP proxy
}

func newTarget(upstream *url.URL, viaProxy bool) target {
	return target{
		scheme:   upstream.Scheme,
		host:     upstream.Host,
		path:     strings.TrimRight(upstream.Path, "/"),
		rawPath:  strings.TrimRight(upstream.EscapedPath(), "/"),
		viaProxy: viaProxy && upstream.Scheme == "http",
	}
}

// url returns the address upstream of a request whose path is decoded, or rawPath
// as it came, with the query that followed a question mark, if there was one: both
// byte for byte behind the prefix. It returns nil for a path that net/http would
// not send unchanged.
func (t target) url(decoded, rawPath, query string, hasQuery bool) *url.URL {
	u := &url.URL{
		Scheme:     t.scheme,
		Host:       t.host,
		Path:       t.path + decoded,
		RawPath:    t.rawPath + rawPath,
		RawQuery:   query,
		ForceQuery: hasQuery && query == "", // "/x?" keeps its question mark
	}
	raw := u.RawPath
	if u.EscapedPath() == raw {
		return u
	}
	// EscapedPath would escape | " ^ { } < > and the backtick. Opaque is sent
	// as it is, but for a value that begins with // it means an authority
	// (net/url: URL.RequestURI).
	u.Path, u.RawPath = "", ""
	switch {
	case t.viaProxy:
		u.Opaque = "//" + t.host + raw // the absolute form an HTTP proxy wants
	case strings.HasPrefix(raw, "//"):
		return nil
	default:
		u.Opaque = raw
	}
	return u
}

// location returns what a Location header of upstream is for bearerd's
// client: a path for an address inside upstream, right through any port
// forward, and loc itself for any other.
func (t target) location(loc string) string {
	u, err := url.Parse(loc)
	if err != nil || u.Opaque != "" || u.User != nil {
		return loc
	}
	// What follows scheme and authority, as it was written.
	rest := loc
	if u.Host == "" {
		// A path by itself is below the prefix or not; one that is relative to
		// the request is right as it is.
		if u.Scheme != "" || !strings.HasPrefix(loc, "/") {
			return loc
		}
	} else {
		scheme := u.Scheme
		if scheme == "" {
			scheme = t.scheme
		}
		if !t.is(scheme, u.Host) {
			return loc
		}
		_, rest, _ = strings.Cut(loc, "//")
		end := strings.IndexAny(rest, "/?#")
		if end < 0 {
			end = len(rest)
		}
		rest = rest[end:]
	}
	end := strings.IndexAny(rest, "?#")
	if end < 0 {
		end = len(rest)
	}
	path, tail := rest[:end], rest[end:]
	if t.rawPath != "" {
		if !under(t.rawPath, path) || Traverses(path) {
			return loc
		}
		path = path[len(t.rawPath):]
	}
	if path == "" {
		path = "/"
	}
	if strings.HasPrefix(path, "//") || strings.Contains(path, `\`) {
		return loc // a client would read it as another host
	}
	return path + tail
}

// is reports whether scheme and host are upstream's. http is as good as https
// there: servers behind a TLS terminator write it.
func (t target) is(scheme, host string) bool {
	scheme = strings.ToLower(scheme)
	if scheme != t.scheme && (scheme != "http" || t.scheme != "https") {
		return false
	}
	theirs, ours := withPort(scheme, host), withPort(t.scheme, t.host)
	return theirs == ours ||
		// http://host of https://host: no port, or the port of https, or 80.
		scheme != t.scheme && theirs == withPort(scheme, strings.TrimSuffix(ours, ":443"))
}

func withPort(scheme, host string) string {
	host = strings.TrimSuffix(strings.ToLower(host), ":")
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		return host
	}
	if scheme == "https" {
		return host + ":443"
	}
	return host + ":80"
}
