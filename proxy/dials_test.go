package proxy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bearerd/bearerd/proxy"
)

// atOnce is how many connections are being made at once.
const atOnce = 32

// dialling is an upstream that is far away: each dial takes its time, and what
// answers is at the other end of a pipe.
type dialling struct {
	dial  func() error                     // takes its time; nil: none
	serve func(conn net.Conn, done func()) // calls done where the connection is made; nil: it is made by dial
	wait  func(*http.Request)              // before each answer without TLS; nil: not

	mu              sync.Mutex // guards all below
	now, most, made int
}

func (d *dialling) begin() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.now++
	d.made++
	d.most = max(d.most, d.now)
}

func (d *dialling) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.now--
}

func (d *dialling) Dial(context.Context, string, string) (net.Conn, error) {
	d.begin()
	if d.dial != nil {
		if err := d.dial(); err != nil {
			d.end()
			return nil, err
		}
	}
	near, far := net.Pipe()
	if d.serve != nil {
		go d.serve(far, sync.OnceFunc(d.end))
	} else {
		d.end()
		go answerAll(far, d.wait)
	}
	return near, nil
}

// answerAll answers each request on conn, when wait allows.
func answerAll(conn net.Conn, wait func(r *http.Request)) {
	defer func() { _ = conn.Close() }()
	in := bufio.NewReader(conn)
	for {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		if r.Header.Get("Expect") != "" {
			_, _ = io.WriteString(conn, "HTTP/1.1 100 Continue\r\n\r\n")
		}
		if wait != nil {
			wait(r)
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		if _, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"); err != nil {
			return
		}
	}
}

// dialTimeout bounds a dial as a net.Dialer does.
const dialTimeout = 5 * time.Second

var errDialTimeout = &net.OpError{Op: "dial", Net: "tcp", Err: os.ErrDeadlineExceeded}

// herdOf has handler serve requests at once, and returns their statuses and how
// long each took. It is for a bubble of synctest.
func herdOf(handler http.Handler, requests int, ask func(i int) *http.Request) (codes []int, took []time.Duration) {
	codes, took = make([]int, requests), make([]time.Duration, requests)
	var all sync.WaitGroup
	for i := range requests {
		all.Go(func() {
			began := time.Now()
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, ask(i))
			codes[i], took[i] = w.Code, time.Since(began)
		})
	}
	all.Wait()
	return codes, took
}

func aGet(int) *http.Request { return inbound(http.MethodGet, nil) }

func inbound(method string, body io.Reader) *http.Request {
	r := httptest.NewRequest(method, "/", body)
	r.Host = "localhost"
	return r
}

func (d *dialling) handler(t *testing.T, upstream string, o proxy.TransportOptions) (*proxy.Handler, *http.Transport) {
	o.Dial, o.DialTimeout, o.Dials = d.Dial, dialTimeout, new(proxy.Dials)
	tr := proxy.NewTransport(o)
	tr.Proxy = nil
	return proxy.New(proxy.Options{Upstream: parse(t, upstream), Source: new(source), Transport: tr, Dials: o.Dials, AllowUpgrade: true}), tr
}

func allAre[T comparable](t *testing.T, what string, got []T, want T) {
	t.Helper()
	for i, g := range got {
		if g != want {
			t.Errorf("%s: request %d got %v, want %v", what, i, g, want)
			return
		}
	}
}

// A connection that comes free goes to a request that waits for its turn to
// dial, and then nobody dials for it.
func TestDialsAreForWhoWantsThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &dialling{dial: func() error { time.Sleep(time.Second); return nil }}
		h, tr := d.handler(t, "http://upstream.example", proxy.TransportOptions{})
		var goroutines int
		time.AfterFunc(500*time.Millisecond, func() { goroutines = runtime.NumGoroutine() })
		before := runtime.NumGoroutine()
		codes, took := herdOf(h, 1000, aGet)
		// Each request has one, and those that look for a connection another.
		if most := before + 1000 + 300; goroutines > most {
			t.Errorf("got %d goroutines while all wait, want at most %d", goroutines, most)
		}
		allAre(t, "status", codes, 200)
		allAre(t, "took", took, time.Second)
		time.Sleep(2 * time.Second) // for the dials that had begun
		if d.made > 2*atOnce {
			t.Errorf("got %d connections for small answers, want those of the first turns", d.made)
		}
		tr.CloseIdleConnections()
	})
}

