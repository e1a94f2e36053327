package interop_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

// sharedLife is how long a token of theirs lives. It is renewed after 5.6 s at the
// earliest.
const (
	sharedLife = 8 * time.Second
	renewed    = sharedLife * 7 / 10
)

// halves are bearerds that share one login, half of them by a link that can be cut.
type halves struct {
	world     *bearerdtest.World
	link      *link
	near, far []*bearerdtest.Process
}

// newHalves starts them, three and three.
func newHalves(t *testing.T, changes ...string) *halves {
	t.Helper()
	port := strconv.Itoa(bearerdtest.FreePort(t))
	bearerdtest.StartRedis(t, "--port", port)
	engine := net.JoinHostPort("127.0.0.1", port)
	h := &halves{world: bearerdtest.NewWorld(t, querysim.Options{Lifetime: sharedLife}, nil), link: newLink(t, "engine", engine)}
	if err := h.world.Sim.SetFaults(querysim.Faults{BruteForceLock: true}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		h.near = append(h.near, h.world.Serve(t, append(changes, "BEARERD_SHARED=redis://"+engine)...))
		h.far = append(h.far, h.world.Serve(t, append(changes, "BEARERD_SHARED=redis://"+h.link.proxy.Listen)...))
	}
	return h
}

func (h *halves) all() []*bearerdtest.Process { return append(h.near[:3:3], h.far...) }

// joined waits until each has the engine.
func (h *halves) joined(t *testing.T) {
	t.Helper()
	bearerdtest.Eventually(t, bearerdtest.Soon, "all have the engine", func() bool {
		up := 0.0
		for _, p := range h.all() {
			up += p.Metric("bearerd_shared_up")
		}
		return up == 6
	})
}

// partitions are how a network keeps some from the engine.
var partitions = []toxic{
	{"timeout", map[string]int{"timeout": 0}}, // a black hole
	{"latency", map[string]int{"latency": 2000}},
	{"reset_peer", map[string]int{"timeout": 0}},
	{"down", nil},
}

// Half of the bearerds are cut off from the engine, again and again: no request
// fails, those log in alone for as long, and then all have one login again.
func TestPartition(t *testing.T) {
	t.Parallel()
	h := newHalves(t)
	h.joined(t)
	var asked, failed atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	for _, p := range h.all() {
		client := bearerdtest.NewClient(t)
		load.Go(func() {
			tick := time.NewTicker(200 * time.Millisecond)
			defer tick.Stop()
			for ctx.Err() == nil {
				asked.Add(1)
				resp, err := client.Get(p.URL + bearerdtest.NamesPath)
				if err != nil || resp.StatusCode != http.StatusOK {
					failed.Add(1)
				}
				if err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
				<-tick.C
			}
		})
	}
	logins := func() int { return h.world.Sim.Stats().Logins }
	within := func(what string, since time.Time, before, alone int) {
		t.Helper()
		if got, most := logins()-before, alone*(int(time.Since(since)/renewed)+1); got > most {
			t.Errorf("%s: %d logins in %v, want at most %d", what, got, time.Since(since).Round(time.Second), most)
		}
	}
	for _, x := range partitions {
		began, before := time.Now(), logins()
		heal := h.link.apply(x, "downstream")
		bearerdtest.Eventually(t, bearerdtest.Soon, x.kind+": those cut off have a login of their own", func() bool {
			alone := 0
			for _, p := range h.far {
				if p.Metric("bearerd_shared_up") == 0 {
					alone++
				}
			}
			return alone == 3 && logins() > before+1
		})
		heal()
		h.joined(t)
		within(x.kind, began, before, 1+3)
	}
	// What they have alone they go on with; then it is one login for all again.
	pause(ctx, sharedLife)
	began, before := time.Now(), logins()
	pause(ctx, sharedLife)
	within("healed", began, before, 1)
	stop()
	load.Wait()
	if failed.Load() > 0 || asked.Load() < 100 {
		t.Errorf("%d of %d requests failed, want 0", failed.Load(), asked.Load())
	}
	if got := h.world.Sim.Stats(); got.WithoutToken > 0 || got.Lockouts > 0 {
		t.Errorf("%d requests without a token, %d locks", got.WithoutToken, got.Lockouts)
	}
	t.Logf("%d requests, %d logins", asked.Load(), logins())
}

// What the others know of a wrong password holds for who is cut off then: it does
// not try alone at once, and nobody's count is lost when all are together again.
func TestPartitionWithAWrongPassword(t *testing.T) {
	t.Parallel()
	h := newHalves(t, "BEARERD_PASSWORD=wrong")
	refused := func() int { return h.world.Sim.Stats().LoginsRefused }
	bearerdtest.Eventually(t, bearerdtest.Soon, "all know that a login was refused", func() bool {
		for _, p := range h.all() {
			if !strings.Contains(p.Text(), `"message":"login rejected"`) {
				return false
			}
		}
		return true
	})
	h.joined(t)
	heal := h.link.apply(partitions[0], "downstream")
	// The second attempt is due after 30 s: one by those who have the engine. The
	// others wait 10 s for it first.
	bearerdtest.Eventually(t, time.Minute, "the second attempt", func() bool { return refused() > 1 })
	pause(t.Context(), 6*time.Second)
	heal()
	h.joined(t)
	if got := h.world.Sim.Stats(); got.LoginsRefused != 2 || got.Lockouts > 0 {
		t.Errorf("%d logins were refused and %d locks made, want 2 and none", got.LoginsRefused, got.Lockouts)
	}
}
