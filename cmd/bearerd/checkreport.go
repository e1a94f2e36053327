package main

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/golang-jwt/jwt/v5"

	"github.com/bearerd/bearerd/proxy"
	"github.com/bearerd/bearerd/tokens"
)

// report is what check found. It holds no secret: it is made to be pasted into
// a support ticket. The json names are what scripts rely on.
type report struct {
	Healthy  bool            `json:"healthy"`
	Version  string          `json:"version"`
	Go       string          `json:"go"`
	Platform string          `json:"platform"`
	Time     time.Time       `json:"time"`
	Settings []settingReport `json:"settings"`
	Login    *loginReport    `json:"login"`    // null: the configuration is wrong
	Upstream *upstreamReport `json:"upstream"` // null: without a token nothing was asked
	Problems []finding       `json:"problems"`
}

type settingReport struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Origin origin `json:"origin"`
}

type loginReport struct {
	URL        string       `json:"url"` // without query
	Host       string       `json:"host,omitempty"`
	Grant      string       `json:"grant"`
	Proxy      string       `json:"proxy,omitempty"`
	Result     string       `json:"result"` // ok, rejected, throttled or transient
	Status     int          `json:"status,omitempty"`
	Cause      string       `json:"cause,omitempty"`
	Waiting    bool         `json:"waiting,omitempty"` // nothing was sent: a secret file cannot be used
	Duration   float64      `json:"duration_ms"`
	Skew       *float64     `json:"clock_skew_s,omitempty"`
	Token      *tokenReport `json:"token,omitempty"`
	Connection *connReport  `json:"connection,omitempty"`

	remedy string
}

type tokenReport struct {
	Form     string              `json:"form"` // JWT or opaque
	Lifetime float64             `json:"lifetime_s"`
	Rule     tokens.Rule         `json:"expiry_rule"`
	Claims   map[string][]string `json:"claims,omitempty"` // of claimsShown
}

type upstreamReport struct {
	URL        string      `json:"url"` // without query
	Proxy      string      `json:"proxy,omitempty"`
	Status     int         `json:"status,omitempty"`
	Code       proxy.Code  `json:"code,omitempty"` // of bearerd's own answer
	Cause      string      `json:"cause,omitempty"`
	CutShort   bool        `json:"cut_short,omitempty"` // the body ended early
	Duration   float64     `json:"duration_ms"`
	Connection *connReport `json:"connection,omitempty"`

	remedy string
}

type connReport struct {
	HTTP        string      `json:"http,omitempty"`
	TLS         string      `json:"tls,omitempty"` // version, or noTLS; empty when the handshake failed
	Certificate *certReport `json:"certificate,omitempty"`
}

const noTLS = "none"

type certReport struct {
	Subject  string    `json:"subject"`
	Issuer   string    `json:"issuer"`
	Ends     time.Time `json:"not_after"`
	Accepted bool      `json:"accepted"` // if not, the cause says why
}

const (
	severityError   = "error"
	severityWarning = "warning"
)

// finding is one thing that is wrong.
type finding struct {
	Severity string `json:"severity"`
	Setting  string `json:"setting,omitempty"`
	Problem  string `json:"problem"`
	Remedy   string `json:"remedy,omitempty"`
}

func newReport() *report {
	return &report{
		Version:  version(),
		Go:       runtime.Version(),
		Platform: platform,
		Time:     time.Now().UTC().Truncate(time.Second),
		Settings: []settingReport{},
		Problems: []finding{},
	}
}

// describeToken tells what a token says of itself, but for its text.
func describeToken(t *tokens.Token) *tokenReport {
	claims := jwt.MapClaims{}
	// As in package tokens: an unknown alg is an error that comes after the
	// claims have been read.
	_, _, _ = jwt.NewParser().ParseUnverified(t.Bearer(), claims)
	d := &tokenReport{Form: "opaque", Lifetime: t.Lifetime.Seconds(), Rule: t.Rule, Claims: make(map[string][]string)}
	if len(claims) > 0 {
		d.Form = "JWT"
	}
	for _, name := range claimsShown {
		switch value := claims[name].(type) {
		case string:
			d.Claims[name] = []string{printable(value)}
		case []any:
			for _, item := range value {
				if text, ok := item.(string); ok && len(d.Claims[name]) < 20 {
					d.Claims[name] = append(d.Claims[name], printable(text))
				}
			}
		}
	}
	return d
}

// claimsShown say what a token is for and who asked for it. None names the
// account.
var claimsShown = []string{"aud", "scope", "azp"}

// printable is text of a server's choice, fit for a terminal.
func printable(s string) string {
	const most = 1000 // letters
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	if len(s) > most {
		s = s[:most] + "..."
	}
	return s
}

