package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

// namespace is a network namespace of its own, and so another machine to what
// runs in this one. The two are joined by a pair of veth interfaces.
type namespace struct {
	t    testing.TB
	name string
	ours []netip.Addr // this machine's end: IPv4 and, where there is any, IPv6
}

// newNamespace makes a namespace for the length of the test, where this machine
// has iproute2 and leave to make one: root in a container often has not.
func newNamespace(t testing.TB) *namespace {
	t.Helper()
	id := rand.Uint32()
	n := &namespace{t: t, name: fmt.Sprintf("bearerd-%08x", id)}
	if out, err := exec.Command("ip", "netns", "add", n.name).CombinedOutput(); err != nil {
		t.Logf("no network namespace: %v: %s", err, bytes.TrimSpace(out))
		return nil
	}
	t.Cleanup(func() { n.ip("netns", "del", n.name) })
	// Of the range for measurements between networks (RFC 2544), and a unique
	// local one (RFC 4193).
	our4 := netip.AddrFrom4([4]byte{198, 18 | byte(id>>16)&1, byte(id >> 8), byte(id)&^3 | 1})
	our6 := netip.AddrFrom16([16]byte{0xfd, 0xbe, 0xa0, 0, byte(id >> 24), byte(id >> 16), byte(id >> 8), byte(id), 15: 1})
	here, there := fmt.Sprintf("bd%08xa", id), fmt.Sprintf("bd%08xb", id)
	n.ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", n.name)
	t.Cleanup(func() { n.ip("link", "del", here) })
	n.join(our4, 30, here, there)
	if l, err := net.Listen("tcp6", "[::1]:0"); err == nil {
		_ = l.Close()
		n.join(our6, 64, here, there, "nodad")
	}
	n.ip("link", "set", here, "up")
	n.ip("-n", n.name, "link", "set", there, "up")
	return n
}

// join gives the two ends an address each.
func (n *namespace) join(ours netip.Addr, bits int, here, there string, flags ...string) {
	n.t.Helper()
	n.ip(append([]string{"addr", "add", fmt.Sprintf("%s/%d", ours, bits), "dev", here}, flags...)...)
	n.ip(append([]string{"-n", n.name, "addr", "add", fmt.Sprintf("%s/%d", ours.Next(), bits), "dev", there}, flags...)...)
	n.ours = append(n.ours, ours)
}

// ownAddresses are those of this machine that are not loopback: one IPv4 and,
// where there is any, one IPv6. Who asks by them comes from them.
func ownAddresses(t testing.TB) (own []netip.Addr) {
	t.Helper()
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, is4 := range []bool{true, false} {
		for _, a := range all {
			prefix, err := netip.ParsePrefix(a.String())
			if addr := prefix.Addr(); err == nil && addr.Is4() == is4 && addr.IsGlobalUnicast() {
				own = append(own, addr)
				break
			}
		}
	}
	return own
}

