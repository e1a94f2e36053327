package setup

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"golang.org/x/term"

	"github.com/bearerd/bearerd/cmd/internal/endpoint"
	"github.com/bearerd/bearerd/cmd/internal/listen"
)

const (
	defaultPort  = "8080"
	defaultAdmin = "9180"
)

// choosePorts finds the ports, and asks for that of tools where the usual one is
// taken.
func (s *setup) choosePorts() error {
	s.port = or(portOf(value(s.old, "BEARERD_LISTEN")), defaultPort)
	s.admin = or(portOf(value(s.old, "BEARERD_ADMIN_LISTEN")), defaultAdmin)
	if s.Answers.Port != "" {
		n, err := endpoint.ParsePort(s.Answers.Port)
		if err != nil || n == 0 {
			return errors.New("-port: write 1 to 65535")
		}
	}
	if s.old != nil && free(s.port, "") != s.port && s.Probe != nil && s.Probe(s.file) {
		s.say("It runs, at http://localhost:%s.", s.port)
		if s.Answers.Port != "" {
			s.port = s.Answers.Port
		}
		return nil // the ports are its own
	}
	s.admin = free(s.admin, "")
	switch {
	case s.Answers.Port != "":
		s.port = s.Answers.Port
		if free(s.port, "") != s.port {
			return fmt.Errorf("-port: %s is taken by another program, or kept by the system", s.port)
		}
		return nil
	case free(s.port, s.admin) == s.port:
		return nil
	}
	taken, next := s.port, free(s.port, s.admin)
	s.port = next
	if s.person == nil {
		s.say("Port %s is taken by another program, or kept by the system; it will be %s.", taken, next)
		return nil
	}
	return left(s.person.Ask(func(t *term.Terminal) error {
		fmt.Fprintf(t, "Port %s is taken by another program, or kept by the system.\n", taken)
		for {
			t.SetPrompt("Which port shall tools use? [" + next + "]: ")
			text, err := t.ReadLine()
			if err != nil {
				return errLeft
			}
			text = or(strings.TrimSpace(text), next)
			if n, err := endpoint.ParsePort(text); err == nil && n != 0 && free(text, s.admin) == text {
				s.port = text
				return nil
			}
			fmt.Fprintln(t, "That one is none, or taken too.")
		}
	}))
}

// free returns port, or the next after it that is not taken and not but.
func free(port, but string) string {
	n, err := strconv.Atoi(port)
	for ; err == nil && n < 1<<16; n++ {
		text := strconv.Itoa(n)
		if text == but {
			continue
		}
		if listeners, err := listen.Data([]string{"localhost:" + text}, 0o600); err == nil {
			listen.CloseAll(listeners)
			return text
		}
	}
	return port
}

// portOf is the port of a listener on localhost; "" for any other.
func portOf(address string) string {
	host, port, err := net.SplitHostPort(strings.TrimSpace(address))
	if err != nil || host != "localhost" || port == "0" {
		return ""
	}
	return port
}
