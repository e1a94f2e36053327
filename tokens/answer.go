package tokens

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"strconv"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// maxLifetime is how long a token is believed at most, whatever the server says.
const maxLifetime = 24 * time.Hour

// An answer is a good answer of the login server, as far as it counts.
type answer struct {
	bearer    string
	expiresIn float64 // seconds; 0 when the answer does not say
}

var (
	errNotJSON    = errors.New("the answer is not one JSON object")
	errAmbiguous  = errors.New("the answer has a member twice")
	errErrorIn200 = errors.New("the answer has an error member")
	errNoToken    = errors.New("the answer has no access_token string")
	errBadToken   = errors.New("the access_token has characters that no header may carry")
)

// parseAnswer reads the body of a 200. Its errors are fixed phrases: they hold
// no byte of the body.
func parseAnswer(body []byte) (answer, error) {
	members, twice, err := parseMembers(body)
	if err != nil {
		return answer{}, err
	}
	if twice {
		return answer{}, errAmbiguous
	}
	if len(members["error"]) > 0 && string(members["error"]) != "null" {
		return answer{}, errErrorIn200
	}
	var a answer
	if json.Unmarshal(members["access_token"], &a.bearer) != nil || a.bearer == "" {
		return answer{}, errNoToken
	}
	for _, c := range []byte(a.bearer) {
		if c <= ' ' || c > '~' {
			return answer{}, errBadToken
		}
	}
	// A wrong type is ignored, not refused: the JWT may still tell the end.
	var expiresIn json.Number // takes a numeric string as well
	if json.Unmarshal(members["expires_in"], &expiresIn) == nil {
		a.expiresIn = math.Floor(seconds(expiresIn))
	}
	return a, nil
}

// parseMembers returns the members of a JSON object that count in an answer, and
// whether one of them is there twice: RFC 8259 4 leaves open which of two holds.
// encoding/json bounds the depth of nesting.
func parseMembers(body []byte) (members map[string]json.RawMessage, twice bool, err error) {
	d := json.NewDecoder(bytes.NewReader(trimBOM(body)))
	if start, err := d.Token(); err != nil || start != json.Delim('{') {
		return nil, false, errNotJSON
	}
	members = make(map[string]json.RawMessage)
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, false, errNotJSON
		}
		var value json.RawMessage
		if d.Decode(&value) != nil {
			return nil, false, errNotJSON
		}
		switch name := key.(string); name {
		case "access_token", "expires_in", "error":
			_, again := members[name]
			twice = twice || again
			members[name] = value
		}
	}
	if _, err := d.Token(); err != nil { // the closing brace
		return nil, false, errNotJSON
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, false, errNotJSON
	}
	return members, twice, nil
}

func trimBOM(text []byte) []byte { return bytes.TrimPrefix(text, []byte("\ufeff")) }

// lifetime returns the smallest positive of what the answer says of the token's
// end, at most 24 h, or fallback when it says nothing. date is the answer's Date
// header; zero means there was none. The local clock plays no part.
func (a answer) lifetime(date time.Time, fallback time.Duration) (time.Duration, Rule) {
	exp, iat := jwtTimes(a.bearer)
	found, rule := math.Inf(1), RuleDefault
	consider := func(s float64, r Rule) {
		if s > 0 && (s < found || rule == RuleDefault) { // NaN and -Inf drop out here
			found, rule = s, r
		}
	}
	consider(a.expiresIn, RuleExpiresIn)
	if exp != 0 && iat != 0 {
		consider(exp-iat, RuleExpIat)
	}
	if exp != 0 && !date.IsZero() {
		consider(exp-float64(date.Unix()), RuleExpDate)
	}
	switch {
	case rule == RuleDefault:
		return min(fallback, maxLifetime), rule
	case found >= maxLifetime.Seconds(): // before the multiplication, which would overflow
		return maxLifetime, rule
	}
	// Below a second there is nothing to be had but a flood of logins.
	return max(time.Duration(found*float64(time.Second)), time.Second), rule
}

// jwtTimes returns the exp and iat claims of a JWT in Unix seconds (RFC 7519
// NumericDate: whole or fractional); 0 for a claim that is missing, or both when
// the token is opaque. The signature is upstream's business.
func jwtTimes(token string) (exp, iat float64) {
	claims := jwt.MapClaims{}
	// The error is of no interest: for an unknown alg it comes after the claims
	// have been filled, and a token that is no JWT leaves them empty.
	_, _, _ = jwt.NewParser(jwt.WithJSONNumber()).ParseUnverified(token, claims)
	if n, ok := claims["exp"].(json.Number); ok {
		exp = seconds(n)
	}
	if n, ok := claims["iat"].(json.Number); ok {
		iat = seconds(n)
	}
	return exp, iat
}

// seconds returns the value of n: an infinity when it is out of range, 0 when n
// is empty.
func seconds(n json.Number) float64 {
	v, _ := strconv.ParseFloat(n.String(), 64) // ErrRange comes with the infinity
	return v
}

// oauthError returns the error member of an error answer (RFC 6749 5.2) in a
// form that is safe to log, and whether there is one. What the server chose
// freely is not repeated.
func oauthError(body []byte) (string, bool) {
	members, _, err := parseMembers(body)
	if err != nil {
		return "", false
	}
	var code string
	if json.Unmarshal(members["error"], &code) != nil || code == "" {
		return "", false
	}
	switch code {
	case // RFC 6749 5.2 and 4.1.2.1
		"invalid_request", "invalid_client", "invalid_grant", "unauthorized_client",
		"unsupported_grant_type", "invalid_scope", "access_denied", "server_error",
		"temporarily_unavailable", "unsupported_response_type",
		// RFC 8707 2 and RFC 6750 3.1: some send the latter for a bad password
		"invalid_target", "invalid_token",
		// OpenID Connect Core 3.1.2.6
		"interaction_required", "login_required", "consent_required",
		"account_selection_required":
		return "error " + code, true
	}
	return "an unregistered error code", true
}

func isJSON(body []byte) bool { return json.Valid(trimBOM(body)) }
