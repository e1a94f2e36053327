package setup

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/bearerd/bearerd/cmd/internal/advice"
	"github.com/bearerd/bearerd/cmd/internal/assembly"
	"github.com/bearerd/bearerd/cmd/internal/config"
	"github.com/bearerd/bearerd/cmd/internal/interrupt"
	"github.com/bearerd/bearerd/tokens"
)

// services are those of the menu, by preset.
var services = []struct{ preset, name string }{
	{"vyopta", "Vyopta"}, {"wxp", "HP WXP Collaboration"}, {"graphnet", "Graphnet"}, {"", "another, by its URL"},
}

// askLogin asks for what the command line has not given. If again, a login with the
// answers before has failed.
func (s *setup) askLogin(again bool) error {
	a := s.Answers
	var l loginAnswers
	if s.person == nil {
		if err := s.fromFlags(&l); err != nil {
			return err
		}
	} else {
		err := s.person.Ask(func(t *term.Terminal) error { return s.askAtTerminal(t, &l, again) })
		if err != nil {
			return left(err)
		}
	}
	if file := a.PasswordFile; l.secretOf == "PASSWORD" && file != "" || l.secretOf == "CLIENT_SECRET" && a.ClientSecretFile != "" {
		if l.secretOf == "CLIENT_SECRET" {
			file = a.ClientSecretFile
		}
		secret, err := tokens.Source{File: file}.Read()
		if err != nil {
			return fmt.Errorf("the file of the %s: %w", strings.ReplaceAll(strings.ToLower(l.secretOf), "_", " "), err)
		}
		s.secret = secret
	}
	s.login = l
	s.login.host = or(value(l.lines, "BEARERD_PRESET"), hostOf(value(s.lines(), "BEARERD_TOKEN_URL")))
	return nil
}

// fromFlags takes all from the command line and the settings of before.
func (s *setup) fromFlags(l *loginAnswers) error {
	a := s.Answers
	preset := or(a.Preset, value(s.old, "BEARERD_PRESET"), value(s.given(), "BEARERD_PRESET"))
	if preset == "" && a.Upstream == "" {
		return errAskedNobody("-preset, or -upstream, -token-url and -client-id")
	}
	s.addService(l, preset, a.Upstream, a.TokenURL)
	clientID := or(a.ClientID, value(s.old, "BEARERD_CLIENT_ID"))
	if a.ClientSecretFile != "" {
		l.secretOf = "CLIENT_SECRET"
		if preset == "" {
			l.lines = append(l.lines, "BEARERD_GRANT_TYPE=client_credentials")
		}
		l.lines = addLine(l.lines, "BEARERD_CLIENT_ID", clientID)
		return nil
	}
	user := or(a.Username, value(s.old, "BEARERD_USERNAME"))
	if user == "" || a.PasswordFile == "" {
		return errAskedNobody("-username and -password-file, or -client-id and -client-secret-file")
	}
	l.secretOf = "PASSWORD"
	if preset == "" {
		l.lines = append(l.lines, "BEARERD_GRANT_TYPE=password")
	}
	l.lines = addLine(l.lines, "BEARERD_CLIENT_ID", clientID)
	l.lines = append(l.lines, "BEARERD_USERNAME="+user)
	return nil
}

// given is what the environment sets.
func (s *setup) given() []string { return config.Sources{Environ: s.Environ}.Given() }

func or(all ...string) string {
	for _, text := range all {
		if text != "" {
			return text
		}
	}
	return ""
}

func addLine(lines []string, name, value string) []string {
	if value == "" {
		return lines
	}
	return append(lines, name+"="+value)
}

// addService adds what says which service is meant.
func (s *setup) addService(l *loginAnswers, preset, upstream, tokenURL string) {
	l.lines = addLine(l.lines, "BEARERD_PRESET", preset)
	l.lines = addLine(l.lines, "BEARERD_UPSTREAM", upstream)
	l.lines = addLine(l.lines, "BEARERD_TOKEN_URL", tokenURL)
}

