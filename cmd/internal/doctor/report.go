package doctor

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/bearerd/bearerd/cmd/internal/advice"
	"github.com/bearerd/bearerd/cmd/internal/config"
	"github.com/bearerd/bearerd/cmd/internal/display"
	"github.com/bearerd/bearerd/proxy"
	"github.com/bearerd/bearerd/tokens"
)

// Report is what check found. It holds no secret: it is made to be pasted into
// a support ticket. The json names are what scripts rely on.
type Report struct {
	Healthy  bool                  `json:"healthy"`
	Version  string                `json:"version"`
	Go       string                `json:"go"`
	Platform string                `json:"platform"`
	Time     time.Time             `json:"time"`
	Settings []config.ShownSetting `json:"settings"`
	Notes    []string              `json:"notes,omitempty"` // on the settings, for people
	Login    *loginReport          `json:"login"`           // null: the configuration is wrong
	Upstream *upstreamReport       `json:"upstream"`        // null: without a token nothing was asked
	Problems []finding             `json:"problems"`
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
	Connection *ConnReport  `json:"connection,omitempty"`

	remedy string
}

type tokenReport struct {
	Form     string              `json:"form"` // JWT or opaque
	Lifetime float64             `json:"lifetime_s"`
	Rule     tokens.Rule         `json:"expiry_rule"`
	Claims   map[string][]string `json:"claims,omitempty"` // of claimsShown
	Scope    string              `json:"scope,omitempty"`  // the answer's own, beside the token
}

type upstreamReport struct {
	URL        string      `json:"url"` // without query
	Proxy      string      `json:"proxy,omitempty"`
	Status     int         `json:"status,omitempty"`
	Code       proxy.Code  `json:"code,omitempty"` // of bearerd's own answer
	Cause      string      `json:"cause,omitempty"`
	CutShort   bool        `json:"cut_short,omitempty"` // the body ended early
	Duration   float64     `json:"duration_ms"`
	Connection *ConnReport `json:"connection,omitempty"`

	remedy  string
	refused bool // upstream refused the token
	late    bool // … and took it a second later
}