// Each of many long requests gets its connection, however long it waits for
// others': dials succeed. No more than allowed are under way, whatever carries
// them.
func TestDialsOfLongRequests(t *testing.T) {
	const requests = 10 * atOnce
	synctest.Test(t, func(t *testing.T) {
		var come sync.WaitGroup
		come.Add(requests)
		d := &dialling{dial: func() error { time.Sleep(4 * time.Second); return nil }}
		d.wait = func(*http.Request) { come.Done(); come.Wait() }
		h, tr := d.handler(t, "http://upstream.example", proxy.TransportOptions{})
		codes, took := herdOf(h, requests, func(i int) *http.Request {
			switch i % 3 {
			case 1: // announced, on a connection of its own
				return inbound(http.MethodPost, strings.NewReader("body"))
			case 2: // by HTTP/1.1 alone
				r := inbound(http.MethodGet, nil)
				r.Header.Set("Connection", "Upgrade")
				r.Header.Set("Upgrade", "foo")
				return r
			}
			return aGet(i)
		})
		allAre(t, "status", codes, 200)
		allAre(t, "took", took, 40*time.Second)
		if d.most != atOnce || d.made != requests {
			t.Errorf("got %d connections, %d at once, want %d and %d", d.made, d.most, requests, atOnce)
		}
		tr.CloseIdleConnections()
		h.CloseIdleConnections()
	})
}

// A dial ends with the TLS handshake.
func TestDialsEndWithTheHandshake(t *testing.T) {
	const requests = 3 * atOnce
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	config := s.TLS.Clone()
	config.NextProtos = nil
	roots := s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	synctest.Test(t, func(t *testing.T) {
		var come sync.WaitGroup
		come.Add(requests)
		d := &dialling{serve: func(conn net.Conn, made func()) {
			time.Sleep(time.Second)
			c := tls.Server(conn, config)
			err := c.HandshakeContext(context.Background())
			made()
			if err == nil {
				answerAll(c, func(*http.Request) { come.Done(); come.Wait() })
			}
		}}
		h, tr := d.handler(t, "https://example.com", proxy.TransportOptions{RootCAs: roots})
		codes, took := herdOf(h, requests, aGet)
		allAre(t, "status", codes, 200)
		allAre(t, "took", took, 3*time.Second)
		if d.made != requests || d.most > 2*atOnce { // who ends is counted a moment later
			t.Errorf("got %d connections, %d at once", d.made, d.most)
		}
		tr.CloseIdleConnections()
	})
}

// An upstream that drops what comes, or says nothing after it has taken the
// connection, holds no request for longer than a wait and a dial may take
// together; and when it is back, all is well at once.
func TestDialsThatTimeOut(t *testing.T) {
	const requests = 30 * atOnce // more than may look for a connection
	for name, dialled := range map[string]error{
		"dropped":       errDialTimeout,
		"no descriptor": &net.OpError{Op: "dial", Err: syscall.EMFILE}, // as an allotment says after that time
		"silent":        nil,
	} {
		t.Run(name, func(t *testing.T) {
			silent := dialled == nil
			synctest.Test(t, func(t *testing.T) {
				var back bool // is set while nobody dials
				d := &dialling{}
				upstream := "http://upstream.example"
				if silent {
					upstream = "https://upstream.example"
					d.serve = func(conn net.Conn, made func()) { defer made(); _, _ = io.Copy(io.Discard, conn) }
				} else {
					d.dial = func() error {
						if back {
							return nil
						}
						time.Sleep(dialTimeout)
						return dialled
					}
				}
				h, tr := d.handler(t, upstream, proxy.TransportOptions{})
				inTime := func(took []time.Duration) {
					if longest := slices.Max(took); longest > 2*dialTimeout {
						t.Errorf("took %v, want at most %v", longest, 2*dialTimeout)
					}
				}
				var later sync.WaitGroup
				later.Go(func() {
					time.Sleep(3 * time.Second)
					codes, took := herdOf(h, requests, aGet)
					allAre(t, "status", codes, http.StatusBadGateway)
					inTime(took)
				})
				codes, took := herdOf(h, requests, aGet)
				allAre(t, "status", codes, http.StatusBadGateway)
				inTime(took)
				later.Wait()
				if !silent {
					back = true
					codes, took := herdOf(h, requests, aGet)
					allAre(t, "back: status", codes, 200)
					allAre(t, "back: took", took, 0)
				}
				time.Sleep(2 * dialTimeout)
				tr.CloseIdleConnections()
			})
		})
	}
}

