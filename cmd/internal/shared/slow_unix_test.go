//go:build unix

package shared_test

import (
	"context"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/shared"
	"github.com/bearerd/bearerd/tokens"
)

// A credential that was refused is not tried alone because the engine is slow for a
// moment.
func TestRefusedWaitsForTheEngine(t *testing.T) {
	t.Parallel()
	e, login := startEngine(t), &loginServer{answer: refuse}
	var all []*tokens.Manager
	var says []*told
	for range 3 {
		s, out := open(t, "unix://"+e.Socket)
		says = append(says, out)
		all = append(all, member(t, s, login))
		_, _ = all[len(all)-1].Token(context.Background())
	}
	e.settled()
	e.Signal(syscall.SIGSTOP)
	for _, m := range all {
		m.LogInAgain()
	}
	for _, out := range says {
		bearerdtest.Eventually(t, bearerdtest.Soon, "the engine is lost", func() bool { return strings.HasPrefix(out.text(), "lost") })
	}
	time.Sleep(2 * aloneWait) // longer than who was not refused waits
	if got := login.n.Load(); got != 1 {
		t.Errorf("got %d logins while the engine is slow, want 1", got)
	}
	e.Signal(syscall.SIGCONT)
	for _, m := range all {
		bearerdtest.Eventually(t, bearerdtest.Soon, "a second refusal", func() bool { return !m.Status().LoggingIn && m.Status().Rejections == 2 })
	}
	if got := login.n.Load(); got != 2 {
		t.Errorf("got %d logins with the engine back, want 2", got)
	}
}

// A member that waits for another's login does not log in alone because the engine was
// away twice for a moment.
func TestEngineAwayTwice(t *testing.T) {
	t.Parallel()
	e, login := startEngine(t), &loginServer{hold: make(chan struct{})}
	patient := func(o *tokens.Options) { o.Login.Timeout = time.Minute }
	one, _ := open(t, "unix://"+e.Socket)
	m := member(t, one, login, patient)
	m.Start()
	bearerdtest.Eventually(t, bearerdtest.Soon, "a login", func() bool { return login.n.Load() == 1 })
	two, says := open(t, "unix://"+e.Socket)
	waits := member(t, two, login, patient)
	waits.Start()
	losses := func() int { return strings.Count(says.text(), "lost") }
	for range 2 {
		bearerdtest.Eventually(t, bearerdtest.Soon, "a look", func() bool { return says.count("look ok") > 0 })
		looks, before := says.count("lease ok"), losses()
		e.Signal(syscall.SIGSTOP)
		bearerdtest.Eventually(t, bearerdtest.Soon, "a loss", func() bool { return losses() > before })
		e.Signal(syscall.SIGCONT)
		bearerdtest.Eventually(t, bearerdtest.Soon, "another look", func() bool { return says.count("lease ok") > looks })
		time.Sleep(aloneWait) // a time to be alone that began with the first loss is over
	}
	if got, want := says.text(), "lost: it does not answer in time, found, lost"; !strings.HasPrefix(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	close(login.hold)
	has(t, waits, 1)
	if got := login.n.Load(); got != 1 {
		t.Errorf("got %d logins, want the one that was waited for", got)
	}
}

// A lease that the engine gave, and whose answer came too late, is its asker's own:
// the next try has it, for a whole lease's time, and nobody waits for its end.
func TestLeaseWhoseAnswerIsLost(t *testing.T) {
	t.Parallel()
	const timeout, lease = time.Minute, time.Minute + 5*time.Second
	e := startEngine(t)
	forgetful := loseLeaseAnswer(t, e)
	s, says := open(t, "unix://"+forgetful.socket, func(o *shared.Options) { o.LoginTimeout = timeout })
	a, _ := (&tokens.Login{Grant: "password", Password: tokens.Source{Value: passwordText}}).Account()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	_, turn, err := s.Turn(ctx, a, tokens.State{Logins: 1, Rejections: 1}) // who is in no hurry to log in alone
	if err != nil || turn == nil || !turn.Common {
		t.Fatalf("Turn: %+v, %v; %d leases and %d without an answer", turn, err, says.count("lease ok"), says.count("lease timeout"))
	}
	again, lost := forgetful.asked()
	if !lost { // be it in one command, which a busy machine may give its time twice
		t.Error("no answer was lost")
	}
	for _, name := range e.keys() {
		if strings.HasSuffix(name, ":lease") {
			left, err := e.client.PTTL(context.Background(), name).Result()
			if ends := time.Now().Add(left + 10*time.Millisecond); err != nil || ends.Before(again.Add(lease)) {
				t.Errorf("%v: the lease ends %v after it was asked for again, want %v", err, ends.Sub(again), lease)
			}
		}
	}
	turn.End(tokens.State{}, false)
	e.settled()
}

// A forgetfulEngine is an engine on whose way back the first lease is lost.
type forgetfulEngine struct {
	socket string
	mu     sync.Mutex // guards what follows
	last   time.Time  // a lease was asked for
	lost   bool
}

// asked is when a lease was last asked for, and whether an answer was lost.
func (f *forgetfulEngine) asked() (time.Time, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last, f.lost
}

func loseLeaseAnswer(t *testing.T, e *engine) *forgetfulEngine {
	t.Helper()
	f := &forgetfulEngine{socket: e.Socket + ".forgetful"}
	l, err := net.Listen("unix", f.socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("unix", e.Socket)
			if err != nil {
				_ = client.Close()
				return
			}
			go f.relay(server, client, func(text string) bool {
				if strings.Contains(text, ":lease") {
					f.last = time.Now()
				}
				return false
			})
			go f.relay(client, server, func(text string) bool {
				lose := !f.lost && !f.last.IsZero() && strings.HasPrefix(text, "*4\r\n:1\r\n")
				f.lost = f.lost || lose
				return lose
			})
		}
	}()
	return f
}

// relay copies, but what lose says, which it calls with mu held.
func (f *forgetfulEngine) relay(to, from net.Conn, lose func(text string) bool) {
	defer func() { _ = to.Close() }()
	for b := make([]byte, 64<<10); ; {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		f.mu.Lock()
		lost := lose(string(b[:n]))
		f.mu.Unlock()
		if lost {
			continue
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}

const aloneWait = 2 * time.Second // as README says
