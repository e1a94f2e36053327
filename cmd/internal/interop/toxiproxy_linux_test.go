package interop_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

var (
	toxicFor  = flag.Duration("toxic-for", 30*time.Second, "how long TestToxiproxy spoils the network")
	toxicSeed = flag.Uint64("toxic-seed", 0, "the seed of TestToxiproxy; 0: another each time")
)

const (
	tokenLife    = 10 * time.Second
	loginTimeout = 5 * time.Second
	tokenWait    = 3 * time.Second
	headerWait   = 5 * time.Second

	// settle is how long after a toxic is gone what it did may still arrive.
	settle = time.Second
	// late is how long after bearerd its witness may learn of something.
	late = 500 * time.Millisecond
	// comeBack is the longest back-off, with its jitter, and one login.
	comeBack = 36*time.Second + loginTimeout
)

// TestToxiproxy spoils the network between bearerd and both servers at random,
// and then asks the servers, the network and the clients what happened.
func TestToxiproxy(t *testing.T) {
	seed := *toxicSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-toxic-seed=%d -toxic-for=%v", seed, *toxicFor)
	random := func(stream uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, stream)) }

	s := newServers(t)
	loginLink := newLink(t, "login", s.login.Listener.Addr().String())
	queryLink := newLink(t, "upstream", s.server.Listener.Addr().String())
	w := newWitness(t, loginLink.proxy.Listen)
	admin := filepath.Join(t.TempDir(), "admin")
	p := s.start(t,
		"BEARERD_TOKEN_URL=http://"+w.listener.Addr().String()+s.vendor.LoginPath,
		"BEARERD_UPSTREAM=http://"+queryLink.proxy.Listen,
		"BEARERD_LOGIN_TIMEOUT="+loginTimeout.String(), "BEARERD_TOKEN_WAIT="+tokenWait.String(),
		"BEARERD_RESPONSE_HEADER_TIMEOUT="+headerWait.String(),
		"BEARERD_ADMIN_LISTEN=unix:"+admin, "BEARERD_ACCESS_LOG=errors",
	)
	l := &load{url: p.url, counts: map[string]int{}}
	l.untilOK(t, 20*time.Second)
	base := readMetrics(t, admin)

	var workers, storms sync.WaitGroup
	working, stopWork := context.WithCancel(t.Context())
	for i, work := range []func(*rand.Rand) *call{
		get, get, get, get, post, post, postUnknownLength, postUnknownLength, postLarge, stream,
	} {
		workers.Go(func() { l.work(working, random(uint64(i)), work) })
	}
	storming, stopStorm := context.WithTimeout(t.Context(), *toxicFor)
	defer stopStorm()
	// Long enough for a token to end meanwhile, and short enough to see whose
	// fault a failure was.
	storms.Go(func() { loginLink.storm(storming, random(100), 3*time.Second, 8*time.Second) })
	storms.Go(func() { queryLink.storm(storming, random(101), 2*time.Second, 2*time.Second) })
	storms.Wait()

	calm := time.Now()
	l.untilOK(t, comeBack)
	back := time.Since(calm)
	pause(t.Context(), 5*time.Second) // in which nothing may fail any more, see judge
	stopWork()
	workers.Wait()

	s.judge(t)
	w.judge(t, loginLink)
	l.judge(t, w, queryLink)
	var now map[string]float64
	bearerdtest.Eventually(t, bearerdtest.Soon, "bearerd is as it was before, and has counted its logins", func() bool {
		const few = 20 // connections to upstream are kept for 30 s
		now = readMetrics(t, admin)
		return now["bearerd_requests_in_flight"] == 0 && now["bearerd_replay_buffer_bytes"] == 0 &&
			now["process_open_fds"] <= base["process_open_fds"]+few && now["go_goroutines"] <= base["go_goroutines"]+2*few &&
			int(total(now, "bearerd_logins_total", "")) == w.count()
	})
	// The clients read every answer to its end.
	if got := total(now, "bearerd_requests_total", `code="client_closed"`); got != 0 {
		t.Errorf("requests that bearerd says clients left: got %v, want 0", got)
	}
	peak := p.Memory("VmHWM")
	if peak > 200<<10 {
		t.Errorf("peak memory: got %d MiB, want at most 200", peak>>10)
	}
	t.Logf("toxics: login link %v, upstream link %v", loginLink.applied, queryLink.applied)
	t.Logf("requests: %v", l.counts)
	t.Logf("logins: %d, of which %d brought a token", w.count(), int(total(now, "bearerd_logins_total", `result="ok"`)))
	t.Logf("first answer %v after the last toxic; VmHWM %d MiB; goroutines %v, then %v; descriptors %v, then %v", back.Round(time.Millisecond),
		peak>>10, base["go_goroutines"], now["go_goroutines"], base["process_open_fds"], now["process_open_fds"])
}

