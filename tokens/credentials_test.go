package tokens_test

import (
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bearerd/bearerd/tokens"
)

// write replaces the content of a credential file.
func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// passwordFile returns the path of a new credential file.
func passwordFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "password")
	write(t, path, content)
	return path
}

// fromFile has the password come from path.
func fromFile(path string) func(*tokens.Options) {
	return func(o *tokens.Options) { o.Login.Password = tokens.Source{File: path} }
}

// onlyPassword is a server that takes one password and rejects all others.
func onlyPassword(t *testing.T, password string) *loginServer {
	s := newServer(t, nil)
	s.script = func(n int) reply {
		if s.seen()[n-1].form.Get("password") == password {
			return reply{}
		}
		return rejected(n)
	}
	return s
}

// passwords returns the passwords that s has seen, each once in a row.
func passwords(s *loginServer) (seen []string) {
	for _, l := range s.seen() {
		if p := l.form.Get("password"); len(seen) == 0 || seen[len(seen)-1] != p {
			seen = append(seen, p)
		}
	}
	return seen
}

func TestCredentialFileContent(t *testing.T) {
	const waiting = `waiting for the password file PATH: `
	for _, test := range []struct{ name, content, password, cause string }{
		{"plain", "pw", "pw", ""},
		{"LF", "pw\n", "pw", ""},
		{"CRLF", "pw\r\n", "pw", ""},
		{"spaces are content", " pw ", " pw ", ""},
		{"BOM", "\ufeffpw\r\n", "pw", ""},
		{"UTF-8", "pä\u00a0€😀\n", "pä\u00a0€😀", ""},
		{"large", strings.Repeat("x", 1<<20), strings.Repeat("x", 1<<20), ""},

		{"empty", "", "", waiting + "it is empty"},
		{"newline alone", "\n", "", waiting + "it is empty"},
		{"CRLF alone", "\r\n", "", waiting + "it is empty"},
		{"BOM alone", "\ufeff", "", waiting + "it is empty"},
		{"too large", strings.Repeat("x", 1<<20+1), "", waiting + "it is larger than 1 MiB: is it the right file?"},
		{"two newlines", "pw\n\n", "", waiting + "it must be one line, and goes on behind the end of the first"},
		{"Latin-1", "p\xe9\n", "", waiting + "it is not UTF-8, and looks like Latin-1 or Windows-1252 (line 1, byte 2): save it as UTF-8"},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				path := passwordFile(t, test.content)
				s := newServer(t, nil)
				m := newManager(t, s, fromFile(path))
				_, err := m.Token(t.Context())
				synctest.Wait()
				if test.cause == "" {
					if got := passwords(s); err != nil || len(got) != 1 || got[0] != test.password {
						t.Errorf("got %.40q, %v, want %.40q", got, err, test.password)
					}
					return
				}
				s.expectLogins(0)
				want := strings.Replace(test.cause, "PATH", strconv.Quote(path), 1)
				e := m.lastEvent()
				if e.Cause.String() != want || !e.Waiting || e.Result() != tokens.Transient || e.Duration != 0 || !e.NextLogin.IsZero() {
					t.Errorf("got %+v, want waiting, %q", e, want)
				}
				if got := m.Status(); !got.Waiting || got.Cause.String() != want || got.Ready() {
					t.Errorf("got %+v, want waiting, %q", got, want)
				}
			})
		})
	}
}

