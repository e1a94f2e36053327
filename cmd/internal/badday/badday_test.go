package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/querysim"
	"github.com/bearerd/bearerd/proxy"
)

// Beside the tests of other packages it would meet their load, and its referee
// goes by the clock.
var minute = flag.Bool("minute", false, "run the form of one minute, on a machine that does nothing else")

func TestBadDay(t *testing.T) {
	if !*minute || runtime.GOOS == "windows" {
		t.Skip("wants -minute, and sockets that one process hands to another")
	}
	out := t.TempDir()
	passed, err := live(t.Context(), shortDay(), out, func(text string) { t.Log(text) })
	if err != nil {
		t.Fatal(err)
	}
	if !passed {
		t.Error("the day failed; see the end of the report")
	}
	svg, err := os.ReadFile(filepath.Join(out, "badday.svg"))
	if err != nil {
		t.Fatal(err)
	}
	wellFormed(t, svg)
}

// wellFormed expects XML.
func wellFormed(t *testing.T, svg []byte) {
	t.Helper()
	for decoder := xml.NewDecoder(bytes.NewReader(svg)); ; {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatalf("badday.svg: %v", err)
		}
	}
}

// The picture of a day has its faults, tokens, requests and logins.
func TestPicture(t *testing.T) {
	t.Parallel()
	d := aDay()
	d.schedule.length = seconds(100)
	d.services.logins = []login{{instance: 1, arrived: 0, result: ok}, {instance: 1, arrived: seconds(20), result: transient}}
	for i := range 90 {
		d.load.requests = append(d.load.requests, request{kind: poll, start: seconds(float64(i)), end: seconds(float64(i))})
	}
	d.load.requests = append(d.load.requests, request{kind: poll, start: seconds(25), end: seconds(25), code: "login_unavailable"})
	svg := picture(d, verdict{})
	wellFormed(t, svg)
	for what, mark := range map[string]string{
		"four tokens":      `stroke="#3b82e0"><line`,
		"a revocation":     `class="rev" stroke="#a35bd6"/>`,
		"an outage":        `class="login" fill="#d9822b"></rect>`,
		"upstream down":    `class="up" fill="#12908e"></rect>`,
		"requests":         `class="rate" fill="#3b82e0"></rect>`,
		"a failed request": `class="failed" fill="#e3a008"></rect>`,
		"a good login":     `r="3.4" class="dot" fill="#2f9e57"></circle>`,
		"a failed login":   `r="3.4" class="dot" fill="#e3a008"></circle>`,
	} {
		if !strings.Contains(string(svg), mark) {
			t.Errorf("%s: there is no %s", what, mark)
		}
	}
}

func TestSchedules(t *testing.T) {
	t.Parallel()
	count := func(s schedule, k kind) (n int) {
		for _, e := range s.events {
			if e.kind == k {
				n++
			}
		}
		return n
	}
	long, short := longDay(), shortDay()
	if n := count(long, revocation) + 1; n != 40 { // one is a rotation's
		t.Errorf("%d revocations in ten minutes, want 40", n)
	}
	for _, k := range []kind{revocation, outage, throttling, rotation, lock, upstreamRestart, rolling} {
		if count(long, k) == 0 || count(short, k) == 0 {
			t.Errorf("%s: %d in the long form and %d in the short, want both", k, count(long, k), count(short, k))
		}
	}
	for _, s := range []schedule{long, short} {
		for n, e := range s.events {
			if n > 0 && e.at < s.events[n-1].at+s.events[n-1].lasts {
				t.Errorf("%s at %v begins before the one before it is over", e.label(), e.at)
			}
		}
	}
}

// aDay has one bearerd, which was told to end at 100 s, and an outage from 20 s
// to 30 s that healed at 32 s.
func aDay() *day {
	at := seconds
	return &day{
		schedule: schedule{lifetime: at(10), drain: at(1), grace: at(5)},
		services: &services{tokens: []*token{
			{instance: 1, requested: at(0), issued: at(0.1), ends: at(10)},
			{instance: 1, requested: at(8), issued: at(8.1), ends: at(12), revoked: true},
			{instance: 1, requested: at(12.1), issued: at(12.2), ends: at(22.1)},
			{instance: 1, requested: at(31.9), issued: at(32), ends: at(41.9)},
		}},
		load:      &load{},
		instances: []*instance{{number: 1, begun: at(0), told: at(100), ended: at(106)}},
		bands: []band{
			{event: event{kind: revocation}, from: at(12), over: at(12), healed: at(12)},
			{event: event{kind: outage, fault: querysim.LoginDown}, from: at(20), over: at(30), healed: at(32)},
			{event: event{kind: upstreamRestart}, from: at(50), over: at(51), healed: at(51)},
		},
	}
}

