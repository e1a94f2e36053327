package proxy

import (
	"crypto/subtle"
	"net"
	"net/http"
	"strings"

	"github.com/go-chi/cors"
)

// A web page that somebody opens may send requests to this port. What its
// browser says of that decides; programs send neither header. http's own
// CrossOriginProtection is not enough: it lets every GET, HEAD and OPTIONS pass.

// crossSite reports whether r comes from a web page that may not call: one of
// another origin that is not on the list.
func (g *guard) crossSite(r *http.Request) bool {
	origin, site := r.Header["Origin"], r.Header["Sec-Fetch-Site"]
	switch {
	case len(origin) > 1 || len(site) > 1: // no browser sends two
		return true
	case len(origin) == 1 && g.origins[origin[0]]:
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
// get. It must come behind the guard: of others it says nothing.
func newCORS(g *guard) *cors.Cors {
	return cors.New(cors.Options{
		// Not AllowedOrigins: there an asterisk is a wildcard.
		AllowOriginFunc: func(_ *http.Request, origin string) bool { return g.origins[origin] },
		AllowedMethods:  strings.Split(g.allow, ", "),
		AllowedHeaders:  []string{"*"}, // who is listed may send what a program may
		ExposedHeaders:  []string{"*"},
		MaxAge:          600, // seconds
	})
}

// HeaderRule is a header that callers must send. The zero value asks for none.
type HeaderRule struct {
	Name  string // canonical, as of [http.CanonicalHeaderKey]
	Value string // a secret
}

// met reports whether h has the header, once and with the right value. It takes
// the same time for any wrong value of the right length.
func (rule HeaderRule) met(h http.Header) bool {
	if rule.Name == "" {
		return true
	}
	values := h[rule.Name]
	return len(values) == 1 && subtle.ConstantTimeCompare([]byte(values[0]), []byte(rule.Value)) == 1
}

// overUnix reports whether r came through a unix socket: who may connect is the
// file system's to say, and no page can.
func overUnix(r *http.Request) bool {
	at, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return ok && at.Network() == "unix"
}
