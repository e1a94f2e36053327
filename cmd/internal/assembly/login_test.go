package assembly

import (
	"strings"
	"testing"

	"github.com/bearerd/bearerd/cmd/internal/advice"
	"github.com/bearerd/bearerd/cmd/internal/config"
	"github.com/bearerd/bearerd/tokens"
)

// Who has no client secret is not sent to look for one.
func TestRemedyWithoutAClientSecret(t *testing.T) {
	for proof, c := range map[string]config.Config{
		"BEARERD_CLIENT_ASSERTION_FILE":                {ClientAssertionFile: "/x"},
		"the client_assertion among BEARERD_TOKEN_PAR": {TokenParams: "client_assertion=x"},
		"BEARERD_CLIENT_CERT_FILE":                     {ClientCertFile: "/x"},
	} {
		c.GrantType, c.ClientAuth = "client_credentials", "body"
		for _, code := range []tokens.ErrorCode{"invalid_client", "invalid_grant", ""} {
			st := tokens.Status{Failure: tokens.Failure{Kind: tokens.Rejected, Cause: tokens.Cause{Kind: tokens.CauseStatus, Status: 401, Code: code}}}
			if got := advice.For(st, LoginWay(c)); !strings.HasPrefix(got, "check BEARERD_CLIENT_ID and "+proof) || strings.Contains(got, "SECRET") || strings.Contains(got, "CLIENT_AUTH") {
				t.Errorf("%q: got %s, want %s", code, got, proof)
			}
		}
	}
	with := config.Config{GrantType: "client_credentials", ClientAuth: "body", ClientSecret: "x", ClientCertFile: "/x"}
	st := tokens.Status{Failure: tokens.Failure{Kind: tokens.Rejected, Cause: tokens.Cause{Kind: tokens.CauseStatus, Status: 401, Code: "invalid_client"}}}
	if got := advice.For(st, LoginWay(with)); !strings.HasPrefix(got, "check BEARERD_CLIENT_ID and BEARERD_CLIENT_SECRET") {
		t.Errorf("with both: got %s", got)
	}
}
