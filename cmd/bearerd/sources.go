package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"

	"golang.org/x/term"
)

// sources is where a command takes its settings from: the command line and what
// surrounds it.
type sources struct {
	preset  string   // -preset; empty: not given
	envFile string   // -env-file; empty: not given
	environ []string // as os.Environ gives it
}

// gather returns all that is given, the first to win first. A signal ends it:
// the file may be a pipe that nobody writes to.
func (s sources) gather(signals <-chan os.Signal) (all []given, warnings []string, err error) {
	if s.preset != "" {
		all = append(all, given{fromFlag, []string{"BEARERD_PRESET=" + s.preset}})
	}
	all = append(all, given{fromEnvironment, s.environ})
	if s.envFile == "" {
		return all, nil, nil
	}
	if info, err := os.Stat(s.envFile); err == nil && exposed(info, s.envFile) {
		warnings = append(warnings, "-env-file: "+exposure(info, s.envFile))
	}
	text, err := readEnvFile(s.envFile, signals)
	if errors.Is(err, errInterrupted) {
		return nil, nil, err
	}
	if err != nil {
		return nil, nil, &configError{problems: []problem{{text: fmt.Sprintf("-env-file %s: %v", show(s.envFile), err)}}}
	}
	lines, more, err := parseEnvFile(text, foldCase)
	return append(all, given{fromFile, lines}), append(warnings, more...), err
}

// foldCase: on Windows the names of variables have no case.
const foldCase = runtime.GOOS == "windows"

// errInterrupted ends a command that a signal came to before it began its work.
var errInterrupted = errors.New("interrupted")

// readEnvFile returns the text of a file, which may be a pipe: a password
// manager's output need not be stored.
func readEnvFile(path string, signals <-chan os.Signal) (string, error) {
	type result struct {
		text string
		err  error
	}
	done := make(chan result, 1)
	// What opens and reads a pipe cannot be ended. When a signal comes first,
	// the process ends with the goroutine in it.
	go func() {
		f, err := os.Open(path)
		if err != nil {
			done <- result{err: reason(err)}
			return
		}
		defer func() { _ = f.Close() }()
		text, err := readText(f)
		done <- result{text, err}
	}()
	select {
	case r := <-done:
		return r.text, r.err
	case <-signals:
		return "", errInterrupted
	}
}

// load returns the configuration. Where nothing but user name or password is
// missing and a person sits at a terminal, that person is asked, until a signal
// comes.
func (s sources) load(signals <-chan os.Signal, stderr io.Writer) (Config, error) {
	all, warnings, err := s.gather(signals)
	if err != nil {
		return Config{}, err
	}
	cfg, err := loadConfig(all...)
	bad, ok := errors.AsType[*configError](err)
	if ok && bad.askable() && isTerminal(stderr) && term.IsTerminal(int(os.Stdin.Fd())) {
		answers, unanswered := askPerson(bad, signals, stderr)
		if unanswered != nil {
			return Config{}, unanswered
		}
		cfg, err = loadConfig(append(all, given{fromAsking, answers})...)
	}
	if err != nil {
		return Config{}, err
	}
	cfg.Warnings = append(warnings, cfg.Warnings...)
	return cfg, nil
}

// askable reports whether a person's answers would mend all that is wrong.
func (e *configError) askable() bool {
	return !slices.ContainsFunc(e.problems, func(p problem) bool { return !p.askable })
}
