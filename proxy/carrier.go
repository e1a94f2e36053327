package proxy

import (
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// carrier is one way to upstream. A first attempt goes by a connection that is
// there, if there is one; a second by one of its own, as those in the pool may
// have died together.
type carrier struct {
	keep  atomic.Pointer[http.Transport] // first, where it keeps connections; nil: first is all
	first http.RoundTripper
	fresh http.RoundTripper
	http1 *carrier // the same way without HTTP/2; nil: this is it
}

// newCarrier returns the carrier whose first attempts go by t.
func newCarrier(t http.RoundTripper) *carrier {
	c := &carrier{first: t, fresh: t}
	if transport, ok := t.(*http.Transport); ok && !transport.DisableKeepAlives {
		c.keep.Store(transport)
		c.fresh = unpooled(transport)
	}
	return c
}

// roundTripper returns what the next attempt goes by.
func (c *carrier) roundTripper(fresh bool) http.RoundTripper {
	if fresh {
		return c.fresh
	}
	if t := c.keep.Load(); t != nil {
		return t
	}
	return c.first
}

// shorten has connections lie idle no longer than upstream announces. Those
// that are idle now are closed.
func (c *carrier) shorten(answer http.Header) {
	idle := announcedIdle(answer)
	for t := c.keep.Load(); t != nil && idle > 0; t = c.keep.Load() {
		if t.IdleConnTimeout > 0 && t.IdleConnTimeout <= idle {
			return
		}
		shorter := t.Clone()
		shorter.IdleConnTimeout = idle
		multiplex(shorter)
		if c.keep.CompareAndSwap(t, shorter) {
			t.CloseIdleConnections()
			return
		}
	}
}

// announcedIdle is how long a connection may be used after an answer with this
// header; 0: it does not say. A server counts from when it has sent the answer,
// and until it has read the next request: a second is left for the way.
func announcedIdle(h http.Header) time.Duration {
	for _, field := range h["Keep-Alive"] {
		for param := range strings.SplitSeq(field, ",") {
			name, value, _ := strings.Cut(param, "=")
			if !strings.EqualFold(strings.TrimSpace(name), "timeout") {
				continue
			}
			n, err := strconv.ParseUint(strings.Trim(value, " \t\""), 10, 31)
			if err != nil {
				continue
			}
			timeout := time.Duration(n) * time.Second
			return max(timeout-min(time.Second, timeout/2), time.Millisecond)
		}
	}
	return 0
}
