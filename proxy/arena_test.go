package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/bearerd/bearerd/proxy"
)

// A setting is how bearerd is set up in an arena, and what upstream there thinks
// of tokens. Its zero value has no prefix, the usual guard, and good tokens.
type setting struct {
	prefix                         string
	hosts, origins, methods, paths []string
	header                         proxy.HeaderRule
	good                           uint64 // upstream refuses tokens of earlier generations
}

// arena is bearerd between a raw client and a raw upstream.
type arena struct {
	*daemon
	setting
	options  proxy.Options
	upstream *url.URL

	// To be set before play.
	reply string // upstream's to all but /end, after which it closes; empty: ok
	early bool   // reply before the body has come

	// Of the play under way.
	source  *source
	handler *proxy.Handler

	mu       sync.Mutex // guards all below
	settled  *sync.Cond
	active   int    // connections upstream and handlers
	serving  int    // handlers
	busy     string // the client whose connection is active
	visits   []*visit
	requests []message // that upstream got
	wrong    []error
}

// visit is a request as the handler got it, and what came of it.
type visit struct {
	*http.Request
	read     []byte // of its body
	whole    bool   // that is all of it
	exchange proxy.Exchange
}

// theirs is what clients send in place of the token.
const theirs = "Bearer theirs"

// newArena serves as cmd/bearerd does, but for its patience.
func newArena(t testing.TB, s setting, patience time.Duration) *arena {
	log.SetOutput(io.Discard) // as main has it: net/http quotes upstream there
	a := &arena{setting: s}
	a.settled = sync.NewCond(&a.mu)
	a.upstream = listen(t, a.answerAll)
	tr := proxy.NewTransport(proxy.TransportOptions{})
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
	a.options = proxy.Options{
		Upstream: parse(t, a.upstream.String()+s.prefix), Transport: tr,
		Hosts: s.hosts, Origins: s.origins, Methods: s.methods, Paths: s.paths,
		RequireHeader: func() proxy.HeaderRule { return s.header },
		ReplayBuffer:  1000, BodyIdle: patience,
		Done: func(ex *proxy.Exchange) {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.visits[len(a.visits)-1].exchange = *ex
		},
	}
	a.daemon = prepare(t, a.options, func(http.Handler) http.Handler { return http.HandlerFunc(a.serveVisit) })
	a.Config.ReadHeaderTimeout, a.Config.IdleTimeout = patience, patience
	a.Config.MaxHeaderBytes = 128 << 10
	a.Config.ConnState = func(c net.Conn, state http.ConnState) {
		a.mu.Lock()
		defer a.mu.Unlock()
		client := c.RemoteAddr().String()
		if state == http.StateActive {
			a.busy = client
		} else if a.busy == client { // the end of an earlier one may be told of late
			a.busy = ""
		}
	}
	a.Config.ErrorLog = log.New(serverLog{a}, "", 0)
	a.serve(t)
	return a
}

func (a *arena) add(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.active += n
	a.settled.Broadcast()
}

func (a *arena) serveVisit(w http.ResponseWriter, r *http.Request) {
	a.add(1)
	defer a.add(-1)
	v := &visit{Request: r.Clone(context.Background()), whole: r.ContentLength == 0}
	a.mu.Lock()
	a.visits = append(a.visits, v)
	a.serving++
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.serving--
	}()
	if !v.whole {
		r.Body = tee{r.Body, a, v}
	}
	a.handler.ServeHTTP(w, r)
}

// tee keeps what is read of a visit's body.
type tee struct {
	io.ReadCloser
	a *arena
	v *visit
}

func (b tee) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.a.mu.Lock()
	defer b.a.mu.Unlock()
	b.v.read = append(b.v.read, p[:n]...)
	b.v.whole = b.v.whole || err == io.EOF || int64(len(b.v.read)) == b.v.ContentLength
	return n, err
}

// serverLog hears of what net/http keeps from its users: panics, and answers
// that are begun twice.
type serverLog struct{ a *arena }

func (l serverLog) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte("panic")) || bytes.Contains(line, []byte("superfluous")) {
		l.a.mu.Lock()
		defer l.a.mu.Unlock()
		l.a.wrong = append(l.a.wrong, errors.New(string(line)))
	}
	return len(line), nil
}

