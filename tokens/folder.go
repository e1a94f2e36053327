package tokens

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/crypto/argon2"
)

const (
	folderFile = "logins.json" // exists only while there is a refusal to remember
	folderLock = "logins.lock" // held by the process that is at that file, or logs in with something to remember
	folderPoll = time.Second   // between two looks for news
	lockPoll   = 25 * time.Millisecond
	// folderMost bounds the accounts that are remembered, and folderKept the time.
	folderMost = 16
	folderKept = 30 * 24 * time.Hour
)

// Folder is a [Store] that keeps refused logins, a stop and a time to wait over
// restarts of this machine's processes, in a folder of a disk; never a token.
// Nothing is written, and no hash is computed, while there is nothing to remember.
// Several processes may share one. An account is told from others by a slow salted
// hash only. Path must be set.
type Folder struct {
	Path string                           // is made where it is missing
	Now  func() time.Time                 // wall clock; nil: time.Now
	Hash func(secret, salt []byte) []byte // slow; nil: SlowHash
	Tell func(error)                      // told, once a trouble, that the folder cannot be used; nil: nobody is

	mu     sync.Mutex // guards what follows
	name   string     // of account with salt
	salt   string
	of     Account
	failed bool // and told of
}

// FolderFiles are those that a [Folder] may have left at path.
func FolderFiles(path string) []string {
	files, _ := filepath.Glob(filepath.Join(path, folderFile+"*")) // what a crash has left of one, too
	return append(files, filepath.Join(path, folderLock))
}

// folderContent is the file.
type folderContent struct {
	Salt     string                  `json:"salt"`
	Accounts map[string]folderRecord `json:"accounts"`
}

type folderRecord struct {
	Written time.Time       `json:"written"`
	Logins  json.RawMessage `json:"logins"` // of State.Encode
	// Begun is when the next login began; zero when it has ended. Where its process
	// ended first, nobody knows whether it counts: it does.
	Begun time.Time `json:"begun,omitzero"`
}

// state returns what r says, now.
func (r folderRecord) state(now time.Time) (s State, ahead bool, err error) {
	s, ahead, err = DecodeState(r.Logins, now, now)
	s.Token, s.Generation = nil, 0
	if err != nil || r.Begun.IsZero() || s.Failure.Kind == "" {
		return s, ahead, err
	}
	b := backoff{rejections: s.Rejections, refused: s.Refused, worked: s.Worked}
	s.Whole, s.Failure.Stopped = b.failed(Failure{Kind: Rejected}, -1)
	s.Logins, s.Rejections, s.Failure.Kind, s.Failure.Rejections = s.Logins+1, b.rejections, Rejected, b.rejections
	passed := now.Sub(r.Begun)
	s.Wait = min(max(s.Whole-passed, 0), s.Whole)
	return s, ahead || passed < 0, nil
}

func (f *Folder) now() time.Time {
	if f.Now != nil {
		return f.Now().Round(0)
	}
	return time.Now().Round(0)
}

func (f *Folder) file() string { return filepath.Join(f.Path, folderFile) }

// Turn is as [Store] says. While there is something to remember, of whatever
// account, one process at a time has it.
func (f *Folder) Turn(ctx context.Context, a Account, known State) (State, *Turn, error) {
	if _, err := os.Lstat(f.file()); errors.Is(err, fs.ErrNotExist) {
		return known, &Turn{End: func(s State, cut bool) { f.note(a, s, known, cut, nil) }}, nil
	}
	lock, err := f.lock(ctx)
	if err != nil {
		return State{}, nil, f.tell(err)
	}
	found, err := f.find(a)
	if err != nil {
		lock.free()
		return State{}, nil, f.tell(err)
	}
	f.tell(nil)
	if found.NewerThan(known) {
		lock.free()
		return found, nil, nil
	}
	if err := f.begin(a); err != nil {
		lock.free()
		return State{}, nil, f.tell(err)
	}
	return known, &Turn{End: func(s State, cut bool) { f.note(a, s, known, cut, lock) }}, nil
}

