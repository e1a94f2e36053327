package querysim_test

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
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
	if len(queryFaultTests) != len(querysim.QueryFaults()) {
		t.Errorf("%d tests of %d faults", len(queryFaultTests), len(querysim.QueryFaults()))
	}
	for _, fault := range querysim.QueryFaults() {
		t.Run(string(fault), func(t *testing.T) {
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
					queryFaultTests[fault](t, w)
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

func TestResetOverTLS(t *testing.T) {
	r := newRig(t, querysim.Options{})
	r.setFaults(querysim.Faults{Query: querysim.QueryReset})
	srv := httptest.NewUnstartedServer(r.sim.QueryHandler())
	srv.EnableHTTP2 = true // cannot be hijacked
	srv.StartTLS()
	t.Cleanup(srv.Close)
	for _, h2 := range []bool{true, false} {
		tr := srv.Client().Transport.(*http.Transport).Clone()
		tr.ForceAttemptHTTP2 = h2
		if !h2 {
			tr.TLSClientConfig.NextProtos = []string{"http/1.1"}
		}
		req, err := http.NewRequest("POST", srv.URL, strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := tr.RoundTrip(req); err == nil {
			resp.Body.Close()
			t.Errorf("HTTP/2 %v: got %d, want an error", h2, resp.StatusCode)
		}
		tr.CloseIdleConnections()
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