// describeSettings lists what is set and where, with what the settings warn of.
func (r *report) describeSettings(cfg Config) {
	for _, s := range settingsOf(&cfg) {
		if from, ok := cfg.Origins[s.name]; ok {
			r.Settings = append(r.Settings, settingReport{s.name, s.shown(), from})
		}
	}
	for _, secret := range cfg.SecretSources() {
		if path := secret.Source.File; path != "" && !filepath.IsAbs(path) {
			i := slices.IndexFunc(r.Settings, func(s settingReport) bool { return s.Name == secret.variable() })
			r.Settings[i].Value = "(not an absolute path, so not shown)" // it may be the secret itself, in the wrong place
		}
	}
	for _, w := range cfg.Warnings {
		r.Problems = append(r.Problems, finding{Severity: severityWarning, Problem: w})
	}
}

// shown is the setting's value as a report may hold it.
func (s setting) shown() string {
	switch v := s.field.Interface().(type) {
	case tokens.Secret:
		return "(set)"
	case url.URL:
		return withoutQuery(&v)
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

func (r *report) writeJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

func (r *report) writeText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "bearerd check  %s  %s  %s  %s\n", r.Version, r.Go, r.Platform, r.Time.Format(time.RFC3339))
	row := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-12s %s\n", name, fmt.Sprintf(format, args...))
	}

	b.WriteString("\nSettings\n")
	widest := 0
	for _, s := range r.Settings {
		widest = max(widest, len(s.Name))
	}
	for _, s := range r.Settings {
		fmt.Fprintf(&b, "  %-*s  %-11s  %s\n", widest, s.Name, s.Origin, s.Value)
	}

	l := r.Login
	fmt.Fprintf(&b, "\nLogin  POST %s\n", l.URL)
	if l.Host != "" {
		row("host", "%s", l.Host)
	}
	row("grant", "%s", l.Grant)
	switch {
	case l.Waiting:
		row("result", "not made: %s", l.Cause)
	case l.Token != nil:
		row("result", "%s: HTTP %d, %.0f ms", l.Result, l.Status, l.Duration)
	default:
		row("result", "%s: %s", l.Result, l.Cause)
	}
	if t := l.Token; t != nil {
		row("token", "%s, lives %v (rule %s)", t.Form, time.Duration(t.Lifetime*float64(time.Second)), t.Rule)
		for _, name := range claimsShown {
			if values := t.Claims[name]; len(values) > 0 {
				row(name, "%s", strings.Join(values, ", "))
			}
		}
	}
	if l.Skew != nil {
		row("clock", "%s", clockSays(skewOf(*l.Skew)))
	}
	writeConnection(row, l.Proxy, l.Connection)

	if u := r.Upstream; u != nil {
		fmt.Fprintf(&b, "\nUpstream  GET %s\n", u.URL)
		switch {
		case u.Code != "" && u.Cause == "":
			row("result", "not asked: %s", u.Code)
		case u.Code != "":
			row("result", "%s: %s", u.Code, u.Cause)
		default:
			row("result", "HTTP %d %s, %.0f ms", u.Status, http.StatusText(u.Status), u.Duration)
		}
		writeConnection(row, u.Proxy, u.Connection)
	} else {
		b.WriteString("\nUpstream  not asked: there is no token\n")
	}

	if len(r.Problems) > 0 {
		b.WriteString("\nProblems\n")
	}
	for _, p := range r.Problems {
		fmt.Fprintf(&b, "  %s: %s\n", p.Severity, p.Problem)
		if p.Remedy != "" {
			fmt.Fprintf(&b, "    remedy: %s\n", p.Remedy)
		}
	}
	if r.Healthy {
		b.WriteString("\nHealthy.\n")
	} else {
		b.WriteString("\nNot healthy.\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeConnection(row func(name, format string, args ...any), via string, c *connReport) {
	if via != "" {
		row("proxy", "%s", via)
	}
	switch {
	case c == nil:
		return
	case c.TLS == noTLS:
		row("connection", "%s, no TLS", c.HTTP)
	case c.TLS != "":
		row("connection", "%s, %s", c.HTTP, c.TLS)
	}
	if cert := c.Certificate; cert != nil {
		refused := ""
		if !cert.Accepted {
			refused = ", NOT ACCEPTED"
		}
		row("certificate", "of %s%s", cert.Subject, refused)
		row("issuer", "%s", cert.Issuer)
		row("ends", "%s", cert.Ends.Format(time.RFC3339))
	}
}

// skewOf is a clock skew in seconds as a duration.
func skewOf(seconds float64) time.Duration { return time.Duration(seconds) * time.Second }
