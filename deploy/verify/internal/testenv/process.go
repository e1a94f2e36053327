package testenv

import (
	"bytes"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// Process is a running program.
type Process struct {
	Ended <-chan struct{} // closed when it has, and all its output is there

	cmd    *exec.Cmd
	output output
}

type output struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (o *output) Write(text []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(text)
}

// Start runs a program, and keeps what it writes.
func Start(cmd *exec.Cmd) (*Process, error) {
	ended := make(chan struct{})
	p := &Process{Ended: ended, cmd: cmd}
	cmd.Stdout, cmd.Stderr = &p.output, &p.output
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	return p, nil
}

// Text is what it has written so far.
func (p *Process) Text() string {
	p.output.mu.Lock()
	defer p.output.mu.Unlock()
	return p.output.text.String()
}

// Stop sends signal, after grace SIGKILL, and returns the exit code: -1 if a
// signal ended it.
func (p *Process) Stop(signal syscall.Signal, grace time.Duration) int {
	_ = p.cmd.Process.Signal(signal)
	select {
	case <-p.Ended:
	case <-time.After(grace):
		_ = p.cmd.Process.Kill()
		<-p.Ended
	}
	return p.cmd.ProcessState.ExitCode()
}
