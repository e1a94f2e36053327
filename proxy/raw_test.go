package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/bearerd/bearerd/proxy"
)

// What a client writes is judged here by what comes out of bearerd, byte for
// byte: both ends are raw, and both sides are read by a parser that forgives
// nothing. A server behind bearerd may read its bytes in any way that their
// grammar allows; so the grammar must leave it only one.

// message is an HTTP/1.1 message as it was on the wire.
type message struct {
	head
	body  string
	whole bool // it was there to its end
}

// grammarError is what is wrong with a message.
type grammarError string

func (e grammarError) Error() string { return string(e) }

// strictly reads one message; of a request where request is set, and of an
// answer to method otherwise. It returns io.EOF at the end of the connection,
// a message that is not whole where the connection ends within it, and a
// grammarError for one that two servers might read in two ways. It calls begun
// with the head, before the body is read.
func strictly(in *bufio.Reader, request bool, method string, begun func(head)) (message, error) {
	var m message
	if _, err := in.Peek(1); err != nil {
		return m, io.EOF
	}
	lines, err := strictLines(in)
	if err != nil {
		return m, cut(err)
	}
	if len(lines) == 0 {
		return m, grammarError("an empty line before the message")
	}
	m.line, m.fields = lines[0], lines[1:]
	length, chunked, err := m.check(request)
	if err != nil {
		return m, err
	}
	if begun != nil {
		begun(m.head)
	}
	if !request {
		status := strings.Split(m.line, " ")[1]
		if method == "HEAD" || status[0] == '1' || status == "204" || status == "304" {
			m.whole = true
			return m, nil
		}
	}
	var body strings.Builder
	switch {
	case chunked:
		err = strictChunks(in, &body, request)
	case length >= 0:
		_, err = io.CopyN(&body, in, length)
	case !request:
		_, err = io.Copy(&body, in)
	}
	m.body = body.String()
	m.whole = err == nil
	return m, cut(err)
}

// cut returns nil for what only says that the connection has ended.
func cut(err error) error {
	if _, ok := errors.AsType[grammarError](err); ok || errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return nil
}

// strictLines reads lines to an empty one.
func strictLines(in *bufio.Reader) ([]string, error) {
	var lines []string
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return lines, err
		}
		line, ok := strings.CutSuffix(line, "\r\n")
		if !ok {
			return lines, grammarError(fmt.Sprintf("the line %.80q ends with a bare LF", line))
		}
		if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
			return lines, grammarError(fmt.Sprintf("the line %.80q holds a control byte", line))
		}
		if line == "" {
			return lines, nil
		}
		lines = append(lines, line)
	}
}

// check returns the length that the head gives its body, -1 for none.
func (h head) check(request bool) (length int64, chunked bool, err error) {
	parts := strings.SplitN(h.line, " ", 3)
	switch {
	case len(parts) < 3, request && (parts[2] != "HTTP/1.1" || !isToken(parts[0]) || parts[1] == ""),
		!request && (parts[0] != "HTTP/1.1" && parts[0] != "HTTP/1.0" || len(parts[1]) != 3 || strings.Trim(parts[1], "0123456789") != ""):
		return 0, false, grammarError(fmt.Sprintf("the first line is %.80q", h.line))
	}
	for _, f := range h.fields {
		if name, _, ok := strings.Cut(f, ":"); !ok || !isToken(name) {
			return 0, false, grammarError(fmt.Sprintf("the field %.80q has no name, is folded, or has space before its colon", f))
		}
	}
	lengths, encodings := h.values("Content-Length"), h.values("Transfer-Encoding")
	switch {
	case len(lengths)+len(encodings) > 1:
		return 0, false, grammarError(fmt.Sprintf("two lengths: %q %q", lengths, encodings))
	case len(encodings) == 1 && encodings[0] != "chunked":
		return 0, false, grammarError(fmt.Sprintf("the transfer encoding %q", encodings[0]))
	case len(encodings) == 1:
		return -1, true, nil
	case len(lengths) == 1:
		length, err = strconv.ParseInt(lengths[0], 10, 64)
		if err != nil || strings.Trim(lengths[0], "0123456789") != "" {
			return 0, false, grammarError(fmt.Sprintf("the length %q", lengths[0]))
		}
		return length, false, nil
	}
	return -1, false, nil
}

func isToken(s string) bool {
	return s != "" && strings.Trim(s, "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz") == ""
}

