// Badday is a scripted run of bearerd: an hour of trouble in ten minutes, under
// a mixed load, with a referee who tells whose each failure is. It exits with 1
// if bearerd failed.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
)

func main() {
	short := flag.Bool("short", false, "the form of one minute")
	out := flag.String("out", "dist", "`folder` for badday.txt, badday.svg and bearerd's logs")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	s := longDay()
	if *short {
		s = shortDay()
	}
	passed, err := live(ctx, s, *out, func(text string) { fmt.Println(text) })
	if err != nil {
		fmt.Fprintln(os.Stderr, "badday:", err)
	}
	if err != nil || !passed {
		stop()
		os.Exit(1)
	}
}

// live runs a day, says what happens and the report, and writes that to out.
func live(ctx context.Context, s schedule, out string, say func(string)) (passed bool, err error) {
	if runtime.GOOS == "windows" {
		return false, fmt.Errorf("a rolling restart needs sockets that one process hands to another; %s has none", runtime.GOOS)
	}
	dir, err := os.MkdirTemp("", "badday-")
	if err != nil {
		return false, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := os.MkdirAll(out, 0o755); err != nil {
		return false, err
	}
	program, err := build(dir)
	if err != nil {
		return false, err
	}
	d, err := run(ctx, s, program, dir, out, say)
	if err != nil {
		return false, err
	}
	v := judge(d)
	text := report(d, v)
	say("\n" + text)
	if err := os.WriteFile(filepath.Join(out, "badday.txt"), []byte(text), 0o644); err != nil {
		return false, err
	}
	return len(v.problems) == 0, os.WriteFile(filepath.Join(out, "badday.svg"), picture(d, v), 0o644)
}
