package proxy

import (
	"net/http"
	"strings"

	"github.com/go-chi/cors"
)

// A web page that somebody opens may send requests to this port. What its
// browser says of that decides; programs send neither header. http's own
// CrossOriginProtection is not enough: it lets every GET, HEAD and OPTIONS pass.

// crossSite reports whether r comes from a web page that may not call: one of
// another origin that is not listed.
func crossSite(r *http.Request, listed map[string]bool) bool {
	origin, site := r.Header["Origin"], r.Header["Sec-Fetch-Site"]
	switch {
	case len(origin) > 1 || len(site) > 1: // no browser sends two
		return true
	case len(origin) == 1 && listed[origin[0]]:
		return false
	case len(origin) == 1 && !strings.EqualFold(origin[0], "http://"+r.Host):
		return true // "null" too, that of a sandboxed frame or a file
	case len(site) == 1:
		// same-site is another port of localhost: any other program's pages.
		return site[0] != "none" && site[0] != "same-origin"
	}
	return false
}

// isPreflight reports whether a browser asks whether it may ask (Fetch
// standard, "CORS-preflight request").
func isPreflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && len(r.Header["Origin"]) > 0 && r.Header.Get("Access-Control-Request-Method") != ""
}

// newCORS answers preflights, and lets pages of listed origins read what they
// get. It must come behind the guard: of others it says nothing. methods is a
// value of the Allow header.
func newCORS(listed map[string]bool, methods string) *cors.Cors {
	return cors.New(cors.Options{
		// Not AllowedOrigins: there an asterisk is a wildcard.
		AllowOriginFunc: func(_ *http.Request, origin string) bool { return listed[origin] },
		AllowedMethods:  strings.Split(methods, ", "),
		AllowedHeaders:  []string{"*"}, // who is listed may send what a program may
		ExposedHeaders:  []string{"*"},
		MaxAge:          600, // seconds
	})
}
