package service

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/config"
)

// A file that a watcher looks at, without a disk: what is bad in it begins with !.
type fakeFile struct {
	content atomic.Value // of type string
	read    string

	mu          sync.Mutex // guards what follows
	taken, told []string
}

func newFakeFile(content string) *fakeFile {
	f := &fakeFile{}
	f.content.Store(content)
	return f
}

func (f *fakeFile) watched(used string) *watchedFiles {
	return &watchedFiles{
		used: config.FingerprintOf(config.FileText{Text: used}),
		look: func() config.Fingerprint {
			f.read = f.content.Load().(string)
			return config.FingerprintOf(config.FileText{Text: f.read})
		},
		take: func() []config.Problem {
			if f.read != "" && f.read[0] == '!' {
				return []config.Problem{{Text: f.read}}
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			f.taken = append(f.taken, f.read)
			return nil
		},
		tell: func(wrong []config.Problem) {
			said := "good"
			if wrong != nil {
				said = wrong[0].Text
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			f.told = append(f.told, said)
		},
	}
}

func (f *fakeFile) expect(t *testing.T, taken, told []string) {
	t.Helper()
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.Equal(f.taken, taken) || !slices.Equal(f.told, told) {
		t.Errorf("got taken %q, told %q, want %q and %q", f.taken, f.told, taken, told)
	}
}

// One rule for all files: what two looks agree on is used, what is bad is waited
// for and told of once, and the old one stays.
func TestWatcher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, other := newFakeFile("one"), newFakeFile("x")
		w := newWatcher(f.watched("one"), other.watched("x"))
		w.start()
		defer w.close()
		pass := func(d time.Duration) { time.Sleep(d); synctest.Wait() }
		pass(10*time.Second + 500*time.Millisecond)
		f.expect(t, nil, nil)

		f.content.Store("two")
		pass(1 * time.Second)
		f.expect(t, nil, nil) // one look
		pass(9 * time.Second)
		f.expect(t, []string{"two"}, []string{"good"})

		for _, half := range []string{"t", "!th", "thr", "thre"} { // as it is written
			f.content.Store(half)
			pass(time.Second)
		}
		f.content.Store("three")
		pass(9 * time.Second)
		f.expect(t, []string{"two", "three"}, []string{"good", "good"})

		f.content.Store("!bad")
		pass(4 * time.Second) // may be mended yet: a certificate whose key is to come
		f.expect(t, []string{"two", "three"}, []string{"good", "good"})
		pass(time.Hour)
		f.expect(t, []string{"two", "three"}, []string{"good", "good", "!bad"})
		f.content.Store("!worse")
		pass(10 * time.Second)
		f.expect(t, []string{"two", "three"}, []string{"good", "good", "!bad", "!worse"})
		f.content.Store("three") // what is in use
		pass(10 * time.Second)
		f.expect(t, []string{"two", "three"}, []string{"good", "good", "!bad", "!worse", "good"})

		f.content.Store("!briefly")
		pass(3 * time.Second)
		f.content.Store("three")
		pass(time.Minute)
		f.expect(t, []string{"two", "three"}, []string{"good", "good", "!bad", "!worse", "good"})
		other.expect(t, nil, nil)
	})
}

// Somebody who waits, by SIGHUP, has it at once, and is told of what is bad each
// time.
func TestWatcherNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeFile("two")
		w := newWatcher(f.watched("one"))
		w.start()
		defer w.close()
		var done []time.Duration
		start := time.Now()
		now := func() {
			w.now(func() { done = append(done, time.Since(start)) })
			time.Sleep(100 * time.Millisecond)
		}
		now()
		f.expect(t, []string{"two"}, []string{"good"})
		f.content.Store("!bad")
		now()
		now()
		f.expect(t, []string{"two"}, []string{"good", "!bad", "!bad"})
		time.Sleep(time.Minute)
		f.expect(t, []string{"two"}, []string{"good", "!bad", "!bad"})
		w.close()
		if want := []time.Duration{50 * time.Millisecond, 150 * time.Millisecond, 250 * time.Millisecond}; !slices.Equal(done, want) {
			t.Errorf("got what waits done after %v, want %v", done, want)
		}
	})
}

// With no file to look at, what waits is done all the same.
func TestWatcherOfNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatcher()
		w.start()
		done := make(chan struct{})
		w.now(func() { close(done) })
		<-done
		w.close()
	})
}
