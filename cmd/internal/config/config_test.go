package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/endpoint"
	"github.com/bearerd/bearerd/proxy"
	"github.com/bearerd/bearerd/tokens"
)

// mustLoad loads an environment that has no problem.
func mustLoad(t *testing.T, environ []string) Config {
	t.Helper()
	c, err := loadConfig(given{fromEnvironment, environ})
	if err != nil {
		t.Fatalf("loadConfig(%q): %v", environ, err)
	}
	return c
}

// problems returns the lines of the error that an environment must have.
func problems(t *testing.T, environ []string) []string {
	t.Helper()
	c, err := loadConfig(given{fromEnvironment, environ})
	if _, ok := errors.AsType[*Error](err); !ok {
		t.Fatalf("loadConfig(%q): got %v, want a *Error", environ, err)
	}
	if !reflect.DeepEqual(c, Config{}) {
		t.Errorf("loadConfig(%q) gave a Config with its error", environ)
	}
	for _, line := range environ {
		name, value, _ := strings.Cut(line, "=")
		switch name {
		case "BEARERD_CLIENT_SECRET", "BEARERD_USERNAME", "BEARERD_PASSWORD", "BEARERD_TOKEN_PARAMS":
			if value = strings.TrimSpace(value); value != "" && strings.Contains(err.Error(), value) {
				t.Errorf("the error shows %s: %v", name, err)
			}
		}
	}
	return strings.Split(err.Error(), "\n")
}

func TestDefaults(t *testing.T) {
	c := mustLoad(t, bearerdtest.Working)
	if got, want := c.Upstream.String(), "https://api.example.com"; got != want {
		t.Errorf("Upstream: got %q, want %q", got, want)
	}
	if got, want := c.TokenURL.String(), "https://login.example.com/token"; got != want {
		t.Errorf("TokenURL: got %q, want %q", got, want)
	}
	c.Upstream, c.TokenURL = nil, nil
	want := Config{
		GrantType: "password", ClientID: "tool", ClientAuth: "body",
		Username: "u$er-0f-the-account", Password: "pa$$word-0f-the-account",
		Listen: []string{"localhost:8080"}, AdminListen: "localhost:9180", Page: "true", SocketMode: 0o600,
		LoginTimeout: 10 * time.Second, TokenWait: 15 * time.Second, DefaultTokenLifetime: time.Minute,
		ReplayBuffer: 1 << 20, MaxInFlight: 4096,
		RenewStatus: []string{"401"},
		DialTimeout: 5 * time.Second, UpstreamIdle: 30 * time.Second, ShutdownGrace: 25 * time.Second,
		LogLevel: "info", LogFormat: "auto", AccessLog: "all",
	}
	want.Origins = c.Origins               // TestWhoWins looks at them
	want.TLSFingerprint = c.TLSFingerprint // of no file
	want.ProxyFingerprint = c.ProxyFingerprint
	if !reflect.DeepEqual(c, want) {
		got, _ := json.Marshal(c)
		should, _ := json.Marshal(want)
		t.Errorf("got %s\nwant %s", got, should)
	}
}

