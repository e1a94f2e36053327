package shared

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/bearerd/bearerd/cmd/internal/neterror"
)

const (
	connections = 2 // for commands; a subscription has one of its own
	idle        = 4 * time.Minute
	lifetime    = 30 * time.Minute // so that a changed certificate or password is used
	buffer      = 4 << 10
)

// connect returns a client that has not connected yet. It sends no command twice, as
// one whose answer was lost would count twice, and none that a strict list of rights
// or an old engine refuses.
func connect(o Options) engine {
	redis.SetLogger(silent{}) // it writes to stderr
	name := func() (string, string) {
		if o.Credentials != nil {
			if a, err := o.Credentials(); err == nil {
				return a.Username, a.Password
			}
		}
		return o.Address.Username, o.Address.Password
	}
	off := &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	a := o.Address
	switch {
	case a.Master != "":
		return redis.NewFailoverClient(&redis.FailoverOptions{
			MasterName: a.Master, SentinelAddrs: a.Hosts, SentinelUsername: a.SentinelUsername, SentinelPassword: a.SentinelPassword,
			CredentialsProvider: name, DB: a.DB, Dialer: o.dial, Protocol: 2, DisableIdentity: true,
			MaxRetries: -1, DialerRetries: 1, DialTimeout: 2 * o.DialTimeout, ReadTimeout: time.Second, WriteTimeout: time.Second, ContextTimeoutEnabled: true,
			PoolSize: cmp.Or(o.Connections, connections), PoolTimeout: coldWait, ConnMaxIdleTime: idle, ConnMaxLifetime: lifetime, ReadBufferSize: buffer, WriteBufferSize: buffer,
		})
	case a.Cluster:
		return redis.NewClusterClient(&redis.ClusterOptions{
			Addrs: a.Hosts, CredentialsProvider: name, Dialer: o.dial, Protocol: 2, DisableIdentity: true, MaintNotificationsConfig: off,
			MaxRetries: -1, MaxRedirects: 3, DialerRetries: 1, DialTimeout: 2 * o.DialTimeout, ReadTimeout: time.Second, WriteTimeout: time.Second, ContextTimeoutEnabled: true,
			PoolSize: cmp.Or(o.Connections, connections), PoolTimeout: coldWait, ConnMaxIdleTime: idle, ConnMaxLifetime: lifetime, ReadBufferSize: buffer, WriteBufferSize: buffer,
		})
	}
	network, addr := "tcp", ""
	if a.Socket != "" {
		network, addr = "unix", a.Socket
	} else {
		addr = a.Hosts[0]
	}
	return redis.NewClient(&redis.Options{
		Network: network, Addr: addr, CredentialsProvider: name, DB: a.DB, Dialer: o.dial, Protocol: 2, DisableIdentity: true, MaintNotificationsConfig: off,
		MaxRetries: -1, DialerRetries: 1, DialTimeout: 2 * o.DialTimeout, ReadTimeout: time.Second, WriteTimeout: time.Second, ContextTimeoutEnabled: true,
		PoolSize: cmp.Or(o.Connections, connections), PoolTimeout: coldWait, ConnMaxIdleTime: idle, ConnMaxLifetime: lifetime, ReadBufferSize: buffer, WriteBufferSize: buffer,
	})
}

// silent is a logger that says nothing: what fails is told by Options.Tell.
type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// dial connects, and makes the TLS handshake, each within DialTimeout.
func (o Options) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: o.DialTimeout}).DialContext(ctx, network, addr)
	if err != nil || !o.Address.TLS {
		return conn, err
	}
	config := &tls.Config{}
	if o.TLS != nil {
		config = o.TLS().Clone()
	}
	config.MinVersion = tls.VersionTLS12
	config.ServerName, _, _ = net.SplitHostPort(addr)
	secured := tls.Client(conn, config)
	ctx, cancel := context.WithTimeout(ctx, o.DialTimeout)
	defer cancel()
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return secured, nil
}

// refusals are what engines say, by the first word of it, and what to do.
var refusals = map[string]string{
	"NOAUTH":     "it wants a password: write user and password into BEARERD_SHARED",
	"WRONGPASS":  "it does not take user or password of BEARERD_SHARED",
	"NOPERM":     "this user may not do what bearerd does: see the rights in deploy/README.md",
	"MOVED":      "it is a cluster: write redis-cluster:// into BEARERD_SHARED",
	"CROSSSLOT":  "it is a cluster behind a proxy: give it a database without one",
	"READONLY":   "it is a replica, or read-only: name the master, or its Sentinels",
	"OOM":        "its memory is full",
	"LOADING":    "it is starting",
	"MASTERDOWN": "its master is down",
	"MISCONF":    "it cannot write to its disk",
	"NOREPLICAS": "it has too few replicas",
}

// isTimeout reports whether err is the end of a command's time, which the client
// sets as a deadline of the connection too: either may come first. To wait for a
// connection takes of it.
func isTimeout(err error) bool {
	timed, ok := errors.AsType[net.Error](err)
	return ok && timed.Timeout() || errors.Is(err, redis.ErrPoolTimeout)
}

// Words says why the engine cannot be had, in words that are safe to log.
func Words(err error) string {
	refusal, refused := errors.AsType[redis.Error](err)
	switch {
	case errors.Is(err, errDown), errors.Is(err, errNoKey), errors.Is(err, errAnswer):
		return err.Error()
	case refused:
		first, _, _ := strings.Cut(refusal.Error(), " ")
		if words, ok := refusals[first]; ok {
			return words
		}
		return "it refuses a command"
	case isTimeout(err):
		return "it does not answer in time"
	}
	return neterror.Of(err).Error()
}

// Rights are what an engine must let its user do, as `ACL SETUSER` and a file of
// users take them. PING is the client's, at a subscription; HELLO and AUTH are always
// allowed.
var Rights = []string{
	"-@all", "~bearerd:*", "&bearerd:*",
	"+eval", "+evalsha", "+get", "+set", "+del", "+pttl", "+time", "+publish", "+subscribe", "+ping",
}

// ClusterRights are what a cluster's user needs besides, and DatabaseRight what the
// user of another database than 0 does.
var ClusterRights = []string{"+cluster|slots", "+command"}

const DatabaseRight = "+select"
