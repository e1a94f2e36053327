package proxy

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// guard decides which requests may speak with the user's account.
type guard struct {
	hosts        Hosts
	origins      map[string]bool // of pages that may call
	header       func() HeaderRule
	methods      []string // empty: all
	allow        string   // value of the Allow header
	paths        []string // escaped prefixes without their final slash; empty: all
	noTraversal  bool     // dot segments could leave the prefix or an allowed path
	allowUpgrade bool
}

func newGuard(o Options) *guard {
	g := &guard{
		hosts:        NewHosts(o.Hosts...),
		origins:      make(map[string]bool),
		header:       o.RequireHeader,
		methods:      o.Methods,
		allow:        "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
		noTraversal:  len(o.Paths) > 0 || strings.Trim(o.Upstream.Path, "/") != "",
		allowUpgrade: o.AllowUpgrade,
	}
	if len(o.Methods) > 0 {
		allowed := slices.DeleteFunc(slices.Clone(o.Methods), neverForwarded)
		g.allow = strings.Join(allowed, ", ")
	}
	for _, origin := range o.Origins {
		g.origins[origin] = true
	}
	if g.header == nil {
		g.header = func() HeaderRule { return HeaderRule{} }
	}
	for _, path := range o.Paths {
		g.paths = append(g.paths, strings.TrimSuffix(path, "/"))
	}
	return g
}

// admit returns why whoever sent r may not speak with the account, or nil.
func (g *guard) admit(r *http.Request) *Error {
	// Before Host, which is another's when somebody takes bearerd for a forward
	// proxy: the answer shall say so.
	if neverForwarded(r.Method) {
		return &Error{Code: MethodNotAllowed}
	}
	path, _ := splitTarget(r.RequestURI)
	if !strings.HasPrefix(path, "/") {
		// "GET x:http://other/steal" would go to upstream verbatim, with the
		// token on it (Traefik PR 13796).
		return &Error{Code: BadTarget}
	}
	if !g.hosts.Allow(r.Host) && !overUnix(r) {
		// A page whose name was rebound to loopback sends neither Origin nor
		// Sec-Fetch-Site with a GET: Host is the only sign (CVE-2024-28224).
		return &Error{Code: HostNotAllowed}
	}
	if g.crossSite(r) {
		return &Error{Code: CrossSite}
	}
	return nil
}

// check returns why r, from somebody who is admitted, must not pass, or nil.
func (g *guard) check(r *http.Request) *Error {
	if !g.header().met(r.Header) {
		return &Error{Code: HeaderRequired}
	}
	path, _ := splitTarget(r.RequestURI)
	if len(g.methods) > 0 && !slices.Contains(g.methods, r.Method) {
		return &Error{Code: MethodNotAllowed}
	}
	if g.noTraversal && Traverses(path) {
		return &Error{Code: BadPath}
	}
	if len(g.paths) > 0 && !slices.ContainsFunc(g.paths, func(p string) bool { return under(p, path) }) {
		return &Error{Code: PathNotAllowed}
	}
	if !g.allowUpgrade && upgrades(r.Header) {
		return &Error{Code: UpgradeNotAllowed}
	}
	return nil
}

func neverForwarded(method string) bool {
	return method == http.MethodConnect || method == http.MethodTrace
}

// under reports whether path is prefix or below it, by whole segments. Both
// are compared as they are written: what is escaped in a way that the list
// does not have is not on the list.
func under(prefix, path string) bool {
	rest, ok := strings.CutPrefix(path, prefix)
	return ok && (rest == "" || rest[0] == '/')
}

// Traverses reports whether some server might read path as one with dot
// segments or a NUL byte: at each level of decoding, with / and \ both as
// separators and parameters (";x") cut off (CVE-2025-47952, CVE-2025-66490).
// A ? or # ends a segment too: nginx takes a bare # for the end of the path, and
// reads /a/..# as /.
func Traverses(path string) bool {
	// Nobody needs more levels than these; a path that has them is hiding
	// something, and each level costs a pass.
	const levels = 4
	for range levels {
		for segment := range strings.FieldsFuncSeq(path, func(r rune) bool { return r == '/' || r == '\\' }) {
			if end := strings.IndexAny(segment, ";?#"); end >= 0 {
				segment = segment[:end]
			}
			if segment == "." || segment == ".." {
				return true
			}
		}
		if strings.IndexByte(path, 0) >= 0 {
			return true
		}
		decoded := unescapeLoosely(path)
		if decoded == path {
			return false
		}
		path = decoded
	}
	return true
}

// unescapeLoosely decodes every valid %XX once and leaves the rest.
func unescapeLoosely(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	if u, err := url.PathUnescape(s); err == nil {
		return u
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if u, err := url.PathUnescape(s[i : i+3]); err == nil {
				b.WriteString(u)
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// upgrades reports whether a request asks to switch protocols.
func upgrades(h http.Header) bool { return len(h["Upgrade"]) > 0 }

// dropH2C takes back an offer to switch to cleartext HTTP/2. RFC 9113, 3.1
// has given that up and a server may ignore an Upgrade; some clients (Java's)
// send it with every first request. It must never reach upstream: behind a
// proxy it is a known way to smuggle requests past it.
func dropH2C(h http.Header) {
	delete(h, "Http2-Settings") // without an offer too: it is of one connection
	offers := h["Upgrade"]
	if len(offers) == 0 {
		return
	}
	var others []string
	for offer := range strings.SplitSeq(strings.Join(offers, ","), ",") {
		if offer = strings.TrimSpace(offer); offer != "" && !strings.EqualFold(offer, "h2c") {
			others = append(others, offer)
		}
	}
	delete(h, "Upgrade")
	if others != nil {
		h.Set("Upgrade", strings.Join(others, ", "))
	}
}