// Every setting is set here to something that is not its default, so that a
// field whose variable has another name than it is set by here fails.
func TestEverySettingIsRead(t *testing.T) {
	cert, key := writeKeyPair(t)
	secret := bearerdtest.WriteFile(t, "x")
	values := map[string]string{
		"PRESET": "vyopta", "UPSTREAM": "https://a.example/base", "TOKEN_URL": "https://b.example/t",
		"GRANT_TYPE": "Client_Credentials", "CLIENT_ID": "id", "CLIENT_SECRET": "s", "CLIENT_AUTH": "basic",
		"USERNAME": "u", "PASSWORD": "p", "SCOPE": "a b", "TOKEN_PARAMS": "audience=x", "TOKEN_HOST": "b.example",
		"LISTEN": "0.0.0.0:1, [::1]:2,", "ADMIN_LISTEN": "10.0.0.1:3", "PAGE": "Full", "SOCKET_MODE": "0640", "ALLOW_NON_LOOPBACK": "true",
		"ALLOWED_HOSTS": "Proxy.example., [2001:DB8::1]", "ALLOWED_ORIGINS": "http://localhost:3000", "REQUIRE_HEADER": "X-Key: v",
		"ALLOWED_METHODS": "get, head", "ALLOWED_PATHS": "/a,/b%20c", "RENEW_STATUS": "401,403",
		"FORWARD_COOKIES": "1", "FORWARDED": "true", "ALLOW_UPGRADE": "True", "ALLOW_INSECURE": "TRUE", "ALLOW_QUIT": "true",
		"PROXY": "http://p.example:1", "CA_FILE": cert, "CLIENT_CERT_FILE": cert, "CLIENT_KEY_FILE": key,
		"LOGIN_TIMEOUT": "1s", "TOKEN_WAIT": "2s", "DEFAULT_TOKEN_LIFETIME": "3s", "KEEP_WARM": "t",
		"REPLAY_BUFFER": "64MiB", "MAX_IN_FLIGHT": "5", "DIAL_TIMEOUT": "6s", "RESPONSE_HEADER_TIMEOUT": "7s", "UPSTREAM_IDLE": "10s",
		"DRAIN_DELAY": "8s", "SHUTDOWN_GRACE": "9s", "STATE_DIR": t.TempDir(), "SHARED": "redis://engine.example", "LOG_LEVEL": "WARN", "LOG_FORMAT": "json", "ACCESS_LOG": "errors",
	}
	if runtime.GOOS == "windows" {
		delete(values, "SOCKET_MODE") // which is refused there
	}
	var environ []string
	for name, value := range values {
		environ = append(environ, "BEARERD_"+name+"="+value)
	}
	c := mustLoad(t, environ)

	files := mustLoad(t, bearerdtest.With(
		"BEARERD_CLIENT_SECRET_FILE="+secret, "BEARERD_USERNAME_FILE="+secret, "BEARERD_USERNAME=",
		"BEARERD_PASSWORD_FILE="+secret, "BEARERD_PASSWORD=", "BEARERD_TOKEN_PARAMS_FILE="+secret,
		"BEARERD_REQUIRE_HEADER_FILE="+bearerdtest.WriteFile(t, "X-Key: v"), "BEARERD_PROXY_FILE="+bearerdtest.WriteFile(t, "off"),
		"BEARERD_SHARED_FILE="+bearerdtest.WriteFile(t, "rediss://u:p@engine.example"), "BEARERD_SHARED_KEY_FILE="+bearerdtest.WriteFile(t, strings.Repeat("k", 32)),
		"BEARERD_SHARED_CA_FILE="+cert, "BEARERD_SHARED_CLIENT_CERT_FILE="+cert, "BEARERD_SHARED_CLIENT_KEY_FILE="+key))
	asserting := mustLoad(t, bearerdtest.With("BEARERD_CLIENT_ASSERTION_FILE="+secret))
	stored := mustLoad(t, bearerdtest.With("BEARERD_CLIENT_SECRET_KEYRING=a", "BEARERD_PASSWORD_KEYRING=b", "BEARERD_PASSWORD="))
	defaults := mustLoad(t, bearerdtest.Working)
	for i, s := range SettingsOf(&c) {
		got, with, plain := s.field, SettingsOf(&files)[i].field, SettingsOf(&defaults)[i].field
		name := strings.TrimPrefix(s.Name, "BEARERD_")
		if name == "SOCKET_MODE" && runtime.GOOS == "windows" {
			continue
		}
		if _, ok := values[name]; !ok {
			if got = with; name == "CLIENT_ASSERTION_FILE" { // in place of a client secret
				got = SettingsOf(&asserting)[i].field
			}
			if strings.HasSuffix(name, "_KEYRING") {
				got = SettingsOf(&stored)[i].field
			} else if !strings.HasSuffix(name, "_FILE") {
				t.Errorf("%s is in Config but not set here", name)
			}
		}
		delete(values, name)
		if reflect.DeepEqual(got.Interface(), plain.Interface()) {
			t.Errorf("%s was not read", s.Name)
		}
	}
	if len(values) > 0 {
		t.Errorf("set here but not in Config: %v", slices.Sorted(maps.Keys(values)))
	}

	for name, eq := range map[string]bool{
		"list":     slices.Equal(c.Listen, []string{"0.0.0.0:1", "[::1]:2"}),
		"hosts":    slices.Equal(c.AllowedHosts, []string{"proxy.example", "2001:db8::1"}),
		"methods":  slices.Equal(c.AllowedMethods, []string{"GET", "HEAD"}),
		"paths":    slices.Equal(c.AllowedPaths, []string{"/a", "/b%20c"}),
		"oneof":    c.GrantType == "client_credentials" && c.LogLevel == "warn",
		"size":     c.ReplayBuffer == 64<<20,
		"roots":    c.RootCAs != nil && len(c.Certificates) == 1,
		"no files": defaults.RootCAs == nil && defaults.Certificates == nil,
	} {
		if !eq {
			t.Errorf("%s: got %+v", name, SettingsOf(&c))
		}
	}
}

