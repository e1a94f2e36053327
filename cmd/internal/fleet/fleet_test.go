//go:build unix

package fleet_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/logs"
	"github.com/bearerd/bearerd/cmd/internal/querysim"
	"github.com/bearerd/bearerd/cmd/internal/shared"
	"github.com/bearerd/bearerd/tokens"
)

// Its referee goes by the clock, so that it runs alone.
var (
	minute  = flag.Bool("minute", false, "run the form of one minute, on a machine that does nothing else")
	refused = flag.Duration("wrong", 0, "run only what becomes of a wrong password, with as many as -whole has, for so long")
	whole   = flag.String("whole", "", "run all of it, in half an hour, and write the report and its picture to this folder")
)

func TestMain(m *testing.M) { os.Exit(bearerdtest.Run(m)) }

// A row of the report is what one trial found.
type row struct {
	trial  string
	lasts  time.Duration
	logins int
	most   int // that are right; more fails the test
	asked  int // requests
	failed int // of these
}

// A report is the rows, in order.
type report struct {
	mu   sync.Mutex // guards rows
	rows []row
}

func (r *report) add(t *testing.T, w row) {
	t.Helper()
	r.mu.Lock()
	r.rows = append(r.rows, w)
	r.mu.Unlock()
	t.Logf("%-60s %8v  %4d logins (at most %d)  %6d requests, %d failed", w.trial, w.lasts.Round(time.Second), w.logins, w.most, w.asked, w.failed)
	if w.logins > w.most || w.failed > 0 {
		t.Errorf("%s: %d logins, at most %d are right; %d requests failed", w.trial, w.logins, w.most, w.failed)
	}
}