func TestCulprit(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		code     string
		from, to float64
		want     culprit
	}{
		"no token in an outage":              {"login_unavailable", 25, 25.1, theLogin},
		"… until bearerd can know of it":     {"login_unavailable", 32.1, 32.1, theLogin},
		"a token in an outage":               {"login_unavailable", 21, 21.1, bearerd},
		"no outage":                          {"login_unavailable", 5, 5.1, bearerd},
		"a revocation and login up":          {"401", 11.9, 12.1, bearerd},
		"no token and the wrong code":        {"upstream_unreachable", 25, 25.1, bearerd},
		"upstream down":                      {"upstream_unreachable", 49.9, 50.5, theUpstream},
		"upstream down and the wrong code":   {"login_unavailable", 50, 50.5, bearerd},
		"upstream up":                        {"upstream_unreachable", 60, 60.1, bearerd},
		"a stream that ends with upstream":   {cutShort, 10, 50.1, theUpstream},
		"a stream that ends by itself":       {cutShort, 10, 60, bearerd},
		"a stream over the grace":            {cutShort, 10, 106, theStop},
		"a stream cut in the grace":          {cutShort, 10, 103, bearerd},
		"a connection lost":                  {noAnswer, 50, 50.1, bearerd},
		"the wrong content":                  {corrupted, 50, 50.1, bearerd},
		"an error of upstream's that is not": {"500", 50, 50.1, bearerd},
	} {
		r := request{kind: poll, start: seconds(test.from), end: seconds(test.to), code: test.code}
		if got := aDay().culprit(r); got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}

// Each of bearerd's own codes has whoever it blames, and no other.
func TestCulpritOfEveryCode(t *testing.T) {
	t.Parallel()
	for _, code := range proxy.Codes() {
		for at, trouble := range map[float64]culprit{25: theLogin, 50: theUpstream, 60: bearerd} {
			want := bearerd
			if trouble == map[proxy.Fault]culprit{proxy.FaultLogin: theLogin, proxy.FaultUpstream: theUpstream}[code.Fault()] {
				want = trouble
			}
			r := request{kind: poll, start: seconds(at), end: seconds(at + 0.1), code: string(code)}
			if got := aDay().culprit(r); got != want {
				t.Errorf("%s at %v s: got %q, want %q", code, at, got, want)
			}
		}
	}
}

func TestDiscipline(t *testing.T) {
	t.Parallel()
	post := func(at float64, r result) login {
		return login{instance: 1, arrived: seconds(at), answered: seconds(at + 0.1), result: r, retryAfter: 5 * time.Second}
	}
	good := []login{post(0, ok), post(8, ok), post(12.1, ok)}
	for name, test := range map[string]struct {
		logins         []login
		needless, late int
	}{
		"none":                         {nil, 0, 1},
		"in time":                      {append(good, post(20, transient), post(21.2, transient), post(23.5, transient), post(28, transient), post(36.5, ok)), 0, 0},
		"with a young token":           {[]login{post(0, ok), post(5, ok)}, 1, 0},
		"again at once":                {append(good, post(20, transient), post(20.2, ok)), 1, 0},
		"before the back-off's end":    {append(good, post(20, transient), post(21.2, transient), post(22.4, ok)), 1, 0},
		"long after it":                {append(good, post(20, transient), post(24, ok)), 0, 1},
		"never again":                  {append(good, post(20, transient)), 0, 1},
		"before Retry-After":           {append(good, post(20, throttled), post(23, ok)), 1, 0},
		"after it":                     {append(good, post(20, throttled), post(25.5, ok)), 0, 0},
		"a wrong password, soon again": {append(good, post(20, rejected), post(25, ok)), 1, 0},
		"a wrong password, in time":    {append(good, post(20, rejected), post(50.2, rejected), post(110.4, ok)), 0, 0},
	} {
		d := aDay()
		d.services.logins = test.logins
		d.services.tokens = append(d.services.tokens, &token{instance: 1, requested: seconds(5)})
		needless, late := d.discipline(d.instances[0])
		if len(needless) != test.needless || len(late) != test.late {
			t.Errorf("%s: needless %v, late %v; want %d and %d", name, needless, late, test.needless, test.late)
		}
	}

	// A file that changed and a person are reasons to log in sooner, and to be late.
	d := aDay()
	d.rotated = []time.Duration{seconds(22)}
	d.services.logins = append(good, post(20, rejected), post(25, ok))
	if needless, late := d.discipline(d.instances[0]); len(needless)+len(late) > 0 {
		t.Errorf("after a rotation: %v %v", needless, late)
	}
	d.services.logins = append(good, post(20, rejected), post(30, ok))
	if _, late := d.discipline(d.instances[0]); len(late) != 1 {
		t.Errorf("long after a rotation: %v, want one", late)
	}
}

func TestNecessary(t *testing.T) {
	t.Parallel()
	d := aDay()
	d.instances[0].told = seconds(44)
	// At 0, 10, 12 (revoked), 32 (the token ends in the outage) and 42.
	if got := d.necessary(d.instances[0]); got != 5 {
		t.Errorf("got %d, want 5", got)
	}
}

func TestPatternShowsWhatIsLost(t *testing.T) {
	t.Parallel()
	const size = 200_000
	text, err := io.ReadAll(&patterned{left: size})
	if err != nil || len(text) != size {
		t.Fatalf("got %d bytes, %v", len(text), err)
	}
	compare := func(p []byte) error {
		_, err := (&comparing{want: patterned{left: size}}).Write(p)
		return err
	}
	if err := compare(text); err != nil {
		t.Error(err)
	}
	text = append(text[:70_000], text[70_001:]...)
	if err := compare(text); !errors.Is(err, errContent) {
		t.Errorf("with a byte lost: got %v, want %v", err, errContent)
	}
}