// Remembers returns what is remembered of a where that holds logins back now. It
// neither waits for another process nor tells of a trouble.
func (f *Folder) Remembers(a Account) (s State, holds bool) {
	c, err := f.read()
	if err != nil || len(c.Accounts) == 0 {
		return State{}, false
	}
	now := f.now()
	s, _, err = c.Accounts[f.nameOf(a, c.Salt)].state(now)
	return s, err == nil && s.Holds()
}

// News is as [Store] says.
func (f *Folder) News(ctx context.Context, a Account, known State) (State, error) {
	ticker := time.NewTicker(folderPoll)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return State{}, ctx.Err()
		case <-ticker.C:
		}
		if _, err := os.Lstat(f.file()); err != nil {
			continue
		}
		lock, err := f.lock(ctx)
		if err != nil {
			continue
		}
		found, err := f.find(a)
		lock.free()
		if err == nil && found.NewerThan(known) {
			return found, nil
		}
	}
}

// lock locks the folder. It waits until ctx ends.
func (f *Folder) lock(ctx context.Context) (*folderHold, error) {
	if err := os.MkdirAll(f.Path, 0o700); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(filepath.Join(f.Path, folderLock), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		got, err := tryLock(file)
		if got {
			return &folderHold{file}, nil
		}
		if err != nil {
			_ = file.Close()
			return nil, err
		}
		select {
		case <-ctx.Done():
			_ = file.Close()
			return nil, ctx.Err()
		case <-time.After(lockPoll):
		}
	}
}

// A folderHold is a folder that is locked; the system frees it where the process ends.
type folderHold struct{ file *os.File }

func (h *folderHold) free() { _ = h.file.Close() }

// find returns what is remembered of a; nothing is the zero State. The caller
// holds the lock.
func (f *Folder) find(a Account) (State, error) {
	c, err := f.read()
	if err != nil || len(c.Accounts) == 0 {
		return State{}, err
	}
	name := f.nameOf(a, c.Salt)
	r, ok := c.Accounts[name]
	if !ok {
		return State{}, nil
	}
	now := f.now()
	s, ahead, err := r.state(now)
	if err != nil {
		return State{}, nil // what nobody can read is nothing
	}
	if ahead || !r.Begun.IsZero() {
		// The wait must pass although the clock is behind, and the process may be
		// started again before it has.
		c.Accounts[name] = folderRecord{Written: now, Logins: s.Encode(now, now)}
		err = f.write(c)
	}
	return s, err
}

// begin notes that a login begins, where there is something to remember of a. The
// caller holds the lock.
func (f *Folder) begin(a Account) error {
	c, err := f.read()
	if err != nil || len(c.Accounts) == 0 {
		return err
	}
	name := f.nameOf(a, c.Salt)
	if r, ok := c.Accounts[name]; ok {
		r.Begun = f.now()
		c.Accounts[name] = r
		return f.write(c)
	}
	return nil
}

