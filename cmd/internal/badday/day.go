package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

// band is the time that a fault took.
type band struct {
	event
	from   time.Duration
	over   time.Duration // mended by whoever caused it
	healed time.Duration // bearerd can work again; not before over
}

// day is one run.
type day struct {
	schedule schedule
	services *services
	load     *load
	upstream server
	login    server
	launch   launch
	mount    secretMount

	start     time.Time
	instances []*instance     // in order of their start; the last one serves
	asked     []time.Duration // when a person had bearerd log in
	rotated   []time.Duration // when the password file had changed

	mu    sync.Mutex // guards bands
	bands []band

	lag time.Duration // the most that a timer was late

	base  usage // of the first instance, before anything was asked of it
	peak  usage // the most at the moment of any event
	final usage // of the last instance, when nothing was asked of it any more
}

func (d *day) now() time.Duration { return time.Since(d.start) }

// run lives through a schedule. dir is for its files and logs for bearerd's. The error is one of
// the run itself: what bearerd did wrong is for the referee.
func run(ctx context.Context, s schedule, program, dir, logs string, say func(string)) (*day, error) {
	d := &day{schedule: s, start: time.Now()}
	var err error
	if d.services, err = newServices(s.lifetime, d.now); err != nil {
		return nil, err
	}
	d.login.handler = http.HandlerFunc(d.services.serveLogin)
	d.upstream.handler = d.services.upstream(s.rate)
	for _, server := range []*server{&d.login, &d.upstream} {
		if err := server.up(); err != nil {
			return nil, err
		}
		defer server.down()
	}
	if d.mount, err = newSecretMount(filepath.Join(dir, "secret"), querysim.Password); err != nil {
		return nil, err
	}
	data, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer func() { _ = data.Close() }()
	d.launch = launch{
		program:  program,
		data:     data.(*net.TCPListener),
		login:    d.login.url() + querysim.Vendors()[0].LoginPath,
		upstream: d.upstream.url(),
		password: d.mount.file(),
		schedule: s,
		logs:     logs,
		now:      d.now,
	}
	defer func() {
		for _, i := range d.instances {
			if i.ended == 0 {
				i.kill()
			}
		}
	}()
	first, err := d.begin()
	if err != nil {
		return nil, err
	}
	if d.base, err = first.usage(); err != nil {
		return nil, err
	}

	d.load = newLoad("http://"+data.Addr().String(), d.now)
	loadCtx, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { d.load.run(loadCtx) })
	wg.Go(func() { d.watch(loadCtx) })
	err = d.live(ctx, say)
	stop()
	wg.Wait()
	if err != nil {
		return nil, err
	}
	return d, d.rest()
}

// watch notes how late the machine is.
func (d *day) watch(ctx context.Context) {
	const every = 20 * time.Millisecond
	for next := d.now() + every; d.until(ctx, next) == nil; next = d.now() + every {
		d.lag = max(d.lag, d.now()-next)
	}
}

// begin starts one more instance and waits until it is ready.
func (d *day) begin() (*instance, error) {
	i, err := d.launch.start(len(d.instances) + 1)
	if err != nil {
		return nil, err
	}
	d.instances = append(d.instances, i)
	return i, i.ready(20 * time.Second)
}

func (d *day) current() *instance { return d.instances[len(d.instances)-1] }

// live makes the events happen. Rolling restarts go on beside what follows.
func (d *day) live(ctx context.Context, say func(string)) error {
	begun := d.now()
	var wg sync.WaitGroup
	defer wg.Wait()
	var stopped error // of the restarts' ends; read after wg.Wait
	for _, e := range d.schedule.events {
		if err := d.until(ctx, begun+e.at); err != nil {
			return err
		}
		say(fmt.Sprintf("%4.0f s  %s", d.now().Seconds(), e.label()))
		u, err := d.current().usage()
		if err != nil {
			return err
		}
		d.peak.memory, d.peak.goroutines = max(d.peak.memory, u.memory), max(d.peak.goroutines, u.goroutines)
		b := band{event: e, from: d.now()}
		if e.kind == rolling {
			old, err := d.roll()
			if err != nil {
				return err
			}
			wg.Go(func() {
				err := old.exit(d.schedule.drain + d.schedule.grace + 10*time.Second)
				d.mu.Lock()
				defer d.mu.Unlock()
				stopped = errors.Join(stopped, err)
				old.ended = d.now()
				b.over = d.now()
				d.bands = append(d.bands, b)
			})
			continue
		}
		if err := d.happen(ctx, e); err != nil {
			return fmt.Errorf("%s: %w", e.label(), err)
		}
		b.over = d.now()
		if e.kind == revocation {
			b.from = b.over // it waited for its moment
		}
		d.mu.Lock()
		d.bands = append(d.bands, b)
		d.mu.Unlock()
	}
	err := d.until(ctx, begun+d.schedule.length)
	wg.Wait()
	return errors.Join(err, stopped)
}

// until waits for a moment of the day.
func (d *day) until(ctx context.Context, moment time.Duration) error {
	select {
	case <-time.After(moment - d.now()):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// happen has e happen, and returns when it is over.
func (d *day) happen(ctx context.Context, e event) error {
	lasts := func() error { return d.until(ctx, d.now()+e.lasts) }
	switch e.kind {
	case revocation:
		for deadline := d.now() + 2*time.Second; !d.services.settled() && d.now() < deadline; {
			if err := d.until(ctx, d.now()+10*time.Millisecond); err != nil {
				return err
			}
		}
		d.services.revoke()
	case outage, throttling:
		if err := d.services.setLoginFault(e.fault); err != nil {
			return err
		}
		if err := lasts(); err != nil {
			return err
		}
		return d.services.setLoginFault("")
	case rotation:
		password := fmt.Sprintf("another-password-%d", len(d.rotated))
		d.services.sim.SetPassword(password)
		if e.revokes {
			d.services.revoke()
		}
		if err := lasts(); err != nil {
			return err
		}
		d.rotated = append(d.rotated, d.now())
		return d.mount.swap(password)
	case lock:
		// Two wrong passwords within a second lock the account.
		for range 2 {
			if err := d.services.misdial(d.launch.login); err != nil {
				return err
			}
		}
		if err := lasts(); err != nil || !e.unlocked {
			return err
		}
		if err := d.services.unlock(); err != nil {
			return err
		}
		d.asked = append(d.asked, d.now())
		return d.current().logIn()
	case upstreamRestart:
		d.upstream.down()
		if err := lasts(); err != nil {
			return err
		}
		return d.upstream.up()
	}
	return nil
}

// roll starts another instance beside the one that serves, and tells that one
// to end.
func (d *day) roll() (old *instance, err error) {
	old = d.current()
	if _, err := d.begin(); err != nil {
		return nil, err
	}
	old.told = d.now()
	return old, old.terminate()
}

// rest waits until bearerd is at rest and notes what it takes then.
func (d *day) rest() error {
	// bearerd keeps connections for 30 s; upstream's end ends them.
	d.upstream.down()
	d.login.down()
	last := d.current()
	for deadline := d.now() + 10*time.Second; ; time.Sleep(100 * time.Millisecond) {
		var err error
		if d.final, err = last.usage(); err != nil {
			return err
		}
		if atRest(d.base, d.final) || d.now() > deadline {
			break
		}
	}
	last.told = d.now()
	if err := last.terminate(); err != nil {
		return err
	}
	err := last.exit(d.schedule.drain + d.schedule.grace + 10*time.Second)
	last.ended = d.now()
	return err
}

// secretMount is a folder with one secret, as the kubelet makes it: the file is
// a link through ..data, and a change renames another ..data over that.
type secretMount struct {
	dir string
	n   int
}

func newSecretMount(dir, secret string) (secretMount, error) {
	m := secretMount{dir: dir}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return m, err
	}
	if err := os.Symlink(filepath.Join("..data", "password"), m.file()); err != nil {
		return m, err
	}
	return m, m.swap(secret)
}

func (m *secretMount) file() string { return filepath.Join(m.dir, "password") }

func (m *secretMount) swap(secret string) error {
	m.n++
	name := fmt.Sprintf("..%d", m.n)
	if err := os.Mkdir(filepath.Join(m.dir, name), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(m.dir, name, "password"), []byte(secret), 0o600); err != nil {
		return err
	}
	link := filepath.Join(m.dir, "..data_tmp")
	if err := os.Symlink(name, link); err != nil {
		return err
	}
	return os.Rename(link, filepath.Join(m.dir, "..data"))
}

// atRest tells whether nothing has piled up: the Go runtime gives memory back
// late, and keeps a few goroutines of its own.
func atRest(base, now usage) bool {
	return now.goroutines <= base.goroutines+8 && now.memory <= base.memory+32<<20
}
