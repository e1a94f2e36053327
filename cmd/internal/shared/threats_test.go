package shared_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/docs"
	"github.com/bearerd/bearerd/cmd/internal/shared"
	"github.com/bearerd/bearerd/tokens"
)

// Who reads the engine finds neither a token nor a credential, nor whose it is.
func TestThreatEngineIsRead(t *testing.T) {
	t.Parallel()
	e, login := startEngine(t), &loginServer{}
	s, _ := open(t, "unix://"+e.Socket, func(o *shared.Options) { o.Hash = nil })
	has(t, member(t, s, login), 1)
	e.settled()
	var all strings.Builder
	for _, name := range e.keys() {
		text, err := e.client.Get(context.Background(), name).Result()
		if err != nil {
			t.Fatal(err)
		}
		all.WriteString(name + " " + text + "\n")
	}
	for _, secret := range []string{"hunter2", "eyJh", "user", "login.test", "expires"} {
		if strings.Contains(all.String(), secret) {
			t.Errorf("the engine shows %q: %q", secret, all.String())
		}
	}
}

// Who writes garbage, cuts an entry, changes a byte of it, or puts it under another
// account's name causes a login, never another token.
func TestThreatEngineIsTamperedWith(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	e, login := startEngine(t), &loginServer{}
	s, _ := open(t, "unix://"+e.Socket)
	has(t, member(t, s, login), 1)
	e.settled()
	name := e.entry()
	good := e.client.Get(ctx, name).Val()

	other := &loginServer{}
	so, _ := open(t, "unix://"+e.Socket)
	has(t, member(t, so, other, func(o *tokens.Options) { o.Login.Password.Value = "another" }), 1)
	e.settled()
	var others string
	for _, k := range e.keys() {
		if strings.HasSuffix(k, ":entry") && k != name {
			others = e.client.Get(ctx, k).Val()
		}
	}

	flipped := func(i int) string {
		b := []byte(good)
		b[i] ^= 1
		return string(b)
	}
	logins := login.n.Load()
	for what, text := range map[string]string{
		"garbage": "garbage", "nothing": "", "cut": good[:len(good)-1], "longer": good + "x", "another account's": others,
		"form": flipped(0), "salt": flipped(1), "nonce": flipped(17), "text": flipped(30), "tag": flipped(len(good) - 1),
	} {
		e.settled()
		if err := e.client.Set(ctx, name, text, time.Hour).Err(); err != nil {
			t.Fatal(err)
		}
		late, says := open(t, "unix://"+e.Socket)
		token := has(t, member(t, late, login), 1)
		logins++
		if got := login.n.Load(); got != logins || token.Bearer() != fmt.Sprintf("eyJh-hunter2-token-%d", logins) {
			t.Fatalf("%s: got %d logins and token %d, want a login more and its token", what, got, logins)
		}
		says.mu.Lock()
		if text != "" && says.warns != 1 {
			t.Errorf("%s: warned %d times, want once", what, says.warns)
		}
		says.mu.Unlock()
	}

	// Of another kind.
	e.settled()
	if err := e.client.Del(ctx, name).Err(); err != nil {
		t.Fatal(err)
	}
	if err := e.client.LPush(ctx, name, "x").Err(); err != nil {
		t.Fatal(err)
	}
	late, _ := open(t, "unix://"+e.Socket)
	has(t, member(t, late, login), 1)
}

// Who writes an old entry back makes nobody go back to it.
func TestThreatOldEntryIsWrittenBack(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	e, login := startEngine(t), &loginServer{}
	s, _ := open(t, "unix://"+e.Socket)
	m := member(t, s, login)
	has(t, m, 1)
	e.settled()
	old := e.client.Get(ctx, e.entry()).Val()
	if _, _, err := m.Renew(ctx, 1, nil); err != nil {
		t.Fatal(err)
	}
	e.settled()
	e.client.Set(ctx, e.entry(), old, time.Hour)
	has(t, m, 2)
	if token, _, err := m.Renew(ctx, 2, nil); err != nil || token.Generation != 3 || token.Bearer() != "eyJh-hunter2-token-3" {
		t.Errorf("Renew: got %v, %v, want generation 3 by a login", token, err)
	}
}

