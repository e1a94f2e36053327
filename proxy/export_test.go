package proxy

import "net/url"

// Location is what a Location header becomes for a client.
func Location(upstream *url.URL, loc string) string {
	return newTarget(upstream, false).location(loc)
}

// Traverses is the guard's look at a path.
func Traverses(path string) bool { return traverses(path) }
