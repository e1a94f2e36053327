package listen

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/bearerd/bearerd/cmd/internal/endpoint"
)

func ports(listeners []net.Listener) (hosts []string, port int) {
	for _, l := range listeners {
		a := l.Addr().(*net.TCPAddr)
		hosts, port = append(hosts, a.IP.String()), a.Port
	}
	return hosts, port
}

// hasIPv6 tells whether this machine has ::1.
func hasIPv6(t *testing.T) bool {
	t.Helper()
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		return false
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return true
}

func TestLocalhostIsBothFamiliesOnOnePort(t *testing.T) {
	listeners, err := Data([]string{"localhost:0"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer CloseAll(listeners)
	hosts, port := ports(listeners)
	want := "127.0.0.1"
	if hasIPv6(t) {
		want += " ::1"
	}
	if got := strings.Join(hosts, " "); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for _, l := range listeners {
		if got := l.Addr().(*net.TCPAddr).Port; got != port || port == 0 {
			t.Errorf("got ports %d and %d, want one", got, port)
		}
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Errorf("cannot be reached: %v", err)
			continue
		}
		_ = conn.Close()
	}
}

// fakeListen makes listeners on a machine where opening an address that has an
// entry in fails gives that error, as often as times says (-1: always).
func fakeListen(fails map[string]error, times int) (listenFunc, *[]*fakeListener) {
	var opened []*fakeListener
	return func(_, address string) (net.Listener, error) {
		host, text, _ := net.SplitHostPort(address)
		if err := fails[host]; err != nil && times != 0 {
			times--
			return nil, &net.OpError{Op: "listen", Net: "tcp", Err: os.NewSyscallError("bind", err)}
		}
		port, _ := strconv.Atoi(text)
		if port == 0 {
			port = 50000 + len(opened)
		}
		l := &fakeListener{addr: net.TCPAddr{IP: net.ParseIP(host), Port: port}}
		opened = append(opened, l)
		return l, nil
	}, &opened
}

type fakeListener struct {
	net.Listener
	addr   net.TCPAddr
	closed bool
}

func (l *fakeListener) Addr() net.Addr { return &l.addr }

func (l *fakeListener) Close() error { l.closed = true; return nil }

func TestLocalhostWithoutOneFamily(t *testing.T) {
	for host, other := range map[string]string{"::1": "127.0.0.1", "127.0.0.1": "::1"} {
		for _, cause := range addressMissing {
			open, _ := fakeListen(map[string]error{host: cause}, -1)
			listeners, err := listen(open, "BEARERD_LISTEN", "localhost:0", 0)
			if err != nil {
				t.Errorf("without %s (%v): %v", host, cause, err)
				continue
			}
			if hosts, _ := ports(listeners); len(hosts) != 1 || hosts[0] != other {
				t.Errorf("without %s: got %v, want %s", host, hosts, other)
			}
		}
	}
	open, _ := fakeListen(map[string]error{"::1": syscall.EADDRNOTAVAIL, "127.0.0.1": syscall.EADDRNOTAVAIL}, -1)
	if _, err := listen(open, "BEARERD_LISTEN", "localhost:8080", 0); err == nil {
		t.Error("no address at all, and no error")
	}
}

func TestFreePortIsPickedAgainWhenTakenOnTheOtherFamily(t *testing.T) {
	open, opened := fakeListen(map[string]error{"::1": syscall.EADDRINUSE}, 3)
	listeners, err := listen(open, "BEARERD_LISTEN", "localhost:0", 0)
	if err != nil {
		t.Fatal(err)
	}
	if hosts, port := ports(listeners); len(hosts) != 2 || port != 50003 {
		t.Errorf("got %v on %d, want both on 50003", hosts, port)
	}
	for i, l := range *opened {
		if l.closed != (i < 3) {
			t.Errorf("listener %d: closed %v", i, l.closed)
		}
	}

	open, opened = fakeListen(map[string]error{"::1": syscall.EADDRINUSE}, -1)
	_, err = listen(open, "BEARERD_LISTEN", "localhost:0", 0)
	want := "listen localhost:0: no port is free on all of 127.0.0.1, ::1; write one with BEARERD_LISTEN"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	for i, l := range *opened {
		if !l.closed {
			t.Errorf("listener %d was left open", i)
		}
	}
}

func TestEveryDataAddressIsOpened(t *testing.T) {
	listeners, err := Data([]string{"127.0.0.1:0", "127.0.0.1:0"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer CloseAll(listeners)
	if len(listeners) != 2 {
		t.Errorf("got %d listeners, want 2", len(listeners))
	}
}

func TestAdminOff(t *testing.T) {
	if listeners, err := Admin("off", 0); listeners != nil || err != nil {
		t.Errorf("got %v, %v, want none", listeners, err)
	}
}

func TestTakenPort(t *testing.T) {
	hosts := []string{"127.0.0.1"}
	if hasIPv6(t) {
		hosts = append(hosts, "::1") // only the second family is taken: an error too
	}
	for _, host := range hosts {
		taken, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = taken.Close() }()
		port := taken.Addr().(*net.TCPAddr).Port
		next := port + 1
		if port == 65535 {
			next = port - 1
		}
		for variable, listen := range map[string]func() ([]net.Listener, error){
			"BEARERD_LISTEN":       func() ([]net.Listener, error) { return Data([]string{fmt.Sprintf("localhost:%d", port)}, 0) },
			"BEARERD_ADMIN_LISTEN": func() ([]net.Listener, error) { return Admin(fmt.Sprintf("localhost:%d", port), 0) },
		} {
			want := fmt.Sprintf("listen %s: port taken by another program; choose another with %s (e.g. %s=localhost:%d)",
				taken.Addr(), variable, variable, next)
			if listeners, err := listen(); err == nil || err.Error() != want {
				CloseAll(listeners)
				t.Errorf("got %v\nwant %s", err, want)
			}
		}
	}
}

func TestErrorLeavesNothingOpen(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := free.Addr().String()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Data([]string{addr, taken.Addr().String()}, 0); err == nil {
		t.Fatal("a taken port was opened")
	}
	again, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatalf("the first listener was left open: %v", err)
	}
	_ = again.Close()
}

func TestAddressOfAnotherMachine(t *testing.T) {
	_, err := Admin("192.0.2.1:8080", 0) // RFC 5737: nobody's
	want := "listen 192.0.2.1:8080: this machine has no such address; change BEARERD_ADMIN_LISTEN"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestListenErrorsForPeople(t *testing.T) {
	for _, tt := range []struct {
		port  uint16
		cause error
		want  string
	}{
		{80, syscall.EACCES, "listen 127.0.0.1:80: permission denied: ports below 1024 are the administrator's; " +
			"choose another with BEARERD_LISTEN (e.g. BEARERD_LISTEN=localhost:8080)"},
		{50000, fs.ErrPermission, "listen 127.0.0.1:50000: permission denied: the system keeps this port for itself; " +
			"choose another with BEARERD_LISTEN (e.g. BEARERD_LISTEN=localhost:50001)"},
		{65535, syscall.Errno(10048), "listen 127.0.0.1:65535: port taken by another program; " +
			"choose another with BEARERD_LISTEN (e.g. BEARERD_LISTEN=localhost:65534)"},
		{8080, syscall.EMFILE, syscall.EMFILE.Error()},
	} {
		e := &listenError{endpoint.Addr{Host: "127.0.0.1", Port: tt.port}, tt.cause}
		if got := e.explain("BEARERD_LISTEN", endpoint.Addr{Host: "localhost", Port: tt.port}).Error(); got != tt.want {
			t.Errorf("got %s\nwant %s", got, tt.want)
		}
	}
}

func TestListenIPv4Only(t *testing.T) {
	listeners, err := Admin("0.0.0.0:0", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer CloseAll(listeners)
	if got := listeners[0].Addr().(*net.TCPAddr).IP; got.To4() == nil {
		t.Errorf("got a listener on %v, want IPv4 only", got)
	}
}
