package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"

	"golang.org/x/term"
)

// errUnanswered ends a command whose question nobody answered.
var errUnanswered = errors.New("nothing was entered; to start without questions set BEARERD_USERNAME and BEARERD_PASSWORD, or their _FILE forms")

// askPerson asks at the terminal for what is missing, and returns lines of
// NAME=value.
func askPerson(missing *configError, signals <-chan os.Signal, stderr io.Writer) ([]string, error) {
	// Raw from the first question to the last answer: what is pasted or typed
	// ahead would show otherwise, and so would a password after Ctrl-Z and fg.
	stdin := int(os.Stdin.Fd())
	before, err := term.MakeRaw(stdin)
	if err != nil {
		return nil, fmt.Errorf("asking at the terminal: %w", err)
	}
	defer func() { _ = term.Restore(stdin, before) }()
	type result struct {
		lines []string
		err   error
	}
	done := make(chan result, 1)
	// A read of a terminal cannot be ended. When a signal comes first, the
	// process ends with the goroutine in it.
	go func() {
		var r result
		terminal := term.NewTerminal(struct {
			io.Reader
			io.Writer
		}{os.Stdin, stderr}, "")
		for _, p := range missing.problems {
			var answer string
			if answer, r.err = promptFor(terminal, p.variable, missing.login); r.err != nil {
				break
			}
			r.lines = append(r.lines, p.variable+"="+answer)
		}
		done <- r
	}()
	select {
	case r := <-done:
		return r.lines, r.err
	case <-signals:
		fmt.Fprint(stderr, "\r\n")
		return nil, errUnanswered
	}
}

// promptFor asks until the answer can be used.
func promptFor(terminal *term.Terminal, variable, login string) (answer string, err error) {
	for {
		if variable == "BEARERD_PASSWORD" {
			answer, err = terminal.ReadPassword("Password (it does not show): ")
		} else {
			terminal.SetPrompt("User name for " + login + ": ")
			answer, err = terminal.ReadLine()
			answer = strings.TrimSpace(answer)
		}
		switch {
		case err != nil, answer == "":
			return "", errUnanswered // Ctrl-C and Ctrl-D are an end here
		case strings.ContainsFunc(answer, unicode.IsControl):
			fmt.Fprintln(terminal, "That had a key in it that is no letter; once more.")
		default:
			return answer, nil
		}
	}
}
