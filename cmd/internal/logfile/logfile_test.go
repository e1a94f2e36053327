package logfile

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func write(t *testing.T, l *File, lines int) {
	t.Helper()
	for i := range lines {
		if _, err := fmt.Fprintf(l, "line %04d\n", i); err != nil {
			t.Fatal(err)
		}
	}
}

func sizes(t *testing.T, dir string) string {
	t.Helper()
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	for _, entry := range all {
		info, err := entry.Info()
		if err != nil {
			t.Fatal(err)
		}
		said = append(said, fmt.Sprint(entry.Name(), " ", info.Size()))
	}
	return strings.Join(said, ", ")
}

func open(t *testing.T, path string) *File {
	t.Helper()
	l, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	l.Max, l.Keep = 100, 2
	return l
}

func TestRotation(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	l := open(t, path)
	write(t, l, 10)
	if got, want := sizes(t, dir), "log 100"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	write(t, l, 25)
	if got, want := sizes(t, dir), "log 50, log.1 100, log.2 100"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	// One that is opened again goes on.
	_ = l.Close()
	l = open(t, path)
	write(t, l, 6)
	if got, want := sizes(t, dir), "log 10, log.1 100, log.2 100"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// Somebody looks at the log: on Windows nobody can rename it meanwhile, and no
// line is lost.
func TestRotationWhileSomebodyReads(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	l := open(t, path)
	write(t, l, 10)
	reader, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	write(t, l, 5)
	got, want := sizes(t, dir), "log 50, log.1 100"
	if runtime.GOOS == "windows" {
		want = "log 150"
	}
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	_ = reader.Close()
	write(t, l, 20)
	all, err := filepath.Glob(filepath.Join(dir, "log*"))
	if err != nil || len(all) < 2 {
		t.Fatalf("got %v %v, want it renamed by now", all, err)
	}
	lines := 0
	for _, file := range all {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		lines += strings.Count(string(text), "\n")
	}
	if runtime.GOOS == "windows" && lines != 35 {
		t.Errorf("got %d lines, want 35", lines)
	}
}

// However often it fails to rename a log that somebody looks at, those before it
// stay.
func TestRotationThatFailsLosesNothing(t *testing.T) {
	if runtime.GOOS != "windows" {
		t.Skip("elsewhere a file that is open is renamed")
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	l := open(t, path)
	l.Keep = 4
	for n := 1; n <= l.Keep; n++ {
		if err := os.WriteFile(l.older(n), fmt.Appendf(nil, "before %d", n), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	reader, err := os.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	write(t, l, 60) // it tries again each 10 bytes
	// The first has made room for one: the oldest is gone.
	if got, want := sizes(t, dir), "log 600, log.2 8, log.3 8, log.4 8"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	_ = reader.Close()
	write(t, l, 2)
	if got, want := sizes(t, dir), "log 20, log.1 600, log.2 8, log.3 8, log.4 8"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestFolderThatIsGone(t *testing.T) {
	if _, err := Open(filepath.Join(t.TempDir(), "none", "log")); err == nil {
		t.Error("got no error")
	}
}