// askAtTerminal asks a person.
func (s *setup) askAtTerminal(t *term.Terminal, l *loginAnswers, again bool) error {
	a := s.Answers
	before := append(append([]string{}, s.login.lines...), append(s.old, s.given()...)...)
	line := func(question, known string) (string, error) {
		for {
			hint := ""
			if known != "" {
				hint = " [" + known + "]"
			}
			t.SetPrompt(question + hint + ": ")
			text, err := t.ReadLine()
			if err != nil {
				return "", errLeft
			}
			text = or(strings.TrimSpace(text), known)
			if text == "" {
				continue
			}
			if err := tokens.CheckSecret(text); err != nil { // Ctrl-V of old consoles is a key
				fmt.Fprintln(t, "That had a key in it that is no letter; once more.")
				continue
			}
			return text, nil
		}
	}
	preset, upstream, tokenURL := a.Preset, a.Upstream, a.TokenURL
	var err error
	if preset == "" && upstream == "" {
		if preset, err = s.askService(t, line, value(before, "BEARERD_PRESET"), again); err != nil {
			return err
		}
	}
	if (preset == "" || preset == "graphnet") && upstream == "" {
		if upstream, err = line("URL of the API", value(before, "BEARERD_UPSTREAM")); err != nil {
			return err
		}
	}
	if preset == "" && tokenURL == "" {
		if tokenURL, err = line("URL that logins are posted to", value(before, "BEARERD_TOKEN_URL")); err != nil {
			return err
		}
	}
	s.addService(l, preset, upstream, tokenURL)
	asUser := preset != "graphnet" && a.ClientSecretFile == ""
	if preset == "" && a.Username == "" && a.ClientSecretFile == "" {
		answer, err := line("Does a user log in (1), or a client with a secret of its own (2)?", "1")
		if err != nil {
			return err
		}
		asUser = answer != "2"
		l.lines = append(l.lines, "BEARERD_GRANT_TYPE="+map[bool]string{true: "password", false: "client_credentials"}[asUser])
	}
	if preset == "" || preset == "graphnet" {
		id := a.ClientID
		if id == "" {
			if id, err = line("client_id", value(before, "BEARERD_CLIENT_ID")); err != nil {
				return err
			}
		}
		l.lines = append(l.lines, "BEARERD_CLIENT_ID="+id)
	}
	prompt := "Client secret (it does not show): "
	l.secretOf = "CLIENT_SECRET"
	if asUser {
		l.secretOf, prompt = "PASSWORD", "Password (it does not show): "
		user := a.Username
		if user == "" {
			if user, err = line("User name", value(before, "BEARERD_USERNAME")); err != nil {
				return err
			}
		}
		l.lines = append(l.lines, "BEARERD_USERNAME="+user)
	}
	if asUser && a.PasswordFile != "" || !asUser && a.ClientSecretFile != "" {
		return nil // askLogin reads it
	}
	secret, err := config.AskSecret(t, prompt, "BEARERD_"+l.secretOf)
	s.secret = tokens.Secret(secret)
	return err
}

// askService asks which of the services is meant; "" is none of them.
func (s *setup) askService(t *term.Terminal, line func(question, known string) (string, error), before string, again bool) (string, error) {
	if !again {
		fmt.Fprintln(t, "\nWhich service?")
		for i, service := range services {
			fmt.Fprintf(t, "  %d  %s\n", i+1, service.name)
		}
	}
	known := "1"
	for i, service := range services {
		if service.preset == before && before != "" {
			known = strconv.Itoa(i + 1)
		}
	}
	for {
		answer, err := line("1 to 4", known)
		if err != nil {
			return "", err
		}
		if n, err := strconv.Atoi(answer); err == nil && n >= 1 && n <= len(services) {
			return services[n-1].preset, nil
		}
		for _, service := range services {
			if strings.EqualFold(answer, service.preset) {
				return service.preset, nil
			}
		}
	}
}

// logIn makes the one login, and says in a sentence what came of it.
func logIn(ctx context.Context, cfg config.Config, signals <-chan os.Signal) (found, failure string, interrupted bool) {
	out := assembly.NewWayOut(cfg)
	out.Start()
	defer out.Close()
	var event tokens.Event
	manager := tokens.New(tokens.Options{ // not started: it makes the login that Token asks for, and no other
		Login:           assembly.Login(cfg, assembly.LoginTransport(cfg, out)),
		DefaultLifetime: cfg.DefaultTokenLifetime,
		Wait:            cfg.LoginTimeout + time.Minute,
		Observe:         func(ev tokens.Event) { event = ev },
	})
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	came := make(chan *tokens.Token, 1)
	go func() {
		token, _ := manager.Token(ctx)
		came <- token
	}()
	var token *tokens.Token
	select {
	case token = <-came:
	case <-signals:
		cancel()
		manager.Close()
		return "", "", true
	}
	manager.Close()
	if ctx.Err() != nil {
		return "", interrupt.ErrInterrupted.Error(), true
	}
	if token == nil {
		f := advice.LoginFailure{Failure: event.Failure, Way: assembly.LoginWay(cfg)}
		return "", fmt.Sprintf("%s (%s)", event.Cause, f.Remedy()), false
	}
	found = fmt.Sprintf("That works: the token lives %v, and bearerd gets the next one in time.", token.Lifetime.Round(time.Second))
	if via := out.For(cfg.TokenURL); via != "" {
		found += " The way there is the proxy " + via + "."
	}
	if event.SkewKnown && event.Skew.Abs() >= advice.ClockWrong {
		found += " " + advice.ClockSays(event.Skew) + "."
	}
	return found, "", false
}
