package tokens

import (
	"encoding/json"
	"math"
	"strconv"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// maxLifetime is how long a token is believed at most, whatever the server says.
const maxLifetime = 24 * time.Hour

// Rule names how a token's lifetime was found.
type Rule string

const (
	RuleExpiresIn Rule = "expires_in" // the answer's expires_in, RFC 6749 5.1
	RuleExpIat    Rule = "exp-iat"    // the JWT's exp minus its iat, RFC 7519 4.1
	RuleExpDate   Rule = "exp-date"   // the JWT's exp minus the answer's Date header
	RuleDefault   Rule = "default"    // the server said nothing: Options.DefaultLifetime
)

// A tokenResponse is a good answer of the login server (RFC 6749 5.1), as far as
// it counts.
type tokenResponse struct {
	bearer    string
	expiresIn float64 // seconds; 0 when the answer does not say
	scope     string  // "" when the answer does not say
}

// parseTokenResponse reads the body of an answer with status, a success. wrong is
// why it is not good, as far as the body tells; zero: it is.
func parseTokenResponse(status int, body []byte) (a tokenResponse, wrong Cause) {
	members, twice, ok := parseMembers(body)
	if !ok {
		return tokenResponse{}, Cause{Kind: CauseNotJSON}
	}
	if twice {
		return tokenResponse{}, Cause{Kind: CauseAmbiguous}
	}
	if e := string(members["error"]); e != "" && e != "null" && e != `""` {
		code, _ := errorCode(status, members)
		return tokenResponse{}, Cause{Kind: CauseErrorMember, Code: code}
	}
	if json.Unmarshal(members["access_token"], &a.bearer) != nil || a.bearer == "" {
		return tokenResponse{}, Cause{Kind: CauseNoToken}
	}
	if !sendable(a.bearer) {
		return tokenResponse{}, Cause{Kind: CauseBadToken}
	}
	_ = json.Unmarshal(members["scope"], &a.scope) // one that is no text says nothing
	// A wrong type is ignored, not refused: the JWT may still tell the end.
	var expiresIn json.Number // takes a numeric string as well
	if json.Unmarshal(members["expires_in"], &expiresIn) == nil {
		a.expiresIn = math.Floor(seconds(expiresIn))
	}
	return a, Cause{}
}

// sendable reports whether a header may carry a token.
func sendable(bearer string) bool {
	for _, c := range []byte(bearer) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return bearer != ""
}

// lifetime returns the smallest positive of what the answer says of the token's
// end, at most 24 h, or fallback when it says nothing. date is the answer's Date
// header; zero means there was none. The local clock plays no part.
func (a tokenResponse) lifetime(date time.Time, fallback time.Duration) (time.Duration, Rule) {
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
