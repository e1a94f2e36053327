package proxy_test

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bearerd/bearerd/proxy"
)

func TestMain(m *testing.M) {
	// Tests that run side by side mostly wait, whatever the number of processors.
	// (Where a target is fuzzed it would be the number of its workers.)
	if !strings.Contains(strings.Join(os.Args, " "), "-test.fuzz=") {
		_ = flag.Set("test.parallel", strconv.Itoa(max(16, runtime.GOMAXPROCS(0))))
	}
	m.Run()
}

// patience is how long a test waits for what should come at once.
const patience = 20 * time.Second

// source is a proxy.Source like tokens.Manager: one login at a time, which the
// others join, and a generation that grows. Its zero value holds no token yet.
type source struct {
	login func(ctx context.Context, generation uint64) error // nil: succeeds at once
	// lifetime of its tokens; 0: they have no age, and it keeps none but the last.
	lifetime, refreshAfter time.Duration
	issued                 func(generation uint64) // told of each token; nil: nobody is

	mu         sync.Mutex
	generation uint64
	came       [2]time.Time  // of the last token and the one before
	logins     int           // caused by a 401
	flight     chan struct{} // closed at the end of the login under way
	err        error         // of Token, when not nil
	empty      bool          // give tokens without a value
	asked      int           // calls of Token
}

var errNotRenewed = errors.New("not renewed")

func bearer(generation uint64) string { return fmt.Sprintf("Bearer t%d", generation) }

func (s *source) token() proxy.Token {
	if s.empty {
		return proxy.Token{Generation: s.generation}
	}
	return proxy.Token{
		Authorization: bearer(s.generation), Generation: s.generation, Came: s.came[0], RefreshAfter: s.refreshAfter,
	}
}

// issue is a login's success. The caller holds mu.
func (s *source) issue() {
	s.generation++
	if s.lifetime > 0 {
		s.came = [2]time.Time{time.Now(), s.came[0]}
	}
	if s.issued != nil {
		s.issued(s.generation)
	}
}

// refresh is a refresh ahead, or the login after an idle expiry.
func (s *source) refresh() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.issue()
}

func (s *source) Before(generation uint64) (proxy.Token, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.generation != generation || time.Since(s.came[1]) >= s.lifetime {
		return proxy.Token{}, false
	}
	return proxy.Token{
		Authorization: bearer(generation - 1), Generation: generation - 1, Came: s.came[1], RefreshAfter: s.refreshAfter,
	}, true
}

func (s *source) Token(ctx context.Context) (proxy.Token, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if s.generation == 0 {
		s.issue()
	}
	if s.err != nil {
		return proxy.Token{}, s.err
	}
	return s.token(), ctx.Err()
}

