package advice_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/advice"
	"github.com/bearerd/bearerd/proxy"
	"github.com/bearerd/bearerd/tokens"
)

// How a bearerd is, by what is known of it.
func TestHealth(t *testing.T) {
	now := time.Now()
	in := func(d time.Duration) time.Time { return now.Add(d) }
	good := tokens.Status{Generation: 3, Good: true, Expiry: in(221 * time.Second), Lifetime: 5 * time.Minute, LoggedInOnce: true, NextLogin: in(2 * time.Minute), LastUsed: now}
	failing := func(result tokens.Result, cause tokens.Cause) tokens.Status {
		return tokens.Status{Failure: tokens.Failure{Kind: result, Cause: cause, FailingSince: in(-time.Minute), Rejections: 2}, NextLogin: in(26 * time.Second), LoggedInOnce: true}
	}
	invalid := tokens.Cause{Kind: tokens.CauseStatus, Status: 401, Code: "invalid_grant"}
	with := func(st tokens.Status, change func(*tokens.Status)) tokens.Status {
		change(&st)
		return st
	}
	upstream := advice.UpstreamTrouble{Since: in(-20 * time.Second), Last: in(-time.Second), Requests: 12, Cause: "connection refused", Remedy: "check it"}
	for name, c := range map[string]struct {
		moment advice.Moment
		state  string
		mood   advice.Mood
		says   []string // in the headline, sentence, cause, next, remedy or cost
		logIn  bool
	}{
		"well":   {advice.Moment{Login: good}, "well", advice.Good, []string{"Requests go through. The token is good for 3 min 41 s and will be renewed in 2 min."}, false},
		"unused": {advice.Moment{Login: with(good, func(st *tokens.Status) { st.NextLogin, st.LastUsed = time.Time{}, time.Time{} })}, "well", advice.Good, []string{"Nobody has used it yet"}, false},
		"renewing": {advice.Moment{Login: with(good, func(st *tokens.Status) { st.LoggingIn = true })}, "renewing", advice.Good,
			[]string{"The token is being renewed; the old one is good for 3 min 41 s"}, false},
		"too young": {advice.Moment{Login: good, Young: true}, "too_young", advice.Good, []string{"Upstream does not know the new token yet"}, false},
		"idle": {advice.Moment{Login: with(good, func(st *tokens.Status) {
			st.Good, st.NextLogin = false, time.Time{}
		}), Asked: in(-12 * time.Minute), LoginTook: 230 * time.Millisecond}, "idle", advice.Quiet, []string{"the last request was 12 min ago", "the last login took 230 ms"}, false},
		"starting":   {advice.Moment{Login: tokens.Status{LoggingIn: true}, TokenWait: 15 * time.Second}, "starting", advice.Quiet, []string{"first login is under way", "15 s"}, false},
		"logging in": {advice.Moment{Login: with(good, func(st *tokens.Status) { st.Good, st.LoggingIn = false, true })}, "logging_in", advice.Quiet, []string{"waits for the login"}, false},
		"refused": {advice.Moment{Login: failing(tokens.Rejected, invalid)}, "refused", advice.Bad,
			[]string{"refuses the credentials since", "twice so far", "Requests are answered with 502 login_rejected.", "invalid_grant", "logs in again in 26 s", "BEARERD_PASSWORD", "a lock of the account"}, true},
		"stopped": {advice.Moment{Login: with(failing(tokens.Rejected, invalid), func(st *tokens.Status) { st.Stopped, st.Rejections, st.NextLogin = true, 5, time.Time{} })}, "stopped", advice.Bad,
			[]string{"refused these credentials 5 times", "502 login_rejected", "asks no more lest the account be locked"}, true},
		"login down": {advice.Moment{Login: failing(tokens.Transient, tokens.Cause{Kind: tokens.CauseStatus, Status: 503})}, "login_down", advice.Bad,
			[]string{"The login server has a fault since", "503 login_unavailable", "HTTP 503", "logs in again in 26 s"}, true},
		"login away": {advice.Moment{Login: failing(tokens.Transient, tokens.Cause{Kind: tokens.CauseNoAnswer, Err: errors.New("connection refused")})}, "login_down", advice.Bad,
			[]string{"The login server cannot be reached since", "connection refused", "BEARERD_TOKEN_URL"}, true},
		"portal": {advice.Moment{Login: failing(tokens.Transient, tokens.Cause{Kind: tokens.CausePage, Status: 200})}, "login_down", advice.Bad, []string{"in place of the login server"}, true},
		"login down, token good": {advice.Moment{Login: with(failing(tokens.Transient, tokens.Cause{Kind: tokens.CauseStatus, Status: 503}), func(st *tokens.Status) {
			st.Good, st.Expiry = true, in(58*time.Second)
		})}, "login_down", advice.Warning, []string{"Well for now: login fails", "Requests go through meanwhile. The token is good for 58 s."}, true},
		"trying now": {advice.Moment{Login: with(failing(tokens.Transient, tokens.Cause{Kind: tokens.CauseStatus, Status: 503}), func(st *tokens.Status) { st.LoggingIn, st.NextLogin = true, time.Time{} })}, "login_down", advice.Bad,
			[]string{"is logging in once more now"}, true},
		"throttled": {advice.Moment{Login: failing(tokens.Throttled, tokens.Cause{Kind: tokens.CauseStatus, Status: 429})}, "throttled", advice.Bad, []string{"left alone for a while", "may make it longer"}, true},
		"no file": {advice.Moment{Login: with(failing(tokens.Transient, tokens.Cause{Kind: tokens.CauseFile, Problem: "waiting for the password file /p"}), func(st *tokens.Status) { st.Waiting, st.NextLogin = true, time.Time{} })}, "waiting", advice.Bad,
			[]string{"for want of a credential file", "/p", "mend that file", "looks at it every second"}, false},
		"upstream down": {advice.Moment{Login: good, Upstream: upstream}, "upstream", advice.Bad,
			[]string{"The login works, upstream does not", "none of 12 requests", "connection refused", "check it", "The token is good for 3 min 41 s"}, false},
		"one failure":   {advice.Moment{Login: good, Upstream: advice.UpstreamTrouble{Since: now, Last: now, Requests: 1}}, "upstream", advice.Warning, []string{"has not answered the last request well"}, false},
		"refused token": {advice.Moment{Login: good, Upstream: advice.UpstreamTrouble{Since: now, Last: now, Requests: 9, Refused: true}}, "upstream", advice.Bad, []string{"brings another token"}, true},
		"long ago":      {advice.Moment{Login: good, Upstream: advice.UpstreamTrouble{Last: in(-time.Hour), Requests: 12}}, "well", advice.Good, nil, false},
		"both":          {advice.Moment{Login: failing(tokens.Transient, tokens.Cause{Kind: tokens.CauseStatus, Status: 503}), Upstream: upstream}, "login_down", advice.Bad, nil, true},
		"stopping":      {advice.Moment{Login: good, Stopping: true, Grace: 25 * time.Second}, "stopping", advice.Warning, []string{"told to stop", "25 s"}, false},
	} {
		c.moment.Now = now
		h := c.moment.Health()
		if h.State != c.state || h.Mood != c.mood || (h.LogIn != "") != c.logIn || h.Headline == "" || !strings.HasSuffix(h.Sentence, ".") {
			t.Errorf("%s: got %+v", name, h)
		}
		all := strings.ReplaceAll(strings.Join([]string{h.Headline, h.Sentence, h.Cause, h.Next, h.Remedy, h.LogIn}, "\n"), "\u00a0", " ")
		for _, want := range c.says {
			if !strings.Contains(all, want) {
				t.Errorf("%s: no %q in\n%s", name, want, all)
			}
		}
		// It is a sentence of one cause: a file's name stands in Cause alone.
		if h.Cause != "" && strings.Contains(h.Sentence+h.Next+h.Remedy, "/p") {
			t.Errorf("%s: the cause is told elsewhere too: %+v", name, h)
		}
	}
}