// strictChunks reads a chunked body; of a request it allows no trailer.
func strictChunks(in *bufio.Reader, body io.Writer, request bool) error {
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return err
		}
		size, ok := strings.CutSuffix(line, "\r\n")
		n, err := strconv.ParseUint(size, 16, 32)
		if !ok || err != nil || strings.Trim(size, "0123456789abcdefABCDEF") != "" {
			return grammarError(fmt.Sprintf("the chunk size %.80q", line))
		}
		if n == 0 {
			break
		}
		if _, err := io.CopyN(body, in, int64(n)); err != nil {
			return err
		}
		end := make([]byte, 2)
		if _, err := io.ReadFull(in, end); err != nil {
			return err
		}
		if string(end) != "\r\n" {
			return grammarError(fmt.Sprintf("a chunk that ends with %q", end))
		}
	}
	trailer, err := strictLines(in)
	if err == nil && request && len(trailer) > 0 {
		err = grammarError(fmt.Sprintf("the trailer %q", trailer))
	}
	return err
}

// arena is bearerd between a raw client and a raw upstream.
type arena struct {
	*daemon
	upstream *url.URL
	prefix   string
	close    func()        // idle connections upstream
	ended    chan struct{} // one for each connection of a client that has ended

	// To be set before play.
	reply  string // upstream's to all but /end, after which it closes; empty: ok
	early  bool   // reply before the body has come
	hangUp bool   // the client closes its sending side

	mu       sync.Mutex // guards all below
	settled  *sync.Cond
	active   int // connections upstream and handlers
	requests []message
	wrong    []error
}

// theirs is what clients send in place of the token.
const theirs = "Bearer theirs"

// newArena serves as cmd/bearerd does, but for its patience.
func newArena(t testing.TB, prefix string, patience time.Duration) *arena {
	a := &arena{prefix: prefix, ended: make(chan struct{}, 1024)}
	a.settled = sync.NewCond(&a.mu)
	a.upstream = listen(t, a.answerAll)
	tr := proxy.NewTransport(proxy.TransportOptions{})
	a.close = tr.CloseIdleConnections
	dial := tr.DialContext
	tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		a.add(1) // answerAll takes it back
		// A dial that is given up may be a connection upstream all the same.
		c, err := dial(context.WithoutCancel(ctx), network, addr)
		if err != nil {
			a.add(-1)
		}
		return c, err
	}
	a.daemon = prepare(t, proxy.Options{
		Upstream: parse(t, a.upstream.String()+prefix), Transport: tr,
		ReplayBuffer: 1000, BodyIdle: patience,
	}, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			a.add(1)
			defer a.add(-1)
			next.ServeHTTP(w, r)
		})
	})
	a.Config.ReadHeaderTimeout = patience
	a.Config.MaxHeaderBytes = 128 << 10
	a.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed || state == http.StateHijacked {
			a.ended <- struct{}{}
		}
	}
	a.serve(t)
	return a
}

func (a *arena) add(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.active += n
	a.settled.Broadcast()
}

// answerAll is upstream. It closes a connection that breaks the grammar, and
// one that it has answered oddly.
func (a *arena) answerAll(_ int, c *wire) {
	defer a.add(-1)
	for {
		replied := false
		m, err := strictly(c.in, true, "", func(h head) {
			if a.early && a.reply != "" && !strings.Contains(h.line, "/end ") {
				_, _ = io.WriteString(c, a.reply)
				replied = true
			} else if h.values("Expect") != nil {
				_, _ = io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
			}
		})
		if err == io.EOF {
			return
		}
		a.mu.Lock()
		a.requests = append(a.requests, m)
		if err != nil {
			a.wrong = append(a.wrong, err)
		}
		a.mu.Unlock()
		if err != nil || !m.whole || replied {
			return
		}
		reply := ok
		if a.reply != "" && !strings.Contains(m.line, "/end ") {
			reply = a.reply
		}
		if _, err := io.WriteString(c, reply); err != nil || reply != ok {
			return
		}
	}
}

// end is the request that follows each attack on its connection. It is answered
// where the attack left the connection open and nothing of itself on it.
const end = "GET /end HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

// play writes raw on one connection, reads all that comes to the end, and
// waits until nothing goes on, upstream neither.
func (a *arena) play(t testing.TB, raw string) []message {
	t.Helper()
	a.mu.Lock()
	a.requests, a.wrong = nil, nil
	a.mu.Unlock()
	a.daemon.mu.Lock()
	a.daemon.ended = nil
	a.daemon.mu.Unlock()
	c, err := net.Dial("tcp", a.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const bound = 8 * time.Second
	_ = c.SetDeadline(time.Now().Add(bound))
	written := make(chan struct{})
	go func() {
		defer close(written)
		_, _ = io.WriteString(c, raw) // the server may have closed
		if a.hangUp {
			_ = c.(*net.TCPConn).CloseWrite()
		}
	}()
	got, err := io.ReadAll(c)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("the connection did not end: %v", err)
	}
	c.Close()
	<-written
	select {
	case <-a.ended:
	case <-time.After(bound):
		t.Fatal("the server did not end the connection")
	}
	late := time.AfterFunc(bound, func() { a.add(1 << 20) })
	a.mu.Lock()
	for a.active > 0 {
		a.mu.Unlock()
		a.close() // those that become idle later too
		a.mu.Lock()
		if a.active > 0 {
			a.settled.Wait()
		}
		if a.active >= 1<<20 {
			a.mu.Unlock()
			t.Fatal("a handler or a connection upstream did not end")
		}
	}
	a.mu.Unlock()
	late.Stop()
	return answers(t, got)
}