// servers are both servers, and what they saw.
type servers struct {
	*upstream

	mu        sync.Mutex // guards what follows
	issued    map[string]bool
	strangers int            // requests with none of these tokens
	processed map[string]int // POSTs that came with a good token, by their id
	twice     []string
}

func newServers(t *testing.T) *servers {
	sim, err := querysim.New(querysim.Options{Lifetime: tokenLife})
	if err != nil {
		t.Fatal(err)
	}
	s := &servers{upstream: &upstream{}, issued: map[string]bool{}, processed: map[string]int{}}
	for _, v := range querysim.Vendors() {
		if v.GrantType == "client_credentials" {
			s.vendor = v
		}
	}
	login, query := sim.LoginHandler(), sim.RequireToken(http.HandlerFunc(s.serve))
	s.login = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := httptest.NewRecorder()
		login.ServeHTTP(answer, r)
		var token struct {
			AccessToken string `json:"access_token"`
		}
		if json.Unmarshal(answer.Body.Bytes(), &token) == nil && token.AccessToken != "" {
			s.mu.Lock()
			s.issued["Bearer "+token.AccessToken] = true
			s.mu.Unlock()
		}
		maps.Copy(w.Header(), answer.Header())
		w.WriteHeader(answer.Code)
		_, _ = answer.Body.WriteTo(w)
	}))
	t.Cleanup(s.login.Close)
	s.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		if given := r.Header["Authorization"]; len(given) != 1 || !s.issued[given[0]] {
			s.strangers++
		}
		s.mu.Unlock()
		query.ServeHTTP(w, r)
	}))
	t.Cleanup(s.server.Close)
	return s
}

// serve is the API behind the token check.
func (s *servers) serve(w http.ResponseWriter, r *http.Request) {
	switch flusher := http.NewResponseController(w); {
	case r.Method == http.MethodPost:
		id := r.Header.Get("X-Id")
		s.mu.Lock()
		s.processed[id]++
		if s.processed[id] > 1 && r.Header.Get("Idempotency-Key") == "" {
			s.twice = append(s.twice, id)
		}
		s.mu.Unlock()
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		_, _ = w.Write(digest(body))
	case r.URL.Path == "/stream":
		for i := range streamLines {
			fmt.Fprintf(w, "data: %d\n\n", i)
			if flusher.Flush() != nil || !pause(r.Context(), 100*time.Millisecond) {
				panic(http.ErrAbortHandler)
			}
		}
	default:
		from, _ := strconv.Atoi(r.FormValue("from"))
		size, _ := strconv.Atoi(r.FormValue("size"))
		body := filler[from : from+size]
		if r.FormValue("length") == "known" {
			w.Header().Set("Content-Length", strconv.Itoa(size))
		} else {
			_, _ = w.Write(body[:size/2])
			_ = flusher.Flush()
			body = body[size/2:]
		}
		_, _ = w.Write(body)
	}
}

func (s *servers) judge(t *testing.T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.strangers > 0 {
		t.Errorf("%d requests came without a token that was issued, want 0", s.strangers)
	}
	if len(s.twice) > 0 {
		t.Errorf("%d POSTs were processed twice, want 0: %.10q", len(s.twice), s.twice)
	}
	if len(s.issued) < 2 || len(s.processed) == 0 {
		t.Errorf("got %d tokens and %d POSTs, which proves nothing", len(s.issued), len(s.processed))
	}
}

// A span is a time in which a link was toxic; to is zero as long as it is.
type span struct{ from, to time.Time }

