package tokens_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/bearerd/bearerd/tokens"
)

// goodManager returns a Manager that holds a token for an hour.
func goodManager(tb testing.TB) *tokens.Manager {
	tb.Helper()
	m := tokens.New(tokens.Options{Login: tokens.Login{
		URL: "https://login.test/token", Grant: "client_credentials",
		Transport: roundTripper(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(
				`{"access_token":"abc","expires_in":3600}`))}, nil
		}),
	}})
	tb.Cleanup(m.Close)
	if _, err := m.Token(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	return m
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestGoodTokenAllocatesNothing(t *testing.T) {
	m := goodManager(t)
	ctx := t.Context()
	var bad int
	allocs := testing.AllocsPerRun(1000, func() {
		if token, err := m.Token(ctx); err != nil || token.Generation != 1 {
			bad++
		}
	})
	if allocs != 0 || bad != 0 {
		t.Errorf("Token allocated %v times a call, %d calls went wrong; want 0, 0", allocs, bad)
	}
}

func BenchmarkToken(b *testing.B) {
	m := goodManager(b)
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.Token(ctx); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTokenParallel(b *testing.B) {
	m := goodManager(b)
	ctx := b.Context()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := m.Token(ctx); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkTimeNow is what BenchmarkToken is to be held against: reading the
// clock is nearly all it does.
func BenchmarkTimeNow(b *testing.B) {
	var now time.Time
	for b.Loop() {
		now = time.Now()
	}
	_ = now
}
