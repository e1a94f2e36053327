// Package demo is bearerd demo: a service before the simulator, and a story told of
// it. What it shows is really done; it knows no settings but its own.
package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/bearerd/bearerd/cmd/internal/display"
	"github.com/bearerd/bearerd/cmd/internal/logs"
	"github.com/bearerd/bearerd/cmd/internal/output"
	"github.com/bearerd/bearerd/cmd/internal/querysim"
	"github.com/bearerd/bearerd/cmd/internal/service"
	"github.com/bearerd/bearerd/proxy"
	"github.com/bearerd/bearerd/tokens"
)

const demoLifetime = 20 * time.Second

// demoPage comes first: who watches there sees what the rest tells of.
const demoPage = `Watch it at  %s/

`

const demoIntro = `bearerd demo: a simulated login server, a simulated Query Service, and bearerd in
front of them, all in this process and on loopback. A token lives %d seconds.
What becomes of the tool when things go wrong: bearerd demo -faults

`

const demoLines = `
Now you. No token, no password; paste into another terminal:

` + pasteLines + `
Health and metrics are at %[2]s/readyz and %[2]s/metrics. Ctrl-C ends the demo.

`

// Run runs the main job with everything that it needs in this process, and
// tells what happens, until a signal ends it.
func Run(version string, signals <-chan os.Signal, stdout io.Writer) error {
	n := newNarrator(stdout)
	defer n.w.Flush(output.FlushPatience)
	sim, err := newSimulation(demoLifetime)
	if err != nil {
		return err
	}
	defer sim.close()
	cfg, err := sim.config("BEARERD_PASSWORD=" + querysim.Password)
	if err != nil {
		return err
	}
	story := &demoStory{narrator: n}
	log := logs.Log{Events: zerolog.New(n).Level(zerolog.WarnLevel), Lost: n.w.Lost, Flush: func() {}}
	s, err := service.New(cfg, service.Options{Version: version, Log: log, Request: story.request, Login: story.login})
	if err != nil {
		return err
	}
	fmt.Fprintf(n, demoPage, s.AdminURL())
	fmt.Fprintf(n, demoIntro, int(demoLifetime.Seconds()))

	ctx, cancel := context.WithCancel(context.Background())
	var tool sync.WaitGroup
	tool.Go(func() { playTool(ctx, story, sim, s) })
	err = s.Run(signals)
	cancel()
	tool.Wait()
	if err == nil {
		n.say("stopped: requests under way were let finish")
	}
	return err
}

// playTool is a tool that knows nothing of tokens, and a Query Service that
// revokes them.
func playTool(ctx context.Context, n *demoStory, sim simulation, s *service.Service) {
	local := s.URL()
	const path = "/cpmm/api/v1/orgs/42/metrics/names"

	n.say("a tool asks bearerd for %s", path)
	n.say("  … and gets %s", get(ctx, local+path))
	n.say("the same tool asks the Query Service itself: %s", get(ctx, sim.query.URL+path))
	if !pause(ctx, time.Second) {
		return
	}
	n.revoked()
	n.say("the Query Service revokes the token (%d live)", sim.Revoke())
	n.say("the tool asks bearerd again and notices nothing")
	n.say("  … it gets %s", get(ctx, local+path))
	fmt.Fprintf(n, demoLines, local, s.AdminURL())
	n.say("the token was used, so bearerd will renew it ahead of its end, in 14 to 17 s; an unused one is let go")
}

// get asks like any tool and says in a few words what came.
func get(ctx context.Context, url string) string {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err.Error()
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	var names []string
	if resp.StatusCode != http.StatusOK || json.NewDecoder(resp.Body).Decode(&names) != nil {
		return resp.Status
	}
	return fmt.Sprintf("%s: %d metric names, %s, …", resp.Status, len(names), strings.Join(names[:min(2, len(names))], ", "))
}

// pause waits for d and reports whether ctx is still good.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// demoStory tells what happens to requests and logins.
type demoStory struct {
	*narrator

	tokenMu sync.Mutex    // guards what follows
	token   *tokens.Token // the last one
	refused bool          // upstream no longer takes it
}

func (d *demoStory) revoked() {
	d.tokenMu.Lock()
	defer d.tokenMu.Unlock()
	d.refused = true
}

func (d *demoStory) login(ev tokens.Event) {
	if ev.Result() != tokens.OK {
		d.say("login failed: %s", ev.Cause)
		return
	}
	d.tokenMu.Lock()
	last, refused := d.token, d.refused
	d.token, d.refused = ev.Token, false
	d.tokenMu.Unlock()
	why := "the old token was over and a request came"
	switch {
	case last == nil:
		why = "bearerd has started"
	case refused:
		why = "upstream said 401 to the old token"
	case time.Now().Before(last.Expiry):
		why = fmt.Sprintf("ahead of the old token's end, %.1f s from now, while requests go on", time.Until(last.Expiry).Seconds())
	}
	d.say("login %d: token %d, good for %v (%s)", ev.Token.Generation, ev.Token.Generation, ev.Token.Lifetime, why)
}

func (d *demoStory) request(ex *proxy.Exchange) {
	how := fmt.Sprintf("sent upstream with token %d", ex.Generation)
	switch {
	case ex.Error != "":
		how = "answered by bearerd itself: " + string(ex.Error)
	case ex.Unauthorized == proxy.Replayed:
		how = fmt.Sprintf("refused with the old token, so sent again with token %d", ex.Generation)
	}
	d.say("  request %s %s: %s → %d, in %v", display.CutText(ex.Method), display.CutText(ex.Path), how, ex.Status, ex.Duration.Round(100*time.Microsecond))
}
