package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

// BenchmarkCPUPerRequest compares the processor time of bearerd's process for
// a request with that of a bare reverse proxy: keep-alive, TLS upstream, 64
// connections, an answer of 1 KiB; access log, metrics and guard on. The two
// take turns. Run it with -benchtime 10x or more.
func BenchmarkCPUPerRequest(b *testing.B) {
	w := bearerdtest.NewWorld(b, querysim.Options{}, nil)
	answer := bytes.Repeat([]byte("1234567890abcdef"), 64)
	upstream := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		_, _ = rw.Write(answer)
	}))
	upstream.StartTLS()
	b.Cleanup(upstream.Close)
	trusting := bearerdtest.Trusting(b, upstream)
	bearerd := w.Serve(b, "BEARERD_UPSTREAM="+upstream.URL, trusting, "BEARERD_LOG_LEVEL=info")
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	bare := w.StartProgram(b, exec.Command(self), bareUpstream+"="+upstream.URL, trusting)

	const requests, connections = 20000, 64
	c := bearerdtest.NewClient(b)
	load := func(p *bearerdtest.Process) time.Duration {
		before := p.CPU()
		err := bearerdtest.Many(connections, func(int) error {
			for range requests / connections {
				if err := bearerdtest.ExpectStatus(c, p.URL+bearerdtest.NamesPath, 200); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(bearerdtest.FirstLines(err))
		}
		return p.CPU() - before
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
	bearerdtest.Program(b) // the first start would wait for it
	w := bearerdtest.NewWorld(b, querysim.Options{}, nil)
	c := bearerdtest.NewClient(b)
	var took time.Duration
	var resident, n int
	for b.Loop() {
		start := time.Now()
		p := w.Serve(b)
		if err := bearerdtest.ExpectStatus(c, p.URL+bearerdtest.NamesPath, 200); err != nil {
			b.Fatal(err)
		}
		took += time.Since(start)
		n++
		resident = max(resident, p.Memory("VmRSS"))
		p.Stop(syscall.SIGTERM, bearerdtest.AtOnce)
	}
	b.ReportMetric(float64(took.Milliseconds())/float64(n), "start-ms")
	b.ReportMetric(float64(resident)/1024, "rss-MiB")
}
