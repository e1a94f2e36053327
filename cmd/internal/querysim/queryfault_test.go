package querysim_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

func (r rig) namesRequest(token string) *http.Request {
	r.t.Helper()
	req, err := http.NewRequest("GET", r.query+namesPath, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	return req
}

var queryFaultTests = map[querysim.QueryFault]func(t *testing.T, w wire){
	querysim.QueryUnauthorizedEarly: func(t *testing.T, w wire) { w.checkStatus(t, 401) },
	querysim.QueryUnauthorizedLate:  func(t *testing.T, w wire) { w.checkStatus(t, 401) },
	querysim.QueryStatus:            func(t *testing.T, w wire) { w.checkStatus(t, 500) },
	querysim.QueryReset: func(t *testing.T, w wire) {
		if w.status != 0 || w.err == nil {
			t.Errorf("got %d, %v, want a reset", w.status, w.err)
		}
	},
	querysim.QueryCut: func(t *testing.T, w wire) {
		w.checkStatus(t, 200)
		if !errors.Is(w.err, io.ErrUnexpectedEOF) || w.body == "" {
			t.Errorf("got %q, %v, want a part of the body", w.body, w.err)
		}
	},
	// A first request is answered; its own test tells the rest.
	querysim.QueryStale: func(t *testing.T, w wire) { w.checkStatus(t, 200) },
}

func TestQueryFaults(t *testing.T) {
	for fault := range queryFaultTests {
		if !slices.Contains(querysim.QueryFaults(), fault) {
			t.Errorf("queryFaultTests has %s, which is no fault", fault)
		}
	}
	for _, fault := range querysim.QueryFaults() {
		t.Run(string(fault), func(t *testing.T) {
			check, ok := queryFaultTests[fault]
			if !ok {
				t.Fatal("it has no row in queryFaultTests")
			}
			if fault.Meaning() == "" {
				t.Error("it has no meaning")
			}
			r := newRig(t, querysim.Options{})
			token := r.token()
			for _, text := range []string{token, "another"} {
				r.setFaults(querysim.Faults{Query: fault})
				w := exchange(t, r.namesRequest(text))
				if fault == querysim.QueryStale && text != token {
					w.checkStatus(t, 401)
				} else {
					check(t, w)
				}
			}
			s := r.sim.Stats()
			want := querysim.Stats{Logins: 1, LoginsOK: 1, LoginsAtOnce: 1, Queries: 2, QueriesFaulty: 2}
			switch fault {
			case querysim.QueryUnauthorizedEarly, querysim.QueryUnauthorizedLate:
				want.Unauthorized = 2
			case querysim.QueryStale:
				want.QueriesFaulty, want.Unauthorized = 0, 1
			}
			if s != want {
				t.Errorf("stats: got %+v, want %+v", s, want)
			}
			r.setFaults(querysim.Faults{})
			exchange(t, r.namesRequest(token)).checkStatus(t, 200)
		})
	}
}

// A constant without a row is a fault that nobody can ask for.
func TestEveryFaultHasARow(t *testing.T) {
	text, err := os.ReadFile("faults.go")
	if err != nil {
		t.Fatal(err)
	}
	constants := regexp.MustCompile(`(?m)^\t\w+ +(?:Login|Query)Fault += "(.+)"$`).FindAllStringSubmatch(string(text), -1)
	if got, want := len(constants), len(querysim.LoginFaults())+len(querysim.QueryFaults()); got != want {
		t.Errorf("got %d constants of faults, and %d rows", got, want)
	}
	for _, c := range constants {
		if !slices.Contains(querysim.LoginFaults(), querysim.LoginFault(c[1])) && !slices.Contains(querysim.QueryFaults(), querysim.QueryFault(c[1])) {
			t.Errorf("%s has no row", c[1])
		}
	}
}

func TestQueryFaultNext(t *testing.T) {
	r := newRig(t, querysim.Options{})
	token := r.token()
	r.setFaults(querysim.Faults{Query: querysim.QueryStatus.With("401"), QueryNext: 2})
	for i, want := range []int{401, 401, 200} {
		if got := r.ask(token, "GET", namesPath); got.status != want {
			t.Errorf("request %d: got %d, want %d", i+1, got.status, want)
		}
	}
	if s := r.sim.Stats(); s.Unauthorized != 2 || s.QueriesFaulty != 2 {
		t.Errorf("stats: got %+v", s)
	}
}

// A server says 100 when it begins to read the body.
func TestUnauthorizedBeforeOrAfterTheBody(t *testing.T) {
	for fault, want := range map[querysim.QueryFault][]int{
		querysim.QueryUnauthorizedEarly: {401},
		querysim.QueryUnauthorizedLate:  {100, 401},
	} {
		t.Run(string(fault), func(t *testing.T) {
			r := newRig(t, querysim.Options{})
			r.setFaults(querysim.Faults{Query: fault})
			conn := dial(t, r.query)
			io.WriteString(conn, "POST /cpmm/api/v1/orgs/42/metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
			in := bufio.NewReader(conn)
			for _, status := range want {
				resp, err := http.ReadResponse(in, nil)
				if err != nil {
					t.Fatal(err)
				}
				if resp.StatusCode != status {
					t.Fatalf("got %d, want %d", resp.StatusCode, status)
				}
				if status == 100 {
					io.WriteString(conn, "body")
				} else if _, err := io.Copy(io.Discard, resp.Body); err != nil {
					t.Error(err)
				}
			}
		})
	}
	t.Run("no Expect", func(t *testing.T) {
		r := newRig(t, querysim.Options{})
		r.setFaults(querysim.Faults{Query: querysim.QueryUnauthorizedEarly})
		conn := dial(t, r.query)
		io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n") // and no body
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != 401 || !resp.Close {
			t.Errorf("got %d, close %v, %v, want a whole 401 and a close", resp.StatusCode, resp.Close, err)
		}
	})
}

func TestStaleConnections(t *testing.T) {
	r := newRig(t, querysim.Options{})
	req := r.namesRequest(r.token())
	r.setFaults(querysim.Faults{Query: querysim.QueryStale, QueryNext: 2})
	for range 2 {
		conn := dial(t, r.query)
		in := bufio.NewReader(conn)
		if err := req.Write(conn); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(in, req)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != 200 || resp.Close {
			t.Fatalf("first request: got %d, close %v, %v, want 200 and a connection kept", resp.StatusCode, resp.Close, err)
		}
		if err := req.Write(conn); err != nil {
			t.Fatal(err)
		}
		if rest, err := io.ReadAll(in); err != nil || len(rest) > 0 {
			t.Errorf("second request: got %q, %v, want the end of the connection", rest, err)
		}
	}
	if f := r.sim.Faults(); f != (querysim.Faults{}) {
		t.Errorf("after two connections: got %+v, want none", f)
	}
	if s := r.sim.Stats(); s.Queries != 4 || s.QueriesFaulty != 2 {
		t.Errorf("stats: got %+v", s)
	}
}

// The faults meet what is behind RequireToken, too, and never reach it.
func TestQueryFaultsGuardAnotherHandler(t *testing.T) {
	r := newRig(t, querysim.Options{})
	reached := 0
	r.query = newServer(t, r.sim.RequireToken(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached++ })))
	token := r.token()
	for _, fault := range querysim.QueryFaults() {
		if fault != querysim.QueryStale {
			r.setFaults(querysim.Faults{Query: fault})
			exchange(t, r.namesRequest(token))
		}
	}
	if reached != 0 {
		t.Errorf("reached %d times, want never", reached)
	}
}