// Every secret may come from a file; the first that is missing is named.
func TestEverySecretFromAFile(t *testing.T) {
	bubble(t, func(t *testing.T) {
		dir := t.TempDir()
		file := func(name string) tokens.Source { return tokens.Source{File: filepath.Join(dir, name)} }
		s := newServer(t, nil)
		m := newManager(t, s, func(o *tokens.Options) {
			o.Login.ClientSecret, o.Login.Username, o.Login.Password, o.Login.Params = file("s"), file("u"), file("p"), file("m")
		})
		m.Start()
		for _, secret := range []struct{ name, file, content string }{
			{"client secret", "s", "1"}, {"username", "u", "2"}, {"password", "p", "3"}, {"token parameters", "m", "more=4"},
		} {
			wait(5 * time.Second)
			if got, want := m.Status().Cause.String(), secret.name+" file "+strconv.Quote(filepath.Join(dir, secret.file))+": it does not exist"; !strings.Contains(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
			write(t, filepath.Join(dir, secret.file), secret.content)
		}
		wait(5 * time.Second)
		m.good(1)
		s.expectLogins(1)
		want := url.Values{
			"grant_type": {"password"}, "client_id": {"id"}, "client_secret": {"1"}, "username": {"2"}, "password": {"3"}, "more": {"4"},
		}
		if got := s.seen()[0].form; got.Encode() != want.Encode() {
			t.Errorf("got %s, want %s", got.Encode(), want.Encode())
		}
		if got := len(m.seen()); got != 5 { // one for each change, one for the login
			t.Errorf("got %d events %v, want 5", got, m.seen())
		}
	})
}

// A file that is empty, missing or no file is waited for, reported once, and
// heals within 5 s.
func TestFaultCredentialFileEmpty(t *testing.T) {
	for name, make := range map[string]func(path string) error{
		"empty":   func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"missing": func(string) error { return nil },
		"folder":  func(path string) error { return os.Mkdir(path, 0o700) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "password")
				if err := make(path); err != nil {
					t.Fatal(err)
				}
				s := newServer(t, nil)
				m := newManager(t, s, fromFile(path))
				m.Start()
				wait(10 * time.Minute)
				s.expectLogins(0)
				if got := m.seen(); len(got) != 1 || !got[0].Waiting {
					t.Errorf("got events %+v, want one", got)
				}
				if e := m.unavailable(tokens.Transient); e.Stopped || e.RetryAfter != 2*time.Second {
					t.Errorf("got %+v, want RetryAfter 2s", e)
				}
				_ = os.Remove(path)
				write(t, path, "pw")
				wait(5 * time.Second)
				m.good(1)
				s.expectLogins(1)
			})
		})
	}
}

// Kubernetes swaps a symlink in the path. The new file has the old size and
// mtime. A stopped manager heals within 5 s.
func TestFaultCredentialFileRotatedBySymlink(t *testing.T) {
	bubble(t, func(t *testing.T) {
		dir := t.TempDir()
		at := time.Unix(1_000_000_000, 0)
		for folder, password := range map[string]string{"..1": "wrong", "..2": "right"} {
			if err := os.Mkdir(filepath.Join(dir, folder), 0o700); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, folder, "password"), password)
			if err := os.Chtimes(filepath.Join(dir, folder, "password"), at, at); err != nil {
				t.Fatal(err)
			}
		}
		data := filepath.Join(dir, "..data")
		if err := os.Symlink("..1", data); err != nil {
			t.Skip("no symlinks here:", err)
		}
		s := onlyPassword(t, "right")
		m := newManager(t, s, fromFile(filepath.Join(data, "password")))
		m.Start()
		wait(24 * time.Hour)
		s.expectLogins(5)
		if e := m.unavailable(tokens.Rejected); !e.Stopped {
			t.Fatalf("got %+v, want stopped", e)
		}
		if err := os.Symlink("..2", data+"_tmp"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(data+"_tmp", data); err != nil {
			t.Fatal(err)
		}
		wait(5 * time.Second)
		m.good(1)
		s.expectLogins(6)
		if got := m.Status(); got.Stopped || got.Rejections != 0 {
			t.Errorf("got %+v, want healed", got)
		}
	})
}

