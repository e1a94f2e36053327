package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bearerd/bearerd/proxy"
)

// asked is a request by its bytes.
var asked = map[string]string{
	"GET":                   "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
	"POST":                  "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc",
	"POST without a body":   "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
	"POST of no length":     "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
	"POST, announced":       "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000\r\n\r\n" + strings.Repeat("x", 2000),
	"POST with a key":       "POST / HTTP/1.1\r\nHost: localhost\r\nIdempotency-Key: 7\r\nContent-Length: 3\r\n\r\nabc",
	"DELETE without a body": "DELETE / HTTP/1.1\r\nHost: localhost\r\n\r\n",
}

// What upstream does to each request, for ever, over HTTP/2: none may go out more
// often than the count allows, and the cause names what upstream did. The texts
// that tell these apart are net/http's: a Go release that changes one fails here.
func TestThreatHTTP2AttemptsWithoutEnd(t *testing.T) {
	const secret = "SECRET-OF-UPSTREAM"
	reset := func(code uint32) func(*frames, uint32) { return func(f *frames, s uint32) { f.reset(s, code) } }
	for _, c := range []struct {
		name  string
		spoil func(f *frames, stream uint32)
		cause string
		again bool // upstream promises that it did nothing
		never bool // it has begun to answer
	}{
		{"RST_STREAM NO_ERROR", reset(noError), "upstream reset the HTTP/2 stream: NO_ERROR", false, false},
		{"RST_STREAM PROTOCOL_ERROR", reset(protocolError), "upstream reset the HTTP/2 stream: PROTOCOL_ERROR", false, false}, // nginx, return 444
		{"RST_STREAM INTERNAL_ERROR", reset(internalError), "upstream reset the HTTP/2 stream: INTERNAL_ERROR", false, false},
		{"RST_STREAM REFUSED_STREAM", reset(refusedStream), "upstream reset the HTTP/2 stream: REFUSED_STREAM", true, false},
		{"RST_STREAM CANCEL", reset(cancelStream), "upstream reset the HTTP/2 stream: CANCEL", false, false},
		{"RST_STREAM ENHANCE_YOUR_CALM", reset(enhanceYourCalm), "upstream reset the HTTP/2 stream: ENHANCE_YOUR_CALM", false, false},
		{"RST_STREAM 0x77", reset(codeNobodyKnows), "upstream reset the HTTP/2 stream: a code that RFC 9113 does not know", false, false},
		{"GOAWAY below", func(f *frames, _ uint32) { f.goAway(0, noError, secret) }, "upstream sent GOAWAY before it took the request", true, false},
		{"GOAWAY below, an error", func(f *frames, _ uint32) { f.goAway(0, enhanceYourCalm, secret) },
			"upstream sent GOAWAY before it took the request: ENHANCE_YOUR_CALM", true, false},
		{"GOAWAY and the end", func(f *frames, s uint32) { f.goAway(s, enhanceYourCalm, secret); _ = f.conn.Close() },
			"upstream sent GOAWAY and closed the connection: ENHANCE_YOUR_CALM", false, false},
		{"the end", func(f *frames, _ uint32) { _ = f.conn.Close() }, "upstream closed the connection before it answered", false, false},
		{"a frame of the future", func(f *frames, s uint32) { f.write(frameSettings, 0, s, nil) },
			"upstream's HTTP/2 connection broke the protocol: PROTOCOL_ERROR", false, false},
		{"a broken answer", func(f *frames, s uint32) { f.write(frameHeaders, flagEnd|flagEndHeaders, s, []byte{0x84}) }, // :path
			"upstream's HTTP/2 answer broke the protocol: PROTOCOL_ERROR", false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			seen := []int{} // the connection of each request
			u, tr := h2Upstream(t, func(n int, f *frames) {
				f.eager = n%2 == 0 // before the body, or after it
				for {
					stream, _, err := f.request()
					if err != nil {
						return
					}
					mu.Lock()
					seen = append(seen, n)
					mu.Unlock()
					c.spoil(f, stream)
				}
			}, nil)
			d := start(t, proxy.Options{Upstream: u, Transport: tr, ReplayBuffer: 1000})
			ended := 0
			for name, request := range asked {
				if name == "POST, announced" {
					continue // TestFaultHTTP2SecondAttempt has it
				}
				mu.Lock()
				seen = seen[:0]
				mu.Unlock()
				w := d.dial(t)
				w.send(t, request)
				resp, body := w.answer(t, "GET")
				wantError(t, resp, proxy.UpstreamUnreachable)
				if strings.Contains(body, secret) {
					t.Errorf("%s: got upstream's bytes in %q", name, body)
				}
				ended++
				ex := d.exchanges(t, ended)[ended-1]
				want := 1
				if c.again || !c.never && name == "GET" || !c.never && name == "POST with a key" {
					want = 2
				}
				mu.Lock()
				if len(seen) != want || want == 2 && seen[0] == seen[1] {
					t.Errorf("%s: got requests on the connections %v, want %d on as many", name, seen, want)
				}
				mu.Unlock()
				same(t, name+": attempts", ex.Attempts, want)
				if e, ok := errors.AsType[*proxy.UpstreamError](ex.Cause); !ok || e.What != c.cause {
					t.Errorf("%s: got the cause %v, want %q", name, ex.Cause, c.cause)
				}
			}
		})
	}
}

