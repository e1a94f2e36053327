package main

import (
	"encoding/json"
	"net/http"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

	"github.com/bearerd/bearerd/tokens"
)

// admin is what the admin listener answers from.
type admin struct {
	status   func() tokens.Status
	stopping func() bool
	metrics  http.Handler
}

// handler answers any Host: kubelet and Prometheus send the pod's address, and
// nothing here can be changed or used.
func (a admin) handler() http.Handler {
	r := chi.NewRouter()
	r.Use(middleware.GetHead)
	r.Get("/livez", func(w http.ResponseWriter, _ *http.Request) { answerProbe(w, "") })
	r.Get("/startupz", func(w http.ResponseWriter, _ *http.Request) {
		if !a.status().LoggedInOnce {
			answerProbe(w, "no login has succeeded yet")
			return
		}
		answerProbe(w, "")
	})
	r.Get("/readyz", func(w http.ResponseWriter, _ *http.Request) { answerProbe(w, a.notReady()) })
	r.Method(http.MethodGet, "/metrics", a.metrics)
	return r
}

// notReady returns why requests cannot be served, or "".
func (a admin) notReady() string {
	st := a.status()
	switch {
	case a.stopping():
		return "stopping"
	case st.Ready():
		return ""
	case st.Stopped:
		return "logins stopped: the credentials were refused and never worked"
	case st.LastResult == "":
		return "the first login is under way"
	default:
		return "login " + string(st.LastResult) + ": " + st.Cause
	}
}

// answerProbe answers 200, or 503 with the reason why not.
func answerProbe(w http.ResponseWriter, reason string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	body := struct {
		OK     bool   `json:"ok"`
		Reason string `json:"reason,omitempty"`
	}{reason == "", reason}
	if reason != "" {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(body) // the prober may have gone
}
