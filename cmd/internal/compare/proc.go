package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// tick is a unit of /proc's times (proc(5): USER_HZ is 100).
const tick = 10 * time.Millisecond

func processors() float64 { return float64(runtime.NumCPU()) }

// busyTime is what all processors have worked since the machine's start.
func busyTime() time.Duration {
	text, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(text), "\n")
	var busy int64
	for i, field := range strings.Fields(line) {
		const idle, wait, guest = 4, 5, 9 // guests count as users too
		if i == 0 || i == idle || i == wait || i >= guest {
			continue
		}
		n, _ := strconv.ParseInt(field, 10, 64)
		busy += n
	}
	return time.Duration(busy) * tick
}

func selfTime() time.Duration {
	s, _ := statOf(os.Getpid())
	return s.cpu
}

type stat struct {
	parent int
	cpu    time.Duration
}

// statOf reads /proc/PID/stat; ok is false for a process that has gone.
func statOf(pid int) (s stat, ok bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return s, false
	}
	// What is before the parenthesis may hold anything.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	s.parent, _ = strconv.Atoi(fields[1])
	for _, field := range fields[11:13] {
		n, _ := strconv.ParseInt(field, 10, 64)
		s.cpu += time.Duration(n) * tick
	}
	return s, true
}

// family is a process and its children: nginx's workers.
func family(pid int) []int {
	all := []int{pid}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		child, _ := strconv.Atoi(filepath.Base(d))
		if s, ok := statOf(child); ok && s.parent == pid {
			all = append(all, child)
		}
	}
	return all
}

// memoryOf is a line of /proc/PID/status, in bytes.
func memoryOf(pid int, field string) float64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			kib, _ := strconv.ParseFloat(strings.Fields(value)[0], 64)
			return kib * 1024
		}
	}
	return 0
}
