// Package advice has the words for what went wrong and what a person can do, for
// the log, check, the admin listener and whoever else tells of it. It goes by types,
// never by an error's text, and does not know how its words are shown.
package advice

import (
	"errors"
	"net/http"
	"runtime"
	"strings"

	"github.com/bearerd/bearerd/cmd/internal/keyring"
	"github.com/bearerd/bearerd/tokens"
)

// Way is how bearerd logs in, as far as advice depends on it.
type Way struct {
	Typed      bool   // user name or password were typed when bearerd started
	Grant      string // as in tokens.Login, and so is the next
	ClientAuth string
	Proof      string // the setting that stands in for a client secret; "": there may be one
	Stored     bool   // a secret is in the system's own store
	Deaf       bool   // SIGHUP was ignored when bearerd started, and does nothing
}

// LoginFailure is a login that failed, and how it was made.
type LoginFailure struct {
	tokens.Failure
	Way Way
}

// For is the advice for a state; "" when there is nothing to mend.
func For(st tokens.Status, way Way) string {
	if st.Failure.Kind == "" {
		return ""
	}
	return LoginFailure{st.Failure, way}.Advice()
}

// Advice says what a person can do, and what bearerd does meanwhile.
func (f LoginFailure) Advice() string { return f.Remedy() + "; " + f.next() }

const (
	otherServer = "check BEARERD_TOKEN_URL and BEARERD_TOKEN_HOST: what answered is not the login server, or not at that path"
	looksLocked = "; an account that is locked looks the same"
)

// Remedy says what a person can do about it.
func (f LoginFailure) Remedy() string {
	switch {
	case f.Cause.Kind == tokens.CauseDescriptor:
		return RaiseLimit
	case f.Waiting && f.Cause.Kind == tokens.CauseStore:
		return storeRemedy(f.Cause.Err)
	case f.Waiting:
		return "mend that file"
	case f.Kind == tokens.Throttled:
		return "none needed: the login server is busy"
	}
	if remedy := f.codeRemedy(); remedy != "" {
		return remedy
	}
	const setting, server = "BEARERD_TOKEN_URL", "the login server"
	switch f.Cause.Kind {
	case tokens.CauseUnsendable:
		return "check BEARERD_TOKEN_URL and BEARERD_TOKEN_PARAMS"
	case tokens.CauseNoAnswer, tokens.CauseBrokeOff:
		return exchangeRemedy(f.Cause.Err, setting, server)
	case tokens.CauseTimeout:
		return checkNetwork(setting) + "; if logins are always that slow, raise BEARERD_LOGIN_TIMEOUT"
	case tokens.CausePage:
		return pageRemedy
	case tokens.CauseTokenOver:
		return "none here: the login server takes longer to answer than its tokens live"
	case tokens.CauseStatus:
		return f.statusRemedy()
	}
	return otherServer // a redirect, or a success that is no token
}

const pageRemedy = "a firewall, proxy or portal on the way refuses: check the network, BEARERD_PROXY or HTTPS_PROXY and NO_PROXY, then BEARERD_TOKEN_URL"

// storeRemedy is for a secret that the system's key store does not give.
func storeRemedy(err error) string {
	said, ok := errors.AsType[keyring.Error](err)
	if !ok {
		return "look at the system's key store"
	}
	return said.Remedy()
}

// statusRemedy is for an answer whose status says all that is known.
func (f LoginFailure) statusRemedy() string {
	switch status := f.Cause.Status; {
	case status == http.StatusUnprocessableEntity:
		return "check BEARERD_TOKEN_PARAMS, a field may be missing or malformed; then " + f.credentials()
	case f.Kind == tokens.Rejected:
		return f.checkCredentials() + looksLocked
	case status == http.StatusUnsupportedMediaType:
		return "check BEARERD_TOKEN_URL: what is at that path takes no form fields, which a login of OAuth 2.0 is made of"
	case status == http.StatusProxyAuthRequired:
		return proxyWantsLogin
	case status >= 500:
		return "none here: the login server has a fault"
	}
	return otherServer // 404, 405, 421 and the like
}

