package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/longtest"
	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

// Each sends a byte of its header now and then (slowloris), and is closed
// after 10 s all the same.
func TestFaultManySlowHeaderClients(t *testing.T) {
	longtest.Mark(t, "takes 10 s")
	t.Parallel()
	w := bearerdtest.NewWorld(t, querysim.Options{}, http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprint(rw, "ok") }))
	p := w.Serve(t, patientDial)
	l := p.Watch(p.URL + "/")
	before := l.Fds
	err := bearerdtest.Many(500, func(i int) error {
		conn, err := net.Dial("tcp", strings.TrimPrefix(p.URL, "http://"))
		if err != nil {
			return err
		}
		defer conn.Close()
		began := time.Now()
		_ = conn.SetDeadline(began.Add(bearerdtest.Soon))
		closed := make(chan error, 1)
		go func() {
			_, err := io.Copy(io.Discard, conn)
			closed <- err
		}()
		_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case err := <-closed:
				if err != nil && !errors.Is(err, syscall.ECONNRESET) {
					return fmt.Errorf("connection %d: %w, want it closed", i, err)
				}
				if held := time.Since(began); held < 8*time.Second || held > 25*time.Second {
					return fmt.Errorf("connection %d was closed after %v, want 10 s", i, held)
				}
				return nil
			case <-tick.C:
				if held := time.Since(began); i == 0 && held > 5*time.Second && held < 8*time.Second && p.FDs() < before+500 {
					return fmt.Errorf("got %d descriptors after %v, want all connections open", p.FDs(), held)
				}
				_, _ = io.WriteString(conn, "x")
			}
		}
	})
	if err != nil {
		t.Error(bearerdtest.FirstLines(err))
	}
	l.End()
}

// Each takes a little of a large answer at a time: bearerd holds no more of it
// than its buffers.
func TestFaultManySlowReaders(t *testing.T) {
	longtest.Mark(t, "moves 1 GiB")
	const readers, patient, size = 500, 10, 10 << 20
	body := make([]byte, size)
	w := bearerdtest.NewWorld(t, querysim.Options{}, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/large" {
			fmt.Fprint(rw, "ok")
			return
		}
		rw.Header().Set("Content-Length", strconv.Itoa(size))
		_, _ = rw.Write(body)
	}))
	p := w.Serve(t, patientDial)
	l := p.Watch(p.URL + "/")

	var reading sync.WaitGroup // until each has had a part
	reading.Add(readers)
	enough := make(chan struct{}) // closed when the slow time is over
	slow := make(chan error, 1)
	go func() {
		slow <- bearerdtest.Many(readers, func(i int) error {
			began := false
			defer func() {
				if !began {
					reading.Done()
				}
			}()
			dialer := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
				var err error
				return errors.Join(c.Control(func(fd uintptr) {
					err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 16<<10)
				}), err)
			}}
			transport := &http.Transport{DialContext: dialer.DialContext, ReadBufferSize: 1 << 10}
			defer transport.CloseIdleConnections()
			resp, err := (&http.Client{Transport: transport}).Get(p.URL + "/large")
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			part := make([]byte, 1<<10)
			total := 0
			tick := time.NewTicker(200 * time.Millisecond)
			defer tick.Stop()
			for {
				n, err := io.ReadFull(resp.Body, part)
				total += n
				if err != nil {
					return fmt.Errorf("reader %d: %w", i, err)
				}
				if !began {
					began = true
					reading.Done()
				}
				select {
				case <-tick.C:
					continue
				case <-enough:
				}
				break
			}
			if i >= patient {
				return nil // leaves
			}
			rest, err := io.Copy(io.Discard, resp.Body)
			if total += int(rest); err != nil || total != size {
				return fmt.Errorf("reader %d: got %d bytes and %v, want %d", i, total, err, size)
			}
			return nil
		})
	}()
	reading.Wait()
	if got := p.FDs(); got < l.Fds+2*readers {
		t.Errorf("descriptors: got %d, want those of %d clients and as many upstream", got, readers)
	}
	l.Wait(100)
	close(enough)
	if err := <-slow; err != nil {
		t.Error(bearerdtest.FirstLines(err))
	}
	l.End()
}

// Larger than REPLAY_BUFFER, each is announced and then streamed: bearerd holds
// none of them. On a revoked token all is as well after one login more, but for
// a body that had gone before upstream's 401 came, which here it may take more
// than a second for: that client sends it again.
func TestFaultThousandLargeUploads(t *testing.T) {
	longtest.Mark(t, "moves 10 GiB")
	w := bearerdtest.NewWorld(t, querysim.Options{}, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(rw, n)
	}))
	p := w.Serve(t, patientDial)
	l := p.Watch(p.URL + "/")
	c := bearerdtest.NewClient(t)
	const size = 10 << 20
	body := make([]byte, size)
	var again atomic.Int64
	w.Sim.Revoke()
	err := bearerdtest.Many(1000, func(i int) error {
		for attempt := 0; ; attempt++ {
			resp, err := c.Post(p.URL+"/up", "application/octet-stream", bytes.NewReader(body))
			if err != nil {
				return err
			}
			got, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err == nil && resp.StatusCode == 200 && string(got) == strconv.Itoa(size) {
				return nil
			}
			if attempt < 3 && strings.Contains(resp.Header.Get("Proxy-Status"), "reauthenticated_not_replayed") {
				again.Add(1)
				continue
			}
			return fmt.Errorf("upload %d: got %d %.100q %v, want 200 and %d", i, resp.StatusCode, got, err, size)
		}
	})
	if err != nil {
		t.Error(bearerdtest.FirstLines(err))
	}
	c.CloseIdleConnections()
	l.End()
	t.Logf("sent again by their clients: %d", again.Load())
	if got := w.Sim.Stats(); got.Logins != 2 {
		t.Errorf("logins: got %d, want 2", got.Logins)
	}
}