func (s *source) Renew(ctx context.Context, refused uint64, may func() bool) (proxy.Token, error) {
	s.mu.Lock()
	if s.generation > refused {
		defer s.mu.Unlock()
		return s.token(), nil
	}
	if s.flight == nil {
		if !may() {
			s.mu.Unlock()
			return proxy.Token{}, errNotRenewed
		}
		s.logins++
		flight := make(chan struct{})
		s.flight = flight
		next := s.generation + 1
		go func() {
			var err error
			if s.login != nil {
				err = s.login(context.WithoutCancel(ctx), next)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			if err == nil {
				s.issue()
			}
			s.flight = nil
			close(flight)
		}()
	}
	flight := s.flight
	s.mu.Unlock()
	select {
	case <-flight:
	case <-ctx.Done():
		return proxy.Token{}, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.generation <= refused {
		return proxy.Token{}, errNotRenewed
	}
	return s.token(), nil
}

func (s *source) loginCount() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.logins
}

// gate is what upstream thinks of tokens: those below good are refused.
type gate struct {
	mu   sync.Mutex
	good uint64
}

func (g *gate) revokeBelow(generation uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.good = generation
}

func (g *gate) passes(authorization []string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(authorization) != 1 {
		return false
	}
	n, err := strconv.ParseUint(strings.TrimPrefix(authorization[0], "Bearer t"), 10, 64)
	return err == nil && n >= g.good
}

// daemon is a server with the handler under test, and what Done was told.
type daemon struct {
	*httptest.Server
	proxy *proxy.Handler
	addr  string

	mu    sync.Mutex
	ended []proxy.Exchange
	tick  chan struct{} // one for each ended
}

// start serves the handler of o, wrapped in outer, on a free port.
func start(t testing.TB, o proxy.Options, outer ...func(http.Handler) http.Handler) *daemon {
	t.Helper()
	d := prepare(t, o, outer...)
	d.serve(t)
	return d
}

// prepare does what start does, but for serving.
func prepare(t testing.TB, o proxy.Options, outer ...func(http.Handler) http.Handler) *daemon {
	t.Helper()
	d := &daemon{tick: make(chan struct{}, 1<<16)}
	if o.Source == nil {
		o.Source = &source{}
	}
	if o.Transport == nil {
		tr := proxy.NewTransport(proxy.TransportOptions{ResponseHeaderTimeout: o.ResponseHeaderTimeout})
		t.Cleanup(tr.CloseIdleConnections)
		o.Transport = tr
	}
	done := o.Done
	o.Done = func(ex *proxy.Exchange) {
		if done != nil {
			done(ex)
		}
		d.mu.Lock()
		d.ended = append(d.ended, *ex)
		d.mu.Unlock()
		d.tick <- struct{}{}
	}
	d.proxy = proxy.New(o)
	var h http.Handler = d.proxy
	for _, wrap := range outer {
		h = wrap(h)
	}
	d.Server = httptest.NewUnstartedServer(h)
	d.Config.DisableGeneralOptionsHandler = true
	d.Config.ReadHeaderTimeout = patience
	d.Config.ErrorLog = log.New(io.Discard, "", 0)
	return d
}

func (d *daemon) serve(t testing.TB) {
	d.Start()
	t.Cleanup(func() { d.proxy.CloseIdleConnections(); d.CloseClientConnections(); d.Close() })
	d.addr = d.Listener.Addr().String()
}

// exchanges waits for n ended requests and returns them.
func (d *daemon) exchanges(t testing.TB, n int) []proxy.Exchange {
	t.Helper()
	for {
		d.mu.Lock()
		ended := slices.Clone(d.ended)
		d.mu.Unlock()
		if len(ended) >= n {
			if len(ended) > n {
				t.Fatalf("got %d ended requests, want %d: %+v", len(ended), n, ended)
			}
			return ended
		}
		select {
		case <-d.tick:
		case <-time.After(patience):
			t.Fatalf("got %d ended requests, want %d", len(ended), n)
		}
	}
}

// one waits for the only request and returns it.
func (d *daemon) one(t testing.TB) proxy.Exchange {
	t.Helper()
	return d.exchanges(t, 1)[0]
}

// upstream serves h on a free port.
func upstream(t testing.TB, h http.HandlerFunc) *url.URL {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.DisableGeneralOptionsHandler = true
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Start()
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return parse(t, s.URL)
}

// upstreamTLS serves h over TLS, with HTTP/2 where h2 says so, and returns a
// transport that trusts it.
func upstreamTLS(t testing.TB, h2 bool, h http.HandlerFunc) (*url.URL, *http.Transport) {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.EnableHTTP2 = h2
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	tr := proxy.NewTransport(proxy.TransportOptions{RootCAs: s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs})
	t.Cleanup(func() { tr.CloseIdleConnections(); s.CloseClientConnections(); s.Close() })
	return parse(t, s.URL), tr
}

func parse(t testing.TB, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// listen calls serve with each connection to a free port, until the test ends.
func listen(t testing.TB, serve func(n int, c *wire)) *url.URL {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	conns := []net.Conn{}
	closed := false
	wg.Go(func() {
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			if closed {
				c.Close()
			}
			conns = append(conns, c)
			mu.Unlock()
			wg.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(2 * patience))
				serve(n, &wire{Conn: c, in: bufio.NewReader(c)})
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		closed = true
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		ended := make(chan struct{})
		go func() { wg.Wait(); close(ended) }()
		within(t, "the end of what serves a connection", patience, ended) // a test that failed may have left it waiting
	})
	return &url.URL{Scheme: "http", Host: l.Addr().String()}
}

// wire is one raw connection.
type wire struct {
	net.Conn
	in *bufio.Reader
}

// dial opens a raw connection to the daemon.
func (d *daemon) dial(t testing.TB) *wire {
	t.Helper()
	c, err := net.Dial("tcp", d.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(2 * patience))
	return &wire{Conn: c, in: bufio.NewReader(c)}
}

func (w *wire) send(t testing.TB, s string) {
	t.Helper()
	if _, err := io.WriteString(w, s); err != nil {
		t.Errorf("writing: %v", err)
	}
}

// answer reads an answer with its body. The connection may end the body only
// where the answer says so.
func (w *wire) answer(t testing.TB, method string) (*http.Response, string) {
	t.Helper()
	resp, err := http.ReadResponse(w.in, &http.Request{Method: method})
	if err != nil {
		t.Fatalf("reading the answer: %v", err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("reading the body: %v", err)
	}
	return resp, string(body)
}

// head is a message's first lines as they were on the wire.
type head struct {
	line   string
	fields []string
}

// head reads one. It returns false at the end of the connection.
func (w *wire) head() (head, bool) {
	var h head
	for {
		line, err := w.in.ReadString('\n')
		if err != nil {
			return h, false
		}
		line = strings.TrimRight(line, "\r\n")
		switch {
		case line == "":
			return h, true
		case h.line == "":
			h.line = line
		default:
			h.fields = append(h.fields, line)
		}
	}
}

// values returns the values of a field, in order.
func (h head) values(name string) []string {
	var got []string
	for _, f := range h.fields {
		k, v, _ := strings.Cut(f, ":")
		if strings.EqualFold(k, name) {
			got = append(got, strings.TrimSpace(v))
		}
	}
	return got
}

// body reads the body that h announces.
func (w *wire) body(h head) (string, error) {
	var b strings.Builder
	if n := h.values("Content-Length"); n != nil {
		length, err := strconv.ParseInt(n[0], 10, 64)
		if err == nil {
			_, err = io.CopyN(&b, w.in, length)
		}
		return b.String(), err
	}
	if h.values("Transfer-Encoding") == nil {
		return "", nil
	}
	for {
		line, err := w.in.ReadString('\n')
		if err != nil {
			return b.String(), err
		}
		n, err := strconv.ParseInt(strings.TrimSpace(line), 16, 64)
		if err != nil {
			return b.String(), err
		}
		if n == 0 {
			break
		}
		if _, err := io.CopyN(&b, w.in, n); err != nil {
			return b.String(), err
		}
		if _, err := w.in.Discard(2); err != nil {
			return b.String(), err
		}
	}
	trailer, ok := w.head()
	if !ok {
		return b.String(), io.ErrUnexpectedEOF
	}
	if trailer.line != "" {
		return b.String(), fmt.Errorf("got trailer %q, want none", trailer.line)
	}
	return b.String(), nil
}

// recorder is a raw upstream that keeps each request's head and body and
// answers 200.
type recorder struct {
	mu    sync.Mutex
	heads []head
	sent  []string
	reply string
}

const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

func (r *recorder) serve(_ int, c *wire) {
	for {
		h, more := c.head()
		if !more {
			return
		}
		body, err := c.body(h)
		if err != nil {
			return
		}
		r.mu.Lock()
		r.heads = append(r.heads, h)
		r.sent = append(r.sent, body)
		reply := r.reply
		r.mu.Unlock()
		if reply == "" {
			reply = ok
			if strings.HasPrefix(h.line, "HEAD ") { // what follows it would be the next answer
				reply = strings.TrimSuffix(ok, "ok")
			}
		}
		if _, err := io.WriteString(c, reply); err != nil {
			return
		}
	}
}

func (r *recorder) all() []head {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.heads)
}

func (r *recorder) bodies() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.sent)
}

