// Package memory tells Go's garbage collector how much memory it may use for
// speed. It knows the process and its control group, and nothing of what the
// memory is used for.
package memory

import (
	"math"
	"os"
	"path"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
)

// Set has the collector run as seldom as is worth it, and more often near the
// limit of the container. What the environment says by GOGC or GOMEMLIMIT, which
// Go has obeyed already, stands.
func Set() {
	if os.Getenv("GOGC") == "" {
		keepRoom(0)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		if limit := containerLimit("/"); limit > 0 {
			debug.SetMemoryLimit(limit / 10 * 9) // what is not Go's needs some too
		}
	}
}

// room is how far the heap may grow beyond what lives, however little that is, in
// bytes. Under load little lives and much comes and goes: with Go's own rule, of
// as much again, a tenth of the processor time went into collections. With a
// fixed multiple thousands of waiting requests would cost as many times more.
const room = 24 << 20

const (
	least = 100 // percent, Go's own
	most  = 400 // as at rest the first collection comes at 4 MiB times that
)

// keepRoom sets the collector's percentage by what lives, now and after each
// collection. now is what it is.
func keepRoom(now int) {
	if percent := percentFor(live()); percent != now {
		debug.SetGCPercent(percent) // stops the world, for microseconds
		now = percent
	}
	collected := new(struct{ _ [4]*int })
	runtime.AddCleanup(collected, keepRoom, now)
}

// percentFor goes by steps, so that it is seldom set.
func percentFor(live uint64) int {
	const step = 25
	percent := uint64(most)
	if live > 0 {
		percent = min(percent, room*100/live)
	}
	return max(least, int(percent/step*step))
}

// live is what the last collection left, in bytes.
func live() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// containerLimit is the memory limit of the process's control group, in bytes; 0:
// none. root is the file system's.
func containerLimit(root string) int64 {
	text, err := os.ReadFile(path.Join(root, "proc/self/cgroup"))
	if err != nil {
		return 0
	}
	least := int64(math.MaxInt64)
	for line := range strings.Lines(string(text)) {
		// hierarchy:controllers:path, as cgroups(7) says
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) < 3 {
			continue
		}
		dir, file := "sys/fs/cgroup", "memory.max"
		switch {
		case parts[1] == "memory":
			dir, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		case parts[0] != "0":
			continue
		}
		// A group's limit holds for those below it. In a container its own may
		// stand at the top.
		for group := path.Clean("/" + parts[2]); ; group = path.Dir(group) {
			if text, err := os.ReadFile(path.Join(root, dir, group, file)); err == nil {
				if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && n > 0 {
					least = min(least, n)
				}
			}
			if group == "/" {
				break
			}
		}
	}
	const none = 1 << 50 // the first version writes the largest number that it has
	if least >= none {
		return 0
	}
	return least
}
