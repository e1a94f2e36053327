package tokens_test

import (
	"crypto/sha256"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bearerd/bearerd/tokens"
)

// in has a Manager keep its refusals in the folder.
func in(folder string) func(*tokens.Options) {
	return func(o *tokens.Options) { o.Store = &tokens.Folder{Path: folder, Hash: quickHash} }
}

// quickHash is no slow one: these tests start a hundred processes.
func quickHash(secret, salt []byte) []byte {
	sum := sha256.Sum256(slices.Concat(secret, salt))
	return sum[:]
}

// run starts a Manager that logs in at s, lets d pass, and ends it.
func run(t *testing.T, s *loginServer, d time.Duration, change ...func(*tokens.Options)) (last tokens.Event) {
	t.Helper()
	m := newManager(t, s, change...)
	m.Start()
	wait(d)
	m.Close()
	if events := m.seen(); len(events) > 0 {
		last = events[len(events)-1]
	}
	return last
}

func files(t *testing.T, folder string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// A crash loop with a refused password makes five logins in all, at the times of
// one process that is not restarted.
func TestFolderCrashLoop(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, folder := newServer(t, rejected), filepath.Join(t.TempDir(), "made")
		var last tokens.Event
		for range 80 {
			last = run(t, s, 10*time.Second, in(folder))
		}
		s.expectLogins(5)
		for i, least := range []time.Duration{30, 60, 120, 240} {
			at := s.times()
			if got := at[i+1] - at[i]; got < least*time.Second || got > least*time.Second+11*time.Second {
				t.Errorf("login %d came %v after the one before, want %v and the time to the next start", i+2, got, least*time.Second)
			}
		}
		if last.Why != tokens.Adopted || !last.Stopped || last.Rejections != 5 || last.Cause.Status != 401 || last.FailingSince.IsZero() {
			t.Errorf("got the event %+v, want that logins are stopped after 5", last)
		}
	})
}

// While nothing is refused there is no file, and after a success none any more.
func TestFolderIsEmptyWithoutARefusal(t *testing.T) {
	bubble(t, func(t *testing.T) {
		folder := t.TempDir()
		run(t, newServer(t, nil), time.Hour, in(folder))
		if got := files(t, folder); got != nil {
			t.Errorf("after good logins the folder has %q, want nothing", got)
		}
		run(t, newServer(t, down), time.Minute, in(folder))
		if got := files(t, folder); got != nil {
			t.Errorf("after a fault the folder has %q, want nothing", got)
		}
		run(t, newServer(t, rejected), time.Second, in(folder))
		text, err := os.ReadFile(filepath.Join(folder, "logins.json"))
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{passwordText, secretText, "user", tokenText} {
			if strings.Contains(string(text), secret) {
				t.Errorf("the file shows %q: %s", secret, text)
			}
		}
		run(t, newServer(t, nil), time.Minute, in(folder))
		for _, name := range files(t, folder) {
			if name != "logins.lock" {
				t.Errorf("after a success the folder has %s", name)
			}
		}
	})
}

// What is remembered belongs to the whole login: a change of any is tried at once.
func TestFolderTriesAChangeAtOnce(t *testing.T) {
	for name, change := range map[string]func(*tokens.Login){
		"url":      func(l *tokens.Login) { l.URL += "2" },
		"host":     func(l *tokens.Login) { l.Host = "other.test" },
		"client":   func(l *tokens.Login) { l.ClientID = "other" },
		"auth":     func(l *tokens.Login) { l.ClientAuth = "basic" },
		"grant":    func(l *tokens.Login) { l.Grant = "client_credentials" },
		"scope":    func(l *tokens.Login) { l.Scope = "all" },
		"params":   func(l *tokens.Login) { l.Params.Value = "audience=x" },
		"user":     func(l *tokens.Login) { l.Username.Value = "other" },
		"password": func(l *tokens.Login) { l.Password.Value = "other" },
		"secret":   func(l *tokens.Login) { l.ClientSecret.Value = "other" },
		"user, too": func(l *tokens.Login) {
			l.Username.Value, l.Password.Value = "user"+tokens.Secret(passwordText[:1]), tokens.Secret(passwordText[1:])
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T) {
				s, folder := newServer(t, rejected), t.TempDir()
				run(t, s, time.Second, in(folder))
				run(t, s, time.Second, in(folder))
				s.expectLogins(1)
				run(t, s, time.Second, in(folder), func(o *tokens.Options) { change(&o.Login) })
				s.expectLogins(2)
				run(t, s, time.Second, in(folder))
				s.expectLogins(2) // the first is remembered still
			})
		})
	}
}

