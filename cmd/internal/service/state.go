package service

import (
	"crypto/tls"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/bearerd/bearerd/cmd/internal/advice"
	"github.com/bearerd/bearerd/cmd/internal/assembly"
	"github.com/bearerd/bearerd/cmd/internal/config"
	"github.com/bearerd/bearerd/cmd/internal/logs"
	"github.com/bearerd/bearerd/cmd/internal/shared"
	"github.com/bearerd/bearerd/metrics"
	"github.com/bearerd/bearerd/tokens"
)

// openStore opens what keeps or shares logins: the engine of SHARED, else the folder
// of STATE_DIR; nil: neither.
func (s *Service) openStore(m *metrics.Metrics) tokens.Store {
	c := s.cfg
	if c.SharedAddress == nil {
		if s.folder = s.stateDir(); s.folder == nil {
			return nil
		}
		return s.folder
	}
	s.sharedTrust.Store(&c.SharedTrust)
	o := shared.Options{
		Address: *c.SharedAddress, LoginTimeout: c.LoginTimeout, DialTimeout: c.DialTimeout,
		TLS: func() *tls.Config {
			trust := s.sharedTrust.Load()
			return &tls.Config{RootCAs: trust.Roots, Certificates: trust.Certificates}
		},
		Observe: m.SharedOperation,
		Tell:    s.tellShared,
		Warn: func(error) {
			s.log.Events.Warn().Str("cause", "an entry in the engine is not what a bearerd of this account has written").
				Str("impact", "it is taken for none and written over, which costs a login").
				Str("remedy", "who else writes to keys that begin with bearerd:, or has another BEARERD_SHARED_KEY_FILE?").
				Msg(logs.SaySharedEntry)
		},
	}
	if source := c.SharedSource(); source.File != "" {
		o.Credentials = func() (shared.Address, error) {
			text, err := source.Read()
			if err != nil {
				return shared.Address{}, err
			}
			return shared.ParseAddress(strings.TrimSpace(text.Reveal()))
		}
	}
	if c.SharedKeyFile != "" {
		o.Key = c.SharedKey
	}
	s.shared = shared.New(o)
	return s.shared
}

// tellShared tells of the engine: once that it is lost, and once that it is there.
func (s *Service) tellShared(up bool, cause error) {
	if up {
		s.log.Events.Info().Msg(logs.SaySharedFound)
		return
	}
	s.log.Events.Warn().Str("cause", shared.Words(cause)).
		Str("impact", "none on requests; this bearerd logs in by itself, so that the account has more logins").
		Str("remedy", "check the engine of BEARERD_SHARED and the network; bearerd joins again by itself").
		Msg(logs.SaySharedLost)
}

// metricsOptions are those of a service with these settings.
func (s *Service) metricsOptions(version string) metrics.Options {
	o := MetricsOptions(version, s.state)
	if s.cfg.SharedAddress != nil {
		o.SharedOps, o.SharedResults = shared.Ops, shared.Results
	}
	return o
}

// watchShared takes up other roots and another certificate for connections to the
// engine that are made from then on.
func (s *Service) watchShared(files config.TLSFiles) *watchedFiles {
	return watchTrust(files, s.cfg.SharedTrusted, func(made config.Trust) { s.sharedTrust.Store(&made) }, func(wrong []config.Problem) {
		if wrong != nil {
			s.tellBad(config.ForShared(wrong), "connections to the engine are made with what was there before")
			return
		}
		s.log.Events.Info().Strs("files", set("BEARERD_SHARED_CA_FILE", files.Ca, "BEARERD_SHARED_CLIENT_CERT_FILE", files.Cert, "BEARERD_SHARED_CLIENT_KEY_FILE", files.Key)).Msg(SayFileTaken)
	})
}

// stateDir is the folder that keeps refused logins over restarts; nil: none.
func (s *Service) stateDir() *tokens.Folder {
	if s.cfg.StateDir == "" {
		return nil
	}
	return &tokens.Folder{Path: s.cfg.StateDir, Tell: func(err error) {
		s.log.Events.Warn().Err(err).
			Str("impact", "refused logins are forgotten when bearerd ends").
			Str("remedy", "check BEARERD_STATE_DIR: a folder that this process may write to").
			Msg(logs.SayStateDir)
	}}
}

// heldBack adds to the start-up line that logins are held back since before the
// start, and what lifts that.
func (s *Service) heldBack(e *zerolog.Event) {
	if s.folder == nil {
		return
	}
	login := assembly.Login(s.cfg, nil)
	a, ok := login.Account()
	if !ok {
		return
	}
	st, ok := s.folder.Remembers(a)
	if !ok {
		return
	}
	held := zerolog.Dict().
		Time("since", st.Failure.FailingSince).
		Int("rejections", st.Rejections).
		Stringer("cause", st.Failure.Cause)
	if !st.Failure.Stopped {
		held.Time("next_attempt", time.Now().Add(st.Wait))
	}
	held.Str("remedy", advice.LoginFailure{Failure: st.Failure, Way: assembly.LoginWay(s.cfg)}.Advice())
	e.Dict("logins_held_back", held)
}
