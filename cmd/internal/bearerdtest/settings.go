package bearerdtest

import (
	"slices"
	"strings"
)

// Working is a configuration without a problem or a warning; tests add to it.
var Working = []string{
	"BEARERD_UPSTREAM=https://api.example.com",
	"BEARERD_TOKEN_URL=https://login.example.com/token",
	"BEARERD_GRANT_TYPE=password",
	"BEARERD_CLIENT_ID=tool",
	"BEARERD_USERNAME=u$er-0f-the-account",
	"BEARERD_PASSWORD=pa$$word-0f-the-account",
}

// With returns a working environment in which lines replace what they name.
func With(lines ...string) []string {
	return append(slices.Clone(lines), Without(Working, lines...)...)
}

func Without(environ []string, lines ...string) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(have string) bool {
		name, _, _ := strings.Cut(have, "=")
		return slices.ContainsFunc(lines, func(l string) bool { return l == name || strings.HasPrefix(l, name+"=") })
	})
}