// Who changes or deletes the salt splits the fleet for no longer than its next look.
func TestThreatSaltIsChanged(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for what, change := range map[string]func(*redis.Client){
		"lost":    func(c *redis.Client) { c.Del(ctx, "bearerd:{bearerd}:salt") },
		"another": func(c *redis.Client) { c.Set(ctx, "bearerd:{bearerd}:salt", strings.Repeat("s", 16), 0) },
		"garbage": func(c *redis.Client) { c.Set(ctx, "bearerd:{bearerd}:salt", "garbage", 0) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			e, login := startEngine(t), &loginServer{}
			one, _ := open(t, "unix://"+e.Socket)
			a := member(t, one, login)
			has(t, a, 1)
			e.settled()
			change(e.client)
			two, _ := open(t, "unix://"+e.Socket)
			b := member(t, two, login)
			has(t, b, 0)
			before := login.n.Load()
			if _, _, err := a.Renew(ctx, a.Status().Generation, nil); err != nil {
				t.Fatal(err)
			}
			if _, _, err := b.Renew(ctx, 1, nil); err != nil {
				t.Fatal(err)
			}
			if got := login.n.Load(); got > before+1 {
				t.Errorf("got %d logins for one refused token of both, want one at most", got-before)
			}
		})
	}
}

// certificate makes a certificate that is its own authority, in files.
func certificate(t *testing.T, dir string) (cert, key string, pool *x509.CertPool, pair tls.Certificate) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "engine"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, &x509.Certificate{Subject: pkix.Name{CommonName: "engine"}}, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	var certPEM, keyPEM bytes.Buffer
	_ = pem.Encode(&certPEM, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	_ = pem.Encode(&keyPEM, &pem.Block{Type: "PRIVATE KEY", Bytes: secret})
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, text := range map[string][]byte{cert: certPEM.Bytes(), key: keyPEM.Bytes()} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM(certPEM.Bytes())
	pair, err = tls.X509KeyPair(certPEM.Bytes(), keyPEM.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return cert, key, pool, pair
}

// With TLS both show who they are; whoever is not trusted gets nothing, and the
// account logs in all the same.
func TestTLSWithClientCertificate(t *testing.T) {
	t.Parallel()
	dir := bearerdtest.SocketDir(t)
	cert, key, pool, pair := certificate(t, dir)
	port := strconv.Itoa(bearerdtest.FreePort(t))
	e, login := startEngine(t, "--tls-port", port, "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert, "--tls-auth-clients", "yes"), &loginServer{}
	trusting := func(c *tls.Config) func(*shared.Options) {
		return func(o *shared.Options) { o.TLS = func() *tls.Config { return c } }
	}
	address := "rediss://127.0.0.1:" + port
	s, _ := open(t, address, trusting(&tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}}))
	has(t, member(t, s, login), 1)
	e.settled()
	if !s.Up() || len(e.keys()) < 3 {
		t.Errorf("got the keys %q, want those of a login", e.keys())
	}
	for what, c := range map[string]*tls.Config{"no certificate": {RootCAs: pool}, "no trust": {Certificates: []tls.Certificate{pair}}} {
		before := login.n.Load()
		s, says := open(t, address, trusting(c))
		has(t, member(t, s, login), 1)
		if s.Up() || login.n.Load() != before+1 || !strings.Contains(says.text(), "lost: ") {
			t.Errorf("%s: up %v, told %q", what, s.Up(), says.text())
		}
	}
}

