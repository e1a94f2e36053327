package service

import (
	"net/http"
	"sync/atomic"

	"github.com/bearerd/bearerd/cmd/internal/assembly"
	"github.com/bearerd/bearerd/cmd/internal/config"
	"github.com/bearerd/bearerd/tokens"
)

// What the log says of files that change while bearerd runs.
const (
	SayFileTaken = "changed file taken up"
	SayFileBad   = "changed file cannot be used"
)

// switchable is a transport that can be changed for another while it is used.
type switchable struct {
	current atomic.Pointer[http.Transport]
}

func (s *switchable) RoundTrip(r *http.Request) (*http.Response, error) {
	return s.current.Load().RoundTrip(r)
}

// use has requests go by t from now on. Those under way end as they began.
func (s *switchable) use(t *http.Transport) {
	if old := s.current.Swap(t); old != nil {
		old.CloseIdleConnections()
	}
}

// filesToWatch are the files of s that no login reads.
func (s *Service) filesToWatch() (all []*watchedFiles) {
	if files := s.cfg.TLSFiles(); files != (config.TLSFiles{}) {
		all = append(all, s.watchTLS(files))
	}
	if files := s.cfg.SharedTLSFiles(); s.cfg.SharedAddress != nil && files != (config.TLSFiles{}) {
		all = append(all, s.watchShared(files))
	}
	if source := s.cfg.HeaderSource(); source.File != "" {
		all = append(all, s.watchHeader(source))
	}
	if source := s.cfg.ProxySource(); source.File != "" {
		all = append(all, s.watchProxy(source))
	}
	return all
}

// watchTLS takes up other roots and another client certificate for new connections.
// Each change makes new transports, so that none of the old connections, and no TLS
// session that was agreed on under the old roots, is used for a new request. What is
// under way on the old ones goes on.
func (s *Service) watchTLS(files config.TLSFiles) *watchedFiles {
	inUse := s.cfg
	return watchTrust(files, s.cfg.TLSFingerprint, func(made config.Trust) {
		recertified := !sameCertificate(inUse, made)
		inUse.RootCAs, inUse.Certificates = made.Roots, made.Certificates
		s.logins.use(assembly.LoginTransport(inUse, s.out))
		s.proxy.SetTransport(s.upstreamTransport(inUse))
		if recertified {
			s.Manager.CertificateChanged()
		}
	}, func(wrong []config.Problem) {
		if wrong != nil {
			s.tellBad(wrong, "connections are made with what was there before")
			return
		}
		e := s.log.Events.Info().Strs("files", set(config.CAVar, files.Ca, config.CertVar, files.Cert, config.KeyVar, files.Key))
		if len(inUse.Certificates) > 0 {
			e.Time("certificate_expiry", inUse.Certificates[0].Leaf.NotAfter)
		}
		e.Msg(SayFileTaken)
	})
}

// watchTrust watches TLS files that were last read as used: use is called with
// what they hold when that changes and is right, and tell as by [watchedFiles].
func watchTrust(files config.TLSFiles, used config.Fingerprint, use func(config.Trust), tell func([]config.Problem)) *watchedFiles {
	var texts config.TLSTexts
	return &watchedFiles{
		used: used,
		look: func() config.Fingerprint {
			texts = files.Read()
			return texts.Fingerprint()
		},
		take: func() []config.Problem {
			made, problems := files.Trust(texts)
			if problems == nil {
				use(made)
			}
			return problems
		},
		tell: tell,
	}
}

// sameCertificate reports whether the client certificate of t is that of c.
func sameCertificate(c config.Config, t config.Trust) bool {
	if len(c.Certificates) == 0 || len(t.Certificates) == 0 {
		return len(c.Certificates) == len(t.Certificates)
	}
	return c.Certificates[0].Leaf.Equal(t.Certificates[0].Leaf)
}

// set are the names, each before its value, that have one.
func set(namesAndValues ...string) (names []string) {
	for i := 0; i < len(namesAndValues); i += 2 {
		if namesAndValues[i+1] != "" {
			names = append(names, namesAndValues[i])
		}
	}
	return names
}

// watchHeader takes up another header that callers must send.
func (s *Service) watchHeader(source tokens.Source) *watchedFiles {
	variable := config.SecretSource{Name: config.RequireHeader, Source: source}.Variable()
	var (
		text tokens.Secret
		err  error
	)
	look := func() config.Fingerprint {
		text, err = source.Read()
		return config.FingerprintOf(config.FileText{Text: text.Reveal(), Err: err})
	}
	return &watchedFiles{
		used: s.headerFingerprint,
		look: look,
		take: func() []config.Problem {
			rule, err := config.ParseHeaderRule(source, text, err)
			if err != nil {
				return []config.Problem{{Variable: variable, Text: err.Error()}}
			}
			s.header.Store(&rule)
			return nil
		},
		tell: func(wrong []config.Problem) {
			if wrong != nil {
				s.tellBad(wrong, "callers must send the header that was there before")
				return
			}
			s.log.Events.Info().Strs("files", []string{variable}).Msg(SayFileTaken)
		},
	}
}

// watchProxy takes up another way out for new connections.
func (s *Service) watchProxy(source tokens.Source) *watchedFiles {
	const variable = "BEARERD_PROXY_FILE"
	var (
		text tokens.Secret
		err  error
	)
	return &watchedFiles{
		used: s.cfg.ProxyFingerprint,
		look: func() config.Fingerprint {
			text, err = source.Read()
			return config.FingerprintOf(config.FileText{Text: text.Reveal(), Err: err})
		},
		take: func() []config.Problem {
			rule, err := config.ParseProxyRule(source, text, err)
			if err != nil {
				return []config.Problem{{Variable: variable, Text: err.Error()}}
			}
			s.out.Use(rule)
			s.proxy.CloseIdleConnections()
			return nil
		},
		tell: func(wrong []config.Problem) {
			if wrong != nil {
				s.tellBad(wrong, "login and upstream are reached as before")
				return
			}
			s.log.Events.Info().Strs("files", []string{variable}).Msg(SayFileTaken)
		},
	}
}

// tellBad warns of files that cannot be used.
func (s *Service) tellBad(wrong []config.Problem, impact string) {
	for _, p := range wrong {
		s.log.Events.Warn().
			Str("file", p.Variable).
			Str("cause", p.Text).
			Str("impact", impact).
			Str("remedy", "mend that file; bearerd looks at it each second").
			Msg(SayFileBad)
	}
}
