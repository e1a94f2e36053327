package config

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/display"
	"github.com/bearerd/bearerd/cmd/internal/endpoint"
	"github.com/bearerd/bearerd/proxy"
	"github.com/bearerd/bearerd/tokens"
)

// set parses value into the setting's field. Its error never holds the value
// of a secret.
func (s Setting) set(value string) error {
	if len(s.oneof) > 0 {
		given := value
		if value = strings.ToLower(value); !slices.Contains(s.oneof, value) {
			return fmt.Errorf("%s is not known; write one of %s", display.Quote(given), strings.Join(s.oneof, ", "))
		}
	}
	var err error
	switch p := s.field.Addr().Interface().(type) {
	case *string:
		if !strings.HasSuffix(s.Name, "_FILE") { // a path may be any bytes
			err = tokens.CheckSecret(value) // sent, it would count as a wrong login as well
		}
		*p = value
	case *tokens.Secret:
		if strings.HasSuffix(value, "\n") || strings.HasSuffix(value, "\r") {
			return fmt.Errorf("ends with a newline; make it with printf, not echo, or use %s_FILE, where one newline is trimmed", s.Name)
		}
		if err := tokens.CheckSecret(value); err != nil {
			return err
		}
		*p = tokens.Secret(value)
	case *bool:
		if *p, err = strconv.ParseBool(strings.ToLower(value)); err != nil {
			return fmt.Errorf("%s is not a truth value; write true or false", display.Quote(value))
		}
	case *int:
		if *p, err = strconv.Atoi(value); err != nil {
			return fmt.Errorf("%s is not a whole number; write e.g. %s", display.Quote(value), s.Def)
		}
	case *[]string:
		*p, err = parseList(value)
	case *time.Duration:
		*p, err = ParseDuration(value)
	case *ByteSize:
		*p, err = parseSize(value)
	case *fs.FileMode:
		*p, err = parseMode(value)
	case *url.URL:
		var u *url.URL
		if u, err = parseURL(value); err == nil {
			*p = *u
		}
	default:
		panic(fmt.Sprintf("%s: no parser for %T", s.Name, p))
	}
	return err
}

func parseList(s string) ([]string, error) {
	var list []string
	for item := range strings.SplitSeq(s, ",") {
		if item = strings.TrimSpace(item); item != "" {
			list = append(list, item)
		}
	}
	if len(list) == 0 {
		// "," must not open what the list is there to close.
		return nil, errors.New("the list has no item; write one, or unset it")
	}
	return list, nil
}

// ParseDuration reads a duration that is not negative.
func ParseDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	switch {
	case err != nil && strings.Trim(s, "0123456789") == "":
		return 0, fmt.Errorf("%s has no unit; write %ss", display.Quote(s), s)
	case err != nil:
		return 0, fmt.Errorf("%s is not a duration; write e.g. 10s, 1m30s or 500ms", display.Quote(s))
	case d < 0:
		return 0, fmt.Errorf("%s is negative; write e.g. 10s", display.Quote(s))
	}
	return d, nil
}

// ByteSize is a number of bytes, written 512KiB, 1MiB or 1048576.
type ByteSize int64

func (n ByteSize) String() string {
	for i, suffix := range []string{"GiB", "MiB", "KiB"} {
		if unit := ByteSize(1) << (10 * (3 - i)); n >= unit && n%unit == 0 {
			return strconv.FormatInt(int64(n/unit), 10) + suffix
		}
	}
	return strconv.FormatInt(int64(n), 10)
}

