package healthcheck

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/config"
)

func TestWhereItAsks(t *testing.T) {
	for listen, want := range map[string][]string{
		"localhost:9180": {"127.0.0.1:9180", "[::1]:9180"}, // it may be missing on either
		":9180":          {"127.0.0.1:9180", "[::1]:9180"},
		"[::]:9180":      {"127.0.0.1:9180", "[::1]:9180"},
		"0.0.0.0:9180":   {"127.0.0.1:9180"},
		"192.0.2.7:9180": {"192.0.2.7:9180"},
		"[::1]:9180":     {"[::1]:9180"},
		"off":            nil,
		"localhost:0":    nil,
		"localhost":      nil,
	} {
		all, err := adminAddresses(listen)
		var got []string
		for _, a := range all {
			got = append(got, a.at)
		}
		if !slices.Equal(got, want) || (err == nil) != (want != nil) {
			t.Errorf("%s: got %q, %v; want %q", listen, got, err, want)
		}
	}
}

// Ready is what says so by status and body alike. What the answer says is for a
// terminal, and what is no bearerd's is told as another program's.
func TestWhatIsReady(t *testing.T) {
	for name, test := range map[string]struct {
		status     int
		body, want string // "": ready
	}{
		"ready":                  {200, `{"ok":true}`, ""},
		"not ready":              {503, `{"ok":false,"reason":"no token\u001b","remedy":"wait"}`, "not ready: no token?; wait"},
		"without a remedy":       {503, `{"ok":false,"reason":"stopping"}`, "not ready: stopping"},
		"its status says not":    {503, `{"ok":true}`, "not ready"},
		"its body says not":      {200, `{"ok":false}`, "not ready"},
		"another program":        {200, `{}`, "another program answers"},
		"a page of another":      {404, "<html>", "another program answers"},
		"an answer without end":  {200, strings.Repeat(" ", 128<<10) + `{"ok":true}`, "another program answers"},
		"another's, of its kind": {200, `{"ok":"true"}`, "another program answers"},
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(test.status)
			_, _ = io.WriteString(w, test.body)
		}))
		err := askReady(t.Context(), []address{{"tcp", s.Listener.Addr().String()}}, time.Minute)
		if got := fmt.Sprint(err); test.want == "" && err != nil || !strings.Contains(got, test.want) {
			t.Errorf("%s: got %s, want %s", name, got, test.want)
		}
		s.Close()
	}
}

// An answer that the end of the wait broke off says less than the one before.
func TestSaysWhatItWasToldLast(t *testing.T) {
	t.Parallel()
	var asked atomic.Bool
	done := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Swap(true) {
			<-done
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, `{"ok":false,"reason":"no token"}`)
	}))
	defer s.Close()
	defer close(done)
	from := config.Sources{Environ: []string{"BEARERD_ADMIN_LISTEN=" + s.Listener.Addr().String()}}
	if err := Run(from, 3*time.Second, nil, io.Discard); err == nil || err.Error() != "not ready: no token" {
		t.Errorf("got %v, want what it was told first", err)
	}
}
