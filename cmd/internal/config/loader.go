package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/bearerd/bearerd/cmd/internal/display"
)

// Error is every problem of a configuration. It never holds the value
// of a secret.
type Error struct {
	Problems []Problem
	login    string // host that a login would go to, as far as it is known
}

// Problem is one thing that is wrong with the settings.
type Problem struct {
	Variable string // with BEARERD_; empty when it is none's
	Text     string // what is wrong; the remedy
	askable  bool   // it is missing, and a person may be asked for it
}

// Error returns one line for each problem.
func (e *Error) Error() string {
	var lines []string
	for _, p := range e.Problems {
		if p.Variable == "" {
			lines = append(lines, p.Text)
			continue
		}
		lines = append(lines, p.Variable+": "+p.Text)
	}
	return strings.Join(lines, "\n")
}

// askable reports whether a person's answers would mend all that is wrong.
func (e *Error) askable() bool {
	return !slices.ContainsFunc(e.Problems, func(p Problem) bool { return !p.askable })
}

// loader reads one Config and gathers what is wrong with it.
type loader struct {
	env      map[string]string // the BEARERD_ variables that are not blank
	origins  map[string]Origin // of those in env
	problems []Problem
	warnings []Problem
	notes    []Problem // as warnings, at info

	stateDirectory string // of systemd; "": it gives none
}

func (l *loader) refuse(variable, format string, args ...any) {
	l.problems = append(l.problems, Problem{Variable: variable, Text: display.Escape(fmt.Sprintf(format, args...))})
}

func (l *loader) warn(variable, format string, args ...any) {
	l.warnings = append(l.warnings, Problem{Variable: variable, Text: display.Escape(fmt.Sprintf(format, args...))})
}

func (l *loader) note(variable, format string, args ...any) {
	l.notes = append(l.notes, Problem{Variable: variable, Text: display.Escape(fmt.Sprintf(format, args...))})
}

// refused tells whether a variable has a problem already, so that a second
// line would only be a consequence of the first.
func (l *loader) refused(variable string) bool {
	return slices.ContainsFunc(l.problems, func(p Problem) bool { return p.Variable == variable })
}

// Origin says where a setting's value comes from.
type Origin string

const (
	FromDefault     Origin = "default"
	fromPreset      Origin = "preset"
	fromEnvironment Origin = "environment"
	fromFile        Origin = "file"  // of -env-file
	fromFlag        Origin = "flag"  // -preset
	fromAsking      Origin = "asked" // of a person at a terminal
)

// given is what one origin says: lines of NAME=value, as [os.Environ] has them.
type given struct {
	from  Origin
	lines []string
}
