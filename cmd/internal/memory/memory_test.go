package memory

import (
	"os"
	"path/filepath"
	"testing"
)

func TestContainerLimit(t *testing.T) {
	for _, c := range []struct {
		name, cgroup string
		files        map[string]string
		want         int64
	}{
		{"no control groups", "", nil, 0},
		{"version 2, in a container", "0::/\n", map[string]string{"sys/fs/cgroup/memory.max": "67108864\n"}, 64 << 20},
		{"version 2, no limit", "0::/\n", map[string]string{"sys/fs/cgroup/memory.max": "max\n"}, 0},
		{"version 2, of a unit, and a lower one above it", "0::/system.slice/bearerd.service\n", map[string]string{
			"sys/fs/cgroup/system.slice/bearerd.service/memory.max": "200\n",
			"sys/fs/cgroup/system.slice/memory.max":                 "100\n",
		}, 100},
		{"version 1", "5:cpu:/x\n4:memory:/docker/1\n0::/\n", map[string]string{
			"sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes": "300\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes":          "9223372036854771712\n",
		}, 300},
		{"version 1, in a container", "4:memory:/docker/1\n", map[string]string{"sys/fs/cgroup/memory/memory.limit_in_bytes": "400\n"}, 400},
		{"version 1, no limit", "4:memory:/\n", map[string]string{"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, 0},
		{"nonsense", "x\n::\n0::/../..\n", map[string]string{"sys/fs/cgroup/memory.max": "-1\n"}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir()
			write := func(name, text string) {
				name = filepath.Join(root, filepath.FromSlash(name))
				if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if c.cgroup != "" {
				write("proc/self/cgroup", c.cgroup)
			}
			for name, text := range c.files {
				write(name, text)
			}
			if got := containerLimit(filepath.ToSlash(root)); got != c.want {
				t.Errorf("got %d, want %d", got, c.want)
			}
		})
	}
}

func TestPercentByWhatLives(t *testing.T) {
	for live, want := range map[uint64]int{0: 400, 2 << 20: 400, 6 << 20: 400, 12 << 20: 200, 24 << 20: 100, 1 << 30: 100} {
		if got := percentFor(live); got != want {
			t.Errorf("%d MiB: got %d, want %d", live>>20, got, want)
		}
	}
}
