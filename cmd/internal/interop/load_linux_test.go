package interop_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/bearerd/bearerd/proxy"
)

// load is what the clients do, and what they get.
type load struct {
	url string

	mu       sync.Mutex // guards what follows
	counts   map[string]int
	failures []failure
}

// A failure is a request that did not get what it wants.
type failure struct {
	what, code string
	from, to   time.Time
}

// A call is a request and the body of the answer that it wants.
type call struct {
	method, path string
	header       map[string]string
	body         io.Reader
	length       int64 // of body; -1: not told
	want         []byte
}

func get(r *rand.Rand) *call {
	from, size := r.IntN(1<<20), r.IntN(1<<(1+r.IntN(19)))
	length := []string{"known", "unknown"}[r.IntN(2)]
	return &call{method: "GET", path: fmt.Sprintf("/?from=%d&size=%d&length=%s", from, size, length), want: filler[from : from+size]}
}

func stream(*rand.Rand) *call {
	var want []byte
	for i := range streamLines {
		want = fmt.Appendf(want, "data: %d\n\n", i)
	}
	return &call{method: "GET", path: "/stream", want: want}
}

// post sends a body that bearerd holds.
func post(r *rand.Rand) *call {
	from, size := r.IntN(1<<20), 1+r.IntN(1<<(1+r.IntN(19)))
	c := &call{method: "POST", path: "/", body: bytes.NewReader(filler[from : from+size]), length: int64(size), want: digest(filler[from : from+size])}
	c.header = map[string]string{"X-Id": strconv.FormatUint(r.Uint64(), 36)}
	if r.IntN(4) == 0 {
		c.header["Idempotency-Key"] = c.header["X-Id"]
	}
	return c
}

func postUnknownLength(r *rand.Rand) *call {
	c := post(r)
	c.length = -1
	return c
}

// postLarge sends a body that bearerd does not hold. Its client waits to be
// asked for it, as curl does.
func postLarge(r *rand.Rand) *call {
	body := filler[r.IntN(1<<20):][:3<<20]
	return &call{
		method: "POST", path: "/", body: bytes.NewReader(body), length: int64(len(body)), want: digest(body),
		header: map[string]string{"X-Id": strconv.FormatUint(r.Uint64(), 36), "Expect": "100-continue"},
	}
}

// work makes one call after the other until ctx ends. It ends none early.
func (l *load) work(ctx context.Context, r *rand.Rand, next func(*rand.Rand) *call) {
	client := &http.Client{Transport: &http.Transport{
		// Only on a connection that is used again net/http sends a GET twice by
		// itself, and hides a failure.
		DisableKeepAlives:     next(r).method == "GET",
		ExpectContinueTimeout: time.Minute,
		DisableCompression:    true,
	}}
	defer client.CloseIdleConnections()
	for ctx.Err() == nil {
		l.do(client, next(r))
		pause(ctx, 50*time.Millisecond)
	}
}

// do makes a call and returns its code: "ok", that of bearerd's error, or what
// else became of it.
func (l *load) do(client *http.Client, c *call) string {
	from := time.Now()
	code := l.send(client, c)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts[code]++
	if code != "ok" {
		l.failures = append(l.failures, failure{fmt.Sprintf("%s %s of %d bytes", c.method, c.path, c.length), code, from, time.Now()})
	}
	return code
}

func (l *load) send(client *http.Client, c *call) string {
	// No toxic lasts so long.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, c.method, l.url+c.path, c.body)
	if err != nil {
		panic(err)
	}
	if c.body != nil {
		req.ContentLength = c.length
	}
	for name, value := range c.header {
		req.Header.Set(name, value)
	}
	resp, err := client.Do(req)
	var body []byte
	if err == nil {
		defer resp.Body.Close()
		body, err = io.ReadAll(resp.Body)
	}
	switch {
	case ctx.Err() != nil:
		return "stuck"
	case err != nil:
		return "aborted"
	case resp.Header.Get("Content-Type") == "application/problem+json":
		var problem struct{ Code string }
		_ = json.Unmarshal(body, &problem)
		return problem.Code
	case resp.StatusCode == http.StatusUnauthorized:
		return "401"
	case resp.StatusCode != http.StatusOK:
		return resp.Status
	case !bytes.Equal(body, c.want):
		return "damaged"
	}
	return "ok"
}

// untilOK makes requests until one gets what it wants.
func (l *load) untilOK(t *testing.T, within time.Duration) {
	t.Helper()
	r := rand.New(rand.NewPCG(0, 0))
	for end := time.Now().Add(within); l.do(http.DefaultClient, get(r)) != "ok"; pause(t.Context(), 50*time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no request got its answer within %v", within)
		}
	}
}

// judge looks whether each failure says whose it was.
func (l *load) judge(t *testing.T, w *witness, upstream *link) {
	l.mu.Lock()
	defer l.mu.Unlock()
	wrongs := 0
	for _, f := range l.failures {
		var wrong string
		fault := proxy.Code(f.code).Fault()
		switch {
		case f.code == string(proxy.LoginRejected):
			wrong = "the login server refused nothing"
		case fault == proxy.FaultLogin:
			if w.held(f.from, f.to) {
				wrong = "a good token was held"
			}
		case fault == proxy.FaultUpstream, f.code == "aborted":
			if !upstream.wasToxic(f.from, f.to) {
				wrong = "the link to upstream was good"
			}
		case f.code == "401": // the token ended on the way, and there was no newer one
			if !upstream.wasToxic(f.from, f.to) && !w.endedBetween(f.from, f.to) {
				wrong = "the link to upstream was good"
			}
		default:
			wrong = "that is nobody's fault"
		}
		if wrong == "" {
			continue
		}
		if wrongs++; wrongs <= 10 {
			t.Errorf("%s at %s, after %v: got %s, and %s", f.what, f.from.Format(time.TimeOnly), f.to.Sub(f.from).Round(time.Millisecond), f.code, wrong)
		}
	}
	if wrongs > 10 {
		t.Errorf("… and so %d in all", wrongs)
	}
	if l.counts["ok"] == 0 || len(l.failures) == 0 {
		t.Errorf("got %v, which proves nothing", l.counts)
	}
}

// filler is what bodies are cut from. A body of which a part is missing or
// moved is not the one that was sent.
var filler = func() []byte {
	b := make([]byte, 5<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(b)
	return b
}()

func digest(b []byte) []byte { return fmt.Appendf(nil, "%d %08x", len(b), crc32.ChecksumIEEE(b)) }

// streamLines is how long a stream is, in tenths of a second.
const streamLines = 40
