package proxy

import (
	"net/http"
	"net/url"
	"time"
)

// Options configure a [Handler]. Upstream and Source must be set; the zero
// value of any other field is good.
type Options struct {
	Upstream *url.URL // scheme, host and, where there is one, path prefix
	Source   Source

	Transport             http.RoundTripper // nil: NewTransport's
	Dials                 *Dials            // Transport's; nil: any number of requests looks for a connection at once
	ResponseHeaderTimeout time.Duration     // as in TransportOptions; tells how to name a time-out

	Hosts          []string // further Host values, besides this machine's own
	Origins        []string // of web pages that may call, as browsers write them: scheme://host, and a port that is not the scheme's
	Methods        []string // allowed; empty: all but CONNECT and TRACE
	Paths          []string // allowed prefixes, by whole segments; empty: all
	AllowUpgrade   bool     // pass WebSocket and other Upgrade requests
	ForwardCookies bool     // pass Cookie and Set-Cookie
	Forwarded      bool     // tell upstream by which name it was called (Forwarded, X-Forwarded-Host, -Proto, -Prefix)

	RenewStatus []int // by which upstream refuses a token; empty: 401

	// RequireHeader returns the header that callers must send; it is not
	// forwarded. It is called for each request and must not block. Nil: none.
	RequireHeader func() HeaderRule

	ReplayBuffer int64         // bytes of one body held for a replay; 0: bodies are announced instead
	ReplayTotal  int64         // bytes held over all requests; 0: 64 MiB
	MaxInFlight  int           // requests at once; 0: 4096
	BodyIdle     time.Duration // longest silence in a request body; 0: 60 s

	// SendAway reports whether clients are to make a new connection for their
	// next request. It is called for each answer, but that of an upgrade, and
	// must not block. Nil: never.
	SendAway func() bool

	// Done is told of each request at its end, by the goroutine that served
	// it; nil: nobody is.
	Done func(*Exchange)
}
