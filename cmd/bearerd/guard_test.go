package main

import (
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bearerd/bearerd/proxy"
	"github.com/bearerd/bearerd/tokens"
)

func TestParseOrigin(t *testing.T) {
	for text, want := range map[string]string{
		"http://localhost:3000":         "http://localhost:3000",
		"HTTP://LocalHost:3000/":        "http://localhost:3000",
		"http://localhost:80":           "http://localhost",
		"https://app.example:443":       "https://app.example",
		"https://app.example":           "https://app.example",
		"http://app.example:443":        "http://app.example:443",
		"http://[::1]:5173":             "http://[::1]:5173",
		"chrome-extension://abcdefghij": "chrome-extension://abcdefghij",
		"moz-extension://1f-2e":         "moz-extension://1f-2e",
	} {
		if got, err := parseOrigin(text); err != nil || got != want {
			t.Errorf("%s: got %q, %v; want %q", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"*": "wildcard", "http://*.example": "wildcard", "null": "null", "localhost:3000": "not an origin", "localhost": "not an origin",
		"http://": "not an origin", "http://:80": "not an origin", "file:///x": "not an origin", "http://a b": "not an origin",
		"http://localhost:3000/app": "more than an origin", "http://localhost?x": "more than an origin", "http://localhost#": "more than an origin",
		"http://u:p@localhost": "more than an origin", "http://localhost:99999": "no valid port",
	} {
		if got, err := parseOrigin(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %q, %v; want that it is %s", text, got, err, want)
		}
	}
}

func TestReadHeaderRule(t *testing.T) {
	file := writeFile(t, "x-bearerd-key:  s3cret of words \r\n")
	for _, test := range []struct {
		source tokens.Source
		want   proxy.HeaderRule
	}{
		{tokens.Source{Value: "X-Bearerd-Key: abc"}, proxy.HeaderRule{Name: "X-Bearerd-Key", Value: "abc"}},
		{tokens.Source{Value: "authorization:Basic dTpw:x"}, proxy.HeaderRule{Name: "Authorization", Value: "Basic dTpw:x"}},
		{tokens.Source{File: file}, proxy.HeaderRule{Name: "X-Bearerd-Key", Value: "s3cret of words"}},
	} {
		if got, err := readHeaderRule(test.source); err != nil || got != test.want {
			t.Errorf("got %v, %v; want %v", got, err, test.want)
		}
	}
	for _, text := range []string{"", "X-Key", "X-Key:", "X-Key:  ", ": s3cret", "X Key: s3cret", "X-Key: s3cr\x00t", "X-Key: s3cré", "Host: s3cret", "connection: s3cret", "Content-Length: s3cret"} {
		if got, err := readHeaderRule(tokens.Source{Value: tokens.Secret(text)}); err == nil || strings.Contains(err.Error(), "s3cr") {
			t.Errorf("%q: got %v, %v; want an error without the value", text, got, err)
		}
	}
}

func TestGuardSettings(t *testing.T) {
	c := mustLoad(t, with("BEARERD_ALLOWED_ORIGINS=HTTP://localhost:3000/ , chrome-extension://abc", "BEARERD_REQUIRE_HEADER=X-Key: v"))
	if got := strings.Join(c.AllowedOrigins, " "); got != "http://localhost:3000 chrome-extension://abc" {
		t.Errorf("origins: got %q", got)
	}
	for _, lines := range [][]string{
		{"BEARERD_ALLOWED_ORIGINS=*"}, {"BEARERD_ALLOWED_ORIGINS=null"}, {"BEARERD_REQUIRE_HEADER=hidden-one"},
		{"BEARERD_REQUIRE_HEADER_FILE=/nonexistent/file"}, {"BEARERD_REQUIRE_HEADER_FILE=X-Key: hidden-one"}, {"BEARERD_REQUIRE_HEADER_FILE=" + writeFile(t, "")},
		{"BEARERD_REQUIRE_HEADER=X-Key: hidden-one", "BEARERD_REQUIRE_HEADER_FILE=/x"},
	} {
		got := problems(t, with(lines...))
		name, _, _ := strings.Cut(lines[0], "=")
		if len(got) == 0 || !strings.HasPrefix(got[0], name) || strings.Contains(strings.Join(got, ""), "hidden") {
			t.Errorf("%q: got %q", lines, got)
		}
	}
}

// SIGHUP reads a required header again; one that cannot be read changes
// nothing.
func TestRequiredHeaderIsReadAgain(t *testing.T) {
	path := writeFile(t, "X-Key: one\n")
	p := startRun(t, "BEARERD_PRESET=vyopta", "BEARERD_TOKEN_URL=http://127.0.0.1:1/", "BEARERD_UPSTREAM=http://127.0.0.1:2",
		"BEARERD_USERNAME=me", "BEARERD_PASSWORD=secret-one", "BEARERD_REQUIRE_HEADER_FILE="+path)
	if line := p.stderr.until(t, `.*"serving".*`)[0]; !strings.Contains(line, `"REQUIRE_HEADER":"file"`) {
		t.Errorf("the start-up line does not say where the header is from: %s", line)
	}
	passes := func(key string) bool { // the guard; there is no token to go on with
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Key", key)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return !strings.Contains(resp.Header.Get("Proxy-Status"), "header_required")
	}
	if !passes("one") || passes("two") {
		t.Error("at the start: not the first header is asked for")
	}
	if err := os.WriteFile(path, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.signals <- syscall.SIGHUP
	p.stderr.until(t, `BEARERD_REQUIRE_HEADER_FILE.*"required header not read"`)
	if !passes("one") || passes("two") {
		t.Error("with an empty file: not the first header is asked for")
	}
	if err := os.WriteFile(path, []byte("X-Key: two\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.signals <- syscall.SIGHUP
	deadline := time.Now().Add(10 * time.Second)
	for tick := time.NewTicker(10 * time.Millisecond); !passes("two"); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("with another: it is not asked for")
		}
	}
	if passes("one") {
		t.Error("with another: the first still passes")
	}
}

// A listener that other machines can reach takes two settings, and is warned of
// at each start.
func TestThreatWideBind(t *testing.T) {
	for _, listen := range []string{"0.0.0.0:0", ":0", "[::]:0", "localhost:0,0.0.0.0:0"} {
		for _, more := range [][]string{nil, {"BEARERD_ALLOWED_HOSTS=proxy.example"}, {"BEARERD_ALLOW_NON_LOOPBACK=true"}} {
			var stderr output
			if code := run(nil, with(append(more, "BEARERD_LISTEN="+listen)...), nil, new(output), &stderr); code != exitConfig {
				t.Errorf("LISTEN=%s with %q: got exit code %d, want 2\n%s", listen, more, code, &stderr)
			}
		}
	}
	p := startRun(t, append([]string{"BEARERD_LISTEN=0.0.0.0:0", "BEARERD_ALLOW_NON_LOOPBACK=true", "BEARERD_ALLOWED_HOSTS=proxy.example"},
		with("BEARERD_TOKEN_URL=http://127.0.0.1:1/", "BEARERD_UPSTREAM=http://127.0.0.1:2")...)...)
	p.stderr.until(t, `"level":"warn".*whoever can reach the data listener speaks with the account`)
}
