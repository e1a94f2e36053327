package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"
	"unicode"

	"github.com/kelseyhightower/envconfig"

	"github.com/bearerd/bearerd/tokens"
)

const envPrefix = "BEARERD"

// Config is what the settings say, checked. One field is one variable: its
// name is BEARERD_ and the field's name in words, and its tags hold
//
//	default  the value when the variable is not set
//	unset    what not setting it means, for the help, where there is no default
//	oneof    the values it may have, in lower case; any case is accepted
//	desc     its meaning; the help and the README are made from it
//
// A field tagged ignored is not a setting but made from them.
type Config struct {
	Preset           string        `split_words:"true" oneof:"vyopta wxp graphnet" desc:"the service to use: fills UPSTREAM, TOKEN_URL and others with the vendor's values; what is set explicitly wins"`
	Upstream         *url.URL      `split_words:"true" unset:"the preset's" desc:"base URL of the API; may have a path prefix"`
	TokenURL         *url.URL      `split_words:"true" unset:"the preset's" desc:"URL that logins are posted to"`
	GrantType        string        `split_words:"true" unset:"the preset's" oneof:"password client_credentials" desc:"a login with a user's name and password, or as a client of its own"`
	ClientID         string        `split_words:"true" unset:"the preset's" desc:"client_id of the login"`
	ClientSecret     tokens.Secret `split_words:"true" desc:"client_secret of the login; optional with password"`
	ClientSecretFile string        `split_words:"true" desc:"file that holds the client secret"`
	ClientAuth       string        `split_words:"true" default:"body" oneof:"body basic" desc:"where client_id and client_secret go: form fields of the body, or an Authorization header"`
	Username         tokens.Secret `split_words:"true" desc:"name of the account, for password"`
	UsernameFile     string        `split_words:"true" desc:"file that holds the name"`
	Password         tokens.Secret `split_words:"true" desc:"password of the account"`
	PasswordFile     string        `split_words:"true" desc:"file that holds the password"`
	Scope            string        `split_words:"true" desc:"scope of the login"`
	TokenParams      tokens.Secret `split_words:"true" desc:"further form fields of the login, as a=b&c=d (audience, resource)"`
	TokenParamsFile  string        `split_words:"true" desc:"file that holds these fields"`
	TokenHost        string        `split_words:"true" unset:"the preset's, or the host of TOKEN_URL" desc:"Host header of the login request. The preset's stays when TOKEN_URL is set, so that a relay or a simulator is asked as the vendor's own server would be; set both for another server"`

	Listen            []string      `split_words:"true" default:"localhost:8080" desc:"where tools connect: a list of host:port and unix:/path; a systemd socket unit (data, and admin for ADMIN_LISTEN) takes its place, and what is written here too must say the same. localhost binds 127.0.0.1 and ::1 where the machine has it; port 0 picks a free one"`
	AdminListen       string        `split_words:"true" default:"localhost:9180" desc:"where health and metrics are: host:port with any address, or unix:/path; off for none"`
	SocketMode        fs.FileMode   `split_words:"true" default:"0600" desc:"permissions of a unix socket, as chmod has them; who may write may connect"`
	AllowNonLoopback  bool          `split_words:"true" default:"false" desc:"permits a LISTEN that other machines can reach; ALLOWED_HOSTS must be set with it"`
	AllowedHosts      []string      `split_words:"true" unset:"loopback names only" desc:"Host values accepted besides those that name this machine's loopback: a list of names and IP addresses, without port"`
	AllowedOrigins    []string      `split_words:"true" unset:"none" desc:"origins of web pages that may call, e.g. http://localhost:3000, with any scheme; CORS is answered for them, and for no other"`
	RequireHeader     tokens.Secret `split_words:"true" desc:"header that every caller must send, as Name: value; it is not forwarded"`
	RequireHeaderFile string        `split_words:"true" desc:"file that holds this header; SIGHUP reads it again"`
	AllowedMethods    []string      `split_words:"true" unset:"all" desc:"methods that are forwarded, e.g. GET,HEAD"`
	AllowedPaths      []string      `split_words:"true" unset:"all" desc:"prefixes of the paths that are forwarded, matched by whole segments, e.g. /cpmm/api"`
	ForwardCookies    bool          `split_words:"true" default:"false" desc:"forwards Cookie and Set-Cookie; cookies of localhost belong to every server on the machine"`
	AllowUpgrade      bool          `split_words:"true" default:"false" desc:"forwards WebSocket and other Upgrade requests"`

	AllowInsecure  bool   `split_words:"true" default:"false" desc:"permits http:// in TOKEN_URL and UPSTREAM off this machine: password and token are then readable on the network"`
	AllowQuit      bool   `split_words:"true" default:"false" desc:"permits POST /quitquitquit on the admin listener, with which a Job's main container ends bearerd"`
	CAFile         string `split_words:"true" unset:"the system's roots, if any, or Mozilla's" desc:"PEM file of further roots to trust, for login and upstream"`
	ClientCertFile string `split_words:"true" desc:"PEM file of the client certificate, for login and upstream"`
	ClientKeyFile  string `split_words:"true" desc:"PEM file of its private key"`

	LoginTimeout          time.Duration `split_words:"true" default:"10s" desc:"longest time for one login"`
	TokenWait             time.Duration `split_words:"true" default:"15s" desc:"longest time that a request waits for a token"`
	DefaultTokenLifetime  time.Duration `split_words:"true" default:"60s" desc:"lifetime of a token when the server says nothing of it"`
	KeepWarm              bool          `split_words:"true" default:"false" desc:"logs in ahead of the token's end even when nobody used it"`
	ReplayBuffer          byteSize      `split_words:"true" default:"1MiB" desc:"largest request body held in memory for a replay, 0 to 64MiB"`
	MaxInFlight           int           `split_words:"true" default:"4096" desc:"most requests at once, waiting ones too; above it 503 overloaded"`
	DialTimeout           time.Duration `split_words:"true" default:"5s" desc:"longest time to connect, and for the TLS handshake"`
	ResponseHeaderTimeout time.Duration `split_words:"true" default:"0" desc:"longest time until upstream's first header; 0 for no limit"`
	DrainDelay            time.Duration `split_words:"true" default:"0s" desc:"time at SIGTERM to go on serving, not ready, before stopping"`
	ShutdownGrace         time.Duration `split_words:"true" default:"25s" desc:"time that requests then have to finish"`

	LogLevel  string `split_words:"true" default:"info" oneof:"debug info warn error" desc:"least level that is logged; the start-up line and requests are info"`
	LogFormat string `split_words:"true" default:"auto" oneof:"auto console json" desc:"auto is console on a terminal and json elsewhere"`
	AccessLog string `split_words:"true" default:"all" oneof:"all errors off" desc:"requests that are logged; errors are status 400 and above, aborted, and client gone"`

	Origins      map[string]origin `ignored:"true"` // of each variable that has a value
	RootCAs      *x509.CertPool    `ignored:"true"` // the system's (or built-in ones) and CA_FILE's; nil means without CA_FILE's
	Certificates []tls.Certificate `ignored:"true"` // of CLIENT_CERT_FILE; none when it is not set
	Warnings     []string          `ignored:"true"` // one line each, for the log
}