// ConnReport is what was seen of one connection.
type ConnReport struct {
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

func newReport(version string) *Report {
	return &Report{
		Version:  version,
		Go:       runtime.Version(),
		Platform: display.Platform,
		Time:     time.Now().UTC().Truncate(time.Second),
		Settings: []config.ShownSetting{},
		Problems: []finding{},
	}
}

// describeToken tells what a token says of itself, but for its text.
func describeToken(t *tokens.Token) *tokenReport {
	claims := jwt.MapClaims{}
	// As in package tokens: an unknown alg is an error that comes after the
	// claims have been read.
	_, _, _ = jwt.NewParser().ParseUnverified(t.Bearer(), claims)
	d := &tokenReport{Form: "opaque", Lifetime: t.Lifetime.Seconds(), Rule: t.Rule, Scope: display.Printable(t.Scope), Claims: make(map[string][]string)}
	if len(claims) > 0 {
		d.Form = "JWT"
	}
	for _, name := range claimsShown {
		switch value := claims[name].(type) {
		case string:
			d.Claims[name] = []string{display.Printable(value)}
		case []any:
			for _, item := range value {
				if text, ok := item.(string); ok && len(d.Claims[name]) < 20 {
					d.Claims[name] = append(d.Claims[name], display.Printable(text))
				}
			}
		}
	}
	return d
}

// claimsShown say what a token is for and who asked for it. None names the
// account.
var claimsShown = []string{"aud", "scope", "scp", "azp"}

// describeSettings lists what is set and where, with what the settings warn of.
func (r *Report) describeSettings(cfg config.Config) {
	r.Settings, r.Notes = cfg.ShownSettings(), cfg.Notes
	for _, w := range cfg.Warnings {
		r.Problems = append(r.Problems, finding{Severity: severityWarning, Problem: w})
	}
}

func (r *Report) writeJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// writeText writes the report for people: the verdict and what is wrong, then
// what was done, then what is set. Settings that nobody set are counted, unless
// all is to be named.
func (r *Report) writeText(w io.Writer, all bool) error {
	var b strings.Builder
	fmt.Fprintf(&b, "bearerd check  %s  %s  %s  %s\n", r.Version, r.Go, r.Platform, r.Time.Format(time.RFC3339))
	if r.Healthy {
		b.WriteString("\nHealthy.\n")
	} else {
		b.WriteString("\nNot healthy.\n")
	}
	for _, p := range r.Problems {
		fmt.Fprintf(&b, "  %s: %s\n", p.Severity, p.Problem)
		if p.Remedy != "" {
			fmt.Fprintf(&b, "    remedy: %s\n", p.Remedy)
		}
	}
	r.Login.write(&b)
	if r.Upstream != nil {
		r.Upstream.write(&b)
	} else {
		b.WriteString("\nUpstream  not asked: there is no token\n")
	}
	r.writeSettings(&b, all)
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *Report) writeSettings(b *strings.Builder, all bool) {
	b.WriteString("\nSettings\n")
	for _, note := range r.Notes {
		fmt.Fprintf(b, "  %s\n", note)
	}
	shown := slices.Clone(r.Settings)
	if !all {
		shown = slices.DeleteFunc(shown, func(s config.ShownSetting) bool { return s.Origin == config.FromDefault })
	}
	widest := 0
	for _, s := range shown {
		widest = max(widest, len(s.Name))
	}
	for _, s := range shown {
		fmt.Fprintf(b, "  %-*s  %-11s  %s\n", widest, s.Name, s.Origin, s.Value)
	}
	if hidden := len(r.Settings) - len(shown); hidden > 0 {
		fmt.Fprintf(b, "  %d more have their defaults: -all names them\n", hidden)
	}
}

// row writes a fact about login or upstream.
func row(b *strings.Builder, name, format string, args ...any) {
	fmt.Fprintf(b, "  %-12s %s\n", name, fmt.Sprintf(format, args...))
}

func (l *loginReport) write(b *strings.Builder) {
	fmt.Fprintf(b, "\nLogin  POST %s\n", l.URL)
	if l.Host != "" {
		row(b, "host", "%s", l.Host)
	}
	row(b, "grant", "%s", l.Grant)
	switch {
	case l.Waiting:
		row(b, "result", "not made: %s", l.Cause)
	case l.Token != nil:
		row(b, "result", "%s: HTTP %d, %.0f ms", l.Result, l.Status, l.Duration)
	default:
		row(b, "result", "%s: %s", l.Result, l.Cause)
	}
	if t := l.Token; t != nil {
		row(b, "token", "%s, lives %v (rule %s)", t.Form, time.Duration(t.Lifetime*float64(time.Second)), t.Rule)
		for _, name := range claimsShown {
			if values := t.Claims[name]; len(values) > 0 {
				row(b, name, "%s", strings.Join(values, ", "))
			}
		}
		if t.Scope != "" {
			row(b, "granted", "%s (scope, as the answer says beside the token)", t.Scope)
		}
	}
	if l.Skew != nil {
		row(b, "clock", "%s", advice.ClockSays(SkewOf(*l.Skew)))
	}
	writeConnection(b, l.Proxy, l.Connection)
}

func (u *upstreamReport) write(b *strings.Builder) {
	fmt.Fprintf(b, "\nUpstream  GET %s\n", u.URL)
	switch {
	case u.Code != "" && u.Cause == "":
		row(b, "result", "not asked: %s", u.Code)
	case u.Code != "":
		row(b, "result", "%s: %s", u.Code, u.Cause)
	default:
		row(b, "result", "HTTP %d %s, %.0f ms", u.Status, http.StatusText(u.Status), u.Duration)
	}
	writeConnection(b, u.Proxy, u.Connection)
}

func writeConnection(b *strings.Builder, via string, c *ConnReport) {
	if via != "" {
		row(b, "proxy", "%s", via)
	}
	switch {
	case c == nil:
		return
	case c.TLS == noTLS:
		row(b, "connection", "%s, no TLS", c.HTTP)
	case c.TLS != "":
		row(b, "connection", "%s, %s", c.HTTP, c.TLS)
	}
	if cert := c.Certificate; cert != nil {
		refused := ""
		if !cert.Accepted {
			refused = ", NOT ACCEPTED"
		}
		row(b, "certificate", "of %s%s", cert.Subject, refused)
		row(b, "issuer", "%s", cert.Issuer)
		row(b, "ends", "%s", cert.Ends.Format(time.RFC3339))
	}
}

// SkewOf is a clock skew in seconds as a duration.
func SkewOf(seconds float64) time.Duration { return time.Duration(seconds) * time.Second }
