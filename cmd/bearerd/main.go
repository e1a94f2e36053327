// Command bearerd is a local authenticating reverse proxy: it keeps one bearer
// token for one account and puts it on every request that it forwards.
package main

import (
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/config"
	"github.com/bearerd/bearerd/cmd/internal/daemon"
	"github.com/bearerd/bearerd/cmd/internal/demo"
	"github.com/bearerd/bearerd/cmd/internal/display"
	"github.com/bearerd/bearerd/cmd/internal/doctor"
	"github.com/bearerd/bearerd/cmd/internal/healthcheck"
	"github.com/bearerd/bearerd/cmd/internal/interrupt"
	"github.com/bearerd/bearerd/cmd/internal/memory"
	"github.com/bearerd/bearerd/cmd/internal/output"
	"github.com/bearerd/bearerd/cmd/internal/service"
	"github.com/bearerd/bearerd/cmd/internal/setup"
)

func main() {
	hideMemory()
	// net/http's transport writes what an upstream sends unasked to the standard
	// logger, and an upstream that echoes requests sends the token.
	log.SetOutput(io.Discard)
	signals := make(chan os.Signal, 4)
	interrupt.Notify(signals)
	os.Exit(run(os.Args[1:], os.Environ(), signals, os.Stdout, os.Stderr))
}

const usage = `bearerd puts a bearer token on every request that a tool on this machine sends
to it, and forwards it to one API. It logs in by itself, again and again.

  bearerd               runs the proxy (also: bearerd serve)
  bearerd demo          shows it at work, with nothing to set up and no account
      -faults           a tour of two minutes: what a tool gets to see when
                        token, login server, password or account is in trouble
  bearerd setup         asks for the account, logs in once to prove it, keeps
                        it, and starts; again, it changes that. docs/setup.md
                        has its flags, for scripts
  bearerd check         the doctor: logs in once, asks upstream once, and
                        once more if that refuses a token so young, and
                        reports what is wrong and what is set
      -path /x          what to ask upstream for; / by default, or the first of
                        BEARERD_ALLOWED_PATHS
      -all              names the settings that have their defaults too
      -json             the report for machines, with everything
  bearerd healthcheck   asks the bearerd that runs whether it is ready
      -wait 30s         asks again until it is, at most this long
  bearerd service ...   has the system run it: a Windows service, a LaunchAgent,
                        a systemd unit
      install           now and from now on, with the settings of -env-file
                        FILE; again: with this program in the old place
      uninstall         stops it, and removes all that install has written
      start, stop, status
      -name NAME        for more than one; bearerd by default
      -user             Windows: at your logon, and as you; no administrator
      -take-secrets, -take-proxy
                        Windows: writes down for the service what is in your
                        Credential Manager, and your proxy
      -system           Linux: of the machine, hardened; else yours
  bearerd help          this text
  bearerd version       the version

For serve, check and healthcheck:
      -env-file FILE    reads settings from lines of NAME=value as well; the
                        environment wins
      -preset NAME      is short for BEARERD_PRESET

Start with:
  BEARERD_PRESET=vyopta BEARERD_USERNAME=me@example.com \
    BEARERD_PASSWORD_FILE=/path/to/file bearerd
  curl http://localhost:8080/cpmm/api/v1/orgs/42/metrics/names
At a terminal, bearerd setup asks for all of that, and bearerd -preset vyopta
for user name and password. Where nothing is set, and only at a terminal,
bearerd uses the settings that setup wrote.

Exit codes: 0 stopped by a signal, or healthy; 1 failed while running, or not
healthy; 64 wrong command line; 78 bad configuration (healthcheck: 1). Go ends a
program that crashes with 2.
SIGTERM and Ctrl-C let requests finish; a second one stops at once. SIGHUP reads
the credential files again and logs in; it is a stop where user name or password
were typed, or the terminal that bearerd was started at has gone.

`

// Exit codes. A restart mends neither of the last two, which have their numbers
// from sysexits.h: Go ends a program that crashes with 2, and that one is to be
// started again.
const (
	exitOK     = 0  // clean stop, by a signal too
	exitFailed = 1  // runtime failure, or not healthy
	exitUsage  = 64 // EX_USAGE, wrong command line
	exitConfig = 78 // EX_CONFIG, bad configuration
)

// run is the program: it returns its exit code when it has ended, by itself or
// by a signal.
func run(args, environ []string, signals <-chan os.Signal, stdout, stderr io.Writer) int {
	if len(args) == 0 && ownsConsole() { // what starts bearerd at logon gives it some
		return runDoubleClicked(environ, signals, os.Stdin, stdout, stderr)
	}
	c, err := parseCommand(args)
	from := config.Sources{Preset: c.preset, EnvFile: c.envFile, Environ: environ}
	if output.StdinIsTerminal() && output.IsTerminal(stderr) {
		from.Saved, _ = config.SavedFile() // a person sees where the settings are from
	}
	if err == nil && c.name == "serve" {
		return runServe(from, signals, stderr)
	}
	if err == nil && c.name == "setup" {
		return runSetup(c.setup, environ, signals, stdout, stderr)
	}
	if err == nil && c.action == "run" {
		return runService(c.service, environ, signals, stderr)
	}
	if err == nil && c.action == "install" {
		return fail(stderr, installService(c.service, environ, signals, stdout))
	}
	terminal := stderr // which may have to ask
	if c.name != "demo" {
		stdout, stderr = interrupt.Writers(signals, stdout, stderr)
	}
	if err != nil {
		code := fail(stderr, discreet(err, args, environ))
		if c.name == "healthcheck" {
			code = exitFailed // Docker knows 0 and 1 alone
		}
		return code
	}
	switch c.name {
	case "demo":
		if c.faults {
			return fail(stderr, demo.Faults(version(), signals, stdout))
		}
		return fail(stderr, demo.Run(version(), signals, stdout))
	case "check":
		return fail(stderr, doctor.Check(doctor.Options{From: from, Path: c.path, JSON: c.json, All: c.all, Version: version()}, signals, stdout, terminal))
	case "healthcheck":
		if err := healthcheck.Run(from, c.wait, signals, stdout); err != nil {
			_ = fail(stderr, err)
			return exitFailed // and nothing else, as above
		}
		return exitOK
	case "service":
		return fail(stderr, manageService(c, stdout))
	case "help":
		fmt.Fprint(stdout, usage)
		config.WriteHelp(stdout)
	case "version":
		fmt.Fprintln(stdout, "bearerd", version(), runtime.Version(), display.Platform)
	}
	if out, ok := stdout.(interrupt.Writer); ok && out.Ended.Load() {
		return exitFailed
	}
	return exitOK
}

