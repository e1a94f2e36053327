package querysim_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

// setFaults replaces the faults of r.
func (r rig) setFaults(f querysim.Faults) {
	r.t.Helper()
	if err := r.sim.SetFaults(f); err != nil {
		r.t.Fatal(err)
	}
}

func (w wire) json(t testing.TB) (object map[string]any) {
	t.Helper()
	if err := json.Unmarshal([]byte(w.body), &object); err != nil || w.err != nil {
		t.Fatalf("body %q: %v, %v", w.body, err, w.err)
	}
	return object
}

// claimsOf checks the token of a good answer, that the Query Service takes it
// too, and returns its claims.
func (r rig) claimsOf(w wire) map[string]any {
	r.t.Helper()
	token, _ := w.json(r.t)["access_token"].(string)
	_, claims := parts(r.t, token, r.sim.PublicKey())
	if got := r.ask(token, "GET", namesPath); got.status != 200 {
		r.t.Errorf("query with the token: got %d, want 200", got.status)
	}
	return claims
}

// loginFaultTests sees each fault on the wire. count is the one of Stats that
// it raises.
var loginFaultTests = map[querysim.LoginFault]struct {
	count string
	check func(t *testing.T, r rig, w wire)
}{
	querysim.LoginDown: {"unavailable", func(t *testing.T, r rig, w wire) {
		w.checkPage(t, 503)
		w.checkRetryAfter(t, "")
	}},
	querysim.LoginStatus: {"unavailable", func(t *testing.T, r rig, w wire) {
		if w.status != 500 || w.json(t)["error"] != "unknown_error" {
			t.Errorf("got %d %s, want 500", w.status, w.body)
		}
	}},
	querysim.LoginTooMany: {"refused", func(t *testing.T, r rig, w wire) {
		w.checkStatus(t, 429)
		w.checkRetryAfter(t, "30")
	}},
	querysim.LoginTooManyDate: {"refused", func(t *testing.T, r rig, w wire) {
		w.checkStatus(t, 429)
		w.checkRetryAfter(t, "Wed, 04 Mar 2026 05:06:37 GMT")
	}},
	querysim.LoginBusy: {"unavailable", func(t *testing.T, r rig, w wire) {
		w.checkStatus(t, 503)
		w.checkRetryAfter(t, "30")
	}},
	querysim.LoginBusyDate: {"unavailable", func(t *testing.T, r rig, w wire) {
		w.checkStatus(t, 503)
		w.checkRetryAfter(t, "Wed, 04 Mar 2026 05:06:37 GMT")
	}},
	querysim.LoginHTML:     {"faulty", func(t *testing.T, r rig, w wire) { w.checkPage(t, 200) }},
	querysim.LoginFirewall: {"refused", func(t *testing.T, r rig, w wire) { w.checkPage(t, 403) }},
	querysim.LoginLater: {"refused", func(t *testing.T, r rig, w wire) {
		w.checkStatus(t, 400)
		w.checkRetryAfter(t, "30")
		if w.json(t)["error"] != "temporarily_unavailable" {
			t.Errorf("got %s", w.body)
		}
	}},
	querysim.LoginBare: {"refused", func(t *testing.T, r rig, w wire) {
		w.checkStatus(t, 403)
		if w.body != "" || w.header.Get("Content-Type") != "" {
			t.Errorf("got %q %q, want nothing", w.header.Get("Content-Type"), w.body)
		}
	}},
	querysim.LoginRedirect: {"faulty", func(t *testing.T, r rig, w wire) {
		w.checkStatus(t, 307)
		if got := w.header.Get("Location"); got != "https://elsewhere.invalid/token" {
			t.Errorf("Location: got %q", got)
		}
	}},
	querysim.LoginReset: {"faulty", func(t *testing.T, r rig, w wire) {
		if w.status != 0 || w.err == nil {
			t.Errorf("got %d, %v, want a reset", w.status, w.err)
		}
	}},
	querysim.LoginRejected: {"refused", func(t *testing.T, r rig, w wire) {
		if w.status != 401 || w.json(t)["error"] != "invalid_grant" {
			t.Errorf("got %d %s, want 401 invalid_grant", w.status, w.body)
		}
	}},
	querysim.LoginCut: {"faulty", func(t *testing.T, r rig, w wire) {
		w.checkStatus(t, 200)
		announced, _ := strconv.Atoi(w.header.Get("Content-Length"))
		if !errors.Is(w.err, io.ErrUnexpectedEOF) || announced <= len(w.body) || len(w.body) == 0 {
			t.Errorf("got %d of %d bytes, %v, want a part", len(w.body), announced, w.err)
		}
	}},
	querysim.LoginTruncated: {"faulty", func(t *testing.T, r rig, w wire) {
		w.checkStatus(t, 200)
		if w.err != nil || w.header.Get("Content-Length") != strconv.Itoa(len(w.body)) || !strings.HasPrefix(w.body, `{"access_token":"`) || json.Valid([]byte(w.body)) {
			t.Errorf("got %q, %v, want a part of JSON, whole as a body", w.body, w.err)
		}
	}},
	querysim.LoginErrorMember: {"faulty", func(t *testing.T, r rig, w wire) {
		w.checkStatus(t, 200)
		r.claimsOf(w)
		if w.json(t)["error"] != "server_error" {
			t.Errorf("got %s, want an error member", w.body)
		}
	}},
	querysim.LoginEmptyError: {"ok", func(t *testing.T, r rig, w wire) {
		w.checkStatus(t, 200)
		r.claimsOf(w)
		if got, ok := w.json(t)["error"]; !ok || got != "" {
			t.Errorf("got %s, want an empty error", w.body)
		}
	}},
	querysim.LoginCreated: {"ok", func(t *testing.T, r rig, w wire) {
		w.checkStatus(t, 201)
		r.claimsOf(w)
	}},
	querysim.LoginNoExpiresIn: {"ok", func(t *testing.T, r rig, w wire) {
		w.checkExpiresIn(t, nil)
		if c := r.claimsOf(w); c["iat"] == nil || c["exp"] == nil {
			t.Errorf("claims: got %v, want iat and exp", c)
		}
	}},
	querysim.LoginTextExpiresIn: {"ok", func(t *testing.T, r rig, w wire) {
		w.checkExpiresIn(t, "300")
		r.claimsOf(w)
	}},
	querysim.LoginNoIssuedAt: {"ok", func(t *testing.T, r rig, w wire) {
		w.checkExpiresIn(t, nil)
		c := r.claimsOf(w)
		if _, ok := c["iat"]; ok || c["exp"] == nil {
			t.Errorf("claims: got %v, want exp and no iat", c)
		}
	}},
	querysim.LoginOpaque: {"ok", func(t *testing.T, r rig, w wire) {
		w.checkExpiresIn(t, nil)
		token, _ := w.json(t)["access_token"].(string)
		if token == "" || strings.Contains(token, ".") {
			t.Errorf("token %q: want one that is no JWT", token)
		}
		if got := r.ask(token, "GET", namesPath); got.status != 200 {
			t.Errorf("query: got %d, want 200", got.status)
		}
		checkUnauthorized(t, r.ask(token+"x", "GET", namesPath), "."+token)
		r.sim.Revoke()
		checkUnauthorized(t, r.ask(token, "GET", namesPath), "."+token)
	}},
	querysim.LoginSameToken: {"ok", func(t *testing.T, r rig, w wire) {
		w.checkExpiresIn(t, 300.0) // its own test tells the rest
		r.claimsOf(w)
	}},
}

