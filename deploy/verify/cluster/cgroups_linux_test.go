package cluster_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// makeCgroups makes those that the kubelet's are in, in each hierarchy.
func makeCgroups(t *testing.T, name string) {
	t.Helper()
	const root = "/sys/fs/cgroup"
	hierarchies := []string{root}
	if _, err := os.Stat(root + "/cgroup.controllers"); err != nil { // version 1
		if hierarchies, err = filepath.Glob(root + "/*"); err != nil {
			t.Fatal(err)
		}
	}
	for _, hierarchy := range hierarchies {
		folder := filepath.Join(hierarchy, name)
		if err := os.Mkdir(folder, 0o755); err != nil && !os.IsExist(err) { // some are links to others
			t.Fatal(err)
		}
		t.Cleanup(func() {
			var all []string
			_ = filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
				if err == nil && entry.IsDir() {
					all = append(all, path)
				}
				return nil
			})
			for _, path := range slices.Backward(all) {
				eventually(t, time.Minute, path+" can be removed", func() bool { return os.Remove(path) == nil })
			}
		})
	}
}
