package tokens_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/bearerd/bearerd/tokens"
)

// A login server, a Manager that logs in there, and a request that carries the
// token.
func Example() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"access_token":"token-of-%s","expires_in":300,"token_type":"bearer"}`, r.PostFormValue("username"))
	}))
	defer server.Close()

	m := tokens.New(tokens.Options{
		Login: tokens.Login{
			URL:      server.URL,
			Grant:    "password",
			ClientID: "vyopta",
			Username: tokens.Source{Value: "me"},
			Password: tokens.Source{Value: "secret"}, // or File: "/run/secrets/password"
		},
		Observe: func(e tokens.Event) { fmt.Println("login", e.Result()) },
	})
	m.Start()

	token, err := m.Token(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	req, _ := http.NewRequest(http.MethodGet, "https://api.vyopta.com/", nil)
	req.Header.Set("Authorization", "Bearer "+token.Bearer())

	m.Close()
	fmt.Println(req.Header.Get("Authorization"))
	fmt.Println(token, "for", token.Lifetime, "by", token.Rule)
	// Output:
	// login ok
	// Bearer token-of-me
	// token generation 1 for 5m0s by expires_in
}
