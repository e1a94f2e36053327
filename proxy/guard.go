package proxy

import (
	"net"
	"net/http"
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

// refuseCaller returns why whoever sent r may not speak with the account, or nil.
// path is as it came, without the query; "" where the target is none.
func (g *guard) refuseCaller(r *http.Request, path string) *Error {
	// Before Host, which is another's when somebody takes bearerd for a forward
	// proxy: the answer shall say so.
	if neverForwarded(r.Method) {
		return &Error{Code: MethodNotAllowed}
	}
	if path == "" {
		// "GET x:http://other/steal" would go to upstream verbatim, with the
		// token on it (Traefik PR 13796).
		return &Error{Code: BadTarget}
	}
	if !g.hosts.Allow(r.Host) && !overUnix(r) {
		// A page whose name was rebound to loopback sends neither Origin nor
		// Sec-Fetch-Site with a GET: Host is the only sign (CVE-2024-28224).
		return &Error{Code: HostNotAllowed}
	}
	if crossSite(r, g.origins) {
		return &Error{Code: CrossSite}
	}
	return nil
}

// refuseRequest returns why r, from somebody who may call, must not pass, or nil.
// path is as in refuseCaller.
func (g *guard) refuseRequest(r *http.Request, path string) *Error {
	if !g.header().met(r.Header) {
		return &Error{Code: HeaderRequired}
	}
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

// overUnix reports whether r came through a unix socket: who may connect is the
// file system's to say, and no page can.
func overUnix(r *http.Request) bool {
	at, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return ok && at.Network() == "unix"
}