// answerAll is upstream. It closes a connection that breaks the grammar, and
// one that it has answered oddly.
func (a *arena) answerAll(_ int, c *wire) {
	defer a.add(-1)
	g := gate{good: a.good}
	for {
		replied := false
		m, err := strictly(c.in, true, "", func(h head) {
			passes := g.passes(h.values("Authorization"))
			switch {
			case a.early && a.reply != "" && !strings.Contains(h.line, "/end "):
				_, _ = io.WriteString(c, a.reply)
				replied = true
			case h.values("Expect") != nil && passes:
				_, _ = io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
			case h.values("Expect") != nil:
				_, _ = io.WriteString(c, refusal)
				replied = true
			}
		})
		if err == io.EOF {
			return
		}
		a.mu.Lock()
		a.requests = append(a.requests, m)
		if err != nil {
			a.wrong = append(a.wrong, fmt.Errorf("upstream got %w", err))
		}
		a.mu.Unlock()
		if err != nil || !m.whole || replied {
			return
		}
		reply := ok
		switch {
		case a.reply != "" && !strings.Contains(m.line, "/end "):
			reply = a.reply
		case !g.passes(m.values("Authorization")):
			reply = refusal
		case strings.HasPrefix(m.line, "HEAD "):
			reply = strings.TrimSuffix(ok, "ok")
		}
		if _, err := io.WriteString(c, reply); err != nil || reply == a.reply {
			return
		}
	}
}

const refusal = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer\r\nContent-Length: 0\r\n\r\n"

// end is the request that follows each attack on its connection. It is answered
// where the attack left the connection open and nothing of itself on it.
const end = "GET /end HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

// play writes raw on one connection, reads all that comes to the end, and
// waits until nothing goes on, upstream neither. The handler is a new one, whose
// budget no other play has spent.
func (a *arena) play(t testing.TB, raw string) []message {
	t.Helper()
	a.mu.Lock()
	a.visits, a.requests, a.wrong = nil, nil, nil
	a.busy = ""
	a.mu.Unlock()
	a.source = &source{}
	a.options.Source = a.source
	a.handler = proxy.New(a.options)
	c, err := net.Dial("tcp", a.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const bound = 3 * patience
	_ = c.SetDeadline(time.Now().Add(bound))
	ended, written := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(written)
		_, _ = io.WriteString(c, raw) // the server may have closed
		for n := 0; n < 2; {
			select {
			case <-ended:
				return
			case <-time.After(a.options.BodyIdle):
			}
			if n++; !a.lingers(c) {
				n = 0
			}
		}
		_ = c.(*net.TCPConn).CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.Errno(10054)) { // as Windows says it
		t.Fatalf("the connection did not end: %v", err)
	}
	c.Close()
	close(ended)
	<-written
	// At its end, a connection has brought all its requests to the handler.
	late := time.AfterFunc(bound, func() { a.add(1 << 20) })
	a.mu.Lock()
	for a.active > 0 {
		a.mu.Unlock()
		a.handler.CloseIdleConnections() // those that become idle later too
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
	return a.answers(t, got, err == nil)
}

// lingers reports whether the server has answered a request of c and waits for
// the rest of its body. Anywhere else a client that closes its sending side
// would take a request back.
func (a *arena) lingers(c net.Conn) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.serving == 0 && a.busy == c.LocalAddr().String()
}

// answers reads what a client got. clean tells that the connection ended
// without a reset.
func (a *arena) answers(t testing.TB, got []byte, clean bool) []message {
	t.Helper()
	in := bufio.NewReader(bytes.NewReader(got))
	var all []message
	for n := 0; ; {
		method := ""
		if n < len(a.visits) {
			method = a.visits[n].Method
			if a.visits[n].exchange.Error == proxy.HTTP11Required {
				if rest, _ := io.ReadAll(in); string(rest) != proxy.GoAway {
					t.Errorf("got %.200q in HTTP/2", rest)
				}
				return append(all, message{head: head{line: "HTTP/2 505"}, whole: true})
			}
		}
		m, err := strictly(in, false, method, nil)
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatalf("a malformed answer: %v, in %.2000q", err, got)
		}
		if !clean && m.toTheEnd(method) {
			m.whole = false
		}
		all = append(all, m)
		if !m.whole {
			return all
		}
		if m.status()[0] != '1' {
			n++
		}
	}
}

// toTheEnd reports whether an answer to method ends with its connection.
func (m message) toTheEnd(method string) bool {
	status := m.status()
	return method != "HEAD" && status[0] != '1' && status != "204" && status != "304" &&
		m.values("Content-Length") == nil && m.values("Transfer-Encoding") == nil
}

