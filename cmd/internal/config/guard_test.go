package config

import (
	"strings"
	"testing"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
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
	file := bearerdtest.WriteFile(t, "x-bearerd-key:  s3cret of words \r\n")
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
	c := mustLoad(t, bearerdtest.With("BEARERD_ALLOWED_ORIGINS=HTTP://localhost:3000/ , chrome-extension://abc", "BEARERD_REQUIRE_HEADER=X-Key: v"))
	if got := strings.Join(c.AllowedOrigins, " "); got != "http://localhost:3000 chrome-extension://abc" {
		t.Errorf("origins: got %q", got)
	}
	for _, lines := range [][]string{
		{"BEARERD_ALLOWED_ORIGINS=*"}, {"BEARERD_ALLOWED_ORIGINS=null"}, {"BEARERD_REQUIRE_HEADER=hidden-one"},
		{"BEARERD_REQUIRE_HEADER_FILE=/nonexistent/file"}, {"BEARERD_REQUIRE_HEADER_FILE=X-Key: hidden-one"}, {"BEARERD_REQUIRE_HEADER_FILE=" + bearerdtest.WriteFile(t, "")},
		{"BEARERD_REQUIRE_HEADER=X-Key: hidden-one", "BEARERD_REQUIRE_HEADER_FILE=/x"},
	} {
		got := problems(t, bearerdtest.With(lines...))
		name, _, _ := strings.Cut(lines[0], "=")
		if len(got) == 0 || !strings.HasPrefix(got[0], name) || strings.Contains(strings.Join(got, ""), "hidden") {
			t.Errorf("%q: got %q", lines, got)
		}
	}
}