// The first attempt meets an upstream's end, the second a good connection.
func TestFaultHTTP2SecondAttempt(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		spoil func(f *frames, stream uint32)
		asks  []string
	}{
		{"connection dies", func(f *frames, _ uint32) { _ = f.conn.Close() }, []string{"GET", "POST with a key"}},
		{"RST_STREAM", func(f *frames, s uint32) { f.reset(s, protocolError) }, []string{"GET", "POST with a key"}},
		{"REFUSED_STREAM", func(f *frames, s uint32) { f.reset(s, refusedStream) },
			[]string{"GET", "POST", "POST without a body", "POST of no length", "POST, announced", "DELETE without a body"}},
		{"GOAWAY below", func(f *frames, s uint32) { f.goAway(s-2, noError, "") },
			[]string{"GET", "POST", "POST without a body", "POST of no length", "DELETE without a body"}},
	} {
		for _, name := range c.asks {
			t.Run(c.name+", "+name, func(t *testing.T) {
				t.Parallel()
				first := atomic.Int64{}
				var bodies sync.Map
				u, tr := h2Upstream(t, func(n int, f *frames) {
					f.eager = n == 1 && name == "POST, announced"
					for {
						stream, body, err := f.request()
						if err != nil {
							return
						}
						switch {
						case first.Add(1) == 1:
							f.answer(stream, 200) // to /warm
						case first.Load() == 2:
							c.spoil(f, stream)
						default:
							bodies.Store(body, true)
							f.answer(stream, 200)
						}
					}
				}, nil)
				d := start(t, proxy.Options{Upstream: u, Transport: tr, ReplayBuffer: 1000})
				d.get(t, "/warm")
				w := d.dial(t)
				w.send(t, asked[name])
				resp, body := w.answer(t, "GET")
				same(t, "answer", fmt.Sprint(resp.StatusCode, body), "200ok")
				same(t, "attempts", d.exchanges(t, 2)[1].Attempts, 2)
				_, want, _ := strings.Cut(asked[name], "\r\n\r\n")
				if name == "POST of no length" {
					want = "abc"
				}
				if _, ok := bodies.Load(want); !ok {
					t.Errorf("upstream did not get the body %.20q", want)
				}
			})
		}
	}
}

