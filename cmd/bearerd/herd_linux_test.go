package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/longtest"
	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

// herd is a bearerd with an upstream that speaks TLS, and many clients that
// ask at once, each by a connection of its own.
type herd struct {
	*bearerdtest.World
	*bearerdtest.Process
	upstream *httptest.Server
	made     atomic.Int64 // connections to upstream
	clients  []net.Conn
}

// farListener is at the far end of a link.
type farListener struct {
	net.Listener
	away time.Duration
}

func (l farListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil || l.away == 0 {
		return conn, err
	}
	return farConn{conn, l.away}, nil
}

type farConn struct {
	net.Conn
	away time.Duration
}

func (c farConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	<-time.After(c.away)
	return n, err
}

// link is what upstream is at the end of.
type link struct {
	http2 bool
	away  time.Duration // what comes by it takes so long
}

// newHerd starts a bearerd that may have limit file descriptors.
func newHerd(t *testing.T, o querysim.Options, l link, limit int, answer http.HandlerFunc, env ...string) *herd {
	t.Helper()
	h := &herd{World: bearerdtest.NewWorld(t, o, nil)}
	h.upstream = httptest.NewUnstartedServer(h.Sim.RequireToken(answer))
	h.upstream.Config.ErrorLog = log.New(io.Discard, "", 0)
	h.upstream.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			h.made.Add(1)
		}
	}
	h.upstream.Listener = farListener{h.upstream.Listener, l.away}
	h.upstream.EnableHTTP2 = l.http2
	h.upstream.StartTLS()
	t.Cleanup(h.upstream.Close)
	h.Process = h.StartProgram(t, bearerdtest.CommandWithin(t, limit), append(append(h.Env("vyopta"), quietPorts...), append([]string{
		"BEARERD_UPSTREAM=" + h.upstream.URL, bearerdtest.Trusting(t, h.upstream), "BEARERD_MAX_IN_FLIGHT=20000",
		"BEARERD_TOKEN_WAIT=2m", patientDial,
	}, env...)...)...)
	t.Cleanup(h.disperse)
	return h
}

// come has n clients ask.
func (h *herd) come(n int) {
	h.T.Helper()
	h.clients = make([]net.Conn, n)
	err := bearerdtest.Many(n, func(i int) (err error) {
		if h.clients[i], err = net.Dial("tcp", strings.TrimPrefix(h.URL, "http://")); err == nil {
			err = h.ask(i)
		}
		return err
	})
	if err != nil {
		h.T.Fatal(bearerdtest.FirstLines(err))
	}
}

func (h *herd) ask(i int) error {
	_, err := io.WriteString(h.clients[i], "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	return err
}

// ok reads the answer for client i, as long as it takes on a busy machine.
func (h *herd) ok(i int) error {
	_ = h.clients[i].SetReadDeadline(time.Now().Add(2 * time.Minute))
	return readOK(h.clients[i])
}

// answered reads an answer for each client, and fails where one is not a 200.
func (h *herd) answered() {
	h.T.Helper()
	if err := bearerdtest.Many(len(h.clients), h.ok); err != nil {
		h.T.Error(bearerdtest.FirstLines(err))
	}
}

func (h *herd) disperse() {
	for _, c := range h.clients {
		if c != nil {
			_ = c.Close()
		}
	}
}

func (h *herd) inFlight(n int) {
	h.T.Helper()
	bearerdtest.Eventually(h.T, time.Minute, "the clients wait", func() bool { return h.Metric("bearerd_requests_in_flight") >= float64(n) })
}

// memory says where the memory is, in MiB.
func (h *herd) memory() string {
	var all []string
	for _, name := range []string{"stack_inuse", "heap_alloc", "heap_inuse", "heap_idle", "heap_released", "sys"} {
		all = append(all, fmt.Sprintf("%s %.0f", name, h.Metric("go_memstats_"+name+"_bytes")/(1<<20)))
	}
	return strings.Join(append(all, fmt.Sprintf("goroutines %.0f", h.Metric("go_goroutines"))), ", ")
}

// tell says what it took. A busy machine makes times of it that mean nothing.
func (h *herd) tell(began time.Time) {
	h.T.Helper()
	h.T.Logf("%d clients: %v, %v of processor time; VmHWM %d MiB; %d connections to upstream",
		len(h.clients), time.Since(began).Round(time.Millisecond), h.CPU(), h.Memory("VmHWM")>>10, h.made.Load())
	h.T.Log(h.memory())
}

func small(rw http.ResponseWriter, _ *http.Request) {
	_, _ = io.WriteString(rw, strings.Repeat("x", 1100))
}

// When the token comes, those who wait for it share some connections: one for
// each would want as many handshakes and descriptors.
func TestHerdAtAColdStart(t *testing.T) {
	longtest.Mark(t, "10,000 clients")
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("h2 %v", h2), func(t *testing.T) { atAColdStart(t, h2) })
	}
}

