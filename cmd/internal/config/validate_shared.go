package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/bearerd/bearerd/cmd/internal/display"
	"github.com/bearerd/bearerd/cmd/internal/endpoint"
	"github.com/bearerd/bearerd/cmd/internal/shared"
	"github.com/bearerd/bearerd/tokens"
)

// sharedSetting is the secret that SHARED is, without BEARERD_.
const sharedSetting = "SHARED"

// SharedSource is where the engine's URL is.
func (c Config) SharedSource() tokens.Source {
	return tokens.Source{Value: c.Shared, File: c.SharedFile}
}

// SharedTLSFiles are those of the engine.
func (c Config) SharedTLSFiles() TLSFiles {
	return TLSFiles{c.SharedCAFile, c.SharedClientCertFile, c.SharedClientKeyFile}
}

// ForShared has problems name the settings of the engine.
func ForShared(problems []Problem) []Problem {
	names := strings.NewReplacer(CAVar, "BEARERD_SHARED_CA_FILE", CertVar, "BEARERD_SHARED_CLIENT_CERT_FILE", KeyVar, "BEARERD_SHARED_CLIENT_KEY_FILE")
	for i, p := range problems {
		problems[i].Variable, problems[i].Text = names.Replace(p.Variable), names.Replace(p.Text)
	}
	return problems
}

// SharedKey reads SHARED_KEY_FILE. Its errors are safe to log.
func (c Config) SharedKey() ([]byte, error) {
	info, err := os.Stat(c.SharedKeyFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, errors.New("does not exist")
	case err != nil:
		return nil, errors.New("cannot be read")
	case !info.Mode().IsRegular() || info.Size() != 32:
		return nil, errors.New("holds no 32 bytes; make it with head -c 32 /dev/urandom")
	}
	key, err := os.ReadFile(c.SharedKeyFile)
	if err != nil || len(key) != 32 {
		return nil, errors.New("cannot be read")
	}
	return key, nil
}

func (l *loader) checkShared(c *Config) {
	source := c.SharedSource()
	name := SecretSource{Name: sharedSetting, Source: source}.Variable()
	if source.IsZero() {
		for variable, path := range map[string]string{
			"BEARERD_SHARED_KEY_FILE": c.SharedKeyFile, "BEARERD_SHARED_CA_FILE": c.SharedCAFile,
			"BEARERD_SHARED_CLIENT_CERT_FILE": c.SharedClientCertFile, "BEARERD_SHARED_CLIENT_KEY_FILE": c.SharedClientKeyFile,
		} {
			if path != "" {
				l.warn(variable, "ignored, as BEARERD_SHARED is not set")
			}
		}
		return
	}
	if l.refused(name) {
		return
	}
	text, err := source.Read()
	if err != nil {
		what := "it"
		if filepath.IsAbs(source.File) {
			what = display.Quote(source.File)
		}
		l.refuse(name, "%s: %v; write the absolute path of a file that holds the URL of the engine", what, err)
		return
	}
	a, err := shared.ParseAddress(strings.TrimSpace(text.Reveal()))
	switch {
	case err != nil:
		l.refuse(name, "%v; write %s", err, shared.Forms)
		return
	case source.File == "" && (a.Username != "" || a.Password != "" || a.SentinelUsername != "" || a.SentinelPassword != ""):
		l.refuse(name, "has a user or password in it; write the URL into a file, and its path into BEARERD_SHARED_FILE")
		return
	case c.GrantType != "" && !c.hasCommonSecret() && c.SharedKeyFile == "":
		l.refuse("BEARERD_SHARED_KEY_FILE", "missing; this login has no password and no client secret that the fleet has in common to seal by: write the path of a file of 32 random bytes, the same everywhere")
	}
	if c.SharedKeyFile != "" {
		if _, err := c.SharedKey(); err != nil {
			what := "it" // what is not an absolute path may be the key itself, in the wrong place
			if filepath.IsAbs(c.SharedKeyFile) {
				what = display.Quote(c.SharedKeyFile)
			}
			l.refuse("BEARERD_SHARED_KEY_FILE", "%s %v", what, err)
		}
	}
	c.SharedAddress = &a
	if !a.TLS {
		for _, host := range a.Hosts {
			if at, _, _ := net.SplitHostPort(host); !endpoint.IsLoopback(at) {
				l.note(name, "%s is spoken to without TLS: what is stored is sealed, the engine's password is not; write rediss:// where the network is not trusted", fmt.Sprint(a))
				break
			}
		}
	}
	files := c.SharedTLSFiles()
	if files == (TLSFiles{}) {
		return
	}
	texts := files.Read()
	trust, problems := files.Trust(texts)
	l.problems = append(l.problems, ForShared(problems)...)
	c.SharedTrust, c.SharedTrusted = trust, texts.Fingerprint()
}

// hasCommonSecret reports whether the login has a secret that all of a fleet have.
func (c Config) hasCommonSecret() bool {
	for _, s := range c.SecretSources() {
		if s.Name == "CLIENT_SECRET" || s.Name == "PASSWORD" && c.GrantType == "password" {
			return true
		}
	}
	return false
}
