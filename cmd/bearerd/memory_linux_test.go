package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

// BenchmarkMemory tells the peak of resident memory with many requests under
// way at once, for the limits in deploy/kubernetes.
func BenchmarkMemory(b *testing.B) {
	for _, load := range []struct {
		name     string
		requests int // at once, all held by upstream until each has come
		body     int // bytes of each
	}{
		{"64", 64, 0},
		{"512x1MiB", 512, 1 << 20},
		{"4096x1MiB", 4096, 1 << 20},
	} {
		b.Run(load.name, func(b *testing.B) {
			var peak int
			for b.Loop() {
				come := make(chan struct{}, load.requests)
				held := make(chan struct{})
				release := sync.OnceFunc(func() { close(held) })
				w := bearerdtest.NewWorld(b, querysim.Options{}, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
					come <- struct{}{}
					<-held
					bearerdtest.Digest(rw, r)
				}))
				p := w.Serve(b, "BEARERD_LOG_LEVEL=info", patientDial)
				c := bearerdtest.NewClient(b)
				body := bytes.Repeat([]byte("x"), load.body)
				go func() {
					for range load.requests {
						<-come
					}
					release()
				}()
				err := bearerdtest.Many(load.requests, func(int) error {
					resp, err := c.Post(p.URL+bearerdtest.NamesPath, "text/plain", bytes.NewReader(body))
					if err != nil {
						release() // the others would wait for it
						return err
					}
					if resp.StatusCode != http.StatusOK {
						release()
						err = fmt.Errorf("got %s", resp.Status)
					}
					return errors.Join(err, resp.Body.Close())
				})
				if err != nil {
					b.Fatal(bearerdtest.FirstLines(err))
				}
				peak = max(peak, p.Memory("VmHWM"))
			}
			b.ReportMetric(float64(peak)/1024, "peak-MiB")
		})
	}
}