func TestPresets(t *testing.T) {
	account := []string{"BEARERD_USERNAME=u", "BEARERD_PASSWORD=p"}
	client := []string{"BEARERD_CLIENT_ID=id", "BEARERD_CLIENT_SECRET=s", "BEARERD_UPSTREAM=https://api.example.com"}
	for _, tt := range []struct {
		environ                                            []string
		upstream, tokenURL, tokenHost, grantType, clientID string
	}{
		{append(account, "BEARERD_PRESET=vyopta"), "https://api.vyopta.com",
			"https://login.vyopta.com/auth/realms/vyopta/protocol/openid-connect/token", "login.vyopta.com", "password", "vyopta"},
		{append(account, "BEARERD_PRESET=WXP"), "https://api.vyopta.com",
			"https://login.wxpcollaboration.hp.com/auth/login", "login.wxpcollaboration.hp.com", "password", "WXP Collaboration"},
		{append(client, "BEARERD_PRESET=graphnet"), "https://api.example.com",
			"https://coret1.syhapp.com/vlive/hpca/oauth/token", "", "client_credentials", "id"},
		{slices.Concat(client, account, []string{"BEARERD_PRESET=graphnet", "BEARERD_GRANT_TYPE=password"}), "https://api.example.com",
			"https://coret1.syhapp.com/vlive/hpca/oauth/token", "", "password", "id"},
		// Explicit settings win; the Host header stays the vendor's.
		{append(account, "BEARERD_PRESET=vyopta", "BEARERD_TOKEN_URL=http://127.0.0.1:1/x", "BEARERD_UPSTREAM=http://[::1]:2/b",
			"BEARERD_CLIENT_ID=mine"), "http://[::1]:2/b", "http://127.0.0.1:1/x", "login.vyopta.com", "password", "mine"},
	} {
		c := mustLoad(t, tt.environ)
		got := []string{c.Upstream.String(), c.TokenURL.String(), c.TokenHost, c.GrantType, c.ClientID}
		want := []string{tt.upstream, tt.tokenURL, tt.tokenHost, tt.grantType, tt.clientID}
		if !slices.Equal(got, want) {
			t.Errorf("%q:\n got %q\nwant %q", tt.environ, got, want)
		}
		if len(c.Warnings) > 0 {
			t.Errorf("%q: warnings %q", tt.environ, c.Warnings)
		}
	}
}