// Over both protocols these faults end the connection, as they say, where the
// server tells of it, and over HTTP/2 the stream where it does not.
func TestConnectionFaultsOverTLS(t *testing.T) {
	for _, told := range []bool{true, false} {
		for _, h2 := range []bool{true, false} {
			for _, fault := range []querysim.QueryFault{querysim.QueryReset, querysim.QueryStale} {
				t.Run(fmt.Sprint(told, h2, fault), func(t *testing.T) {
					r := newRig(t, querysim.Options{})
					token := r.token()
					r.setFaults(querysim.Faults{Query: fault})
					srv := httptest.NewUnstartedServer(r.sim.QueryHandler())
					srv.EnableHTTP2 = h2
					if told {
						srv.Config.ConnContext = querysim.ConnContext
					}
					conns := 0
					srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
						if s == http.StateNew {
							conns++
						}
					}
					srv.StartTLS()
					t.Cleanup(srv.Close)
					tr := srv.Client().Transport.(*http.Transport)
					ask := func() error {
						req, err := http.NewRequest("POST", srv.URL+namesPath, strings.NewReader("x"))
						if err != nil {
							t.Fatal(err)
						}
						req.Header.Set("Authorization", "Bearer "+token)
						resp, err := tr.RoundTrip(req)
						if err != nil {
							return err
						}
						_, _ = io.Copy(io.Discard, resp.Body)
						return resp.Body.Close()
					}
					if fault == querysim.QueryStale {
						if err := ask(); err != nil {
							t.Fatal(err)
						}
					}
					if ask() == nil {
						t.Error("got an answer, want none")
					}
					r.setFaults(querysim.Faults{})
					if err := ask(); err != nil {
						t.Fatal(err)
					}
					want := 2
					if h2 && !told {
						want = 1
					}
					if conns != want {
						t.Errorf("got %d connections, want %d", conns, want)
					}
				})
			}
		}
	}
}

func TestQueryDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim, err := querysim.New(querysim.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := sim.SetFaults(querysim.Faults{QueryDelay: time.Minute}); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		w := httptest.NewRecorder()
		sim.QueryHandler().ServeHTTP(w, httptest.NewRequest("GET", namesPath, nil))
		if got := time.Since(start); got != time.Minute || w.Code != 401 {
			t.Errorf("got %d after %v, want 401 after 1m", w.Code, got)
		}
	})
}
