package tokens_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/bearerd/bearerd/tokens"
)

// What login servers answer, and what stands before them. The comment at a row
// of a server names the file of its source that says so.
func TestVerdicts(t *testing.T) {
	const (
		ok, rejected, throttled, transient = tokens.OK, tokens.Rejected, tokens.Throttled, tokens.Transient

		page  = ", with a web page: a firewall, a proxy or a portal on the way answers in place of the login server"
		other = ", an unregistered error code"
		grant = `{"error":"invalid_grant","error_description":"hunter2-password is wrong"}`
	)
	html := http.Header{"Content-Type": {"text/html; charset=utf-8"}}
	plain := http.Header{"Content-Type": {"text/plain"}}
	retry := func(seconds string) http.Header { return http.Header{"Retry-After": {seconds}} }
	for _, test := range []struct {
		name   string
		status int
		header http.Header
		body   string
		kind   tokens.Result
		cause  string
	}{
		// A good answer.
		{"200", 200, nil, `{"access_token":"abc"}`, ok, ""},
		{"201", 201, nil, `{"access_token":"abc"}`, ok, ""},
		{"201 with an empty error", 201, nil, `{"access_token":"abc","error":""}`, ok, ""},
		{"200 with an error that is null", 200, nil, `{"access_token":"abc","error":null}`, ok, ""},
		{"201 without a token", 201, nil, `{}`, transient, "HTTP 201, but the answer has no access_token string"},
		{"200 with an error", 200, nil, grant, transient, "HTTP 200, but the answer has an error member: error invalid_grant"},
		{"200 with another error", 200, nil, `{"error":"hunter2-password"}`, transient, "HTTP 200, but the answer has an error member: an unregistered error code"},
		{"200 with an error of no text", 200, nil, `{"error":{"code":7}}`, transient, "HTTP 200, but the answer has an error member"},
		{"202 with a token", 202, nil, `{"access_token":"abc"}`, transient, "HTTP 202"},
		{"204", 204, nil, "\n", transient, "HTTP 204"},

		// Later.
		{"429", 429, nil, `{}`, throttled, "HTTP 429"},
		{"429 invalid_grant", 429, retry("7"), grant, throttled, "HTTP 429, error invalid_grant"},
		{"503 with Retry-After", 503, retry("7"), `<html>`, throttled, "HTTP 503"},
		{"400 temporarily_unavailable with Retry-After", 400, retry("7"), `{"error":"temporarily_unavailable"}`, throttled, "HTTP 400, error temporarily_unavailable"},
		{"401 temporarily_unavailable with Retry-After", 401, retry("7"), `{"error":"temporarily_unavailable"}`, throttled, "HTTP 401, error temporarily_unavailable"},
		{"400 slow_down with Retry-After", 400, retry("7"), `{"error":"slow_down"}`, throttled, "HTTP 400, error slow_down"},
		{"400 JSON with Retry-After", 400, retry("7"), `{"message":"busy"}`, throttled, "HTTP 400"},
		{"400 of its own code with Retry-After", 400, retry("7"), `{"error":"too_many_requests"}`, throttled, "HTTP 400" + other},
		{"400 invalid_request with Retry-After", 400, retry("7"), `{"error":"invalid_request"}`, throttled, "HTTP 400, error invalid_request"},
		{"401 empty with Retry-After", 401, retry("7"), "\n", throttled, "HTTP 401"},
		{"403 empty with Retry-After", 403, retry("7"), "\n", throttled, "HTTP 403"},
		{"403 HTML with Retry-After", 403, retry("7"), "<html>", throttled, "HTTP 403" + page},

		// … but the credentials are named.
		{"401 invalid_grant with Retry-After", 401, retry("1"), grant, rejected, "HTTP 401, error invalid_grant"},
		{"400 invalid_grant with Retry-After", 400, retry("1"), grant, rejected, "HTTP 400, error invalid_grant"},
		{"401 invalid_client with Retry-After", 401, retry("1"), `{"error":"invalid_client"}`, rejected, "HTTP 401, error invalid_client"},
		{"403 access_denied with Retry-After", 403, retry("1"), `{"error":"access_denied"}`, rejected, "HTTP 403, error access_denied"},
		{"400 invalid_credentials with Retry-After", 400, retry("1"), `{"error":"invalid_credentials"}`, rejected, "HTTP 400" + other},
		{"403 Account_Locked with Retry-After", 403, retry("900"), `{"error":"Account_Locked"}`, rejected, "HTTP 403" + other},
		{"423 with Retry-After", 423, retry("1"), "\n", rejected, "HTTP 423"},
		{"422 with Retry-After", 422, retry("1"), `{}`, rejected, "HTTP 422"},

		// A fault, of the moment or of the network.
		{"400 temporarily_unavailable", 400, nil, `{"error":"temporarily_unavailable"}`, transient, "HTTP 400, error temporarily_unavailable"},
		{"400 server_error", 400, nil, `{"error":"server_error"}`, transient, "HTTP 400, error server_error"},
		{"401 server_error", 401, nil, `{"error":"server_error"}`, transient, "HTTP 401, error server_error"},
		{"403 temporarily_unavailable", 403, nil, `{"error":"temporarily_unavailable"}`, transient, "HTTP 403, error temporarily_unavailable"},
		{"422 server_error", 422, nil, `{"error":"server_error"}`, transient, "HTTP 422, error server_error"},
		{"400 slow_down", 400, nil, `{"error":"slow_down"}`, transient, "HTTP 400, error slow_down"},
		{"500", 500, nil, `{"error":"server_error"}`, transient, "HTTP 500, error server_error"},
		{"500 with Retry-After", 500, retry("40"), "\n", transient, "HTTP 500"},
		{"503", 503, nil, "<html>", transient, "HTTP 503"},
		{"599", 599, nil, "\n", transient, "HTTP 599"},
		{"402", 402, nil, `{}`, transient, "HTTP 402"},
		{"404", 404, nil, `{}`, transient, "HTTP 404"},
		{"405", 405, nil, "\n", transient, "HTTP 405"},
		{"407", 407, nil, "\n", transient, "HTTP 407"},
		{"410", 410, nil, "\n", transient, "HTTP 410"},
		{"415", 415, nil, `{}`, transient, "HTTP 415"},
		{"421", 421, nil, "\n", transient, "HTTP 421"},
		{"302", 302, http.Header{"Location": {"https://elsewhere.test/"}}, "\n", transient, "HTTP 302, a redirect, which is never followed: check the token URL"},
		{"307 with a token", 307, http.Header{"Location": {"/"}}, `{"access_token":"abc"}`, transient, "HTTP 307, a redirect, which is never followed: check the token URL"},

		// What stands before a login server.
		{"400 HTML", 400, html, "<!DOCTYPE html><title>Bad Request</title>", transient, "HTTP 400" + page},
		{"403 HTML", 403, html, "<html><head><title>Request Rejected</title>", transient, "HTTP 403" + page},
		{"403 HTML of no declared type", 403, nil, "\ufeff\r\n <HTML>", transient, "HTTP 403" + page},
		{"403 HTML called plain", 403, plain, "<!doctype HTML>", transient, "HTTP 403" + page},
		{"403 XHTML", 403, http.Header{"Content-Type": {"application/xhtml+xml"}}, `<?xml version="1.0"?><html xmlns="x">`, transient, "HTTP 403" + page},
		{"403 HTML that begins with an element of its own", 403, html, "<portal-login>", transient, "HTTP 403" + page},
		{"422 HTML", 422, html, "<html>", transient, "HTTP 422" + page},
		{"423 HTML", 423, html, "<html>", transient, "HTTP 423" + page},
		{"401 HTML", 401, html, "<html>", rejected, "HTTP 401"},
		{"403 XML", 403, http.Header{"Content-Type": {"text/xml"}}, `<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>`, rejected, "HTTP 403"},
		{"403 JSON called HTML", 403, html, `{"message":"no"}`, rejected, "HTTP 403"},
		{"403 text called HTML", 403, html, "Forbidden", rejected, "HTTP 403"},
		{"403 of an API gateway", 403, nil, `{"message":"Forbidden"}`, rejected, "HTTP 403"},
		// spring-boot-project, DefaultErrorAttributes.java: the name of the status is no error code
		{"403 of Spring Boot", 403, nil, `{"timestamp":"x","status":403,"error":"Forbidden","path":"/token"}`, rejected, "HTTP 403"},
		{"400 of Spring Boot", 400, nil, `{"status":400,"error":"Bad Request"}`, rejected, "HTTP 400"},

		// A refusal, whatever its body.
		{"400 empty", 400, nil, "\n", rejected, "HTTP 400"},
		{"400 text", 400, plain, "wrong", rejected, "HTTP 400"},
		{"400 JSON", 400, nil, `{"message":"no"}`, rejected, "HTTP 400"},
		{"400 with a BOM", 400, nil, "\ufeff" + grant, rejected, "HTTP 400, error invalid_grant"},
		{"400 error twice", 400, nil, `{"error":"a","error":"invalid_grant"}`, rejected, "HTTP 400, error invalid_grant"},
		{"400 error empty", 400, nil, `{"error":""}`, rejected, "HTTP 400"},
		{"400 error object", 400, nil, `{"error":{"code":1}}`, rejected, "HTTP 400"},
		{"400 its own error", 400, nil, `{"error":"hunter2-password"}`, rejected, "HTTP 400" + other},
		{"401 empty", 401, nil, "\n", rejected, "HTTP 401"},
		{"403 empty", 403, nil, "\n", rejected, "HTTP 403"},
		{"403 text", 403, plain, "Forbidden", rejected, "HTTP 403"},
		{"422 JSON", 422, nil, `{"errors":{"password":["is wrong"]}}`, rejected, "HTTP 422"},
		{"423 JSON", 423, nil, `{"message":"locked"}`, rejected, "HTTP 423"},

		// Dex: server/handlers.go, handlePasswordGrant, withClientFromStorage
		{"Dex, wrong password", 401, nil, `{"error":"access_denied","error_description":"Invalid username or password"}`, rejected, "HTTP 401, error access_denied"},
		{"Dex, wrong client secret", 401, nil, `{"error":"invalid_client","error_description":"Invalid client credentials."}`, rejected, "HTTP 401, error invalid_client"},
		{"Dex, no scope openid", 400, nil, `{"error":"invalid_request","error_description":"Missing required scope(s) [\"openid\"]."}`, rejected, "HTTP 400, error invalid_request"},
		{"Dex, grant not enabled", 400, nil, `{"error":"unsupported_grant_type"}`, rejected, "HTTP 400, error unsupported_grant_type"},
		{"Dex, storage away", 500, nil, `{"error":"server_error"}`, transient, "HTTP 500, error server_error"},
		// Hydra: ory/fosite, errors.go
		{"Hydra, wrong client", 401, nil, `{"error":"invalid_client","error_description":"Client authentication failed (e.g., unknown client, no client authentication included, or unsupported authentication method)."}`, rejected, "HTTP 401, error invalid_client"},
		{"Hydra, scope", 400, nil, `{"error":"invalid_scope","error_description":"The requested scope is invalid, unknown, or malformed."}`, rejected, "HTTP 400, error invalid_scope"},
		{"Hydra, audience", 400, nil, `{"error":"invalid_request","error_description":"Requested audience 'x' has not been whitelisted by the OAuth 2.0 Client."}`, rejected, "HTTP 400, error invalid_request"},
		{"Hydra, grant", 400, nil, `{"error":"unauthorized_client"}`, rejected, "HTTP 400, error unauthorized_client"},
		{"Hydra, not authorized", 401, nil, `{"error":"request_unauthorized"}`, rejected, "HTTP 401, error request_unauthorized"},
		{"Hydra, overloaded", 503, nil, `{"error":"temporarily_unavailable"}`, transient, "HTTP 503, error temporarily_unavailable"},
		{"Hydra, database", 500, nil, `{"error":"error","error_description":"The error is unrecognizable"}`, transient, "HTTP 500" + other},
		// Glewlwyd: src/plugin/protocol_oauth2.c, check_auth_type_resource_owner_pwd_cred, check_auth_type_client_credentials_grant
		{"Glewlwyd, wrong password", 403, nil, "\n", rejected, "HTTP 403"},
		{"Glewlwyd, no such client", 403, nil, "\n", rejected, "HTTP 403"},
		{"Glewlwyd, no password", 400, nil, "\n", rejected, "HTTP 400"},
		{"Glewlwyd, scope", 400, nil, `{"error":"scope_invalid"}`, rejected, "HTTP 400, error scope_invalid"},
		{"Glewlwyd, grant of the client", 400, nil, `{"error":"authorization_type_invalid"}`, rejected, "HTTP 400, error authorization_type_invalid"},
		{"Glewlwyd, fault", 500, nil, `{"error":"server_error"}`, transient, "HTTP 500, error server_error"},
		// django-oauth-toolkit: oauthlib/oauth2/rfc6749/errors.py, grant_types/resource_owner_password_credentials.py
		{"django-oauth-toolkit, wrong password", 400, nil, `{"error": "invalid_grant", "error_description": "Invalid credentials given."}`, rejected, "HTTP 400, error invalid_grant"},
		{"django-oauth-toolkit, wrong password, before oauthlib 3.1", 401, nil, `{"error": "invalid_grant", "error_description": "Invalid credentials given."}`, rejected, "HTTP 401, error invalid_grant"},
		{"django-oauth-toolkit, wrong client", 401, nil, `{"error": "invalid_client"}`, rejected, "HTTP 401, error invalid_client"},
		{"django-oauth-toolkit, grant", 400, nil, `{"error": "unauthorized_client"}`, rejected, "HTTP 400, error unauthorized_client"},
		{"django-oauth-toolkit, scope", 400, nil, `{"error": "invalid_scope"}`, rejected, "HTTP 400, error invalid_scope"},
		{"django-oauth-toolkit, a cross-site check", 403, html, "\n<!DOCTYPE html>\n<html lang=\"en\">", transient, "HTTP 403" + page},
		// Authlib: authlib/oauth2/rfc6749/grants/resource_owner_password_credentials.py, authenticate_client.py
		{"Authlib, wrong password", 400, nil, `{"error": "invalid_request", "error_description": "Invalid 'username' or 'password' in request."}`, rejected, "HTTP 400, error invalid_request"},
		{"Authlib, wrong client, in the body", 400, nil, `{"error": "invalid_client"}`, rejected, "HTTP 400, error invalid_client"},
		{"Authlib, wrong client, by basic", 401, nil, `{"error": "invalid_client"}`, rejected, "HTTP 401, error invalid_client"},
		// FastAPI: docs_src/security/tutorial003.py and 004.py; fastapi/exception_handlers.py
		{"FastAPI, wrong password", 400, nil, `{"detail":"Incorrect username or password"}`, rejected, "HTTP 400"},
		{"FastAPI, wrong password, with JWTs", 401, nil, `{"detail":"Incorrect username or password"}`, rejected, "HTTP 401"},
		{"FastAPI, a field is missing", 422, nil, `{"detail":[{"type":"missing","loc":["body","username"],"msg":"Field required"}]}`, rejected, "HTTP 422"},
		// @node-oauth/oauth2-server: lib/errors, lib/handlers/token-handler.js, lib/grant-types/password-grant-type.js
		{"oauth2-server, wrong password", 400, nil, `{"error":"invalid_grant","error_description":"Invalid grant: user credentials are invalid"}`, rejected, "HTTP 400, error invalid_grant"},
		{"oauth2-server, wrong client, in the body", 400, nil, `{"error":"invalid_client","error_description":"Invalid client: client is invalid"}`, rejected, "HTTP 400, error invalid_client"},
		{"oauth2-server, wrong client, by basic", 401, nil, `{"error":"invalid_client"}`, rejected, "HTTP 401, error invalid_client"},
		{"oauth2-server, a byte that it forbids", 400, nil, `{"error":"invalid_request","error_description":"Invalid parameter: client_secret"}`, rejected, "HTTP 400, error invalid_request"},
		{"oauth2-server, grant", 400, nil, `{"error":"unauthorized_client"}`, rejected, "HTTP 400, error unauthorized_client"},
		{"oauth2-server, scope", 400, nil, `{"error":"invalid_scope"}`, rejected, "HTTP 400, error invalid_scope"},
		{"oauth2-server, its model throws", 503, nil, `{"error":"server_error","error_description":"hunter2-password"}`, transient, "HTTP 503, error server_error"},
		// Keycloak: services/…/protocol/oidc/grants, authenticators/directgrant, authenticators/client, CorsErrorResponseException.java
		{"Keycloak, wrong password", 401, nil, `{"error":"invalid_grant","error_description":"Invalid user credentials"}`, rejected, "HTTP 401, error invalid_grant"},
		{"Keycloak, disabled or locked", 400, nil, `{"error":"invalid_grant","error_description":"Account disabled"}`, rejected, "HTTP 400, error invalid_grant"},
		{"Keycloak, a required action", 400, nil, `{"error":"invalid_grant","error_description":"Account is not fully set up"}`, rejected, "HTTP 400, error invalid_grant"},
		{"Keycloak, no direct access", 400, nil, `{"error":"unauthorized_client","error_description":"Client not allowed for direct access grants"}`, rejected, "HTTP 400, error unauthorized_client"},
		{"Keycloak, wrong client", 401, nil, `{"error":"unauthorized_client","error_description":"Invalid client or Invalid client credentials"}`, rejected, "HTTP 401, error unauthorized_client"},
		{"Keycloak, scope", 400, nil, `{"error":"invalid_scope","error_description":"Invalid scopes: x"}`, rejected, "HTTP 400, error invalid_scope"},
		{"Keycloak, HTTPS required", 403, nil, `{"error":"invalid_request","error_description":"HTTPS required"}`, rejected, "HTTP 403, error invalid_request"},
		{"Keycloak, no such realm", 404, nil, `{"error":"Realm does not exist"}`, transient, "HTTP 404" + other},
		{"Keycloak, another Content-Type", 415, nil, `{"error":"HTTP 415 Unsupported Media Type"}`, transient, "HTTP 415" + other},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := logInOnce(t, reply{status: test.status, body: test.body, header: test.header})
			if e.Result() != test.kind || e.Cause.String() != test.cause || e.Status != test.status || (e.Token == nil) == (test.kind == ok) {
				t.Errorf("got %s %d %q, want %s %d %q", e.Result(), e.Status, e.Cause, test.kind, test.status, test.cause)
			}
			if test.kind != ok && e.Cause.Status != test.status {
				t.Errorf("got the cause %#v", e.Cause)
			}
		})
	}
}

