package service

import (
	"cmp"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/rs/zerolog"

	"github.com/bearerd/bearerd/cmd/internal/assembly"
	"github.com/bearerd/bearerd/cmd/internal/config"
	"github.com/bearerd/bearerd/cmd/internal/display"
	"github.com/bearerd/bearerd/cmd/internal/listen"
	"github.com/bearerd/bearerd/cmd/internal/logs"
	"github.com/bearerd/bearerd/cmd/internal/output"
)

// Serve runs the proxy that cfg describes until a signal ends it. It logs to
// out, and takes over the sockets that environ tells of. It returns nil after a
// clean stop.
func Serve(cfg config.Config, environ []string, version string, signals <-chan os.Signal, out *output.Lines) error {
	in, err := listen.Inherit(environ, cfg)
	if err != nil {
		return err
	}
	// Tools go on when the reader of the log has gone.
	signal.Ignore(syscall.SIGPIPE)
	log := logs.Open(out, cfg.LogLevel, cfg.LogFormat)
	requests := logs.Access{Logger: log.Access, Mode: cfg.AccessLog, Sparing: log.Sparing}
	s, err := New(cfg, Options{
		Version: version,
		Log:     log,
		States:  &logs.States{Logger: log.Events, Way: assembly.LoginWay(cfg)},
		Request: requests.Log,
		in:      in,
	})
	if err != nil {
		return err
	}
	for _, w := range slices.Concat(cfg.Warnings, in.Warnings) {
		log.Events.Warn().Msg(w)
	}
	for _, note := range cfg.Notes {
		log.Events.Info().Msg(note)
	}
	s.out.Start()
	logStart(s, in)
	return s.Run(signals)
}

// logStart writes the start-up line: what is served, from where and by whose
// login, and never a secret.
func logStart(s *Service, in listen.Inherited) {
	cfg := s.cfg
	e := s.log.Events.Info().
		Str("version", s.version).
		Str("preset", cfg.Preset).
		Str("upstream", cfg.Upstream.String()).
		Str("token_url", display.WithoutQuery(cfg.TokenURL)).
		Str("grant", cfg.GrantType).
		Strs("listen", listen.Addresses(s.dataListeners)).
		Strs("admin", listen.Addresses(s.adminListeners))
	if at, _ := reach(s.adminListeners); s.history != nil && at != "" {
		e.Str("page", at+"/")
	}
	if names := in.Names(); names != nil {
		e.Strs("inherited", names) // LISTEN or ADMIN_LISTEN does not count
	}
	secrets := zerolog.Dict()
	for _, from := range cfg.SecretSources() {
		secrets.Str(from.Name, from.From())
	}
	e.Dict("secrets", secrets)
	if via := s.out.For(cfg.Upstream); via != "" {
		e.Str("upstream_proxy", via)
	}
	if via := s.out.For(cfg.TokenURL); via != "" {
		e.Str("login_proxy", via)
	}
	if mode := s.out.Mode(); mode != config.ProxyEnv {
		e.Str("proxy", string(mode))
	}
	if note := cmp.Or(s.out.Note(cfg.TokenURL), s.out.Note(cfg.Upstream)); note != "" {
		s.log.Events.Warn().Msg("BEARERD_PROXY: " + note)
	}
	if cfg.AllowNonLoopback {
		s.log.Events.Warn().Strs("listen", listen.Addresses(s.dataListeners)).
			Msg("BEARERD_ALLOW_NON_LOOPBACK is set: whoever can reach the data listener speaks with the account")
	}
	if s.shared != nil {
		e.Stringer("shared", s.cfg.SharedAddress)
	}
	s.heldBack(e)
	e.Msg("serving")
}
