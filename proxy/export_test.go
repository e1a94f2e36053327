package proxy

import "net/url"

// Location is what a Location header becomes for a client.
func Location(upstream *url.URL, loc string) string {
	return newTarget(upstream, false).location(loc)
}
