package proxy

import (
	"slices"
	"strings"
)

// Names of this machine that nobody else can answer for. What containers call it
// (host.docker.internal) is none: where no Docker wrote it down, whoever answers
// for names on the network does, and a web page of that name could read.
var ownHosts = []string{"localhost", "127.0.0.1", "[::1]"}

// Hosts are the Host values that requests may have. The zero value allows
// none. It may be used from any goroutine.
type Hosts struct {
	allowed map[string]bool // lower case, no port
}

// NewHosts allows the names of this machine and those of extra: names and IP
// addresses, with or without a port, in any case.
func NewHosts(extra ...string) Hosts {
	h := Hosts{make(map[string]bool)}
	for _, host := range slices.Concat(ownHosts, extra) {
		if strings.Count(host, ":") > 1 && host[0] != '[' {
			host = "[" + host + "]" // an IPv6 address, as a Host header writes it
		}
		h.allowed[normalHost(host)] = true
	}
	delete(h.allowed, "") // an empty entry is no leave to send an empty Host
	return h
}

// Allow reports whether the list has host, the value of a Host header: in any
// case, with any port or none, with or without one trailing dot.
func (h Hosts) Allow(host string) bool { return h.allowed[normalHost(host)] }

// normalHost is a Host header's value as the allow-list has it: lower case,
// without port and without one trailing dot.
func normalHost(host string) string {
	if end := strings.LastIndexByte(host, ']'); end >= 0 {
		if port := host[end+1:]; port == "" || isPort(port) {
			host = host[:end+1]
		}
	} else if colon := strings.LastIndexByte(host, ':'); colon >= 0 && isPort(host[colon:]) {
		host = host[:colon]
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// isPort reports whether s is a colon and digits; a lone colon is one too
// (RFC 3986, 3.2.3).
func isPort(s string) bool {
	return s[0] == ':' && strings.Trim(s[1:], "0123456789") == ""
}
