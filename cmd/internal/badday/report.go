package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
)

// report is the verdict as text.
func report(d *day, v verdict) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("A bad day for bearerd: %s, tokens of %v", shortly(d.schedule.length), d.schedule.lifetime)
	line("")
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	put := func(cells ...string) { _, _ = fmt.Fprintln(table, strings.Join(cells, "\t")) }
	total, succeeded := 0, 0
	put("", "requests", "succeeded")
	for _, kind := range requestKinds {
		put(kind, fmt.Sprint(v.requests[kind]), fmt.Sprint(v.succeeded[kind]))
		total += v.requests[kind]
		succeeded += v.succeeded[kind]
	}
	put("in all", fmt.Sprint(total), fmt.Sprint(succeeded))
	_ = table.Flush()
	line("a stream ends with the day, or before it with upstream or a process of bearerd")
	line("longest silence of a stream that ticks every %v: %v; slowest poll that succeeded: %v; the machine stalled for %v at most",
		tick, d.load.silence.Round(time.Millisecond), d.load.slowest.Round(time.Millisecond), d.lag.Round(time.Millisecond))
	if d.lag > time.Second {
		line("such a stall is forgiven wherever it may have been: a machine with more to spare tells more")
	}
	line("")

	put("failures while a good token was held, or could be had, and upstream was up", fmt.Sprint(len(v.blamed)))
	for _, whose := range []culprit{bearerd, theLogin, theUpstream, theStop} {
		n := 0
		for _, count := range v.failures[whose] {
			n += count
		}
		if whose == bearerd && n == 0 {
			continue
		}
		put("failures, "+string(whose), fmt.Sprint(n), shown(v.failures[whose]))
	}
	all := 0
	for _, n := range v.logins {
		all += n
	}
	put("logins", fmt.Sprint(all), fmt.Sprintf("ok %d, rejected %d, throttled %d, transient %d", v.logins[ok], v.logins[rejected], v.logins[throttled], v.logins[transient]))
	put("the least that would do", fmt.Sprint(v.minimum), "for who knows all and logs in only as a token ends or is revoked, in each process")
	put("needless, or sooner than the back-off allows", fmt.Sprint(len(v.needless)))
	put("later than the back-off allows", fmt.Sprint(len(v.late)))
	put("lock-outs that bearerd caused", fmt.Sprint(v.lockouts))
	put("requests that upstream saw without a token", fmt.Sprint(v.withoutToken))
	put("with a token that was not issued", fmt.Sprint(v.foreign))
	put("logins of one process at the same time, at most", fmt.Sprint(v.atOnce))
	put("memory at rest before, at most, at rest after", fmt.Sprintf("%.0f, %.0f, %.0f MiB", d.base.memory/(1<<20), d.peak.memory/(1<<20), d.final.memory/(1<<20)))
	put("goroutines likewise", fmt.Sprintf("%.0f, %.0f, %.0f", d.base.goroutines, d.peak.goroutines, d.final.goroutines))
	_ = table.Flush()

	line("")
	put("at", "what", "over after", "healed", "failed requests")
	revocations := 0
	for _, e := range d.bands {
		if e.revoked() {
			revocations++
		}
		codes := map[string]int{}
		for _, r := range d.load.requests {
			if r.code != "" && r.end >= e.from && r.end <= e.healed+d.margin() {
				codes[r.code]++
			}
		}
		if e.kind == revocation && len(codes) == 0 {
			continue
		}
		put(fmt.Sprintf("%.0f s", e.from.Seconds()), e.label(), inSeconds(e.over-e.from), inSeconds(e.healed-e.from), shown(codes))
	}
	put("", fmt.Sprintf("and revocations, %d in all", revocations))
	_ = table.Flush()
	line("")
	if len(v.problems) == 0 {
		line("PASSED")
	}
	for _, p := range v.problems {
		line("FAILED: %s", p)
	}
	return b.String()
}

func inSeconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

// shortly is 10m for ten minutes.
func shortly(d time.Duration) string { return strings.TrimSuffix(d.String(), "0s") }