// answers reads what a client got. The requests' methods make no difference
// but HEAD's, which no attack uses.
func answers(t testing.TB, got []byte) []message {
	t.Helper()
	in := bufio.NewReader(bytes.NewReader(got))
	var all []message
	for {
		m, err := strictly(in, false, "", nil)
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatalf("a malformed answer: %v, in %.2000q", err, got)
		}
		all = append(all, m)
		if !m.whole {
			return all
		}
	}
}

// hopByHop are the fields that concern one connection only, and those that
// upstream would believe.
var hopByHop = []string{
	"Keep-Alive", "Proxy-Connection", "Proxy-Authorization", "Proxy-Authenticate", "Upgrade", "Http2-Settings", "Trailer", "Trailers",
	"Cookie", "Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip", "X-Original-Url", "X-Rewrite-Url",
}

// judge is the referee of every attack: what went upstream are requests that
// can be read in one way only, no more of them than the handler was asked, each
// to upstream's host, below its prefix, with one token and nothing of the
// client's own credentials.
func (a *arena) judge(t testing.TB) {
	t.Helper()
	a.daemon.mu.Lock()
	asked := len(a.daemon.ended)
	a.daemon.mu.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, err := range a.wrong {
		t.Errorf("upstream got %v", err)
	}
	if len(a.requests) > asked {
		t.Errorf("got %d requests upstream, want no more than the handler's %d", len(a.requests), asked)
	}
	for _, m := range a.requests {
		if m.line == "" || !m.whole && len(m.fields) == 0 {
			continue // cut off in its head: no request for anybody
		}
		if got := m.values("Host"); len(got) != 1 || got[0] != a.upstream.Host {
			t.Errorf("got Host %q, want %q", got, a.upstream.Host)
		}
		if got := m.values("Authorization"); len(got) != 1 || got[0] != bearer(1) {
			t.Errorf("got Authorization %q, want %q", got, bearer(1))
		}
		for _, name := range hopByHop {
			if got := m.values(name); got != nil {
				t.Errorf("got %s %q, want none", name, got)
			}
		}
		announced := m.values("Expect") != nil
		for name, allowed := range map[string]bool{"Connection: close": announced, "Expect: 100-continue": announced, "Te: trailers": true} {
			name, value, _ := strings.Cut(name, ": ")
			if got := m.values(name); got != nil && (!allowed || len(got) != 1 || got[0] != value) {
				t.Errorf("got %s %q, want none", name, got)
			}
		}
		for _, field := range m.fields {
			if name, _, _ := strings.Cut(field, ":"); strings.Contains(name, "_") {
				t.Errorf("got the field %.80q, want no underscore", field)
			}
		}
		if strings.Contains(m.line+strings.Join(m.fields, "\n"), theirs) {
			t.Errorf("got the client's credentials: %.2000q", m.fields)
		}
		parts := strings.Split(m.line, " ")
		if len(parts) != 3 || parts[0] == "CONNECT" || parts[0] == "TRACE" || !strings.HasPrefix(parts[1], "/") {
			t.Errorf("got the line %.200q", m.line)
			continue
		}
		path, _, _ := strings.Cut(parts[1], "?")
		for _, r := range readings(path) {
			if a.prefix != "" && r != a.prefix && !strings.HasPrefix(r, a.prefix+"/") {
				t.Errorf("got the path %q, which may be read as %q", path, r)
			}
		}
	}
}

// outcome is what came of an attack: the answers' statuses, and the whole
// requests that upstream got, without its prefix.
func (a *arena) outcome(got []message) string {
	var statuses, requests []string
	for _, m := range got {
		status := strings.Split(m.line, " ")[1]
		if !m.whole {
			status += " cut"
		}
		statuses = append(statuses, status)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, m := range a.requests {
		if !m.whole {
			continue
		}
		request := strings.Replace(strings.TrimSuffix(m.line, " HTTP/1.1"), " "+a.prefix, " ", 1)
		if len(request) > 60 {
			request = fmt.Sprintf("%.20s... of %d", request, len(request))
		}
		switch {
		case len(m.body) > 60:
			request += fmt.Sprintf(" and %d bytes", len(m.body))
		case m.body != "":
			request += fmt.Sprintf(" and %q", m.body)
		}
		requests = append(requests, request)
	}
	if requests == nil {
		return strings.Join(statuses, " ")
	}
	return strings.Join(statuses, " ") + ": " + strings.Join(requests, "; ")
}