func (n *namespace) ip(args ...string) {
	n.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		n.t.Errorf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// put puts questions from within the namespace.
func (n *namespace) put(questions []question) []reply {
	n.t.Helper()
	text, err := json.Marshal(questions)
	if err != nil {
		n.t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		n.t.Fatal(err)
	}
	cmd := exec.Command("ip", "netns", "exec", n.name, self)
	cmd.Env = []string{askEnv + "=" + string(text)}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var replies []reply
	if err != nil || json.Unmarshal(out, &replies) != nil {
		n.t.Fatalf("asking from %s: %v\n%s%s", n.name, err, out, &stderr)
	}
	return replies
}

// Bound to every address, as in a pod, and asked from another machine as
// kubelet and Prometheus ask: these get their answer, and nobody there can
// change anything or, by the pod's address, read /status.
func TestAdminFromAnotherMachine(t *testing.T) {
	t.Parallel()
	n := newNamespace(t)
	own := ownAddresses(t)
	if n != nil {
		own = n.ours
	}
	if len(own) == 0 || !own[0].Is4() {
		bearerdtest.Lacking(t, "both a network namespace and an address besides loopback")
	}
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	for _, bound := range []string{"0.0.0.0:0", "[::]:0"} {
		t.Run(bound, func(t *testing.T) {
			if bound == "[::]:0" && len(own) < 2 {
				t.Skip("this machine has no IPv6")
			}
			p := w.Serve(t, "BEARERD_ADMIN_LISTEN="+bound, "BEARERD_ALLOW_QUIT=true")
			_, port, err := net.SplitHostPort(strings.TrimPrefix(p.Admin, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			at := func(host string) string { return net.JoinHostPort(host, port) }
			loopback := []string{"127.0.0.1"}
			targets := []string{own[0].String()}
			if bound == "[::]:0" {
				loopback = append(loopback, "::1")
				targets = append(targets, own[1].String())
			}
			p.Admin = "http://" + at(loopback[len(loopback)-1])
			bearerdtest.Eventually(t, bearerdtest.Soon, "ready", func() bool {
				replies, err := put([]question{{"GET", p.Admin + "/readyz", ""}})
				return err == nil && replies[0].Status == 200
			})
			logins := w.Sim.Stats().Logins

			var questions []question
			var want []int
			add := func(target, host string, status, post int) {
				for _, path := range []string{"/livez", "/startupz", "/readyz", "/metrics"} {
					questions, want = append(questions, question{"GET", "http://" + at(target) + path, host}), append(want, 200)
				}
				questions, want = append(questions, question{"GET", "http://" + at(target) + "/status", host}), append(want, status)
				for _, path := range []string{"/login", "/quitquitquit"} {
					questions, want = append(questions, question{"POST", "http://" + at(target) + path, host}), append(want, post)
				}
			}
			expect := func(from string, replies []reply) {
				t.Helper()
				for i, q := range questions {
					if replies[i].Status != want[i] {
						t.Errorf("from %s: %s %s, Host %s: got %d %s, want %d", from, q.Method, q.URL, q.Host, replies[i].Status, replies[i].Body, want[i])
					}
				}
			}
			for _, target := range targets {
				for _, host := range []string{at(target), "10.244.1.7:9180", "[fd00::7]:9180"} {
					add(target, host, 421, 403)
				}
				add(target, "localhost:9180", 200, 403) // whoever is no browser writes what it likes
			}
			if n != nil {
				expect("another machine", n.put(questions))
			}
			// Nor is this machine loopback when it is asked by its own address.
			replies, err := put(questions)
			if err != nil {
				t.Fatal(err)
			}
			expect("this machine's own address", replies)
			questions, want = nil, nil
			for _, target := range loopback {
				for _, host := range []string{"10.244.1.7:9180", "[fd00::7]:9180"} {
					add(target, host, 421, 421)
				}
			}
			if replies, err = put(questions); err != nil {
				t.Fatal(err)
			}
			expect("loopback by the pod's name", replies)

			if got := w.Sim.Stats().Logins; got != logins {
				t.Errorf("logins: got %d more, want none", got-logins)
			}
			if strings.Contains(p.Text(), `"message":"stopping"`) {
				t.Error("it stops")
			}
			if status, body := p.Post("/login"); status != 202 {
				t.Errorf("POST /login from loopback: got %d %s, want 202", status, body)
			}
			bearerdtest.Eventually(t, bearerdtest.Soon, "a login", func() bool { return w.Sim.Stats().Logins == logins+1 })
			if status, body := p.Post("/quitquitquit"); status != 202 {
				t.Errorf("POST /quitquitquit from loopback: got %d %s, want 202", status, body)
			}
			if code := p.ExitCode(bearerdtest.AtOnce); code != 0 {
				t.Errorf("exit code: got %d, want 0", code)
			}
		})
	}
}

// The list is that of the data listener, with the admin listener's own address.
func TestAdminAllowedHosts(t *testing.T) {
	t.Parallel()
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	p := w.Serve(t, "BEARERD_ADMIN_LISTEN=127.0.0.2:0", "BEARERD_LISTEN=127.0.0.3:0",
		"BEARERD_ALLOWED_HOSTS=Proxy.Example,10.0.0.7")
	for host, want := range map[string]int{
		"": 200, "127.0.0.3:8080": 200, "localhost:9180": 200, "proxy.example:9180": 200, "10.0.0.7": 200,
		"127.0.0.4": 421, "10.0.0.8": 421,
	} {
		replies, err := put([]question{{"GET", p.Admin + "/status", host}, {"POST", p.Admin + "/login", host}})
		if err != nil {
			t.Fatal(err)
		}
		if replies[0].Status != want || (replies[1].Status == 202) != (want == 200) {
			t.Errorf("Host %q: got %d and %d, want %d and the same for POST /login", host, replies[0].Status, replies[1].Status, want)
		}
	}
}
