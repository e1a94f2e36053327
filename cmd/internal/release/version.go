package main

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

var (
	versions = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$`)
	hashes   = regexp.MustCompile(`^[0-9a-f]{12,64}$`)
)

// describe names the commit: v1.2.0, v1.2.0-3-g<commit> when it is the third
// after that tag, devel-<commit> when there is no tag, and -dirty after each
// when the folder has something that the commit has not.
func (r *release) describe(ctx context.Context) (string, error) {
	version, err := r.git(ctx, "describe", "--tags", "--always", "--abbrev=12")
	if err != nil {
		return "", fmt.Errorf("%w; -version sets the version where there is no git", err)
	}
	if hashes.MatchString(version) {
		version = "devel-" + version
	}
	// describe --dirty overlooks new files, and go builds them.
	changes, err := r.git(ctx, "status", "--porcelain", "--untracked-files=normal")
	if err != nil {
		return "", err
	}
	if changes != "" {
		version += "-dirty"
	}
	return version, nil
}

// date is the time that the archives give for everything in them:
// SOURCE_DATE_EPOCH (reproducible-builds.org/specs/source-date-epoch), or the
// commit's.
func (r *release) date(ctx context.Context) (time.Time, error) {
	what, text := "SOURCE_DATE_EPOCH", ""
	for _, setting := range r.environ {
		if value, ok := strings.CutPrefix(setting, what+"="); ok {
			text = value
		}
	}
	if text == "" {
		what = "the commit's time"
		var err error
		// A person's log.showSignature adds lines to what is printed.
		if text, err = r.git(ctx, "-c", "log.showSignature=false", "log", "-1", "--format=%ct"); err != nil {
			return time.Time{}, fmt.Errorf("%w; SOURCE_DATE_EPOCH sets the time where there is no git", err)
		}
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("%s: %q is not a number of seconds", what, text)
	}
	t := time.Unix(seconds, 0).UTC()
	if t.Year() < 1980 || t.Year() > 2107 {
		return time.Time{}, fmt.Errorf("%s: a zip file cannot say the year %d, only 1980 to 2107", what, t.Year())
	}
	return t, nil
}

// git asks git about the checkout, and about no repository that the checkout's
// folder merely lies in.
func (r *release) git(ctx context.Context, args ...string) (string, error) {
	prefix, err := r.output(ctx, r.environ, "git", "rev-parse", "--show-prefix")
	if err != nil {
		return "", err
	}
	if folder := strings.TrimSpace(string(prefix)); folder != "" {
		return "", fmt.Errorf("git has no repository here, only one that has this as its folder %s", folder)
	}
	data, err := r.output(ctx, r.environ, "git", args...)
	return strings.TrimSpace(string(data)), err
}