// Format prints no field: Certificates holds a private key that %v would show.
func (Config) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[config]") }

// serviceLinks are the variables that Kubernetes sets in every pod of a
// namespace with a service named bearerd or bearerd-something.
var serviceLinks = []*regexp.Regexp{
	regexp.MustCompile(`^BEARERD_(.+_)?SERVICE_(HOST|PORT.*)$`),
	regexp.MustCompile(`^BEARERD_(.+_)?PORT(_\d+_(TCP|UDP|SCTP).*)?$`),
}

// setting is a field of a Config with what its tags say.
type setting struct {
	name  string // of the variable, with BEARERD_
	field reflect.Value
	def   string
	unset string
	oneof []string
	desc  string
}

// settingsOf returns the settings of c in the order of its fields, and makes
// its URLs non-nil.
//
// envconfig names and finds them. Its Process is not used to fill them: that
// reads the process's own environment only, stops at the first problem, prints
// the value (a secret, maybe) in the error, and lets an empty variable
// override a default. A template is the way it has to visit a struct's fields.
func settingsOf(c *Config) []setting {
	var all []setting
	visit := func(name string, field reflect.Value, tag reflect.StructTag) string {
		all = append(all, setting{
			name:  name,
			field: field,
			def:   tag.Get("default"),
			unset: tag.Get("unset"),
			oneof: strings.Fields(tag.Get("oneof")),
			desc:  tag.Get("desc"),
		})
		return ""
	}
	each := template.Must(template.New("").Funcs(template.FuncMap{"visit": visit}).
		Parse(`{{range .}}{{visit .Key .Field .Tags}}{{end}}`))
	if err := envconfig.Usaget(envPrefix, c, io.Discard, each); err != nil {
		panic(err) // only a wrong template or type can cause it
	}
	return all
}

