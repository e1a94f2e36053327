package main

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"text/template"
	"time"
)

// rivals are the configurations of the others: the best that their users would
// write for bearerd's work, with a token that does not end.
//
//go:embed rivals
var rivals embed.FS

// program is one that is compared.
type program struct {
	name, path, config string
	args               func(config string) []string
}

func findPrograms(bearerd string) ([]program, error) {
	all := []program{
		{"nginx", "nginx", "nginx.conf", func(c string) []string { return []string{"-g", "daemon off;", "-c", c} }},
		{"HAProxy", "haproxy", "haproxy.cfg", func(c string) []string { return []string{"-db", "-f", c} }},
		{"Caddy", "caddy", "Caddyfile", func(c string) []string { return []string{"run", "--adapter", "caddyfile", "--config", c} }},
	}
	for i, p := range all {
		path, err := exec.LookPath(p.path)
		if err != nil && p.path == "nginx" {
			path, err = exec.LookPath("/usr/sbin/nginx")
		}
		if err != nil {
			return nil, fmt.Errorf("%w; .ci/run compare gets it", err)
		}
		all[i].path = path
	}
	return append(all, program{name: "bearerd", path: bearerd}), nil
}

func build(ctx context.Context, dir string) (string, error) {
	path := filepath.Join(dir, "bearerd")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", path, "github.com/bearerd/bearerd/cmd/bearerd")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
}

// running is a program at work.
type running struct {
	cmd    *exec.Cmd
	addr   string
	began  time.Time
	output output
	ended  chan struct{}
	sink   net.PacketConn // of HAProxy's log
}

// output keeps the first of what a program says.
type output struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.buf.Len() < 4<<10 {
		o.buf.Write(p)
	}
	return len(p), nil
}

// token is as long as a JWT of the vendors.
var token = string(bytes.Repeat([]byte("x"), 600))

// start starts p and waits until it listens. Each logs a line a request.
func (p program) start(ctx context.Context, up *upstream, dir string) (*running, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &running{addr: l.Addr().String(), ended: make(chan struct{})}
	_ = l.Close() // somebody else may take the port: then the program says so
	dir, err = os.MkdirTemp(dir, p.name)
	if err != nil {
		return nil, err
	}
	if p.config == "" {
		r.cmd = exec.CommandContext(ctx, p.path)
		r.cmd.Env = append(append(os.Environ(), up.bearerdEnv()...), "BEARERD_LISTEN="+r.addr)
		log, err := os.Create(filepath.Join(dir, "log"))
		if err != nil {
			return nil, err
		}
		defer func() { _ = log.Close() }()
		r.cmd.Stderr = log
	} else {
		text, err := rivals.ReadFile("rivals/" + p.config)
		if err != nil {
			return nil, err
		}
		_, port, _ := net.SplitHostPort(r.addr)
		var config bytes.Buffer
		if err := template.Must(template.New("").Parse(string(text))).Execute(&config, map[string]string{
			"Dir": dir, "Listen": r.addr, "Port": port, "Upstream": up.addr, "CA": up.ca, "Token": token,
		}); err != nil {
			return nil, err
		}
		path := filepath.Join(dir, p.config)
		if err := os.WriteFile(path, config.Bytes(), 0o600); err != nil {
			return nil, err
		}
		if r.sink, err = net.ListenPacket("unixgram", filepath.Join(dir, "log.socket")); err != nil {
			return nil, err
		}
		go drain(r.sink)
		r.cmd = exec.CommandContext(ctx, p.path, p.args(path)...)
		r.cmd.Stdout, r.cmd.Stderr = &r.output, &r.output
	}
	r.began = time.Now()
	if err := r.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { _ = r.cmd.Wait(); close(r.ended) }()
	for {
		if conn, err := net.Dial("tcp", r.addr); err == nil {
			_ = conn.Close()
			return r, nil
		}
		select {
		case <-r.ended:
			return nil, errors.New(r.said())
		case <-time.After(time.Millisecond):
		}
	}
}

func drain(sink net.PacketConn) {
	buf := make([]byte, 64<<10)
	for {
		if _, _, err := sink.ReadFrom(buf); err != nil {
			return
		}
	}
}

func (r *running) stop() {
	_ = r.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-r.ended:
	case <-time.After(3 * time.Second):
		_ = r.cmd.Process.Kill()
		<-r.ended
	}
	if r.sink != nil {
		_ = r.sink.Close()
	}
}

func (r *running) said() string {
	r.output.mu.Lock()
	defer r.output.mu.Unlock()
	return r.output.buf.String()
}

// cpu is the processor time that the program has used.
func (r *running) cpu() time.Duration {
	var all time.Duration
	for _, pid := range family(r.cmd.Process.Pid) {
		s, _ := statOf(pid)
		all += s.cpu
	}
	return all
}

// memory is the sum of a line of /proc/PID/status over its processes.
func (r *running) memory(field string) float64 {
	var all float64
	for _, pid := range family(r.cmd.Process.Pid) {
		all += memoryOf(pid, field)
	}
	return all
}