// Two attempts for a token, three in all.
func TestFaultHTTP2AttemptsOverReplay(t *testing.T) {
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2"} {
		for status, dies := range map[int][]bool{
			502: {true, false, true, true}, // dies, 401, dies: no fourth
			200: {true, false, false},      // over a connection that was there: a new one of HTTP/1.1 is not given up for another
		} {
			t.Run(fmt.Sprint(protocol, " ", status), func(t *testing.T) {
				t.Parallel()
				var n atomic.Int64
				next := func() (status int) {
					i := n.Add(1)
					switch {
					case i > 0 && int(i) <= len(dies) && dies[i-1]:
						return 0
					case i == 2:
						return 401
					}
					return 200
				}
				o := proxy.Options{}
				if protocol == "HTTP/2" {
					u, tr := h2Upstream(t, func(_ int, f *frames) {
						for {
							stream, _, err := f.request()
							if err != nil {
								return
							}
							if status := next(); status != 0 {
								f.answer(stream, status)
							} else {
								f.reset(stream, protocolError)
							}
						}
					}, nil)
					o.Upstream, o.Transport = u, tr
				} else {
					o.Upstream = listen(t, func(_ int, w *wire) {
						for {
							if _, more := w.head(); !more {
								return
							}
							switch next() {
							case 0:
								return
							case 401:
								w.send(t, "HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n")
							default:
								w.send(t, ok)
							}
						}
					})
				}
				d := start(t, o)
				n.Store(-1)
				d.get(t, "/warm")
				resp, _ := d.get(t, "/")
				same(t, "status", resp.StatusCode, status)
				same(t, "attempts upstream", n.Load(), 3)
				same(t, "attempts", d.exchanges(t, 2)[1].Attempts, 3)
			})
		}
	}
}

// Five connections lie idle, and each ends as it gets a request.
func TestFaultPooledConnectionsDieTogether(t *testing.T) {
	const width = 5
	var arrived, seen atomic.Int64
	all, dead := make(chan struct{}), atomic.Bool{}
	u := listen(t, func(n int, w *wire) {
		for {
			if _, more := w.head(); !more {
				return
			}
			if n < width && dead.Load() {
				seen.Add(1)
				return
			}
			if n < width {
				if arrived.Add(1) == width {
					close(all)
				}
				<-all
			}
			w.send(t, ok)
		}
	})
	d := start(t, proxy.Options{Upstream: u})
	var wg sync.WaitGroup
	for range width {
		wg.Go(func() { d.get(t, "/") })
	}
	wg.Wait()
	dead.Store(true)
	for i := range width {
		resp, _ := d.get(t, "/")
		same(t, "status", resp.StatusCode, 200)
		if ex := d.exchanges(t, width+i+1)[width+i]; ex.Attempts > 2 {
			t.Errorf("got %d attempts, want 2 at most", ex.Attempts)
		}
	}
	if seen.Load() == 0 {
		t.Error("no connection of the pool was used again")
	}
}

// brokenConn takes no byte once it is told to break, as a connection of which the
// system knows that its peer has gone.
type brokenConn struct {
	net.Conn
	broken *atomic.Bool
}

func (c brokenConn) Write(p []byte) (int, error) {
	if c.broken.Load() {
		return 0, syscall.EPIPE
	}
	return c.Conn.Write(p)
}

func (c brokenConn) NetConn() net.Conn { return c.Conn }

// A connection that failed before a byte of the request was written is no
// attempt: what may not be sent twice goes out on another.
func TestFaultNothingWritten(t *testing.T) {
	for _, secure := range []bool{false, true} {
		for name, request := range asked {
			if name == "POST, announced" {
				continue // its connection is its own
			}
			t.Run(fmt.Sprint(name, ", TLS ", secure), func(t *testing.T) {
				var seen atomic.Int64
				h := func(_ http.ResponseWriter, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body)
					seen.Add(1)
				}
				u, tr := upstreamTLS(t, false, h)
				if !secure {
					u = upstream(t, h)
				}
				broken := []*atomic.Bool{}
				dial := tr.DialContext
				tr.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
					c, err := dial(ctx, network, address)
					broken = append(broken, new(atomic.Bool))
					return brokenConn{c, broken[len(broken)-1]}, err
				}
				d := start(t, proxy.Options{Upstream: u, Transport: tr, ReplayBuffer: 1000})
				d.get(t, "/")
				broken[0].Store(true)
				w := d.dial(t)
				w.send(t, request)
				resp, _ := w.answer(t, "GET")
				same(t, "status", resp.StatusCode, 200)
				same(t, "attempts", d.exchanges(t, 2)[1].Attempts, 1)
				same(t, "requests upstream", seen.Load(), 2)
			})
		}
	}
}

