package service

import (
	"runtime"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/admin"
	"github.com/bearerd/bearerd/cmd/internal/advice"
	"github.com/bearerd/bearerd/cmd/internal/assembly"
	"github.com/bearerd/bearerd/cmd/internal/display"
	"github.com/bearerd/bearerd/cmd/internal/listen"
)

// statusPage describes s at this moment. Its counters are those of /metrics.
func (s *Service) statusPage() admin.Status {
	now, st := time.Now(), s.Manager.Status()
	reason := advice.NotReady(st, s.Stopping.Load())
	return admin.Status{
		Version:  s.version,
		Go:       runtime.Version(),
		Platform: display.Platform,
		Started:  admin.UTC(s.started),
		Uptime:   display.Seconds(now.Sub(s.started)),
		Ready:    reason == "",
		Reason:   reason,
		Health:   s.moment(now, st).Health(),
		Token:    admin.TokenOf(st, now),
		Login:    admin.LoginOf(st, assembly.LoginWay(s.cfg)),
		Preset:   s.cfg.Preset,
		Grant:    s.cfg.GrantType,
		Upstream: display.WithoutQuery(s.cfg.Upstream),
		TokenURL: display.WithoutQuery(s.cfg.TokenURL),
		Listen:   listen.Addresses(s.dataListeners),
		Admin:    listen.Addresses(s.adminListeners),
		InFlight: s.proxy.InFlight(),
		Counters: admin.Counters(s.registry),
	}
}
