package tokens_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bearerd/bearerd/tokens"
)

// A keyStore is a store of the system, with one secret in it.
type keyStore struct {
	mu      sync.Mutex // guards what follows
	secret  tokens.Secret
	err     error
	asked   []bool // of each Read
	failing int    // looks while logins failed
}

func (s *keyStore) Read(_ context.Context, asked bool) (tokens.Secret, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, asked)
	return s.secret, s.err
}

func (s *keyStore) Look(failing bool) (tokens.Secret, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if failing {
		s.failing++
	}
	return s.secret, s.err
}

func (s *keyStore) set(secret tokens.Secret, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secret, s.err = secret, err
}

func fromStore(s *keyStore) func(*tokens.Options) {
	return func(o *tokens.Options) { o.Login.Password = tokens.Source{Stored: s} }
}

// A store that is locked costs no login, and one that is unlocked causes it. A
// person is asked to unlock it at the start, and when somebody wants a login.
func TestAStoreIsWaitedFor(t *testing.T) {
	bubble(t, func(t *testing.T) {
		locked := errors.New("the store: it is locked")
		store := &keyStore{err: locked}
		s := onlyPassword(t, "right")
		m := newManager(t, s, fromStore(store))
		m.Start()
		wait(10 * time.Minute)
		s.expectLogins(0)
		e := m.lastEvent()
		if !e.Waiting || e.Cause.Kind != tokens.CauseStore || !errors.Is(e.Cause.Err, locked) || e.Cause.String() != "waiting for the password in the store: it is locked" {
			t.Errorf("got %+v, want to wait for the store", e)
		}
		if len(m.seen()) != 1 {
			t.Errorf("told of %d times, want once", len(m.seen()))
		}
		m.LogInAgain()
		synctest.Wait()
		if !slices.Equal(store.asked, []bool{true, true}) || store.failing < 500 {
			t.Errorf("read with asked %v and looked at %d times while failing, want two reads for a person", store.asked, store.failing)
		}
		store.set("right", nil)
		wait(5 * time.Second)
		m.good(1)
		s.expectLogins(1)
	})
}

// It is read before each login, with nobody asked; a new password in it ends the
// stop after refusals.
func TestAStoreIsReadBeforeEachLogin(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := &keyStore{secret: "wrong"}
		s := onlyPassword(t, "right")
		m := newManager(t, s, fromStore(store), func(o *tokens.Options) { o.KeepWarm = true })
		m.Start()
		wait(time.Hour)
		s.expectLogins(tokens.QuickRejections)
		if !m.Status().Stopped {
			t.Error("not stopped")
		}
		store.set("right", nil)
		wait(5 * time.Second)
		m.good(1)
		before := store.failing
		wait(30 * time.Minute)
		if n := len(s.seen()); n < 12 || len(store.asked) != n || slices.Contains(store.asked[1:], true) {
			t.Errorf("%d logins and reads for %v, want one for each, with nobody asked but at the start", n, store.asked)
		}
		if store.failing != before {
			t.Errorf("%d looks as if logins failed, want none", store.failing-before)
		}
	})
}
