package main

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/bearerd/bearerd/proxy"
	"github.com/bearerd/bearerd/tokens"
)

// What a person can do, in the words of the log, of check and of the admin
// listener.

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
	case f.result == tokens.Rejected && has("invalid_client"):
		return "check BEARERD_CLIENT_ID and BEARERD_CLIENT_SECRET, and whether the server wants BEARERD_CLIENT_AUTH=basic"
	case f.result == tokens.Rejected && (has("unsupported_grant_type") || has("unauthorized_client")):
		return "check BEARERD_GRANT_TYPE, and whether the vendor permits it for BEARERD_CLIENT_ID"
	case f.result == tokens.Rejected && has("invalid_scope"):
		return "check BEARERD_SCOPE"
	case f.result == tokens.Rejected && f.asked:
		return "start again and type user name and password anew; an account that is locked looks the same"
	case f.result == tokens.Rejected:
		return "check BEARERD_USERNAME and BEARERD_PASSWORD, or BEARERD_CLIENT_ID and BEARERD_CLIENT_SECRET; an account that is locked looks the same"
	case f.result == tokens.Throttled:
		return "none needed: the login server is busy"
	case has("HTTP 404"), has("HTTP 405"), has("HTTP 421"), has("redirect"), has("not one JSON object"):
		return "check BEARERD_TOKEN_URL and BEARERD_TOKEN_HOST: what answered is not the login server, or not at that path"
	}
	return networkRemedy(f.cause, "BEARERD_TOKEN_URL", "the login server")
}

// networkRemedy says what a person can do about a server that gave no good
// answer. cause is a text of tokens.DescribeError or an event; setting holds the
// server's address.
func networkRemedy(cause, setting, server string) string {
	has := func(part string) bool { return strings.Contains(cause, part) }
	switch {
	case has("the proxy answered HTTP 407"):
		return "the proxy wants a login: HTTPS_PROXY=http://user:password@proxy:port (basic only)"
	case has("the proxy"):
		return "check HTTPS_PROXY, and whether the proxy permits the address of " + server
	case has("unknown authority"):
		return "if a company proxy signs for " + server + ", give its root certificate by BEARERD_CA_FILE"
	case has("for another host"):
		return "check " + setting + ": the certificate of " + server + " has another name"
	case has("has expired"):
		return "none here if this machine's clock is right: whoever runs " + server + " must renew its certificate"
	case has("HTTP 403"):
		return "a firewall or proxy on the way refuses: check the network, HTTPS_PROXY and NO_PROXY"
	case has("HTTP 5"):
		return "none here: " + server + " has a fault"
	}
	return "check " + setting + ", the network and HTTPS_PROXY"
}

// next says what a bearerd that runs does about it.
func (f loginFailure) next() string {
	const soon = "a changed file is tried at once, the environment needs a restart"
	switch {
	case f.waiting:
		return "bearerd looks at it every second and logs in when it can be used"
	case f.stopped:
		return "these credentials never worked, and bearerd asks no more lest the account be locked, but for SIGHUP or POST /login on the admin listener; " + soon
	case f.result == tokens.Rejected && f.rejections >= hourlyFrom:
		return "these credentials have worked: perhaps the account is locked for a while, or its password was changed; bearerd now asks once an hour, and at SIGHUP or POST /login on the admin listener; " + soon
	case f.result == tokens.Rejected && !f.asked:
		return soon
	}
	return "bearerd tries again by itself"
}

// upstreamFault says what is wrong with an answer that upstream did give, in
// words that are safe to log; "" when nothing is.
func upstreamFault(ex *proxy.Exchange) string {
	switch {
	case ex.Outcome == proxy.Aborted:
		return "the answer was cut short"
	case ex.Status == http.StatusUnauthorized:
		return "HTTP 401 to a token that the login server has just given, or gives no newer one for"
	case ex.Status >= 500:
		return "HTTP " + strconv.Itoa(ex.Status)
	}
	return ""
}

// upstreamCause says in words that are safe to log why a request brought no good
// answer.
func upstreamCause(ex *proxy.Exchange) string {
	switch ex.Error {
	case "":
		return upstreamFault(ex)
	case proxy.UpstreamTimeout:
		return "no response header within BEARERD_RESPONSE_HEADER_TIMEOUT"
	}
	return tokens.DescribeError(ex.Cause)
}

// upstreamRemedy says what a person can do about it. cause is that of
// upstreamCause.
func upstreamRemedy(ex *proxy.Exchange, cause string) string {
	switch {
	case ex.Error == proxy.UpstreamTimeout:
		return "upstream is slow; if it may be, raise BEARERD_RESPONSE_HEADER_TIMEOUT"
	case ex.Error == "" && ex.Outcome == proxy.Aborted:
		return "none here: upstream, or a proxy before it, closes the connection in the middle of an answer"
	case ex.Error == "" && ex.Status == http.StatusUnauthorized:
		return refusedRemedy
	}
	return networkRemedy(cause, "BEARERD_UPSTREAM", "upstream")
}

// refusedRemedy is for an upstream that refuses good tokens.
const refusedRemedy = "may the account read this path? else the token may be for another API: check BEARERD_UPSTREAM, BEARERD_SCOPE and BEARERD_TOKEN_PARAMS (audience); bearerd check shows the token's aud and scope"

// clockWrong is the clock skew from which on people are told of it.
const clockWrong = 5 * time.Second

// clockRemedy is for a clock that is wrong by that much.
const clockRemedy = "set this machine's clock, by NTP say, for the sake of other programs: bearerd counts by the login server's"

// clockSays tells of the clock skew, local time minus the login server's.
func clockSays(skew time.Duration) string {
	side := "ahead of"
	switch {
	case skew == 0:
		return "this machine's clock agrees with the login server's"
	case skew < 0:
		side = "behind"
	}
	return fmt.Sprintf("this machine's clock is %v %s the login server's", skew.Abs(), side)
}
