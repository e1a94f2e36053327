// Package logfile is a log in a file that does not grow for ever, for a bearerd whose
// system keeps no log of it. It does not know what the lines say.
package logfile

import (
	"errors"
	"fmt"
	"os"
)

const (
	defaultMax  = 10 << 20
	defaultKeep = 4
)

// File is a log that is renamed aside when it has grown, and begun anew: FILE.1 is
// the one before, FILE.2 that before it. Open makes one, the fields may be set
// before the first Write, and one goroutine at a time may use it.
type File struct {
	Max  int64 // bytes; 0: 10 MiB
	Keep int   // files besides the one that is written; 0: 4

	path string
	f    *os.File
	size int64
	due  int64 // the size at which it is renamed; 0: Max
}

// Open opens a log, and goes on with one that is there.
func Open(path string) (*File, error) {
	l := &File{path: path}
	return l, l.open()
}

func (l *File) open() error {
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	l.f, l.size = f, info.Size()
	return nil
}

// Write takes whole lines. Where the log cannot be renamed, because somebody looks
// at it with a program that lets nobody do so, it goes on in the same file, and
// tries again when that has grown by a tenth more.
func (l *File) Write(p []byte) (int, error) {
	most := l.Max
	if most == 0 {
		most = defaultMax
	}
	if l.f != nil && l.size > 0 && l.size+int64(len(p)) > max(l.due, most) {
		l.due = 0
		if l.rotate(); l.size > 0 {
			l.due = l.size + int64(len(p)) + most/10
		}
	}
	if l.f == nil { // a disk that was gone may be back
		if err := l.open(); err != nil {
			return 0, err
		}
	}
	n, err := l.f.Write(p)
	l.size += int64(n)
	return n, err
}

// rotate begins a new file, or goes on with the old one.
func (l *File) rotate() {
	keep := l.Keep
	if keep == 0 {
		keep = defaultKeep
	}
	_ = l.f.Close()
	l.f = nil
	// A place that is free already is taken: one that failed before has left it, and
	// would push the oldest out each time. One that is held open stays, and with it
	// all that are younger.
	place := 1
	for place < keep {
		if _, err := os.Lstat(l.older(place)); err != nil {
			break
		}
		place++
	}
	for ; place > 0 && os.Rename(l.older(place-1), l.older(place)) == nil; place-- {
	}
	if l.open() != nil {
		l.size = 0
	}
}

// older is the nth log before this one.
func (l *File) older(n int) string {
	if n == 0 {
		return l.path
	}
	return fmt.Sprintf("%s.%d", l.path, n)
}

// Close closes the file.
func (l *File) Close() error {
	if l.f == nil {
		return nil
	}
	return l.f.Close()
}