// runServe runs serve, and returns its exit code. Nothing of it waits for
// whoever reads stderr, but for a moment at the end.
func runServe(from config.Sources, signals <-chan os.Signal, stderr io.Writer) int {
	memory.Set()
	out := &output.Lines{W: stderr}
	cfg, err := from.Load(signals, out)
	if err == nil {
		err = service.Serve(cfg, from.Environ, version(), signals, out)
	}
	code := fail(out, err)
	out.Flush(patienceAfter(err))
	return code
}

// runSetup runs setup, and then bearerd where it is to run in this window.
func runSetup(answers setup.Answers, environ []string, signals <-chan os.Signal, stdout, stderr io.Writer) int {
	var install func(envFile string, out io.Writer) error
	if _, err := daemon.ForUser(""); err == nil {
		install = func(envFile string, out io.Writer) error {
			w, err := daemon.ForUser(envFile)
			if err != nil {
				return err
			}
			return daemon.Install(w, nil, nil, out)
		}
	}
	result, err := setup.Run(setup.Options{
		Answers: answers,
		Environ: environ,
		Install: install,
		Probe: func(envFile string) bool {
			return healthcheck.Run(config.Sources{EnvFile: envFile}, 0, signals, io.Discard) == nil
		},
	}, signals, stdout)
	if err != nil || result.ServeFrom == "" {
		return fail(stderr, err)
	}
	return runServe(config.Sources{EnvFile: result.ServeFrom, Environ: environ}, signals, stderr)
}

// runService runs what service install has the system start, and returns its exit
// code.
func runService(w daemon.Which, environ []string, signals <-chan os.Signal, stderr io.Writer) int {
	// Its log is read by programs, and gives Windows' Event Log its words.
	environ = append(slices.Clip(environ), "BEARERD_LOG_FORMAT=json")
	code, err := daemon.Run(w, signals, func(envFile string, signals <-chan os.Signal, log io.Writer) int {
		return runServe(config.Sources{EnvFile: envFile, Environ: environ}, signals, log)
	})
	if err != nil {
		return fail(stderr, err)
	}
	return code
}

// installService asks at the terminal, if stdin and stdout are one.
func installService(w daemon.Which, environ []string, signals <-chan os.Signal, stdout io.Writer) error {
	if !output.StdinIsTerminal() || !output.IsTerminal(stdout) {
		stdout, _ = interrupt.Writers(signals, stdout, stdout)
		return daemon.Install(w, environ, nil, stdout)
	}
	person := config.NewPerson(signals, stdout)
	defer person.Close()
	ask := func(question string) (bool, error) {
		yes, err := person.YesOrNo(question, true)
		if errors.Is(err, config.ErrUnanswered) {
			err = errors.New("left at a question; nothing was changed")
		}
		return yes, err
	}
	return daemon.Install(w, environ, ask, person)
}

// manageService does what service is told to.
func manageService(c command, stdout io.Writer) error {
	switch c.action {
	case "uninstall":
		return daemon.Uninstall(c.service, stdout)
	case "start":
		return daemon.Start(c.service, stdout)
	case "stop":
		return daemon.Stop(c.service, stdout)
	}
	return daemon.Status(c.service, stdout)
}

// patienceAfter is how long the last lines may take, where serving has ended
// with err.
func patienceAfter(err error) time.Duration {
	switch {
	case err == nil:
		return 0 // the end has waited already
	case errors.Is(err, service.ErrSecondSignal):
		return 200 * time.Millisecond
	}
	return output.FlushPatience
}

// fail prints err, where there is one, and returns the exit code for it.
func fail(stderr io.Writer, err error) int {
	if err == nil {
		return exitOK
	}
	if errors.Is(err, service.ErrSecondSignal) {
		return exitFailed // in a hurry, and stderr may be what is stuck
	}
	if errors.Is(err, doctor.ErrNotHealthy) || errors.Is(err, daemon.ErrNotWell) {
		return exitFailed // the report has said it
	}
	if errors.Is(err, interrupt.ErrInterrupted) || errors.Is(err, config.ErrUnanswered) {
		// A signal has come already, and no further one may.
		lines := &output.Lines{W: stderr}
		defer lines.Flush(output.FlushPatience)
		stderr = lines
	}
	if _, ok := errors.AsType[*config.Error](err); ok {
		fmt.Fprintln(stderr, err)
		return exitConfig
	}
	fmt.Fprintln(stderr, "bearerd:", err)
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	return exitFailed
}

// releaseVersion is set by the linker for a release.
var releaseVersion string

// version is the release, or for other builds the commit.
func version() string {
	if releaseVersion != "" {
		return releaseVersion
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" && len(s.Value) >= 12 {
				return "devel-" + s.Value[:12]
			}
		}
	}
	return "devel"
}
