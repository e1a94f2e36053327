// Package setup is bearerd setup: it asks what it must, proves it by one login, and
// keeps it, so that bearerd can start without a question. It leaves no half of a
// set-up behind. It does not know how the system is made to run bearerd.
package setup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/config"
	"github.com/bearerd/bearerd/cmd/internal/display"
	"github.com/bearerd/bearerd/cmd/internal/interrupt"
	"github.com/bearerd/bearerd/cmd/internal/keyring"
	"github.com/bearerd/bearerd/cmd/internal/output"
	"github.com/bearerd/bearerd/tokens"
)

// Options are what setup is done with.
type Options struct {
	Answers Answers
	Environ []string // settings in it are taken over, but no secret
	// Install has the system run bearerd with the settings of a file, now and at
	// each logon. It says on out what it has done. nil: it cannot be had.
	Install func(envFile string, out io.Writer) error
	Store   *keyring.Store                      // nil: the system's
	Browse  func(url string) error              // opens a page; nil: by the system's browser
	Probe   func(envFile string) (running bool) // whether the bearerd of a file runs already
}

// Result is what is left to do.
type Result struct {
	ServeFrom string // settings to run bearerd with, in this window; empty: nothing
}

// setup is one run.
type setup struct {
	Options
	person *config.Person // nil: nobody is asked
	out    io.Writer

	file   string   // of settings
	old    []string // that it had
	taken  []string // over from the environment
	login  loginAnswers
	port   string // of the data listener
	admin  string // … of the other
	secret tokens.Secret
}

