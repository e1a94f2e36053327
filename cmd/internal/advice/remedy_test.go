package advice

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/bearerd/bearerd/cmd/internal/neterror"
	"github.com/bearerd/bearerd/tokens"
)

// A host's name is no reason for a remedy: words in it are not bearerd's.
func TestRemediesGoByType(t *testing.T) {
	transport := tokens.NewTransport(tokens.TransportOptions{})
	transport.DialContext = func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.DNSError{Name: "login-redirect.corp.example", IsNotFound: true}
	}
	m := tokens.New(tokens.Options{Login: tokens.Login{
		URL: "http://login-redirect.corp.example/HTTP 404, not one JSON object", Grant: "password",
		Transport: transport, Explain: func(err error) error { return neterror.Of(err) },
	}})
	defer m.Close()
	if _, err := m.Token(t.Context()); err == nil {
		t.Fatal("got a token")
	}
	st := m.Status()
	if got := st.Cause.String(); got != "lookup login-redirect.corp.example: no such host" {
		t.Errorf("got cause %q", got)
	}
	if got := For(st, Way{}); !strings.HasPrefix(got, "check BEARERD_TOKEN_URL, the network and the proxy (BEARERD_PROXY, HTTPS_PROXY)") {
		t.Errorf("got remedy %q", got)
	}
}