// configError is every problem of a configuration. It never holds the value
// of a secret.
type configError struct {
	problems []problem
	login    string // host that a login would go to, as far as it is known
}

type problem struct {
	variable string // with BEARERD_; empty when it is none's
	text     string // what is wrong; the remedy
	askable  bool   // it is missing, and a person may be asked for it
}

// Error returns one line for each problem.
func (e *configError) Error() string {
	var lines []string
	for _, p := range e.problems {
		if p.variable == "" {
			lines = append(lines, p.text)
			continue
		}
		lines = append(lines, p.variable+": "+p.text)
	}
	return strings.Join(lines, "\n")
}

const nothingSet = `nothing is set: bearerd is configured by environment variables, for example
  BEARERD_PRESET=vyopta BEARERD_USERNAME=me@example.com BEARERD_PASSWORD_FILE=/path/to/file bearerd
or by a file of such lines: bearerd -env-file FILE. At a terminal bearerd -preset vyopta asks for the account.
To see it work without an account: bearerd demo. For every setting: bearerd help.`

// loader reads one Config and gathers what is wrong with it.
type loader struct {
	env      map[string]string // the BEARERD_ variables that are not blank
	origins  map[string]origin // of those in env
	problems []problem
	warnings []string
}

func (l *loader) refuse(variable, format string, args ...any) {
	l.problems = append(l.problems, problem{variable: variable, text: escaped(fmt.Sprintf(format, args...))})
}

func (l *loader) warn(variable, format string, args ...any) {
	l.warnings = append(l.warnings, variable+": "+escaped(fmt.Sprintf(format, args...)))
}

