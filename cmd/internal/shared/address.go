package shared

import (
	"errors"
	"net"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
)

// An Address is where an engine is, and who one is there. It is a secret.
type Address struct {
	Hosts   []string // host:port, more than one with a master or a cluster
	Socket  string   // a unix socket's path in place of hosts
	TLS     bool
	Cluster bool
	Master  string // name that the Sentinels, which Hosts are then, know it by
	DB      int

	Username, Password                 string
	SentinelUsername, SentinelPassword string
}

// Forms is what an address looks like.
const Forms = "redis://[user:password@]host[:6379][/0], rediss:// for TLS, redis-cluster://h1,h2,h3, " +
	"redis-sentinel://[user:password@]h1[:26379],h2,h3/MASTER[/0][?sentinel_username=…&sentinel_password=…] (rediss-cluster://, rediss-sentinel:// for TLS), " +
	"or unix:///path/to/socket"

// ParseAddress reads an address. Its errors are fixed phrases, which tell nothing of
// the text: there is a password in it. net/url cannot read a list of hosts.
func ParseAddress(text string) (a Address, err error) {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		return Address{}, errors.New("is no URL")
	}
	port := "6379"
	switch scheme {
	case "redis", "unix":
	case "rediss":
		a.TLS = true
	case "redis-cluster", "rediss-cluster":
		a.Cluster, a.TLS = true, scheme == "rediss-cluster"
	case "redis-sentinel", "rediss-sentinel":
		a.TLS, port = scheme == "rediss-sentinel", "26379"
	default:
		return Address{}, errors.New("begins with no scheme that is known")
	}
	rest, query, _ := strings.Cut(rest, "?")
	// The last @ of what stands before a path: one in a password would be escaped,
	// and a / in it as well.
	authority, where, _ := strings.Cut(rest, "/")
	if at := strings.LastIndex(authority, "@"); at >= 0 {
		user, password, _ := strings.Cut(authority[:at], ":")
		a.Username, err = url.PathUnescape(user)
		if err == nil {
			a.Password, err = url.PathUnescape(password)
		}
		if err != nil {
			return Address{}, errors.New("has a wrong escape in its user or password; write %25 for %, %40 for @, %3A for :, %2F for / and %3F for ?")
		}
		authority = authority[at+1:]
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return Address{}, errors.New("has a query that is not of the form a=b&c=d")
	}
	known := []string{"sentinel_username", "sentinel_password"}
	if scheme == "unix" {
		known = []string{"db"}
	}
	for name := range values {
		if !slices.Contains(known, name) {
			return Address{}, errors.New("has a query that is not known for it")
		}
	}
	if scheme == "unix" {
		if authority != "" || where == "" || path.Clean("/"+where) == "/" {
			return Address{}, errors.New("has no absolute path of a socket")
		}
		a.Socket = "/" + where
		if db := values.Get("db"); db != "" {
			if a.DB, err = strconv.Atoi(db); err != nil || a.DB < 0 {
				return Address{}, errors.New("has a database that is no number")
			}
		}
		return a, nil
	}
	a.SentinelUsername, a.SentinelPassword = values.Get("sentinel_username"), values.Get("sentinel_password")

	for host := range strings.SplitSeq(authority, ",") {
		name, number := host, port
		if h, p, err := net.SplitHostPort(host); err == nil {
			name, number = h, p
		} else if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
			name = host[1 : len(host)-1]
		} else if strings.Contains(host, ":") {
			return Address{}, errors.New("has a host that is none")
		}
		if n, err := strconv.Atoi(number); err != nil || n < 1 || n > 65535 || name == "" || strings.ContainsAny(name, " %\\#") {
			return Address{}, errors.New("has a host or port that is none")
		}
		a.Hosts = append(a.Hosts, net.JoinHostPort(name, number))
	}
	parts := strings.Split(strings.TrimSuffix(where, "/"), "/")
	if strings.HasSuffix(scheme, "-sentinel") {
		if parts[0] == "" {
			return Address{}, errors.New("lacks the master's name; write it behind the hosts, as in /mymaster")
		}
		a.Master, err = url.PathUnescape(parts[0])
		if err != nil {
			return Address{}, errors.New("has a wrong escape in the master's name")
		}
		parts = parts[1:]
	} else if len(a.Hosts) > 1 && !a.Cluster {
		return Address{}, errors.New("has more than one host; write redis-sentinel:// or redis-cluster://")
	}
	switch {
	case len(parts) == 0 || len(parts) == 1 && parts[0] == "":
	case len(parts) > 1 || a.Cluster:
		return Address{}, errors.New("has a path that is none; only the number of a database may be there")
	default:
		if a.DB, err = strconv.Atoi(parts[0]); err != nil || a.DB < 0 {
			return Address{}, errors.New("has a database that is no number")
		}
	}
	return a, nil
}

// String tells where the engine is, without anybody's name or password.
func (a Address) String() string {
	switch {
	case a.Socket != "":
		return "unix://" + a.Socket
	case a.Master != "":
		return a.scheme() + "-sentinel://" + strings.Join(a.Hosts, ",") + "/" + a.Master
	case a.Cluster:
		return a.scheme() + "-cluster://" + strings.Join(a.Hosts, ",")
	}
	return a.scheme() + "://" + strings.Join(a.Hosts, ",")
}

// GoString is String.
func (a Address) GoString() string { return a.String() }

func (a Address) scheme() string {
	if a.TLS {
		return "rediss"
	}
	return "redis"
}
