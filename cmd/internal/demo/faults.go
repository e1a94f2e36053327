package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/bearerd/bearerd/cmd/internal/logs"
	"github.com/bearerd/bearerd/cmd/internal/output"
	"github.com/bearerd/bearerd/cmd/internal/querysim"
	"github.com/bearerd/bearerd/cmd/internal/service"
	"github.com/bearerd/bearerd/proxy"
	"github.com/bearerd/bearerd/tokens"
)

// How long the tour's tokens live, so that it takes two minutes.
const (
	// With the first, a renewal that failed is tried again in time.
	firstLifetime = 15 * time.Second
	// One of the second is soon over.
	shortLifetime = 8 * time.Second
	// With the third, the first renewal, after 70 % of it, meets an account that
	// is locked for 60 s, and the second, 30 s later, one that is no longer.
	lockedLifetime = 50 * time.Second
)

const (
	callEvery = 200 * time.Millisecond
	// patience is how much longer than planned something may take.
	patience = 20 * time.Second
)

const tourIntro = `bearerd demo -faults: a tour of five faults, in two minutes. All is in this
process and on loopback: a simulated login server, a simulated Query Service,
and bearerd in front of them. A caller, who knows of no token, asks

  %s

five times a second. Below is what happens to the services, what the caller
gets, whenever that changes, and what bearerd logs, shortened. Ctrl-C ends it.

`

// tour leads through what can go wrong.
type tour struct {
	*narrator
	sim    simulation
	s      *service.Service
	URL    string // that the caller asks
	secret string // the file with bearerd's password
	client http.Client

	turn sync.Mutex // held while the caller asks, and by who wants to be before him

	mu   sync.Mutex // guards what follows
	last Response
	now  tally // of this chapter
}

// chapter is one fault.
type chapter struct {
	title string
	seen  proxy.Code // what the caller may get besides a good answer; "": nothing
	play  func(*tour, context.Context) error
}

var chapters = []chapter{
	{"The token is revoked", "", (*tour).revocation},
	{"Login down, for a short time", "", (*tour).shortOutage},
	{"Login down, for a long time", proxy.LoginUnavailable, (*tour).longOutage},
	{"The password is changed", proxy.LoginRejected, (*tour).wrongPassword},
	{"Somebody locks the account", proxy.LoginRejected, (*tour).lockedAccount},
}

// Faults shows what a caller sees when things go wrong, until it has shown
// all or a signal ends it.
func Faults(version string, signals <-chan os.Signal, stdout io.Writer) error {
	sim, err := newSimulation(firstLifetime)
	if err != nil {
		return err
	}
	defer sim.close()
	if err := sim.SetFaults(querysim.Faults{BruteForceLock: true}); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "bearerd-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	t := &tour{narrator: newNarrator(stdout), sim: sim, secret: filepath.Join(dir, "password")}
	defer t.w.Flush(output.FlushPatience)
	if err := t.writePassword(querysim.Password); err != nil {
		return err
	}
	cfg, err := sim.config("BEARERD_PASSWORD_FILE=" + t.secret)
	if err != nil {
		return err
	}
	logger := zerolog.New(zerolog.ConsoleWriter{
		Out: output.LineFunc(func(line string) { t.tell("log", "%s", line) }), NoColor: true,
		PartsExclude:  []string{zerolog.TimestampFieldName},
		FormatPrepare: shortenLine,
	}).Level(zerolog.InfoLevel)
	t.s, err = service.New(cfg, service.Options{
		Version: version,
		Log:     logs.Log{Events: logger.Level(zerolog.WarnLevel), Lost: t.w.Lost, Flush: func() {}},
		States:  &logs.States{Logger: logger},
		Login:   t.login,
	})
	if err != nil {
		return err
	}
	t.URL = t.s.URL() + "/cpmm/api/v1/orgs/42/metrics/names"
	fmt.Fprintf(t, demoPage, t.s.AdminURL())
	fmt.Fprintf(t, tourIntro, t.URL)

	ctx, cancel := context.WithCancel(context.Background())
	told := make(chan error, 1)
	go func() {
		told <- t.lead(ctx)
		t.s.AskToQuit()
	}()
	err = t.s.Run(signals)
	cancel()
	wrong := <-told
	switch {
	case err != nil:
		return err
	case errors.Is(wrong, context.Canceled):
		t.say("stopped")
		return nil
	}
	return wrong
}

