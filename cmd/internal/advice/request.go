package advice

import (
	"fmt"

	"github.com/bearerd/bearerd/proxy"
	"github.com/bearerd/bearerd/tokens"
)

const (
	// ClientClosed is of a request whose client left. net/http takes the end of a
	// client's sending side for its leaving.
	ClientClosed = "the client closed the connection, or only its sending side, before it had the whole answer"

	// SlowLoginCause and SlowLoginRemedy are of a request that waited for a login
	// for longer than it may.
	SlowLoginCause  = "the login server does not answer within BEARERD_TOKEN_WAIT"
	SlowLoginRemedy = "the login under way goes on; if logins are always that slow, raise BEARERD_TOKEN_WAIT"
)

// ForRequest says why a request did not go well and what a person can do, in words
// that are safe to show. st is the state of the login now.
func ForRequest(ex *proxy.Exchange, st tokens.Status, way Way) (cause, remedy string) {
	switch ex.Error.Fault() {
	case proxy.FaultLogin:
		if st.Cause.Kind == "" {
			if ex.Error == proxy.LoginTimeout {
				return SlowLoginCause, SlowLoginRemedy
			}
			return "", ex.Error.Detail()
		}
		return st.Cause.String(), For(st, way)
	case proxy.FaultCaller:
		return "", ex.Error.Detail()
	}
	if ex.Outcome == proxy.ClientClosed {
		return ClientClosed, ""
	}
	if f := FailureOfUpstream(ex); f != (UpstreamFailure{}) {
		return f.String(), f.Remedy()
	}
	if ex.Status >= 400 {
		return fmt.Sprintf("HTTP %d from upstream, which calls it the request's own fault", ex.Status), ""
	}
	return "", ""
}

// ForLogin is the advice for a login that has just failed; "" for one that has not.
func ForLogin(ev tokens.Event, way Way) string {
	if ev.Kind == "" {
		return ""
	}
	return LoginFailure{ev.Failure, way}.Advice()
}
