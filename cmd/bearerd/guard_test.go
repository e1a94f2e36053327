package main

import (
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
)

// SIGHUP reads a required header again; one that cannot be read changes
// nothing.
func TestRequiredHeaderIsReadAgain(t *testing.T) {
	path := bearerdtest.WriteFile(t, "X-Key: one\n")
	p := startRun(t, "BEARERD_PRESET=vyopta", "BEARERD_TOKEN_URL=http://127.0.0.1:1/", "BEARERD_UPSTREAM=http://127.0.0.1:2",
		"BEARERD_USERNAME=me", "BEARERD_PASSWORD=secret-one", "BEARERD_REQUIRE_HEADER_FILE="+path)
	if line := p.stderr.Until(t, `.*"serving".*`)[0]; !strings.Contains(line, `"REQUIRE_HEADER":"file"`) {
		t.Errorf("the start-up line does not say where the header is from: %s", line)
	}
	passes := func(key string) bool { // the guard; there is no token to go on with
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.URL, nil)
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
	bearerdtest.Put(t, path, "\n")
	p.signals <- syscall.SIGHUP
	p.stderr.Until(t, `"file":"BEARERD_REQUIRE_HEADER_FILE".*"changed file cannot be used"`)
	if !passes("one") || passes("two") {
		t.Error("with an empty file: not the first header is asked for")
	}
	bearerdtest.Put(t, path, "X-Key: two\n")
	p.signals <- syscall.SIGHUP
	bearerdtest.Eventually(t, bearerdtest.Soon, "another is asked for", func() bool { return passes("two") })
	if passes("one") {
		t.Error("with another: the first still passes")
	}
}

// A listener that other machines can reach takes two settings, and is warned of
// at each start.
func TestThreatWideBind(t *testing.T) {
	for _, listen := range []string{"0.0.0.0:0", ":0", "[::]:0", "localhost:0,0.0.0.0:0"} {
		for _, more := range [][]string{nil, {"BEARERD_ALLOWED_HOSTS=proxy.example"}, {"BEARERD_ALLOW_NON_LOOPBACK=true"}} {
			var stderr bearerdtest.Output
			if code := run(nil, bearerdtest.With(append(more, "BEARERD_LISTEN="+listen)...), nil, new(bearerdtest.Output), &stderr); code != exitConfig {
				t.Errorf("LISTEN=%s with %q: got exit code %d, want 78\n%s", listen, more, code, &stderr)
			}
		}
	}
	p := startRun(t, append([]string{"BEARERD_LISTEN=0.0.0.0:0", "BEARERD_ALLOW_NON_LOOPBACK=true", "BEARERD_ALLOWED_HOSTS=proxy.example"},
		bearerdtest.With("BEARERD_TOKEN_URL=http://127.0.0.1:1/", "BEARERD_UPSTREAM=http://127.0.0.1:2")...)...)
	p.stderr.Until(t, `"level":"warn".*whoever can reach the data listener speaks with the account`)
}
