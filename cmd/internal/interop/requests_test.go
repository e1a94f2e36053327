package interop_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// echo answers with the body.
func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	_, _ = w.Write(body)
}

// patience is more than any request needs.
const patience = 30 * time.Second

// fetch makes a request, and returns the answer with its body, which it wants
// whole.
func fetch(t *testing.T, method, url string, body io.Reader) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Timeout: patience}).Do(req)
	if err != nil {
		t.Errorf("%s %s: %v", method, url, err)
		return &http.Response{}, ""
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Errorf("%s %s: %v, after %d bytes", method, url, err, len(got))
	}
	return resp, string(got)
}

// wantEcho posts text, and expects it back.
func wantEcho(t *testing.T, url, text string) {
	t.Helper()
	if resp, got := fetch(t, "POST", url, strings.NewReader(text)); resp.StatusCode != 200 || got != text {
		t.Errorf("POST %s: got %d and %.80q, want 200 and %.80q", url, resp.StatusCode, got, text)
	}
}

// replayBuffer is BEARERD_REPLAY_BUFFER where a body may be larger.
const replayBuffer = 16 << 10

// upload is a kind of body.
type upload struct {
	name    string
	size    int
	chunked bool // of unknown length
}

// unsized hides a reader's length.
type unsized struct{ io.Reader }

func (u upload) reader(text string) io.Reader {
	if u.chunked {
		return unsized{strings.NewReader(text)}
	}
	return strings.NewReader(text)
}

// atOnce is how many tokens may die young before bearerd lets some time pass
// between the logins.
const atOnce = 3

// wantReplay posts text as a body of that kind, where upstream has revoked the
// token: the answer is the echo, or else, where that is allowed, the 401 of a
// body that is gone.
func wantReplay(t *testing.T, url string, kind upload, text string, always bool) {
	t.Helper()
	resp, got := fetch(t, "POST", url, kind.reader(text))
	gone := strings.Contains(resp.Header.Get("Proxy-Status"), "reauthenticated_not_replayed")
	switch {
	case resp.StatusCode == 200 && got == text:
	case resp.StatusCode == 401 && gone && !always:
	default:
		t.Errorf("%s: got %d and %d bytes, Proxy-Status %q; want 200 and the %d sent, always %v",
			kind.name, resp.StatusCode, len(got), resp.Header.Get("Proxy-Status"), len(text), always)
	}
}
