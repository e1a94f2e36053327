package proxy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/bearerd/bearerd/proxy"
)

// The benchmarks put the handler and a bare ReverseProxy to the same work: 64
// connections kept alive, a TLS upstream, answers of 1 KiB. Client and
// upstream are raw and cheap, but run in the same process: their share is in
// both figures, and nothing is subtracted.

const (
	benchConns  = 64
	benchAnswer = 1 << 10
)

// fixed is a source whose token is always good.
type fixed struct{}

func (fixed) Token(context.Context) (proxy.Token, error) {
	return proxy.Token{Authorization: "Bearer t1", Generation: 1}, nil
}

func (fixed) Before(uint64) (proxy.Token, bool) { return proxy.Token{}, false }

func (fixed) Renew(context.Context, uint64, func() bool) (proxy.Token, error) {
	return proxy.Token{}, errNotRenewed
}

// benchUpstream answers each request on each connection with the same bytes.
func benchUpstream(b *testing.B) (*url.URL, *http.Transport) {
	lender := httptest.NewUnstartedServer(nil)
	lender.StartTLS() // for its certificate
	cert := lender.TLS.Certificates[0]
	roots := x509.NewCertPool()
	roots.AddCert(lender.Certificate())
	lender.Close()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		b.Fatal(err)
	}
	answer := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Tue, 15 Nov 1994 08:12:31 GMT\r\nContent-Length: %d\r\n\r\n%s",
		benchAnswer, strings.Repeat("x", benchAnswer))
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				in := bufio.NewReader(c)
				for {
					for {
						line, err := in.ReadSlice('\n')
						if err != nil {
							return
						}
						if len(line) <= 2 {
							break
						}
					}
					if _, err := c.Write(answer); err != nil {
						return
					}
				}
			}()
		}
	}()
	tr := proxy.NewTransport(proxy.TransportOptions{RootCAs: roots})
	b.Cleanup(func() { l.Close(); tr.CloseIdleConnections() })
	return &url.URL{Scheme: "https", Host: l.Addr().String()}, tr
}

// buffers is the pool of the bare proxy.
type buffers struct{ sync.Pool }

func (b *buffers) Get() []byte  { return *b.Pool.Get().(*[]byte) }
func (b *buffers) Put(p []byte) { b.Pool.Put(&p) }

func bareProxy(u *url.URL, tr http.RoundTripper) http.Handler {
	return &httputil.ReverseProxy{
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.SetURL(u)
			pr.Out.Header.Set("Authorization", "Bearer t1")
		},
		Transport:  tr,
		BufferPool: &buffers{sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}},
	}
}

// fullProxy is the handler with everything on.
func fullProxy(u *url.URL, tr http.RoundTripper, ended *atomic.Int64) http.Handler {
	return proxy.New(proxy.Options{
		Upstream: u, Transport: tr, Source: fixed{}, ReplayBuffer: 1 << 20,
		Done: func(*proxy.Exchange) { ended.Add(1) },
	})
}

// load is a server and the connections to it.
type load struct {
	conns []*wire
}

func newLoad(b *testing.B, h http.Handler) *load {
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Start()
	l := &load{}
	for range benchConns {
		c, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		l.conns = append(l.conns, &wire{Conn: c, in: bufio.NewReader(c)})
	}
	b.Cleanup(func() {
		for _, c := range l.conns {
			c.Close()
		}
		s.Close()
	})
	l.run(b, 4*benchConns) // TLS handshakes and pools
	return l
}

// run makes n requests on all connections.
func (l *load) run(b *testing.B, n int) {
	request := []byte("GET /cpmm/api/v1/orgs/42/metrics/names?from=1&to=2 HTTP/1.1\r\nHost: localhost:8080\r\nUser-Agent: curl/8\r\nAccept: */*\r\n\r\n")
	var left atomic.Int64
	left.Store(int64(n))
	var wg sync.WaitGroup
	for _, c := range l.conns {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if _, err := c.Write(request); err != nil {
					b.Error(err)
					return
				}
				for first := true; ; first = false {
					line, err := c.in.ReadSlice('\n')
					if err != nil || first && string(line) != "HTTP/1.1 200 OK\r\n" {
						b.Errorf("got %q, %v", line, err)
						return
					}
					if len(line) <= 2 {
						break
					}
				}
				if _, err := c.in.Discard(benchAnswer); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func benchmark(b *testing.B, h func(*url.URL, http.RoundTripper) http.Handler) {
	u, tr := benchUpstream(b)
	l := newLoad(b, h(u, tr))
	b.ReportAllocs()
	b.ResetTimer()
	before := cpuTime()
	l.run(b, b.N)
	if used := cpuTime() - before; used > 0 {
		b.ReportMetric(float64(used)/float64(b.N), "cpu-ns/op")
	}
}

func BenchmarkProxy(b *testing.B) {
	var ended atomic.Int64
	benchmark(b, func(u *url.URL, tr http.RoundTripper) http.Handler { return fullProxy(u, tr, &ended) })
}

func BenchmarkBareProxy(b *testing.B) { benchmark(b, bareProxy) }
