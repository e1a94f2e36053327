// Package config makes a Config of all that sets bearerd up: variables, env file,
// presets, flags and a person's answers. It refuses what is wrong with the remedy,
// repeats no secret, and does not know what is done with the settings.
package config

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"reflect"
	"text/template"
	"time"

	"github.com/kelseyhightower/envconfig"

	"github.com/bearerd/bearerd/cmd/internal/shared"
	"github.com/bearerd/bearerd/tokens"
)

const envPrefix = "BEARERD"

// Config is what the settings say, checked. One field is one variable: its
// name is BEARERD_ and the field's name in words, and its tags hold
//
//	default  the value when the variable is not set
//	unset    what not setting it means, for the help, where there is no default
//	oneof    the values it may have, in lower case, or "presets"; any case is accepted
//	desc     its meaning; the help and docs/settings.md are made from it
//
// A field tagged ignored is not a setting but made from them.
type Config struct {
	Preset              string        `split_words:"true" oneof:"presets" desc:"the service to use: fills UPSTREAM, TOKEN_URL and others with the vendor's values; what is set explicitly wins"`
	Upstream            *url.URL      `split_words:"true" unset:"the preset's" desc:"base URL of the API; may have a path prefix"`
	TokenURL            *url.URL      `split_words:"true" unset:"the preset's" desc:"URL that logins are posted to"`
	GrantType           string        `split_words:"true" unset:"the preset's" oneof:"password client_credentials" desc:"a login with a user's name and password, or as a client of its own"`
	ClientID            string        `split_words:"true" unset:"the preset's" desc:"client_id of the login"`
	ClientSecret        tokens.Secret `split_words:"true" desc:"client_secret of the login; optional with password, with a client certificate, and with a client assertion"`
	ClientSecretFile    string        `split_words:"true" desc:"file that holds the client secret"`
	ClientSecretKeyring string        `split_words:"true" desc:"name of the client secret in the system's own store: Credential Manager, Keychain, Secret Service"`
	ClientAssertionFile string        `split_words:"true" desc:"file that holds a client assertion (a JWT, RFC 7523), in place of the client secret; read again before each login. A projected service account token is one"`
	ClientAuth          string        `split_words:"true" default:"body" oneof:"body basic basic-plain" desc:"where client_id and client_secret go: form fields of the body; an Authorization header, form-encoded first as RFC 6749 says; or that header with them as they are, for servers that do not decode"`
	Username            tokens.Secret `split_words:"true" desc:"name of the account, for password"`
	UsernameFile        string        `split_words:"true" desc:"file that holds the name"`
	Password            tokens.Secret `split_words:"true" desc:"password of the account"`
	PasswordFile        string        `split_words:"true" desc:"file that holds the password"`
	PasswordKeyring     string        `split_words:"true" desc:"name of the password in the system's own store, where bearerd setup puts it; read before each login"`
	Scope               string        `split_words:"true" desc:"scope of the login"`
	TokenParams         tokens.Secret `split_words:"true" desc:"further form fields of the login, as a=b&c=d (audience, resource)"`
	TokenParamsFile     string        `split_words:"true" desc:"file that holds these fields"`
	TokenHost           string        `split_words:"true" unset:"the preset's, or the host of TOKEN_URL" desc:"Host header of the login request. The preset's stays when TOKEN_URL is set, so that a relay or a simulator is asked as the vendor's own server would be; set both for another server"`

	Listen            []string      `split_words:"true" default:"localhost:8080" desc:"where tools connect: a list of host:port and unix:/path; a systemd socket unit (data, and admin for ADMIN_LISTEN) takes its place, and what is written here too must say the same. localhost binds 127.0.0.1 and ::1 where the machine has it; port 0 picks a free one"`
	AdminListen       string        `split_words:"true" default:"localhost:9180" desc:"where health and metrics are: host:port with any address, or unix:/path; off for none"`
	Page              string        `split_words:"true" default:"true" oneof:"true false full" desc:"the page for people at the admin listener's /: false for none, and full to show paths, user agents and settings to other machines that can reach that listener too"`
	SocketMode        fs.FileMode   `split_words:"true" default:"0600" desc:"permissions of a unix socket, as chmod has them; who may write may connect"`
	AllowNonLoopback  bool          `split_words:"true" default:"false" desc:"permits a LISTEN that other machines can reach; ALLOWED_HOSTS must be set with it"`
	AllowedHosts      []string      `split_words:"true" unset:"loopback names only" desc:"Host values accepted besides those that name this machine's loopback: a list of names and IP addresses, without port; host.docker.internal for the containers of Docker Desktop"`
	AllowedOrigins    []string      `split_words:"true" unset:"none" desc:"origins of web pages that may call, e.g. http://localhost:3000, with any scheme; CORS is answered for them, and for no other"`
	RequireHeader     tokens.Secret `split_words:"true" desc:"header that every caller must send, as Name: value; it is not forwarded"`
	RequireHeaderFile string        `split_words:"true" desc:"file that holds this header; a change is taken up within seconds"`
	AllowedMethods    []string      `split_words:"true" unset:"all" desc:"methods that are forwarded, e.g. GET,HEAD"`
	AllowedPaths      []string      `split_words:"true" unset:"all" desc:"prefixes of the paths that are forwarded, matched by whole segments, e.g. /cpmm/api"`
	ForwardCookies    bool          `split_words:"true" default:"false" desc:"forwards Cookie and Set-Cookie; cookies of localhost belong to every server on the machine"`
	Forwarded         bool          `split_words:"true" default:"false" desc:"tells upstream by which address it was called, for an API that makes links of that: Forwarded, X-Forwarded-Host, X-Forwarded-Proto and, where UPSTREAM has a path, X-Forwarded-Prefix: /"`
	AllowUpgrade      bool          `split_words:"true" default:"false" desc:"forwards WebSocket and other Upgrade requests"`

	RenewStatus []string `split_words:"true" default:"401" desc:"statuses of upstream that mean a token is good no more: 401, or 401,403 for one that answers 403 to a revoked token, as django-oauth-toolkit does"`

	AllowInsecure bool          `split_words:"true" default:"false" desc:"permits http:// in TOKEN_URL and UPSTREAM off this machine: password and token are then readable on the network"`
	AllowQuit     bool          `split_words:"true" default:"false" desc:"permits POST /quitquitquit on the admin listener, with which a Job's main container ends bearerd"`
	Proxy         tokens.Secret `split_words:"true" unset:"env; on Windows and macOS env, else system" desc:"how login and upstream are reached: env (HTTPS_PROXY, HTTP_PROXY, NO_PROXY), system (Windows: its PAC file too; macOS: the proxies set by hand), off, or the URL of a proxy for both. env, else system: the system's where neither HTTP_PROXY nor HTTPS_PROXY is set"`
	ProxyFile     string        `split_words:"true" desc:"file that holds this; a change is taken up within seconds"`

	CAFile         string `split_words:"true" unset:"the system's roots, if any, or Mozilla's" desc:"PEM file of further roots to trust, for login and upstream; a change is taken up within seconds, as with the next two"`
	ClientCertFile string `split_words:"true" desc:"PEM file of the client certificate, for login and upstream"`
	ClientKeyFile  string `split_words:"true" desc:"PEM file of its private key"`

	LoginTimeout          time.Duration `split_words:"true" default:"10s" desc:"longest time for one login"`
	TokenWait             time.Duration `split_words:"true" default:"15s" desc:"longest time that a request waits for a token"`
	DefaultTokenLifetime  time.Duration `split_words:"true" default:"60s" desc:"lifetime of a token when the server says nothing of it"`
	KeepWarm              bool          `split_words:"true" default:"false" desc:"logs in ahead of the token's end even when nobody used it"`
	ReplayBuffer          ByteSize      `split_words:"true" default:"1MiB" desc:"largest request body held in memory for a replay, 0 to 64MiB"`
	MaxInFlight           int           `split_words:"true" default:"4096" desc:"most requests at once, waiting ones too; above it 503 overloaded. Each may hold up to 1 MiB of upstream's header, and 128 KiB of the caller's"`
	DialTimeout           time.Duration `split_words:"true" default:"5s" desc:"longest time to connect, and for the TLS handshake"`
	ResponseHeaderTimeout time.Duration `split_words:"true" default:"0" desc:"longest time until upstream's first header; 0 for no limit"`
	UpstreamIdle          time.Duration `split_words:"true" default:"30s" desc:"longest time that a connection to upstream lies idle before it is closed; where upstream announces less by Keep-Alive, that holds"`
	DrainDelay            time.Duration `split_words:"true" default:"0s" desc:"time at SIGTERM to go on serving, not ready, before stopping"`
	ShutdownGrace         time.Duration `split_words:"true" default:"25s" desc:"time that requests then have to finish"`

	Shared               tokens.Secret `split_words:"true" desc:"engine with Redis' protocol (Redis 6.2 or later, Valkey) by which all bearerds of the account have one token and one budget of logins: redis://host:6379/0, rediss:// for TLS, redis-cluster://h1,h2, redis-sentinel://h1,h2,h3/MASTER, unix:///path. One with user and password goes into SHARED_FILE. What is stored is sealed by the account's password or client secret. Without the engine each logs in by itself"`
	SharedFile           string        `split_words:"true" desc:"file that holds this URL; user and password in it are read again at each connection"`
	SharedKeyFile        string        `split_words:"true" desc:"file of 32 random bytes to seal by, the same for the fleet; needed where it has no password or client secret in common"`
	SharedCAFile         string        `split_words:"true" unset:"the system's roots, or Mozilla's" desc:"PEM file of further roots to trust for the engine; a change is taken up within seconds, as with the next two"`
	SharedClientCertFile string        `split_words:"true" desc:"PEM file of the client certificate for the engine"`
	SharedClientKeyFile  string        `split_words:"true" desc:"PEM file of its private key"`

	StateDir string `split_words:"true" unset:"systemd's (StateDirectory=), if it gives one" desc:"folder that keeps refused logins, a stop and the time to wait over restarts, so that a crash loop with a wrong password does not lock the account: never a token, and the credentials as a slow salted hash only. There is a file only while there is a refusal to remember; a change of any part of the login is tried at once. Not used with SHARED, which keeps them for all"`

	LogLevel  string `split_words:"true" default:"info" oneof:"debug info warn error" desc:"least level that is logged; the start-up line and requests are info"`
	LogFormat string `split_words:"true" default:"auto" oneof:"auto console json" desc:"auto is console on a terminal and json elsewhere"`
	AccessLog string `split_words:"true" default:"all" oneof:"all errors off" desc:"requests that are logged; errors are status 400 and above, aborted, and client gone"`

	Origins          map[string]Origin `ignored:"true"` // of each variable that has a value
	RootCAs          *x509.CertPool    `ignored:"true"` // the system's (or built-in ones) and CA_FILE's; nil means without CA_FILE's
	Certificates     []tls.Certificate `ignored:"true"` // of CLIENT_CERT_FILE; none when it is not set
	ProxyRule        ProxyRule         `ignored:"true"` // what PROXY says
	ProxyFingerprint Fingerprint       `ignored:"true"` // of the file that it was read from
	SharedAddress    *shared.Address   `ignored:"true"` // what SHARED says; nil: nothing is shared
	SharedTrust      Trust             `ignored:"true"` // of SHARED_CA_FILE and the client certificate for the engine
	SharedTrusted    Fingerprint       `ignored:"true"` // of these files
	TLSFingerprint   Fingerprint       `ignored:"true"` // of the files that they were made of
	Warnings         []string          `ignored:"true"` // one line each, for the log
	Notes            []string          `ignored:"true"` // … at info
}

// Format prints no field: Certificates holds a private key that %v would show.
func (Config) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[config]") }

// Setting is a field of a Config with what its tags say.
type Setting struct {
	Name  string // of the variable, with BEARERD_
	field reflect.Value
	Def   string
	Unset string
	oneof []string
	Desc  string
}

// SettingsOf returns the settings of c in the order of its fields, and makes
// its URLs non-nil.
//
// envconfig names and finds them. Its Process is not used to fill them: that
// reads the process's own environment only, stops at the first problem, prints
// the value (a secret, maybe) in the error, and lets an empty variable
// override a default. A template is the way it has to visit a struct's fields.
func SettingsOf(c *Config) []Setting {
	var all []Setting
	visit := func(name string, field reflect.Value, tag reflect.StructTag) string {
		all = append(all, Setting{
			Name:  name,
			field: field,
			Def:   tag.Get("default"),
			Unset: tag.Get("unset"),
			oneof: choices(tag.Get("oneof")),
			Desc:  tag.Get("desc"),
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