// shortenLine leaves what a tourist can do without: of the remedies, all but
// those of errors, where a person must act.
func shortenLine(fields map[string]any) error {
	for _, name := range []string{
		"result", "status", "token_expiry", "next_login", "failing_since",
		"duration_ms", "lifetime_s", "expiry_rule", "clock_skew_s",
	} {
		delete(fields, name)
	}
	if impact, ok := fields["impact"].(string); ok {
		fields["impact"] = strings.TrimSuffix(impact, " until token_expiry")
	}
	if fields[zerolog.LevelFieldName] != zerolog.LevelErrorValue {
		delete(fields, "remedy")
	}
	return nil
}

// lead plays every chapter and then sums up.
func (t *tour) lead(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var caller sync.WaitGroup
	caller.Go(func() { t.poll(ctx) })
	defer caller.Wait()
	defer cancel()
	if err := t.until(ctx, "the first answer", time.Now(), func(now tally) bool { return now.lastGood }); err != nil {
		return err
	}
	var summary strings.Builder
	fmt.Fprintf(&summary, "\n%-29s%12s%13s\n%-29s%5s%7s%6s%7s  %s\n",
		"", "requests", "logins", "", "all", "failed", "all", "failed", "failed with")
	for i, ch := range chapters {
		t.begin()
		fmt.Fprintf(t, "\n%d/%d  %s\n\n", i+1, len(chapters), ch.title)
		if err := ch.play(t, ctx); err != nil {
			return err
		}
		// What else comes of it belongs to this chapter.
		if !pause(ctx, 2*time.Second) {
			return ctx.Err()
		}
		got := t.tally()
		t.tell("", "%s", got)
		if wrong := got.check(ch.seen); wrong != "" {
			return bug(wrong)
		}
		summary.WriteString(strings.TrimRight(fmt.Sprintf("%-29s%5d%7d%6d%7d  %s", fmt.Sprintf("%d %s", i+1, ch.title),
			got.requests, got.failed, got.logins, got.failedLogins, strings.Join(got.kinds, ", ")), " ") + "\n")
	}
	stats := t.sim.Stats()
	fmt.Fprintf(t, "%s\nLogins under way at the same time: at most %d. Requests that reached the Query\nService without a token: %d.\n",
		summary.String(), stats.LoginsAtOnce, stats.WithoutToken)
	return nil
}

func bug(text string) error {
	return fmt.Errorf("demo -faults: %s; this is a bug, unless the machine slept or was very busy", text)
}

func (t *tour) revocation(ctx context.Context) error {
	if !pause(ctx, time.Second) {
		return ctx.Err()
	}
	t.turn.Lock()
	defer t.turn.Unlock()
	t.tell("", "The Query Service revokes the token that bearerd holds, and says 401 to it from now on.")
	t.sim.Revoke()
	before := t.sim.Stats()
	r := t.call(ctx)
	after := t.sim.Stats()
	t.hear(r)
	t.tell("caller", "%v. It took %d login and %d requests upstream, of which %d got a 401.",
		r, after.Logins-before.Logins, after.Queries-before.Queries, after.Unauthorized-before.Unauthorized)
	return ctx.Err()
}

func (t *tour) shortOutage(ctx context.Context) error {
	t.tell("", "The login server answers HTTP 503. bearerd needs it only to renew its token, which it does ahead of the token's end.")
	t.sim.SetLoginDown(true)
	if err := t.until(ctx, "bearerd to renew its token", t.nextLogin(), failedLogin); err != nil {
		return err
	}
	t.tell("", "The login server is back. The old token is still good, and bearerd tries again by itself.")
	t.lifetime(shortLifetime)
	t.sim.SetLoginDown(false)
	return t.until(ctx, "bearerd to try again", t.nextLogin(), goodLogin)
}

func (t *tour) longOutage(ctx context.Context) error {
	t.tell("", "The login server answers HTTP 503 again, now for longer than the token lives.")
	t.sim.SetLoginDown(true)
	if err := t.until(ctx, "the token's end", t.expiry(), failing); err != nil {
		return err
	}
	if err := t.pass(ctx, "the outage to last for a while", 3*time.Second); err != nil {
		return err
	}
	t.tell("", "The login server is back. bearerd tries again by itself, at the time that Retry-After tells.")
	t.sim.SetLoginDown(false)
	return t.until(ctx, "bearerd to try again", t.nextLogin(), healed)
}

