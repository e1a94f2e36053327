package config

import (
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"github.com/bearerd/bearerd/cmd/internal/display"
	"github.com/bearerd/bearerd/tokens"
)

// NotShown stands for a value that is a secret's too.
const NotShown = "(not shown, as it is a secret's too)"

// ShownSetting is a setting as a report may hold it.
type ShownSetting struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Origin Origin `json:"origin"`
}

// ShownSettings lists what is set and where it came from, without a secret. It
// reads the files of secrets, so as to show none in another place.
func (c Config) ShownSettings() []ShownSetting {
	all := []ShownSetting{}
	for _, s := range SettingsOf(&c) {
		if from, ok := c.Origins[s.Name]; ok {
			all = append(all, ShownSetting{s.Name, s.Shown(), from})
		}
	}
	d := c.Discretion()
	for i, s := range all {
		if given := s.Origin != FromDefault && s.Origin != fromPreset; given && d.Is(s.Value) {
			all[i].Value = NotShown
		}
	}
	for _, secret := range c.SecretSources() {
		if path := secret.Source.File; path != "" && !filepath.IsAbs(path) {
			i := slices.IndexFunc(all, func(s ShownSetting) bool { return s.Name == secret.Variable() })
			all[i].Value = "(not an absolute path, so not shown)" // it may be the secret itself, in the wrong place
		}
	}
	return all
}

// Shown is the setting's value as a report may hold it.
func (s Setting) Shown() string {
	if strings.HasSuffix(s.Name, "_KEYRING") {
		return "(set)" // it may be the secret itself, in the wrong place
	}
	switch v := s.field.Interface().(type) {
	case tokens.Secret:
		return "(set)"
	case url.URL:
		return display.WithoutQuery(&v)
	case []string:
		return strings.Join(v, ",")
	case fs.FileMode:
		return fmt.Sprintf("%04o", v)
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '?'
		}
		return r
	}, fmt.Sprint(s.field.Interface()))
}
