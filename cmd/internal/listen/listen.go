// Package listen opens the sockets of the listeners, or takes them over from a
// service manager, and tells their addresses. It does not know what is served there.
package listen

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"strings"
	"syscall"

	"github.com/bearerd/bearerd/cmd/internal/endpoint"
)

// Data opens the data listeners, at least one for each address of
// LISTEN. On an error none is left open.
func Data(addrs []string, mode fs.FileMode) ([]net.Listener, error) {
	var all []net.Listener
	for _, addr := range addrs {
		listeners, err := listen(net.Listen, "BEARERD_LISTEN", addr, mode)
		if err != nil {
			CloseAll(all)
			return nil, err
		}
		all = append(all, listeners...)
	}
	return all, nil
}

// Admin opens the admin listeners: none when ADMIN_LISTEN is off.
func Admin(addr string, mode fs.FileMode) ([]net.Listener, error) {
	if addr == "off" {
		return nil, nil
	}
	return listen(net.Listen, "BEARERD_ADMIN_LISTEN", addr, mode)
}

// listenFunc is [net.Listen], or a test's machine without IPv6.
type listenFunc func(network, address string) (net.Listener, error)

// listen opens the address that variable holds. localhost stands for
// 127.0.0.1 and ::1 on one port: a tool may try either first, and what another
// program listens on there must not get its requests. One of the two may be
// missing on this machine, not both. A unix socket gets mode.
func listen(open listenFunc, variable, addr string, mode fs.FileMode) ([]net.Listener, error) {
	e, err := endpoint.Parse(addr)
	if err != nil {
		return nil, fmt.Errorf("listen %q: %w", addr, err)
	}
	if e.Path != "" {
		l, err := listenSocket(variable, e.Path, mode)
		if err != nil {
			return nil, err
		}
		return []net.Listener{l}, nil
	}
	hosts := []string{e.Host}
	if e.Host == "localhost" {
		hosts = []string{"127.0.0.1", "::1"}
	}
	// A free port of the first address may be taken on the second. Then
	// another is picked; that 20 in a row are taken has another cause.
	for range 20 {
		listeners, err := listenAll(open, hosts, e.Port)
		if err == nil {
			return listeners, nil
		}
		if e.Port != 0 || !isAny(err.cause, addressTaken) {
			return nil, err.explain(variable, e)
		}
	}
	return nil, fmt.Errorf("listen %s: no port is free on all of %s; write one with %s", e, strings.Join(hosts, ", "), variable)
}

// listenAll listens on one port of each host that this machine has.
func listenAll(open listenFunc, hosts []string, port uint16) ([]net.Listener, *listenError) {
	var (
		all     []net.Listener
		missing *listenError
	)
	for _, host := range hosts {
		at := endpoint.Addr{Host: host, Port: port}
		network := "tcp"
		if endpoint.IsIPv4(host) {
			network = "tcp4" // for "tcp" 0.0.0.0 would be all of IPv6 as well
		}
		l, err := open(network, at.String())
		switch {
		case err == nil:
			all = append(all, l)
			port = uint16(l.Addr().(*net.TCPAddr).Port)
		case isAny(err, addressMissing):
			missing = &listenError{at, err}
		default:
			CloseAll(all)
			return nil, &listenError{at, err}
		}
	}
	if len(all) == 0 {
		return nil, missing
	}
	return all, nil
}

// Inherited are listeners that a service manager opened.
type Inherited struct {
	Data, Admin []net.Listener // none: bearerd opens its own
	Warnings    []string       // one line each, for the log
}

// Names are those of what is inherited, for the log.
func (in Inherited) Names() (names []string) {
	if in.Data != nil {
		names = append(names, "data")
	}
	if in.Admin != nil {
		names = append(names, "admin")
	}
	return names
}

// CloseAll closes listeners. What they are told by that is nobody's concern.
func CloseAll(listeners []net.Listener) {
	for _, l := range listeners {
		_ = l.Close() // nobody waits for it
	}
}

// What the system says when it cannot listen. The numbers are Winsock's:
// package syscall has the names only in a build for Windows, and elsewhere no
// error has these numbers.
var (
	addressTaken   = []error{syscall.EADDRINUSE, syscall.Errno(10048)}
	addressMissing = []error{syscall.EADDRNOTAVAIL, syscall.EAFNOSUPPORT, syscall.Errno(10049), syscall.Errno(10047)}
	notPermitted   = []error{fs.ErrPermission, syscall.Errno(10013)}
)

func isAny(err error, targets []error) bool {
	return slices.ContainsFunc(targets, func(target error) bool { return errors.Is(err, target) })
}

type listenError struct {
	at    endpoint.Addr
	cause error
}

// explain makes the error for a person from what happened at one address of
// the endpoint that variable holds.
func (e *listenError) explain(variable string, wanted endpoint.Addr) error {
	other := wanted
	switch {
	case other.Port < 1024:
		other.Port = 8080
	case other.Port == 65535:
		other.Port--
	default:
		other.Port++
	}
	remedy := fmt.Sprintf("choose another with %s (e.g. %s=%s)", variable, variable, other)
	switch {
	case isAny(e.cause, addressTaken):
		return fmt.Errorf("listen %s: port taken by another program; %s", e.at, remedy)
	case isAny(e.cause, notPermitted) && e.at.Port < 1024:
		return fmt.Errorf("listen %s: permission denied: ports below 1024 are the administrator's; %s", e.at, remedy)
	case isAny(e.cause, notPermitted):
		return fmt.Errorf("listen %s: permission denied: the system keeps this port for itself; %s", e.at, remedy)
	case isAny(e.cause, addressMissing):
		return fmt.Errorf("listen %s: this machine has no such address; change %s", e.at, variable)
	}
	return e.cause // names the address itself
}
