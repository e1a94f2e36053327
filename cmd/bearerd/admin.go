package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/bearerd/bearerd/proxy"
	"github.com/bearerd/bearerd/tokens"
)

// admin is what the admin listener answers from.
type admin struct {
	status   func() tokens.Status
	stopping func() bool
	page     func() statusPage // of /status
	metrics  http.Handler
	hosts    proxy.Hosts // for what does not answer any Host
	logIn    func()
	quit     func() // begins a clean stop; nil: not allowed
	asked    bool   // as in loginFailure
}

// handler has three kinds of paths. Probes and metrics answer any Host: kubelet
// and Prometheus send the pod's address, and nothing there can be changed or
// used. /status tells more, so a page whose name was rebound to this machine
// must not read it. What changes something is for programs of this machine.
func (a admin) handler() http.Handler {
	r := chi.NewRouter()
	r.Use(adminHeaders)
	// Not chi's GetHead: its answer to other methods would not name HEAD.
	get := func(r chi.Router, path string, h http.HandlerFunc) {
		r.Get(path, h)
		r.Head(path, h)
	}
	get(r, "/livez", func(w http.ResponseWriter, _ *http.Request) { writeAnswer(w, http.StatusOK, answer{OK: true}) })
	get(r, "/startupz", a.startupz)
	get(r, "/readyz", a.readyz)
	get(r, "/metrics", a.metrics.ServeHTTP)
	get(r.With(a.ownHost), "/status", a.showStatus)
	local := r.With(ownMachine, a.ownHost, ownOrigin)
	local.Post("/login", a.postLogin)
	local.Post("/quitquitquit", a.postQuit)
	r.NotFound(notFound(r))
	r.MethodNotAllowed(methodNotAllowed(r))
	return r
}

// adminHeaders are those of every answer.
func adminHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if r.ContentLength != 0 {
			// Nothing here reads a body, and net/http would wait for it before it
			// sends the answer.
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// answer is what the admin listener says, other than /metrics and /status.
type answer struct {
	OK        bool      `json:"ok"`
	Reason    string    `json:"reason,omitempty"` // why not
	Since     time.Time `json:"since,omitzero"`
	NextLogin time.Time `json:"next_login,omitzero"`
	Remedy    string    `json:"remedy,omitempty"`
	Detail    string    `json:"detail,omitempty"` // what happens now
	Paths     []string  `json:"paths,omitempty"`
}

func writeAnswer(w http.ResponseWriter, status int, a answer) { writeJSON(w, status, a, "") }

// writeJSON answers with body, whole: with its length told, who has read that
// much knows that no more comes.
func writeJSON(w http.ResponseWriter, status int, body any, indent string) {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false) // it is read on terminals
	e.SetIndent("", indent)
	if err := e.Encode(body); err != nil {
		panic(err) // our own types
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(text.Len()))
	w.WriteHeader(status)
	_, _ = w.Write(text.Bytes()) // the client may have gone
}

func (a admin) startupz(w http.ResponseWriter, _ *http.Request) {
	st := a.status()
	if st.LoggedInOnce {
		writeAnswer(w, http.StatusOK, answer{OK: true})
		return
	}
	a.writeProbe(w, st)
}

func (a admin) readyz(w http.ResponseWriter, _ *http.Request) { a.writeProbe(w, a.status()) }

// writeProbe answers 200 when bearerd is ready, or 503 with the reason why not
// and what is known of its end.
func (a admin) writeProbe(w http.ResponseWriter, st tokens.Status) {
	stopping := a.stopping()
	reason := notReady(st, stopping)
	if reason == "" {
		writeAnswer(w, http.StatusOK, answer{OK: true})
		return
	}
	p := answer{Reason: reason}
	if !stopping {
		p.Since, p.NextLogin = utc(st.FailingSince), utc(st.NextLogin)
		p.Remedy = adviceFor(st, a.asked)
	}
	writeAnswer(w, http.StatusServiceUnavailable, p)
}