func TestPresetTable(t *testing.T) {
	var known []string
	for _, s := range SettingsOf(new(Config)) {
		known = append(known, s.Name)
		if s.Name == "BEARERD_PRESET" && !slices.Equal(slices.Sorted(slices.Values(s.oneof)), slices.Sorted(maps.Keys(presets))) {
			t.Errorf("%q are offered, presets has others", s.oneof)
		}
	}
	for name, p := range presets {
		for variable := range p.values {
			if !slices.Contains(known, variable) {
				t.Errorf("preset %s sets %s, which is no setting", name, variable)
			}
		}
	}
}

// A real setting that looks like one of Kubernetes' variables would be ignored.
func TestNoSettingIsAServiceLink(t *testing.T) {
	var names []string
	for _, s := range SettingsOf(new(Config)) {
		names = append(names, s.Name)
	}
	for _, name := range names {
		if serviceLinks[0].MatchString(name) || serviceLinks[1].MatchString(name) {
			t.Errorf("%s matches", name)
		}
	}
}

func TestServiceLinksAreIgnored(t *testing.T) {
	c := mustLoad(t, bearerdtest.With(
		"BEARERD_SERVICE_HOST=10.0.0.1", "BEARERD_SERVICE_PORT=80", "BEARERD_SERVICE_PORT_HTTP=80", "BEARERD_ADMIN_SERVICE_PORT=1",
		"BEARERD_PORT=tcp://10.0.0.1:80", "BEARERD_PORT_80_TCP=tcp://10.0.0.1:80", "BEARERD_PORT_80_TCP_ADDR=10.0.0.1",
		"BEARERD_PORT_80_UDP_PROTO=udp", "BEARERD_ADMIN_PORT_9180_SCTP_PORT=9180", "BEARERD_ADMIN_PORT=x"))
	if len(c.Warnings) > 0 {
		t.Errorf("warnings: %q", c.Warnings)
	}
	for _, name := range []string{"BEARERD_PORT_80", "BEARERD_PORTS", "BEARERD_PORT_X_TCP", "BEARERD_SERVICE_HOSTS"} {
		if got := problems(t, bearerdtest.With(name+"=x")); len(got) != 1 || !strings.HasPrefix(got[0], name+": unknown") {
			t.Errorf("%s: got %q", name, got)
		}
	}
	// A person who writes a port there must hear that nothing came of it.
	c = mustLoad(t, bearerdtest.With("BEARERD_PORT=9000"))
	want := "BEARERD_PORT: is not a setting; to move the port write BEARERD_LISTEN=localhost:8080"
	if !slices.Equal(c.Warnings, []string{want}) {
		t.Errorf("got %q, want %q", c.Warnings, want)
	}
}

