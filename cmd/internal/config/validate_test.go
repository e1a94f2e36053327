package config

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/display"
)

// Each row is one problem and the whole line that tells it.
func TestProblems(t *testing.T) {
	open := []string{"BEARERD_ALLOW_NON_LOOPBACK=true", "BEARERD_ALLOWED_HOSTS=a"}
	for _, tt := range []struct {
		name    string
		environ []string // joined to working
		want    string   // without BEARERD_
	}{
		{"preset", []string{"BEARERD_PRESET=vopta"}, `PRESET: "vopta" is not known; write one of ` + strings.Join(offered, ", ")},

		{"upstream missing", []string{"BEARERD_UPSTREAM="},
			"UPSTREAM: missing; write the base URL of the API, e.g. https://api.example.com, or choose a BEARERD_PRESET that has one (" + presetsWith("BEARERD_UPSTREAM") + ")"},
		{"upstream without scheme", []string{"BEARERD_UPSTREAM=api.example.com"},
			`UPSTREAM: "api.example.com" has no scheme; write https://api.example.com`},
		{"host and port without scheme", []string{"BEARERD_UPSTREAM=api.example.com:8443/x"},
			`UPSTREAM: "api.example.com:8443/x" has no scheme; write https://api.example.com:8443/x`},
		{"loopback without scheme", []string{"BEARERD_UPSTREAM=localhost:9000"},
			`UPSTREAM: "localhost:9000" has no scheme; write http://localhost:9000`},
		{"no scheme, control characters", []string{"BEARERD_UPSTREAM=//a\u0085\x1b[2J"},
			`UPSTREAM: "//a\u0085\x1b[2J" has no scheme; write https://a\u0085\x1b[2J`},
		{"user without scheme", []string{"BEARERD_UPSTREAM=me:hunter2@api.example.com"}, "UPSTREAM: has no scheme; begin with https://"},
		{"other scheme", []string{"BEARERD_UPSTREAM=ftp://api.example.com"},
			`UPSTREAM: "ftp://api.example.com" has the scheme "ftp"; write http or https`},
		{"no host", []string{"BEARERD_UPSTREAM=https:///x"}, `UPSTREAM: "https:///x" has no host; write e.g. https://api.example.com`},
		{"port only", []string{"BEARERD_UPSTREAM=https://:8443"}, `UPSTREAM: "https://:8443" has no host; write e.g. https://api.example.com`},
		{"port range", []string{"BEARERD_UPSTREAM=https://a:65536"}, `UPSTREAM: "https://a:65536" has no valid port; write 1 to 65535`},
		{"port 0", []string{"BEARERD_UPSTREAM=https://a:0"}, `UPSTREAM: "https://a:0" has no valid port; write 1 to 65535`},
		{"no URL", []string{"BEARERD_UPSTREAM=https://a b"}, `UPSTREAM: "https://a b" is not a URL; write e.g. https://api.example.com`},
		{"user information", []string{"BEARERD_UPSTREAM=https://me:hunter2@a"},
			"UPSTREAM: holds user information; take what is before the @ out, BEARERD_USERNAME and BEARERD_PASSWORD are for it"},
		{"user only", []string{"BEARERD_TOKEN_URL=https://@a"},
			"TOKEN_URL: holds user information; take what is before the @ out, BEARERD_USERNAME and BEARERD_PASSWORD are for it"},
		{"password with slash", []string{"BEARERD_UPSTREAM=https://me:hunter2/x@a"}, // url.Parse: invalid port ":hunter2"
			"UPSTREAM: holds user information; take what is before the @ out, BEARERD_USERNAME and BEARERD_PASSWORD are for it"},
		{"query", []string{"BEARERD_UPSTREAM=https://a/?key=hunter2"}, "UPSTREAM: has a query; end it before the ?"},
		{"empty query", []string{"BEARERD_UPSTREAM=https://a/?"}, "UPSTREAM: has a query; end it before the ?"},
		{"fragment", []string{"BEARERD_UPSTREAM=https://a/#x"}, "UPSTREAM: has a fragment; end it before the #"},
		{"token fragment", []string{"BEARERD_TOKEN_URL=https://a/#x"}, "TOKEN_URL: has a fragment; end it before the #"},
		{"dot segment", []string{"BEARERD_UPSTREAM=https://a/b/%2E%2e/c"},
			`UPSTREAM: "/b/%2E%2e/c" has a . or .. in its path; write the path it leads to`},
		{"clear text", []string{"BEARERD_UPSTREAM=http://a"},
			"UPSTREAM: http would show every token to anybody on the way; write https, or set BEARERD_ALLOW_INSECURE=true"},
		{"clear text login", []string{"BEARERD_TOKEN_URL=http://x.localhost"},
			"TOKEN_URL: http would show the login's secrets to anybody on the way; write https, or set BEARERD_ALLOW_INSECURE=true"},
		{"insecure", []string{"BEARERD_UPSTREAM=http://a", "BEARERD_ALLOW_INSECURE=on"},
			`ALLOW_INSECURE: "on" is not a truth value; write true or false`},
		{"itself", []string{"BEARERD_UPSTREAM=http://127.0.0.1:8080"},
			`UPSTREAM: "127.0.0.1:8080" is where bearerd itself listens (BEARERD_LISTEN); change one of them`},
		{"itself, port by scheme", []string{"BEARERD_UPSTREAM=http://localhost/x", "BEARERD_LISTEN=127.0.0.1:80"},
			`UPSTREAM: "localhost" is where bearerd itself listens (BEARERD_LISTEN); change one of them`},
		{"itself, admin", []string{"BEARERD_TOKEN_URL=http://[::1]:9180/token"},
			`TOKEN_URL: "[::1]:9180" is where bearerd itself listens (BEARERD_ADMIN_LISTEN); change one of them`},
		{"itself, by no address", []string{"BEARERD_UPSTREAM=http://0.0.0.0:8080", "BEARERD_ALLOW_INSECURE=true"},
			`UPSTREAM: "0.0.0.0:8080" is where bearerd itself listens (BEARERD_LISTEN); change one of them`},
		{"itself, by TLS and in the clear", []string{"BEARERD_UPSTREAM=http://a.localhost:8080"},
			`UPSTREAM: "a.localhost:8080" is where bearerd itself listens (BEARERD_LISTEN); change one of them`},
		{"token URL missing", []string{"BEARERD_TOKEN_URL="},
			"TOKEN_URL: missing; write the URL that logins are posted to, or choose a BEARERD_PRESET (" + presetsWith("BEARERD_TOKEN_URL") + ")"},
		{"token host", []string{"BEARERD_TOKEN_HOST=https://a"}, `TOKEN_HOST: "https://a" is more than a host; write the name only`},
		{"token host's port", []string{"BEARERD_TOKEN_HOST=a:http"}, `TOKEN_HOST: "a:http" has no valid port; write host or host:port`},

		{"grant missing", []string{"BEARERD_GRANT_TYPE="},
			"GRANT_TYPE: missing; write password or client_credentials, or choose a BEARERD_PRESET (" + presetsWith("BEARERD_GRANT_TYPE") + ")"},
		{"grant", []string{"BEARERD_GRANT_TYPE=authorization_code"},
			`GRANT_TYPE: "authorization_code" is not known; write one of password, client_credentials`},
		{"username", []string{"BEARERD_USERNAME="}, "USERNAME: missing; write the name of the account, or set BEARERD_USERNAME_FILE"},
		{"password", []string{"BEARERD_PASSWORD="}, "PASSWORD: missing; set it, or set BEARERD_PASSWORD_FILE to the file that holds it"},
		{"client credentials", []string{"BEARERD_GRANT_TYPE=client_credentials", "BEARERD_USERNAME=", "BEARERD_PASSWORD="},
			"CLIENT_SECRET: missing; set it, or set BEARERD_CLIENT_SECRET_FILE to the file that holds it"},
		{"client id", []string{"BEARERD_GRANT_TYPE=client_credentials", "BEARERD_CLIENT_SECRET=hunter2", "BEARERD_CLIENT_ID="},
			"CLIENT_ID: missing; write the client_id that the vendor allotted"},
		{"secret without id", []string{"BEARERD_CLIENT_SECRET=hunter2", "BEARERD_CLIENT_ID="},
			"CLIENT_ID: missing; write the client_id that BEARERD_CLIENT_SECRET belongs to"},
		{"basic", []string{"BEARERD_CLIENT_AUTH=basic"},
			"CLIENT_SECRET: missing; set it, or set BEARERD_CLIENT_SECRET_FILE to the file that holds it"},
		{"basic and no secret, but an assertion", []string{"BEARERD_GRANT_TYPE=client_credentials", "BEARERD_USERNAME=", "BEARERD_PASSWORD=", "BEARERD_CLIENT_AUTH=basic", "BEARERD_TOKEN_PARAMS=client_assertion=x"},
			"CLIENT_SECRET: missing; set it, or set BEARERD_CLIENT_SECRET_FILE to the file that holds it; for a login without one unset BEARERD_CLIENT_AUTH"},
		{"secret and assertion", []string{"BEARERD_CLIENT_SECRET=hunter2", "BEARERD_CLIENT_ASSERTION_FILE=/no/such/file"},
			"CLIENT_ASSERTION_FILE: set, and a client secret too; unset one, as a login authenticates its client in one way"},
		{"two assertions", []string{"BEARERD_TOKEN_PARAMS=client_assertion=x", "BEARERD_CLIENT_ASSERTION_FILE=/no/such/file"},
			"TOKEN_PARAMS: has client_assertion, and BEARERD_CLIENT_ASSERTION_FILE is set too; unset one"},
		{"graphnet's user variant", []string{"BEARERD_PRESET=graphnet"},
			"CLIENT_SECRET: missing; set it, or set BEARERD_CLIENT_SECRET_FILE to the file that holds it"},
		{"basic-plain", []string{"BEARERD_CLIENT_AUTH=Basic-Plain", "BEARERD_CLIENT_ID=a:b", "BEARERD_CLIENT_SECRET=hunter2"},
			"CLIENT_ID: has a colon, which would end it in the header of BEARERD_CLIENT_AUTH=basic-plain; write basic, or body"},
		{"client auth", []string{"BEARERD_CLIENT_AUTH=header"}, `CLIENT_AUTH: "header" is not known; write one of body, basic, basic-plain`},

		{"both forms", []string{"BEARERD_PASSWORD=hunter2", "BEARERD_PASSWORD_FILE=/x"}, "PASSWORD: set, and BEARERD_PASSWORD_FILE too; unset one"},
		{"a store and the environment", []string{"BEARERD_PASSWORD=hunter2", "BEARERD_PASSWORD_KEYRING=x"}, "PASSWORD: set, and BEARERD_PASSWORD_KEYRING too; unset one"},
		{"a store and a file", []string{"BEARERD_CLIENT_SECRET_FILE=/x", "BEARERD_CLIENT_SECRET_KEYRING=x"}, "CLIENT_SECRET_FILE: set, and BEARERD_CLIENT_SECRET_KEYRING too; unset one"},
		{"a proxy's password", []string{"BEARERD_PROXY=http://u:hunter2#@p:1"}, "PROXY: not the URL of a proxy; write http://proxy.example.com:3128, and in a password %23 for #, %2F for /, %3F for ?, %40 for @ and %20 for a space"},
		{"no proxy's scheme", []string{"BEARERD_PROXY=ftp://u:hunter2@p:1"}, "PROXY: no kind of proxy that bearerd knows; write the URL of one with http://, https://, socks5://, socks5h://"},
		{"a proxy's mode", []string{"BEARERD_PROXY=hunter2"}, "PROXY: neither env, system, off nor a URL; write http://proxy.example.com:3128"},
		{"both forms of a proxy", []string{"BEARERD_PROXY=off", "BEARERD_PROXY_FILE=/x"}, "PROXY: set, and BEARERD_PROXY_FILE too; unset one"},
		{"both forms of params", []string{"BEARERD_TOKEN_PARAMS=a=hunter2", "BEARERD_TOKEN_PARAMS_FILE=/x"},
			"TOKEN_PARAMS: set, and BEARERD_TOKEN_PARAMS_FILE too; unset one"},
		{"newline", []string{"BEARERD_PASSWORD=hunter2\n"},
			"PASSWORD: ends with a newline; make it with printf, not echo, or use BEARERD_PASSWORD_FILE, where one newline is trimmed"},
		{"carriage return", []string{"BEARERD_CLIENT_SECRET=hunter2\r"},
			"CLIENT_SECRET: ends with a newline; make it with printf, not echo, or use BEARERD_CLIENT_SECRET_FILE, where one newline is trimmed"},
		{"username newline", []string{"BEARERD_USERNAME=hunter2\r\n"},
			"USERNAME: ends with a newline; make it with printf, not echo, or use BEARERD_USERNAME_FILE, where one newline is trimmed"},
		{"params form", []string{"BEARERD_TOKEN_PARAMS=hunter2"},
			"TOKEN_PARAMS: not of the form a=b&c=d; escape & as %26, % as %25, + as %2B and ; as %3B in a value"},
		{"params escape", []string{"BEARERD_TOKEN_PARAMS=a=hunter2%zz"}, // url.ParseQuery quotes the %zz
			"TOKEN_PARAMS: not of the form a=b&c=d; escape & as %26, % as %25, + as %2B and ; as %3B in a value"},
		{"params key", []string{"BEARERD_TOKEN_PARAMS=a=b&=hunter2"},
			"TOKEN_PARAMS: not of the form a=b&c=d; escape & as %26, % as %25, + as %2B and ; as %3B in a value"},
		{"params repeat", []string{"BEARERD_TOKEN_PARAMS=audience=hunter2&client%5Fid=hunter2"},
			"TOKEN_PARAMS: has client_id, which would be sent twice; set BEARERD_CLIENT_ID instead"},

		{"listen without port", []string{"BEARERD_LISTEN=localhost"}, `LISTEN: "localhost" is not host:port; write e.g. localhost:8080 or [::1]:8080`},
		{"listen port only", []string{"BEARERD_LISTEN=8080"}, `LISTEN: "8080" is not host:port; write e.g. localhost:8080 or [::1]:8080`},
		{"listen port range", []string{"BEARERD_LISTEN=localhost:65536"},
			`LISTEN: "localhost:65536" has no valid port; write 1 to 65535, or 0 for a free one`},
		{"listen name", []string{"BEARERD_LISTEN=myhost:8080"}, `LISTEN: "myhost:8080" names a host; write localhost or an IP address of this machine`},
		{"listen nothing", []string{"BEARERD_LISTEN=,"}, "LISTEN: the list has no item; write one, or unset it"},
		{"listen twice", []string{"BEARERD_LISTEN=localhost:1,[::1]:1"}, `LISTEN: "[::1]:1" is taken by another listener of bearerd; choose another port`},
		{"admin on data", []string{"BEARERD_ADMIN_LISTEN=0.0.0.0:8080"},
			`ADMIN_LISTEN: "0.0.0.0:8080" is taken by another listener of bearerd; choose another port`},
		{"admin name", []string{"BEARERD_ADMIN_LISTEN=none"}, `ADMIN_LISTEN: "none" is not host:port; write e.g. localhost:8080 or [::1]:8080`},
		{"hosts missing", []string{"BEARERD_ALLOW_NON_LOOPBACK=true"},
			"ALLOWED_HOSTS: missing; BEARERD_ALLOW_NON_LOOPBACK needs it: list the hosts that callers write in their URLs"},
		{"truth", []string{"BEARERD_ALLOW_NON_LOOPBACK=yes"}, `ALLOW_NON_LOOPBACK: "yes" is not a truth value; write true or false`},

		{"wildcard", []string{"BEARERD_ALLOWED_HOSTS=*"}, `ALLOWED_HOSTS: "*" is a wildcard; name each host`},
		{"wildcard label", []string{"BEARERD_ALLOWED_HOSTS=*.example.com"}, `ALLOWED_HOSTS: "*.example.com" is a wildcard; name each host`},
		{"any address", []string{"BEARERD_ALLOWED_HOSTS=0.0.0.0"}, `ALLOWED_HOSTS: "0.0.0.0" is no address that a caller can name; write the one it uses`},
		{"any IPv6 address", []string{"BEARERD_ALLOWED_HOSTS=[::]"}, `ALLOWED_HOSTS: "[::]" is no address that a caller can name; write the one it uses`},
		{"host with port", []string{"BEARERD_ALLOWED_HOSTS=a:80"}, `ALLOWED_HOSTS: "a:80" has a port or is no IPv6 address; write the host without port`},
		{"host with scheme", []string{"BEARERD_ALLOWED_HOSTS=http://a"}, `ALLOWED_HOSTS: "http://a" is more than a host; write the name only`},
		{"integer host", []string{"BEARERD_ALLOWED_HOSTS=2130706433"},
			`ALLOWED_HOSTS: "2130706433" is not a host name; write e.g. proxy.example.com or 192.0.2.7`},
		{"short address", []string{"BEARERD_ALLOWED_HOSTS=127.0x1"},
			`ALLOWED_HOSTS: "127.0x1" is not a host name; write e.g. proxy.example.com or 192.0.2.7`},
		{"half bracket", []string{"BEARERD_ALLOWED_HOSTS=[::1"}, `ALLOWED_HOSTS: "[::1" has a port or is no IPv6 address; write the host without port`},
		{"empty label", []string{"BEARERD_ALLOWED_HOSTS=a..b"}, `ALLOWED_HOSTS: "a..b" is not a host name; write e.g. proxy.example.com or 192.0.2.7`},
		{"zone", []string{"BEARERD_ALLOWED_HOSTS=[fe80::1%eth0]"},
			`ALLOWED_HOSTS: "[fe80::1%eth0]" is no address that a caller can name; write the one it uses`},
		{"long label", []string{"BEARERD_ALLOWED_HOSTS=" + strings.Repeat("a", 64)},
			`ALLOWED_HOSTS: "` + strings.Repeat("a", 64) + `" is not a host name; write e.g. proxy.example.com or 192.0.2.7`},
		{"no hosts", []string{"BEARERD_ALLOWED_HOSTS= , "}, "ALLOWED_HOSTS: the list has no item; write one, or unset it"},
		{"method", []string{"BEARERD_ALLOWED_METHODS=GET HEAD"}, `ALLOWED_METHODS: "GET HEAD" is not a method; write e.g. GET,HEAD`},
		{"renew status", []string{"BEARERD_RENEW_STATUS=401,500"}, `RENEW_STATUS: "500" cannot mean that; write 401 or 401,403`},
		{"renew status without 401", []string{"BEARERD_RENEW_STATUS=403"}, "RENEW_STATUS: 401 always means that (RFC 6750); write 401 or 401,403"},
		{"connect", []string{"BEARERD_ALLOWED_METHODS=get,connect"}, "ALLOWED_METHODS: CONNECT is never forwarded; take it out"},
		{"path", []string{"BEARERD_ALLOWED_PATHS=api"}, `ALLOWED_PATHS: "api" does not begin with /; write e.g. /cpmm/api`},
		{"path dots", []string{"BEARERD_ALLOWED_PATHS=/a/%252e%252e;x/b"},
			`ALLOWED_PATHS: "/a/%252e%252e;x/b" has a . or .. segment; write the path it leads to`},
		{"path escape", []string{"BEARERD_ALLOWED_PATHS=/100%"},
			`ALLOWED_PATHS: "/100%" is not a plain path; leave out ?, #, \ and ;, and write % as %25`},

		{"no unit", []string{"BEARERD_LOGIN_TIMEOUT=10"}, `LOGIN_TIMEOUT: "10" has no unit; write 10s`},
		{"no duration", []string{"BEARERD_TOKEN_WAIT=soon"}, `TOKEN_WAIT: "soon" is not a duration; write e.g. 10s, 1m30s or 500ms`},
		{"negative", []string{"BEARERD_DRAIN_DELAY=-1s"}, `DRAIN_DELAY: "-1s" is negative; write e.g. 10s`},
		{"login timeout 0", []string{"BEARERD_LOGIN_TIMEOUT=0"}, "LOGIN_TIMEOUT: must be more than 0; write e.g. 10s"},
		{"token wait 0", []string{"BEARERD_TOKEN_WAIT=0s"}, "TOKEN_WAIT: must be more than 0; write e.g. 10s"},
		{"upstream idle 0", []string{"BEARERD_UPSTREAM_IDLE=0"}, "UPSTREAM_IDLE: must be more than 0; write e.g. 10s"},
		{"dial timeout 0", []string{"BEARERD_DIAL_TIMEOUT=0s"}, "DIAL_TIMEOUT: must be more than 0; write e.g. 10s"},
		{"lifetime 0", []string{"BEARERD_DEFAULT_TOKEN_LIFETIME=0s"}, "DEFAULT_TOKEN_LIFETIME: must be more than 0; write e.g. 10s"},
		{"in flight 0", []string{"BEARERD_MAX_IN_FLIGHT=0"}, `MAX_IN_FLIGHT: "0" lets no request through; write 1 or more`},
		{"in flight", []string{"BEARERD_MAX_IN_FLIGHT=many"}, `MAX_IN_FLIGHT: "many" is not a whole number; write e.g. 4096`},
		{"too much", []string{"BEARERD_REPLAY_BUFFER=65MiB"}, `REPLAY_BUFFER: "65MiB" is too much; write 64MiB or less`},
		{"size", []string{"BEARERD_REPLAY_BUFFER=1MB"}, `REPLAY_BUFFER: "1MB" is not a size; write e.g. 512KiB, 1MiB or a number of bytes`},
		{"overflow", []string{"BEARERD_REPLAY_BUFFER=9000000000000GiB"},
			`REPLAY_BUFFER: "9000000000000GiB" is not a size; write e.g. 512KiB, 1MiB or a number of bytes`},
		{"negative size", []string{"BEARERD_REPLAY_BUFFER=-1"}, `REPLAY_BUFFER: "-1" is not a size; write e.g. 512KiB, 1MiB or a number of bytes`},
		{"level", []string{"BEARERD_LOG_LEVEL=trace"}, `LOG_LEVEL: "trace" is not known; write one of debug, info, warn, error`},
		{"format", []string{"BEARERD_LOG_FORMAT=text"}, `LOG_FORMAT: "text" is not known; write one of auto, console, json`},
		{"access log", []string{"BEARERD_ACCESS_LOG=none"}, `ACCESS_LOG: "none" is not known; write one of all, errors, off`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := problems(t, bearerdtest.With(tt.environ...))
			if !slices.Equal(got, []string{"BEARERD_" + tt.want}) {
				t.Errorf("got  %s\nwant BEARERD_%s", strings.Join(got, "\n     "), tt.want)
			}
			if strings.Contains(strings.Join(got, ""), "hunter2") {
				t.Error("a secret was printed")
			}
		})
	}
	for _, address := range []string{":8080", "0.0.0.0:8080", "[::]:8080", "192.0.2.7:8080"} {
		want := `BEARERD_LISTEN: "` + address + `" can be reached from other machines, which would then speak with this account; ` +
			"write localhost, or set BEARERD_ALLOW_NON_LOOPBACK=true and BEARERD_ALLOWED_HOSTS"
		if got := problems(t, bearerdtest.With("BEARERD_LISTEN="+address)); !slices.Equal(got, []string{want}) {
			t.Errorf("got %q, want %q", got, want)
		}
		mustLoad(t, bearerdtest.With(append(open, "BEARERD_LISTEN="+address)...))
	}
}

