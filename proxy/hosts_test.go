package proxy_test

import (
	"testing"

	"github.com/bearerd/bearerd/proxy"
)

// What each list allows over HTTP is in TestThreatDNSRebinding.
func TestHosts(t *testing.T) {
	hosts := proxy.NewHosts("Proxy.Example:8080", "2001:db8::1", "")
	for host, want := range map[string]bool{
		"localhost:9180": true, "[::1]": true, "proxy.example": true, "PROXY.example.:1": true, "[2001:DB8::1]:9180": true,
		"": false, ":9180": false, "evil.example": false, "127.0.0.2": false, "2001:db8::1": false,
	} {
		same(t, "Allow "+host, hosts.Allow(host), want)
	}
	var none proxy.Hosts
	same(t, "the zero value allows localhost", none.Allow("localhost"), false)
}
