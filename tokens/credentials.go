package tokens

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	maxFile = 1 << 20 // bytes of a credential file

	// pollEvery is the time between two looks at the credential files. Their
	// content is compared: Kubernetes swaps symlinks, and neither an mtime nor a
	// file watcher tells of that everywhere.
	pollEvery = time.Second

	// settleAfter is the time between two reads of files that a login found
	// changed. It uses them when two reads agree: a file may be half written.
	settleAfter = 50 * time.Millisecond
)

// credentials are the secrets of one login.
type credentials struct {
	clientSecret, username, password, params Secret
}

// A reading is what the sources held at one moment. Two can be compared by ==.
type reading struct {
	credentials
	problem string // which file cannot be used and why, safe to log; "": none
}

// watched reports whether any secret comes from a file.
func (l *Login) watched() bool {
	return l.ClientSecret.File != "" || l.Username.File != "" || l.Password.File != "" || l.Params.File != ""
}

// read reads all secrets.
func (l *Login) read() (r reading) {
	for _, secret := range []struct {
		name   string
		source Source
		to     *Secret
	}{
		{"client secret", l.ClientSecret, &r.clientSecret},
		{"username", l.Username, &r.username},
		{"password", l.Password, &r.password},
		{"token parameters", l.Params, &r.params},
	} {
		text, err := secret.source.Read()
		if err != nil && r.problem == "" {
			r.problem = fmt.Sprintf("waiting for the %s file%s: %v", secret.name, shownPath(secret.source.File), err)
		}
		*secret.to = text
	}
	if _, err := url.ParseQuery(r.params.Reveal()); err != nil && l.Params.File != "" && r.problem == "" {
		r.problem = fmt.Sprintf("waiting for the token parameters file%s: it is not of the form a=b&c=d", shownPath(l.Params.File)) // err quotes it
	}
	return r
}

// shownPath quotes a path for a message, after a space. One that is not absolute
// may be the secret itself, put in the wrong place, and is not shown.
func shownPath(path string) string {
	if !filepath.IsAbs(path) {
		return ""
	}
	return " " + strconv.Quote(path)
}

var (
	errMissing    = errors.New("it does not exist")
	errForbidden  = errors.New("this process may not read it")
	errUnreadable = errors.New("it cannot be read")
	errNotRegular = errors.New("it is not a regular file")
	errEmpty      = errors.New("it is empty")
	errTooLarge   = errors.New("it is larger than 1 MiB")
	errUTF16      = errors.New("it is UTF-16: save it as UTF-8")
)

// readFile returns the content of a credential file without one newline at its
// end (LF or CRLF) and without a UTF-8 BOM, which Windows editors write. Its
// errors are fixed phrases.
func readFile(path string) (Secret, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", errMissing
	case errors.Is(err, fs.ErrPermission):
		return "", errForbidden
	case err != nil:
		return "", errUnreadable
	case !info.Mode().IsRegular():
		return "", errNotRegular // to open a FIFO would block
	}
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrPermission) {
		return "", errForbidden
	}
	if err != nil {
		return "", errUnreadable
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return "", errUnreadable
	}
	if len(content) > maxFile {
		return "", errTooLarge
	}
	text := strings.TrimPrefix(string(content), "\ufeff")
	if strings.HasPrefix(text, "\xff\xfe") || strings.HasPrefix(text, "\xfe\xff") {
		return "", errUTF16 // PowerShell's > writes it
	}
	if line, ok := strings.CutSuffix(text, "\n"); ok {
		text = strings.TrimSuffix(line, "\r")
	}
	if text == "" {
		return "", errEmpty
	}
	return Secret(text), nil
}

// Read returns the secret as it is now: the content of File, where it is set,
// without one newline at its end, or Value. Its errors are fixed phrases.
func (s Source) Read() (Secret, error) {
	if s.File == "" {
		return s.Value, nil
	}
	return readFile(s.File)
}

// settled reads the credentials for a login. Files that differ from what the
// last login found are read until two reads in a row agree; ok is false when ctx
// ends before they do.
func (m *Manager) settled(ctx context.Context) (r reading, ok bool) {
	m.mu.Lock()
	tried := m.tried
	m.mu.Unlock()
	r = m.login.read()
	for m.login.watched() && (tried == nil || r != *tried) {
		select {
		case <-time.After(settleAfter):
		case <-ctx.Done():
			return r, false
		}
		again := m.login.read()
		if again == r {
			break
		}
		r = again
	}
	return r, true
}

// watch looks at the credential files, and starts a login when the last one
// failed and they have changed since: also one that had been stopped.
func (m *Manager) watch() {
	r := m.login.read()
	m.mu.Lock()
	defer m.mu.Unlock()
	settled := m.seen != nil && r == *m.seen
	m.seen = &r
	if !settled || m.failure == nil || m.flight != nil || m.closed {
		return
	}
	_, elapsed := m.clock()
	switch waiting := m.failure.waiting; {
	case r.problem != "":
		if !waiting || m.tried != nil && r == *m.tried {
			return
		}
		// Another problem than the one reported: the attempt reports it.
	case m.used == nil || r.credentials != *m.used:
	case waiting && elapsed >= m.failure.next: // back again, not changed
	default:
		return
	}
	m.start()
}
