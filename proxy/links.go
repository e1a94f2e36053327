package proxy

import (
	"strings"
)

// What upstream says of its own paths in an answer's header, for bearerd's
// client. target.location has the rule for one address; here are the fields that
// hold addresses among other things. What is not understood stays as it came.

// link returns a Link header (RFC 8288) with each target, and each anchor, as
// location has it.
func (t target) link(value string) string {
	var b strings.Builder
	rest := value
	for {
		// Before a target there is nothing but commas and spaces.
		begin := len(rest) - len(strings.TrimLeft(rest, ", \t"))
		if begin == len(rest) || rest[begin] != '<' {
			break
		}
		end := strings.IndexByte(rest, '>')
		if end < 0 {
			break
		}
		b.WriteString(rest[:begin+1])
		b.WriteString(t.trimmed(rest[begin+1 : end]))
		params := linkParams(rest[end:])
		b.WriteString(t.anchors(rest[end : end+params]))
		rest = rest[end+params:]
	}
	b.WriteString(rest)
	return b.String()
}

// trimmed is location for an address that may have spaces about it.
func (t target) trimmed(address string) string {
	bare := strings.Trim(address, " \t")
	if mapped := t.location(bare); mapped != bare {
		return mapped
	}
	return address
}

// linkParams returns the length of a target's parameters: up to the comma that
// is in no quoted string, or the end.
func linkParams(s string) int {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case c == ',' && !quoted:
			return i
		}
	}
	return len(s)
}

// anchors returns a target's parameters with the value of anchor, which is an
// address too, as location has it: of a link whose anchor is not where it was
// found a client may think that it is not about that.
func (t target) anchors(params string) string {
	var b strings.Builder
	for params != "" {
		// A parameter reaches to the next semicolon that is in no quoted string.
		end, quoted := len(params), false
	param:
		for i := 1; i < len(params); i++ {
			switch c := params[i]; {
			case quoted && c == '\\':
				i++
			case c == '"':
				quoted = !quoted
			case c == ';' && !quoted:
				end = i
				break param
			}
		}
		param := params[:end]
		params = params[end:]
		name, value, ok := strings.Cut(param, "=")
		if value = strings.Trim(value, " \t"); ok && strings.EqualFold(strings.Trim(name, "; \t"), "anchor") {
			bare := value
			if len(bare) >= 2 && bare[0] == '"' && bare[len(bare)-1] == '"' && !strings.Contains(bare, `\`) {
				bare = bare[1 : len(bare)-1]
			}
			if mapped := t.location(bare); mapped != bare && !strings.Contains(bare, `"`) {
				param = name + `="` + mapped + `"`
			}
		}
		b.WriteString(param)
	}
	return b.String()
}

// cookie returns a Set-Cookie header (RFC 6265) as it must be for a client that
// asks bearerd: Path without upstream's prefix; no Domain that is upstream's; and
// no Secure, nor what goes with it only, where the client came by http.
func (t target) cookie(value string, secure bool) string {
	pair, attributes, ok := strings.Cut(value, ";")
	if !ok {
		return value
	}
	var b strings.Builder
	b.WriteString(pair)
	// By these names a cookie without Secure is none.
	name, _, _ := strings.Cut(strings.TrimLeft(pair, " \t"), "=")
	name = strings.ToLower(name)
	bare := !secure && !strings.HasPrefix(name, "__secure-") && !strings.HasPrefix(name, "__host-") && hasSecure(attributes)
	for attribute := range strings.SplitSeq(attributes, ";") {
		name, value, _ := strings.Cut(attribute, "=")
		value = strings.Trim(value, " \t")
		switch strings.ToLower(strings.Trim(name, " \t")) {
		case "path":
			if path := t.cookiePath(value); path != value {
				attribute = " Path=" + path
			}
		case "domain":
			if t.isIn(value) {
				continue
			}
		case "secure", "partitioned":
			if bare {
				continue
			}
		case "samesite":
			if bare && strings.EqualFold(value, "none") {
				continue
			}
		}
		b.WriteString(";")
		b.WriteString(attribute)
	}
	return b.String()
}

func hasSecure(attributes string) bool {
	for attribute := range strings.SplitSeq(attributes, ";") {
		name, _, _ := strings.Cut(attribute, "=")
		if strings.EqualFold(strings.Trim(name, " \t"), "secure") {
			return true
		}
	}
	return false
}

// cookiePath is a cookie's Path for bearerd's client. One above the prefix is
// all of bearerd.
func (t target) cookiePath(path string) string {
	switch {
	case t.rawPath == "" || !strings.HasPrefix(path, "/"):
		return path
	case under(t.rawPath, path):
		path = path[len(t.rawPath):]
	case under(strings.TrimRight(path, "/"), t.rawPath):
		path = ""
	}
	if path == "" {
		return "/"
	}
	return path
}

// isIn reports whether a cookie for domain is sent to upstream's host
// (RFC 6265, 5.1.3).
func (t target) isIn(domain string) bool {
	domain = strings.TrimPrefix(strings.ToLower(domain), ".")
	host := strings.ToLower(withoutPort(t.host))
	return domain != "" && (host == domain || strings.HasSuffix(host, "."+domain))
}

// withoutPort is a URL's host without its port, and without an IPv6 address's
// brackets.
func withoutPort(host string) string {
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		host = host[:i]
	}
	return strings.Trim(host, "[]")
}