// The rights that deploy/README lists are enough, and the password is read again at
// each connection.
func TestRightsAndPassword(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	e, login := startEngine(t), &loginServer{latency: 300 * time.Millisecond}
	e.admit()
	var mu sync.Mutex
	password := "one"
	named := func(o *shared.Options) {
		o.Credentials = func() (shared.Address, error) {
			mu.Lock()
			defer mu.Unlock()
			return shared.Address{Username: "bearerd", Password: password}, nil
		}
	}
	s, says := open(t, "unix://"+e.Socket, named)
	m := member(t, s, login)
	other, _ := open(t, "unix://"+e.Socket, named)
	m.Start()
	has(t, member(t, other, login), 1)
	has(t, m, 1)
	if got := login.n.Load(); got != 1 || !s.Up() {
		t.Errorf("got %d logins, up %v, told %q", got, s.Up(), says.text())
	}
	e.refusedNothing()

	e.do("ACL", "SETUSER", "bearerd", "resetpass", ">two") // which ends its connections not
	e.do("CLIENT", "KILL", "USER", "bearerd")
	if _, _, err := m.Renew(ctx, 1, nil); err != nil {
		t.Fatal(err)
	}
	bearerdtest.Eventually(t, bearerdtest.Soon, "the refusal is told", func() bool { return strings.Contains(says.text(), "does not take user or password") })
	mu.Lock()
	password = "two"
	mu.Unlock()
	bearerdtest.Eventually(t, bearerdtest.Soon, "the new password is used", s.Up)

	// Without the right to a channel there is the look each second.
	e.do("ACL", "SETUSER", "bearerd", "resetchannels")
	third, _ := open(t, "unix://"+e.Socket, named)
	has(t, member(t, third, login, func(o *tokens.Options) { o.Login.Scope = "other" }), 1)
	if !third.Up() {
		t.Error("without the channel the engine counts as lost")
	}
}

// None of them could be left out: the engine then refuses a command.
func TestNoRightIsSuperfluous(t *testing.T) {
	t.Parallel()
	for _, right := range append([]string{shared.DatabaseRight}, shared.Rights...) {
		command, ok := strings.CutPrefix(right, "+")
		if !ok {
			continue // names of keys and channels, and that there is no other command
		}
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			ctx := context.Background()
			e, login := startEngine(t), &loginServer{hold: make(chan struct{})}
			e.admit(shared.DatabaseRight, "-"+command)
			address := "unix://bearerd:one@" + e.Socket + "?db=1"
			s, _ := open(t, address)
			member(t, s, login).Start()
			switch command {
			case "pttl", "subscribe", "ping": // of who waits for another's login; the client sends a PING after 3 s of silence
				bearerdtest.Eventually(t, bearerdtest.Soon, "a login", func() bool { return login.n.Load() > 0 })
				waiting, _ := open(t, address)
				member(t, waiting, login).Start()
			default:
				close(login.hold)
			}
			bearerdtest.Eventually(t, bearerdtest.Soon, command+" is refused", func() bool {
				log, err := e.client.Do(ctx, "ACL", "LOG").Slice()
				return err == nil && strings.Contains(fmt.Sprint(log...), "object:"+command+" ")
			})
		})
	}
}

func TestREADMEListsTheRights(t *testing.T) {
	text := docs.Section(t, "deploy/README.md", "Shared login")
	for _, rights := range [][]string{shared.Rights, shared.ClusterRights, {shared.DatabaseRight}} {
		if want := strings.Join(rights, " "); !strings.Contains(text, want) {
			t.Errorf("deploy/README.md does not say %q", want)
		}
	}
}

// unwritable is what makes an engine refuse to be written to, and what ends it.
var unwritable = map[string]struct{ begin, end []any }{
	"is a replica":   {[]any{"REPLICAOF", "127.0.0.1", "1"}, []any{"REPLICAOF", "NO", "ONE"}},
	"memory is full": {[]any{"CONFIG", "SET", "maxmemory", "1"}, []any{"CONFIG", "SET", "maxmemory", "0"}},
}