// A changed file ends a back-off, and a wrong one starts a count of its own.
func TestCredentialFileChangedWhileBackingOff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		path := passwordFile(t, "wrong")
		s := onlyPassword(t, "right")
		m := newManager(t, s, fromFile(path))
		m.Start()
		wait(100 * time.Second) // 3 rejections
		s.expectLogins(3)
		write(t, path, "wrong as well")
		wait(5 * time.Second)
		s.expectLogins(4)
		if got := m.Status().Rejections; got != 1 {
			t.Errorf("got %d rejections of the new password, want 1", got)
		}
		write(t, path, "right")
		wait(5 * time.Second)
		m.good(1)
		s.expectLogins(5)
	})
}

// That the old credentials worked once says nothing of the new ones.
func TestCredentialFileChangedNeverWorked(t *testing.T) {
	bubble(t, func(t *testing.T) {
		path := passwordFile(t, "right")
		s := onlyPassword(t, "right")
		m := newManager(t, s, fromFile(path))
		m.Start()
		m.good(1)
		write(t, path, "wrong")
		wait(200 * time.Second)
		s.expectLogins(1) // while nothing fails, a changed file needs no login
		wait(24 * time.Hour)
		s.expectLogins(6)
		if e := m.unavailable(tokens.Rejected); !e.Stopped {
			t.Errorf("got %+v, want stopped", e)
		}
	})
}

// Credentials that worked before others were tried have worked all the same: the
// others may have locked the account.
func TestCredentialFileChangedBackToWhatWorked(t *testing.T) {
	bubble(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "password")
		write(t, path, "old")
		var locked atomic.Bool
		s := newServer(t, nil)
		s.script = func(n int) reply {
			if locked.Load() || s.seen()[n-1].form.Get("password") != "old" {
				return rejected(n)
			}
			return reply{}
		}
		m := newManager(t, s, fromFile(path))
		m.Start()
		m.good(1)
		write(t, path, "wrong")
		wait(time.Hour)
		if !m.Status().Stopped {
			t.Fatal("want the wrong password given up")
		}
		locked.Store(true)
		write(t, path, "old")
		wait(time.Hour)
		if st := m.Status(); st.Stopped || st.Rejections < 5 {
			t.Errorf("got %+v, want one attempt an hour", st)
		}
		locked.Store(false)
		wait(2 * time.Hour)
		if st := m.Status(); st.LastResult() != tokens.OK {
			t.Errorf("got %+v, want ok after the lock has passed", st)
		}
	})
}

// The next refresh uses a file that was rotated while all was well.
func TestFaultCredentialFileRotatedWhileGood(t *testing.T) {
	bubble(t, func(t *testing.T) {
		path := passwordFile(t, "old")
		s := newServer(t, nil)
		m := newManager(t, s, fromFile(path))
		m.Start()
		m.good(1)
		write(t, path, "new")
		wait(299 * time.Second)
		m.good(2)
		s.expectLogins(2)
		if got := passwords(s); len(got) != 2 || got[0] != "old" || got[1] != "new" {
			t.Errorf("got passwords %q, want old, new", got)
		}
	})
}

// The file goes empty under a good token: the token goes on, and the refresh is
// made when the file is back.
func TestFaultCredentialFileEmptiedWhileGood(t *testing.T) {
	bubble(t, func(t *testing.T) {
		path := passwordFile(t, "pw")
		s := newServer(t, nil)
		m := newManager(t, s, fromFile(path))
		m.Start()
		m.good(1)
		write(t, path, "")
		wait(280 * time.Second)
		m.good(1)
		s.expectLogins(1)
		if got := m.Status(); !got.Waiting || !got.Good || !got.Ready() {
			t.Errorf("got %+v, want waiting with a good token", got)
		}
		write(t, path, "pw")
		wait(5 * time.Second)
		m.good(2)
	})
}

// A half-written file is not used: neither by the poll, which sees it once …
func TestFaultCredentialFileHalfWrittenPolled(t *testing.T) {
	bubble(t, func(t *testing.T) {
		path := passwordFile(t, "wrong")
		s := onlyPassword(t, "right")
		m := newManager(t, s, fromFile(path))
		m.Start()
		wait(time.Hour + 500*time.Millisecond) // stopped, and between two polls
		s.expectLogins(5)
		for _, part := range []string{"r", "ri", "rig", "right"} {
			write(t, path, part)
			wait(time.Second)
		}
		wait(4 * time.Second)
		m.good(1)
		if got := passwords(s); len(got) != 2 || got[1] != "right" {
			t.Errorf("got passwords %q, want wrong, right", got)
		}
	})
}

