//go:build unix

package descriptors

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/bearerd/bearerd/cmd/internal/advice"
	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
)

func TestShareDescriptors(t *testing.T) {
	for _, test := range []struct{ limit, open, clients, admin int }{
		{0, 12, 0, 0}, // no limit: nobody is counted
		{64, 12, 14, 8},
		{20, 12, LeastClients, leastAdmin}, // too few for all that is kept
		{1024, 12, 434, 128},
		{1 << 20, 12, (1<<20 - 12 - OwnDescriptors - mostAdmin) / 2, mostAdmin},
	} {
		clients, admin := shareDescriptors(test.limit, test.open)
		if clients != test.clients || admin != test.admin {
			t.Errorf("of %d: got %d clients and %d of the admin listener, want %d and %d", test.limit, clients, admin, test.clients, test.admin)
		}
		if test.limit >= 64 && test.open+2*clients+admin+OwnDescriptors > test.limit {
			t.Errorf("of %d: more is given away than there is", test.limit)
		}
	}
	if limit := Limit(); limit < 0 || Open() < 0 {
		t.Errorf("got a limit of %d", limit)
	}
}

// behind serves h to most clients at once.
func behind(t *testing.T, most int, h http.HandlerFunc) (*Door, string) {
	t.Helper()
	t.Parallel()
	d := newDoor("data", most, &scarcity{log: zerolog.Nop()})
	s := httptest.NewUnstartedServer(h)
	s.Listener = d.By(s.Listener)
	d.Guard(s.Config)
	s.Start()
	t.Cleanup(func() { d.Shut(); s.CloseClientConnections(); s.Close() })
	return d, s.Listener.Addr().String()
}

func connect(t *testing.T, address, text string) *bufio.Reader {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(bearerdtest.Soon))
	return bufio.NewReader(conn)
}

const aGet = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"

// An upgraded connection takes its place until its handler returns: net/http
// tells nobody when it closes.
func TestDoorCountsHijackedConnections(t *testing.T) {
	release := make(chan struct{})
	d, address := behind(t, 2, func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		if _, ok := conn.(*net.TCPConn); !ok {
			t.Errorf("the handler gets a %T, which it cannot reset", conn)
		}
		defer func() { _ = conn.Close() }()
		_, _ = io.WriteString(conn, "x")
		<-release
	})
	var got sync.WaitGroup
	for range 6 {
		in := connect(t, address, aGet)
		got.Go(func() {
			if _, err := in.ReadByte(); err != nil {
				t.Error(err)
			}
		})
	}
	bearerdtest.Eventually(t, bearerdtest.Soon, "two are inside", func() bool { return d.open.Load() == 2 && d.hijacked.Load() == 2 })
	close(release)
	got.Wait()
	bearerdtest.Eventually(t, bearerdtest.Soon, "all have left", func() bool { return d.open.Load() == 0 && d.hijacked.Load() == 0 })
}

// Who has a request is never closed, and who waits outside comes in when the
// server stops: it may have a request too.
func TestDoorThatIsShutLetsIn(t *testing.T) {
	release := make(chan struct{})
	d, address := behind(t, 1, func(w http.ResponseWriter, r *http.Request) { <-release; _, _ = io.WriteString(w, "whole") })
	first := connect(t, address, aGet)
	bearerdtest.Eventually(t, bearerdtest.Soon, "one is inside", func() bool { return d.open.Load() == 1 })
	second := connect(t, address, aGet)
	bearerdtest.Eventually(t, bearerdtest.Soon, "one waits", d.waits.Load)
	d.Shut()
	bearerdtest.Eventually(t, bearerdtest.Soon, "both are inside", func() bool { return d.open.Load() == 2 })
	close(release)
	for _, in := range []*bufio.Reader{first, second} {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(resp.Body); string(body) != "whole" {
			t.Errorf("got %q %v", body, err)
		}
	}
}

// Clients come and go faster than there is room: each is served or closed while
// idle, and nobody is counted twice.
func TestDoorKeepsCount(t *testing.T) {
	d, address := behind(t, 4, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "ok") })
	err := bearerdtest.Many(16, func(int) error {
		for range 20 {
			c := &http.Client{Transport: &http.Transport{}, Timeout: bearerdtest.Soon}
			if err := bearerdtest.ExpectStatus(c, "http://"+address, 200); err != nil {
				return err
			}
			// Idle connections are left for the door to close.
		}
		return nil
	})
	if err != nil {
		t.Error(bearerdtest.FirstLines(err))
	}
	if n := d.open.Load(); n < 0 || n > 4 {
		t.Errorf("%d are inside, want at most 4", n)
	}
}

// An allotment that is spent makes room by closing what is idle, then waits, and
// says in the end what is the matter.
func TestAllotment(t *testing.T) {
	a := newAllotment(1)
	idle := make(chan net.Conn, 1)
	a.CloseIdle = func() {
		select {
		case conn := <-idle:
			_ = conn.Close()
			_ = conn.Close() // gives nothing back twice
		default:
		}
	}
	dial := a.Dialer(func(context.Context, string, string) (net.Conn, error) {
		here, there := net.Pipe()
		_ = there.Close()
		return here, nil
	}, 10*time.Millisecond)
	first, err := dial(t.Context(), "tcp", "x")
	if err != nil {
		t.Fatal(err)
	}
	idle <- first
	if _, err := dial(t.Context(), "tcp", "x"); err != nil {
		t.Errorf("where one is idle: %v", err)
	}
	if _, err := dial(t.Context(), "tcp", "x"); !errors.Is(err, syscall.EMFILE) {
		t.Errorf("where none is: %v, want that no descriptor is left", err)
	}
	// What the system refuses is tried once more without the idle ones, and
	// a failure takes no part.
	a = newAllotment(1)
	a.CloseIdle = func() {}
	tries := 0
	dial = a.Dialer(func(context.Context, string, string) (net.Conn, error) {
		tries++
		return nil, fmt.Errorf("socket: %w", syscall.ENFILE)
	}, time.Second)
	for range 2 {
		if _, err := dial(t.Context(), "tcp", "x"); !errors.Is(err, syscall.ENFILE) {
			t.Errorf("got %v", err)
		}
	}
	if tries != 4 {
		t.Errorf("%d tries, want two a dial", tries)
	}
}

// A listener that is refused a descriptor goes on, and tells the log once.
func TestDoorOutlivesDescriptors(t *testing.T) {
	var out bearerdtest.Output
	d := newDoor("data", 1, &scarcity{log: zerolog.New(&out), limit: 64})
	l := d.By(&refusedListener{left: 3})
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
	if n := strings.Count(out.String(), SayScarce); n != 1 || !strings.Contains(out.String(), "no file descriptor is left") || !strings.Contains(out.String(), advice.RaiseLimit) {
		t.Errorf("got %s", &out)
	}
}

type refusedListener struct {
	net.Listener
	left int
}

func (l *refusedListener) Accept() (net.Conn, error) {
	if l.left--; l.left < 0 {
		return nil, net.ErrClosed
	}
	return nil, &net.OpError{Op: "accept", Net: "tcp", Err: syscall.EMFILE}
}

// BenchmarkDoor is what a door costs a request.
func BenchmarkDoor(b *testing.B) {
	d := newDoor("data", 4096, &scarcity{log: zerolog.Nop()})
	for range 1000 {
		d.enter(new(net.TCPConn))
	}
	conn := new(net.TCPConn)
	d.enter(conn)
	for b.Loop() {
		d.observe(conn, http.StateActive)
		d.observe(conn, http.StateIdle)
	}
}
