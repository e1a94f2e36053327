package main

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// hideMemory keeps what this process has in memory, the environment that it was
// started with too, from other programs of the same user, and out of a core
// file. Root is not kept out.
//
// Not dumpable, /proc/PID belongs to root: environ, mem, fd and others open for
// nobody else, and nobody else may trace the process (ptrace(2)). It itself
// still may read what metrics are made from. Nor does a handler that
// core_pattern pipes to, whatever the limit, get a core.
func hideMemory() {
	// Best effort: a sandbox may forbid either, and that is no reason not to run.
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	_ = syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{})
}