// An engine that cannot be written to is as none.
func TestEngineThatCannotBeWrittenTo(t *testing.T) {
	t.Parallel()
	for what, it := range unwritable {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			e, login := startEngine(t), &loginServer{}
			s, says := open(t, "unix://"+e.Socket)
			m := member(t, s, login)
			has(t, m, 1)
			e.settled()
			e.do(it.begin...)
			if token, _, err := m.Renew(t.Context(), 1, nil); err != nil || token.Generation != 2 {
				t.Fatalf("Renew: got %v, %v", token, err)
			}
			bearerdtest.Eventually(t, bearerdtest.Soon, "it is told", func() bool { return strings.Contains(says.text(), what) })
			e.do(it.end...)
			bearerdtest.Eventually(t, bearerdtest.Soon, "it is found again", s.Up)
			if token, _, err := m.Renew(t.Context(), 2, nil); err != nil || token.Generation != 3 {
				t.Fatalf("Renew: got %v, %v", token, err)
			}
			e.settled()
			late, _ := open(t, "unix://"+e.Socket)
			has(t, member(t, late, login), 3)
		})
	}
}

// Nobody waits for the end of a lease that could not be given back: it is, when the
// engine can be written to again.
func TestLeaseThatCannotBeGivenBack(t *testing.T) {
	t.Parallel()
	for what, it := range unwritable {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			e, login := startEngine(t), &loginServer{hold: make(chan struct{})}
			s, says := open(t, "unix://"+e.Socket, func(o *shared.Options) { o.LoginTimeout = time.Hour })
			m := member(t, s, login)
			m.Start()
			bearerdtest.Eventually(t, bearerdtest.Soon, "a login", func() bool { return login.n.Load() == 1 })
			e.do(it.begin...)
			close(login.hold)
			has(t, m, 1)
			bearerdtest.Eventually(t, bearerdtest.Soon, "it is told", func() bool { return strings.Contains(says.text(), what) })
			e.do(it.end...)
			e.settled()
			late, _ := open(t, "unix://"+e.Socket)
			has(t, member(t, late, login), 1)
		})
	}
}

// A lease that is given back late puts its entry where nobody has put one since.
func TestLateEntryIsNoOlder(t *testing.T) {
	t.Parallel()
	e, login := startEngine(t), &loginServer{hold: make(chan struct{})}
	e.admit()
	s, says := open(t, "unix://bearerd:one@"+e.Socket, func(o *shared.Options) { o.LoginTimeout = time.Hour })
	m := member(t, s, login)
	m.Start()
	bearerdtest.Eventually(t, bearerdtest.Soon, "a login", func() bool { return login.n.Load() == 1 })
	e.do("ACL", "SETUSER", "bearerd", "-set")
	close(login.hold)
	has(t, m, 1)
	bearerdtest.Eventually(t, bearerdtest.Soon, "the end is refused", func() bool { return says.count("end refused") == 2 })
	var entry string
	for _, name := range e.keys() {
		if of, ok := strings.CutSuffix(name, ":lease"); ok {
			entry = of + ":entry"
		}
	}
	e.do("SET", entry, "newer")
	e.do("ACL", "SETUSER", "bearerd", "+set")
	e.settled()
	if got := e.client.Get(t.Context(), entry).Val(); got != "newer" {
		t.Errorf("got %q, want what was written since", got)
	}
}

