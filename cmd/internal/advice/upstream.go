package advice

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/bearerd/bearerd/cmd/internal/neterror"
	"github.com/bearerd/bearerd/proxy"
)

// UpstreamFailure is why a request brought no good answer from upstream.
type UpstreamFailure struct {
	code    proxy.Code     // of bearerd's own answer; "": upstream's went out
	aborted bool           // it was cut short
	status  int            // of upstream's answer
	refused bool           // by which it refused a token
	network neterror.Cause // with UpstreamUnreachable
	did     string         // what upstream did to the request; "": the connection's fault
}

// FailureOfUpstream is the failure that ex tells of; the zero value when it is none.
func FailureOfUpstream(ex *proxy.Exchange) UpstreamFailure {
	switch {
	case ex.Error == proxy.UpstreamTimeout:
		return UpstreamFailure{code: ex.Error}
	case ex.Error != "" && ex.Cause != nil:
		f := UpstreamFailure{code: ex.Error, network: neterror.Of(ex.Cause)}
		if e, ok := errors.AsType[*proxy.UpstreamError](ex.Cause); ok {
			f.did = e.What
		}
		return f
	case ex.Error != "":
		return UpstreamFailure{code: ex.Error}
	case BadAnswer(ex):
		return UpstreamFailure{aborted: ex.Outcome == proxy.Aborted, status: ex.Status, refused: ex.Refused}
	}
	return UpstreamFailure{}
}

// BadAnswer reports whether something is wrong with an answer that upstream did
// give.
func BadAnswer(ex *proxy.Exchange) bool {
	return ex.Error == "" && (ex.Outcome == proxy.Aborted || ex.Refused || ex.Status >= 500)
}

// String says it in words that are safe to log; "" for the zero value.
func (f UpstreamFailure) String() string {
	switch {
	case f.code == proxy.UpstreamTimeout:
		return "no response header within BEARERD_RESPONSE_HEADER_TIMEOUT"
	case f.did != "":
		return f.did
	case f.network.Kind != "":
		return f.network.Error()
	case f.aborted:
		return "the answer was cut short"
	case f.refused:
		return fmt.Sprintf("HTTP %d to a token that the login server has just given, or gives no newer one for", f.status)
	case f.status != 0:
		return "HTTP " + strconv.Itoa(f.status)
	}
	return f.code.Detail()
}

// Remedy says what a person can do about it.
func (f UpstreamFailure) Remedy() string {
	switch {
	case f.code == proxy.UpstreamTimeout:
		return "upstream is slow; if it may be, raise BEARERD_RESPONSE_HEADER_TIMEOUT"
	case f.did != "":
		return "none here: upstream, or a proxy before it, breaks exchanges off"
	case f.aborted:
		return "none here: upstream, or a proxy before it, closes the connection in the middle of an answer"
	case f.refused:
		return RefusedRemedy
	case f.status >= 500:
		return "none here: upstream has a fault"
	case f.code != "" && f.code != proxy.UpstreamUnreachable:
		return f.code.Detail()
	}
	return exchangeRemedy(f.network, "BEARERD_UPSTREAM", "upstream")
}

// RefusedRemedy is for an upstream that refuses good tokens.
const RefusedRemedy = "may the account read this path? else the token may be for another API: check BEARERD_UPSTREAM, BEARERD_SCOPE and BEARERD_TOKEN_PARAMS (audience); bearerd check shows the token's aud and scope"

// What tokens that die early again and again look like, though each login helps.
const (
	ShortLivedCause  = "upstream refuses tokens early, again and again, and each login helps only for a while"
	ShortLivedImpact = "between logins, which are up to 5 minutes apart, requests get upstream's own refusal"
	ShortLivedRemedy = "does another program log in with this account? then each login ends the other's token: let all of them use one bearerd, or give each an account of its own"
)
