package main

import (
	"errors"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"

	"golang.org/x/term"
)

// sources is where a command takes its settings from: the command line and what
// surrounds it.
type sources struct {
	preset  string   // -preset; empty: not given
	envFile string   // -env-file; empty: not given
	environ []string // as os.Environ gives it
}

// gather returns all that is given, the first to win first.
func (s sources) gather() (all []given, warnings []string, err error) {
	if s.preset != "" {
		all = append(all, given{fromFlag, []string{"BEARERD_PRESET=" + s.preset}})
	}
	all = append(all, given{fromEnvironment, s.environ})
	warnings = proxyWarnings(s.environ)
	if s.envFile != "" {
		lines, more, err := readEnvFile(s.envFile)
		return append(all, given{fromFile, lines}), append(warnings, more...), err
	}
	return all, warnings, nil
}

// proxyWarnings warns of a proxy variable that net/http passes over, or takes
// for another proxy.
func proxyWarnings(environ []string) (warnings []string) {
	for _, line := range environ {
		name, value, _ := strings.Cut(line, "=")
		switch strings.ToUpper(name) {
		case "HTTP_PROXY", "HTTPS_PROXY":
			if !strings.Contains(value, "://") {
				value = "http://" + value // as net/http reads it
			}
			if _, err := url.Parse(value); err != nil {
				warnings = append(warnings, name+": not the URL of a proxy; write http://proxy.example.com:3128")
			}
		}
	}
	return warnings
}

// load returns the configuration. Where nothing but user name or password is
// missing and a person sits at a terminal, that person is asked, until a signal
// comes.
func (s sources) load(signals <-chan os.Signal, stderr io.Writer) (Config, error) {
	all, warnings, err := s.gather()
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
