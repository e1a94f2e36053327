//go:build unix

package main

import (
	"crypto/x509"
	"fmt"
	"net"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync"

	"github.com/rs/zerolog"

	"github.com/bearerd/bearerd/cmd/internal/logs"
	"github.com/bearerd/bearerd/cmd/internal/service"
	"github.com/bearerd/bearerd/proxy"
)

// bareUpstream in the environment makes the test binary a bare reverse proxy
// to that URL, to compare bearerd with.
const bareUpstream = "BEARERD_TEST_BARE_UPSTREAM"

// bareProxy reports whether this process was a bare proxy, when it has ended.
func bareProxy() bool {
	upstream, err := url.Parse(os.Getenv(bareUpstream))
	if err != nil || upstream.Host == "" {
		return false
	}
	roots := x509.NewCertPool()
	pemFile, err := os.ReadFile(os.Getenv("BEARERD_CA_FILE"))
	if err != nil || !roots.AppendCertsFromPEM(pemFile) {
		panic("no CA file")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Fprintf(os.Stderr, "{\"message\":\"serving\",\"listen\":[%q]}\n", l.Addr())
	buffers := sync.Pool{New: func() any { return new([32 << 10]byte) }}
	server := service.NewServer(&httputil.ReverseProxy{
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.SetURL(upstream)
			// As many bytes go upstream as with a token.
			pr.Out.Header.Set("Authorization", "Bearer "+strings.Repeat("x", 600))
		},
		Transport:  proxy.NewTransport(proxy.TransportOptions{RootCAs: roots}),
		BufferPool: poolOf{&buffers},
	}, logs.Log{Events: zerolog.Nop()}, "bare")
	panic(server.Serve(l))
}

type poolOf struct{ *sync.Pool }

func (p poolOf) Get() []byte { return p.Pool.Get().(*[32 << 10]byte)[:] }

func (p poolOf) Put(b []byte) { p.Pool.Put((*[32 << 10]byte)(b)) }
