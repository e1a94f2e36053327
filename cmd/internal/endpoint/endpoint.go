// Package endpoint is the grammar of the addresses that bearerd listens on, and
// knows which URLs lead back to them. It opens nothing: that is package listen's.
package endpoint

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/bearerd/bearerd/cmd/internal/display"
)

// IsLoopback tells whether a host, without port, is this machine and nothing
// else, as far as its text says.
func IsLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// ParsePort reads a port number, 0 too.
func ParsePort(s string) (uint16, error) {
	port, err := strconv.ParseUint(s, 10, 16)
	return uint16(port), err
}

// Addr is an address to listen on.
type Addr struct {
	Host string // "localhost", an IP address, or "" for all of them; 0.0.0.0 is all of IPv4
	Port uint16 // 0 picks a free one
	Path string // of a unix socket; then the others are not set
}

func (e Addr) String() string {
	if e.Path != "" {
		return "unix:" + e.Path
	}
	return net.JoinHostPort(e.Host, strconv.Itoa(int(e.Port)))
}

// IsLocal tells whether only programs of this machine can connect.
func (e Addr) IsLocal() bool { return e.Path != "" || IsLoopback(e.Host) }

// Parse reads an item of LISTEN. Its error is for a person, with the remedy.
func Parse(s string) (Addr, error) {
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		path, err := parseSocketPath(path)
		return Addr{Path: path}, err
	}
	host, text, err := net.SplitHostPort(s)
	if err != nil {
		return Addr{}, fmt.Errorf("%s is not host:port; write e.g. localhost:8080 or [::1]:8080", display.Quote(s))
	}
	port, err := ParsePort(text)
	if err != nil {
		return Addr{}, fmt.Errorf("%s has no valid port; write 1 to 65535, or 0 for a free one", display.Quote(s))
	}
	if host == "" || strings.EqualFold(host, "localhost") {
		return Addr{Host: strings.ToLower(host), Port: port}, nil
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return Addr{}, fmt.Errorf("%s names a host; write localhost or an IP address of this machine", display.Quote(s))
	}
	if ip == netip.IPv6Unspecified() {
		return Addr{Port: port}, nil
	}
	return Addr{Host: ip.String(), Port: port}, nil
}

// IsIPv4 tells whether a host is an address of IPv4.
func IsIPv4(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Is4()
}

// Overlaps tells whether two endpoints cannot both be listened on.
func (e Addr) Overlaps(o Addr) bool {
	if e.Path != "" || o.Path != "" {
		return e.Path == o.Path
	}
	if e.Port != o.Port || e.Port == 0 {
		return false
	}
	within := func(a, b Addr) bool {
		return a.Host == b.Host || a.Host == "" ||
			a.Host == "0.0.0.0" && (b.Host == "localhost" || IsIPv4(b.Host)) ||
			a.Host == "localhost" && (b.Host == "127.0.0.1" || b.Host == "::1")
	}
	return within(e, o) || within(o, e)
}
