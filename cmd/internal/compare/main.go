// Compare has bearerd and reverse proxies that others wrote do the same work in
// turn, and says what each costs beside nginx. It knows them as processes that
// listen, and nothing of what is in them. It runs on Linux.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"time"
)

func main() {
	rounds := flag.Int("rounds", 5, "how often each program does each `work`")
	only := flag.String("only", "", "the `work` to do; empty: all")
	of := flag.String("of", "", "the `program` to measure; empty: all")
	tries := flag.Int("tries", 3, "how often a measurement that others disturb is made at most")
	out := flag.String("out", "dist", "`folder` for compare.txt and compare.svg")
	program := flag.String("bearerd", "", "`file` of bearerd; empty: build it")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := compare(ctx, *rounds, *tries, *only, *of, *out, *program); err != nil {
		stop()
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

func compare(ctx context.Context, rounds, tries int, only, of, out, program string) error {
	dir, err := os.MkdirTemp("", "compare-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	if program == "" {
		if program, err = build(ctx, dir); err != nil {
			return err
		}
	}
	up, err := newUpstream(dir)
	if err != nil {
		return err
	}
	defer up.close()
	programs, err := findPrograms(program)
	if err != nil {
		return err
	}
	r := &results{began: time.Now()}
	for _, w := range works {
		if only != "" && only != w.name {
			continue
		}
		for round := range rounds {
			if round > 0 && w.once {
				break
			}
			for _, p := range programs {
				if w.bearerdOnly && p.name != "bearerd" || of != "" && of != p.name {
					continue
				}
				figures, disturbed, err := undisturbed(ctx, tries, w, p, up, dir)
				if err != nil && (p.name == "bearerd" || ctx.Err() != nil) {
					return fmt.Errorf("%s, %s: %w", w.name, p.name, err)
				}
				if err != nil { // the others may fail at a work
					fmt.Printf("%s, %s: %v\n", w.name, p.name, err)
					continue
				}
				r.add(w, p.name, round, figures, disturbed)
				fmt.Printf("%-12s round %d  %-8s %v  others had %2.0f %%\n", w.name, round+1, p.name, figures, disturbed*100)
			}
		}
	}
	if n := up.bare.Load(); n > 0 {
		return fmt.Errorf("%d requests came without a token", n)
	}
	text := r.table()
	fmt.Print("\n", text)
	if err := os.WriteFile(filepath.Join(out, "compare.txt"), []byte(text), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(out, "compare.svg"), r.picture(), 0o644)
}

// patience is how long a program may take for one work.
const patience = 5 * time.Minute

// mayDisturb is the part of the processors' time that others may have during a
// measurement.
const mayDisturb = 0.1

// undisturbed does w until others have let it alone, but not for ever; then the
// measurement counts that was disturbed least.
func undisturbed(ctx context.Context, tries int, w work, p program, up *upstream, dir string) (best []float64, disturbed float64, err error) {
	for i := range tries {
		figures, share, err := measure(ctx, w, p, up, dir)
		if err != nil {
			return nil, 0, err
		}
		if i == 0 || share < disturbed {
			best, disturbed = figures, share
		}
		if disturbed <= mayDisturb {
			break
		}
	}
	return best, disturbed, nil
}

// measure has p, started anew, do w.
func measure(ctx context.Context, w work, p program, up *upstream, dir string) ([]float64, float64, error) {
	busy, self := busyTime(), selfTime()
	began := time.Now()
	if err := up.prepare(w); err != nil {
		return nil, 0, err
	}
	run, err := p.start(ctx, up, dir)
	if err != nil {
		return nil, 0, err
	}
	ctx, stop := context.WithTimeout(ctx, patience)
	figures, err := w.do(ctx, run, up)
	stop()
	ours := selfTime() - self + run.cpu()
	run.stop()
	if err != nil {
		return nil, 0, fmt.Errorf("%w\n%s", err, run.said())
	}
	others := busyTime() - busy - ours
	return figures, max(0, others.Seconds()/time.Since(began).Seconds()/processors()), nil
}
