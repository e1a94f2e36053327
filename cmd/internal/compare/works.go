package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

// work is what each program does in turn. The less of each figure, the better.
type work struct {
	name, what  string
	figures     []figure
	bearerdOnly bool
	once        bool            // a round is enough
	faults      querysim.Faults // of bearerd's login
	lifetime    time.Duration   // of its tokens; 0: long
	do          func(ctx context.Context, r *running, up *upstream) ([]float64, error)
}

type figure struct{ name, unit string }

var works = []work{
	{name: "start", what: "from exec to the first answer; then at rest", figures: []figure{{"time", "ms"}, {"memory", "MiB"}}, do: start},
	{name: "small", what: "GET of 1.1 KB, 64 connections", figures: cpuAndTail("µs"), do: gets(64, 20000, smallSize)},
	{name: "1000/s", what: "the same, 1,000 a second", figures: cpuAndTail("µs"), do: paced},
	{name: "1 MiB", what: "GET of 1 MiB, 16 connections", figures: cpuAndTail("µs"), do: gets(16, 600, largeSize)},
	{name: "upload", what: "POST of 64 KiB, 16 connections", figures: cpuAndTail("µs"), do: posts(16, 4000, 64<<10)},
	{name: "GiB down", what: "one GET of 1 GiB", figures: giBFigures, do: giBDown, once: true},
	{name: "GiB up", what: "one POST of 1 GiB", figures: giBFigures, do: giBUp, once: true},
	{name: "events", what: "100 streams, each an event every 10 ms", figures: []figure{{"CPU an event", "µs"}, {"p50", "µs"}, {"p99", "µs"}}, do: events},
	{name: "idle 1000", what: "1,000 clients that have had an answer", figures: []figure{{"memory a client", "KiB"}}, do: idle(1000), once: true},
	{name: "idle 5000", what: "5,000 clients that have had an answer", figures: []figure{{"memory a client", "KiB"}}, do: idle(5000), once: true},
	{name: "waiting 2000", what: "2,000 requests that upstream lets wait", figures: []figure{{"memory a request", "KiB"}}, do: held(2000), once: true},
	{name: "herd", what: "5,000 clients that come at once", figures: []figure{{"time", "ms"}, {"failed", "requests"}, {"peak memory", "MiB"}}, do: herd(5000), once: true},
	{name: "renewal", what: "tokens of 4 s by logins of 400 ms, 16 connections", figures: []figure{{"p99.9", "ms"}}, do: tail, bearerdOnly: true, lifetime: 4 * time.Second, faults: querysim.Faults{LoginDelay: 400 * time.Millisecond}},
	{name: "no renewal", what: "the same with one token", figures: []figure{{"p99.9", "ms"}}, do: tail, bearerdOnly: true},
}

func cpuAndTail(unit string) []figure { return []figure{{"CPU a request", unit}, {"p99", "µs"}} }

var giBFigures = []figure{{"CPU", "ms"}, {"growth of peak memory", "MiB"}}

// client is one connection.
type client struct {
	conn net.Conn
	in   *bufio.Reader
}

func dial(r *running) (*client, error) {
	conn, err := net.Dial("tcp", r.addr)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(5 * time.Minute))
	return &client{conn, bufio.NewReaderSize(conn, 16<<10)}, nil
}

func request(method, path string, body int) []byte {
	text := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: localhost\r\n", method, path)
	if body > 0 {
		text += fmt.Sprintf("Content-Length: %d\r\n", body)
	}
	return append([]byte(text+"\r\n"), make([]byte, body)...)
}

// ask sends what is given, and takes the answer, which must be a 200 and as long as
// the path says.
func (c *client) ask(request []byte) error {
	if _, err := c.conn.Write(request); err != nil {
		return err
	}
	_, path, _ := strings.Cut(string(request[:min(len(request), 64)]), " ")
	want := int64(len("ok"))
	if size, ok := strings.CutPrefix(path, "/bytes/"); ok {
		size, _, _ = strings.Cut(size, " ")
		want, _ = strconv.ParseInt(size, 10, 64)
	}
	return c.answer(want)
}

