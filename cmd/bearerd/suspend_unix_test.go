//go:build unix

package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/logs"
	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

// suspension is a process that does not run for a time, as on a laptop that
// sleeps.
type suspension struct {
	t        *testing.T
	w        *bearerdtest.World
	p        *bearerdtest.Process
	loggedIn atomic.Int64 // when the simulator last issued a token, in Unix nanoseconds

	before querysim.Stats // when it was stopped
	log    int            // length of the log then
	conns  []net.Conn     // of clients that connected meanwhile
}

// lifeWhenSuspended leaves time, before the refresh ahead at 70 % of it, to
// stop the process and later to look at what happened.
const lifeWhenSuspended = 5 * time.Second

// newSuspension starts bearerd before an upstream that answers with the
// Authorization header it got. It returns when the first login is under way.
func newSuspension(t *testing.T, life, loginDelay time.Duration) *suspension {
	t.Helper()
	s := &suspension{t: t}
	s.w = bearerdtest.NewWorld(t, querysim.Options{
		Lifetime: life, LoginDelay: loginDelay,
		OnEvent: func(e querysim.Event) {
			if e.Kind == querysim.EventLogin && e.Result == "ok" {
				s.loggedIn.Store(time.Now().UnixNano())
			}
		},
	}, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(rw, r.Header.Get("Authorization"))
	}))
	s.p = s.w.Serve(t, "BEARERD_LOG_LEVEL=info", "BEARERD_ACCESS_LOG=off")
	t.Cleanup(func() { s.p.Signal(syscall.SIGCONT) }) // or its admin listener would not answer
	bearerdtest.Eventually(t, bearerdtest.Soon, "a login", func() bool { return s.w.Sim.Stats().Logins == 1 })
	return s
}

// stop stops the process, and returns when it does not run any more.
func (s *suspension) stop() {
	s.t.Helper()
	s.p.Signal(syscall.SIGSTOP)
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(s.p.Cmd.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
		s.t.Fatalf("stopping bearerd: got %v %v", status, err)
	}
	s.before, s.log = s.w.Sim.Stats(), len(s.p.Text())
}

