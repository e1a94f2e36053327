package sysproxy_test

import (
	"context"
	"net"
	"net/url"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/sysproxy"
)

func parse(text string) *url.URL {
	u, err := url.Parse(text)
	if err != nil {
		panic(err)
	}
	return u
}

// The system is asked again each minute; a call that hangs holds nobody up, and what
// was known before stays.
func TestAskedBesideTheRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var via atomic.Pointer[url.URL]
		via.Store(parse("http://a:1"))
		hangs := make(chan bool)
		var hang atomic.Bool
		find := func(context.Context, *url.URL) sysproxy.Answer {
			if hang.Load() {
				<-hangs
			}
			return sysproxy.Answer{Proxies: []*url.URL{via.Load()}, Note: "a note"}
		}
		login, upstream := parse("https://login.example/token"), parse("https://api.example")
		w := sysproxy.NewWatch(find, login, upstream)
		w.Start()
		if got := w.Via(parse("https://login.example/other")); got == nil || got.Host != "a:1" || w.Note(upstream) != "a note" {
			t.Errorf("got %v, %q", got, w.Note(upstream))
		}
		if got := w.Via(parse("https://elsewhere.example")); got != nil {
			t.Errorf("for another host: got %v", got)
		}
		via.Store(parse("http://b:2"))
		time.Sleep(61 * time.Second)
		if got := w.Via(login); got.Host != "b:2" {
			t.Errorf("after a minute: got %v", got)
		}
		hang.Store(true)
		time.Sleep(10 * time.Minute)
		if got := w.Via(login); got.Host != "b:2" {
			t.Errorf("while it hangs: got %v", got)
		}
		w.Close()
		close(hangs)
	})
	synctest.Test(t, func(t *testing.T) {
		release := make(chan bool)
		w := sysproxy.NewWatch(func(context.Context, *url.URL) sysproxy.Answer { <-release; return sysproxy.Answer{} }, parse("https://a.example"))
		before := time.Now()
		w.Start()
		if took := time.Since(before); took != 3*time.Second {
			t.Errorf("Start waited for %v, want 3 s", took)
		}
		w.Close()
		close(release)
	})
}

// Of several proxies the first that can be reached is used, and none where the list
// comes to DIRECT.
func TestTheFirstThatCanBeReached(t *testing.T) {
	up, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = up.Close() }()
	down, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = down.Close()
	dead, good := parse("http://"+down.Addr().String()), parse("http://"+up.Addr().String())
	target := parse("https://api.example")
	for _, tt := range []struct {
		all  []*url.URL
		want *url.URL
	}{
		{[]*url.URL{dead, good}, good}, {[]*url.URL{good, dead}, good}, {[]*url.URL{dead, nil}, nil}, {[]*url.URL{nil, good}, nil},
		{[]*url.URL{dead}, dead}, {[]*url.URL{dead, dead}, dead}, {nil, nil},
	} {
		w := sysproxy.NewWatch(func(context.Context, *url.URL) sysproxy.Answer { return sysproxy.Answer{Proxies: tt.all} }, target)
		w.Start()
		if got := w.Via(target); got != tt.want {
			t.Errorf("of %v: got %v, want %v", tt.all, got, tt.want)
		}
		w.Close()
	}
}