func TestAccepted(t *testing.T) {
	for _, environ := range [][]string{
		{"BEARERD_UPSTREAM=http://localhost:9000", "BEARERD_TOKEN_URL=http://127.9.9.9/t?realm=a"},
		{"BEARERD_UPSTREAM=http://[::1]", "BEARERD_LISTEN=127.0.0.2:0,[::1]:0"},
		{"BEARERD_UPSTREAM=http://LOCALHOST:8080", "BEARERD_LISTEN=localhost:8081"},
		{"BEARERD_UPSTREAM=https://192.0.2.7:8080", "BEARERD_LISTEN=:8080", "BEARERD_ALLOW_NON_LOOPBACK=true", "BEARERD_ALLOWED_HOSTS=a"},
		{"BEARERD_LISTEN=localhost:0", "BEARERD_ADMIN_LISTEN=localhost:0"},
		{"BEARERD_ADMIN_LISTEN=OFF"},
		{"BEARERD_ADMIN_LISTEN=:9180"},
		{"BEARERD_CLIENT_ID="},
		{"BEARERD_TOKEN_HOST=login.example.com:8443"},
		{"BEARERD_REPLAY_BUFFER=0", "BEARERD_RESPONSE_HEADER_TIMEOUT=0", "BEARERD_SHUTDOWN_GRACE=0s"},
		{"BEARERD_TOKEN_PARAMS=audience=https%3A%2F%2Fa&resource="},
		{"BEARERD_ALLOWED_HOSTS=my_container,10.0.0.5,::1,app.localhost"},
		{"BEARERD_ALLOWED_HOSTS=host.docker.internal,xn--bcher-kva.example", "BEARERD_REQUIRE_HEADER=X-Key: v"},
		{"BEARERD_ALLOWED_PATHS=/,/a.b/..c/"},
		{"BEARERD_ALLOWED_METHODS=propfind"},
		{"BEARERD_RENEW_STATUS=403 , 401"},
	} {
		if c := mustLoad(t, bearerdtest.With(environ...)); len(c.Warnings) > 0 {
			t.Errorf("%q: warnings %q", environ, c.Warnings)
		}
	}
	c := mustLoad(t, bearerdtest.With("BEARERD_UPSTREAM=https://a:/b%2Fc/"))
	if got, want := c.Upstream.String(), "https://a/b%2Fc/"; got != want {
		t.Errorf("upstream: got %q, want %q", got, want)
	}
}

