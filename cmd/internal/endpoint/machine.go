package endpoint

import (
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
)

// What leads back to bearerd would be forwarded to itself for ever, until
// MAX_IN_FLIGHT ends it; a login would be posted to whoever calls. A name that
// only a name server knows is not looked up: such a ring is bounded, no more.

// Machine is what this machine is called, as far as it knows without asking.
type Machine struct {
	name  string // "" is unknown
	addrs []netip.Addr
}

// ThisMachine asks the system. What it does not say is left out.
func ThisMachine() Machine {
	var m Machine
	m.name, _ = os.Hostname()
	all, _ := net.InterfaceAddrs()
	for _, a := range all {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil {
			m.addrs = append(m.addrs, prefix.Addr().Unmap().WithZone(""))
		}
	}
	return m
}

// Leads reports whether u is where something listens at e.
func (m Machine) Leads(u *url.URL, e Addr) bool {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	if n, err := ParsePort(port); err != nil || e.Path != "" || e.Port != n || n == 0 {
		return false
	}
	return slices.ContainsFunc(m.targets(u.Hostname()), func(at netip.Addr) bool { return m.listens(e.Host, at) })
}

// targets are the addresses of this machine that host stands for: none for
// another's.
func (m Machine) targets(host string) []netip.Addr {
	loopback := []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if at, err := netip.ParseAddr(host); err == nil {
		at = at.Unmap().WithZone("")
		if at.IsUnspecified() {
			return loopback // where a connection to no address goes
		}
		return []netip.Addr{at}
	}
	switch name := strings.ToLower(m.name); {
	case host == "localhost", strings.HasSuffix(host, ".localhost"), strings.HasPrefix(host, "localhost."),
		host == "localhost6", host == "ip6-localhost", host == "ip6-loopback":
		return loopback
	case name != "" && (host == name || firstLabel(name) == host || host == firstLabel(name)+".local"):
		// Not loopback: that it stands for that too is not known, and something
		// else may be on the same port there.
		return slices.DeleteFunc(slices.Clone(m.addrs), netip.Addr.IsLoopback)
	}
	return nil
}

func firstLabel(name string) string {
	label, _, _ := strings.Cut(name, ".")
	return label
}

// listens reports whether who listens at host, as an endpoint has it, is
// reached at an address.
func (m Machine) listens(host string, at netip.Addr) bool {
	switch host {
	case "localhost":
		return at == netip.AddrFrom4([4]byte{127, 0, 0, 1}) || at == netip.IPv6Loopback()
	case "", "0.0.0.0":
		return (host == "" || at.Is4()) && (at.IsLoopback() || slices.Contains(m.addrs, at))
	}
	own, err := netip.ParseAddr(host)
	return err == nil && own.Unmap().WithZone("") == at
}