// A link is the network before a server.
type link struct {
	t     *testing.T
	proxy *toxiproxy.Proxy

	mu      sync.Mutex // guards what follows
	spans   []span
	applied map[string]int
}

func newLink(t *testing.T, name, address string) *link {
	t.Helper()
	zerolog.SetGlobalLevel(zerolog.Disabled)
	host := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	l := &link{t: t, applied: map[string]int{}}
	l.proxy = toxiproxy.NewProxy(host, name, "127.0.0.1:0", address)
	if err := l.proxy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.proxy.Stop)
	return l
}

// A toxic is what Toxiproxy calls one, with its attributes; or "down".
type toxic struct {
	kind       string
	attributes map[string]int
}

func toxics(r *rand.Rand) []toxic {
	return []toxic{
		{"down", nil},
		{"latency", map[string]int{"latency": 50 + r.IntN(6000), "jitter": r.IntN(50)}},
		{"reset_peer", map[string]int{"timeout": r.IntN(1000)}},
		{"slicer", map[string]int{"average_size": 20 + r.IntN(1000), "size_variation": 10, "delay": r.IntN(2000)}},
		{"bandwidth", map[string]int{"rate": 1 + r.IntN(100)}},
		{"limit_data", map[string]int{"bytes": 1 + r.IntN(1<<(1+r.IntN(20)))}},
		{"timeout", map[string]int{"timeout": r.IntN(2) * r.IntN(3000)}},
		{"slow_close", map[string]int{"delay": 100 + r.IntN(3000)}},
	}
}

// storm makes the link toxic and well again until ctx ends, each for half of
// the time given to twice as long. Each toxic has its turn before any comes
// again.
func (l *link) storm(ctx context.Context, r *rand.Rand, well, ill time.Duration) {
	var deck []toxic
	about := func(d time.Duration) time.Duration { return d/2 + time.Duration(r.Int64N(int64(3*d/2))) }
	for pause(ctx, about(well)) {
		if len(deck) == 0 {
			deck = toxics(r)
			r.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
		}
		l.mu.Lock()
		l.spans = append(l.spans, span{from: time.Now()})
		l.applied[deck[0].kind]++
		l.mu.Unlock()
		end := l.apply(deck[0], []string{"upstream", "downstream"}[r.IntN(2)])
		deck = deck[1:]
		pause(ctx, about(ill))
		end()
		l.mu.Lock()
		l.spans[len(l.spans)-1].to = time.Now()
		l.mu.Unlock()
	}
}

// apply begins x, in the direction, and returns what ends it.
func (l *link) apply(x toxic, direction string) (end func()) {
	if x.kind == "down" {
		l.proxy.Stop()
		return func() {
			if err := l.proxy.Start(); err != nil {
				l.t.Errorf("toxiproxy: %v", err)
			}
		}
	}
	text, err := json.Marshal(map[string]any{"name": "x", "type": x.kind, "stream": direction, "attributes": x.attributes})
	if err == nil {
		_, err = l.proxy.Toxics.AddToxicJson(bytes.NewReader(text))
	}
	if err != nil {
		l.t.Errorf("toxiproxy: %s: %v", text, err)
	}
	return func() {
		if err := l.proxy.Toxics.RemoveToxic(context.Background(), "x"); err != nil {
			l.t.Errorf("toxiproxy: %s: %v", text, err)
		}
	}
}

// wasToxic reports whether the link was toxic between two moments, or so
// shortly before that it may have mattered.
func (l *link) wasToxic(from, to time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.spans, func(s span) bool {
		return s.from.Before(to) && (s.to.IsZero() || s.to.Add(settle).After(from))
	})
}

// A login is one connection of bearerd to the login server.
type login struct {
	from, to time.Time // of the connection; to is zero as long as it is open
	token    time.Time // when the last byte of a good answer went to bearerd; zero: there was none
	doubtful bool      // a good answer went out, but a reset or the time-out may have been faster
}

// A witness stands between bearerd and the login link. What it sees of bearerd
// no toxic delays.
type witness struct {
	listener net.Listener

	mu         sync.Mutex // guards what follows
	open, most int        // connections at once
	logins     []login
}