// judge is the referee of every attack. got is what the client got.
//
// What went upstream are requests that can be read in one way only. Each is one
// that the handler got from somebody who may call, method, target, fields and
// body unchanged, and goes there once, or twice where the exchange says that it
// was replayed: to upstream's host, below its prefix, with one token and nothing
// of the client's own credentials. A body that a client did not end is not ended.
//
// What came back is at most one answer to each request, with the status that the
// exchange has, and at most one of net/http's own at the end.
func (a *arena) judge(t testing.TB, got []message) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, err := range a.wrong {
		t.Error(err)
	}
	attempts := make(map[*visit]int)
	for _, v := range a.visits {
		switch {
		case !a.may(v):
		case v.exchange.Unauthorized == proxy.Replayed:
			attempts[v] = 2
		default:
			attempts[v] = 1
		}
	}
	for _, m := range a.requests {
		if m.line == "" || !m.whole && len(m.fields) == 0 {
			continue // cut off in its head: no request for anybody
		}
		a.judgeRequest(t, m)
		i := slices.IndexFunc(a.visits, func(v *visit) bool { return attempts[v] > 0 && a.isOf(m, v) })
		if i < 0 {
			t.Errorf("upstream got %.2000q and %d bytes (whole: %v), for which no request is left", m.head, len(m.body), m.whole)
			continue
		}
		attempts[a.visits[i]]--
	}

	n := 0
	for i, m := range got {
		var v *visit
		if n < len(a.visits) {
			v = a.visits[n]
		}
		if m.status()[0] == '1' {
			if m.status() != "100" || v == nil || v.Header["Expect"] == nil {
				t.Errorf("got %q, which nobody asked for", m.line)
			}
			continue
		}
		n++
		if v == nil {
			if i != len(got)-1 || m.status() < "400" || !slices.Equal(m.values("Connection"), []string{"close"}) {
				t.Errorf("got %.2000q, the answer to no request", m.head)
			}
			continue
		}
		same(t, "status", m.status(), fmt.Sprintf("%03d", v.exchange.Status))
		a.judgeAnswer(t, m, v)
	}
}

// gave reports whether authorization is that of a token so far.
func (s *source) gave(authorization string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for g := range s.generation {
		if authorization == bearer(g+1) {
			return true
		}
	}
	return false
}

// notForUpstream are the fields that concern one connection only, and those that
// upstream would believe.
var notForUpstream = []string{
	"Keep-Alive", "Proxy-Connection", "Proxy-Authorization", "Proxy-Authenticate", "Upgrade", "Http2-Settings", "Trailer", "Trailers",
	"Cookie", "Forwarded", "X-Real-Ip", "X-Original-Url", "X-Rewrite-Url",
}

// judgeRequest looks at what one request says upstream.
func (a *arena) judgeRequest(t testing.TB, m message) {
	t.Helper()
	if got := m.values("Host"); len(got) != 1 || got[0] != a.upstream.Host {
		t.Errorf("got Host %q, want %q", got, a.upstream.Host)
	}
	if got := m.values("Authorization"); len(got) != 1 || !a.source.gave(got[0]) {
		t.Errorf("got Authorization %q, want one token", got)
	}
	for _, name := range append(notForUpstream, a.header.Name) {
		if got := m.values(name); got != nil {
			t.Errorf("got %s %q, want none", name, got)
		}
	}
	announced := m.values("Expect") != nil
	// What is announced, or sent again, has a connection of its own.
	for name, allowed := range map[string]bool{"Connection: close": true, "Expect: 100-continue": announced, "Te: trailers": true} {
		name, value, _ := strings.Cut(name, ": ")
		if got := m.values(name); got != nil && (!allowed || len(got) != 1 || got[0] != value) {
			t.Errorf("got %s %q, want none", name, got)
		}
	}
	for _, field := range m.fields {
		name, _, _ := strings.Cut(field, ":")
		if meant := http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-")); strings.HasPrefix(meant, "X-Forwarded-") ||
			strings.Contains(name, "_") && slices.Contains(slices.Concat(notForUpstream, ownFields, []string{a.header.Name}), meant) {
			t.Errorf("got the field %.80q", field)
		}
	}
	parts := strings.Split(m.line, " ")
	if len(parts) != 3 || parts[0] == "CONNECT" || parts[0] == "TRACE" || !strings.HasPrefix(parts[1], "/") {
		t.Errorf("got the line %.200q", m.line)
		return
	}
	path, _, _ := strings.Cut(parts[1], "?")
	if a.prefix == "" && a.paths == nil {
		return
	}
	for _, r := range readings(path) {
		if !a.allows(r) {
			t.Errorf("got the path %q, which may be read as %q", path, r)
		}
	}
}

// allows reports whether a path is below the prefix, and an allowed one there.
func (a *arena) allows(path string) bool {
	paths := a.paths
	if paths == nil {
		paths = []string{""}
	}
	return slices.ContainsFunc(paths, func(p string) bool {
		return path == a.prefix+p || strings.HasPrefix(path, a.prefix+p+"/")
	})
}

// ownFields are those that bearerd writes.
var ownFields = []string{"Host", "Authorization", "Content-Length", "Transfer-Encoding", "Connection", "Expect", "Te"}