// codeRemedy is for an answer whose error code says what is wrong; "" for others.
func (f LoginFailure) codeRemedy() string {
	switch f.Cause.Code {
	case "invalid_client":
		if f.Way.Proof != "" {
			return "check BEARERD_CLIENT_ID and " + f.Way.Proof
		}
		return "check BEARERD_CLIENT_ID and BEARERD_CLIENT_SECRET, and whether the server wants " + f.otherClientAuth()
	case "unauthorized_client":
		return "check BEARERD_CLIENT_ID and BEARERD_CLIENT_SECRET, and whether the vendor permits BEARERD_GRANT_TYPE for them"
	case "unsupported_grant_type", "authorization_type_invalid":
		return "check BEARERD_GRANT_TYPE, and whether the vendor permits it for BEARERD_CLIENT_ID"
	case "unsupported_response_type":
		return "check BEARERD_TOKEN_URL: this is what an authorization endpoint answers"
	case "invalid_scope", "scope_invalid", "insufficient_scope":
		return "check BEARERD_SCOPE: the server does not know it, does not grant it here, or wants one"
	case "invalid_target":
		return "check BEARERD_TOKEN_PARAMS (resource, audience), then BEARERD_SCOPE"
	case "invalid_request":
		return f.checkCredentials() + "; then BEARERD_SCOPE and BEARERD_TOKEN_PARAMS, a field may be missing or malformed, and BEARERD_GRANT_TYPE"
	case "interaction_required", "login_required", "consent_required", "account_selection_required":
		return "the server wants a person in a browser (a second factor, a consent): ask the vendor for an account for programs"
	case "invalid_grant", "access_denied", "invalid_token", "request_unauthorized", "request_forbidden":
		return f.checkCredentials() + looksLocked
	case "server_error", "temporarily_unavailable":
		return "none here: the login server has a fault"
	case "slow_down":
		return "none needed: the login server is busy"
	}
	return ""
}

// checkCredentials says to check the credentials.
func (f LoginFailure) checkCredentials() string {
	if f.Way.Typed {
		return "start again and type user name and password anew"
	}
	return "check " + f.credentials()
}

// credentials names the settings of the credentials, the likeliest first. Of the
// client alone there is little to say, and servers that want it in another way
// say anything: Glewlwyd a bare 403 to form fields, Dex and Hydra invalid_request
// to a Basic header that is not form-encoded.
func (f LoginFailure) credentials() string {
	names := "BEARERD_CLIENT_ID and BEARERD_CLIENT_SECRET"
	if f.Way.Proof != "" {
		names = "BEARERD_CLIENT_ID and " + f.Way.Proof
	}
	if f.Way.Grant != "client_credentials" {
		names = "BEARERD_USERNAME and BEARERD_PASSWORD, or " + names
		if !strings.HasPrefix(f.Way.ClientAuth, "basic") {
			return names
		}
	}
	if f.Way.Proof != "" {
		return names
	}
	return names + ", and whether the server wants " + f.otherClientAuth()
}

// otherClientAuth names the ways to send id and secret that are not set.
func (f LoginFailure) otherClientAuth() string {
	switch {
	case f.Cause.Recoded:
		return "BEARERD_CLIENT_AUTH=basic-plain (form-encoding, which basic asks for, changes characters of the id or the secret, and many servers do not undo it) or body"
	case f.Way.ClientAuth == "basic":
		return "BEARERD_CLIENT_AUTH=body"
	case f.Way.ClientAuth == "basic-plain":
		return "BEARERD_CLIENT_AUTH=basic or body"
	}
	return "BEARERD_CLIENT_AUTH=basic"
}

const (
	triesAgain = "bearerd tries again by itself"
	asksNoMore = "asks no more lest the account be locked, but for "
)

// soon says what is tried before anything else is.
func (f LoginFailure) soon() string {
	if f.Way.Stored {
		return "a changed entry of the system's key store is tried within a minute, a changed file at once"
	}
	return "a changed file is tried at once, the environment needs a restart"
}

// looks says how bearerd waits for a secret.
func (f LoginFailure) looks() string {
	if f.Cause.Kind == tokens.CauseStore {
		return "asks it again each minute, without a dialog, and logs in when it has the secret"
	}
	return "looks at it every second and logs in when it can be used"
}

// again is what makes bearerd log in again.
func (f LoginFailure) again() string {
	if f.Way.Typed || f.Way.Deaf || runtime.GOOS == "windows" { // it is a stop, or nothing, or there is none
		return "POST /login on the admin listener"
	}
	return "SIGHUP or POST /login on the admin listener"
}

// next says what a bearerd that runs does about it.
func (f LoginFailure) next() string {
	again := f.again()
	soon := f.soon()
	switch {
	case f.Waiting:
		return "bearerd " + f.looks()
	case f.Stopped:
		return "these credentials never worked, and bearerd " + asksNoMore + again + "; " + soon
	case f.Kind == tokens.Rejected && f.Rejections >= tokens.QuickRejections:
		why := "no refusal was an HTTP 401 or an OAuth error, so a gateway may be at fault"
		if f.Worked {
			why = "these credentials have worked: perhaps the account is locked for a while, or its password was changed"
		}
		return why + "; bearerd now asks once an hour, and at " + again + "; " + soon
	case f.Kind == tokens.Rejected && !f.Way.Typed:
		return soon
	}
	return triesAgain
}