func parseSize(s string) (ByteSize, error) {
	number, unit := s, int64(1)
	for i, suffix := range []string{"KiB", "MiB", "GiB"} {
		if n, ok := strings.CutSuffix(s, suffix); ok {
			number, unit = strings.TrimSpace(n), 1<<(10*(i+1))
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/unit {
		return 0, fmt.Errorf("%s is not a size; write e.g. 512KiB, 1MiB or a number of bytes", display.Quote(s))
	}
	return ByteSize(n * unit), nil
}

// parseMode reads permissions as chmod has them.
func parseMode(s string) (fs.FileMode, error) {
	mode, err := strconv.ParseUint(s, 8, 32)
	if err != nil || mode > 0o777 {
		return 0, fmt.Errorf("%s is not a mode; write e.g. 0600 for this user only, or 0660 for the group too", display.Quote(s))
	}
	return fs.FileMode(mode), nil
}

// parseURL parses an http or https URL with a host and without user
// information. It never passes on an error of [url.Parse]: that quotes the
// URL, or the part after a colon, which may be a password.
func parseURL(s string) (*url.URL, error) {
	if !strings.Contains(s, "://") {
		if strings.ContainsAny(s, "@?#") {
			return nil, errors.New("has no scheme; begin with https://")
		}
		scheme := "https"
		if host, _, _ := strings.Cut(s, ":"); endpoint.IsLoopback(host) {
			scheme = "http"
		}
		return nil, fmt.Errorf("%s has no scheme; write %s://%s", display.Quote(s), scheme, strings.TrimLeft(s, "/"))
	}
	u, err := url.Parse(s)
	if err == nil && u.User != nil || err != nil && strings.Contains(s, "@") {
		return nil, errors.New("holds user information; take what is before the @ out, BEARERD_USERNAME and BEARERD_PASSWORD are for it")
	}
	if err != nil {
		return nil, fmt.Errorf("%s is not a URL; write e.g. https://api.example.com", display.Quote(s))
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%s has the scheme %q; write http or https", display.Quote(s), u.Scheme)
	}
	u.Host = strings.TrimSuffix(u.Host, ":")
	if u.Hostname() == "" {
		return nil, fmt.Errorf("%s has no host; write e.g. https://api.example.com", display.Quote(s))
	}
	if port := u.Port(); port != "" {
		if _, err := endpoint.ParsePort(port); err != nil || port == "0" {
			return nil, fmt.Errorf("%s has no valid port; write 1 to 65535", display.Quote(s))
		}
	}
	return u, nil
}

// parseHost checks one host name or IP address and returns it as the guard
// compares it: lower case, no trailing dot, IPv6 without brackets.
func parseHost(s string) (string, error) {
	host := strings.ToLower(s)
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") && strings.Contains(host, ":") {
		host = host[1 : len(host)-1]
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		if ip.IsUnspecified() || ip.Zone() != "" {
			return "", fmt.Errorf("%s is no address that a caller can name; write the one it uses", display.Quote(s))
		}
		return ip.String(), nil
	}
	host = strings.TrimSuffix(host, ".")
	switch {
	case strings.Contains(host, "*"):
		return "", fmt.Errorf("%s is a wildcard; name each host", display.Quote(s))
	case strings.Contains(host, "/"):
		return "", fmt.Errorf("%s is more than a host; write the name only", display.Quote(s))
	case strings.Contains(host, ":"):
		return "", fmt.Errorf("%s has a port or is no IPv6 address; write the host without port", display.Quote(s))
	case !isHostname(host):
		return "", fmt.Errorf("%s is not a host name; write e.g. proxy.example.com or 192.0.2.7", display.Quote(s))
	}
	return host, nil
}

// parseOrigin checks the origin of a web page and returns it as browsers write
// it (RFC 6454, 6.2): lower case, without the scheme's own port.
func parseOrigin(s string) (string, error) {
	u, err := url.Parse(strings.ToLower(s))
	switch {
	case strings.Contains(s, "*"):
		return "", fmt.Errorf("%s is a wildcard; name each origin", display.Quote(s))
	case strings.EqualFold(s, "null"):
		return "", errors.New("null is the origin of every sandboxed frame on the internet; serve the page from an address instead")
	case err != nil || u.Scheme == "" || u.Host == "" || u.Hostname() == "" || u.Opaque != "":
		return "", fmt.Errorf("%s is not an origin; write e.g. http://localhost:3000", display.Quote(s))
	case u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.ForceQuery || strings.Contains(s, "#"):
		return "", fmt.Errorf("%s is more than an origin; write scheme and host only, and a port where there is one", display.Quote(s))
	}
	if port := u.Port(); port == "" || u.Scheme == "http" && port == "80" || u.Scheme == "https" && port == "443" {
		u.Host = strings.TrimSuffix(u.Host, ":"+port)
	} else if _, err := endpoint.ParsePort(port); err != nil {
		return "", fmt.Errorf("%s has no valid port; write 1 to 65535", display.Quote(s))
	}
	return u.Scheme + "://" + u.Host, nil
}

// readHeaderRule reads the header that callers must send. Its errors hold no
// part of it.
func readHeaderRule(source tokens.Source) (proxy.HeaderRule, error) {
	text, err := source.Read()
	return ParseHeaderRule(source, text, err)
}

// ParseHeaderRule is readHeaderRule of what source gave.
func ParseHeaderRule(source tokens.Source, text tokens.Secret, err error) (proxy.HeaderRule, error) {
	if err != nil && filepath.IsAbs(source.File) {
		return proxy.HeaderRule{}, fmt.Errorf("%s: %w", display.Quote(source.File), err)
	}
	if err != nil { // what is not an absolute path may be the header itself, in the wrong place
		return proxy.HeaderRule{}, fmt.Errorf("%w; write an absolute path", err)
	}
	name, value, ok := strings.Cut(text.Reveal(), ":")
	name, value = http.CanonicalHeaderKey(strings.TrimSpace(name)), strings.TrimSpace(value)
	switch {
	case !ok || value == "" || !isToken(name):
		return proxy.HeaderRule{}, errors.New("not of the form Name: value; write e.g. X-Bearerd-Key: and 32 random letters")
	case strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }):
		return proxy.HeaderRule{}, errors.New("the value has a character that not every program can send in a header; use letters and digits")
	case slices.Contains([]string{"Host", "Connection", "Content-Length", "Transfer-Encoding", "Upgrade", "Te", "Trailer", "Expect", "Origin", "Keep-Alive", "Proxy-Connection"}, name):
		return proxy.HeaderRule{}, errors.New("the name is of a header that HTTP itself needs; choose one of your own, e.g. X-Bearerd-Key")
	}
	return proxy.HeaderRule{Name: name, Value: value}, nil
}

// isToken reports whether s is one (RFC 9110, 5.6.2).
func isToken(s string) bool {
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~") == ""
}

// isHostname accepts letters, digits, - and _ (as container names have it) in
// labels of up to 63, and refuses a last label that is a number: 127.1 and
// 0x7f000001 are addresses to some resolvers.
func isHostname(s string) bool {
	labels := strings.Split(s, ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	_, err := strconv.ParseUint(labels[len(labels)-1], 0, 64)
	return len(s) <= 253 && err != nil && !errors.Is(err, strconv.ErrRange)
}