func TestWarnings(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "missing")
	t.Chdir(dir)
	bearerdtest.Put(t, "here", "x")
	for _, tt := range []struct {
		environ []string
		want    []string
	}{
		{[]string{"BEARERD_PASSWORD=", "BEARERD_PASSWORD_FILE=" + missing},
			[]string{"BEARERD_PASSWORD_FILE: " + missing + ": no such file; waiting for it"}},
		{[]string{"BEARERD_PASSWORD=", "BEARERD_PASSWORD_FILE=hunter2"},
			[]string{"BEARERD_PASSWORD_FILE: no such file, and not an absolute path; waiting for it (to give the secret itself, set BEARERD_PASSWORD)"}},
		{[]string{"BEARERD_USERNAME=", "BEARERD_USERNAME_FILE=here"},
			[]string{"BEARERD_USERNAME_FILE: here is relative to the directory bearerd was started in; write an absolute path"}},
		{[]string{"BEARERD_CLIENT_SECRET_FILE=" + dir},
			[]string{"BEARERD_CLIENT_SECRET_FILE: " + dir + " is a directory; waiting for a file there"}},
		{[]string{"BEARERD_GRANT_TYPE=client_credentials", "BEARERD_CLIENT_SECRET=hunter2"},
			[]string{"BEARERD_USERNAME: ignored, as BEARERD_GRANT_TYPE is client_credentials",
				"BEARERD_PASSWORD: ignored, as BEARERD_GRANT_TYPE is client_credentials"}},
		{[]string{"BEARERD_ALLOW_INSECURE=true", "BEARERD_UPSTREAM=http://a:1", "BEARERD_TOKEN_URL=http://b/t"},
			[]string{"BEARERD_UPSTREAM: every token can be read by anybody between here and a:1, as it is http (BEARERD_ALLOW_INSECURE)",
				"BEARERD_TOKEN_URL: the login's secrets can be read by anybody between here and b, as it is http (BEARERD_ALLOW_INSECURE)"}},
		{[]string{"BEARERD_PRESET=vyopta"},
			[]string{"BEARERD_TOKEN_HOST: logins go to login.example.com with the preset's Host header, login.vyopta.com; set it if that server wants another"}},
		{[]string{"BEARERD_ALLOWED_HOSTS=localhost,10.0.0.5,Host.Docker.Internal,bearerd"},
			[]string{"BEARERD_ALLOWED_HOSTS: whoever answers for host.docker.internal on a network that this machine joins can have a web page use the account; " +
				"list it only if you call bearerd by it, and set BEARERD_REQUIRE_HEADER if you can"}},
	} {
		c := mustLoad(t, bearerdtest.With(tt.environ...))
		if !slices.Equal(c.Warnings, tt.want) {
			t.Errorf("got  %q\nwant %q", c.Warnings, tt.want)
		}
	}
}

