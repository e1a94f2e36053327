package bearerdtest

import (
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

// World is what bearerd talks to: a simulator behind two servers.
type World struct {
	Sim   *querysim.Simulator
	Login *httptest.Server
	Query *httptest.Server

	mu     sync.Mutex // guards tokens
	tokens map[string]bool
}

// NewWorld serves the simulator's Query Service or, when it is not nil,
// upstream behind the simulator's token check.
func NewWorld(t testing.TB, o querysim.Options, upstream http.Handler) *World {
	t.Helper()
	sim, err := querysim.New(o)
	if err != nil {
		t.Fatal(err)
	}
	w := &World{Sim: sim, tokens: make(map[string]bool)}
	handler := sim.QueryHandler()
	if upstream != nil {
		handler = sim.RequireToken(upstream)
	}
	w.Login = httptest.NewServer(sim.LoginHandler())
	t.Cleanup(w.Login.Close)
	w.Query = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		w.tokens[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")] = true
		w.mu.Unlock()
		handler.ServeHTTP(rw, r)
	}))
	t.Cleanup(w.Query.Close)
	return w
}

// HoldLogin returns options of a simulator that answers the login of that number
// when answer is called, which a test must do in the end; again does nothing.
func HoldLogin(number int) (o querysim.Options, answer func()) {
	held := make(chan struct{})
	o.OnEvent = func(e querysim.Event) {
		if e.Kind == querysim.EventLogin && e.Serial == number {
			<-held
		}
	}
	return o, sync.OnceFunc(func() { close(held) })
}

// Env is the configuration that points bearerd at w as a vendor's preset.
func (w *World) Env(vendor string) []string {
	for _, v := range querysim.Vendors() {
		if v.Name != vendor {
			continue
		}
		env := []string{
			"BEARERD_PRESET=" + vendor,
			"BEARERD_TOKEN_URL=" + w.Login.URL + v.LoginPath,
			"BEARERD_UPSTREAM=" + w.Query.URL,
		}
		if v.GrantType == "password" {
			return append(env, "BEARERD_USERNAME="+querysim.Username, "BEARERD_PASSWORD="+querysim.Password)
		}
		return append(env, "BEARERD_CLIENT_ID="+v.ClientID, "BEARERD_CLIENT_SECRET="+v.ClientSecret)
	}
	panic("no such vendor: " + vendor)
}

// Start runs bearerd with env at debug level and waits for its listeners. At
// the test's end the process is killed, and all that it wrote and showed is
// searched for secrets.
func (w *World) Start(t testing.TB, env ...string) *Process {
	t.Helper()
	return w.StartProgram(t, Command(t), append([]string{
		"BEARERD_LISTEN=localhost:0", "BEARERD_ADMIN_LISTEN=localhost:0",
		"BEARERD_LOG_LEVEL=debug", "BEARERD_LOG_FORMAT=json",
	}, env...)...)
}

// Serve starts bearerd with the account of Vyopta and changes to that, each a
// NAME=value; without a value the setting is missing.
func (w *World) Serve(t testing.TB, changes ...string) *Process {
	t.Helper()
	return w.Start(t, append(w.Env("vyopta"), changes...)...)
}

// StartProgram runs a program whose first line is a start-up line like
// bearerd's.
func (w *World) StartProgram(t testing.TB, cmd *exec.Cmd, env ...string) *Process {
	t.Helper()
	p := &Process{T: t, Cmd: cmd, Exited: make(chan struct{})}
	p.Cmd.Env = env // os/exec keeps the last of each name
	stderr, err := p.Cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	go func() {
		defer close(p.Exited)
		p.read(stderr, ready)
		_ = p.Cmd.Wait()
	}()
	t.Cleanup(func() {
		shown := p.shown()
		p.Kill()
		w.CheckSecrets(t, p.Text()+shown)
		if strings.Contains(p.Text(), "DATA RACE") {
			t.Error("bearerd has a data race")
		}
		if t.Failed() {
			t.Logf("what bearerd wrote:\n%s", tail(p.Text()))
		}
	})
	select {
	case <-ready:
	case <-p.Exited:
		t.Fatalf("bearerd ended at its start:\n%s", p.Text())
	case <-time.After(20 * time.Second):
		t.Fatal("bearerd did not say that it serves")
	}
	return p
}

// CheckSecrets fails the test when output holds a secret, or a part of a token
// that upstream saw.
func (w *World) CheckSecrets(t testing.TB, output string) {
	secrets := []string{querysim.Username, querysim.Password}
	for _, v := range querysim.Vendors() {
		if v.ClientSecret != "" {
			secrets = append(secrets, v.ClientSecret)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for token := range w.tokens {
		// Any 12 letters of claims and signature would do for a part.
		for segment := range strings.SplitSeq(token, ".") {
			for len(segment) >= 12 {
				secrets = append(secrets, segment[:12])
				segment = segment[12:]
			}
		}
	}
	for _, s := range secrets {
		if strings.Contains(output, s) {
			t.Errorf("the output holds a secret (%d letters of it)", len(s))
			return
		}
	}
}
