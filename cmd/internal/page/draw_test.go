package page

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/history"
	"github.com/bearerd/bearerd/tokens"
)

// The axis has round times, whatever the age of bearerd and the zone.
func TestAxis(t *testing.T) {
	t.Parallel()
	clock := regexp.MustCompile(`text-anchor="middle">([\d:]+)<`)
	for _, zone := range []string{"UTC", "Asia/Kolkata", "America/St_Johns"} {
		place, err := time.LoadLocation(zone)
		if err != nil {
			t.Skip(err)
		}
		now := time.Date(2026, 11, 26, 13, 37, 41, 5, place)
		for age, want := range map[time.Duration]string{
			time.Second:       `^13:3\d:[03]0$`,
			150 * time.Second: `^13:3\d$`,
			8 * time.Minute:   `^13:[23][02468]$`,
			14 * time.Minute:  `^13:[23][05]$`,
			25 * time.Minute:  `^13:[0-3][05]$`,
			5 * time.Hour:     `^1[23]:\d0$`,
		} {
			f := Facts{History: history.Snapshot{Now: now, Start: now.Add(-age)}}
			labels := clock.FindAllStringSubmatch(string(draw(f).Rate.SVG), -1)
			if len(labels) < 2 || len(labels) > 7 {
				t.Errorf("%s, %v: %d times on the axis: %q", zone, age, len(labels), labels)
			}
			for _, l := range labels {
				if !regexp.MustCompile(want).MatchString(l[1]) {
					t.Errorf("%s, %v: %s on the axis, want %s", zone, age, l[1], want)
				}
			}
		}
	}
}

// The picture of the tokens' life has what was, and what is to come.
func TestLifePicture(t *testing.T) {
	t.Parallel()
	now := time.Now()
	at := func(s int) time.Time { return now.Add(time.Duration(s) * time.Second) }
	login := func(from int, generation uint64) history.LoginRecord {
		return history.LoginRecord{At: at(from), Result: tokens.OK, Generation: generation, Lifetime: 20 * time.Second, Requested: at(from), Expiry: at(from + 20)}
	}
	f := Facts{
		History: history.Snapshot{Now: now, Start: at(-100), Logins: []history.LoginRecord{ // the last first
			login(-5, 3), {At: at(-9), Result: tokens.Rejected}, {At: at(-12), Result: tokens.Transient}, {At: at(-13), Waiting: true, Result: tokens.Transient},
			login(-50, 2), login(-66, 1),
		}},
		Token: Token{Generation: 3, Good: true, Lifetime: 20 * time.Second, Requested: at(-5), Expiry: at(15), Renewal: at(11)},
	}
	p := draw(f).Life
	svg := string(p.SVG)
	for what, n := range map[string]int{
		`class="gap"`: 2, `class="login-ok"`: 3, `class="login-rejected"`: 1, `class="login-failed"`: 1, `class="planned"`: 1, `class="life coming"`: 1, `<g class="life">`: 3,
	} {
		if got := strings.Count(svg, what); got != n {
			t.Errorf("%s: %d, want %d", what, got, n)
		}
	}
	if got := strings.ReplaceAll(p.Words, "\u00a0", " "); got != "In the last 2 min: 3 logins brought a token, 2 did not; 0 requests failed for want of a token." {
		t.Errorf("got %q", got)
	}
	if f.Token = (Token{}); strings.Contains(string(draw(f).Life.SVG), "coming") {
		t.Error("without a token there is one to come")
	}
}