// note remembers what came of a login, and frees lock. known is what was known
// before it; without lock, others may have found out more since.
func (f *Folder) note(a Account, s, known State, cut bool, lock *folderHold) {
	refused := s.Failure.Kind != ""
	if lock == nil {
		if !refused {
			if _, err := os.Lstat(f.file()); errors.Is(err, fs.ErrNotExist) {
				return
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
		defer cancel()
		var err error
		if lock, err = f.lock(ctx); err != nil {
			_ = f.tell(err)
			return
		}
	}
	defer lock.free()
	if cut {
		return // what begin has noted holds
	}
	c, err := f.read()
	if err != nil {
		_ = f.tell(err)
		return
	}
	if !s.NewerThan(known) { // no answer came
		if len(c.Accounts) > 0 {
			name := f.nameOf(a, c.Salt)
			if r, ok := c.Accounts[name]; ok {
				r.Begun = time.Time{}
				c.Accounts[name] = r
				_ = f.tell(f.write(c))
			}
		}
		return
	}
	if c.Salt == "" || len(c.Accounts) == 0 {
		if !refused {
			return
		}
		c = folderContent{Salt: base64.RawStdEncoding.EncodeToString(random(16)), Accounts: map[string]folderRecord{}}
	}
	now, name := f.now(), f.nameOf(a, c.Salt)
	if refused {
		if r, ok := c.Accounts[name]; ok {
			r.Begun = time.Time{} // this login
			if other, _, err := r.state(now); err == nil {
				s = s.after(other, known)
			}
		}
		s.Token, s.Generation = nil, 0
		c.Accounts[name] = folderRecord{Written: now, Logins: s.Encode(now, now)}
	} else {
		delete(c.Accounts, name)
	}
	for name, r := range c.Accounts {
		if now.Sub(r.Written) > folderKept {
			delete(c.Accounts, name)
		}
	}
	for len(c.Accounts) > folderMost {
		oldest := ""
		for name, r := range c.Accounts {
			if oldest == "" || r.Written.Before(c.Accounts[oldest].Written) {
				oldest = name
			}
		}
		delete(c.Accounts, oldest)
	}
	_ = f.tell(f.write(c))
}

// after is s, the end of a refused login that was begun with known, where other
// has been noted since: both count.
func (s State) after(other, known State) State {
	if !other.NewerThan(known) || other.Failure.Kind == "" {
		return s
	}
	s.Logins = max(s.Logins, other.Logins+1)
	if s.Failure.Kind == Rejected {
		s.Rejections = max(s.Rejections, other.Rejections+1)
	}
	s.Rejections = max(s.Rejections, other.Rejections)
	s.Refused, s.Worked = s.Refused || other.Refused, s.Worked || other.Worked
	s.Failure.Stopped = s.Failure.Stopped || other.Failure.Stopped || s.Rejections >= QuickRejections && s.Refused && !s.Worked
	return s
}

// read reads the file. What cannot be understood is nothing: it holds no more than
// a wait, and is written anew.
func (f *Folder) read() (c folderContent, err error) {
	text, err := os.ReadFile(f.file())
	if errors.Is(err, fs.ErrNotExist) {
		return folderContent{}, nil
	}
	if err != nil {
		return folderContent{}, err
	}
	if json.Unmarshal(text, &c) != nil || c.Salt == "" {
		return folderContent{}, nil
	}
	return c, nil
}

// write writes the file whole, or removes it where there is nothing to remember.
// The caller holds the lock.
func (f *Folder) write(c folderContent) error {
	if len(c.Accounts) == 0 {
		if err := os.Remove(f.file()); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	text, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return WriteFile(f.file(), append(text, '\n'), 0o600)
}

// nameOf is what a is called in the file: a slow salted hash, as a password is in it.
func (f *Folder) nameOf(a Account, salt string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.name == "" || f.of != a || f.salt != salt {
		f.of, f.salt = a, salt
		hash := f.Hash
		if hash == nil {
			hash = SlowHash
		}
		f.name = base64.RawURLEncoding.EncodeToString(hash(a.Material(), []byte(salt)))
	}
	return f.name
}

// tell tells of a trouble, once until there is none, and returns it.
func (f *Folder) tell(err error) error {
	f.mu.Lock()
	told := f.failed
	f.failed = err != nil
	f.mu.Unlock()
	if err != nil && !told && f.Tell != nil {
		f.Tell(err)
	}
	return err
}

// SlowHash is argon2id (RFC 9106) with 19 MiB and two passes, the least that OWASP
// recommends for passwords: 32 bytes.
func SlowHash(secret, salt []byte) []byte { return argon2.IDKey(secret, salt, 2, 19<<10, 1, 32) }

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}
