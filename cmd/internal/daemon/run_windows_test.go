package daemon

import (
	"io"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/windows/svc"
)

// What the service control manager hears at the end: of what a restart would not
// mend nothing, of anything else the exit code. It starts again what has one.
func TestExitCodeOfTheService(t *testing.T) {
	for code, want := range map[int]uint32{0: 0, 64: 0, 78: 0, 1: 1, 2: 2} {
		m := &machine{name: "none", serve: func(string, <-chan os.Signal, io.Writer) int { return code }}
		own, got := m.Execute(nil, nil, make(chan svc.Status, 1))
		if got != want || own != (want != 0) || m.code != code {
			t.Errorf("%d: got %d, of its own: %v, kept %d; want %d", code, got, own, m.code, want)
		}
	}
}

// A stop that takes long is at work for as long as it takes, and asked for again is
// no second signal, which would end it at once.
func TestServiceIsAtWorkUntilItHasStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const grace = 25 * time.Second
		m := &machine{name: "none", serve: func(_ string, signals <-chan os.Signal, _ io.Writer) int {
			<-signals
			select {
			case <-signals:
				return 1
			case <-time.After(grace):
				return 0
			}
		}}
		asks, tells := make(chan svc.ChangeRequest), make(chan svc.Status, 100)
		code := make(chan uint32)
		go func() {
			_, c := m.Execute(nil, asks, tells)
			code <- c
		}()
		if s := <-tells; s.State != svc.Running || s.Accepts != svc.AcceptStop|svc.AcceptShutdown {
			t.Errorf("got %+v, want that it runs and can be stopped", s)
		}
		began := time.Now()
		asks <- svc.ChangeRequest{Cmd: svc.Stop}
		asks <- svc.ChangeRequest{Cmd: svc.Stop}
		asks <- svc.ChangeRequest{Cmd: svc.Shutdown}
		if c := <-code; c != 0 || time.Since(began) != grace {
			t.Errorf("got %d after %v, want 0 after %v", c, time.Since(began), grace)
		}
		close(tells)
		var checkpoint uint32
		for s := range tells {
			if s.State != svc.StopPending || s.CheckPoint != checkpoint || s.WaitHint < 2000 {
				t.Errorf("got %+v, want a stop at its checkpoint %d", s, checkpoint)
			}
			checkpoint++
		}
		if checkpoint < uint32(grace/time.Second) {
			t.Errorf("told %d times that it is at work, want each second", checkpoint)
		}
	})
}
