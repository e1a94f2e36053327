package proxy

import "net/url"

// Location is what a Location header becomes for a client.
func Location(upstream *url.URL, loc string) string {
	return newTarget(upstream, false).location(loc)
}

// Link is what a Link header becomes for a client.
func Link(upstream *url.URL, value string) string { return newTarget(upstream, false).link(value) }

// Cookie is what a Set-Cookie header becomes for a client, who came by TLS where
// secure says so.
func Cookie(upstream *url.URL, value string, secure bool) string {
	return newTarget(upstream, false).cookie(value, secure)
}

// GoAway is what a client of HTTP/2 with prior knowledge gets.
const GoAway = goAway

// ErrUnwanted ends a dial whose place another dial of the same request has taken.
var ErrUnwanted = errUnwanted
