package config

import (
	"regexp"
	"slices"
	"strings"

	"github.com/bearerd/bearerd/tokens"
)

// serviceLinks are the variables that Kubernetes sets in every pod of a
// namespace with a service named bearerd or bearerd-something.
var serviceLinks = []*regexp.Regexp{
	regexp.MustCompile(`^BEARERD_(.+_)?SERVICE_(HOST|PORT.*)$`),
	regexp.MustCompile(`^BEARERD_(.+_)?PORT(_\d+_(TCP|UDP|SCTP).*)?$`),
}

const nothingSet = `nothing is set: bearerd is configured by environment variables, for example
  BEARERD_PRESET=vyopta BEARERD_USERNAME=me@example.com BEARERD_PASSWORD_FILE=/path/to/file bearerd
or by a file of such lines: bearerd -env-file FILE. At a terminal bearerd setup asks for all of that, and keeps it.
To see it work without an account: bearerd demo. For every setting: bearerd help.`

// keepSecrets takes out of all messages what is a secret too.
func (l *loader) keepSecrets(all []Setting) {
	d := discretionOf(l.env)
	for _, list := range [][]Problem{l.problems, l.warnings, l.notes} {
		for i, p := range list {
			list[i].Text = d.Message(p.Text, l.env[p.Variable])
			if !slices.ContainsFunc(all, func(s Setting) bool { return s.Name == p.Variable }) &&
				d.Concerns(strings.TrimPrefix(p.Variable, envPrefix+"_")) {
				list[i].Variable = envPrefix + "_…"
			}
		}
	}
}

// loadConfig reads the settings from what is given. A blank value is the same
// as none; of a name that comes twice the first value that is not blank counts.
// It opens no socket, resolves no name and leaves the process's environment
// alone. An error is a *Error with all problems.
func loadConfig(all ...given) (Config, error) {
	c := Config{Origins: make(map[string]Origin)}
	l := newLoader(all, foldCase)
	if len(l.env) == 0 {
		return Config{}, &Error{Problems: []Problem{{Text: nothingSet}}}
	}
	settings := SettingsOf(&c)
	l.checkNames(settings)

	preset := presets[strings.ToLower(strings.TrimSpace(l.env["BEARERD_PRESET"]))]
	for _, s := range settings {
		value, from := l.env[s.Name], l.origins[s.Name]
		if _, secret := s.field.Interface().(tokens.Secret); !secret {
			// An env file written on Windows leaves a CR on every value.
			value = strings.TrimSpace(value)
		}
		if value == "" {
			value, from = preset.values[s.Name], fromPreset
		}
		if value == "" && s.Name == "BEARERD_STATE_DIR" {
			value, from = l.stateDirectory, fromEnvironment
		}
		if value == "" {
			value, from = s.Def, FromDefault
		}
		if value == "" {
			continue
		}
		c.Origins[s.Name] = from
		if err := s.set(value); err != nil {
			l.refuse(s.Name, "%v", err)
		}
	}
	l.validate(&c, preset)
	l.keepSecrets(settings)
	for _, w := range l.warnings {
		c.Warnings = append(c.Warnings, w.Variable+": "+w.Text)
	}
	for _, n := range l.notes {
		c.Notes = append(c.Notes, n.Variable+": "+n.Text)
	}

	if len(l.problems) > 0 {
		// In the order of the help; a name that is not in it comes first, as
		// it may be the reason why another is missing.
		order := func(p Problem) int {
			return slices.IndexFunc(settings, func(s Setting) bool { return s.Name == p.Variable })
		}
		slices.SortStableFunc(l.problems, func(a, b Problem) int { return order(a) - order(b) })
		return Config{}, &Error{l.problems, c.TokenURL.Host}
	}
	return c, nil
}

// newLoader returns a loader of what is given. Where foldCase is set, names in
// any case are meant for bearerd, as the system has it so.
func newLoader(all []given, foldCase bool) *loader {
	l := &loader{env: make(map[string]string), origins: make(map[string]Origin)}
	for _, g := range all {
		l.read(g, foldCase)
	}
	return l
}

// read keeps the variables that are meant for bearerd.
func (l *loader) read(g given, foldCase bool) {
	for _, line := range g.lines {
		name, value, _ := strings.Cut(line, "=")
		if foldCase {
			name = strings.ToUpper(name)
		}
		if name == "STATE_DIRECTORY" && g.from == fromEnvironment { // systemd.exec(5): a list with colons
			l.stateDirectory, _, _ = strings.Cut(value, ":")
		}
		if isProxyVariable(name) {
			l.checkProxyVariable(name, value)
		}
		if !strings.HasPrefix(name, envPrefix+"_") || strings.TrimSpace(value) == "" || l.env[name] != "" {
			continue
		}
		if serviceLinks[0].MatchString(name) || serviceLinks[1].MatchString(name) {
			if name == "BEARERD_PORT" && !strings.Contains(value, "://") {
				l.warn(name, "is not a setting; to move the port write BEARERD_LISTEN=localhost:8080")
			}
			continue
		}
		l.env[name], l.origins[name] = value, g.from
	}
}
