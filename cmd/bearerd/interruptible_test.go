package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/output"
)

// stuckWriter is one whose reader stands still, until it is let go.
type stuckWriter struct {
	asked chan struct{} // holds one
	open  chan struct{}
	bearerdtest.Output
}

func newStuckWriter() *stuckWriter {
	return &stuckWriter{asked: make(chan struct{}, 1), open: make(chan struct{})}
}

func (s *stuckWriter) Write(p []byte) (int, error) {
	select {
	case s.asked <- struct{}{}:
	default:
	}
	<-s.open
	return s.Output.Write(p)
}

// A command waits for its reader, as any does; and as with any, a signal ends
// that.
func TestCommandsWaitForTheirReader(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"access_token":"abcdefghijklmnop","expires_in":60,"token_type":"Bearer"}`)
	}))
	defer server.Close()
	env := []string{
		"BEARERD_PRESET=vyopta", "BEARERD_TOKEN_URL=" + server.URL, "BEARERD_UPSTREAM=" + server.URL,
		"BEARERD_USERNAME=me", "BEARERD_PASSWORD=secret-one",
	}
	for _, test := range []struct {
		args []string
		err  bool // it writes to standard error
		code int
		want string
	}{
		{[]string{"help"}, false, exitOK, "BEARERD_UPSTREAM"},
		{[]string{"version"}, false, exitOK, "bearerd "},
		{[]string{"check"}, false, exitOK, "BEARERD_UPSTREAM"},
		{[]string{"check", "-json"}, false, exitOK, "healthy"},
		{[]string{"nothing"}, true, exitUsage, "unknown command"},
		{[]string{"healthcheck", "-x"}, true, exitFailed, "not defined"},
		{[]string{"check", "-preset", "x"}, true, exitConfig, "BEARERD_PRESET"},
	} {
		for _, interrupt := range []bool{false, true} {
			stuck, other := newStuckWriter(), io.Writer(new(bearerdtest.Output))
			out, err := io.Writer(stuck), other
			if test.err {
				out, err = other, stuck
			}
			signals, code := make(chan os.Signal, 1), make(chan int, 1)
			go func() { code <- run(test.args, env, signals, out, err) }()
			select {
			case <-stuck.asked:
			case c := <-code:
				t.Fatalf("bearerd %q: ended with %d, and wrote nothing", test.args, c)
			}
			select {
			case c := <-code:
				t.Errorf("bearerd %q: ended with %d before its output was read", test.args, c)
			default:
			}
			if interrupt {
				signals <- syscall.SIGTERM
			} else {
				close(stuck.open)
			}
			select {
			case c := <-code:
				if interrupt && c == exitOK || !interrupt && c != test.code {
					t.Errorf("bearerd %q: exit code %d, interrupted: %v", test.args, c, interrupt)
				}
			case <-time.After(bearerdtest.Soon):
				t.Fatalf("bearerd %q goes on, interrupted: %v", test.args, interrupt)
			}
			if !interrupt && !strings.Contains(stuck.String(), test.want) {
				t.Errorf("bearerd %q: got %q, want %q in it", test.args, stuck.String(), test.want)
			}
			if interrupt {
				close(stuck.open)
			}
		}
	}
}

// Bad settings, with nobody to tell: a service ends all the same.
func TestServeDoesNotWaitToSayThatSettingsAreBad(t *testing.T) {
	t.Parallel()
	stuck := newStuckWriter()
	defer close(stuck.open)
	bearerdtest.Within(t, 10*output.FlushPatience, func() {
		began := time.Now()
		if code := run(nil, nil, nil, io.Discard, stuck); code != exitConfig {
			t.Errorf("exit code: got %d, want %d", code, exitConfig)
		}
		if d := time.Since(began); d < output.FlushPatience {
			t.Errorf("it took %v, want %v", d, output.FlushPatience)
		}
	})
}

// The demo goes on, and ends, whoever looks.
func TestDemoThatNobodyReads(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"demo"}, {"demo", "-faults"}} {
		stuck := newStuckWriter()
		signals, code := make(chan os.Signal, 1), make(chan int, 1)
		go func() { code <- run(args, nil, signals, stuck, io.Discard) }()
		<-stuck.asked
		signals <- os.Interrupt
		select {
		case c := <-code:
			if c != exitOK {
				t.Errorf("bearerd %q: exit code %d, want 0", args, c)
			}
		case <-time.After(bearerdtest.Soon):
			t.Fatalf("bearerd %q goes on", args)
		}
		close(stuck.open)
	}
}
