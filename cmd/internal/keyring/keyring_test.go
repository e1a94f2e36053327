package keyring_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf16"

	"github.com/bearerd/bearerd/cmd/internal/keyring"
	"github.com/bearerd/bearerd/tokens"
)

// fakeStore is a store whose dialog is answered when a test says so.
type fakeStore struct {
	mu      sync.Mutex // guards all but answer
	entries map[string]string
	locked  bool
	dialogs int
	answer  chan error // of the dialog: nil unlocks
	reads   int
}

func (s *fakeStore) Get(name string, mayAsk bool) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	if s.locked {
		if !mayAsk {
			return "", keyring.Error{Problem: keyring.Locked}
		}
		s.dialogs++
		s.mu.Unlock()
		err := <-s.answer
		s.mu.Lock()
		if err != nil {
			return "", err
		}
		s.locked = false
	}
	secret, ok := s.entries[name]
	if !ok {
		return "", keyring.Error{Problem: keyring.Missing}
	}
	return secret, nil
}

// counts are how many dialogs there were, and reads.
func (s *fakeStore) counts() (dialogs, reads int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dialogs, s.reads
}

func (s *fakeStore) Set(name, secret string) error { s.entries[name] = secret; return nil }

func (s *fakeStore) Delete(name string) error {
	if _, ok := s.entries[name]; !ok {
		return keyring.Error{Problem: keyring.Missing}
	}
	delete(s.entries, name)
	return nil
}

func newFake() *fakeStore {
	return &fakeStore{entries: map[string]string{"x": "pa$$word"}, answer: make(chan error)}
}

func expect(t *testing.T, secret tokens.Secret, err error, want string, problem keyring.Problem) {
	t.Helper()
	failed, _ := errors.AsType[keyring.Error](err)
	if secret.Reveal() != want || failed.Problem != problem {
		t.Errorf("got %q, %v, want %q, %q", secret.Reveal(), err, want, problem)
	}
}

func TestReadsBeforeEachLogin(t *testing.T) {
	s := newFake()
	e := keyring.New(s).Entry("x")
	secret, err := e.Read(t.Context(), false)
	expect(t, secret, err, "pa$$word", "")
	s.entries["x"] = "another"
	if secret, err = e.Look(false); secret.Reveal() != "pa$$word" {
		t.Errorf("Look: got %q, %v, want what was read", secret.Reveal(), err)
	}
	secret, err = e.Read(t.Context(), false)
	expect(t, secret, err, "another", "")
}

// A dialog appears once, where a person asked. Nothing that bearerd does by itself
// has another one appear, and what it waits for is not asked for twice.
func TestNoDialogAppearsAgainByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFake()
		s.locked = true
		e := keyring.New(s).Entry("x")
		secret, err := e.Read(t.Context(), true)
		expect(t, secret, err, "", keyring.Unanswered) // the login has waited 5 s
		for range 600 {
			time.Sleep(time.Second)
			secret, err = e.Look(true)
			expect(t, secret, err, "", keyring.Unanswered)
		}
		secret, err = e.Read(t.Context(), true)
		expect(t, secret, err, "", keyring.Unanswered)
		if dialogs, reads := s.counts(); dialogs != 1 || reads != 1 {
			t.Fatalf("got %d dialogs and %d reads, want the one that nobody has answered", dialogs, reads)
		}
		s.answer <- keyring.Error{Problem: keyring.Denied}
		synctest.Wait()
		secret, err = e.Look(true)
		expect(t, secret, err, "", keyring.Denied)
		for range 600 {
			time.Sleep(time.Second)
			_, _ = e.Look(true)
		}
		secret, err = e.Read(t.Context(), false)
		expect(t, secret, err, "", keyring.Locked)
		if dialogs, reads := s.counts(); dialogs != 1 || reads < 10 || reads > 13 {
			t.Errorf("got %d dialogs and %d reads in ten minutes, want one a minute and no dialog", dialogs, reads)
		}
		s.mu.Lock()
		s.locked = false // at the desktop
		s.mu.Unlock()
		time.Sleep(time.Minute)
		_, _ = e.Look(true)
		synctest.Wait()
		secret, err = e.Look(true)
		expect(t, secret, err, "pa$$word", "")
	})
}

