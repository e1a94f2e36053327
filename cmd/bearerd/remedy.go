package main

import (
	"strings"

	"github.com/bearerd/bearerd/tokens"
)

// hourlyFrom is the rejection after which a login that has worked before is
// tried once an hour.
const hourlyFrom = 5

// loginFailure is what is known of a login that failed, as in tokens.Event.
type loginFailure struct {
	result     tokens.Result
	cause      string
	waiting    bool
	stopped    bool
	rejections int
	asked      bool // user name or password were typed when bearerd started
}

// failureOf is the failure that a state tells of.
func failureOf(st tokens.Status, asked bool) loginFailure {
	return loginFailure{st.LastResult, st.Cause, st.Waiting, st.Stopped, st.Rejections, asked}
}

// adviceFor is the advice for a state; "" when there is nothing to mend.
func adviceFor(st tokens.Status, asked bool) string {
	if st.LastResult == tokens.OK || st.LastResult == "" {
		return ""
	}
	return failureOf(st, asked).advice()
}

// advice says what a person can do, and what bearerd does meanwhile.
func (f loginFailure) advice() string { return f.remedy() + "; " + f.next() }

// remedy says what a person can do about it.
func (f loginFailure) remedy() string {
	has := func(part string) bool { return strings.Contains(f.cause, part) }
	switch {
	case f.waiting:
		return "mend that file"
	case f.result == tokens.Rejected && f.asked:
		return "restart bearerd and type user name and password again"
	case f.result == tokens.Rejected && has("invalid_client"):
		return "check BEARERD_CLIENT_ID and BEARERD_CLIENT_SECRET, and whether the server wants BEARERD_CLIENT_AUTH=basic"
	case f.result == tokens.Rejected && (has("unsupported_grant_type") || has("unauthorized_client")):
		return "check BEARERD_GRANT_TYPE, and whether the vendor permits it for BEARERD_CLIENT_ID"
	case f.result == tokens.Rejected && has("invalid_scope"):
		return "check BEARERD_SCOPE"
	case f.result == tokens.Rejected:
		return "check BEARERD_USERNAME and BEARERD_PASSWORD, or BEARERD_CLIENT_ID and BEARERD_CLIENT_SECRET; an account that is locked looks the same"
	case f.result == tokens.Throttled:
		return "none needed: the login server is busy"
	case has("the proxy answered HTTP 407"):
		return "the proxy wants a login: HTTPS_PROXY=http://user:password@proxy:port (basic only)"
	case has("the proxy"):
		return "check HTTPS_PROXY, and whether the proxy permits the login server's address"
	case has("unknown authority"):
		return "if a company proxy signs for the server, give its root certificate by BEARERD_CA_FILE"
	case has("HTTP 404"), has("HTTP 405"), has("HTTP 421"), has("redirect"), has("not one JSON object"):
		return "check BEARERD_TOKEN_URL and BEARERD_TOKEN_HOST: what answered is not the login server, or not at that path"
	case has("HTTP 403"):
		return "a firewall or proxy on the way refuses: check the network, HTTPS_PROXY and NO_PROXY"
	case has("HTTP 5"):
		return "none here: the login server has a fault"
	}
	return "check BEARERD_TOKEN_URL, the network and HTTPS_PROXY"
}

// next says what a bearerd that runs does about it.
func (f loginFailure) next() string {
	switch {
	case f.waiting:
		return "bearerd looks at it every second and logs in when it can be used"
	case f.stopped:
		return "these credentials never worked, and bearerd asks no more lest the account be locked, until their file changes, SIGHUP or POST /login on the admin listener"
	case f.result == tokens.Rejected && f.rejections >= hourlyFrom:
		return "these credentials have worked: perhaps the account is locked for a while, or its password was changed; bearerd now asks once an hour, and at once when their file changes, at SIGHUP or POST /login on the admin listener"
	case f.result == tokens.Rejected && f.asked:
		return "until then bearerd tries what was typed, ever more rarely"
	case f.result == tokens.Rejected:
		return "a changed file is tried at once, the environment needs a restart"
	}
	return "bearerd tries again by itself"
}