func (w wire) checkStatus(t *testing.T, want int) {
	t.Helper()
	if w.status != want {
		t.Errorf("got %d %s, want %d", w.status, w.body, want)
	}
}

func (w wire) checkPage(t *testing.T, status int) {
	t.Helper()
	w.checkStatus(t, status)
	if w.err != nil || w.header.Get("Content-Type") != "text/html" || !strings.Contains(w.body, "<html>") {
		t.Errorf("got %v %q, want an HTML page", w.header, w.body)
	}
}

func (w wire) checkRetryAfter(t *testing.T, want string) {
	t.Helper()
	if got := w.header.Get("Retry-After"); got != want {
		t.Errorf("Retry-After: got %q, want %q", got, want)
	}
}

func (w wire) checkExpiresIn(t *testing.T, want any) {
	t.Helper()
	if got := w.json(t)["expires_in"]; w.status != 200 || got != want {
		t.Errorf("expires_in: got %v, want %v", got, want)
	}
}

func TestLoginFaults(t *testing.T) {
	for fault := range loginFaultTests {
		if !slices.Contains(querysim.LoginFaults(), fault) {
			t.Errorf("loginFaultTests has %s, which is no fault", fault)
		}
	}
	for _, fault := range querysim.LoginFaults() {
		t.Run(string(fault), func(t *testing.T) {
			tt, ok := loginFaultTests[fault]
			if !ok {
				t.Fatal("it has no row in loginFaultTests")
			}
			if fault.Meaning() == "" {
				t.Error("it has no meaning")
			}
			events := make(chan querysim.Event, 10)
			r := newRig(t, querysim.Options{Now: newClock().Now, OnEvent: func(e querysim.Event) { events <- e }})
			r.setFaults(querysim.Faults{Login: fault, LoginNext: 1})
			w := exchange(t, vyoptaAttempt().request(t, r.login))
			s := r.sim.Stats()
			tt.check(t, r, w)
			got := map[string]int{"ok": s.LoginsOK, "refused": s.LoginsRefused, "unavailable": s.LoginsUnavailable, "faulty": s.LoginsFaulty}
			if s.Logins != 1 || got[tt.count] != 1 {
				t.Errorf("stats: got %+v, want one login, %s", s, tt.count)
			}
			if e := <-events; e.Result == "" || (e.Result == "ok") != (tt.count == "ok") {
				t.Errorf("event: got %+v", e)
			}
			if f := r.sim.Faults(); f != (querysim.Faults{}) {
				t.Errorf("after its one login: got %+v, want none", f)
			}
			r.claimsOf(exchange(t, vyoptaAttempt().request(t, r.login)))
		})
	}
}