// One dial that times out among those that succeed costs nobody his turn.
func TestDialsOfWhichOneTimesOut(t *testing.T) {
	const requests = 10 * atOnce
	synctest.Test(t, func(t *testing.T) {
		var come sync.WaitGroup
		come.Add(requests - 1)
		d := &dialling{}
		lost := false
		var mu sync.Mutex // guards lost
		d.dial = func() error {
			mu.Lock()
			mine := !lost
			lost = true
			mu.Unlock()
			if mine {
				time.Sleep(dialTimeout)
				return errDialTimeout
			}
			time.Sleep(4 * time.Second)
			return nil
		}
		d.wait = func(*http.Request) { come.Done(); come.Wait() }
		h, tr := d.handler(t, "http://upstream.example", proxy.TransportOptions{})
		codes, _ := herdOf(h, requests, aGet)
		bad := 0
		for _, c := range codes {
			if c != 200 {
				bad++
			}
		}
		if bad != 1 {
			t.Errorf("%d requests failed, want that of the dial that was lost", bad)
		}
		tr.CloseIdleConnections()
	})
}

// Who has left dials for nobody.
func TestDialsOfClientsThatLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &dialling{dial: func() error { time.Sleep(time.Second); return nil }}
		h, tr := d.handler(t, "http://upstream.example", proxy.TransportOptions{})
		ctx, leave := context.WithTimeout(t.Context(), time.Millisecond)
		defer leave()
		func() {
			herdOf(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				defer func() { _ = recover() }() // the answer is aborted
				h.ServeHTTP(w, r)
			}), 10*atOnce, func(i int) *http.Request { return aGet(i).WithContext(ctx) })
		}()
		time.Sleep(time.Minute)
		if d.made != atOnce {
			t.Errorf("got %d dials, want the %d that had begun", d.made, atOnce)
		}
		codes, _ := herdOf(h, 1, aGet)
		allAre(t, "status", codes, 200)
		tr.CloseIdleConnections()
	})
}

// A dial that net/http has left behind may come to the queue after the one that
// the request waits for, and take its place: the request looks for a connection
// anew, however often, with its body whole.
func TestDialsThatComeInTheWrongOrder(t *testing.T) {
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		asked := 0
		upstream := roundTrip(func(r *http.Request) (*http.Response, error) {
			body, err := io.ReadAll(r.Body)
			if err != nil || string(body) != "a body" {
				t.Errorf("%s: got the body %q, %v", method, body, err)
			}
			if asked++; asked < 5 {
				return nil, proxy.ErrUnwanted
			}
			return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
		})
		var exchange proxy.Exchange
		h := proxy.New(proxy.Options{
			Upstream: parse(t, "https://upstream.example"), Source: &source{}, Transport: upstream, ReplayBuffer: 1 << 20,
			Done: func(ex *proxy.Exchange) { exchange = *ex },
		})
		w, r := httptest.NewRecorder(), httptest.NewRequest(method, "/", strings.NewReader("a body"))
		r.Host = "localhost"
		h.ServeHTTP(w, r)
		if w.Code != http.StatusOK || asked != 5 || exchange.Attempts != 1 {
			t.Errorf("%s: got %d, asked %d times, %d attempts; want 200, 5 and 1", method, w.Code, asked, exchange.Attempts)
		}
	}
}
