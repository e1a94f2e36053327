package main

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

// cpu is the processor time that the process has used, user and system.
func (p *process) cpu() time.Duration {
	p.t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	// proc(5): the fields after the name in parentheses, from the third.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	var ticks int64
	for _, field := range fields[11:13] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			p.t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond // USER_HZ is 100
}

// BenchmarkCPUPerRequest compares the processor time of bearerd's process for
// a request with that of a bare reverse proxy: keep-alive, TLS upstream, 64
// connections, an answer of 1 KiB; access log, metrics and guard on. The two
// take turns. Run it with -benchtime 10x or more.
func BenchmarkCPUPerRequest(b *testing.B) {
	w := newWorld(b, querysim.Options{}, nil)
	answer := bytes.Repeat([]byte("1234567890abcdef"), 64)
	upstream := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		_, _ = rw.Write(answer)
	}))
	upstream.StartTLS()
	b.Cleanup(upstream.Close)
	ca := filepath.Join(b.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: upstream.Certificate().Raw}), 0o600); err != nil {
		b.Fatal(err)
	}
	bearerd := w.start(b, append(w.env("vyopta"), "BEARERD_UPSTREAM="+upstream.URL, "BEARERD_CA_FILE="+ca, "BEARERD_LOG_LEVEL=info")...)
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	bare := w.startProgram(b, exec.Command(self), bareUpstream+"="+upstream.URL, "BEARERD_CA_FILE="+ca)

	const requests, connections = 20000, 64
	c := newClient(b)
	load := func(p *process) time.Duration {
		before := p.cpu()
		err := many(connections, func(int) error {
			for range requests / connections {
				if err := expectStatus(c, p.url+namesPath, 200); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(firstLines(err))
		}
		return p.cpu() - before
	}
	load(bare)
	load(bearerd)
	var ours, theirs time.Duration
	n := 0
	for b.Loop() {
		theirs += load(bare)
		ours += load(bearerd)
		n += requests
	}
	b.ReportMetric(float64(ours.Microseconds())/float64(n), "bearerd-cpu-µs/req")
	b.ReportMetric(float64(theirs.Microseconds())/float64(n), "bare-cpu-µs/req")
	b.ReportMetric(float64(ours)/float64(theirs), "ratio")
}

// BenchmarkStart tells the time from exec to the first proxied answer, with a
// login server on this machine, and the resident memory at rest after it.
func BenchmarkStart(b *testing.B) {
	if _, err := program(); err != nil { // the first start would wait for it
		b.Fatal(err)
	}
	w := newWorld(b, querysim.Options{}, nil)
	c := newClient(b)
	var took time.Duration
	var resident, n int
	for b.Loop() {
		start := time.Now()
		p := w.start(b, w.env("vyopta")...)
		if err := expectStatus(c, p.url+namesPath, 200); err != nil {
			b.Fatal(err)
		}
		took += time.Since(start)
		n++
		resident = max(resident, p.memory("VmRSS"))
		p.stop(syscall.SIGTERM, 5*time.Second)
	}
	b.ReportMetric(float64(took.Milliseconds())/float64(n), "start-ms")
	b.ReportMetric(float64(resident)/1024, "rss-MiB")
}