// A name without a dot is a container's, mostly: told, not warned of.
func TestNotes(t *testing.T) {
	c := mustLoad(t, bearerdtest.With("BEARERD_ALLOWED_HOSTS=bearerd,10.0.0.5"))
	want := []string{"BEARERD_ALLOWED_HOSTS: bearerd has no dot, as names between containers; keep it out of networks where others could answer for it, or set BEARERD_REQUIRE_HEADER"}
	if !slices.Equal(c.Notes, want) || c.Warnings != nil {
		t.Errorf("got %q and warnings %q, want %q", c.Notes, c.Warnings, want)
	}
	if c := mustLoad(t, bearerdtest.With("BEARERD_ALLOWED_HOSTS=bearerd", "BEARERD_REQUIRE_HEADER=X-Key: v")); c.Notes != nil {
		t.Errorf("with a header: got %q, want none", c.Notes)
	}
}

func TestShow(t *testing.T) {
	for value, want := range map[string]string{
		"a b":                    `"a b"`,
		"\x1b[2J":                `"\x1b[2J"`, // a terminal must not obey it
		"https://me:hunter2@a":   "the value",
		"https://a/?key=hunter2": "the value",
		"a#hunter2":              "the value",
		strings.Repeat("x", 101): `"` + strings.Repeat("x", 100) + `..."`,
	} {
		if got := display.Quote(value); got != want {
			t.Errorf("show(%q): got %s, want %s", value, got, want)
		}
	}
}
