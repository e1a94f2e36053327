package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/bearerd/bearerd/tokens"
)

const RequireHeader = "REQUIRE_HEADER" // a secret that is not for a login

// SecretSource is a secret that is set, and where.
type SecretSource struct {
	Name    string // PASSWORD, without BEARERD_
	Source  tokens.Source
	Keyring string // entry of the system's store, where Source is zero; "": none
	origin  Origin // of the variable that was set
}

// From says where the secret was given: env, file, keyring or asked.
func (s SecretSource) From() string {
	switch {
	case s.Keyring != "":
		return "keyring"
	case s.Source.File != "" || s.origin == fromFile:
		return "file"
	case s.origin == fromAsking:
		return "asked"
	}
	return "env"
}

// insteadOfFile says how to give the secret itself, where that is possible.
func (s SecretSource) insteadOfFile() string {
	if s.Name == "CLIENT_ASSERTION" {
		return ""
	}
	return " (to give the secret itself, set BEARERD_" + s.Name + ")"
}

// Variable returns the name of the variable that was set.
func (s SecretSource) Variable() string {
	if s.Keyring != "" {
		return "BEARERD_" + s.Name + "_KEYRING"
	}
	if s.Source.File != "" {
		return "BEARERD_" + s.Name + "_FILE"
	}
	return "BEARERD_" + s.Name
}

// SecretSources returns the secrets that are set, in the order of the help.
func (c Config) SecretSources() []SecretSource {
	all := []SecretSource{
		{Name: "CLIENT_SECRET", Source: tokens.Source{Value: c.ClientSecret, File: c.ClientSecretFile}, Keyring: c.ClientSecretKeyring},
		{Name: "CLIENT_ASSERTION", Source: tokens.Source{File: c.ClientAssertionFile}},
		{Name: "USERNAME", Source: tokens.Source{Value: c.Username, File: c.UsernameFile}},
		{Name: "PASSWORD", Source: tokens.Source{Value: c.Password, File: c.PasswordFile}, Keyring: c.PasswordKeyring},
		{Name: "TOKEN_PARAMS", Source: tokens.Source{Value: c.TokenParams, File: c.TokenParamsFile}},
		{Name: RequireHeader, Source: c.HeaderSource()},
	}
	for i, s := range all {
		all[i].origin = c.Origins[s.Variable()]
	}
	if c.ProxyFile != "" || len(proxySecrets(c.Proxy.Reveal())) > 0 {
		all = append(all, SecretSource{Name: proxySetting, Source: c.ProxySource(), origin: c.Origins["BEARERD_PROXY"]})
	}
	if c.SharedFile != "" { // in the variable itself there is no secret
		all = append(all, SecretSource{Name: sharedSetting, Source: c.SharedSource(), origin: c.Origins["BEARERD_SHARED_FILE"]})
	}
	return slices.DeleteFunc(all, func(s SecretSource) bool { return s.Source.IsZero() && s.Keyring == "" })
}

// HeaderSource is where the header is that callers must send.
func (c Config) HeaderSource() tokens.Source {
	return tokens.Source{Value: c.RequireHeader, File: c.RequireHeaderFile}
}

// Typed reports whether a person typed a part of the credentials.
func (c Config) Typed() bool {
	return slices.ContainsFunc(c.SecretSources(), func(s SecretSource) bool { return s.origin == fromAsking })
}

// checkSecretFiles only warns: a secret that is mounted late is waited for.
func (l *loader) checkSecretFiles(c *Config) {
	for _, s := range c.SecretSources() {
		name, path := s.Variable(), s.Source.File
		if path == "" || s.Name == RequireHeader || s.Name == proxySetting || s.Name == sharedSetting { // which must be there at the start
			continue
		}
		info, err := os.Stat(path)
		absolute := filepath.IsAbs(path)
		switch {
		case errors.Is(err, fs.ErrNotExist) && !absolute:
			// Not shown: it may be the secret itself, put in the wrong place.
			l.warn(name, "no such file, and not an absolute path; waiting for it%s", s.insteadOfFile())
		case errors.Is(err, fs.ErrNotExist):
			l.warn(name, "%s: no such file; waiting for it", path)
		case err != nil && absolute:
			l.warn(name, "%s: %v; waiting for it", path, reason(err))
		case err != nil:
			l.warn(name, "%v; waiting for it", reason(err))
		case info.IsDir():
			// Docker makes one for a bind mount whose source is missing.
			l.warn(name, "%s is a directory; waiting for a file there", path)
		case !absolute:
			l.warn(name, "%s is relative to the directory bearerd was started in; write an absolute path", path)
		}
	}
}

// checkExposure warns of files of secrets that other users can read.
func (l *loader) checkExposure(c *Config) {
	check := func(name, path string) {
		if words := exposure(path); words != "" {
			l.warn(name, "%s", words)
		}
	}
	for _, s := range c.SecretSources() {
		if s.Source.File != "" {
			check(s.Variable(), s.Source.File)
		}
	}
	for variable, path := range map[string]string{"BEARERD_SHARED_KEY_FILE": c.SharedKeyFile, "BEARERD_SHARED_CLIENT_KEY_FILE": c.SharedClientKeyFile} {
		if path != "" {
			check(variable, path)
		}
	}
	if c.ClientKeyFile != "" {
		check("BEARERD_CLIENT_KEY_FILE", c.ClientKeyFile)
	}
}
