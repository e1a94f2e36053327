package config

import (
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/bearerd/bearerd/tokens"
)

// Discretion knows the secrets that are set, so that no message repeats one: a
// password may be typed into another variable than its own, or behind a flag.
type Discretion struct {
	secrets []string // folded
}

// leastPart is how many bytes of a secret are worth hiding. What is shorter, and
// not the whole secret, is found in any text.
const leastPart = 4

// discretionOf returns what keeps the secrets in env: the values of secret
// settings, and what their files hold now.
func discretionOf(env map[string]string) Discretion {
	var d Discretion
	for _, s := range SettingsOf(new(Config)) {
		if s.Name == "BEARERD_CLIENT_ASSERTION_FILE" {
			text, _ := tokens.ReadTextFile(strings.TrimSpace(env[s.Name]))
			d.add(text)
		}
		if _, ok := s.field.Interface().(tokens.Secret); !ok {
			continue
		}
		if s.Name == "BEARERD_"+proxySetting {
			text, _ := tokens.ReadTextFile(strings.TrimSpace(env[s.Name+"_FILE"]))
			d.add(proxySecrets(env[s.Name])...)
			d.add(proxySecrets(text)...)
			continue
		}
		d.add(env[s.Name])
		if path := strings.TrimSpace(env[s.Name+"_FILE"]); path != "" {
			text, _ := tokens.ReadTextFile(path) // where it cannot be read there is nothing to keep
			d.add(text)
		}
		switch s.Name {
		case "BEARERD_TOKEN_PARAMS":
			fields, _ := url.ParseQuery(env[s.Name])
			for _, values := range fields {
				d.add(values...)
			}
		case "BEARERD_" + RequireHeader:
			_, value, _ := strings.Cut(env[s.Name], ":")
			d.add(value)
		}
	}
	return d
}

// DiscretionOfEnviron is discretionOf of environ, as [os.Environ] gives it.
func DiscretionOfEnviron(environ []string) Discretion {
	return discretionOf(newLoader([]given{{fromEnvironment, environ}}, foldCase).env)
}

// Discretion returns what keeps the secrets of c, a configuration without fault:
// those that a person typed too.
func (c Config) Discretion() Discretion {
	var d Discretion
	for _, s := range c.SecretSources() {
		text, _ := s.Source.Read()
		if s.Name == proxySetting {
			d.add(proxySecrets(text.Reveal())...)
			continue
		}
		d.add(text.Reveal())
	}
	return d
}

func (d *Discretion) add(secrets ...string) {
	for _, s := range secrets {
		if s = folded(s); s != "" {
			d.secrets = append(d.secrets, s)
		}
	}
}

// folded is what a value is compared by: some settings ignore case, and all but
// secrets lose the space around them.
func folded(value string) string { return strings.ToLower(strings.TrimSpace(value)) }

// Is reports whether value, or one of a list, is a secret. Unlike Concerns it does
// not look at parts: the report of a setting that is right is to say what it is.
func (d Discretion) Is(value string) bool {
	return slices.ContainsFunc(append(strings.Split(value, ","), value), func(v string) bool {
		return slices.Contains(d.secrets, folded(v))
	})
}

// Concerns reports whether value is a secret, or the one is a part of the other.
func (d Discretion) Concerns(value string) bool {
	given := []string{folded(value)}
	if plain, err := url.PathUnescape(given[0]); err == nil && plain != given[0] {
		given = append(given, plain)
	}
	for _, v := range given {
		for _, s := range d.secrets {
			if v == s || len(s) >= leastPart && strings.Contains(v, s) || len(v) >= leastPart && strings.Contains(s, v) {
				return true
			}
		}
	}
	return false
}

// quoted is a value in a message, as [display.Quote] writes it.
var quoted = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)

// Message returns text without a value that concerns a secret. value is that of
// the variable that text is about; "" when it is not known.
func (d Discretion) Message(text, value string) string {
	all := d.Concerns(value)
	hidden := false
	shown := quoted.ReplaceAllStringFunc(text, func(q string) string {
		if !all && !d.Concerns(strings.Trim(q, `"`)) {
			return q
		}
		hidden = true
		return "the value"
	})
	if items := strings.Split(value, ","); all && len(items) > 1 {
		for _, item := range items { // a message about one of a list may have it without quotes
			if item = strings.TrimSpace(item); item == "" || !d.Concerns(item) {
				continue
			}
			if plain := regexp.MustCompile("(?i)" + regexp.QuoteMeta(item)); plain.MatchString(shown) {
				shown, hidden = plain.ReplaceAllLiteralString(shown, "the value"), true
			}
		}
	}
	switch v := folded(value); {
	case all && v != "" && strings.Contains(folded(shown), v):
		// It stands there without quotes, as a part of a remedy.
		return "the value cannot be used; it is not shown, as it is a secret's too"
	case hidden:
		return shown + " (it is not shown, as it is a secret's too)"
	}
	return text
}
