package config

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bearerd/bearerd/cmd/internal/display"
	"github.com/bearerd/bearerd/cmd/internal/sysproxy"
	"github.com/bearerd/bearerd/tokens"
)

// checkProxyVariable refuses a proxy of the environment that net/http would pass
// over, or take for another one.
func (l *loader) checkProxyVariable(name, value string) {
	if strings.EqualFold(name, "NO_PROXY") || value == "" {
		return
	}
	if !strings.Contains(value, "://") {
		value = "http://" + value // as net/http reads it
	}
	if _, err := parseProxyURL(value); err != nil {
		l.refuse(name, "%v", err)
	}
}

// parseProxyURL parses the URL of a proxy. Where a password has a character that must
// be escaped, the rest of it would stand where a host or a path does, and be looked
// up, sent and shown. Its errors hold no part of value.
func parseProxyURL(value string) (*url.URL, error) {
	u, err := url.Parse(value)
	if err != nil || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.ForceQuery || strings.Contains(value, "#") {
		return nil, errors.New("not the URL of a proxy; write http://proxy.example.com:3128, and in a password %23 for #, %2F for /, %3F for ?, %40 for @ and %20 for a space")
	}
	if !slices.Contains(proxySchemes, u.Scheme) {
		return nil, errors.New("no kind of proxy that bearerd knows; write the URL of one with " + strings.Join(proxySchemes, "://, ") + "://")
	}
	return u, nil
}

// proxySchemes are those that net/http knows. It takes every other for http, and
// sends the proxy's password in the clear to whatever listens there.
var proxySchemes = []string{"http", "https", "socks5", "socks5h"}

// proxySetting is the secret that PROXY is, without BEARERD_.
const proxySetting = "PROXY"

// ProxyMode says how requests go out.
type ProxyMode string

const (
	ProxyByDefault ProxyMode = "" // of the environment, else of the system where it is asked
	ProxyEnv       ProxyMode = "env"
	ProxySystem    ProxyMode = "system"
	ProxyOff       ProxyMode = "off"
	ProxySet       ProxyMode = "set" // to a URL
)

// ProxyRule is what PROXY says.
type ProxyRule struct {
	Mode ProxyMode
	URL  *url.URL // with ProxySet
}

// ProxySource is where the rule is.
func (c Config) ProxySource() tokens.Source { return tokens.Source{Value: c.Proxy, File: c.ProxyFile} }

// ParseProxyRule makes a rule of what source gave. Its errors hold no part of it.
func ParseProxyRule(source tokens.Source, text tokens.Secret, err error) (ProxyRule, error) {
	if err != nil && filepath.IsAbs(source.File) {
		return ProxyRule{}, fmt.Errorf("%s: %w", display.Quote(source.File), err)
	}
	if err != nil { // what is not an absolute path may be the URL itself, in the wrong place
		return ProxyRule{}, fmt.Errorf("%w; write an absolute path", err)
	}
	value := strings.TrimSpace(text.Reveal())
	switch mode := ProxyMode(strings.ToLower(value)); mode {
	case ProxyByDefault, ProxyEnv, ProxyOff:
		return ProxyRule{Mode: mode}, nil
	case ProxySystem:
		if !sysproxy.Supported {
			return ProxyRule{}, errors.New("bearerd can ask Windows and macOS for a proxy, not this system; write env, off or the URL of one")
		}
		return ProxyRule{Mode: mode}, nil
	}
	if !strings.Contains(value, "://") {
		return ProxyRule{}, errors.New("neither env, system, off nor a URL; write http://proxy.example.com:3128")
	}
	u, err := parseProxyURL(value)
	if err != nil {
		return ProxyRule{}, err
	}
	return ProxyRule{ProxySet, u}, nil
}

// checkProxy reads the rule into c.
func (l *loader) checkProxy(c *Config) {
	source := c.ProxySource()
	if l.refused("BEARERD_PROXY") {
		return
	}
	text, err := source.Read()
	c.ProxyFingerprint = FingerprintOf(FileText{Text: text.Reveal(), Err: err})
	if c.ProxyRule, err = ParseProxyRule(source, text, err); err != nil {
		l.refuse(SecretSource{Name: proxySetting, Source: source}.Variable(), "%v", err)
	}
}

// proxySecrets are what of a rule's text is to be kept: a URL without a password says
// no more than an address.
func proxySecrets(text string) []string {
	u, err := url.Parse(strings.TrimSpace(text))
	if err == nil && u.User == nil && !strings.Contains(text, "@") {
		return nil
	}
	all := []string{text}
	if err == nil && u.User != nil {
		if password, ok := u.User.Password(); ok {
			all = append(all, password)
		}
	}
	return all
}