// An upgrade goes by HTTP/1.1 and counts like any request.
func TestFaultUpgradeAttempts(t *testing.T) {
	var seen atomic.Int64
	u := listen(t, func(_ int, w *wire) {
		for {
			h, more := w.head()
			if !more {
				return
			}
			if strings.Contains(h.line, "/warm") {
				w.send(t, ok)
				continue
			}
			seen.Add(1)
			return
		}
	})
	d := start(t, proxy.Options{Upstream: u, AllowUpgrade: true})
	d.get(t, "/warm", "Connection: Upgrade", "Upgrade: websocket")
	resp, _ := d.get(t, "/", "Connection: Upgrade", "Upgrade: websocket")
	wantError(t, resp, proxy.UpstreamUnreachable)
	same(t, "attempts", d.exchanges(t, 2)[1].Attempts, 2)
	same(t, "upgrades upstream", seen.Load(), 2)
}

// An upstream that requires HTTP/1.1 gets it, and no more HTTP/2 for a while.
func TestFaultHTTP11Required(t *testing.T) {
	t.Parallel()
	for name, refuse := range map[string]func(f *frames, stream uint32){
		"RST_STREAM": func(f *frames, s uint32) { f.reset(s, http11Required) },
		"GOAWAY":     func(f *frames, _ uint32) { f.goAway(0, http11Required, "") },
	} {
		t.Run(name, func(t *testing.T) {
			var h2 atomic.Int64
			var h1 recorder
			u, tr := h2Upstream(t, func(_ int, f *frames) {
				f.eager = true
				for {
					stream, _, err := f.request()
					if err != nil {
						return
					}
					h2.Add(1)
					refuse(f, stream)
				}
			}, h1.serve)
			d := start(t, proxy.Options{Upstream: u, Transport: tr, ReplayBuffer: 1000})
			for name, request := range asked {
				w := d.dial(t)
				w.send(t, request)
				resp, _ := w.answer(t, "GET")
				same(t, name, resp.StatusCode, 200)
			}
			same(t, "requests over HTTP/2", h2.Load(), 1)
			same(t, "requests over HTTP/1.1", len(h1.all()), len(asked))
		})
	}
}

// By a GOAWAY that is not below its stream upstream may have taken a POST: the next
// one goes by HTTP/1.1, this one not again.
func TestFaultHTTP11RequiredAfterTheRequest(t *testing.T) {
	var h1 recorder
	u, tr := h2Upstream(t, func(_ int, f *frames) {
		if stream, _, err := f.request(); err == nil {
			f.goAway(stream, http11Required, "")
			_ = f.conn.Close()
		}
	}, h1.serve)
	d := start(t, proxy.Options{Upstream: u, Transport: tr, ReplayBuffer: 1000})
	for i, want := range []int{502, 200} {
		w := d.dial(t)
		w.send(t, asked["POST"])
		resp, _ := w.answer(t, "POST")
		same(t, "status", resp.StatusCode, want)
		same(t, "requests over HTTP/1.1", len(h1.all()), i)
	}
}