// What a person is told to do about each answer: the first setting named is the
// one that most likely mends it.
func TestLoginRemedies(t *testing.T) {
	const (
		user   = "check BEARERD_USERNAME and BEARERD_PASSWORD"
		client = "check BEARERD_CLIENT_ID and BEARERD_CLIENT_SECRET"
		server = "check BEARERD_TOKEN_URL and BEARERD_TOKEN_HOST"
	)
	answered := func(status int, code tokens.ErrorCode) tokens.Cause {
		return tokens.Cause{Kind: tokens.CauseStatus, Status: status, Code: code}
	}
	recoded := func(c tokens.Cause) tokens.Cause {
		c.Recoded = true
		return c
	}
	failedBy := func(c neterror.Cause) tokens.Cause { return tokens.Cause{Kind: tokens.CauseNoAnswer, Err: c} }
	password := Way{Grant: "password", ClientAuth: "body"}
	secret := func(auth string) Way { return Way{Grant: "client_credentials", ClientAuth: auth} }
	for _, test := range []struct {
		cause tokens.Cause
		way   Way
		want  []string // in this order
		never string
	}{
		{answered(401, "invalid_grant"), password, []string{user, "locked"}, "HTTPS_PROXY"},
		{answered(401, "access_denied"), password, []string{user, "locked"}, ""},            // Dex
		{answered(403, ""), password, []string{user, "CLIENT_ID", "locked"}, "HTTPS_PROXY"}, // Glewlwyd
		{answered(400, ""), password, []string{user, "locked"}, "HTTPS_PROXY"},              // FastAPI
		{answered(423, ""), password, []string{user, "locked"}, ""},
		{answered(401, tokens.OtherCode), password, []string{user}, ""},
		{answered(403, ""), Way{Grant: "password", ClientAuth: "basic-plain"}, []string{user, "CLIENT_ID", "CLIENT_AUTH=basic or body", "locked"}, ""},
		{answered(400, ""), secret("body"), []string{client, "CLIENT_AUTH=basic", "locked"}, "USERNAME"},        // Glewlwyd, with 403
		{answered(400, "invalid_request"), password, []string{user, "SCOPE", "TOKEN_PARAMS", "GRANT_TYPE"}, ""}, // Authlib, Dex, Hydra
		{answered(400, "invalid_request"), secret("body"), []string{client, "SCOPE", "TOKEN_PARAMS"}, ""},
		{answered(400, "invalid_request"), secret("basic-plain"), []string{client, "CLIENT_AUTH=basic or body", "SCOPE"}, ""}, // Dex, Hydra
		{answered(422, ""), password, []string{"check BEARERD_TOKEN_PARAMS", "USERNAME"}, ""},
		{answered(422, ""), secret("body"), []string{"check BEARERD_TOKEN_PARAMS", "CLIENT_ID"}, "USERNAME"},

		{answered(401, "invalid_client"), secret("body"), []string{client, "CLIENT_AUTH=basic"}, "basic-plain"},
		{answered(401, "invalid_client"), secret(""), []string{client, "CLIENT_AUTH=basic"}, "basic-plain"},
		{answered(401, "invalid_client"), secret("basic"), []string{client, "CLIENT_AUTH=body"}, "=basic"},
		{recoded(answered(401, "invalid_client")), secret("basic"), []string{client, "CLIENT_AUTH=basic-plain", "body"}, "or basic"},
		{answered(401, "invalid_client"), secret("basic-plain"), []string{client, "CLIENT_AUTH=basic or body"}, "=basic-plain"},
		{recoded(answered(401, "")), secret("basic"), []string{client, "CLIENT_AUTH=basic-plain"}, ""},
		{recoded(answered(401, "invalid_grant")), Way{Grant: "password", ClientAuth: "basic"}, []string{user}, ""},
		{answered(401, "unauthorized_client"), secret("body"), []string{client, "GRANT_TYPE"}, ""}, // Keycloak says it of a wrong secret

		{answered(400, "unsupported_grant_type"), password, []string{"check BEARERD_GRANT_TYPE"}, "PASSWORD"},
		{answered(400, "authorization_type_invalid"), password, []string{"check BEARERD_GRANT_TYPE"}, "PASSWORD"},
		{answered(400, "invalid_scope"), password, []string{"check BEARERD_SCOPE"}, "PASSWORD"},
		{answered(400, "scope_invalid"), password, []string{"check BEARERD_SCOPE"}, "PASSWORD"},
		{answered(400, "invalid_target"), secret("body"), []string{"check BEARERD_TOKEN_PARAMS", "audience", "SCOPE"}, "SECRET"},
		{answered(400, "consent_required"), password, []string{"a person in a browser"}, ""},
		{answered(404, ""), password, []string{server}, "HTTPS_PROXY"},
		{answered(404, tokens.OtherCode), password, []string{server}, ""}, // Keycloak: no such realm
		{answered(405, ""), password, []string{server}, ""},
		{answered(415, ""), password, []string{"check BEARERD_TOKEN_URL", "form"}, "HTTPS_PROXY"},
		{answered(421, ""), password, []string{server}, ""},
		{answered(407, ""), password, []string{"BEARERD_PROXY or HTTPS_PROXY, http://user:password"}, ""},
		{answered(500, ""), password, []string{"none here"}, ""},
		{answered(503, "temporarily_unavailable"), password, []string{"none here"}, ""},
		{answered(400, "server_error"), password, []string{"none here"}, "PASSWORD"},
		{answered(400, "slow_down"), password, []string{"none needed"}, "PASSWORD"},
		{tokens.Cause{Kind: tokens.CauseErrorMember, Status: 200, Code: "invalid_grant"}, password, []string{user}, ""},
		{tokens.Cause{Kind: tokens.CauseErrorMember, Status: 200}, password, []string{server}, ""},
		{tokens.Cause{Kind: tokens.CauseNotJSON, Status: 200}, password, []string{server}, ""},
		{tokens.Cause{Kind: tokens.CauseRedirect, Status: 302}, password, []string{server}, ""},
		{tokens.Cause{Kind: tokens.CausePage, Status: 403}, password, []string{"a firewall", "HTTPS_PROXY", "TOKEN_URL"}, "PASSWORD"},
		{tokens.Cause{Kind: tokens.CauseTokenOver, Status: 200}, password, []string{"none here"}, ""},
		{tokens.Cause{Kind: tokens.CauseTimeout, Err: errors.New("no answer within 10s")}, password, []string{"check BEARERD_TOKEN_URL", "HTTPS_PROXY", "LOGIN_TIMEOUT"}, ""},
		{tokens.Cause{Kind: tokens.CauseUnsendable, Problem: "no form"}, password, []string{"TOKEN_URL", "TOKEN_PARAMS"}, ""},

		{failedBy(neterror.Cause{Kind: neterror.NamesNoHost}), password, []string{"none here", "subjectAltName"}, ""},
		{failedBy(neterror.Cause{Kind: neterror.OtherHost}), password, []string{"check BEARERD_TOKEN_URL", "another name"}, ""},
		{failedBy(neterror.Cause{Kind: neterror.UnknownAuthority}), password, []string{"BEARERD_CA_FILE"}, ""},
		{failedBy(neterror.Cause{Kind: neterror.Renegotiation}), password, []string{"BEARERD_CLIENT_CERT_FILE"}, ""},
		{failedBy(neterror.Cause{Kind: neterror.HandshakeRefused}), password, []string{"CLIENT_CERT_FILE", "ECDHE"}, "HTTPS_PROXY"},
		{failedBy(neterror.Cause{Kind: neterror.NotHTTP}), password, []string{"scheme and port of BEARERD_TOKEN_URL"}, ""},
		{failedBy(neterror.Cause{Kind: neterror.Stream}), password, []string{"none here"}, ""},
		{failedBy(neterror.Cause{Kind: neterror.ProxyRefused, Status: 407}), password, []string{"BEARERD_PROXY or HTTPS_PROXY, http://user:password"}, ""},
		{failedBy(neterror.Cause{Kind: neterror.ProxyRefused, Status: 403}), password, []string{"check BEARERD_PROXY or HTTPS_PROXY"}, "TOKEN_URL"},
		{failedBy(neterror.Cause{Kind: neterror.UnknownAuthority, AtProxy: true}), password, []string{"check BEARERD_PROXY or HTTPS_PROXY"}, "CA_FILE"},
	} {
		result := tokens.Transient
		switch test.cause.Status {
		case 400, 401, 403, 422, 423:
			if c := test.cause.Code; test.cause.Kind == tokens.CauseStatus && c != "server_error" && c != "slow_down" {
				result = tokens.Rejected
			}
		}
		got := LoginFailure{tokens.Failure{Kind: result, Cause: test.cause}, test.way}.Remedy()
		rest := got
		for _, want := range test.want {
			before, after, found := strings.Cut(rest, want)
			if !found || strings.HasPrefix(want, "check ") && before != "" {
				t.Errorf("%v by %+v: got %q, want %q in this order", test.cause, test.way, got, test.want)
				break
			}
			rest = after
		}
		if test.never != "" && strings.Contains(got, test.never) {
			t.Errorf("%v by %+v: got %q, which must not name %s", test.cause, test.way, got, test.never)
		}
	}
}

// After five refusals a person is told why bearerd goes on as it does.
func TestAdviceAfterFiveRefusals(t *testing.T) {
	refused := func(worked, stopped bool) string {
		return For(tokens.Status{Failure: tokens.Failure{Kind: tokens.Rejected, Rejections: 5, Worked: worked, Stopped: stopped}}, Way{})
	}
	for got, want := range map[string]string{
		refused(true, false):  "these credentials have worked",
		refused(false, false): "a gateway may be at fault",
		refused(false, true):  "never worked",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
