package admin

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/bearerd/bearerd/proxy"
	"github.com/bearerd/bearerd/tokens"
)

func withPage(c *calls) http.Handler {
	return Facts{
		Status:  func() tokens.Status { return tokens.Status{LoggedInOnce: true} },
		Hosts:   proxy.NewHosts("proxy.example"),
		LogIn:   func() { c.logIn++ },
		People:  http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "the page "+r.URL.Path) }),
		Metrics: http.NotFoundHandler(),
	}.Handler()
}

var pagePaths = []string{"/", "/page/events", "/page/style.css", "/page/script.js", "/page/icon.svg"}

// The page and all that belongs to it want an allowed Host, wherever they are
// asked from, and no web page of another origin.
func TestThreatPageHostsAndOrigins(t *testing.T) {
	h := withPage(new(calls))
	for _, path := range pagePaths {
		for _, peer := range []string{here, elsewhere} {
			for host, want := range map[string]int{
				"localhost:9180": 200, "127.0.0.1:9180": 200, "proxy.example": 200, "LOCALHOST.": 200,
				"evil.example": 421, "127.evil.example": 421, "localhost.evil.example": 421, "10.244.1.7:9180": 421, "": 421, "0.0.0.0:9180": 421,
			} {
				if got := ask(h, "GET", path, peer, host).Code; got != want {
					t.Errorf("from %s, Host %q: %s: got %d, want %d", peer, host, path, got, want)
				}
			}
		}
		for _, header := range [][]string{
			{"Origin", "http://evil.example"},
			{"Origin", "null"},
			{"Origin", "http://localhost:9180", "Origin", "http://localhost:9180"},
			{"Origin", "https://localhost:9180"},
			{"Origin", "http://localhost:3000"},
			{"Sec-Fetch-Site", "cross-site"},
			{"Sec-Fetch-Site", "same-site"},
			{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "image"},
			{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty"},
			{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "iframe"},
			{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document", "Origin", "http://evil.example"},
		} {
			if w := ask(h, "GET", path, here, "localhost:9180", header...); w.Code != 403 || strings.Contains(w.Body.String(), "the page") {
				t.Errorf("%s with %q: got %d, want 403", path, header, w.Code)
			}
		}
		for _, header := range [][]string{
			{"Sec-Fetch-Site", "none"},
			{"Sec-Fetch-Site", "same-origin", "Origin", "http://localhost:9180"},
		} {
			if got := ask(h, "GET", path, here, "localhost:9180", header...).Code; got != 200 {
				t.Errorf("%s with %q: got %d, want 200", path, header, got)
			}
		}
		// A person may follow a link, to the page alone.
		want := 403
		if path == "/" {
			want = 200
		}
		link := []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}
		if got := ask(h, "GET", path, here, "localhost:9180", link...).Code; got != want {
			t.Errorf("%s by a link: got %d, want %d", path, got, want)
		}
		if got := ask(h, "POST", path, here, "localhost:9180").Code; got != 405 {
			t.Errorf("POST %s: got %d, want 405", path, got)
		}
	}
}

// Without a page there is nothing at its paths.
func TestNoPage(t *testing.T) {
	h := testAdmin(new(calls))
	for _, path := range pagePaths {
		if w := ask(h, "GET", path, here, "localhost:9180"); w.Code != 404 {
			t.Errorf("%s: got %d, want 404", path, w.Code)
		}
	}
	if w := ask(withPage(new(calls)), "GET", "/nothing", here, "localhost:9180"); w.Code != 404 || !strings.Contains(w.Body.String(), `"GET /"`) || strings.Contains(w.Body.String(), "/page/") {
		t.Errorf("got %d %s, want the paths for people named", w.Code, w.Body)
	}
}

// The page's form, in a browser without JavaScript, leads back to the page.
func TestLoginByForm(t *testing.T) {
	var c calls
	h := withPage(&c)
	w := ask(h, "POST", "/login", here, "localhost:9180", "Accept", "text/html,application/xhtml+xml", "Origin", "http://localhost:9180", "Sec-Fetch-Site", "same-origin")
	if w.Code != 303 || w.Header().Get("Location") != "/" || c.logIn != 1 {
		t.Errorf("got %d to %q and %d logins, want 303 to / and one", w.Code, w.Header().Get("Location"), c.logIn)
	}
	if w := ask(h, "POST", "/login", here, "localhost:9180", "Accept", "text/html", "Origin", "http://evil.example"); w.Code != 403 || c.logIn != 1 {
		t.Errorf("another origin's form: got %d and %d logins", w.Code, c.logIn)
	}
}