// last returns the only request so far and forgets it.
func (r *recorder) last(t testing.TB) head {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.heads) != 1 {
		t.Fatalf("got %d requests upstream, want 1", len(r.heads))
	}
	h := r.heads[0]
	r.heads, r.sent = nil, nil
	return h
}

// get sends a GET with the given fields by a raw connection of its own.
func (d *daemon) get(t testing.TB, target string, fields ...string) (*http.Response, string) {
	t.Helper()
	return d.do(t, "GET", target, fields...)
}

func (d *daemon) do(t testing.TB, method, target string, fields ...string) (*http.Response, string) {
	t.Helper()
	w := d.dial(t)
	defer w.Close()
	if !slices.ContainsFunc(fields, func(f string) bool { return strings.HasPrefix(f, "Host:") }) {
		fields = append([]string{"Host: localhost"}, fields...)
	}
	w.send(t, method+" "+target+" HTTP/1.1\r\n"+strings.Join(fields, "\r\n")+"\r\n\r\n")
	return w.answer(t, method)
}

// fetch sends a request by an ordinary client.
func fetch(t testing.TB, method, url string, body io.Reader) (*http.Response, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(got)
}

func same[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// within fails the test unless c is closed soon.
func within(t testing.TB, what string, d time.Duration, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(d):
		t.Fatalf("%s: not within %v", what, d)
	}
}
