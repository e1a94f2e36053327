package querysim_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

const noFaults = `{"login-fault":"","login-fault-next":"0","login-delay":"0s","query-fault":"","query-fault-next":"0","query-delay":"0s","one-session":"false","token-delay":"0s","single-use":"false","skew":"0s","brute-force-lock":"false"}`

func (r rig) faults(method, mediaType, body string) reply {
	r.t.Helper()
	req, err := http.NewRequest(method, r.control+"/faults", strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Content-Type", mediaType)
	return do(r.t, req)
}

func TestControlFaults(t *testing.T) {
	const form, json = "application/x-www-form-urlencoded", "application/json"
	r := newRig(t, querysim.Options{})
	for _, step := range []struct {
		method, mediaType, body string
		want                    querysim.Faults
	}{
		{"GET", "", "", querysim.Faults{}},
		{"POST", form, "login-fault=429%3D2m&login-fault-next=3&skew=-90s", querysim.Faults{Login: "429=2m", LoginNext: 3, Skew: -90 * time.Second}},
		{"POST", json, `{"query-fault":"cut","brute-force-lock":true,"login-fault-next":2}`, querysim.Faults{Login: "429=2m", LoginNext: 2, Query: querysim.QueryCut, Skew: -90 * time.Second, BruteForceLock: true}},
		{"POST", form + "; charset=UTF-8", "login-fault=&login-delay=1ms&query-delay=2ms&query-fault-next=1&one-session=true&single-use=1&token-delay=3s", querysim.Faults{OneSession: true, SingleUse: true, TokenDelay: 3 * time.Second, LoginDelay: time.Millisecond, Query: querysim.QueryCut, QueryNext: 1, QueryDelay: 2 * time.Millisecond, Skew: -90 * time.Second, BruteForceLock: true}},
		{"DELETE", "", "", querysim.Faults{}},
	} {
		got := r.faults(step.method, step.mediaType, step.body)
		if got.status != 200 || r.sim.Faults() != step.want {
			t.Errorf("%s %s: got %d %s, %+v, want %+v", step.method, step.body, got.status, got.body, r.sim.Faults(), step.want)
		}
		if now := r.faults("GET", "", ""); now.body != got.body {
			t.Errorf("%s %s: got %s, and then GET %s", step.method, step.body, got.body, now.body)
		}
		// What is shown can be sent back.
		if again := r.faults("POST", json, got.body); again.body != got.body || r.sim.Faults() != step.want {
			t.Errorf("%s sent back: got %s", got.body, again.body)
		}
	}
	if got := r.faults("GET", "", ""); got.body != noFaults {
		t.Errorf("got %s, want %s", got.body, noFaults)
	}
}

func TestControlFaultsRefused(t *testing.T) {
	const form, json = "application/x-www-form-urlencoded", "application/json"
	for _, tt := range []struct {
		mediaType, body string
		status          int
		want            string
	}{
		{form, "login-fault=nonsense", 400, "html, firewall,"},
		{form, "query-fault=nonsense", 400, "401-early, 401-late,"},
		{form, "nonsense=1", 400, "login-fault, login-fault-next,"},
		{form, "skew=1s&login-delay=soon", 400, "login-delay: give a duration"},
		{form, "login-delay=-1s", 400, "give 0 or more"},
		{form, "one-session=perhaps", 400, "give true or false"},
		{form, "token-delay=-1s", 400, "give 0 or more"},
		{form, "login-fault-next=-1", 400, "give 0 or more"},
		{form, "brute-force-lock=perhaps", 400, "give true or false"},
		{form, "skew=1s&skew=2s", 400, "given twice"},
		{form, "skew=%zz", 400, "not a form"},
		{json, `{"skew":null}`, 400, "must be a string"},
		{json, `["skew"]`, 400, "one JSON object"},
		{"text/plain", "skew=1s", 415, "a form or application/json"},
		{form, strings.Repeat("a", 65<<10), 400, "too long"},
	} {
		r := newRig(t, querysim.Options{})
		got := r.faults("POST", tt.mediaType, tt.body)
		if got.status != tt.status || !strings.Contains(got.body, tt.want) {
			t.Errorf("%.40s: got %d %s, want %d and %q", tt.body, got.status, got.body, tt.status, tt.want)
		}
		if f := r.sim.Faults(); f != (querysim.Faults{}) {
			t.Errorf("%.40s: changed to %+v", tt.body, f)
		}
	}
}

func TestSetFaultsRefused(t *testing.T) {
	sim, err := querysim.New(querysim.Options{})
	if err != nil {
		t.Fatal(err)
	}
	before := querysim.Faults{Login: querysim.LoginHTML}
	if err := sim.SetFaults(before); err != nil {
		t.Fatal(err)
	}
	for _, f := range []querysim.Faults{
		{Login: "nonsense"},
		{Query: "html"},
		{Login: querysim.LoginHTML.With("x")},
		{Login: querysim.LoginStatus.With("200")},
		{Query: querysim.QueryStatus.With("")},
		{Login: querysim.LoginTooMany.With("1500ms")},
		{Login: querysim.LoginBusy.With("-1s")},
		{Login: querysim.LoginRedirect.With("/relative")},
		{LoginNext: -1},
		{QueryNext: -1},
		{LoginDelay: -1},
		{QueryDelay: -1},
		{TokenDelay: -1},
	} {
		if err := sim.SetFaults(f); err == nil || sim.Faults() != before {
			t.Errorf("%+v: got %v, and now %+v", f, err, sim.Faults())
		}
	}
}