// … nor by a login that comes upon it.
func TestFaultCredentialFileHalfWrittenAtLogin(t *testing.T) {
	bubble(t, func(t *testing.T) {
		path := passwordFile(t, "")
		s := newServer(t, nil)
		m := newManager(t, s, fromFile(path))
		go func() {
			for _, part := range []string{"r", "ri", "rig", "right"} {
				time.Sleep(45 * time.Millisecond) // never when the login reads
				write(t, path, part)
			}
		}()
		m.good(1)
		if got := passwords(s); len(got) != 1 || got[0] != "right" {
			t.Errorf("got passwords %q, want right", got)
		}
	})
}

// A file that never settles is not used either, and costs no more than Timeout.
func TestFaultCredentialFileKeepsChanging(t *testing.T) {
	bubble(t, func(t *testing.T) {
		content := "a"
		path := passwordFile(t, content)
		s := newServer(t, nil)
		m := newManager(t, s, fromFile(path))
		m.Start()
		wait(30 * time.Millisecond) // never write when the login reads
		for range 300 {             // 15 s
			content += "a"
			write(t, path, content)
			wait(50 * time.Millisecond)
		}
		s.expectLogins(0)
		if e := m.unavailable(tokens.Transient); e.Cause.String() != "waiting for the credential files, which keep changing" {
			t.Errorf("got %+v", e)
		}
		wait(5 * time.Second)
		m.good(1)
		if got := passwords(s); len(got) != 1 || got[0] != content {
			t.Errorf("got passwords %q, want %q", got, content)
		}
	})
}

// A file that goes and comes back unchanged ends no back-off: it would cost the
// account an attempt each time.
func TestCredentialFileBackUnchangedKeepsTheBackOff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		path := passwordFile(t, "wrong")
		s := newServer(t, rejected)
		m := newManager(t, s, fromFile(path))
		m.Start()
		for range 6 { // to and fro each 2.5 s, then gone when the next attempt is due
			write(t, path, "")
			wait(2500 * time.Millisecond)
			write(t, path, "wrong")
			wait(2500 * time.Millisecond)
			if got := m.Status(); got.LastResult() != tokens.Rejected || got.Waiting {
				t.Errorf("got %+v, want rejected", got)
			}
		}
		s.expectLogins(1)
		write(t, path, "")
		wait(10 * time.Second)
		s.expectLogins(1)
		if got := m.Status(); !got.Waiting || got.Rejections != 1 {
			t.Errorf("got %+v, want waiting after 1 rejection", got)
		}
		write(t, path, "wrong")
		wait(5 * time.Second)
		s.expectLogins(2)
		wait(24 * time.Hour)
		s.expectLogins(5)
	})
}

// Nor does one that a login found changed, and then gone, and that comes back as
// it was.
func TestCredentialFileGoneInTheLoginKeepsTheBackOff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		path := passwordFile(t, "wrong")
		s := newServer(t, rejected)
		m := newManager(t, s, fromFile(path))
		m.Start()
		wait(500 * time.Millisecond)
		s.expectLogins(1)
		write(t, path, "other")
		wait(1525 * time.Millisecond) // the poll at 2 s starts a login, which reads twice in 50 ms
		if !m.Status().LoggingIn {
			t.Fatal("no login is under way")
		}
		write(t, path, "")
		wait(2 * time.Second)
		if !m.Status().Waiting {
			t.Fatalf("got %+v, want waiting", m.Status())
		}
		write(t, path, "wrong")
		wait(26 * time.Second)
		s.expectLogins(1)
		wait(2 * time.Second)
		s.expectLogins(2)
	})
}