// escaped is a message with its control characters escaped: a remedy may repeat
// what was written, and a terminal would obey it.
func escaped(message string) string {
	var b strings.Builder
	for _, r := range message {
		if unicode.IsControl(r) {
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// refused tells whether a variable has a problem already, so that a second
// line would only be a consequence of the first.
func (l *loader) refused(variable string) bool {
	return slices.ContainsFunc(l.problems, func(p problem) bool { return p.variable == variable })
}

// origin says where a setting's value comes from.
type origin string

const (
	fromDefault     origin = "default"
	fromPreset      origin = "preset"
	fromEnvironment origin = "environment"
	fromFile        origin = "file"  // of -env-file
	fromFlag        origin = "flag"  // -preset
	fromAsking      origin = "asked" // of a person at a terminal
)

// given is what one origin says: lines of NAME=value, as [os.Environ] has them.
type given struct {
	from  origin
	lines []string
}

// loadConfig reads the settings from what is given. A blank value is the same
// as none; of a name that comes twice the first value that is not blank counts.
// It opens no socket, resolves no name and leaves the process's environment
// alone. An error is a *configError with all problems.
func loadConfig(all ...given) (Config, error) {
	c := Config{Origins: make(map[string]origin)}
	l := newLoader(all, foldCase)
	if len(l.env) == 0 {
		return Config{}, &configError{problems: []problem{{text: nothingSet}}}
	}
	settings := settingsOf(&c)
	l.checkNames(settings)

	preset := presets[strings.ToLower(strings.TrimSpace(l.env["BEARERD_PRESET"]))]
	for _, s := range settings {
		value, from := l.env[s.name], l.origins[s.name]
		if _, secret := s.field.Interface().(tokens.Secret); !secret {
			// An env file written on Windows leaves a CR on every value.
			value = strings.TrimSpace(value)
		}
		if value == "" {
			value, from = preset.values[s.name], fromPreset
		}
		if value == "" {
			value, from = s.def, fromDefault
		}
		if value == "" {
			continue
		}
		c.Origins[s.name] = from
		if err := s.set(value); err != nil {
			l.refuse(s.name, "%v", err)
		}
	}
	l.validate(&c, preset)
	c.Warnings = l.warnings

	if len(l.problems) > 0 {
		// In the order of the help; a name that is not in it comes first, as
		// it may be the reason why another is missing.
		order := func(p problem) int {
			return slices.IndexFunc(settings, func(s setting) bool { return s.name == p.variable })
		}
		slices.SortStableFunc(l.problems, func(a, b problem) int { return order(a) - order(b) })
		return Config{}, &configError{l.problems, c.TokenURL.Host}
	}
	return c, nil
}

// newLoader returns a loader of what is given. Where foldCase is set, names in
// any case are meant for bearerd, as the system has it so.
func newLoader(all []given, foldCase bool) *loader {
	l := &loader{env: make(map[string]string), origins: make(map[string]origin)}
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
		if isProxyVariable(name) {
			l.checkProxy(name, value)
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

// checkNames refuses what is no setting, and a secret given twice.
func (l *loader) checkNames(all []setting) {
	known := make([]string, len(all))
	for i, s := range all {
		known[i] = s.name
	}
	for name := range l.env {
		file := name + "_FILE"
		switch {
		case !slices.Contains(known, name):
			if near := nearest(name, known); near != "" {
				l.refuse(quoteName(name), "unknown; did you mean %s?", near)
			} else {
				l.refuse(quoteName(name), "unknown; bearerd help lists every setting")
			}
		case l.env[file] != "" && slices.Contains(known, file):
			l.refuse(name, "set, and %s too; unset one", file)
		}
	}
	// A map has no order; this one is kept by the stable sort of loadConfig.
	slices.SortFunc(l.problems, func(a, b problem) int { return strings.Compare(a.variable, b.variable) })
}

// nearest returns the name that was probably meant, or "". Up to a third of
// the letters may be wrong, and never more than three: beyond that a guess
// misleads.
func nearest(name string, known []string) string {
	word := strings.ToUpper(strings.TrimPrefix(name, envPrefix+"_"))
	best, least := "", min(max(1, len(word)/3), 3)+1
	for _, k := range known {
		if d := distance(word, strings.TrimPrefix(k, envPrefix+"_")); d < least {
			best, least = k, d
		}
	}
	return best
}

// distance is the number of insertions, deletions, substitutions and swaps of
// neighbours that make a from b (optimal string alignment).
func distance(a, b string) int {
	before, last := []int(nil), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			change := 1
			if a[i] == b[j] {
				change = 0
			}
			row[j+1] = min(last[j+1]+1, row[j]+1, last[j]+change)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}

// quoteName quotes the name of a variable that a terminal could not show.
func quoteName(name string) string {
	if q := strconv.QuoteToASCII(name); q != `"`+name+`"` {
		return q
	}
	return name
}