func (t *tour) wrongPassword(ctx context.Context) error {
	const password = querysim.Password + "-2"
	t.tell("", "The password is changed at the login server. The file from which bearerd reads it still has the old one.")
	t.sim.SetPassword(password)
	if err := t.until(ctx, "the token's end", t.expiry(), failing); err != nil {
		return err
	}
	t.tell("", "However many requests come, bearerd does not try that password again for 30 s: too many tries lock an account.")
	if err := t.pass(ctx, "somebody to correct the file", 3*time.Second); err != nil {
		return err
	}
	if n := t.tally().failedLogins; n > 1 {
		return bug(fmt.Sprintf("bearerd tried the wrong password %d times", n))
	}
	t.lifetime(lockedLifetime)
	t.tell("", "The file is corrected.")
	corrected := time.Now()
	if err := t.writePassword(password); err != nil {
		return err
	}
	if err := t.until(ctx, "bearerd to notice", corrected.Add(5*time.Second), healed); err != nil {
		return err
	}
	t.tell("", "bearerd noticed by itself: all was well %.1f s after.", time.Since(corrected).Seconds())
	return nil
}

func (t *tour) lockedAccount(ctx context.Context) error {
	t.tell("", "Somebody else tries two wrong passwords within a second. The login server locks the account for 60 s; until then it calls the right password wrong. bearerd's token is good for %.0f s more.", time.Until(t.expiry()).Seconds())
	t.sim.LockAccount()
	lockouts := t.sim.Stats().Lockouts
	if err := t.until(ctx, "bearerd to renew its token", t.nextLogin(), failedLogin); err != nil {
		return err
	}
	t.tell("", "To bearerd that looks like a wrong password: it tries again in 30 s. The old token is still good.")
	if err := t.until(ctx, "the token's end", t.expiry(), failing); err != nil {
		return err
	}
	if err := t.until(ctx, "bearerd to try again", t.nextLogin(), healed); err != nil {
		return err
	}
	stats := t.sim.Stats()
	t.tell("", "The lock has passed. Of bearerd's logins it met %d, and none made it longer.", stats.LoginsLocked)
	if stats.Lockouts != lockouts {
		return bug("bearerd's logins locked the account")
	}
	return nil
}

// What a chapter waits for.
func failedLogin(now tally) bool { return now.failedLogins > 0 }

func goodLogin(now tally) bool { return now.logins > now.failedLogins }

func failing(now tally) bool { return now.failed > 0 }

func healed(now tally) bool { return goodLogin(now) && now.lastGood }

// until waits until ok says yes, which should be so at due.
func (t *tour) until(ctx context.Context, what string, due time.Time, ok func(now tally) bool) error {
	left := max(time.Until(due), 0)
	deadline := time.Now().Add(left + patience)
	if left > time.Second && !t.terminal {
		t.tell("", "… waiting for %s, in %.0f s", what, left.Seconds())
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok(t.tally()) {
		t.countdown(what, time.Until(due))
		if time.Now().After(deadline) {
			return bug(fmt.Sprintf("waited for %s, %v longer than that should take", what, patience))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// pass lets d pass.
func (t *tour) pass(ctx context.Context, what string, d time.Duration) error {
	over := time.Now().Add(d)
	return t.until(ctx, what, over, func(tally) bool { return time.Now().After(over) })
}

// poll is the caller.
func (t *tour) poll(ctx context.Context) {
	for {
		t.turn.Lock()
		r := t.call(ctx)
		stopping := ctx.Err() != nil || t.s.Stopping.Load()
		if !stopping && t.hear(r) {
			t.tell("caller", "%v", r)
		}
		t.turn.Unlock()
		if stopping || !pause(ctx, callEvery) {
			return
		}
	}
}

func (t *tour) call(ctx context.Context) Response {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.URL, nil)
	if err != nil {
		panic(err) // it is our own URL
	}
	return Call(&t.client, req)
}

// hear counts an answer, and reports whether it is another than the last.
func (t *tour) hear(r Response) (other bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	other = r.Kind() != t.last.Kind()
	t.last = r
	t.now.count(r)
	return other
}

// login counts a login of bearerd's.
func (t *tour) login(ev tokens.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.now.logins++
	if ev.Result() != tokens.OK {
		t.now.failedLogins++
	}
}

// begin begins a chapter.
func (t *tour) begin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.now = tally{lastGood: t.now.lastGood}
}

func (t *tour) tally() tally {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.now
}

func (t *tour) nextLogin() time.Time { return t.s.Manager.Status().NextLogin }

func (t *tour) expiry() time.Time { return t.s.Manager.Status().Expiry }

// lifetime is that of the tokens to come.
func (t *tour) lifetime(d time.Duration) {
	if err := t.sim.SetLifetime(d); err != nil {
		panic(err) // they are whole seconds
	}
}

func (t *tour) writePassword(p string) error { return os.WriteFile(t.secret, []byte(p+"\n"), 0o600) }
