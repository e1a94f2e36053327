package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/bearerd/bearerd/cmd/internal/output"
	"github.com/bearerd/bearerd/tokens"
)

// ErrUnanswered ends a command whose question nobody answered.
var ErrUnanswered = errors.New("nothing was entered; to start without questions set BEARERD_USERNAME and BEARERD_PASSWORD, or their _FILE forms")

// Person sits at the terminal that standard input is. Make one with NewPerson.
type Person struct {
	signals  <-chan os.Signal
	shown    *output.Lines
	terminal *term.Terminal // one for all questions: it keeps what is typed ahead
}

// NewPerson returns who answers the questions that are shown on w, until a signal
// comes. It is to be closed.
func NewPerson(signals <-chan os.Signal, w io.Writer) *Person {
	// A terminal that stands still shows nothing, and must not keep the signal
	// that ends the question.
	shown := &output.Lines{W: w}
	return &Person{signals, shown, term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{os.Stdin, shown}, "")}
}

// Close waits for a moment until all is shown.
func (p *Person) Close() { p.shown.Flush(output.FlushPatience) }

// Write shows text between the questions.
func (p *Person) Write(text []byte) (int, error) { return p.shown.Write(text) }

// Ask has f ask at the terminal. When a signal comes first, the error is
// ErrUnanswered, and nothing more is asked: f still waits then.
func (p *Person) Ask(f func(*term.Terminal) error) error {
	// Raw from the first question to the last answer: what is pasted or typed
	// ahead would show otherwise, and so would a password after Ctrl-Z and fg.
	stdin := int(os.Stdin.Fd())
	before, err := term.MakeRaw(stdin)
	if err != nil {
		return fmt.Errorf("asking at the terminal: %w", err)
	}
	defer func() { _ = term.Restore(stdin, before) }()
	done := make(chan error, 1)
	// A read of a terminal cannot be ended. When a signal comes first, the
	// process ends with the goroutine in it.
	go func() { done <- f(p.terminal) }()
	select {
	case err := <-done:
		return err
	case <-p.signals:
		fmt.Fprint(p.shown, "\r\n")
		return ErrUnanswered
	}
}

// YesOrNo asks a question that has a default. The error is ErrUnanswered for who
// leaves it.
func (p *Person) YesOrNo(question string, byDefault bool) (answer bool, err error) {
	hint := "[y/N]"
	if byDefault {
		hint = "[Y/n]"
	}
	answer = byDefault
	err = p.Ask(func(t *term.Terminal) error {
		for {
			t.SetPrompt(question + " " + hint + " ")
			text, err := t.ReadLine()
			if err != nil {
				return ErrUnanswered
			}
			switch strings.ToLower(strings.TrimSpace(text)) {
			case "":
			case "y", "yes":
				answer = true
			case "n", "no":
				answer = false
			default:
				continue
			}
			return nil
		}
	})
	return answer, err
}

// askPerson asks at the terminal for what is missing, and returns lines of
// NAME=value.
func askPerson(missing *Error, signals <-chan os.Signal, stderr io.Writer) ([]string, error) {
	p := NewPerson(signals, stderr)
	defer p.Close()
	var lines []string
	err := p.Ask(func(terminal *term.Terminal) error {
		for _, problem := range missing.Problems {
			answer, err := promptFor(terminal, problem.Variable, missing.login)
			if err != nil {
				return err
			}
			lines = append(lines, problem.Variable+"="+answer)
		}
		return nil
	})
	if err != nil {
		return nil, err // lines may be f's still
	}
	return lines, nil
}

// AskSecret asks until the answer can be used, and does not show it.
func AskSecret(terminal *term.Terminal, prompt, variable string) (string, error) {
	return askUsable(terminal, variable, func() (string, error) { return terminal.ReadPassword(prompt) })
}

// promptFor asks until the answer can be used.
func promptFor(terminal *term.Terminal, variable, login string) (answer string, err error) {
	if variable == "BEARERD_PASSWORD" {
		return AskSecret(terminal, "Password (it does not show): ", variable)
	}
	terminal.SetPrompt("User name for " + login + ": ")
	return askUsable(terminal, variable, func() (string, error) {
		answer, err := terminal.ReadLine()
		return strings.TrimSpace(answer), err
	})
}

func askUsable(terminal *term.Terminal, variable string, read func() (string, error)) (string, error) {
	for {
		answer, err := read()
		if err != nil || answer == "" {
			return "", ErrUnanswered // Ctrl-C and Ctrl-D are an end here
		}
		switch err := tokens.CheckSecret(answer); {
		case err == nil:
			return answer, nil
		case strings.ContainsRune(answer, utf8.RuneError): // package term puts it in place of what is not UTF-8
			fmt.Fprintln(terminal, "That had a letter in it that this terminal does not send as UTF-8; once more, or give it by a file ("+variable+"_FILE).")
		default:
			fmt.Fprintln(terminal, "That had a key in it that is no letter; once more.")
		}
	}
}