func atAColdStart(t *testing.T, h2 bool) {
	o, login := bearerdtest.HoldLogin(1)
	defer login()
	h := newHerd(t, o, link{http2: h2}, 20000, small)
	h.come(10000)
	h.inFlight(9500) // as many as there are descriptors for
	t.Logf("waiting: VmHWM %d MiB, VmRSS %d MiB; %s", h.Memory("VmHWM")>>10, h.Memory("VmRSS")>>10, h.memory())
	began := time.Now()
	login()
	h.answered()
	h.tell(began)
	if peak := h.Memory("VmHWM"); peak > 500<<10 {
		t.Errorf("peak memory: got %d MiB, want at most 500", peak>>10)
	}
	if got := h.Sim.Stats(); got.Logins != 1 {
		t.Errorf("logins: got %d, want 1", got.Logins)
	}
	if n := h.made.Load(); n > 2000 {
		t.Errorf("%d connections were made for 10,000 small answers", n)
	}
}

// Where descriptors are few, clients wait for one outside.
func TestHerdWithFewDescriptors(t *testing.T) {
	longtest.Mark(t, "3,000 clients")
	o, login := bearerdtest.HoldLogin(1)
	defer login()
	h := newHerd(t, o, link{}, 1024, small)
	come := make(chan struct{})
	go func() { defer close(come); h.come(3000) }()
	h.inFlight(400)
	began := time.Now()
	login()
	<-come
	h.answered()
	h.tell(began)
	if got := h.Sim.Stats(); got.Logins != 1 {
		t.Errorf("logins: got %d, want 1", got.Logins)
	}
}

// Each holds its connection: as many are made as there are clients, by turns.
func TestHerdOfLongRequests(t *testing.T) {
	longtest.Mark(t, "4,096 clients, 100 ms away")
	const clients = 4096
	var come atomic.Int64
	all := make(chan struct{})
	release := sync.OnceFunc(func() { close(all) })
	h := newHerd(t, querysim.Options{}, link{away: 100 * time.Millisecond}, 20000, func(rw http.ResponseWriter, r *http.Request) {
		if come.Add(1) == clients {
			release()
		}
		<-all
		small(rw, r)
	}, "BEARERD_DIAL_TIMEOUT=5s") // the last of them wait longer for their turn
	t.Cleanup(release)
	began := time.Now()
	h.come(clients)
	h.answered()
	h.tell(began)
}

// A token that is refused, or an upstream that starts again, meets requests on
// many connections.
func TestHerdAfterTrouble(t *testing.T) {
	longtest.Mark(t, "2,000 clients, again and again")
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("h2 %v", h2), func(t *testing.T) { afterTrouble(t, h2) })
	}
}

func afterTrouble(t *testing.T, h2 bool) {
	const clients = 2000
	h := newHerd(t, querysim.Options{}, link{http2: h2}, 20000, small)
	h.come(clients)
	h.answered()
	for _, trouble := range []struct {
		name string
		make func()
	}{
		{"upstream closes all connections", h.upstream.CloseClientConnections},
		{"the token is revoked", func() { h.Sim.Revoke() }},
		{"both", func() { h.upstream.CloseClientConnections(); h.Sim.Revoke() }},
	} {
		t.Run(trouble.name, func(t *testing.T) {
			made, logins := h.made.Load(), h.Sim.Stats().Logins
			trouble.make()
			began := time.Now()
			err := bearerdtest.Many(clients, func(i int) error {
				if err := h.ask(i); err != nil {
					return err
				}
				return h.ok(i)
			})
			if err != nil {
				t.Error(bearerdtest.FirstLines(err))
			}
			h.tell(began)
			t.Logf("%d connections, %d logins", h.made.Load()-made, h.Sim.Stats().Logins-logins)
			if n := h.Sim.Stats().Logins - logins; n > 1 {
				t.Errorf("logins: got %d, want at most one", n)
			}
		})
	}
}
