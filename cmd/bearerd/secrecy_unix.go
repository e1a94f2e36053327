//go:build unix && !linux

package main

import (
	"syscall"
)

// hideMemory keeps what this process has in memory out of a core file, as far
// as the system lets it.
func hideMemory() { _ = syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}) }
