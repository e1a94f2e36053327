package advice

import (
	"fmt"

	"github.com/bearerd/bearerd/tokens"
)

// NotReadyCode is NotReady as a code, with the kind of remedy: fixed words alone.
func NotReadyCode(st tokens.Status) (code, remedy string) {
	switch {
	case st.Waiting && st.Cause.Kind == tokens.CauseStore:
		return "waiting_for_store", "look at the system's key store"
	case st.Waiting:
		return "waiting_for_file", "mend a file"
	case st.Stopped:
		return "login_stopped", "correct the credentials"
	case st.LastResult() == tokens.Rejected:
		return "login_rejected", "correct the credentials"
	case st.LastResult() == tokens.Throttled:
		return "login_throttled", "none needed"
	case st.LastResult() == "":
		return "starting", "none needed"
	}
	return "login_unavailable", "look at the login server, the network and the settings"
}

// NotReady returns why requests cannot be served, or "".
func NotReady(st tokens.Status, stopping bool) string {
	switch {
	case stopping:
		return "stopping"
	case st.Ready():
		return ""
	case st.Waiting:
		return st.Cause.String() // "waiting for the password file …"
	case st.Stopped:
		return fmt.Sprintf("logins stopped after %d refusals (%s)", st.Rejections, st.Cause)
	case st.LastResult() == tokens.Rejected:
		return fmt.Sprintf("the login server refuses the credentials (%s)", st.Cause)
	case st.LastResult() == tokens.Throttled:
		return fmt.Sprintf("the login server asks to be left alone for a while (%s)", st.Cause)
	case st.LastResult() == "":
		return "the first login is under way"
	default:
		return fmt.Sprintf("no token from the login server (%s)", st.Cause)
	}
}
