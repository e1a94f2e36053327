package interop_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// smuggled is what the bodies say, in case somebody takes them for requests.
const smuggled = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"

// rawUpstream is an HTTP/1.1 server on bare TCP. Its connections go on after a
// 401, with the body unread, as those of net/http's own server do not.
type rawUpstream struct {
	url     string
	login   *loginServer
	patient bool // it takes a body, and asks for one, before it answers 401

	mu     sync.Mutex // guards reused
	reused int        // requests on connections that had a 401 before
}

func newRawUpstream(t *testing.T, login *loginServer, patient bool) *rawUpstream {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := &rawUpstream{url: "http://" + listener.Addr().String(), login: login, patient: patient}
	serveConnections(t, listener, func(conn net.Conn) { u.serve(t, conn) })
	return u
}

// serveConnections serves until the test has ended, and the clients with it.
func serveConnections(t *testing.T, listener net.Listener, serve func(net.Conn)) {
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				serve(conn)
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		serving.Wait()
	})
}

func (u *rawUpstream) serve(t *testing.T, conn net.Conn) {
	in := bufio.NewReader(conn)
	for refused := false; ; {
		if _, err := in.Peek(1); err != nil {
			return
		}
		r, err := http.ReadRequest(in)
		if err != nil {
			t.Errorf("upstream got what is no request: %v", err)
			return
		}
		if r.RequestURI != "/api" {
			t.Errorf("upstream got %s %s, want /api", r.Method, r.RequestURI)
		}
		if refused {
			u.mu.Lock()
			u.reused++
			u.mu.Unlock()
		}
		announced := r.Header.Get("Expect") != ""
		good := u.login.admits(t, r.Header["Authorization"])
		if announced && (good || u.patient) {
			_, _ = io.WriteString(conn, "HTTP/1.1 100 Continue\r\n\r\n")
		}
		if good || u.patient {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return // cut off: no request
			}
			if good {
				_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
				continue
			}
		}
		refused = true
		_, _ = io.WriteString(conn, "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer\r\nContent-Length: 7\r\n\r\nrefused")
		if announced && !u.patient {
			// Whether the body follows all the same, this server cannot know.
			if n, _ := io.Copy(io.Discard, in); n > 0 {
				t.Errorf("%d bytes came after a refusal before the body, want the end of the connection", n)
			}
			return
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
	}
}

func TestKeptAfter401(t *testing.T) {
	for _, patient := range []bool{false, true} {
		t.Run(fmt.Sprint("patient ", patient), func(t *testing.T) {
			s := newLogin(t)
			u := newRawUpstream(t, s, patient)
			const always, atTimes = true, false // replayed
			for _, body := range []struct {
				upload
				replayed bool
			}{
				{upload{"none", 0, false}, always},
				{upload{"one byte", 1, false}, always},
				{upload{"held", replayBuffer, false}, always},
				{upload{"announced", replayBuffer + 1, false}, !patient},
				{upload{"announced, large", 3 << 20, false}, !patient},
				{upload{"of unknown length", replayBuffer / 2, true}, always},
				{upload{"of unknown length, too large", 3 << 20, true}, atTimes},
			} {
				text := strings.Repeat(smuggled, body.size/len(smuggled)+1)[:body.size]
				p := start(t, s.env(u.url, fmt.Sprint("BEARERD_REPLAY_BUFFER=", replayBuffer))...)
				for range atOnce {
					wantEcho(t, p.url+"/api", "warm")
					s.revoke()
					wantReplay(t, p.url+"/api", body.upload, text, body.replayed)
					wantEcho(t, p.url+"/api", "after")
					if resp, _ := fetch(t, "GET", p.url+"/api", nil); resp.StatusCode != 200 {
						t.Errorf("%s: got %d after it, want 200", body.name, resp.StatusCode)
					}
				}
			}
			u.mu.Lock()
			defer u.mu.Unlock()
			if u.reused == 0 {
				t.Error("no connection was used again after a 401")
			}
			t.Logf("%d requests on connections that had a 401 before", u.reused)
		})
	}
}
