package history_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/history"
	"github.com/bearerd/bearerd/proxy"
)

type oneToken struct{}

func (s oneToken) Token(context.Context) (proxy.Token, error) { return s.token(), nil }
func (s oneToken) Before(uint64) (proxy.Token, bool)          { return proxy.Token{}, false }
func (s oneToken) Renew(context.Context, uint64, func() bool) (proxy.Token, error) {
	return s.token(), nil
}

func (s oneToken) token() proxy.Token {
	return proxy.Token{Authorization: "Bearer x", Generation: 1, Came: time.Now().Add(-time.Minute)}
}

type answering struct{}

func (answering) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: 200, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("{}")), ContentLength: 2, Request: r}, nil
}

// What a request costs with the history of the page and without: compare the two
// lines. Nothing but bearerd's own work is in it.
func BenchmarkProxied(b *testing.B) {
	upstream, err := url.Parse("https://api.example")
	if err != nil {
		b.Fatal(err)
	}
	for _, kept := range []bool{false, true} {
		name := "without"
		if kept {
			name = "with"
		}
		b.Run(name, func(b *testing.B) {
			h := history.New(history.Options{})
			handler := proxy.New(proxy.Options{Upstream: upstream, Source: oneToken{}, Transport: answering{}, Done: func(ex *proxy.Exchange) {
				if kept {
					h.Request(ex)
				}
			}})
			r := httptest.NewRequest("GET", "/cpmm/api/v1/orgs/42/metrics/names", nil)
			r.Host = "localhost"
			r.Header.Set("User-Agent", "report/2.1")
			b.ReportAllocs()
			for b.Loop() {
				handler.ServeHTTP(httptest.NewRecorder(), r)
			}
		})
	}
}