func TestForRequest(t *testing.T) {
	down := tokens.Status{Failure: tokens.Failure{Kind: tokens.Transient, Cause: tokens.Cause{Kind: tokens.CauseStatus, Status: 503}}}
	for name, c := range map[string]struct {
		ex            proxy.Exchange
		st            tokens.Status
		cause, remedy string
	}{
		"no token":   {proxy.Exchange{Error: proxy.LoginUnavailable}, down, "HTTP 503", "bearerd tries again by itself"},
		"slow login": {proxy.Exchange{Error: proxy.LoginTimeout}, tokens.Status{LoggingIn: true}, "BEARERD_TOKEN_WAIT", "goes on"},
		"a page":     {proxy.Exchange{Error: proxy.CrossSite}, down, "", "BEARERD_ALLOWED_ORIGINS"},
		"busy":       {proxy.Exchange{Error: proxy.Overloaded}, down, "", "BEARERD_MAX_IN_FLIGHT"},
		"left":       {proxy.Exchange{Outcome: proxy.ClientClosed}, down, "closed the connection", ""},
		"500":        {proxy.Exchange{Status: 500}, down, "HTTP 500", "upstream has a fault"},
		"404":        {proxy.Exchange{Status: 404}, down, "HTTP 404 from upstream", ""},
		"slow":       {proxy.Exchange{Error: proxy.UpstreamTimeout, Status: 504}, down, "BEARERD_RESPONSE_HEADER_TIMEOUT", "BEARERD_RESPONSE_HEADER_TIMEOUT"},
		"well":       {proxy.Exchange{Status: 200}, down, "", ""},
	} {
		cause, remedy := advice.ForRequest(&c.ex, c.st, advice.Way{})
		if !strings.Contains(cause, c.cause) || !strings.Contains(remedy, c.remedy) || (cause == "") != (c.cause == "") || (remedy == "") != (c.remedy == "") {
			t.Errorf("%s: got %q and %q", name, cause, remedy)
		}
	}
}

// A code that nothing here knows by name is explained by its own words.
func TestEveryUpstreamCodeIsExplained(t *testing.T) {
	for _, code := range proxy.Codes() {
		if code.Fault() != proxy.FaultUpstream {
			continue
		}
		for _, err := range []error{nil, errors.New("anything")} {
			cause, remedy := advice.ForRequest(&proxy.Exchange{Error: code, Cause: err, Status: 502}, tokens.Status{}, advice.Way{})
			if cause == "" || remedy == "" {
				t.Errorf("%s, cause %v: got %q and %q, want a cause and a remedy", code, err, cause, remedy)
			}
			if unreachable := strings.Contains(remedy, "check BEARERD_UPSTREAM, the network"); unreachable != (code == proxy.UpstreamUnreachable) {
				t.Errorf("%s: got the remedy %q", code, remedy)
			}
		}
	}
}
