package proxy

import (
	"net/http"
	"sync/atomic"
)

// bearer is the RoundTripper that puts the token on a request and, when
// upstream refuses it, sends it once more with another (roundtrip.go).
type bearer struct {
	source Source
	renew  []int // statuses by which upstream refuses a token
	budget *budget
	youth  youth
	dials  *Dials               // nil: any number of requests looks for a connection
	ways   atomic.Pointer[ways] // see Handler.SetTransport
	timed  bool                 // header time-outs are on

	http1Until atomic.Int64 // until then, in ns since 1970, HTTP/2 is not spoken; see fallback
}

// ways are how requests go upstream.
type ways struct {
	pooled   *carrier
	announce *carrier // for uploads with Expect: 100-continue
	upgrade  *carrier // for requests to switch protocols
}

func newBearer(o Options) *bearer {
	budget := newBudget()
	b := &bearer{
		source: o.Source,
		renew:  o.RenewStatus,
		budget: budget,
		dials:  o.Dials,
		timed:  o.ResponseHeaderTimeout > 0,
		youth:  youth{budget: budget, source: o.Source},
	}
	b.ways.Store(newWays(o.Transport))
	return b
}

func newWays(t http.RoundTripper) *ways {
	w := &ways{pooled: newCarrier(t), announce: newCarrier(oneShot(t)), upgrade: newCarrier(onlyHTTP1(t))}
	w.pooled.http1 = w.upgrade
	w.announce.http1 = newCarrier(onlyHTTP1(oneShot(t)))
	return w
}

// closeIdle closes the connections that carry no request, and each other one at the
// end of its last.
func (w *ways) closeIdle() {
	for _, c := range []*carrier{w.pooled, w.upgrade} { // the others keep none
		if t := c.keep.Load(); t != nil {
			t.CloseIdleConnections()
		}
	}
}