func TestLoginFaultArguments(t *testing.T) {
	r := newRig(t, querysim.Options{Now: newClock().Now})
	login := func(f querysim.LoginFault) wire {
		r.setFaults(querysim.Faults{Login: f})
		return exchange(t, graphnetAttempt().request(t, r.login))
	}
	login(querysim.LoginStatus.With("502")).checkStatus(t, 502)
	login(querysim.LoginTooMany.With("2m")).checkRetryAfter(t, "120")
	login(querysim.LoginLater.With("1m")).checkRetryAfter(t, "60")
	login(querysim.LoginBare.With("423")).checkStatus(t, 423)
	login(querysim.LoginBusyDate.With("0s")).checkRetryAfter(t, "Wed, 04 Mar 2026 05:06:07 GMT")
	if got := login(querysim.LoginRedirect.With("http://127.0.0.1:9/a?b=c")).header.Get("Location"); got != "http://127.0.0.1:9/a?b=c" {
		t.Errorf("Location: got %q", got)
	}
	if got := login(querysim.LoginRejected); got.status != 401 || got.json(t)["error"] != "invalid_client" {
		t.Errorf("rejected client: got %d %s", got.status, got.body)
	}
	login(querysim.LoginTextExpiresIn).checkExpiresIn(t, "300")
	login("").checkExpiresIn(t, nil)
}