func TestUnknownNames(t *testing.T) {
	for name, near := range map[string]string{
		"BEARERD_PASSWORDFILE":    "BEARERD_PASSWORD_FILE",
		"BEARERD_UPSTRAEM":        "BEARERD_UPSTREAM", // a swap
		"BEARERD_PASSWD":          "BEARERD_PASSWORD",
		"BEARERD_upstream":        "BEARERD_UPSTREAM",
		"BEARERD_ALLOWED_HOST":    "BEARERD_ALLOWED_HOSTS",
		"BEARERD_LOGINTIMEOUT":    "BEARERD_LOGIN_TIMEOUT",
		"BEARERD_FOO":             "",
		"BEARERD_X":               "",
		"BEARERD_":                "",
		"BEARERD_TIMEOUT":         "",
		"BEARERD_TLS_SERVER_NAME": "",
	} {
		if foldCase && strings.ToUpper(name) == near {
			continue // it is that setting
		}
		want := name + ": unknown; bearerd help lists every setting"
		if near != "" {
			want = name + ": unknown; did you mean " + near + "?"
		}
		if got := problems(t, bearerdtest.With(name+"=v4lue")); !slices.Equal(got, []string{want}) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if got := problems(t, bearerdtest.With("BEARERD_A\x1b[2J=x"))[0]; strings.Contains(got, "\x1b") {
		t.Errorf("an escape sequence of a name was printed: %q", got)
	}
	// Others' names are nobody's business here.
	others := bearerdtest.With("BEARER_TOKEN=x", "BEARERDX=y", "=C:=C:\\", "NONSENSE", "")
	if !foldCase {
		others = append(others, "bearerd_upstream=x")
	}
	mustLoad(t, others)
}

func TestNothingSet(t *testing.T) {
	for _, environ := range [][]string{nil, {"PATH=/bin"}, {"BEARERD_PRESET=", "BEARERD_SERVICE_HOST=1"}} {
		got := strings.Join(problems(t, environ), "\n")
		for _, want := range []string{"BEARERD_PRESET=vyopta", "BEARERD_USERNAME=", "BEARERD_PASSWORD_FILE=", "bearerd demo", "bearerd help"} {
			if !strings.Contains(got, want) {
				t.Errorf("%q: got %q, want %q in it", environ, got, want)
			}
		}
	}
}

func TestAllProblemsAtOnceInOrder(t *testing.T) {
	got := problems(t, []string{
		"BEARERD_ACCESS_LOG=some", "BEARERD_LISTEN=:80", "BEARERD_UPSTREAM=api.example.com", "BEARERD_ZZZ=1",
	})
	var names []string
	for _, line := range got {
		name, _, _ := strings.Cut(line, ":")
		names = append(names, strings.TrimPrefix(name, "BEARERD_"))
	}
	want := []string{"ZZZ", "UPSTREAM", "TOKEN_URL", "GRANT_TYPE", "LISTEN", "ACCESS_LOG"}
	if !slices.Equal(names, want) {
		t.Errorf("got %q\nwant %q", names, want)
	}
}

func TestBlankIsUnset(t *testing.T) {
	var environ []string
	for _, s := range SettingsOf(new(Config)) {
		environ = append(environ, s.Name+"= ")
	}
	if got, want := mustLoad(t, append(environ, bearerdtest.Working...)), mustLoad(t, bearerdtest.Working); !reflect.DeepEqual(got, want) {
		t.Errorf("blank variables changed the configuration")
	}
}

func TestFirstValueWins(t *testing.T) {
	c := mustLoad(t, append([]string{"BEARERD_CLIENT_ID=first", "BEARERD_CLIENT_ID=second"}, bearerdtest.Working...))
	if c.ClientID != "first" {
		t.Errorf("got %q, want first", c.ClientID)
	}
}

func TestSpaceAroundValues(t *testing.T) {
	c := mustLoad(t, bearerdtest.With("BEARERD_CLIENT_ID= tool\r", "BEARERD_KEEP_WARM=true\r", "BEARERD_PASSWORD= pass word "))
	if c.ClientID != "tool" || !c.KeepWarm {
		t.Errorf("got %q and %v", c.ClientID, c.KeepWarm)
	}
	if got, want := c.Password.Reveal(), " pass word "; got != want {
		t.Errorf("password: got %q, want %q untouched", got, want)
	}
}

// On Windows the name of a variable has no case.
func TestNamesFoldedOnWindows(t *testing.T) {
	l := newLoader([]given{{fromEnvironment, []string{"bearerd_Upstream=x", "Bearerd_Service_Host=y"}}}, true)
	if want := map[string]string{"BEARERD_UPSTREAM": "x"}; !maps.Equal(l.env, want) {
		t.Errorf("got %v, want %v", l.env, want)
	}
}

func TestEnvironmentIsLeftAlone(t *testing.T) {
	t.Setenv("BEARERD_CLIENT_ID", "of-the-process")
	before := os.Environ()
	if c := mustLoad(t, bearerdtest.Working); c.ClientID != "tool" {
		t.Errorf("read from the process: %q", c.ClientID)
	}
	if !slices.Equal(before, os.Environ()) {
		t.Error("the environment changed")
	}
}

func TestSecretSources(t *testing.T) {
	c := mustLoad(t, bearerdtest.With("BEARERD_USERNAME=", "BEARERD_USERNAME_FILE=/u", "BEARERD_TOKEN_PARAMS=a=b"))
	var got []string
	for _, s := range c.SecretSources() {
		got = append(got, s.Name+" "+s.From())
	}
	if want := []string{"USERNAME file", "PASSWORD env", "TOKEN_PARAMS env"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if want := (tokens.Source{File: "/u"}); c.SecretSources()[0].Source != want {
		t.Errorf("got %+v, want %+v", c.SecretSources()[0].Source, want)
	}
}

func TestConfigPrintsNoSecret(t *testing.T) {
	cert, key := writeKeyPair(t)
	c := mustLoad(t, bearerdtest.With("BEARERD_CLIENT_CERT_FILE="+cert, "BEARERD_CLIENT_KEY_FILE="+key))
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		for _, arg := range []any{c, &c} {
			if got := fmt.Sprintf(verb, arg); got != "[config]" {
				t.Errorf("%s: got %.80q", verb, got)
			}
		}
	}
}

// FuzzConfig reads any lines as an environment. A configuration that is refused
// is refused by lines that each name a variable, show no secret, in whatever
// variable it stands (MARK is one), and no control character. One that is accepted is safe:
//   - upstream and token URL have a host, no user information, and no http but on
//     loopback or with ALLOW_INSECURE,
//   - no listener can be reached from elsewhere but with ALLOW_NON_LOOPBACK, which
//     has hosts listed; no host on the list is a wildcard or stands for all addresses,
//   - no origin is null or a pattern, no path leads elsewhere, CONNECT and TRACE
//     are on no list, and the header that callers must send is one they can send.
func FuzzConfig(f *testing.F) {
	base := strings.Join(bearerdtest.Working, "\n") + "\n"
	f.Add(base)
	f.Add("BEARERD_PASSWORD=x\nBEARERD_PASSWORD_FILE=y\nBEARERD_TOKEN_PARAMS=a=%zz;&scope\nBEARERD_UPSTREAM=//u:p@h")
	f.Add("BEARERD_PRESET=graphnet\nBEARERD_UPSTREAM=https://h/a/%252e%252e/\nBEARERD_LISTEN=[::]:0,:1,x\nBEARERD_ALLOWED_HOSTS=[,*,::")
	f.Add("BEARERD_TOKEN_URL=http://user:pass/word@h:1\nBEARERD_REPLAY_BUFFER=9GiB\nBEARERD_LOGIN_TIMEOUT=10\nBEARERD_TOKEN_HOST=a:b:c")
	for _, lines := range []string{
		"BEARERD_LISTEN=0.0.0.0:1", "BEARERD_LISTEN=:0\nBEARERD_ALLOW_NON_LOOPBACK=true", "BEARERD_LISTEN=[::]:0,unix:/run/x\nBEARERD_ALLOW_NON_LOOPBACK=1\nBEARERD_ALLOWED_HOSTS=Proxy.example.",
		"BEARERD_LISTEN=[::ffff:0.0.0.0]:1", "BEARERD_LISTEN=[::ffff:127.0.0.1]:1,[::1%lo]:2", "BEARERD_LISTEN=unix:@x,unix://a,unix:/a/../b\nBEARERD_SOCKET_MODE=0777", "BEARERD_LISTEN=127.1:8080,2130706433:1,localhost.:1",
		"BEARERD_REQUIRE_HEADER=X-Key: v",
		"BEARERD_REQUIRE_HEADER=Host: v", "BEARERD_REQUIRE_HEADER=X-Key v", "BEARERD_REQUIRE_HEADER=X Key: v", "BEARERD_REQUIRE_HEADER_FILE=hidden", "BEARERD_UPSTREAM=http://up.example",
		"BEARERD_UPSTREAM=http://up.example\nBEARERD_ALLOW_INSECURE=true", "BEARERD_UPSTREAM=https://up.example/a?b#c", "BEARERD_UPSTREAM=http://localhost:8080/x", "BEARERD_UPSTREAM=https://u:p@up.example", "BEARERD_UPSTREAM=https://[::1%25x]:1",
		"BEARERD_LISTEN=unix://a\x00", "BEARERD_PASSWORD=\nBEARERD_PASSWORD_FILE=/no/such\x1bfile", "BEARERD_UPSTREM=x\nBEARERD_\x1b[31m=x\nbearerd_password=x", "BEARERD_PORT=tcp://1\nBEARERD_PORT_80_TCP=x\nBEARERD_X_SERVICE_HOST=y", "HTTPS_PROXY=http://u:p#x@h:1",
		"BEARERD_LOGIN_TIMEOUT=MARK\nBEARERD_UPSTREAM=MARK\nBEARERD_PRESET=MARK", "BEARERD_LISTEN=MARK\nBEARERD_SCOPE=MARK\nBEARERD_ALLOWED_PATHS=MARK",
		"BEARERD_CLIENT_AUTH=basic\nBEARERD_CLIENT_SECRET=x\n", "BEARERD_TOKEN_WAIT=0\nBEARERD_MAX_IN_FLIGHT=-1\nBEARERD_DIAL_TIMEOUT=-1s\nBEARERD_REPLAY_BUFFER=99999999999GiB",
	} {
		f.Add(lines + "\n" + base) // what comes first counts
	}
	for name, items := range map[string]string{
		"HOSTS": "0.0.0.0 [::] 0 127.1 a:1 [::1] *.example a..b \u212a", "METHODS": "get CONNECT trace a/b", "PATHS": "/a /a/../b /%2e%2e b /a?x /%zz /a;b",
		"ORIGINS": "null * http://a http://*.example HTTP://A:80/ chrome-extension://x http://u@h //h http://a/b",
	} {
		for item := range strings.FieldsSeq(items) {
			f.Add("BEARERD_ALLOWED_" + name + "=" + item + "\n" + base)
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		const marker = "m4rker-0f-a-secret"
		if strings.Contains(text, "0f-a") {
			t.Skip()
		}
		environ := strings.Split(text, "\n")
		for i, line := range environ {
			name, value, _ := strings.Cut(line, "=")
			if strings.TrimSpace(value) == "MARK" {
				environ[i] = name + "=" + marker
				continue
			}
			switch name {
			case "BEARERD_CA_FILE", "BEARERD_CLIENT_CERT_FILE", "BEARERD_CLIENT_KEY_FILE":
				t.Skip() // not at files of this machine
			case "BEARERD_CLIENT_SECRET", "BEARERD_USERNAME", "BEARERD_PASSWORD", "BEARERD_TOKEN_PARAMS", "BEARERD_REQUIRE_HEADER",
				"BEARERD_PASSWORD_FILE", "BEARERD_REQUIRE_HEADER_FILE": // not absolute, it may be the secret, in the wrong place
				if !strings.HasPrefix(strings.TrimSpace(value), "/") {
					environ[i] = line + marker
				}
			case "BEARERD_UPSTREAM", "BEARERD_TOKEN_URL":
				if scheme, rest, ok := strings.Cut(value, "://"); ok && strings.Contains(value, "@") {
					environ[i] = name + "=" + scheme + "://user:" + marker + "@" + rest
				}
			}
		}
		environ = append(environ, "BEARERD_PASSWORD="+marker) // where there is none yet
		c, err := loadConfig(given{fromEnvironment, environ})
		said := strings.Join(c.Warnings, "\n")
		if err != nil {
			said = err.Error()
		}
		if strings.Contains(said, "0f-a") || strings.Contains(fmt.Sprint(c), "0f-a") {
			t.Errorf("a secret in %q", said)
		}
		if strings.ContainsFunc(said, func(r rune) bool { return unicode.IsControl(r) && r != '\n' }) {
			t.Errorf("a control character in %q", said)
		}
		if err == nil {
			expectSafe(t, c)
		} else if bad, ok := errors.AsType[*Error](err); !ok || len(bad.Problems) == 0 || strings.Count(said, "\n")+1 != len(bad.Problems) && said != nothingSet {
			t.Errorf("got %T of %q, want one line for each problem", err, said)
		}
	})
}

// expectSafe fails the test unless an accepted configuration is as FuzzConfig
// says.
func expectSafe(t *testing.T, c Config) {
	t.Helper()
	for _, u := range []*url.URL{c.Upstream, c.TokenURL} {
		ip := net.ParseIP(u.Hostname())
		loopback := strings.EqualFold(u.Hostname(), "localhost") || ip != nil && ip.IsLoopback()
		if u.Hostname() == "" || u.User != nil || u.Scheme != "https" && (u.Scheme != "http" || !loopback && !c.AllowInsecure) {
			t.Errorf("accepted the URL %q", u)
		}
	}
	for _, item := range c.Listen {
		e, err := endpoint.Parse(item)
		if again, err := endpoint.Parse(e.String()); err != nil || again != e {
			t.Errorf("%q is %v, and that %v, %v", item, e, again, err)
		}
		address, _, _ := strings.Cut(e.Host, "%") // ::1%lo is ::1
		ip := net.ParseIP(address)
		if err != nil || e.Path == "" && e.Host != "localhost" && (ip == nil || !ip.IsLoopback()) && (!c.AllowNonLoopback || len(c.AllowedHosts) == 0) {
			t.Errorf("accepted the listener %q with the hosts %q", item, c.AllowedHosts)
		}
	}
	hosts := proxy.NewHosts(c.AllowedHosts...)
	for _, host := range []string{"", ":80", "*", "0.0.0.0", "0", "[::]", "[::0]", "[::ffff:0.0.0.0]", "null"} {
		if hosts.Allow(host) && (host != "null" || !slices.Contains(c.AllowedHosts, host)) {
			t.Errorf("the list %q allows the host %q", c.AllowedHosts, host)
		}
	}
	for _, origin := range c.AllowedOrigins {
		if u, err := url.Parse(origin); err != nil || u.Host == "" || origin != u.Scheme+"://"+u.Host || strings.ContainsAny(origin, "*@, ") {
			t.Errorf("accepted the origin %q", origin)
		}
	}
	for _, path := range c.AllowedPaths {
		if path[0] != '/' || proxy.Traverses(path) || strings.ContainsAny(path, "?#") {
			t.Errorf("accepted the path %q", path)
		}
	}
	for _, method := range c.AllowedMethods {
		if method == "CONNECT" || method == "TRACE" || !isToken(method) {
			t.Errorf("accepted the method %q", method)
		}
	}
	if !c.HeaderSource().IsZero() {
		rule, err := readHeaderRule(c.HeaderSource())
		isPlain := strings.Trim(rule.Value, " ") == rule.Value && !strings.ContainsFunc(rule.Value, func(r rune) bool { return r < ' ' || r > '~' })
		if err != nil || rule.Value == "" || !isPlain || !isToken(rule.Name) || http.CanonicalHeaderKey(rule.Name) != rule.Name {
			t.Errorf("accepted the header %q, %v", rule.Name, err)
		}
	}
	for _, d := range []time.Duration{c.LoginTimeout, c.TokenWait, c.DefaultTokenLifetime, c.DialTimeout, c.UpstreamIdle} {
		if d <= 0 {
			t.Errorf("accepted the duration %v", d)
		}
	}
	if c.MaxInFlight < 1 || c.ReplayBuffer < 0 || c.ReplayBuffer > 64<<20 {
		t.Errorf("accepted MAX_IN_FLIGHT %d, REPLAY_BUFFER %d", c.MaxInFlight, c.ReplayBuffer)
	}
}
