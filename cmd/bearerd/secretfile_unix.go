//go:build unix

package main

import (
	"io/fs"
	"os"
	"syscall"
)

const readOnly = 1 // ST_RDONLY of statvfs(3) on Linux, MNT_RDONLY of statfs(2) on the BSDs

// exposed reports whether other users may read a file of secrets and the user
// that runs bearerd can change that. What is root's, or mounted for reading
// only, as Kubernetes and Docker mount secrets (0644), is as somebody else
// wants it.
func exposed(info fs.FileInfo, path string) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.Mode().IsRegular() || info.Mode()&0o077 == 0 || int(stat.Uid) != os.Geteuid() {
		return false
	}
	var mount syscall.Statfs_t
	return syscall.Statfs(path, &mount) == nil && mount.Flags&readOnly == 0
}
