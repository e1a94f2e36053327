// Package keyring reads and keeps secrets in the system's own store: the Credential
// Manager of Windows, the Keychain of macOS, the Secret Service of a Linux desktop.
// By itself it has no dialog appear twice. It does not know what a secret is for.
package keyring

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/zalando/go-keyring"

	"github.com/bearerd/bearerd/cmd/internal/display"
	"github.com/bearerd/bearerd/tokens"
)

// StoreName is what people call this system's store.
const StoreName = "the " + storeName

// Service is the name that all entries are filed under: an entry NAME is
// "bearerd:NAME" in the Credential Manager, the service bearerd with the account
// NAME in the Keychain, and so is it in a Secret Service by its attributes service
// and username.
const Service = "bearerd"

const (
	// again is the least time between two reads that no login causes.
	again = time.Minute
	// patience is how long a login waits for the store.
	patience = 5 * time.Second
	// dialogPatience is how long a person has who is at a terminal.
	dialogPatience = 2 * time.Minute
)

// maxSecret is how many bytes all systems take: security of macOS reads 4,096 of a
// command, and takes the rest for another one (zalando/go-keyring 84).
const maxSecret = 2048

// Backend is a store as its system has it. Its methods may block for as long as a
// dialog is open, and are called one at a time. Errors are of type Error.
type Backend interface {
	// Get returns the content of an entry. Unless mayAsk, no dialog appears, as far
	// as the system lets that be known before.
	Get(name string, mayAsk bool) (string, error)
	Set(name, secret string) error
	Delete(name string) error
}

// Store is a store that is asked one thing at a time. Make it with [New].
type Store struct {
	backend Backend
	turn    chan struct{} // holds one while the backend is asked
}

// New returns a store of b; nil: the system's own.
func New(b Backend) *Store {
	if b == nil {
		b = systemBackend()
	}
	return &Store{b, make(chan struct{}, 1)}
}

// answer is what the backend said.
type answer struct {
	secret tokens.Secret
	err    error
}

// ask has f ask the backend in its turn, and returns where its answer comes.
// Nothing can end f: a dialog may be open.
func (s *Store) ask(f func() (string, error)) <-chan answer {
	came := make(chan answer, 1)
	go func() {
		s.turn <- struct{}{}
		text, err := f()
		<-s.turn
		came <- answer{tokens.Secret(text), err}
	}()
	return came
}

// wait returns the answer that comes, or that none did in time.
func wait(ctx context.Context, came <-chan answer) (string, error) {
	select {
	case a := <-came:
		return a.secret.Reveal(), a.err
	case <-ctx.Done():
		return "", Error{Problem: Unanswered}
	}
}

// Keep puts a secret into an entry, new or not, and reads it back. A person sits at
// the terminal and may have to unlock the store: it waits for two minutes at most.
func (s *Store) Keep(ctx context.Context, name string, secret tokens.Secret) error {
	if len(secret) > maxSecret {
		return Error{Problem: TooLarge}
	}
	ctx, cancel := context.WithTimeout(ctx, dialogPatience)
	defer cancel()
	back, err := wait(ctx, s.ask(func() (string, error) {
		if err := s.backend.Set(name, secret.Reveal()); err != nil {
			return "", err
		}
		return s.backend.Get(name, true)
	}))
	if err == nil && decode(back) != secret.Reveal() {
		err = Error{Problem: Changed}
	}
	return err
}

// Remove removes an entry. One that is not there is no error.
func (s *Store) Remove(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, dialogPatience)
	defer cancel()
	_, err := wait(ctx, s.ask(func() (string, error) { return "", s.backend.Delete(name) }))
	if failed, ok := errors.AsType[Error](err); ok && failed.Problem == Missing {
		return nil
	}
	return err
}

// Absent returns why nothing can be kept in s, as far as can be known without a
// dialog; nil: nothing is known against it.
func (s *Store) Absent() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := wait(ctx, s.ask(func() (string, error) { return s.backend.Get("bearerd setup", false) }))
	if failed, ok := errors.AsType[Error](err); ok && (failed.Problem == Absent || failed.Problem == NoKeyring || failed.Problem == Failed || failed.Problem == Unanswered) {
		return err
	}
	return nil
}

// Entry returns one entry of s, to be read for logins.
func (s *Store) Entry(name string) *Entry { return &Entry{store: s, name: name} }

// Entry is a secret in a store. It is a [tokens.StoredSecret].
type Entry struct {
	store *Store
	name  string

	mu    sync.Mutex // guards what follows
	under *reading   // the read under way; nil: none
	begun time.Time  // when the last read was begun
	last  answer     // of the last read that ended
	ended bool       // one has
}

// reading is one read, and those who wait for it.
type reading struct {
	done chan struct{}
	late bool // a login has waited in vain; guarded by the entry's mu
	answer
}

