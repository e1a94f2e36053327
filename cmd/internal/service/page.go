package service

import (
	"net"
	"runtime"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/admin"
	"github.com/bearerd/bearerd/cmd/internal/advice"
	"github.com/bearerd/bearerd/cmd/internal/assembly"
	"github.com/bearerd/bearerd/cmd/internal/config"
	"github.com/bearerd/bearerd/cmd/internal/display"
	"github.com/bearerd/bearerd/cmd/internal/listen"
	"github.com/bearerd/bearerd/cmd/internal/page"
	"github.com/bearerd/bearerd/tokens"
)

// page is the page for people.
func (s *Service) page() *page.Page {
	var set []page.Setting
	for _, v := range s.cfg.ShownSettings() {
		if v.Origin != config.FromDefault {
			set = append(set, page.Setting{Name: v.Name, Value: v.Value, From: string(v.Origin)})
		}
	}
	base, socket := reach(s.dataListeners)
	own, _ := reach(s.adminListeners)
	example := ""
	if s.cfg.Preset == "vyopta" || s.cfg.Preset == "wxp" {
		example = "/cpmm/api/v1/orgs/42/metrics/names" // as docs/tools.md has it
	}
	return page.New(page.Options{
		Full: s.cfg.Page == "full",
		Near: admin.FromHere,
		// Probes and metrics must find a connection, whoever looks.
		Streams: s.open.Admin.Most() / 2,
		Facts: func() page.Facts {
			now, st := time.Now(), s.Manager.Status()
			return page.Facts{
				Health:   s.moment(now, st).Health(),
				History:  s.history.Snapshot(),
				Token:    tokenOf(st),
				Base:     base,
				Socket:   socket,
				Example:  example,
				Admin:    own,
				Listen:   listen.Addresses(s.dataListeners),
				Settings: set,
				Version:  s.version,
				Go:       runtime.Version(),
				Platform: display.Platform,
				Started:  s.started,
			}
		},
	})
}

// reach is how a tool on this machine reaches listeners: by the URL of the first
// that is TCP, or by a socket.
func reach(listeners []net.Listener) (url, socket string) {
	for i, l := range listeners {
		switch at := l.Addr(); {
		case at.Network() != "unix":
			return "http://" + listen.Localhost(listeners[i:]), ""
		case socket == "":
			socket = at.String()
		}
	}
	return "", socket
}

func tokenOf(st tokens.Status) page.Token {
	t := page.Token{
		Generation: st.Generation, Good: st.Good, Lifetime: st.Lifetime, Rule: st.Rule, Requested: st.Requested, Expiry: st.Expiry,
	}
	if st.Good && st.Kind == "" {
		t.Renewal = st.NextLogin
	}
	return t
}

// youngFor is how long upstream counts as not knowing a token, after it did not.
const youngFor = 3 * time.Second

// moment is what is known now, when st is the login's state.
func (s *Service) moment(now time.Time, st tokens.Status) advice.Moment {
	m := advice.Moment{
		Now: now, Login: st, Way: assembly.LoginWay(s.cfg), Stopping: s.Stopping.Load(),
		Grace: s.cfg.ShutdownGrace, TokenWait: s.cfg.TokenWait,
	}
	if s.history == nil {
		return m
	}
	h := s.history.Brief()
	m.LoginTook, m.Asked = h.LoginTook, h.Last
	m.Upstream = advice.UpstreamTrouble(h.Failing)
	m.Young = now.Sub(h.Young) < youngFor
	return m
}
