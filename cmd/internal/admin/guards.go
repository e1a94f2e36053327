package admin

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// ownMachine refuses who asks from another machine, wherever the listener is
// bound.
func ownMachine(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !FromHere(r) {
			writeAnswer(w, http.StatusForbidden, answer{
				Reason: "this is for the machine, or the pod, that bearerd runs on, and the request came from another address than its loopback",
				Remedy: "ask there, by a loopback address such as http://localhost:9180, or through kubectl port-forward or an SSH tunnel",
			})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// FromHere reports whether r came over a unix socket or from loopback. What a
// header says of the peer does not count.
func FromHere(r *http.Request) bool {
	if overUnix(r) {
		return true
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && peer.Addr().IsLoopback() // an IPv4-mapped one too
}

// overUnix reports whether r came over a unix socket, where no web page comes from.
func overUnix(r *http.Request) bool {
	at, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return ok && at.Network() == "unix"
}

// ownHost refuses names that are not on the list: a page whose name was rebound
// to this machine is of the same origin for its browser, and Host is the only
// sign.
func (a Facts) ownHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !a.Hosts.Allow(r.Host) {
			writeAnswer(w, http.StatusMisdirectedRequest, answer{
				Reason: "the Host header names neither this machine nor a host in BEARERD_ALLOWED_HOSTS",
				Remedy: "ask by a name of this machine such as localhost, or list the host in BEARERD_ALLOWED_HOSTS if it is yours " +
					"(BEARERD_ALLOWED_HOSTS=host.docker.internal for the containers of Docker Desktop)",
			})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// ownOrigin refuses what a web page sends, unless it is one of this very
// listener. Programs send neither header. That a browser asks first where a
// request is not simple is no help: a POST without a body is simple.
func ownOrigin(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var header string
		origin, site := r.Header["Origin"], r.Header["Sec-Fetch-Site"]
		switch {
		case len(origin) > 1 || len(origin) == 1 && !strings.EqualFold(origin[0], "http://"+r.Host):
			header = "Origin"
		case len(site) > 1 || len(site) == 1 && site[0] != "none" && site[0] != "same-origin":
			header = "Sec-Fetch-Site"
		default:
			next.ServeHTTP(w, r)
			return
		}
		writeAnswer(w, http.StatusForbidden, answer{
			Reason: "the request comes from a web page of another origin, says its header " + header,
			Remedy: "ask with a program that is no browser, such as curl, without an Origin header",
		})
	})
}

// ownPages is ownOrigin for what a person may be led to by a link on another
// site: of what is opened so, in a tab of its own, that site reads nothing.
func ownPages(next http.Handler) http.Handler {
	strict := ownOrigin(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" && len(r.Header["Origin"]) == 0 &&
			r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Sec-Fetch-Dest") == "document" {
			next.ServeHTTP(w, r)
			return
		}
		strict.ServeHTTP(w, r)
	})
}
