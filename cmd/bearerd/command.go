package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/config"
	"github.com/bearerd/bearerd/cmd/internal/daemon"
	"github.com/bearerd/bearerd/cmd/internal/setup"
)

// command is a command line.
type command struct {
	name            string // serve, demo, check, healthcheck, service, help or version
	preset, envFile string
	path            string        // of check
	json, all       bool          // of check
	wait            time.Duration // of healthcheck
	faults          bool          // of demo
	setup           setup.Answers
	action          string       // of service
	service         daemon.Which // likewise
}

// serviceActions are what service is told to do; run is for what it installs.
var serviceActions = []string{"install", "uninstall", "start", "stop", "status", "run"}

// usageError is a wrong command line.
type usageError string

func (e usageError) Error() string { return string(e) + "; see bearerd help" }

// parseCommand reads a command line. -env-file and -preset may stand before the
// command as well as behind it.
func parseCommand(args []string) (command, error) {
	c := command{name: "serve"}
	rest, err := c.parse(args, true)
	if err != nil || c.name == "help" || c.name == "version" || len(rest) == 0 {
		return c, err
	}
	c.name = rest[0]
	switch c.name {
	case "serve", "demo", "check", "healthcheck", "setup", "help", "version":
	case "service":
		if len(rest) < 2 || !slices.Contains(serviceActions, rest[1]) {
			return c, usageError("service is told what to do: bearerd service install, uninstall, start, stop or status")
		}
		rest = rest[1:]
		c.action = rest[0]
	default:
		return c, usageError(fmt.Sprintf("unknown command %q; the commands are serve, demo, check, healthcheck, setup, service, help and version", c.name))
	}
	name := c.name
	if rest, err = c.parse(rest[1:], false); err != nil {
		return c, err
	}
	switch {
	case len(rest) > 0:
		return c, usageError(fmt.Sprintf("%s takes no arguments but flags, got %q", name, rest[0]))
	case name == "demo" && (c.preset != "" || c.envFile != ""):
		return c, usageError("demo needs no settings: it takes neither -env-file nor -preset")
	case name == "setup" && c.envFile != "":
		return c, usageError("setup writes the settings to the file of -settings, in place of -env-file")
	case name == "setup":
		c.setup.Preset = c.preset
	case name == "service" && c.preset != "":
		return c, usageError("a service reads its settings from a file: write BEARERD_PRESET into that, in place of -preset")
	case name == "service" && c.envFile != "" && c.action != "install" && c.action != "run":
		return c, usageError("-env-file belongs to bearerd service install, which tells the service")
	case name == "service" && (c.service.TakeSecrets || c.service.TakeProxy) && (c.action != "install" || c.service.User || runtime.GOOS != "windows"):
		return c, usageError("-take-secrets and -take-proxy are for bearerd service install on Windows, without -user: others use what is yours, or have nothing to take")
	case name == "service":
		c.service.EnvFile = c.envFile
		if err := daemon.CheckName(c.service.Name); err != nil {
			return c, usageError(err.Error())
		}
	case c.path != "" && c.path[0] != '/':
		return c, usageError("-path must begin with a slash: -path /cpmm/api/v1/orgs/42/metrics/names")
	case c.path != "":
		if _, err := url.ParseRequestURI(c.path); err != nil {
			return c, usageError("-path is not the path of a URL")
		}
	}
	return c, nil
}

// parse reads flags up to the first argument that is none, and returns what is
// left. -h makes the command help, and in front -version makes it version.
func (c *command) parse(args []string, front bool) (rest []string, err error) {
	flags := flag.NewFlagSet("bearerd", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&c.envFile, "env-file", c.envFile, "")
	flags.StringVar(&c.preset, "preset", c.preset, "")
	isVersion := false
	switch {
	case front:
		flags.BoolVar(&isVersion, "version", false, "")
	case c.name == "demo":
		flags.BoolVar(&c.faults, "faults", false, "")
	case c.name == "check":
		flags.StringVar(&c.path, "path", "", "")
		flags.BoolVar(&c.json, "json", false, "")
		flags.BoolVar(&c.all, "all", false, "")
	case c.name == "setup":
		c.setup.Flags(flags)
	case c.name == "service":
		flags.StringVar(&c.service.Name, "name", daemon.DefaultName, "")
		flags.BoolVar(&c.service.User, "user", false, "")
		flags.BoolVar(&c.service.System, "system", false, "")
		flags.BoolVar(&c.service.TakeSecrets, "take-secrets", false, "")
		flags.BoolVar(&c.service.TakeProxy, "take-proxy", false, "")
	case c.name == "healthcheck":
		flags.Func("wait", "", func(text string) (err error) {
			c.wait, err = config.ParseDuration(text)
			return err
		})
	}
	err = flags.Parse(args)
	misplaced := map[string]string{"path": "check", "json": "check", "all": "check", "wait": "healthcheck", "yes": "setup", "settings": "setup", "keep": "setup", "faults": "demo", "name": "service", "user": "service", "system": "service", "take-secrets": "service install", "take-proxy": "service install"}
	if err != nil {
		name := strings.TrimLeft(strings.TrimPrefix(err.Error(), "flag provided but not defined: "), "-")
		if of := misplaced[name]; of != "" {
			return nil, usageError(fmt.Sprintf("-%s belongs to another place: bearerd %s -%s", name, of, name))
		}
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		c.name = "help"
		return nil, nil
	case err != nil && strings.HasPrefix(err.Error(), "flag provided but not defined"):
		return nil, usageError(err.Error() + "; settings are environment variables")
	case err != nil:
		return nil, usageError(err.Error())
	case isVersion:
		c.name = "version"
	}
	flags.Visit(func(f *flag.Flag) {
		if f.Name != "wait" && strings.TrimSpace(f.Value.String()) == "" {
			err = usageError("-" + f.Name + " has no value")
		}
	})
	return flags.Args(), err
}

// discreet returns err, which is about args, or an error in its place that
// repeats no argument that concerns a secret.
func discreet(err error, args, environ []string) error {
	d := config.DiscretionOfEnviron(environ)
	for _, arg := range args {
		flag, value, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		for _, part := range []string{arg, flag, value} {
			if part != "" && d.Concerns(part) && strings.Contains(err.Error(), part) {
				return usageError(fmt.Sprintf("the command line is wrong, and has the value of a secret in it, which is not shown: %d arguments", len(args)))
			}
		}
	}
	return err
}