func (r *report) write(t *testing.T, folder string) {
	t.Helper()
	var text strings.Builder
	text.WriteString("| trial | lasts | logins | at most | requests | failed |\n|---|---|---|---|---|---|\n")
	for _, w := range r.rows {
		fmt.Fprintf(&text, "| %s | %v | %d | %d | %d | %d |\n", w.trial, w.lasts.Round(time.Second), w.logins, w.most, w.asked, w.failed)
	}
	for name, content := range map[string][]byte{"fleet.md": []byte(text.String()), "fleet.svg": picture(r.rows)} {
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// picture draws the logins of each trial, and what is right at most.
func picture(rows []row) []byte {
	most := 1
	for _, w := range rows {
		most = max(most, w.most)
	}
	const left, wide, high = 430, 360, 26
	var svg bytes.Buffer
	fmt.Fprintf(&svg, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12" role="img" aria-label="Logins of a fleet in each trial">`+"\n", left+wide+60, len(rows)*high+30)
	fmt.Fprintf(&svg, `<rect width="100%%" height="100%%" fill="#fff"/>`+"\n"+`<text x="10" y="16" fill="#333">logins in each trial (dark), and the most that are right (light)</text>`+"\n")
	for i, w := range rows {
		y, scale := 26+i*high, float64(wide)/float64(most)
		fmt.Fprintf(&svg, `<text x="%d" y="%d" text-anchor="end" fill="#333">%s</text>`+"\n", left-8, y+15, w.trial)
		fmt.Fprintf(&svg, `<rect x="%d" y="%d" width="%.1f" height="18" fill="#cfe3f5"/>`+"\n", left, y+2, float64(w.most)*scale)
		fmt.Fprintf(&svg, `<rect x="%d" y="%d" width="%.1f" height="10" fill="#1f6fb2"/>`+"\n", left, y+6, float64(w.logins)*scale)
		fmt.Fprintf(&svg, `<text x="%.1f" y="%d" fill="#333">%d of %d</text>`+"\n", left+float64(w.most)*scale+6, y+15, w.logins, w.most)
	}
	svg.WriteString("</svg>\n")
	return svg.Bytes()
}

func TestFleet(t *testing.T) {
	if !*minute && *whole == "" && *refused == 0 {
		t.Skip("wants -minute, -wrong or -whole, and a machine that does nothing else")
	}
	r, long := &report{}, *whole != "" || *refused > 0
	f, onlyWrong := newTeam(t, r, long), *refused > 0
	if !onlyWrong {
		*refused = 9 * time.Minute // until the stop
		f.works()
	}
	t.Run("meanwhile", func(t *testing.T) { // most of which is waiting
		t.Run("processes", func(t *testing.T) {
			t.Parallel()
			f.isRefused(t)
		})
		t.Run("managers", func(t *testing.T) {
			t.Parallel()
			managers(t, r, long, onlyWrong)
		})
	})
	if *whole != "" {
		r.write(t, *whole)
	}
}

// life is how long the simulator's tokens live.
const life = 5 * time.Second

// cold is how many logins are right at a start that lasted so long: the first, and
// each refresh ahead since, at 70 % of a token's life at the earliest.
func cold(lasted time.Duration) int { return 1 + int(lasted*10/(life*7)) }

// normal is how many are, two a life of a token, while it has worked for so long.
func normal(lasted time.Duration) int { return 2 * (int(lasted/life) + 1) }

// A team is processes that share, and a load on each.
type team struct {
	t             *testing.T
	r             *report
	long          bool
	world         *bearerdtest.World
	redis         *bearerdtest.Redis
	link          *link // between every other one and the engine
	env           []string
	all           []*bearerdtest.Process
	asked, failed atomic.Int64
	last          atomic.Value // of type string: how the last request failed
}

func newTeam(t *testing.T, r *report, long bool) *team {
	n := 20
	if long {
		n = 50
	}
	f := &team{t: t, r: r, long: long, all: make([]*bearerdtest.Process, n), redis: bearerdtest.StartRedis(t)}
	f.world = bearerdtest.NewWorld(t, querysim.Options{Lifetime: life}, nil)
	if err := f.world.Sim.SetFaults(querysim.Faults{BruteForceLock: true}); err != nil {
		t.Fatal(err)
	}
	f.link = newLink(t, f.redis.Socket)
	f.env = append(f.world.Env("vyopta"), "BEARERD_LOG_LEVEL=info")
	return f
}

// trial runs one, of which most says how many logins are right.
func (f *team) trial(t *testing.T, what string, most func(lasted time.Duration) int, run func()) {
	t.Helper()
	before, asked, failed, start := f.world.Sim.Stats().Logins, f.asked.Load(), f.failed.Load(), time.Now()
	run()
	lasted := time.Since(start)
	f.r.add(t, row{fmt.Sprintf("%d processes: %s", len(f.all), what), lasted, f.world.Sim.Stats().Logins - before, most(lasted),
		int(f.asked.Load() - asked), int(f.failed.Load() - failed)})
	if text, _ := f.last.Load().(string); text != "" {
		t.Logf("last failure: %s", text)
		f.last.Store("")
	}
}

// kill ends all, so that none with the password before logs in among the next.
func (f *team) kill() {
	for _, p := range f.all {
		if p != nil {
			p.Kill()
		}
	}
}

// restart has each process start anew, with env.
func (f *team) restart(env []string) {
	f.kill()
	for i := range f.all {
		socket := f.redis.Socket
		if i%2 == 1 {
			socket = f.link.socket
		}
		f.all[i] = f.world.Start(f.t, append(env[:len(env):len(env)], "BEARERD_SHARED=unix://"+socket)...)
	}
}

// works is what becomes of a good password.
func (f *team) works() {
	t, lives, times, n, faults := f.t, 3, 1, len(f.all), []fault{silent}
	if f.long {
		lives, times, faults = 10, 3, []fault{silent, late, cut}
	}
	// Two a life.
	alone := func(lasted time.Duration) int { return normal(lasted) + 2*n }
	// Nobody uses them yet, so that nothing is renewed; the harness starts one at a time.
	f.trial(t, "cold start", cold, func() { f.restart(f.env) })
	ctx, stop := context.WithCancel(context.Background())
	load := f.load(ctx)
	f.trial(t, fmt.Sprintf("%d lives of a token", lives), normal, func() { time.Sleep(time.Duration(lives) * life) })
	for range times {
		f.trial(t, "the engine is killed, and back after 3 s", alone, func() {
			time.Sleep(rand.N(life / 2))
			f.redis.Kill()
			time.Sleep(3 * time.Second)
			f.redis.Start()
			time.Sleep(life)
		})
	}
	f.trial(t, "the engine is silent for 3 s", alone, func() {
		f.redis.Signal(syscall.SIGSTOP)
		time.Sleep(3 * time.Second)
		f.redis.Signal(syscall.SIGCONT)
		time.Sleep(life)
	})
	// Each of the half may log in alone while it is cut off, and once more as it learns.
	half := func(lasted time.Duration) int { return normal(lasted) + 2*(n/2) }
	for _, fault := range faults {
		f.trial(t, "for half the way to the engine "+string(fault)+" for 6 s", half, func() {
			f.link.set(fault)
			time.Sleep(6 * time.Second)
			f.link.set(good)
			f.joined(t)
		})
	}
	f.trial(t, "all have joined again", normal, func() { time.Sleep(time.Duration(times) * life) })
	f.trial(t, "the engine is flushed", func(lasted time.Duration) int { return normal(lasted) + 1 }, func() {
		f.redis.Kill()
		f.redis.Start()
		time.Sleep(life)
	})
	stop()
	load.Wait()
}

// joined waits until all have the engine.
func (f *team) joined(t *testing.T) {
	t.Helper()
	for _, p := range f.all {
		bearerdtest.Eventually(t, bearerdtest.Soon, "all have the engine", func() bool { return p.Metric("bearerd_shared_up") == 1 })
	}
	time.Sleep(life) // until each has renewed what it got alone
}

// tries is how many logins a wrong password is worth within d: after 30, 60, 120 and
// 240 s, and then no more.
func tries(d time.Duration) int {
	n := 1
	for wait := 30 * time.Second; n < 5 && d > wait; wait *= 2 {
		d -= wait
		n++
	}
	return n
}

// isRefused is what becomes of a wrong one.
func (f *team) isRefused(t *testing.T) {
	wait, most, anew, faults := 5*time.Second, 2, 0, []fault{silent} // after 30 s
	if f.long {
		wait, most, faults = *refused, tries(*refused), []fault{silent, late, cut, silent}[:tries(*refused)-1]
	}
	wrong := append(bearerdtest.Without(f.env, "BEARERD_PASSWORD"), "BEARERD_PASSWORD=wrong")
	// One that cannot reach the engine in time, on a machine that is too busy, logs in
	// alone, and says so.
	// Where the test cut it off, that is no excuse: it waits for the engine.
	cuts := 0
	f.kill()
	lost := func() (n int) {
		for i, p := range f.all {
			lost := strings.Count(p.Text(), logs.SaySharedLost)
			if i%2 == 1 {
				lost = max(lost-cuts, 0)
			}
			n += lost
		}
		return n
	}
	f.trial(t, "a wrong password, half without the engine whenever a login is due", func(time.Duration) int { return most + lost() }, func() {
		cuts = 0
		f.restart(wrong)
		begin := time.Now()
		for _, fault := range faults {
			f.halfMisses(t, fault)
			cuts++
		}
		time.Sleep(wait - time.Since(begin))
	})
	before := lost()
	f.trial(t, "a wrong password, all started anew", func(time.Duration) int { return anew + lost() }, func() {
		cuts = 0
		f.restart(wrong)
	})
	if got := f.world.Sim.Stats(); got.Lockouts > 0 && before+lost() == 0 || got.WithoutToken > 0 {
		t.Errorf("%d locks, %d requests without a token", got.Lockouts, got.WithoutToken)
	}
}

// halfMisses has the half fail for the time around the login that is due next.
func (f *team) halfMisses(t *testing.T, with fault) {
	t.Helper()
	var due time.Time
	bearerdtest.Eventually(t, bearerdtest.Soon, "a login is due", func() bool {
		due = time.UnixMilli(int64(1000 * f.all[0].Metric("bearerd_next_login_timestamp_seconds")))
		return time.Until(due) > 2*time.Second
	})
	time.Sleep(time.Until(due) - time.Second)
	f.link.set(with)
	time.Sleep(time.Until(due) + 4*time.Second)
	f.link.set(good)
}

// load asks each process all the time, a little apart, until ctx ends.
func (f *team) load(ctx context.Context) *sync.WaitGroup {
	var wg sync.WaitGroup
	for i, p := range f.all {
		client := bearerdtest.NewClient(f.t)
		wg.Go(func() {
			tick := time.NewTicker(500 * time.Millisecond)
			defer tick.Stop()
			time.Sleep(time.Duration(i) * 10 * time.Millisecond)
			for {
				resp, err := client.Get(p.URL + bearerdtest.NamesPath)
				f.asked.Add(1)
				switch {
				case err != nil:
					f.failed.Add(1)
					f.last.Store(err.Error())
				case resp.StatusCode != 200:
					body, _ := io.ReadAll(resp.Body)
					f.failed.Add(1)
					f.last.Store(resp.Status + " " + string(body))
				}
				if err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
			}
		})
	}
	return &wg
}

// managers has many more in one process, with clocks that are minutes apart.
func managers(t *testing.T, r *report, long, onlyWrong bool) {
	n, stores, lives := 100, 10, 2
	if long {
		n, stores, lives = 500, 50, 10
	}
	for _, wrong := range []bool{false, true} {
		if !wrong && onlyWrong {
			continue
		}
		redis := bearerdtest.StartRedis(t)
		login := &loginServer{wrong: wrong}
		address, err := shared.ParseAddress("unix://" + redis.Socket)
		if err != nil {
			t.Fatal(err)
		}
		var all []*tokens.Manager
		var clocks []tokens.Clock
		var opened []*shared.Store
		var lost atomic.Int64
		var why atomic.Value // of type string
		start := time.Now()
		for i := range stores {
			off := time.Duration(i-stores/2) * time.Minute
			clock := func() (time.Time, time.Duration) { return time.Now().Round(0).Add(off), time.Since(start) }
			clocks = append(clocks, clock)
			opened = append(opened, shared.New(shared.Options{Address: address, LoginTimeout: 10 * time.Second, Clock: clock, Connections: n / stores, Tell: func(up bool, cause error) {
				if !up {
					lost.Add(1)
					why.Store(shared.Words(cause))
				}
			}}))
		}
		for i := range n {
			all = append(all, tokens.New(tokens.Options{
				Store: opened[i%stores], KeepWarm: true, Clock: clocks[i%stores],
				Login: tokens.Login{
					URL: "https://login.test/token", Grant: "password", ClientID: "id",
					Username: tokens.Source{Value: "user"}, Password: tokens.Source{Value: "password"}, Transport: login,
				},
			}))
		}
		var asked, failed atomic.Int64
		ask := func() {
			_ = bearerdtest.Many(n, func(i int) error {
				asked.Add(1)
				if _, err := all[i].Token(context.Background()); err != nil && !wrong {
					failed.Add(1)
				}
				return nil
			})
		}
		begin := time.Now()
		for _, m := range all {
			m.Start()
		}
		ask()
		name := fmt.Sprintf("%d managers, clocks minutes apart: ", n)
		if wrong {
			wait, most := time.Second, 1
			if long {
				wait, most = *refused, tries(*refused)
			}
			time.Sleep(wait)
			ask()
			r.add(t, row{name + "a wrong password", time.Since(begin), int(login.n.Load()), most + int(lost.Load())*n/stores, int(asked.Load()), int(failed.Load())})
		} else {
			lasted := time.Since(begin)
			r.add(t, row{name + "cold start", lasted, int(login.n.Load()), cold(lasted) + int(lost.Load())*n/stores, int(asked.Load()), int(failed.Load())})
			before := login.n.Load()
			asked.Store(0)
			begin = time.Now()
			for time.Since(begin) < time.Duration(lives)*life {
				ask()
				time.Sleep(200 * time.Millisecond)
			}
			lasted = time.Since(begin)
			r.add(t, row{name + fmt.Sprintf("%d lives of a token", lives), lasted, int(login.n.Load() - before), normal(lasted) + int(lost.Load())*n/stores, int(asked.Load()), int(failed.Load())})
		}
		if lost.Load() > 0 {
			t.Logf("%d stores of %d lost the engine for a moment: %v", lost.Load(), stores, why.Load())
		}
		if login.most.Load() > 1 && lost.Load() == 0 {
			t.Errorf("%d logins were under way at a time", login.most.Load())
		}
		for _, m := range all {
			m.Close()
		}
		for _, s := range opened {
			s.Close()
		}
		redis.Kill()
	}
}

// A loginServer counts the logins, and the most that were under way at a time.
type loginServer struct {
	wrong         bool
	n, busy, most atomic.Int32
}

func (s *loginServer) RoundTrip(r *http.Request) (*http.Response, error) {
	s.most.Store(max(s.most.Load(), s.busy.Add(1)))
	defer s.busy.Add(-1)
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return nil, err
	}
	n := s.n.Add(1)
	time.Sleep(50 * time.Millisecond)
	status, body := 200, fmt.Sprintf(`{"access_token":"token-%d","expires_in":%d}`, n, int(life.Seconds()))
	if s.wrong {
		status, body = 401, `{"error":"invalid_grant"}`
	}
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}, nil
}
