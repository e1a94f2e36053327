//go:build unix

package config

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

const readOnly = 1 // ST_RDONLY of statvfs(3) on Linux, MNT_RDONLY of statfs(2) on the BSDs

// exposure says who else may read or change a file of secrets, and what to do; it is
// empty where nobody may, or the user that runs bearerd cannot change that. What is
// root's, or mounted for reading only, as Kubernetes and Docker mount secrets (0644),
// is as somebody else wants it.
func exposure(path string) string {
	info, err := os.Stat(path)
	if err != nil || !exposed(info, path) {
		return ""
	}
	return fmt.Sprintf("%s has the mode %04o, with which other users may read or change it; run chmod 600 %[1]s", path, info.Mode().Perm())
}

func exposed(info fs.FileInfo, path string) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.Mode().IsRegular() || info.Mode()&0o077 == 0 || int(stat.Uid) != os.Geteuid() {
		return false
	}
	var mount syscall.Statfs_t
	return syscall.Statfs(path, &mount) == nil && mount.Flags&readOnly == 0
}
