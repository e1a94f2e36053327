package logs

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/bearerd/bearerd/cmd/internal/assembly"
	"github.com/bearerd/bearerd/proxy"
	"github.com/bearerd/bearerd/tokens"
)

// roundTrip is an http.RoundTripper.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := f(r)
	if resp != nil {
		resp.Request = r // as net/http's does
	}
	return resp, err
}

func replyWith(status int, body string, header ...string) (*http.Response, error) {
	h := http.Header{}
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body))}, nil
}

// daemon is a token manager, the proxy and the state log in a bubble, without a
// socket.
type daemon struct {
	manager *tokens.Manager
	proxy   *proxy.Handler
	out     bytes.Buffer // the log; read it after close
	clients sync.WaitGroup
	codes   map[proxy.Code]int // of all requests; guarded by mu
	mu      sync.Mutex
}

func newDaemon(t *testing.T, wait time.Duration, password tokens.Source, login, upstream roundTrip, change ...func(*tokens.Options)) *daemon {
	t.Helper()
	d := &daemon{codes: make(map[proxy.Code]int)}
	states := &States{Logger: NewLogger(zerolog.SyncWriter(&d.out), false, "info", "json")}
	options := tokens.Options{
		Login: tokens.Login{
			URL: "https://login.example/token", Grant: "password", Transport: login, Timeout: 10 * time.Second,
			Username: tokens.Source{Value: "me"}, Password: password,
		},
		Wait:    wait,
		Observe: states.Login,
	}
	for _, c := range change {
		c(&options)
	}
	d.manager = tokens.New(options)
	states.Status = d.manager.Status
	target, err := url.Parse("https://upstream.example")
	if err != nil {
		t.Fatal(err)
	}
	d.proxy = proxy.New(proxy.Options{
		Upstream: target, Source: assembly.TokenSource{Manager: d.manager}, Transport: upstream, ResponseHeaderTimeout: time.Second,
		Done: func(ex *proxy.Exchange) {
			d.mu.Lock()
			d.codes[ex.Error]++
			d.mu.Unlock()
			states.Request(ex)
		},
	})
	d.manager.Start()
	return d
}

// serve sends a request each period, until the time is over.
func (d *daemon) serve(period, until time.Duration) {
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	for end := time.Now().Add(until); time.Now().Before(end); <-ticker.C {
		r := httptest.NewRequest("GET", "/secret-path?secret-query", nil)
		r.Host = "localhost"
		d.clients.Go(func() { d.proxy.ServeHTTP(httptest.NewRecorder(), r) })
	}
}

func (d *daemon) close() {
	d.clients.Wait()
	d.manager.Close()
}