// isOf reports whether m is what v is to be upstream.
func (a *arena) isOf(m message, v *visit) bool {
	if m.line != v.Method+" "+a.prefix+v.RequestURI+" HTTP/1.1" {
		return false
	}
	for _, field := range m.fields {
		name, value, _ := strings.Cut(field, ":")
		same := func(s string) bool { return strings.TrimSpace(s) == strings.TrimSpace(value) }
		if !slices.Contains(ownFields, http.CanonicalHeaderKey(name)) && !slices.ContainsFunc(v.Header[http.CanonicalHeaderKey(name)], same) {
			return false
		}
	}
	if !m.whole {
		return strings.HasPrefix(string(v.read), m.body)
	}
	return v.whole && string(v.read) == m.body
}

// ourHosts are the names of this machine, and that which setting.hosts adds.
var ourHosts = regexp.MustCompile(`(?i)^(localhost|127\.0\.0\.1|\[::1\]|proxy\.example)\.?(:[0-9]*)?$`)

// may reports whether v may speak with the account, in words of its own: what
// docs/security.md says of who may call.
func (a *arena) may(v *visit) bool {
	origin, site := v.Header["Origin"], v.Header["Sec-Fetch-Site"]
	preflight := v.Method == "OPTIONS" && origin != nil && v.Header.Get("Access-Control-Request-Method") != ""
	isNamed := ourHosts.MatchString(v.Host) && (a.hosts != nil || !strings.Contains(strings.ToLower(v.Host), "proxy.example"))
	isListed := len(origin) == 1 && slices.Contains(a.origins, origin[0])
	isForeign := len(origin) > 1 || len(origin) == 1 && !strings.EqualFold(origin[0], "http://"+v.Host) ||
		len(site) > 1 || len(site) == 1 && site[0] != "none" && site[0] != "same-origin"
	hasHeader := a.header.Name == "" || slices.Equal(v.Header[a.header.Name], []string{a.header.Value})
	isAllowed := v.Method != "CONNECT" && v.Method != "TRACE" && (a.methods == nil || slices.Contains(a.methods, v.Method))
	return strings.HasPrefix(v.RequestURI, "/") && isNamed && (isListed && len(site) < 2 || !isForeign) && hasHeader && isAllowed && !preflight
}

// judgeAnswer looks at what one answer says to a client: nothing that concerns
// upstream's connection, nor the token, nor leave for a web page that is not
// listed. What may not stand in the header does not stand in the trailer.
func (a *arena) judgeAnswer(t testing.TB, m message, v *visit) {
	t.Helper()
	for _, h := range []head{m.head, m.trailer} {
		for _, name := range []string{"Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Upgrade", "Alt-Svc", "Set-Cookie",
			"Clear-Site-Data", "Nel", "Report-To", "Reporting-Endpoints"} {
			if got := h.values(name); got != nil {
				t.Errorf("got %s %q, want none", name, got)
			}
		}
		for _, field := range h.fields {
			name, value, _ := strings.Cut(field, ":")
			switch name = http.CanonicalHeaderKey(name); {
			case name == "Access-Control-Allow-Origin" && strings.TrimSpace(value) == v.Header.Get("Origin") && slices.Contains(a.origins, v.Header.Get("Origin")):
			case name == "Access-Control-Allow-Origin", name == "Access-Control-Allow-Credentials", strings.HasPrefix(name, "Access-Control-") && v.Header["Origin"] == nil:
				t.Errorf("got %q in an answer to %q", field, v.Header["Origin"])
			}
		}
	}
	for _, name := range []string{"Connection", "Content-Length", "Transfer-Encoding", "Trailer", "Host", "Authorization", "Location", "Content-Location", "Link", "Proxy-Status"} {
		if got := m.trailer.values(name); got != nil {
			t.Errorf("got the trailer %s: %q, want none", name, got)
		}
	}
	switch got := m.values("Connection"); {
	case got == nil, slices.Equal(got, []string{"close"}), slices.Equal(got, []string{"keep-alive"}) && !v.ProtoAtLeast(1, 1):
	default:
		t.Errorf("got Connection %q, want none or close", got)
	}
	if strings.Contains(fmt.Sprint(m), "Bearer t") {
		t.Errorf("got the token: %.1000q", fmt.Sprint(m))
	}
	if v.exchange.Error != "" && v.exchange.Error != proxy.HTTP11Required && v.Method != "HEAD" && m.whole {
		var problem struct{ Code proxy.Code }
		if err := json.Unmarshal([]byte(m.body), &problem); err != nil || problem.Code != v.exchange.Error {
			t.Errorf("got the error %.200q, want %s", m.body, v.exchange.Error)
		}
	}
}

// outcome is what came of an attack: the answers' statuses, and the whole
// requests that upstream got, without its prefix.
func (a *arena) outcome(got []message) string {
	var statuses, requests []string
	for _, m := range got {
		status := m.status()
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