func (c *client) answer(want int64) error {
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return err
	}
	n, err := io.Copy(io.Discard, resp.Body)
	if err == nil && (n != want || resp.StatusCode != http.StatusOK) {
		err = fmt.Errorf("got %s and %d bytes, want %d", resp.Status, n, want)
	}
	return err
}

// each runs f for n clients at once.
func each(n int, f func(i int) error) error {
	errs := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { errs[i] = f(i) })
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// load has clients send request again and again, requests times in all, and
// returns the processor time that it took and how long each waited. Where every
// is not 0, each client begins one so often.
func load(r *running, clients, requests int, every time.Duration, request []byte) (cpu time.Duration, took []time.Duration, err error) {
	all := make([]*client, clients)
	warm := requests / clients / 10
	if err := each(clients, func(i int) (err error) {
		if all[i], err = dial(r); err != nil {
			return err
		}
		for range max(1, warm) {
			if err := all[i].ask(request); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return 0, nil, err
	}
	defer func() {
		for _, c := range all {
			_ = c.conn.Close()
		}
	}()
	took = make([]time.Duration, requests/clients*clients)
	before := r.cpu()
	err = each(clients, func(i int) error {
		mine := took[i*(requests/clients) : (i+1)*(requests/clients)]
		next := time.Now().Add(every * time.Duration(i) / time.Duration(clients))
		for n := range mine {
			if every > 0 {
				time.Sleep(time.Until(next))
				next = next.Add(every)
			}
			began := time.Now()
			if err := all[i].ask(request); err != nil {
				return err
			}
			mine[n] = time.Since(began)
		}
		return nil
	})
	return r.cpu() - before, took, err
}

func quantile(took []time.Duration, q float64) float64 {
	slices.Sort(took)
	return float64(took[min(len(took)-1, int(q*float64(len(took))))]) / float64(time.Microsecond)
}

func perRequest(cpu time.Duration, took []time.Duration, err error) ([]float64, error) {
	if err != nil {
		return nil, err
	}
	return []float64{float64(cpu.Microseconds()) / float64(len(took)), quantile(took, 0.99)}, nil
}

func gets(clients, requests, size int) func(context.Context, *running, *upstream) ([]float64, error) {
	return func(_ context.Context, r *running, _ *upstream) ([]float64, error) {
		return perRequest(load(r, clients, requests, 0, request("GET", "/bytes/"+strconv.Itoa(size), 0)))
	}
}

func posts(clients, requests, size int) func(context.Context, *running, *upstream) ([]float64, error) {
	return func(_ context.Context, r *running, _ *upstream) ([]float64, error) {
		return perRequest(load(r, clients, requests, 0, request("POST", "/", size)))
	}
}

func paced(_ context.Context, r *running, _ *upstream) ([]float64, error) {
	return perRequest(load(r, 10, 5000, 10*time.Millisecond, request("GET", "/bytes/"+strconv.Itoa(smallSize), 0)))
}

func start(_ context.Context, r *running, _ *upstream) ([]float64, error) {
	c, err := dial(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.conn.Close() }()
	if err := c.ask(request("GET", "/", 0)); err != nil {
		return nil, err
	}
	took := time.Since(r.began)
	return []float64{float64(took.Microseconds()) / 1000, r.memory("VmRSS") / (1 << 20)}, nil
}

func giBOf(r *running, request []byte, body io.Reader) ([]float64, error) {
	c, err := dial(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.conn.Close() }()
	if err := c.ask([]byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")); err != nil {
		return nil, err
	}
	cpu, peak := r.cpu(), r.memory("VmHWM")
	if _, err := c.conn.Write(request); err != nil {
		return nil, err
	}
	want := int64(giB)
	if body != nil {
		want = int64(len("ok"))
		if _, err := io.Copy(c.conn, body); err != nil {
			return nil, err
		}
	}
	if err := c.answer(want); err != nil {
		return nil, err
	}
	return []float64{float64((r.cpu() - cpu).Milliseconds()), (r.memory("VmHWM") - peak) / (1 << 20)}, nil
}

func giBDown(_ context.Context, r *running, _ *upstream) ([]float64, error) {
	return giBOf(r, request("GET", "/bytes/"+strconv.Itoa(giB), 0), nil)
}

func giBUp(_ context.Context, r *running, _ *upstream) ([]float64, error) {
	head := fmt.Sprintf("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n", giB)
	return giBOf(r, []byte(head), io.LimitReader(zeros{}, giB))
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func events(_ context.Context, r *running, _ *upstream) ([]float64, error) {
	const streams, perStream = 100, 300
	took := make([]time.Duration, streams*perStream)
	before := r.cpu()
	err := each(streams, func(i int) error {
		c, err := dial(r)
		if err != nil {
			return err
		}
		defer func() { _ = c.conn.Close() }()
		if _, err := c.conn.Write(request("GET", fmt.Sprintf("/events/%d", perStream), 0)); err != nil {
			return err
		}
		resp, err := http.ReadResponse(c.in, nil)
		if err != nil {
			return err
		}
		event := make([]byte, eventSize)
		for n := range perStream {
			if _, err := io.ReadFull(resp.Body, event); err != nil {
				return err
			}
			took[i*perStream+n] = time.Since(time.Unix(0, int64(binary.BigEndian.Uint64(event))))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	cpu := r.cpu() - before
	return []float64{float64(cpu.Microseconds()) / float64(len(took)), quantile(took, 0.5), quantile(took, 0.99)}, nil
}

func idle(clients int) func(context.Context, *running, *upstream) ([]float64, error) {
	return func(_ context.Context, r *running, _ *upstream) ([]float64, error) {
		first, err := dial(r)
		if err != nil {
			return nil, err
		}
		defer func() { _ = first.conn.Close() }()
		get := request("GET", "/bytes/"+strconv.Itoa(smallSize), 0)
		for range 100 {
			if err := first.ask(get); err != nil {
				return nil, err
			}
		}
		before := r.memory("VmRSS")
		var gate = make(chan struct{}, 64)
		all := make([]*client, clients)
		err = each(clients, func(i int) (err error) {
			gate <- struct{}{}
			defer func() { <-gate }()
			if all[i], err = dial(r); err != nil {
				return err
			}
			return all[i].ask(get)
		})
		defer func() {
			for _, c := range all {
				if c != nil {
					_ = c.conn.Close()
				}
			}
		}()
		return []float64{(r.memory("VmRSS") - before) / 1024 / float64(clients)}, err
	}
}

func herd(clients int) func(context.Context, *running, *upstream) ([]float64, error) {
	return func(_ context.Context, r *running, _ *upstream) ([]float64, error) {
		get := request("GET", "/bytes/"+strconv.Itoa(smallSize), 0)
		began := time.Now()
		var failed atomic.Int64
		_ = each(clients, func(int) error {
			c, err := dial(r)
			if err == nil {
				err = c.ask(get)
				_ = c.conn.Close()
			}
			if err != nil {
				failed.Add(1)
			}
			return nil
		})
		return []float64{float64(time.Since(began).Milliseconds()), float64(failed.Load()), r.memory("VmHWM") / (1 << 20)}, nil
	}
}

// tail is for what happens now and then: the answers are of the same load.
func tail(_ context.Context, r *running, _ *upstream) ([]float64, error) {
	_, took, err := load(r, 16, 24000, 8*time.Millisecond, request("GET", "/bytes/"+strconv.Itoa(smallSize), 0))
	if err != nil {
		return nil, err
	}
	return []float64{quantile(took, 0.999) / 1000}, nil
}

func held(clients int) func(context.Context, *running, *upstream) ([]float64, error) {
	return func(ctx context.Context, r *running, up *upstream) ([]float64, error) {
		first, err := dial(r)
		if err != nil {
			return nil, err
		}
		defer func() { _ = first.conn.Close() }()
		for range 100 {
			if err := first.ask(request("GET", "/", 0)); err != nil {
				return nil, err
			}
		}
		before := r.memory("VmRSS")
		err = each(clients, func(int) error {
			c, err := dial(r)
			if err != nil {
				return err
			}
			context.AfterFunc(ctx, func() { _ = c.conn.Close() })
			_, err = c.conn.Write(request("GET", "/hold", 0))
			return err
		})
		for err == nil && up.held.Load() < int64(clients) {
			time.Sleep(10 * time.Millisecond)
			err = ctx.Err()
		}
		return []float64{(r.memory("VmRSS") - before) / 1024 / float64(clients)}, err
	}
}
