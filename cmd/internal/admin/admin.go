// Package admin answers on the admin listener: probes, status, metrics, and what an
// operator may ask for. It is given facts, and does not know the service that they
// are of.
package admin

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/bearerd/bearerd/cmd/internal/advice"
	"github.com/bearerd/bearerd/proxy"
	"github.com/bearerd/bearerd/tokens"
)

// Facts is what the admin listener answers from.
type Facts struct {
	Status   func() tokens.Status
	Stopping func() bool
	Page     func() Status // of /status
	Metrics  http.Handler
	Hosts    proxy.Hosts // for what does not answer any Host
	LogIn    func()
	Quit     func() // begins a clean stop; nil: not allowed
	Way      advice.Way
	People   http.Handler // the page for people, at / and below /page/; nil: none
}

// Handler has three kinds of paths. Probes and metrics answer any Host: kubelet
// and Prometheus send the pod's address, and nothing there can be changed or
// used. /status tells more, so a page whose name was rebound to this machine
// must not read it. What changes something is for programs of this machine.
func (a Facts) Handler() http.Handler {
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
	get(r, "/metrics", a.Metrics.ServeHTTP)
	get(r.With(a.ownHost), "/status", a.showStatus)
	if a.People != nil {
		people := r.With(a.ownHost, ownPages)
		for _, path := range []string{"/", page + "events", page + "style.css", page + "script.js", page + "icon.svg"} {
			get(people, path, a.People.ServeHTTP)
		}
	}
	local := r.With(ownMachine, a.ownHost, ownOrigin)
	local.Post("/login", a.postLogin)
	local.Post("/quitquitquit", a.postQuit)
	r.NotFound(notFound(r))
	r.MethodNotAllowed(methodNotAllowed(r))
	return r
}

// page is where the files of the page for people are.
const page = "/page/"

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

func (a Facts) startupz(w http.ResponseWriter, r *http.Request) {
	st := a.Status()
	if st.LoggedInOnce {
		writeAnswer(w, http.StatusOK, answer{OK: true})
		return
	}
	a.writeProbe(w, r, st)
}

func (a Facts) readyz(w http.ResponseWriter, r *http.Request) { a.writeProbe(w, r, a.Status()) }

// writeProbe answers 200 when bearerd is ready, or 503 with the reason why not
// and what is known of its end. A Host that is not allowed gets no more than a
// code and the kind of remedy: a page whose name was rebound to this machine could
// read files' and servers' names there.
func (a Facts) writeProbe(w http.ResponseWriter, r *http.Request, st tokens.Status) {
	stopping := a.Stopping()
	reason := advice.NotReady(st, stopping)
	if reason == "" {
		writeAnswer(w, http.StatusOK, answer{OK: true})
		return
	}
	if !a.Hosts.Allow(r.Host) && !overUnix(r) {
		p := answer{Reason: "stopping"}
		if !stopping {
			p.Reason, p.Remedy = advice.NotReadyCode(st)
			p.Detail = askByName
		}
		writeAnswer(w, http.StatusServiceUnavailable, p)
		return
	}
	p := answer{Reason: reason}
	if !stopping {
		p.Since, p.NextLogin = UTC(st.FailingSince), UTC(st.NextLogin)
		p.Remedy = advice.For(st, a.Way)
	}
	writeAnswer(w, http.StatusServiceUnavailable, p)
}

const askByName = "ask by localhost, as through kubectl port-forward, or by a host in BEARERD_ALLOWED_HOSTS, for the cause"

func (a Facts) showStatus(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, a.Page(), "  ") // people curl it
}

func (a Facts) postLogin(w http.ResponseWriter, r *http.Request) {
	a.LogIn()
	if strings.Contains(r.Header.Get("Accept"), "text/html") {
		// The form of the page for people, in a browser without JavaScript.
		w.Header().Set("Location", "/")
		w.WriteHeader(http.StatusSeeOther)
		return
	}
	st := a.Status()
	detail := "logging in; /readyz and /status say what comes of it"
	if !st.LoggingIn && time.Until(st.NextLogin) > 0 {
		// Or it has ended already.
		writeAnswer(w, http.StatusAccepted, answer{OK: true, NextLogin: UTC(st.NextLogin), Detail: detail})
		return
	}
	writeAnswer(w, http.StatusAccepted, answer{OK: true, Detail: detail})
}

func (a Facts) postQuit(w http.ResponseWriter, _ *http.Request) {
	if a.Quit == nil {
		writeAnswer(w, http.StatusForbidden, answer{
			Reason: "BEARERD_ALLOW_QUIT is not set",
			Remedy: "start bearerd with BEARERD_ALLOW_QUIT=true to let POST /quitquitquit end it, or send it SIGTERM",
		})
		return
	}
	writeAnswer(w, http.StatusAccepted, answer{OK: true, Detail: "stopping"})
	// The end of the process must not overtake the answer.
	_ = http.NewResponseController(w).Flush() // who asked may have gone; that asked for a stop all the same
	a.Quit()
}

func notFound(r chi.Routes) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		var paths []string
		for _, route := range r.Routes() {
			if strings.HasPrefix(route.Pattern, page) {
				continue
			}
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

// UTC is a time as the admin listener shows it. Zero stays zero.
func UTC(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }
