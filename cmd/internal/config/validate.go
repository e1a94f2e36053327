package config

import (
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/display"
	"github.com/bearerd/bearerd/cmd/internal/endpoint"
	"github.com/bearerd/bearerd/proxy"
)

const maxReplayBuffer = 64 << 20 // bytes; what all requests together may hold

// OwnListener refuses a URL: its host, and the variable that says the same.
const OwnListener = "%s is where bearerd itself listens (%s); change one of them"

// reason is an error's cause without the path, which it is printed next to.
func reason(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}

// validate refuses what each setting alone may say but not with the others, or
// not in its place, and completes c: lists in the form they are compared in,
// certificates.
func (l *loader) validate(c *Config, p preset) {
	l.checkUpstream(c)
	l.checkRenewStatus(c)
	l.checkTokenURL(c)
	l.checkGrant(c, p)
	l.checkTokenParams(c)
	l.checkSecretFiles(c)
	l.checkExposure(c)
	l.checkListeners(c)
	l.checkProxy(c)
	l.checkGuard(c)
	l.checkLimits(c)
	l.checkShared(c)
	l.checkStateDir(c)
	l.loadCertificates(c)
}

func (l *loader) checkUpstream(c *Config) {
	const name = "BEARERD_UPSTREAM"
	switch {
	case l.refused(name) || l.refused("BEARERD_PRESET"):
		return
	case c.Upstream.Host == "":
		l.refuse(name, "missing; write the base URL of the API, e.g. https://api.example.com, or choose a BEARERD_PRESET that has one (%s)", presetsWith(name))
		return
	case c.Upstream.RawQuery != "" || c.Upstream.ForceQuery:
		l.refuse(name, "has a query; end it before the ?")
	case c.Upstream.Fragment != "":
		l.refuse(name, "has a fragment; end it before the #")
	case proxy.Traverses(c.Upstream.EscapedPath()):
		l.refuse(name, "%s has a . or .. in its path; write the path it leads to", display.Quote(c.Upstream.EscapedPath()))
	}
	l.checkScheme(c, name, c.Upstream, "every token")
}

// checkScheme refuses a URL that leads back to bearerd, and clear text that would
// leave the machine.
func (l *loader) checkScheme(c *Config, name string, u *url.URL, what string) {
	for _, own := range []struct {
		variable string
		items    []string
	}{{"BEARERD_LISTEN", c.Listen}, {"BEARERD_ADMIN_LISTEN", []string{c.AdminListen}}} {
		for _, item := range own.items {
			if at, err := endpoint.Parse(item); err == nil && endpoint.ThisMachine().Leads(u, at) {
				l.refuse(name, OwnListener, display.Quote(u.Host), own.variable)
				return
			}
		}
	}
	if u.Scheme == "http" && !endpoint.IsLoopback(u.Hostname()) {
		if c.AllowInsecure {
			l.warn(name, "%s can be read by anybody between here and %s, as it is http (BEARERD_ALLOW_INSECURE)", what, u.Host)
		} else if !l.refused("BEARERD_ALLOW_INSECURE") {
			l.refuse(name, "http would show %s to anybody on the way; write https, or set BEARERD_ALLOW_INSECURE=true", what)
		}
	}
}

func (l *loader) checkStateDir(c *Config) {
	const name = "BEARERD_STATE_DIR"
	if c.StateDir == "" || l.refused(name) {
		return
	}
	info, err := os.Stat(c.StateDir)
	switch {
	case !filepath.IsAbs(c.StateDir):
		l.refuse(name, "is relative to the directory bearerd is started in; write an absolute path")
	case err == nil && !info.IsDir():
		l.refuse(name, "%s is not a folder; name one that only bearerd writes to", display.Quote(c.StateDir))
	}
}

func (l *loader) checkLimits(c *Config) {
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"BEARERD_LOGIN_TIMEOUT", c.LoginTimeout},
		{"BEARERD_TOKEN_WAIT", c.TokenWait},
		{"BEARERD_DEFAULT_TOKEN_LIFETIME", c.DefaultTokenLifetime},
		{"BEARERD_DIAL_TIMEOUT", c.DialTimeout},
		{"BEARERD_UPSTREAM_IDLE", c.UpstreamIdle},
	} {
		if d.value == 0 && !l.refused(d.name) {
			l.refuse(d.name, "must be more than 0; write e.g. 10s")
		}
	}
	if c.MaxInFlight < 1 && !l.refused("BEARERD_MAX_IN_FLIGHT") {
		l.refuse("BEARERD_MAX_IN_FLIGHT", `"%d" lets no request through; write 1 or more`, c.MaxInFlight)
	}
	if c.ReplayBuffer > maxReplayBuffer {
		l.refuse("BEARERD_REPLAY_BUFFER", "%s is too much; write 64MiB or less", display.Quote(l.env["BEARERD_REPLAY_BUFFER"]))
	}
}
