// Package bearerdtest is what end-to-end tests share: the program as users build it,
// a world for it to talk to, and a search for secrets in all that it says. It is for
// tests, and knows bearerd from the outside alone.
package bearerdtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// ClientAt returns a client for a listener, and the URL that it uses.
func ClientAt(t testing.TB, url string) (*http.Client, string) {
	c := NewClient(t)
	path, ok := strings.CutPrefix(url, "unix:")
	if !ok {
		return c, url
	}
	c.Transport.(*http.Transport).DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
	return c, "http://localhost"
}

// NewClient has as many connections as a test wants, and does not follow
// redirects.
func NewClient(t testing.TB) *http.Client {
	transport := &http.Transport{MaxIdleConnsPerHost: 4096}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Soon is for what takes an instant, or its time and an instant: on a busy machine
// that may be much longer, and only a test that fails waits so long.
const Soon = time.Minute

// AtOnce is for an end that is not to wait for the 25 s of SHUTDOWN_GRACE.
const AtOnce = 15 * time.Second

// Within wants f to take at most limit in one of three tries: a busy machine may
// need longer for the others.
func Within(t testing.TB, limit time.Duration, f func()) {
	t.Helper()
	var took time.Duration
	for range 3 {
		began := time.Now()
		f()
		if took = time.Since(began); took <= limit {
			return
		}
	}
	t.Errorf("it took %v, want at most %v", took, limit)
}

// Eventually waits until ok says yes.
func Eventually(t testing.TB, within time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	for tick := time.NewTicker(20 * time.Millisecond); ; <-tick.C {
		if ok() {
			tick.Stop()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}

// ClosedAfter returns how long bearerd keeps conn open.
func ClosedAfter(t testing.TB, conn net.Conn) time.Duration {
	t.Helper()
	began := time.Now()
	if err := conn.SetReadDeadline(began.Add(Soon)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, conn); err != nil && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.Errno(10054)) { // as Windows says it
		t.Fatalf("after %v: got %v, want the connection closed", Soon, err)
	}
	return time.Since(began)
}

// Many runs f n times at once and returns the errors.
func Many(n int, f func(i int) error) error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = f(i) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Lacking skips a test that this machine cannot run. Where CI=true each must
// run, so that none is skipped for ever unseen.
func Lacking(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("CI=true, and this machine lacks %s (.ci/run packages gets programs)", what)
	}
	t.Skipf("this machine lacks %s", what)
}

func ExpectStatus(c *http.Client, url string, want int) error {
	resp, err := c.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != want {
		return fmt.Errorf("GET: got %d, want %d", resp.StatusCode, want)
	}
	return nil
}

func FirstLines(err error) string {
	s := err.Error()
	return s[:min(len(s), 500)]
}

// Digest answers with the length of what was posted and its checksum.
func Digest(w http.ResponseWriter, r *http.Request) {
	_, _ = io.WriteString(w, DigestReader(r.Body))
}

// DigestReader is what digest says of a body. One that ends early has another
// length.
func DigestReader(r io.Reader) string {
	sum := crc32.NewIEEE()
	n, _ := io.Copy(sum, r)
	return fmt.Sprintf("%d %08x", n, sum.Sum32())
}

type WriterFunc func(p []byte) (int, error)

func (f WriterFunc) Write(p []byte) (int, error) { return f(p) }

const NamesPath = "/cpmm/api/v1/orgs/42/metrics/names"

// Output collects what a command writes.
type Output struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// Fetch returns status, header and body of a GET.
func Fetch(t testing.TB, c *http.Client, url string) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return Do(t, c, req)
}

// Do sends req and returns the answer, which must be whole.
func Do(t testing.TB, c *http.Client, req *http.Request) (int, http.Header, string) {
	t.Helper()
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(body)
}

// Until waits for pattern to come up in what was written.
func (o *Output) Until(t *testing.T, pattern string) []string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	deadline := time.Now().Add(20 * time.Second)
	for tick := time.NewTicker(10 * time.Millisecond); ; <-tick.C {
		if found := re.FindStringSubmatch(o.String()); found != nil {
			tick.Stop()
			return found
		}
		if time.Now().After(deadline) {
			t.Fatalf("no %s in:\n%s", pattern, o)
		}
	}
}

// FreePort is for programs that know neither port 0 nor how to take over a
// socket. It is below those that systems give for port 0 and to clients, or
// somebody else might be given it meanwhile.
func FreePort(t testing.TB) int {
	t.Helper()
	for {
		port := 10_000 + rand.IntN(20_000)
		free, err := net.Listen("tcp", fmt.Sprint("localhost:", port))
		if err == nil {
			_ = free.Close()
			return port
		}
	}
}