// connect has n clients connect and send a request, which nobody accepts yet.
func (s *suspension) connect(n int) {
	s.t.Helper()
	for range n {
		s.conns = append(s.conns, s.p.Dial(s.p.URL, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"))
	}
}

// resume lets the process run on, and returns how many of the clients that
// connected meanwhile got which answer: upstream's, or an error's code.
func (s *suspension) resume() map[string]int {
	s.t.Helper()
	s.p.Signal(syscall.SIGCONT)
	answers := make(map[string]int)
	for _, conn := range s.conns {
		_ = conn.SetReadDeadline(time.Now().Add(bearerdtest.Soon))
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			s.t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			s.t.Fatal(err)
		}
		answer := string(body)
		if resp.StatusCode != http.StatusOK {
			answer = fmt.Sprint(resp.StatusCode, " ", resp.Header.Get("Proxy-Status"))
		}
		answers[answer]++
	}
	return answers
}

// expect checks what became of the suspension: so many logins more, a token, no
// 401, and no line of the log but what each login says.
func (s *suspension) expect(logins int) {
	s.t.Helper()
	st := s.w.Sim.Stats()
	if got := st.Logins - s.before.Logins; got != logins || st.LoginsAtOnce != 1 {
		s.t.Errorf("logins after the stop: got %d, %d at once; want %d, one at a time", got, st.LoginsAtOnce, logins)
	}
	if got := st.Unauthorized - s.before.Unauthorized; got != 0 {
		s.t.Errorf("401s after the stop: got %d, want 0", got)
	}
	if got := s.p.Metric("bearerd_ready"); got != 1 {
		s.t.Errorf("bearerd_ready: got %v, want 1", got)
	}
	_, says := bearerdtest.ReadLog(s.t, s.p.Text()[s.log:])
	for _, line := range says {
		if line != "info: "+logs.SayRenewed && line != "info: "+logs.SayLoggedIn {
			s.t.Errorf("the log says %q, want only what each login says", line)
		}
	}
	// One of before the stop may come late.
	if most := st.LoginsOK - s.before.LoginsOK + 1; len(says) > most {
		s.t.Errorf("lines of the log after the stop: got %d, want %d at most", len(says), most)
	}
}

// tokenOf is the answer of upstream to the next request.
func (s *suspension) tokenOf() string {
	s.t.Helper()
	status, _, answer := bearerdtest.Fetch(s.t, bearerdtest.NewClient(s.t), s.p.URL+"/")
	if status != http.StatusOK {
		s.t.Fatalf("got %d %q, want 200", status, answer)
	}
	return answer
}

// untilOver waits until the simulator refuses a token.
func (s *suspension) untilOver(authorization string) {
	s.t.Helper()
	bearerdtest.Eventually(s.t, 3*lifeWhenSuspended, "the token is over", func() bool {
		req, err := http.NewRequest(http.MethodGet, s.w.Query.URL, nil)
		if err != nil {
			s.t.Fatal(err)
		}
		req.Header.Set("Authorization", authorization)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			s.t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusUnauthorized
	})
	s.before.Unauthorized = s.w.Sim.Stats().Unauthorized
}

func TestFaultSuspendedPastExpiry(t *testing.T) {
	t.Parallel()
	s := newSuspension(t, lifeWhenSuspended, 0)
	old := s.tokenOf()
	s.stop()
	s.untilOver(old)
	const clients = 50
	s.connect(clients)
	answers := s.resume()
	s.expect(1)
	if next := s.tokenOf(); next == old || answers[next] != clients {
		t.Errorf("got %d answers and %d with the token of the one login, want %d", len(answers), answers[next], clients)
	}
}

// The refresh ahead that became due is made, and the old token is good until
// then.
func TestFaultSuspendedPastTheRefreshPoint(t *testing.T) {
	t.Parallel()
	const life = 3 * lifeWhenSuspended // of which a busy machine takes a part after the refresh point
	s := newSuspension(t, life, 0)
	old := s.tokenOf()
	var due time.Time
	bearerdtest.Eventually(t, bearerdtest.Soon, "a refresh ahead is planned", func() bool {
		seconds := s.p.Metric("bearerd_next_login_timestamp_seconds")
		due = time.UnixMilli(int64(1000 * seconds))
		return seconds > 0
	})
	s.stop()
	bearerdtest.Eventually(t, life, "the refresh is due", func() bool { return time.Now().After(due) })
	const clients = 50
	s.connect(clients)
	answers := s.resume()
	bearerdtest.Eventually(t, bearerdtest.Soon, "the refresh ahead", func() bool { return s.tokenOf() != old })
	s.expect(1)
	if got := answers[old] + answers[s.tokenOf()]; got != clients {
		t.Errorf("got %d answers with the old token or the next, want %d", got, clients)
	}
}

// The login that was under way is the one that all wait for.
func TestFaultSuspendedInALogin(t *testing.T) {
	t.Parallel()
	s := newSuspension(t, time.Minute, time.Second) // its token outlasts a busy machine's stop
	s.stop()
	bearerdtest.Eventually(t, bearerdtest.Soon, "the login server has answered", func() bool { return s.w.Sim.Stats().LoginsOK == 1 })
	const clients = 50
	s.connect(clients)
	answers := s.resume()
	s.expect(0)
	if answers[s.tokenOf()] != clients {
		t.Errorf("got %d answers, want %d with the token of the login", len(answers), clients)
	}
}

// What a login brings that is over by then is no token, but the next one is a
// second away.
func TestFaultSuspendedInALoginPastExpiry(t *testing.T) {
	t.Parallel()
	s := newSuspension(t, lifeWhenSuspended, time.Second)
	s.stop()
	bearerdtest.Eventually(t, 3*lifeWhenSuspended, "the token of the login is over", func() bool {
		at := s.loggedIn.Load()
		return at != 0 && time.Since(time.Unix(0, at)) > lifeWhenSuspended
	})
	const clients = 50
	s.connect(clients)
	answers := s.resume()
	failed := answers[`503 bearerd; error=destination_unavailable; details="login_unavailable"`]
	if len(answers) != 1 || failed != clients {
		t.Errorf("got %v, want login_unavailable for all %d", answers, clients)
	}
	bearerdtest.Eventually(t, 3*lifeWhenSuspended, "a token, which nobody asks for", func() bool { return s.p.Metric("bearerd_ready") == 1 })
	s.tokenOf()
	if got := s.w.Sim.Stats(); got.Logins != 2 || got.LoginsAtOnce != 1 || got.Unauthorized != 0 {
		t.Errorf("got %d logins, %d at once, and %d 401s; want 2, 1 and 0", got.Logins, got.LoginsAtOnce, got.Unauthorized)
	}
}