// What stands in front answers anything; the login server itself judges first.
func TestLoginFaultsAndBadRequests(t *testing.T) {
	r := newRig(t, querysim.Options{})
	bad := vyoptaAttempt()
	bad.host = ""
	r.setFaults(querysim.Faults{Login: querysim.LoginHTML})
	exchange(t, bad.request(t, r.login)).checkPage(t, 200)
	r.setFaults(querysim.Faults{Login: querysim.LoginTruncated})
	exchange(t, bad.request(t, r.login)).checkStatus(t, 421)
}

func TestSameToken(t *testing.T) {
	c := newClock()
	r := newRig(t, querysim.Options{Now: c.Now, Lifetime: 10 * time.Second})
	first := r.token()
	r.setFaults(querysim.Faults{Login: querysim.LoginSameToken})
	c.Advance(7500 * time.Millisecond)
	w := exchange(t, vyoptaAttempt().request(t, r.login))
	w.checkExpiresIn(t, 2.0)
	if got := w.json(t)["access_token"]; got != first {
		t.Error("got another token while it lives")
	}
	if wxp, _ := r.tokens(wxpAttempt()); wxp == first {
		t.Error("wxp issues the token of vyopta")
	}
	c.Advance(1600 * time.Millisecond)
	second := r.token()
	if second == first {
		t.Error("got the same token with less than a second to live")
	}
	r.sim.Revoke()
	third := r.token()
	if third == second {
		t.Error("got a token that was revoked")
	}
	r.setFaults(querysim.Faults{})
	if r.token() == third {
		t.Error("got the same token without the fault")
	}
}

func TestSkew(t *testing.T) {
	for _, skew := range []time.Duration{-90 * time.Second, 90 * time.Second} {
		t.Run(skew.String(), func(t *testing.T) {
			c := newClock()
			r := newRig(t, querysim.Options{Now: c.Now, Lifetime: 10 * time.Second})
			r.setFaults(querysim.Faults{Skew: skew})
			server := c.Now().Add(skew)
			w := exchange(t, vyoptaAttempt().request(t, r.login))
			date := server.Format("Mon, 02 Jan 2006 15:04:05 GMT")
			if got := w.header.Get("Date"); got != date {
				t.Errorf("Date: got %q, want %q", got, date)
			}
			claims := r.claimsOf(w)
			if claims["iat"] != float64(server.Unix()) || claims["exp"] != float64(server.Unix()+10) {
				t.Errorf("got iat %v, exp %v at %d", claims["iat"], claims["exp"], server.Unix())
			}
			w.checkExpiresIn(t, 10.0)
			token, _ := w.json(t)["access_token"].(string)
			if got := r.ask(token, "GET", namesPath).header.Get("Date"); got != date {
				t.Errorf("Date of the Query Service: got %q, want %q", got, date)
			}
			c.Advance(10 * time.Second)
			checkUnauthorized(t, r.ask(token, "GET", namesPath), token)
		})
	}
}

// A token's iat and an answer's Date are the same second, as is a Retry-After's
// distance from it, be the machine ever so slow in between.
func TestAnswerIsOfOneMoment(t *testing.T) {
	c := newClock()
	r := newRig(t, querysim.Options{Now: func() time.Time { c.Advance(time.Second); return c.Now() }})
	date := func(w wire, name string) time.Time {
		t.Helper()
		at, err := http.ParseTime(w.header.Get(name))
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	w := exchange(t, vyoptaAttempt().request(t, r.login))
	if iat, _ := r.claimsOf(w)["iat"].(float64); int64(iat) != date(w, "Date").Unix() {
		t.Errorf("got iat %v and Date %v", int64(iat), date(w, "Date").Unix())
	}
	r.setFaults(querysim.Faults{Login: querysim.LoginBusyDate.With("7s")})
	w = exchange(t, vyoptaAttempt().request(t, r.login))
	if got := date(w, "Retry-After").Sub(date(w, "Date")); got != 7*time.Second {
		t.Errorf("got a Retry-After in %v, want 7s", got)
	}
}
