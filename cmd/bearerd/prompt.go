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
	stdin := int(os.Stdin.Fd())
	before, err := term.GetState(stdin)
	if err != nil {
		return nil, err
	}
	type result struct {
		lines []string
		err   error
	}
	done := make(chan result, 1)
	// A read of a terminal cannot be ended. When a signal comes first, the
	// process ends with the goroutine in it.
	go func() {
		var r result
		for _, p := range missing.problems {
			var answer string
			if p.variable == "BEARERD_PASSWORD" {
				answer, r.err = promptFor(stderr, "Password (it does not show): ", func() (string, error) {
					text, err := term.ReadPassword(stdin)
					fmt.Fprintln(stderr)
					return string(text), err
				})
			} else {
				answer, r.err = promptFor(stderr, "User name for "+missing.login+": ", func() (string, error) {
					line, err := readLine(os.Stdin)
					return strings.TrimSpace(line), err
				})
			}
			if r.err != nil {
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
		_ = term.Restore(stdin, before) // its echo is off
		fmt.Fprintln(stderr)
		return nil, errUnanswered
	}
}

// promptFor asks until the answer can be used.
func promptFor(w io.Writer, text string, read func() (string, error)) (string, error) {
	for {
		fmt.Fprint(w, text)
		answer, err := read()
		switch {
		case err != nil || strings.TrimSpace(answer) == "":
			return "", errUnanswered
		case strings.ContainsFunc(answer, unicode.IsControl):
			// An arrow key sends one, and nobody sees it in a password.
			fmt.Fprintln(w, "That had a key in it that is no letter; once more.")
		default:
			return answer, nil
		}
	}
}

// readLine reads to the end of a line and no further: what follows is the
// password.
func readLine(r io.Reader) (string, error) {
	var line []byte
	for b := make([]byte, 1); ; {
		n, err := r.Read(b)
		if n == 1 && b[0] == '\n' {
			return strings.TrimSuffix(string(line), "\r"), nil
		}
		if n == 1 {
			line = append(line, b[0])
		}
		if err != nil {
			return "", err
		}
	}
}
