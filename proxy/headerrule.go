package proxy

import (
	"crypto/subtle"
	"net/http"
)

// HeaderRule is a header that callers must send. The zero value asks for none.
type HeaderRule struct {
	Name  string // canonical, as of [http.CanonicalHeaderKey]
	Value string // a secret
}

// met reports whether h has the header, once and with the right value. It takes
// the same time for any wrong value of the right length.
func (rule HeaderRule) met(h http.Header) bool {
	if rule.Name == "" {
		return true
	}
	values := h[rule.Name]
	return len(values) == 1 && subtle.ConstantTimeCompare([]byte(values[0]), []byte(rule.Value)) == 1
}
