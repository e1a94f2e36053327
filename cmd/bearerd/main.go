// Command bearerd is a local authenticating reverse proxy: it keeps one bearer
// token for one account and puts it on every request that it forwards.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"
)

func main() {
	hideMemory()
	// net/http's transport writes what an upstream sends unasked to the standard
	// logger, and an upstream that echoes requests sends the token.
	log.SetOutput(io.Discard)
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	os.Exit(run(os.Args[1:], os.Environ(), signals, os.Stdout, os.Stderr))
}

const usage = `bearerd puts a bearer token on every request that a tool on this machine sends
to it, and forwards it to one API. It logs in by itself, again and again.

  bearerd               runs the proxy (also: bearerd serve)
  bearerd demo          shows it at work, with nothing to set up and no account
      -faults           a tour of two minutes: what a tool gets to see when
                        token, login server, password or account is in trouble
  bearerd check         the doctor: logs in once, asks upstream once, and
                        reports what is set and what is wrong
      -path /x          what to ask upstream for; / by default, or the first of
                        BEARERD_ALLOWED_PATHS
      -json             the report for machines
  bearerd healthcheck   asks the bearerd that runs whether it is ready
      -wait 30s         asks again until it is, at most this long
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
At a terminal, bearerd -preset vyopta asks for user name and password.

Exit codes: 0 stopped by a signal, or healthy; 1 failed while running, or not
healthy; 2 bad configuration (healthcheck: 1).
SIGTERM and Ctrl-C let requests finish; a second one stops at once. SIGHUP reads
the credential files again and logs in.

`

// Exit codes.
const (
	exitOK     = 0 // clean stop, by a signal too
	exitFailed = 1 // runtime failure, or not healthy
	exitConfig = 2 // bad configuration or command line
)

// run is the program: it returns its exit code when it has ended, by itself or
// by a signal.
func run(args, environ []string, signals <-chan os.Signal, stdout, stderr io.Writer) int {
	c, err := parseCommand(args)
	if err != nil {
		code := fail(stderr, err)
		if c.name == "healthcheck" {
			code = exitFailed // Docker keeps 2 for itself
		}
		return code
	}
	from := sources{preset: c.preset, envFile: c.envFile, environ: environ}
	switch c.name {
	case "demo":
		if c.faults {
			return fail(stderr, demoFaults(signals, stdout))
		}
		return fail(stderr, demo(signals, stdout))
	case "check":
		return fail(stderr, check(from, c.path, c.json, signals, stdout, stderr))
	case "healthcheck":
		if err := healthcheck(from, c.wait, signals, stdout); err != nil {
			_ = fail(stderr, err)
			return exitFailed // never 2, as above
		}
		return exitOK
	case "help":
		fmt.Fprint(stdout, usage)
		writeSettings(stdout)
		return exitOK
	case "version":
		fmt.Fprintln(stdout, "bearerd", version(), runtime.Version(), platform)
		return exitOK
	}
	return fail(stderr, serve(from, signals, stderr))
}

// untilSignal returns a context that a signal ends. Its stop must be called.
func untilSignal(signals <-chan os.Signal) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		select {
		case <-signals:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		cancel()
		<-watching
	}
}

// fail prints err, where there is one, and returns the exit code for it.
func fail(stderr io.Writer, err error) int {
	if err == nil {
		return exitOK
	}
	if errors.Is(err, errSecondSignal) {
		return exitFailed // in a hurry, and stderr may be what is stuck
	}
	if errors.Is(err, errNotHealthy) {
		return exitFailed // the report has said it
	}
	if _, ok := errors.AsType[*configError](err); ok {
		fmt.Fprintln(stderr, err)
		return exitConfig
	}
	fmt.Fprintln(stderr, "bearerd:", err)
	if _, ok := errors.AsType[usageError](err); ok {
		return exitConfig
	}
	return exitFailed
}

const platform = runtime.GOOS + "/" + runtime.GOARCH

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