// The answer of a dialog that took longer than the login is not lost.
func TestALateAnswerIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFake()
		s.locked = true
		e := keyring.New(s).Entry("x")
		_, err := e.Read(t.Context(), true)
		expect(t, "", err, "", keyring.Unanswered)
		s.answer <- nil
		synctest.Wait()
		secret, err := e.Look(false)
		expect(t, secret, err, "pa$$word", "")
	})
}

func TestALoginThatEndsDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFake()
		s.locked = true
		e := keyring.New(s).Entry("x")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := e.Read(ctx, true)
		expect(t, "", err, "", keyring.Unanswered)
		s.answer <- nil
	})
}

// What Windows' own dialog, or cmdkey, has written is UTF-16. What is no password is
// refused here, and not sent.
func TestContents(t *testing.T) {
	wide := func(text string) string {
		var b strings.Builder
		for _, u := range utf16.Encode([]rune(text)) {
			b.WriteByte(byte(u))
			b.WriteByte(byte(u >> 8))
		}
		return b.String()
	}
	for name, c := range map[string]struct {
		content, want string
		problem       keyring.Problem
	}{
		"UTF-8":              {"pässword", "pässword", ""},
		"UTF-16":             {wide("pässword€"), "pässword€", ""},
		"UTF-16 with a BOM":  {wide("\ufeffpassword"), "password", ""},
		"nothing":            {"", "", keyring.Empty},
		"a line end":         {"password\n", "", keyring.Unreadable},
		"half a letter":      {wide("password") + "x", "", keyring.Unreadable},
		"a lone surrogate":   {"p\x00\x00\xd8", "", keyring.Unreadable},
		"UTF-16, with a NUL": {wide("pass\x00word"), "", keyring.Unreadable},
		"Latin-1":            {"p\xe4ssword", "", keyring.Unreadable},
	} {
		t.Run(name, func(t *testing.T) {
			s := newFake()
			s.entries["x"] = c.content
			secret, err := keyring.New(s).Entry("x").Read(t.Context(), false)
			if err != nil && strings.Contains(err.Error(), "ssword") {
				t.Errorf("the error shows it: %v", err)
			}
			expect(t, secret, err, c.want, c.problem)
		})
	}
}

func TestKeepReadsBack(t *testing.T) {
	s := newFake()
	store := keyring.New(s)
	if err := store.Keep(t.Context(), "y", "secret"); err != nil || s.entries["y"] != "secret" {
		t.Errorf("got %v and %q", err, s.entries["y"])
	}
	expect(t, "", store.Keep(t.Context(), "y", tokens.Secret(strings.Repeat("x", 2049))), "", keyring.TooLarge)
	expect(t, "", keyring.New(forgetful{s}).Keep(t.Context(), "z", "secret"), "", keyring.Changed)
	for range 2 {
		if err := store.Remove(t.Context(), "y"); err != nil {
			t.Error(err)
		}
	}
}

// forgetful keeps something else than it is given.
type forgetful struct{ *fakeStore }

func (f forgetful) Set(name, secret string) error { return f.fakeStore.Set(name, secret[1:]) }

func TestEveryProblemHasARemedy(t *testing.T) {
	for _, p := range []keyring.Problem{keyring.Absent, keyring.NoKeyring, keyring.Locked, keyring.Missing, keyring.Denied, keyring.Unanswered, keyring.Empty, keyring.Unreadable, keyring.TooLarge, keyring.Changed, keyring.Failed} {
		if e := (keyring.Error{Problem: p}); e.Remedy() == "" || !strings.Contains(e.Error(), string(p)) {
			t.Errorf("%q: got %q, %q", p, e.Error(), e.Remedy())
		}
	}
}