func newWitness(t *testing.T, to string) *witness {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &witness{listener: listener}
	var relays sync.WaitGroup
	relays.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			w.mu.Lock()
			w.open++
			w.most = max(w.most, w.open)
			i := len(w.logins)
			w.logins = append(w.logins, login{from: time.Now()})
			w.mu.Unlock()
			relays.Go(func() { w.relay(i, conn.(*net.TCPConn), to) })
		}
	})
	t.Cleanup(func() { _ = listener.Close(); relays.Wait() })
	return w
}

// relay carries login i.
func (w *witness) relay(i int, bearerd *net.TCPConn, to string) {
	var answer bytes.Buffer
	var last time.Time
	var requests sync.WaitGroup
	server, err := net.Dial("tcp", to)
	if err == nil {
		requests.Go(func() {
			_, _ = io.Copy(server, bearerd)
			_ = server.Close()
		})
		_, err = io.Copy(io.MultiWriter(bearerd, &answer, writerFunc(func() { last = time.Now() })), server)
		_ = server.Close()
	}
	if err != nil {
		_ = bearerd.SetLinger(0) // a reset is passed on as one
	}
	w.mu.Lock()
	w.open--
	w.logins[i].to = time.Now()
	if isGood(&answer) {
		reset := err != nil && !errors.Is(err, net.ErrClosed)
		if reset || last.Sub(w.logins[i].from) > loginTimeout-late {
			w.logins[i].doubtful = true
		} else {
			w.logins[i].token = last
		}
	}
	w.mu.Unlock()
	_ = bearerd.Close()
	requests.Wait()
}

// writerFunc is called at each Write.
type writerFunc func()

func (f writerFunc) Write(p []byte) (int, error) { f(); return len(p), nil }

func isGood(answer io.Reader) bool {
	resp, err := http.ReadResponse(bufio.NewReader(answer), nil)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err == nil && resp.StatusCode == http.StatusOK
}

// held reports whether bearerd held a good token all the time between two
// moments, beyond doubt.
func (w *witness) held(from, to time.Time) bool {
	const doubt = time.Second
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.logins, func(l login) bool {
		return !l.token.IsZero() && l.token.Add(doubt).Before(from) && to.Before(l.from.Add(tokenLife-doubt))
	})
}

// endedBetween reports whether a token ended between two moments.
func (w *witness) endedBetween(from, to time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.logins, func(l login) bool {
		end := l.from.Add(tokenLife)
		return (!l.token.IsZero() || l.doubtful) && end.After(from) && end.Before(to)
	})
}

func (w *witness) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.logins)
}

func (w *witness) judge(t *testing.T, link *link) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.most != 1 {
		t.Errorf("logins at once: got %d, want 1", w.most)
	}
	failures := 0
	for i, l := range w.logins {
		if l.to.IsZero() {
			break // it is under way
		}
		if l.token.IsZero() && !link.wasToxic(l.from, l.to) {
			t.Errorf("login %d failed on a good link", i)
		}
		var least time.Duration
		since := l.to
		switch {
		case l.doubtful:
			failures, least = 0, time.Second
		case l.token.IsZero():
			least = min(time.Second<<failures, 30*time.Second)
			failures = min(failures+1, 5)
		default: // the refresh ahead, at its earliest, is counted from the request
			failures, least, since = 0, 7*time.Second, l.from
		}
		if i+1 < len(w.logins) && w.logins[i+1].from.Sub(since) < least-late {
			t.Errorf("login %d came %v after the one before (a token: %t), want at least %v", i+1, w.logins[i+1].from.Sub(since), !l.token.IsZero(), least)
		}
	}
}

// pause waits and reports whether ctx did not end meanwhile.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// readMetrics returns the series of a Prometheus text on a unix socket.
func readMetrics(t *testing.T, socket string) map[string]float64 {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
		DisableKeepAlives: true,
	}}
	resp, err := client.Get("http://localhost/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	all := map[string]float64{}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if i := strings.LastIndexByte(lines.Text(), ' '); i > 0 {
			all[lines.Text()[:i]], _ = strconv.ParseFloat(lines.Text()[i+1:], 64)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// total adds up the series of a metric that have a label.
func total(metrics map[string]float64, name, label string) (all float64) {
	for series, value := range metrics {
		if strings.HasPrefix(series, name+"{") && strings.Contains(series, label) {
			all += value
		}
	}
	return all
}