// Read returns the secret as it is now, for a login. It waits for the store for 5 s,
// or until ctx ends. Where a read is under way, as somebody has not answered its
// dialog yet, it waits for that one. If asked, a person wants the login, and may be
// asked to unlock the store. Errors are of type [Error].
func (e *Entry) Read(ctx context.Context, asked bool) (tokens.Secret, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	e.mu.Lock()
	r := e.begin(asked)
	e.mu.Unlock()
	select {
	case <-r.done:
		return r.secret, r.err
	case <-ctx.Done():
		e.mu.Lock()
		defer e.mu.Unlock()
		r.late = true
		return "", Error{Problem: Unanswered}
	}
}

// Look returns what the last read brought, and does not wait. If failing, it begins
// another one a minute after the last, which never has a dialog appear.
func (e *Entry) Look(failing bool) (tokens.Secret, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if failing && e.under == nil && time.Since(e.begun) >= again {
		e.begin(false)
	}
	if !e.ended || e.under != nil && e.under.late {
		return "", Error{Problem: Unanswered}
	}
	return e.last.secret, e.last.err
}

// begin begins a read unless one is under way. The caller holds mu.
func (e *Entry) begin(asked bool) *reading {
	if e.under != nil {
		return e.under
	}
	r := &reading{done: make(chan struct{})}
	e.under, e.begun = r, time.Now()
	came := e.store.ask(func() (string, error) { return e.store.backend.Get(e.name, asked) })
	go func() { // ends when the store answers
		a := <-came
		a.secret, a.err = e.usable(a)
		e.mu.Lock()
		e.under, e.last, e.ended, r.answer = nil, a, true, a
		e.mu.Unlock()
		close(r.done)
	}()
	return r
}

// usable returns what a holds as it may be sent.
func (e *Entry) usable(a answer) (tokens.Secret, error) {
	if a.err != nil {
		return "", a.err
	}
	text := decode(a.secret.Reveal())
	if text == "" {
		return "", Error{Problem: Empty}
	}
	if err := tokens.CheckSecret(text); err != nil {
		return "", Error{Problem: Unreadable, detail: err.Error()}
	}
	return tokens.Secret(text), nil
}

// Problem is what keeps an entry from being read.
type Problem string

const (
	Absent     Problem = "there is none in this session"
	Locked     Problem = "it is locked"
	NoKeyring  Problem = "it has no keyring yet, which the desktop makes at the first login"
	Missing    Problem = "it has no such entry"
	Denied     Problem = "it was not permitted"
	Unanswered Problem = "it has not answered yet; a dialog of it may be open"
	Empty      Problem = "the entry is empty"
	Unreadable Problem = "the entry cannot be used"
	TooLarge   Problem = "the secret is larger than 2,048 bytes"
	Changed    Problem = "it gave back something else than was put there"
	Failed     Problem = "it failed"
)

// Error is why an entry cannot be had. Its text is safe to log: it does not name the
// entry, as that may be the secret itself, put in the wrong place.
type Error struct {
	Problem Problem
	detail  string // a fixed phrase, or what the system says; "": none
}

func (e Error) Error() string {
	text := "the system's key store (" + storeName + "): " + string(e.Problem)
	if e.detail != "" {
		text += ": " + e.detail
	}
	return text
}

// Remedy says what a person can do.
func (e Error) Remedy() string {
	switch e.Problem {
	case Absent, NoKeyring:
		return absentRemedy
	case Locked, Unanswered, Denied:
		return "unlock it, as by logging in at the desktop, and permit bearerd to read the entry; to be asked for that, log in again by SIGHUP or POST /login on the admin listener"
	case Missing, Empty, Unreadable, Changed:
		return "put the secret there by bearerd setup, or by " + putByHand
	case TooLarge:
		return "keep it in a file, and set the variable that ends in _FILE"
	}
	return "keep the secret in a file, and set the variable that ends in _FILE, if this lasts"
}

// failure makes an Error of what go-keyring says and no system explains better.
func failure(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, keyring.ErrNotFound):
		return Error{Problem: Missing}
	case errors.Is(err, keyring.ErrSetDataTooBig):
		return Error{Problem: TooLarge}
	case errors.Is(err, keyring.ErrUnsupportedPlatform):
		return Error{Problem: Absent}
	}
	return Error{Problem: Failed, detail: display.CutText(display.OneLine(err.Error()))}
}

// decode returns the text of an entry: what is edited in the Credential Manager
// itself, or put there by cmdkey, is in UTF-16. No text in UTF-8 has a NUL in it
// that could be a password's.
func decode(content string) string {
	if len(content)%2 != 0 || !strings.Contains(content, "\x00") {
		return content
	}
	return decodeUTF16(content)
}
