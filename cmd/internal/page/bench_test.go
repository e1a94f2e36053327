package page_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/page"
)

// What an open page costs bearerd each second, with some requests between.
func BenchmarkTick(b *testing.B) {
	w := newWorld()
	w.logIn()
	for i := range 300 {
		w.ask(fmt.Sprint("/orgs/", i), 200)
	}
	h := page.New(page.Options{Facts: w.facts, Near: near, Tick: time.Microsecond})
	server := httptest.NewServer(h)
	defer server.Close()
	resp, err := http.Get(server.URL + "/page/events")
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	next := events(resp.Body)
	for b.Loop() {
		for range 10 {
			w.ask("/orgs/42", 200)
		}
		next()
	}
}

// What it costs to make a page.
func BenchmarkPage(b *testing.B) {
	w := newWorld()
	for i := range 300 {
		w.ask(fmt.Sprint("/orgs/", i), 200)
	}
	h := page.New(page.Options{Facts: w.facts, Near: near})
	r := httptest.NewRequest("GET", "/", nil)
	for b.Loop() {
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
}