// Run sets bearerd up. It asks at the terminal, if stdin and stdout are one. A signal
// ends it, with nothing changed, or all taken back.
func Run(o Options, signals <-chan os.Signal, stdout io.Writer) (Result, error) {
	if o.Store == nil {
		o.Store = keyring.New(nil)
	}
	if o.Browse == nil {
		o.Browse = Browse
	}
	s := &setup{Options: o, out: stdout}
	if !o.Answers.Yes && output.StdinIsTerminal() && output.IsTerminal(stdout) {
		s.person = config.NewPerson(signals, stdout)
		defer s.person.Close()
		s.out = s.person
	} else {
		out, _ := interrupt.Writers(signals, stdout, stdout)
		s.out = out
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	if err := s.begin(); err != nil {
		return Result{}, err
	}
	if err := s.prove(ctx, signals); err != nil {
		return Result{}, err
	}
	return s.finish(ctx)
}

func (s *setup) say(format string, args ...any) { _, _ = fmt.Fprintf(s.out, format+"\n", args...) }

// begin finds what was set up before.
func (s *setup) begin() (err error) {
	if s.file = s.Answers.File; s.file == "" {
		if s.file, err = config.SavedFile(); err != nil {
			return fmt.Errorf("finding your configuration folder: %w; name a file by -settings", err)
		}
	}
	if s.file, err = filepath.Abs(s.file); err != nil {
		return err
	}
	if s.old, err = config.ReadSettings(s.file); err != nil {
		return fmt.Errorf("the settings of an earlier set-up: %w; mend or remove that file", err)
	}
	for _, line := range s.given() {
		if name, _, _ := strings.Cut(line, "="); !asked(name) && !secret(name) {
			s.taken = append(s.taken, line)
		}
	}
	if s.person != nil {
		s.say("bearerd setup: a few questions, one login to prove the answers, and it is ready.")
		s.say("Ctrl-C leaves it, with nothing changed.")
		if s.old != nil {
			s.say("It was set up before, in %s: Enter keeps what stands in brackets.", s.file)
		}
	}
	return s.choosePorts()
}

// secret reports whether a setting is one that setup does not ask for. It is not
// taken from the environment into a file.
func secret(name string) bool {
	return slices.Contains([]string{"TOKEN_PARAMS", "REQUIRE_HEADER", "PROXY", "SHARED"}, strings.TrimPrefix(name, "BEARERD_"))
}

// ofService reports whether a setting belongs to one service alone.
func ofService(name string) bool {
	return slices.Contains([]string{"UPSTREAM", "TOKEN_URL", "TOKEN_HOST"}, strings.TrimPrefix(name, "BEARERD_"))
}

// asked reports whether a setting is one that setup asks for.
func asked(name string) bool {
	switch strings.TrimPrefix(name, "BEARERD_") {
	case "PRESET", "CLIENT_ID", "GRANT_TYPE", "USERNAME", "USERNAME_FILE", "PASSWORD", "PASSWORD_FILE", "PASSWORD_KEYRING",
		"CLIENT_SECRET", "CLIENT_SECRET_FILE", "CLIENT_SECRET_KEYRING", "LISTEN", "ADMIN_LISTEN":
		return true
	}
	return false
}

// value is that of a setting among lines; "" for none.
func value(lines []string, name string) string {
	for _, line := range lines {
		if n, v, _ := strings.Cut(line, "="); n == name {
			return v
		}
	}
	return ""
}

// errAskedNobody ends a setup without a terminal that lacks an answer.
func errAskedNobody(flags string) error {
	return errors.New("setup asks at a terminal, and there is none (in Git Bash start it in cmd, PowerShell or Windows Terminal); without one give " + flags)
}

// loginAnswers are the answers that a login is made of.
type loginAnswers struct {
	lines    []string // but for secrets
	secretOf string   // PASSWORD or CLIENT_SECRET: what secret is
	host     string   // of the login, or the preset's name
}

const attempts = 3 // that a person has at the password

// prove asks for what a login needs, and makes one, until it succeeds.
func (s *setup) prove(ctx context.Context, signals <-chan os.Signal) error {
	for attempt := 1; ; attempt++ {
		if err := s.askLogin(attempt > 1); err != nil {
			return err
		}
		cfg, err := s.load()
		if err != nil {
			if s.person == nil || attempt == attempts {
				return err
			}
			s.say("\nThat cannot be used:\n%v\nOnce more.", err)
			continue
		}
		s.say("\nLogging in at %s ...", cfg.TokenURL.Host)
		found, failure, interrupted := logIn(ctx, cfg, signals)
		switch {
		case interrupted:
			return interrupt.ErrInterrupted
		case failure == "":
			s.say("%s", found)
			return nil
		case s.person == nil || attempt == attempts:
			return errors.New(failure + "; nothing was changed")
		}
		s.say("No: %s\nOnce more.", failure)
	}
}

// lines are the settings without the secret.
func (s *setup) lines() []string {
	lines := append([]string{}, s.login.lines...)
	if s.port != defaultPort {
		lines = append(lines, "BEARERD_LISTEN=localhost:"+s.port)
	}
	if s.admin != defaultAdmin {
		lines = append(lines, "BEARERD_ADMIN_LISTEN=localhost:"+s.admin)
	}
	another := value(s.old, "BEARERD_PRESET") != value(lines, "BEARERD_PRESET")
	add := func(line string) {
		if name, _, _ := strings.Cut(line, "="); !asked(name) && value(lines, name) == "" {
			lines = append(lines, line)
		}
	}
	for _, line := range s.taken {
		add(line)
	}
	for _, line := range s.old {
		if name, _, _ := strings.Cut(line, "="); !another || !ofService(name) {
			add(line)
		}
	}
	return lines
}

// load checks the settings with the secret.
func (s *setup) load() (config.Config, error) {
	lines := append(s.lines(), "BEARERD_"+s.login.secretOf+"="+s.secret.Reveal())
	return config.Sources{Environ: lines}.Load(nil, io.Discard)
}

// yes asks a question that has a default.
func (s *setup) yes(given, question string, byDefault bool) (bool, error) {
	if given != "" {
		return given == "yes", nil
	}
	if s.person == nil {
		return byDefault, nil
	}
	answer, err := s.person.YesOrNo(question, byDefault)
	return answer, left(err)
}

// errLeft is for who leaves before anything was written.
var errLeft = errors.New("setup was left; nothing was changed")

// left is err, where a person has left the questions, in setup's words.
func left(err error) error {
	if errors.Is(err, config.ErrUnanswered) {
		return errLeft
	}
	return err
}

// finish asks what is to be kept and started, and does it.
func (s *setup) finish(ctx context.Context) (Result, error) {
	s.say("")
	if s.person == nil && s.Answers.Write == "no" {
		return Result{}, nil
	}
	place, err := s.choosePlace()
	if err != nil {
		return Result{}, err
	}
	if s.Answers.Write == "" {
		s.say("The settings are for %s", s.file)
	}
	write, err := s.yes(s.Answers.Write, "Write them there?", true)
	if err != nil {
		return Result{}, err
	}
	if !write {
		s.say("Nothing was kept. The same by hand, in the environment or a file for bearerd -env-file:")
		for _, line := range s.lines() {
			s.say("  %s", display.OneLine(line))
		}
		return Result{}, nil
	}
	canStart := place != keepNowhere || s.person != nil
	start := false
	if canStart {
		question := "Start bearerd now, in this window?"
		if s.installs(place) {
			question = "Start bearerd now and at each logon?"
		}
		if start, err = s.yes(s.Answers.Start, question, s.person != nil || s.installs(place)); err != nil {
			return Result{}, err
		}
	}
	open := false
	if start && s.installs(place) {
		if open, err = s.yes(s.Answers.Open, "Open the status page?", s.person != nil); err != nil {
			return Result{}, err
		}
	}

	err = s.write(ctx, place)
	if _, ok := errors.AsType[keyring.Error](err); ok && s.person != nil {
		s.say("%v", storeFailure(err))
		if yes, unanswered := s.yes("", keepItInFile, true); unanswered != nil || !yes {
			return Result{}, errLeft
		}
		place = keepInFile
		err = s.write(ctx, place)
	}
	if err != nil {
		return Result{}, storeFailure(err)
	}
	var result Result
	switch {
	case !start:
		s.say("Start it by: bearerd%s", s.envFileFlag())
	case s.installs(place):
		if err := s.Install(s.file, s.out); err != nil {
			err = fmt.Errorf("starting bearerd at each logon: %w", err)
			s.say("The settings are kept, and bearerd serves when it is started by: bearerd%s", s.envFileFlag())
			if s.person == nil {
				return Result{}, err
			}
			s.say("%v", err)
			if here, left := s.yes("", "Start it now, in this window?", true); left != nil || !here {
				return Result{}, left
			}
			result.ServeFrom, open = s.file, false
		}
	default:
		result.ServeFrom = s.file
	}
	s.showPastes()
	if open {
		page := "http://localhost:" + s.admin + "/"
		s.say("The status page: %s", page)
		_ = s.Browse(page) // its address is shown
	}
	return result, nil
}

// installs reports whether the system can be made to run bearerd: nobody answers its
// questions then.
func (s *setup) installs(p place) bool { return s.Install != nil && p != keepNowhere }

// envFileFlag is what bearerd needs to find the settings.
func (s *setup) envFileFlag() string {
	if saved, err := config.SavedFile(); err == nil && saved == s.file {
		return ""
	}
	return " -env-file " + display.Quote(s.file)
}

// write keeps the secret and the settings, or nothing.
func (s *setup) write(ctx context.Context, p place) (err error) {
	var undo []func()
	defer func() {
		if err == nil {
			return
		}
		for i := len(undo) - 1; i >= 0; i-- {
			undo[i]()
		}
		err = fmt.Errorf("%w; nothing was changed", err)
	}()
	folder := filepath.Dir(s.file)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return fmt.Errorf("making the folder of the settings: %w", err)
	}
	lines := s.lines()
	switch p {
	case keepInStore:
		name := s.entry()
		before, _ := s.Store.Entry(name).Read(ctx, true)
		undo = append(undo, func() {
			if before == "" {
				_ = s.Store.Remove(ctx, name)
			} else {
				_ = s.Store.Keep(ctx, name, before)
			}
		})
		if err := s.Store.Keep(ctx, name, s.secret); err != nil {
			return err
		}
		lines = append(lines, "BEARERD_"+s.login.secretOf+"_KEYRING="+name)
	case keepInFile:
		path := s.secretFile()
		if err := replace(&undo, path, s.secret.Reveal()+"\n"); err != nil {
			return fmt.Errorf("keeping the secret in a file: %w", err)
		}
		lines = append(lines, "BEARERD_"+s.login.secretOf+"_FILE="+path)
	}
	var text strings.Builder
	text.WriteString("# Written by bearerd setup at " + time.Now().Format("2006-01-02 15:04") + ". To change it run bearerd setup again, or edit it.\n")
	for _, line := range lines {
		written, err := envLine(line)
		if err != nil {
			return err
		}
		text.WriteString(written + "\n")
	}
	if err := replace(&undo, s.file, text.String()); err != nil {
		return fmt.Errorf("writing the settings: %w", err)
	}
	// As bearerd will read it.
	back, err := config.ReadSettings(s.file)
	if err == nil && len(back) != len(lines) {
		err = errors.New("the file does not read as it was written")
	}
	if err != nil {
		return fmt.Errorf("reading the settings back: %w", err)
	}
	s.forget(ctx, p)
	s.say("Written: %s", s.file)
	switch p {
	case keepInStore:
		s.say("Kept in the system's key store: bearerd, %s", s.entry())
	case keepInFile:
		s.say("Kept: %s", s.secretFile())
	}
	return nil
}

// forget removes what an earlier set-up kept in another place.
func (s *setup) forget(ctx context.Context, p place) {
	name := "BEARERD_" + s.login.secretOf
	if p != keepInStore && value(s.old, name+"_KEYRING") == s.entry() {
		_ = s.Store.Remove(ctx, s.entry())
	}
	if p != keepInFile && value(s.old, name+"_FILE") == s.secretFile() {
		_ = os.Remove(s.secretFile())
	}
}

// hostOf is the host of a URL, for a name.
func hostOf(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	return u.Hostname()
}