// A password that a login server refuses is never asked about more often than
// the schedule of refusals permits, whatever else the server says of it.
func TestFaultWrongPasswordInManyWords(t *testing.T) {
	for name, refusal := range map[string]reply{
		"401 with Retry-After: 1": {status: 401, body: `{"error":"invalid_grant"}`, header: http.Header{"Retry-After": {"1"}}},
		"400 with Retry-After: 0": {status: 400, body: `{"error":"invalid_credentials"}`, header: http.Header{"Retry-After": {"0"}}},
		"Glewlwyd":                {status: 403, body: "\n"},
		"FastAPI":                 {status: 400, body: `{"detail":"Incorrect username or password"}`},
		"Authlib":                 {status: 400, body: `{"error":"invalid_request"}`},
		"422":                     {status: 422, body: `{"errors":[]}`},
		"423 with Retry-After":    {status: 423, body: "\n", header: http.Header{"Retry-After": {"2"}}},
		"a bare 401 that always says Retry-After": {status: 401, body: "\n", header: http.Header{"Retry-After": {"1"}}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := newServer(t, func(int) reply { return refusal })
				m := newManager(t, s)
				m.Start()
				wait(37 * time.Minute)
				most := 5
				if refusal.status == 401 && refusal.body == "\n" {
					most = 10 // throttled, until it has said so ten times
				}
				if n := len(s.seen()); n < 5 || n > most {
					t.Errorf("got %d logins in 37 minutes, at %v, want 5 to %d", n, s.times(), most)
				}
			})
		})
	}
}