// A password that has worked is tried each hour, over restarts too: it may be a
// lock that passes.
func TestFolderRemembersThatItHasWorked(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, folder := newServer(t, goodThen(reply{status: 401, body: `{"error":"invalid_grant"}`})), t.TempDir()
		run(t, s, 15*time.Minute, in(folder), func(o *tokens.Options) { o.KeepWarm = true })
		s.expectLogins(6)
		for range 10 {
			run(t, s, 30*time.Minute, in(folder))
		}
		if got := len(s.seen()); got < 6+3 || got > 6+6 {
			t.Errorf("got %d logins in five hours, want one an hour", got-6)
		}
	})
}

// No wait outlasts its own length whatever the clock says.
func TestFolderClock(t *testing.T) {
	for name, step := range map[string]time.Duration{"set back": -100 * 24 * time.Hour, "set ahead": 100 * 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s, folder := newServer(t, rejected), t.TempDir()
				run(t, s, time.Second, in(folder))
				changed := func(o *tokens.Options) {
					o.Store = &tokens.Folder{Path: folder, Hash: quickHash, Now: func() time.Time { return time.Now().Add(step) }}
				}
				for range 35 {
					run(t, s, time.Second, changed)
				}
				s.expectLogins(2)
			})
		})
	}
}

// Two processes that share the folder make five logins in all.
func TestFolderIsShared(t *testing.T) {
	bubble(t, func(t *testing.T) {
		folder := t.TempDir()
		one, two := newServer(t, rejected), newServer(t, rejected)
		a, b := newManager(t, one, in(folder)), newManager(t, two, in(folder))
		a.Start()
		b.Start()
		wait(20 * time.Minute)
		if got := len(one.seen()) + len(two.seen()); got != 5 {
			t.Errorf("got %d logins, want 5", got)
		}
		for _, m := range []*manager{a, b} {
			if e := m.unavailable(tokens.Rejected); !e.Stopped {
				t.Errorf("got %v, want that logins are stopped", e)
			}
		}
		// A person lifts it for one; the other hears of what came of it.
		one.script, two.script = nil, nil
		a.LogInAgain()
		wait(time.Second)
		a.good(1)
	})
}

// A login that a stop or a crash cuts short counts, where one was refused before:
// nobody knows whether the account counts it.
func TestFolderCountsALoginCutShort(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newServer(t, func(n int) reply {
			r := rejected(n)
			if n > 1 {
				r.latency = time.Hour
			}
			return r
		})
		folder := t.TempDir()
		run(t, s, time.Second, in(folder))
		var last tokens.Event
		for range 80 {
			last = run(t, s, 9*time.Second, in(folder))
		}
		s.expectLogins(5)
		if !last.Stopped {
			t.Errorf("got the event %+v, want that logins are stopped", last)
		}
	})
}

// A folder that cannot be used costs no login and is told of once.
func TestFolderThatCannotBeUsed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		s, told := newServer(t, func(n int) reply {
			if n <= 2 {
				return rejected(n)
			}
			return reply{}
		}), 0
		m := newManager(t, s, func(o *tokens.Options) {
			o.Store = &tokens.Folder{Path: path, Tell: func(error) { told++ }}
		})
		m.Start()
		wait(3 * time.Minute)
		m.good(1)
		if told != 1 {
			t.Errorf("it was told of %d times, want once", told)
		}
	})
}

// Garbage in the file is nothing, and is written anew.
func TestFolderGarbage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for _, text := range []string{"", "garbage", "{}", `{"salt":"x","accounts":{"y":{"logins":{"version":9}}}}`, `{"salt":"x","accounts":null}`} {
			s, folder := newServer(t, rejected), t.TempDir()
			if err := os.WriteFile(filepath.Join(folder, "logins.json"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			run(t, s, time.Second, in(folder))
			run(t, s, time.Second, in(folder))
			s.expectLogins(1)
		}
	})
}

// On Windows a file that somebody reads cannot be replaced meanwhile.
func TestFaultSomebodyReadsTheFile(t *testing.T) {
	dir := t.TempDir()
	to := filepath.Join(dir, "file")
	write(t, to, "old")
	reader, err := os.Open(to)
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(200*time.Millisecond, func() { _ = reader.Close() })
	if err := tokens.WriteFile(to, []byte("new"), 0o600); err != nil {
		t.Error(err)
	}
	if got, err := os.ReadFile(to); string(got) != "new" || err != nil {
		t.Errorf("got %q, %v, want the new file", got, err)
	}
	if files, err := os.ReadDir(dir); len(files) != 1 {
		t.Errorf("got %v, %v, want nothing else left behind", files, err)
	}
}
