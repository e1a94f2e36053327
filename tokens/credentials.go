package tokens

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
)

// credentials are the secrets of one login.
type credentials struct {
	clientSecret, username, password, assertion, params Secret
}

// assertionField is the form field of a client assertion (RFC 7521 4.2).
const assertionField = "client_assertion"

// lasting is c without its client assertion. That is good for minutes, and made
// anew for the same client: one more of it is no other credential.
func (c credentials) lasting() credentials {
	c.assertion = ""
	if !strings.Contains(c.params.Reveal(), "assertion") {
		return c
	}
	if form, err := url.ParseQuery(c.params.Reveal()); err == nil && form.Has(assertionField) {
		form.Del(assertionField)
		c.params = Secret(form.Encode())
	}
	return c
}

// A reading is what the sources held at one moment. Two can be compared by ==.
type reading struct {
	credentials
	problem string // which secret cannot be used and why, safe to log; "": none
	short   bool   // the problem is no fault of the file: no descriptor is left
	stored  error  // the problem is that of a store, which says this; nil: it is a file's
}

// sources are where the secrets of a login come from.
type sources struct {
	clientSecret, username, password, assertion, params Source
}

// watched reports whether any secret comes from a file or a store.
func (s sources) watched() bool {
	for _, source := range []Source{s.clientSecret, s.username, s.password, s.assertion, s.params} {
		if source.File != "" || source.Stored != nil {
			return true
		}
	}
	return false
}

// read reads all secrets, those that are in a store by stored.
func (s sources) read(stored func(StoredSecret) (Secret, error)) (r reading) {
	for _, secret := range []struct {
		name   string
		source Source
		to     *Secret
	}{
		{"client secret", s.clientSecret, &r.clientSecret},
		{"username", s.username, &r.username},
		{"password", s.password, &r.password},
		{"client assertion", s.assertion, &r.assertion},
		{"token parameters", s.params, &r.params},
	} {
		if secret.source.File == "" && secret.source.Stored != nil {
			text, err := stored(secret.source.Stored)
			if err != nil && r.problem == "" {
				r.problem, r.stored = fmt.Sprintf("waiting for the %s in %v", secret.name, err), err
			}
			*secret.to = text
			continue
		}
		text, err := secret.source.Read()
		if err != nil && r.problem == "" {
			r.problem = fmt.Sprintf("waiting for the %s file%s: %v", secret.name, shownPath(secret.source.File), err)
			r.short = errors.Is(err, errDescriptor)
		}
		*secret.to = text
	}
	if _, err := url.ParseQuery(r.params.Reveal()); err != nil && s.params.File != "" && r.problem == "" {
		r.problem = fmt.Sprintf("waiting for the token parameters file%s: it is not of the form a=b&c=d", shownPath(s.params.File)) // err quotes it
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

// Read returns the secret as it is now: the content of File, where it is set,
// without one line end, or Value. A content that [CheckSecret] refuses is an error.
// Errors are fixed phrases, and leave no text to be used. Of a store it returns what
// was read last.
func (s Source) Read() (Secret, error) {
	switch {
	case s.File != "":
		return readSecret(s.File)
	case s.Stored != nil:
		return s.Stored.Look(false)
	}
	return s.Value, nil
}

// A change is how credentials differ from those before.
type change int

const (
	unchanged change = iota
	newProof         // of the same client: another assertion
	replaced
)

// history is what became of the credentials that were tried. The zero value is
// for none.
type history struct {
	backoff backoff      // of the credentials in used
	used    *credentials // sent last; nil: none yet
	worked  *credentials // sent with the last login that succeeded; nil: none has
}

// change tells how c differs from what was used last.
func (h *history) change(c credentials) change {
	switch {
	case h.used == nil || c.lasting() != h.used.lasting():
		return replaced
	case c != *h.used:
		return newProof
	}
	return unchanged
}

// use notes that a login with c begins.
func (h *history) use(c credentials) {
	if h.change(c) == replaced {
		// Others may have been tried since they worked, and locked the account.
		h.backoff = backoff{worked: h.worked != nil && h.worked.lasting() == c.lasting()}
	}
	h.used = &c
}

// succeeded notes that what was used has worked.
func (h *history) succeeded() {
	h.backoff.ok()
	h.worked = h.used
}