// An upstream that allows no stream is given up soon, after few connections,
// whether it says so before the request or after.
func TestFaultHTTP2NoStreams(t *testing.T) {
	for range 3 { // either may be first
		for _, timeout := range []time.Duration{0, time.Second} {
			t.Run(fmt.Sprint(timeout), func(t *testing.T) {
				config, o := certified(t)
				o.ResponseHeaderTimeout = timeout
				synctest.Test(t, func(t *testing.T) {
					var conns atomic.Int64
					tr := piped(o, func(n int, c net.Conn) {
						conns.Add(1)
						defer close(c.(roomy).queue)
						f := newFrames(tls.Server(c, config), 0, settingMaxStream, 0, 0, 0, 0)
						for f != nil {
							stream, _, err := f.request()
							if err != nil {
								return
							}
							f.reset(stream, refusedStream)
						}
					})
					h := proxy.New(proxy.Options{Upstream: parse(t, "https://example.com"), Transport: tr, Source: &source{}, ResponseHeaderTimeout: timeout})
					for _, method := range []string{"GET", "POST"} {
						began := time.Now()
						conns.Store(0)
						same(t, "status", timed(h, method), 502)
						// Four until it has one of its own, and two of these.
						if took := time.Since(began); conns.Load() > 4+2 || took > 11*time.Second || timeout > 0 && took > 3*timeout {
							t.Errorf("%s: got an answer after %v and %d connections", method, took, conns.Load())
						}
					}
					h.CloseIdleConnections()
					time.Sleep(time.Minute) // what is left closes by itself
				})
			})
		}
	}
}

// piped returns o's transport to servers in this process, for tests in which time
// passes. serve gets each connection, from 0 on.
func piped(o proxy.TransportOptions, serve func(n int, c net.Conn)) *http.Transport {
	var n atomic.Int64 // dials may overlap
	o.Dial = func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		go serve(int(n.Add(1)-1), newRoomy(server))
		return client, nil
	}
	return proxy.NewTransport(o)
}

// roomy is a pipe that takes what is written at once, as a socket does: with two
// ends that write and wait for the other to read, nothing would go on.
type roomy struct {
	net.Conn
	queue chan []byte
}

func newRoomy(c net.Conn) roomy {
	r := roomy{c, make(chan []byte, 100)}
	go func() {
		for p := range r.queue {
			if _, err := r.Conn.Write(p); err != nil {
				return
			}
		}
	}()
	return r
}

func (r roomy) Write(p []byte) (int, error) {
	r.queue <- bytes.Clone(p)
	return len(p), nil
}

// timed asks for a path, in a synctest bubble, and returns the status.
func timed(h http.Handler, method string) int {
	w, r := httptest.NewRecorder(), httptest.NewRequest(method, "/", nil)
	r.Host = "localhost"
	h.ServeHTTP(w, r)
	return w.Code
}

// A connection that brings nothing any more is found out within 20 s, and what
// may be sent again is.
func TestFaultHTTP2SilentConnection(t *testing.T) {
	for method, want := range map[string]int{"GET": 200, "POST": 502} {
		t.Run(method, func(t *testing.T) {
			config, o := certified(t)
			synctest.Test(t, func(t *testing.T) {
				tr := piped(o, func(n int, c net.Conn) {
					defer close(c.(roomy).queue)
					f := newFrames(tls.Server(c, config))
					for {
						stream, _, err := f.request()
						if err != nil {
							return
						}
						if n == 0 {
							_, _ = io.Copy(io.Discard, c) // pings too
							return
						}
						f.answer(stream, 200)
					}
				})
				ex := proxy.Exchange{}
				h := proxy.New(proxy.Options{Upstream: parse(t, "https://example.com"), Transport: tr, Source: &source{},
					Done: func(e *proxy.Exchange) { ex = *e }})
				began := time.Now()
				same(t, "status", timed(h, method), want)
				if took := time.Since(began); took > 20*time.Second {
					t.Errorf("got an answer after %v, want one within 20s", took)
				}
				if want == 502 {
					same(t, "cause", ex.Cause.Error(), "the HTTP/2 connection was dead: upstream answered no ping")
				}
				h.CloseIdleConnections()
				tr.CloseIdleConnections()
			})
		})
	}
}

