package tokens

import (
	"net/http"
	"strconv"
)

// A Cause says why a login failed: its kind and the facts that belong to it are
// for programs, [Cause.String] is for people. It holds no secret, and nothing
// that the login server chose freely. Two can be compared by ==, if the errors
// of [Login.Explain] can. The zero Cause is none.
type Cause struct {
	Kind   CauseKind
	Status int       // of the answer; 0: none came
	Code   ErrorCode // of the answer; "": it had none

	// Recoded says that the credentials went out by "basic", and that form-encoding
	// changed id or secret, which many servers do not undo: see Login.ClientAuth.
	Recoded bool

	// Err is with CauseNoAnswer, CauseTimeout, CauseCancelled and CauseBrokeOff
	// why the exchange failed: what Login.Explain says, or an error of our own.
	// With CauseStore it is what the store says.
	Err error
	// Problem is with CauseFile, CauseStore, CauseDescriptor and CauseUnsendable what is wrong, in fixed
	// phrases and the path of a file.
	Problem string
}

// CauseKind is the kind of a [Cause].
type CauseKind string

const (
	// No login was made.
	CauseFile       CauseKind = "file"       // a credential file cannot be used
	CauseStore      CauseKind = "store"      // a secret in a store of the system cannot be had
	CauseDescriptor CauseKind = "descriptor" // it could not be opened: the system gives no file descriptor more
	CauseUnsendable CauseKind = "unsendable" // the settings make no request

	// There was no answer.
	CauseNoAnswer  CauseKind = "no_answer" // network, TLS, or what came is no HTTP
	CauseTimeout   CauseKind = "timeout"   // Login.Timeout was over
	CauseCancelled CauseKind = "cancelled" // the Manager was closed

	// The answer was no success.
	CauseStatus   CauseKind = "status"   // Status and Code say it all
	CausePage     CauseKind = "page"     // HTML where a login server has JSON: of a firewall or a portal, that is
	CauseRedirect CauseKind = "redirect" // which is never followed

	// The answer was one, but not good.
	CauseBrokeOff    CauseKind = "broke_off"    // it did not come whole
	CauseTooLarge    CauseKind = "too_large"    // above 1 MiB
	CauseNotJSON     CauseKind = "not_json"     // not one JSON object
	CauseAmbiguous   CauseKind = "ambiguous"    // a member came twice
	CauseErrorMember CauseKind = "error_member" // it has an error, which Code names
	CauseNoToken     CauseKind = "no_token"     // no access_token, or none that is text
	CauseBadToken    CauseKind = "bad_token"    // one that no header may carry
	CauseTokenOver   CauseKind = "token_over"   // it took longer to come than the token lives
)

// causeWords are what String says of a kind that needs no more than its status
// and code.
var causeWords = map[CauseKind]string{
	CausePage:        ", with a web page: a firewall, a proxy or a portal on the way answers in place of the login server",
	CauseRedirect:    ", a redirect, which is never followed: check the token URL",
	CauseBrokeOff:    ", but the answer broke off",
	CauseTooLarge:    ", but the answer is larger than 1 MiB",
	CauseNotJSON:     ", but the answer is not one JSON object",
	CauseAmbiguous:   ", but the answer has a member twice",
	CauseErrorMember: ", but the answer has an error member",
	CauseNoToken:     ", but the answer has no access_token string",
	CauseBadToken:    ", but the access_token has characters that no header may carry",
	CauseTokenOver:   ", but the token was over before it came",
}

// String says it in words that are safe to log; "" for the zero Cause.
func (c Cause) String() string {
	switch c.Kind {
	case "":
		return ""
	case CauseFile, CauseStore, CauseDescriptor, CauseUnsendable:
		return c.Problem
	case CauseNoAnswer, CauseTimeout, CauseCancelled:
		return c.Err.Error()
	}
	text := "HTTP " + strconv.Itoa(c.Status)
	switch {
	case c.Kind == CauseErrorMember && c.Code != "":
		return text + causeWords[c.Kind] + ": " + c.Code.words()
	case c.Code != "":
		text += ", " + c.Code.words()
	}
	text += causeWords[c.Kind]
	if c.Err != nil {
		text += ": " + c.Err.Error()
	}
	return text
}

// refuses reports whether a refusal is sure to be the login server's own: what
// stands before it says a bare 400 or 403, too.
func (c Cause) refuses() bool { return c.Status == http.StatusUnauthorized || c.Code != "" }
