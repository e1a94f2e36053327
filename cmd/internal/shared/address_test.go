package shared_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/bearerd/bearerd/cmd/internal/shared"
)

func TestParseAddress(t *testing.T) {
	for text, want := range map[string]shared.Address{
		"redis://h":                     {Hosts: []string{"h:6379"}},
		"redis://h:1/2":                 {Hosts: []string{"h:1"}, DB: 2},
		"rediss://[2001:db8::1]":        {Hosts: []string{"[2001:db8::1]:6379"}, TLS: true},
		"rediss://[2001:db8::1]:7/":     {Hosts: []string{"[2001:db8::1]:7"}, TLS: true},
		"redis://:p%40%2F@h":            {Hosts: []string{"h:6379"}, Password: "p@/"},
		"redis://u:p:q@h":               {Hosts: []string{"h:6379"}, Username: "u", Password: "p:q"},
		"redis-cluster://a:1,b,c:3":     {Hosts: []string{"a:1", "b:6379", "c:3"}, Cluster: true},
		"rediss-cluster://u:p@a,b":      {Hosts: []string{"a:6379", "b:6379"}, Cluster: true, TLS: true, Username: "u", Password: "p"},
		"redis-sentinel://a,b:2,c/m/3":  {Hosts: []string{"a:26379", "b:2", "c:26379"}, Master: "m", DB: 3},
		"rediss-sentinel://u:p@a,b,c/m": {Hosts: []string{"a:26379", "b:26379", "c:26379"}, Master: "m", TLS: true, Username: "u", Password: "p"},
		"redis-sentinel://a/m?sentinel_username=s&sentinel_password=q": {Hosts: []string{"a:26379"}, Master: "m", SentinelUsername: "s", SentinelPassword: "q"},
		"unix:///run/redis.sock":           {Socket: "/run/redis.sock"},
		"unix://u:p@/run/redis.sock?db=15": {Socket: "/run/redis.sock", DB: 15, Username: "u", Password: "p"},
	} {
		got, err := shared.ParseAddress(text)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %#v, %v", text, got, err)
		}
		if again, err := shared.ParseAddress(got.String()); err != nil || !reflect.DeepEqual(again.Hosts, got.Hosts) || again.Master != got.Master {
			t.Errorf("%s: as it is told, %s, it reads as %#v, %v", text, got, again, err)
		}
	}
	for _, text := range []string{
		"", "h:6379", "http://h", "redis://", "redis://h:0", "redis://h:x", "redis://a,b", "redis://h/x", "redis://h/-1", "redis://h/1/2",
		"redis-sentinel://a,b", "redis-sentinel://a,b/", "redis-sentinel://a/m/x", "redis-cluster://a/1", "redis://h?x=hunter2", "unix://", "unix://h/p", "unix:///",
		"redis://u:%zzhunter2@h", "redis://a:b:c", "redis://h%20", "redis://hunter2:@@",
	} {
		if _, err := shared.ParseAddress(text); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: got the error %v", text, err)
		}
	}
}

func FuzzParseAddress(f *testing.F) {
	f.Add("redis-sentinel://u:p@a,b:2,[::1]/m/3?sentinel_username=s")
	f.Fuzz(func(t *testing.T, text string) {
		a, err := shared.ParseAddress(text)
		if err == nil && a.Socket == "" && len(a.Hosts) == 0 {
			t.Errorf("%q is an address without a host", text)
		}
	})
}