// A connection is not used once it has lain idle for as long as bearerd, or
// upstream, says.
func TestUpstreamIdle(t *testing.T) {
	for _, c := range []struct {
		idle      time.Duration
		announced string
		kept      time.Duration // used again after so long
		ended     time.Duration // not used again
	}{
		{0, "", 29 * time.Second, 31 * time.Second},
		{5 * time.Second, "", 4 * time.Second, 6 * time.Second},
		{0, "timeout=5", 3900 * time.Millisecond, 4100 * time.Millisecond},
		{0, "timeout=5, max=100", 3 * time.Second, 5 * time.Second},
		{0, "max=100, Timeout = \"2\"", 900 * time.Millisecond, 1100 * time.Millisecond},
		{0, "timeout=1", 400 * time.Millisecond, 600 * time.Millisecond},
		{0, "timeout=0", 0, 10 * time.Millisecond},
		{0, "timeout=3600", 29 * time.Second, 31 * time.Second},
		{2 * time.Second, "timeout=60", time.Second, 3 * time.Second},
		{0, "timeout=-1", 29 * time.Second, 31 * time.Second},
		{0, "timeout=99999999999999999999", 29 * time.Second, 31 * time.Second},
	} {
		t.Run(fmt.Sprint(c.idle, " ", c.announced), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conns := 0
				tr := piped(proxy.TransportOptions{IdleTimeout: c.idle}, func(_ int, c2 net.Conn) {
					conns++
					defer close(c2.(roomy).queue)
					defer c2.Close()
					w := &wire{Conn: c2, in: bufio.NewReader(c2)}
					for {
						if _, more := w.head(); !more {
							return
						}
						field := ""
						if c.announced != "" {
							field = "Keep-Alive: " + c.announced + "\r\n"
						}
						_, _ = io.WriteString(c2, "HTTP/1.1 200 OK\r\n"+field+"Content-Length: 0\r\n\r\n")
					}
				})
				h := proxy.New(proxy.Options{Upstream: parse(t, "http://example.com"), Transport: tr, Source: &source{}})
				ask := func() { same(t, "status", timed(h, "POST"), 200); synctest.Wait() }
				ask()
				// The connection that brings the news is the last of the pool before
				// it; from now on there is the one that is kept shorter.
				ask()
				before := conns
				time.Sleep(c.kept)
				ask()
				if c.kept > 0 {
					same(t, "connections while it is good", conns, before)
				}
				before = conns
				time.Sleep(c.ended)
				ask()
				same(t, "connections after", conns, before+1)
				h.CloseIdleConnections()
			})
		})
	}
}

// Over HTTP/2 too a connection is not used past its time, whatever pings go over
// it meanwhile.
func TestUpstreamIdleOverHTTP2(t *testing.T) {
	for _, idle := range []time.Duration{5 * time.Second, 30 * time.Second} {
		t.Run(idle.String(), func(t *testing.T) {
			config, o := certified(t)
			o.IdleTimeout = idle
			synctest.Test(t, func(t *testing.T) {
				last, ended := -1, 0
				tr := piped(o, func(n int, c net.Conn) {
					defer close(c.(roomy).queue)
					f := newFrames(tls.Server(c, config))
					for {
						stream, _, err := f.request()
						if err != nil {
							ended++
							return
						}
						last = n
						f.answer(stream, 200)
					}
				})
				h := proxy.New(proxy.Options{Upstream: parse(t, "https://example.com"), Transport: tr, Source: &source{}})
				ask := func() { same(t, "status", timed(h, "POST"), 200); synctest.Wait() }
				ask()
				time.Sleep(idle - time.Second)
				ask()
				same(t, "the connection while it is good", last, 0)
				time.Sleep(idle + time.Second)
				synctest.Wait()
				same(t, "connections that have ended", ended, 1)
				ask()
				same(t, "the connection after", last, 1)
				h.CloseIdleConnections()
				tr.CloseIdleConnections()
			})
		})
	}
}
