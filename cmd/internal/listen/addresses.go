package listen

import (
	"net"
)

// Addresses are those of listeners, as the log shows them.
func Addresses(listeners []net.Listener) []string {
	all := make([]string, len(listeners))
	for i, l := range listeners {
		all[i] = shownAddress(l)
	}
	return all
}

// shownAddress is where l is, as LISTEN has it.
func shownAddress(l net.Listener) string {
	if at := l.Addr(); at.Network() == "unix" {
		return "unix:" + at.String()
	}
	return l.Addr().String()
}

// Localhost is how a tool on this machine writes the first listener's
// address, which is TCP.
func Localhost(listeners []net.Listener) string {
	_, port, err := net.SplitHostPort(listeners[0].Addr().String())
	if err != nil {
		panic(err) // a TCP listener has a port
	}
	return net.JoinHostPort("localhost", port)
}

// Hosts are the loopback addresses of listeners: a tool that was told one
// may use it as Host. That of a wide bind must be listed to be allowed.
func Hosts(listeners []net.Listener) []string {
	var hosts []string
	for _, l := range listeners {
		if addr, ok := l.Addr().(*net.TCPAddr); ok && addr.IP.IsLoopback() {
			hosts = append(hosts, addr.IP.String())
		}
	}
	return hosts
}
