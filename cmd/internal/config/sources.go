package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"github.com/bearerd/bearerd/cmd/internal/display"
	"github.com/bearerd/bearerd/cmd/internal/interrupt"
	"github.com/bearerd/bearerd/cmd/internal/output"
	"github.com/bearerd/bearerd/tokens"
)

// Sources is where a command takes its settings from: the command line and what
// surrounds it.
type Sources struct {
	Preset  string   // -preset; empty: not given
	EnvFile string   // -env-file; empty: not given
	Environ []string // as os.Environ gives it
	// Saved is a file to be used where nothing else is given: only where a person
	// sees it, as in a service or a container nothing is read that was not named.
	Saved string
}

// gather returns all that is given, the first to win first. A signal ends it:
// the file may be a pipe that nobody writes to.
func (s Sources) gather(signals <-chan os.Signal) (all []given, warnings []string, err error) {
	if s.Preset != "" {
		all = append(all, given{fromFlag, []string{"BEARERD_PRESET=" + s.Preset}})
	}
	all = append(all, given{fromEnvironment, s.Environ})
	if s.EnvFile == "" {
		return all, nil, nil
	}
	warnings, lines, err := s.fromFile(signals)
	if errors.Is(err, interrupt.ErrInterrupted) {
		return nil, nil, err
	}
	if bad, ok := errors.AsType[*Error](err); ok {
		d := discretionOf(newLoader(all, foldCase).env)
		for i, p := range bad.Problems {
			bad.Problems[i].Text = d.Message(p.Text, s.EnvFile)
		}
		return nil, nil, bad
	}
	return append(all, given{fromFile, lines}), warnings, err
}

// fromFile returns what is given by the file.
func (s Sources) fromFile(signals <-chan os.Signal) (warnings, lines []string, err error) {
	if words := exposure(s.EnvFile); words != "" {
		warnings = append(warnings, "-env-file: "+words)
	}
	text, err := readEnvFile(s.EnvFile, signals)
	if errors.Is(err, interrupt.ErrInterrupted) {
		return nil, nil, err
	}
	if err != nil {
		return nil, nil, &Error{Problems: []Problem{{Text: fmt.Sprintf("-env-file %s: %v", display.Quote(s.EnvFile), err)}}}
	}
	lines, more, err := parseEnvFile(text, foldCase)
	return append(warnings, more...), lines, err
}

// foldCase: on Windows the names of variables have no case.
const foldCase = runtime.GOOS == "windows"

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
		text, err := tokens.ReadText(f)
		if err == nil {
			err = tokens.CheckText(text)
		}
		done <- result{text, err}
	}()
	select {
	case r := <-done:
		return r.text, r.err
	case <-signals:
		return "", interrupt.ErrInterrupted
	}
}

// Load returns the configuration. Where nothing but user name or password is
// missing and a person sits at a terminal, that person is asked, until a signal
// comes.
func (s Sources) Load(signals <-chan os.Signal, stderr io.Writer) (Config, error) {
	saved := s.useSaved()
	all, warnings, err := s.gather(signals)
	if err != nil {
		return Config{}, err
	}
	cfg, err := loadConfig(all...)
	bad, ok := errors.AsType[*Error](err)
	if ok && bad.askable() && output.IsTerminal(stderr) && output.StdinIsTerminal() {
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
	if saved != "" {
		cfg.Notes = append(cfg.Notes, saved)
	}
	return cfg, nil
}

// AdminListen returns what ADMIN_LISTEN says, or its default, and what keeps the
// secrets that are set out of a message about it. No other setting is looked at.
func (s Sources) AdminListen(signals <-chan os.Signal) (listen string, secrets Discretion, err error) {
	s.useSaved()
	all, _, err := s.gather(signals)
	if err != nil {
		return "", Discretion{}, err
	}
	env := newLoader(all, foldCase).env
	if listen = strings.TrimSpace(env["BEARERD_ADMIN_LISTEN"]); listen == "" {
		for _, s := range SettingsOf(new(Config)) {
			if s.Name == "BEARERD_ADMIN_LISTEN" {
				listen = s.Def
			}
		}
	}
	return listen, discretionOf(env), nil
}
