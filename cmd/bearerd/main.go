// Command bearerd is a local authenticating reverse proxy: it keeps one bearer
// token for one account and puts it on every request that it forwards.
package main

import (
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
)

func main() {
	// net/http's transport writes what an upstream sends unasked to the standard
	// logger, and an upstream that echoes requests sends the token.
	log.SetOutput(io.Discard)
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	os.Exit(run(os.Args[1:], os.Environ(), signals, os.Stdout, os.Stderr))
}

const usage = `bearerd puts a bearer token on every request that a tool on this machine sends
to it, and forwards it to one API. It logs in by itself, again and again.

  bearerd           runs the proxy (also: bearerd serve)
  bearerd demo      shows it at work, with nothing to set up and no account
  bearerd help      this text
  bearerd version   the version

Start with:
  BEARERD_PRESET=vyopta BEARERD_USERNAME=me@example.com BEARERD_PASSWORD_FILE=/path/to/file bearerd
  curl http://localhost:8080/cpmm/api/v1/orgs/42/metrics/names

Exit codes: 0 stopped by a signal, 1 failed while running, 2 bad configuration.
SIGTERM and Ctrl-C let requests finish; a second one stops at once. SIGHUP reads
the credential files again and logs in.

`

// Exit codes.
const (
	exitOK     = 0 // clean stop, by a signal too
	exitFailed = 1 // runtime failure
	exitConfig = 2 // bad configuration or command line
)

// run is the program: it returns its exit code when it has ended, by itself or
// by a signal.
func run(args, environ []string, signals <-chan os.Signal, stdout, stderr io.Writer) int {
	command := "serve"
	if len(args) > 0 {
		command, args = args[0], args[1:]
	}
	if strings.HasPrefix(command, "-") && !slices.Contains([]string{"-h", "-help", "--help", "-version", "--version"}, command) {
		return fail(stderr, usageError(fmt.Sprintf("%s is not a flag of bearerd: it is configured by environment variables", command)))
	}
	switch command {
	case "serve", "demo", "help", "-h", "-help", "--help", "version", "-version", "--version":
		if len(args) > 0 {
			return fail(stderr, usageError(fmt.Sprintf("bearerd %s takes no arguments, got %q", command, args[0])))
		}
	}
	switch command {
	case "serve":
		return fail(stderr, serve(environ, signals, stderr))
	case "demo":
		return fail(stderr, demo(signals, stdout))
	case "help", "-h", "-help", "--help":
		fmt.Fprint(stdout, usage)
		writeSettings(stdout)
		return exitOK
	case "version", "-version", "--version":
		fmt.Fprintln(stdout, "bearerd", version(), runtime.Version(), runtime.GOOS+"/"+runtime.GOARCH)
		return exitOK
	}
	return fail(stderr, usageError(fmt.Sprintf("unknown command %q", command)))
}

// usageError is a wrong command line.
type usageError string

func (e usageError) Error() string {
	return string(e) + "; the commands are serve, demo, help and version (bearerd help)"
}

// fail prints err, where there is one, and returns the exit code for it.
func fail(stderr io.Writer, err error) int {
	if err == nil {
		return exitOK
	}
	if errors.Is(err, errSecondSignal) {
		return exitFailed // in a hurry, and stderr may be what is stuck
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