// notReady returns why requests cannot be served, or "".
func notReady(st tokens.Status, stopping bool) string {
	switch {
	case stopping:
		return "stopping"
	case st.Ready():
		return ""
	case st.Waiting:
		return st.Cause // "waiting for the password file …"
	case st.Stopped:
		return fmt.Sprintf("logins stopped after %d refusals (%s)", st.Rejections, st.Cause)
	case st.LastResult == tokens.Rejected:
		return fmt.Sprintf("the login server refuses the credentials (%s)", st.Cause)
	case st.LastResult == tokens.Throttled:
		return fmt.Sprintf("the login server asks to be left alone for a while (%s)", st.Cause)
	case st.LastResult == "":
		return "the first login is under way"
	default:
		return fmt.Sprintf("no token from the login server (%s)", st.Cause)
	}
}

func (a admin) showStatus(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, a.page(), "  ") // people curl it
}

func (a admin) postLogin(w http.ResponseWriter, _ *http.Request) {
	a.logIn()
	st := a.status()
	detail := "logging in; /readyz and /status say what comes of it"
	if !st.LoggingIn && time.Until(st.NextLogin) > 0 {
		// Or it has ended already.
		writeAnswer(w, http.StatusAccepted, answer{OK: true, NextLogin: utc(st.NextLogin), Detail: detail})
		return
	}
	writeAnswer(w, http.StatusAccepted, answer{OK: true, Detail: detail})
}

func (a admin) postQuit(w http.ResponseWriter, _ *http.Request) {
	if a.quit == nil {
		writeAnswer(w, http.StatusForbidden, answer{
			Reason: "BEARERD_ALLOW_QUIT is not set",
			Remedy: "start bearerd with BEARERD_ALLOW_QUIT=true to let POST /quitquitquit end it, or send it SIGTERM",
		})
		return
	}
	writeAnswer(w, http.StatusAccepted, answer{OK: true, Detail: "stopping"})
	// The end of the process must not overtake the answer.
	_ = http.NewResponseController(w).Flush() // who asked may have gone; that asked for a stop all the same
	a.quit()
}

// ownMachine refuses who asks from another machine, wherever the listener is
// bound.
func ownMachine(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !fromHere(r) {
			writeAnswer(w, http.StatusForbidden, answer{
				Reason: "this is for the machine, or the pod, that bearerd runs on, and the request came from another address than its loopback",
				Remedy: "ask there, by a loopback address such as http://localhost:9180, or through kubectl port-forward or an SSH tunnel",
			})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// fromHere reports whether r came over a unix socket or from loopback. What a
// header says of the peer does not count.
func fromHere(r *http.Request) bool {
	if at, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok && at.Network() == "unix" {
		return true
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && peer.Addr().IsLoopback() // an IPv4-mapped one too
}

// ownHost refuses names that are not on the list: a page whose name was rebound
// to this machine is of the same origin for its browser, and Host is the only
// sign.
func (a admin) ownHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !a.hosts.Allow(r.Host) {
			writeAnswer(w, http.StatusMisdirectedRequest, answer{
				Reason: "the Host header names neither this machine nor a host in BEARERD_ALLOWED_HOSTS",
				Remedy: "ask by a name of this machine such as localhost, or list the host in BEARERD_ALLOWED_HOSTS if it is yours",
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

func notFound(r chi.Routes) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		var paths []string
		for _, route := range r.Routes() {
			method := http.MethodGet
			if route.Handlers[method] == nil {
				method = http.MethodPost
			}
			paths = append(paths, method+" "+route.Pattern)
		}
		slices.Sort(paths)
		writeAnswer(w, http.StatusNotFound, answer{
			Reason: "there is nothing at this path of the admin listener; what upstream has is on the data listener",
			Paths:  paths,
		})
	}
}

func methodNotAllowed(r chi.Routes) http.HandlerFunc {
	missing := notFound(r)
	return func(w http.ResponseWriter, req *http.Request) {
		var allowed []string
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost} {
			if r.Match(chi.NewRouteContext(), method, req.URL.Path) {
				allowed = append(allowed, method)
			}
		}
		if len(allowed) == 0 { // a method that chi does not know, before it looks at the path
			missing(w, req)
			return
		}
		allow := strings.Join(allowed, ", ")
		w.Header().Set("Allow", allow)
		writeAnswer(w, http.StatusMethodNotAllowed, answer{Reason: "the method of this path is " + strings.Join(allowed, " or ")})
	}
}

// utc is a time as the admin listener shows it. Zero stays zero.
func utc(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }
