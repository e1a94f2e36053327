package logs

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/tokens"
)

// steppedClock is the clock of a machine whose wall clock is set.
type steppedClock struct {
	start time.Time
	steps atomic.Int64 // time.Duration, all together
}

func (c *steppedClock) now() (wall time.Time, elapsed time.Duration) {
	now := time.Now()
	return now.Round(0).Add(time.Duration(c.steps.Load())), now.Sub(c.start)
}

// TestFaultClockSteps sets the wall clock while requests are waiting for
// upstream and others keep coming. Tokens live a minute.
func TestFaultClockSteps(t *testing.T) {
	type step struct {
		at, by time.Duration
	}
	const second, day = time.Second, 24 * time.Hour
	for _, test := range []struct {
		name  string
		steps []step
		until time.Duration
		down  bool // the login server, from 30 s to 80 s; then some requests fail

		logins int
		waits  int // how many of them requests wait for; not counted when down
	}{
		// The first is refreshed ahead after 42 to 51 s.
		{name: "a little forward", steps: []step{{10 * second, second}}, until: 40 * second, logins: 1, waits: 1},
		{name: "a little back", steps: []step{{10 * second, -second}}, until: 40 * second, logins: 1, waits: 1},
		{name: "a little, again and again", steps: []step{
			{5 * second, second}, {10 * second, -2 * second}, {15 * second, 2 * second}, {20 * second, -second},
		}, until: 40 * second, logins: 1, waits: 1},
		{name: "past the refresh point", steps: []step{{10 * second, 45 * second}}, until: 40 * second, logins: 2, waits: 1},
		{name: "past expiry", steps: []step{{10 * second, day}}, until: 50 * second, logins: 2, waits: 2},
		{name: "past expiry and back", steps: []step{{10 * second, day}, {20 * second, -day}}, until: 50 * second, logins: 2, waits: 2},
		{name: "a day back", steps: []step{{10 * second, -day}}, until: 80 * second, logins: 2, waits: 1},
		// From the refresh ahead on logins fail, with 1, 2, 4, 8 and 16 s
		// between, and up to 20 %; one more if the refresh is early.
		{name: "a day forward in a back-off", steps: []step{{65 * second, day}}, until: 120 * second, down: true, logins: 7},
		{name: "a day back in a back-off", steps: []step{{65 * second, -day}}, until: 120 * second, down: true, logins: 7},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				// Requests come each 100 ms. Those that wait for a login go out
				// between.
				const life, period, taking = time.Minute, 100 * time.Millisecond, 250 * time.Millisecond
				start := time.Now()
				clock := &steppedClock{start: start}
				var logins, underWay, stale, waited atomic.Int64
				login := roundTrip(func(*http.Request) (*http.Response, error) {
					if underWay.Add(1) != 1 {
						t.Error("two logins at once")
					}
					defer underWay.Add(-1)
					n := logins.Add(1)
					wall, elapsed := clock.now()
					time.Sleep(taking)
					if test.down && 30*second < elapsed && elapsed < 80*second {
						return replyWith(503, "down")
					}
					return replyWith(200, fmt.Sprintf(`{"access_token":"%d-%d-%d","expires_in":%d}`,
						n, wall.UnixNano(), elapsed, life/second))
				})
				upstream := roundTrip(func(r *http.Request) (*http.Response, error) {
					var n, issuedWall, issued int64
					wall, elapsed := clock.now()
					if _, err := fmt.Sscanf(r.Header.Get("Authorization"), "Bearer %d-%d-%d", &n, &issuedWall, &issued); err != nil {
						t.Error(err)
					}
					if wall.UnixNano()-issuedWall >= int64(life) || int64(elapsed)-issued >= int64(life) {
						stale.Add(1)
					}
					if elapsed%period != 0 {
						waited.Add(1)
					}
					time.Sleep(taking)
					return replyWith(200, "")
				})
				d := newDaemon(t, 0, tokens.Source{Value: rightPassword}, login, upstream, func(o *tokens.Options) { o.Clock = clock.now })
				for _, step := range test.steps {
					// Between two requests, and while others are at upstream.
					time.AfterFunc(step.at+period/2, func() { clock.steps.Add(int64(step.by)) })
				}
				d.serve(period, test.until)
				status := d.manager.Status()
				d.close()

				if got := int(logins.Load()); got != test.logins && (!test.down || got != test.logins+1) {
					t.Errorf("logins: got %d, want %d", got, test.logins)
				}
				if got := stale.Load(); got != 0 {
					t.Errorf("requests with a token that was over by a clock: got %d, want 0", got)
				}
				if !status.Ready() {
					t.Errorf("got %+v, want ready", status)
				}
				if test.down {
					if len(d.codes) != 2 || d.codes["login_unavailable"] == 0 {
						t.Errorf("got errors %v, want login_unavailable alone", d.codes)
					}
					return
				}
				const each = int64(taking/period) + 1 // of the requests that wait for a login
				if got := waited.Load(); got > int64(test.waits)*each || got <= int64(test.waits-1)*each {
					t.Errorf("requests that waited: got %d, want those of %d logins, %d each", got, test.waits, each)
				}
				if len(d.codes) != 1 {
					t.Errorf("got errors %v, want none", d.codes)
				}
				if _, says := bearerdtest.ReadLog(t, d.out.String()); len(says) != test.logins || strings.Contains(fmt.Sprint(says), "warn") {
					t.Errorf("the log says %q, want one good line for each login", says)
				}
			})
		})
	}
}
