package tokens

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
)

// ErrorCode is the error member of an answer (RFC 6749 5.2): one that bearerd
// knows, or [OtherCode].
type ErrorCode string

// OtherCode stands for every code that bearerd does not know. The server may
// have put anything there.
const OtherCode ErrorCode = "other"

// known returns e where it is one that bearerd knows, else OtherCode or, for none, "".
func (e ErrorCode) known() ErrorCode {
	if _, ok := blames[e]; ok || e == "" {
		return e
	}
	return OtherCode
}

func (e ErrorCode) words() string {
	if e == OtherCode {
		return "an unregistered error code"
	}
	return "error " + string(e)
}

// A blame is what an error code says is at fault.
type blame int

const (
	blameNothing     blame = iota // that bearerd knows of
	blameCredentials              // client, user or the secret of either
	blameSetting                  // another setting
	blameServer                   // or the moment
)

// blames are the error codes that are told by name, as no server chose their
// text freely. Others may repeat what was sent, the password included.
var blames = map[ErrorCode]blame{
	// RFC 6749 5.2 and 4.1.2.1
	"invalid_client":            blameCredentials,
	"invalid_grant":             blameCredentials,
	"unauthorized_client":       blameCredentials,
	"access_denied":             blameCredentials,
	"invalid_request":           blameNothing, // Authlib says it of a wrong password, others of a missing field
	"unsupported_grant_type":    blameSetting,
	"unsupported_response_type": blameSetting,
	"invalid_scope":             blameSetting,
	"server_error":              blameServer,
	"temporarily_unavailable":   blameServer,
	// RFC 8628 3.5
	"slow_down": blameServer,
	// RFC 8707 2
	"invalid_target": blameSetting,
	// RFC 6750 3.1: some send them where there is no token yet
	"invalid_token":      blameCredentials,
	"insufficient_scope": blameSetting,
	// OpenID Connect Core 3.1.2.6
	"interaction_required":       blameCredentials,
	"login_required":             blameCredentials,
	"consent_required":           blameCredentials,
	"account_selection_required": blameCredentials,
	// Glewlwyd, protocol_oauth2.c
	"scope_invalid":              blameSetting,
	"authorization_type_invalid": blameSetting,
	// fosite, errors.go
	"request_unauthorized": blameCredentials,
	"request_forbidden":    blameNothing,
}

// blaming are parts of the words in which servers of their own mind name client
// or credentials: invalid_credentials, account_locked, bad_password.
var blaming = []string{"client", "credential", "password", "account", "user", "login", "grant"}

// errorCode returns the error member of an answer with status (RFC 6749 5.2), and
// what it says is at fault; "" when it has none.
func errorCode(status int, members map[string]json.RawMessage) (ErrorCode, blame) {
	var text string
	if json.Unmarshal(members["error"], &text) != nil || text == "" {
		return "", blameNothing
	}
	if strings.EqualFold(text, http.StatusText(status)) {
		return "", blameNothing // how Spring Boot and others answer anything: the status once more
	}
	if fault, known := blames[ErrorCode(text)]; known {
		return ErrorCode(text), fault
	}
	text = strings.ToLower(text)
	for _, part := range blaming {
		if strings.Contains(text, part) {
			return OtherCode, blameCredentials
		}
	}
	return OtherCode, blameNothing
}

// parseMembers returns the members of a JSON object that count in an answer, and
// whether one of them is there twice: RFC 8259 4 leaves open which of two holds.
// ok is false for a body that is not one JSON object. encoding/json bounds the
// depth of nesting.
func parseMembers(body []byte) (members map[string]json.RawMessage, twice, ok bool) {
	d := json.NewDecoder(bytes.NewReader(trimBOM(body)))
	if start, err := d.Token(); err != nil || start != json.Delim('{') {
		return nil, false, false
	}
	members = make(map[string]json.RawMessage)
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, false, false
		}
		var value json.RawMessage
		if d.Decode(&value) != nil {
			return nil, false, false
		}
		switch name := key.(string); name {
		case "access_token", "expires_in", "error":
			_, again := members[name]
			twice = twice || again
			members[name] = value
		case "scope": // nothing hangs on it
			members[name] = value
		}
	}
	if _, err := d.Token(); err != nil { // the closing brace
		return nil, false, false
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, false, false
	}
	return members, twice, true
}

func trimBOM(text []byte) []byte { return bytes.TrimPrefix(text, []byte("\ufeff")) }
