package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"
)

// command is a command line.
type command struct {
	name            string // serve, demo, check, healthcheck, help or version
	preset, envFile string
	path            string        // of check
	json            bool          // of check
	wait            time.Duration // of healthcheck
	faults          bool          // of demo
}

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
	case "serve", "demo", "check", "healthcheck", "help", "version":
	default:
		return c, usageError(fmt.Sprintf("unknown command %q; the commands are serve, demo, check, healthcheck, help and version", c.name))
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
	case c.path != "" && c.path[0] != '/':
		return c, usageError("-path must begin with a slash: -path /cpmm/api/v1/orgs/42/metrics/names")
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
	case c.name == "healthcheck":
		flags.Func("wait", "", func(text string) (err error) {
			c.wait, err = parseDuration(text)
			return err
		})
	}
	err = flags.Parse(args)
	misplaced := map[string]string{"path": "check", "json": "check", "wait": "healthcheck", "faults": "demo"}
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