// A failover by Sentinel is followed, and costs a login at most.
func TestSentinelFailover(t *testing.T) {
	t.Parallel()
	one, two, port := strconv.Itoa(bearerdtest.FreePort(t)), strconv.Itoa(bearerdtest.FreePort(t)), strconv.Itoa(bearerdtest.FreePort(t))
	master := startEngine(t, "--port", one, "--repl-diskless-sync-delay", "0")
	replica := startEngine(t, "--port", two, "--replicaof", "127.0.0.1 "+one, "--repl-diskless-sync-delay", "0")
	dir := bearerdtest.SocketDir(t)
	file := filepath.Join(dir, "sentinel.conf")
	text := "port " + port + "\ndir " + dir + "\nsentinel monitor mymaster 127.0.0.1 " + one + " 1\n" +
		"sentinel down-after-milliseconds mymaster 500\nsentinel failover-timeout mymaster 3000\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	sentinel := bearerdtest.StartListener(t, "redis-sentinel", "127.0.0.1:"+port, file)
	t.Cleanup(func() { _ = sentinel.Process.Kill(); _ = sentinel.Wait() })
	ctx, login := context.Background(), &loginServer{}
	ask := redis.NewSentinelClient(&redis.Options{Addr: "127.0.0.1:" + port})
	t.Cleanup(func() { _ = ask.Close() })
	bearerdtest.Eventually(t, bearerdtest.Soon, "the sentinel knows the replica", func() bool {
		replicas, err := ask.Replicas(ctx, "mymaster").Result()
		return err == nil && len(replicas) == 1 && replicas[0]["flags"] == "slave" && replicas[0]["master-link-status"] == "ok"
	})

	// A sentinel that drops packets comes first.
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	address := "redis-sentinel://" + silent.Addr().String() + ",127.0.0.1:" + port + "/mymaster"
	s, says := open(t, address, func(o *shared.Options) { o.DialTimeout = 500 * time.Millisecond })
	bearerdtest.Eventually(t, bearerdtest.Soon, "the master is found", s.Up)
	m := member(t, s, login)
	has(t, m, 1)
	replica.settled()

	master.Kill()
	bearerdtest.Eventually(t, bearerdtest.Soon, "the failover", func() bool {
		info, err := replica.client.Info(ctx, "replication").Result()
		return err == nil && strings.Contains(info, "role:master")
	})
	has(t, m, 1)
	before := login.n.Load()
	bearerdtest.Eventually(t, bearerdtest.Soon, "the new master is found", func() bool {
		late, _ := open(t, address, func(o *shared.Options) { o.DialTimeout = 500 * time.Millisecond })
		bearerdtest.Eventually(t, bearerdtest.Soon, "up", late.Up)
		has(t, member(t, late, login), 1)
		return true
	})
	if got := login.n.Load(); got > before+1 {
		t.Errorf("the failover cost %d logins", got-before)
	}
	if token, _, err := m.Renew(ctx, 1, nil); err != nil || token.Generation != 2 {
		t.Errorf("Renew: got %v, %v; told %q", token, err, says.text())
	}
}

// A cluster is spoken to with the rights that deploy/README lists for one.
func TestCluster(t *testing.T) {
	t.Parallel()
	ctx, port := context.Background(), strconv.Itoa(bearerdtest.FreePort(t))
	// Its other port would be 10,000 above, among those that clients are given.
	bus := strconv.Itoa(bearerdtest.FreePort(t))
	e, login := startEngine(t, "--port", port, "--cluster-port", bus, "--cluster-enabled", "yes", "--cluster-announce-ip", "127.0.0.1"), &loginServer{}
	e.do("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
	bearerdtest.Eventually(t, bearerdtest.Soon, "the cluster is up", func() bool {
		info, err := e.client.ClusterInfo(ctx).Result()
		return err == nil && strings.Contains(info, "cluster_state:ok")
	})
	e.admit(shared.ClusterRights...)
	for range 2 {
		s, says := open(t, "redis-cluster://bearerd:one@127.0.0.1:"+port)
		has(t, member(t, s, login), 1)
		if !s.Up() {
			t.Errorf("the cluster is not found: %s", says.text())
		}
	}
	if got := login.n.Load(); got != 1 {
		t.Errorf("got %d logins, want 1", got)
	}
	e.refusedNothing()
}
