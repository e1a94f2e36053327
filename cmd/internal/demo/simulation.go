package demo

import (
	"io"
	"net"
	"net/http"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/config"
	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

// simulation is what the bearerd of a demo talks to, on loopback.
type simulation struct {
	*querysim.Simulator
	login, query *loopback
}

// newSimulation serves a simulator whose tokens live as long as lifetime says.
// It is to be closed.
func newSimulation(lifetime time.Duration) (simulation, error) {
	sim, err := querysim.New(querysim.Options{Lifetime: lifetime})
	if err != nil {
		return simulation{}, err
	}
	login, err := serveLoopback(sim.LoginHandler())
	if err != nil {
		return simulation{}, err
	}
	query, err := serveLoopback(sim.QueryHandler())
	if err != nil {
		login.close()
		return simulation{}, err
	}
	return simulation{sim, login, query}, nil
}

func (s simulation) close() {
	s.query.close()
	s.login.close()
}

// config points bearerd at s. password is the setting that holds it.
func (s simulation) config(password string) (config.Config, error) {
	vendor := querysim.Vendors()[0]
	return config.Sources{Environ: []string{
		"BEARERD_PRESET=" + vendor.Name,
		"BEARERD_TOKEN_URL=" + s.login.URL + vendor.LoginPath,
		"BEARERD_UPSTREAM=" + s.query.URL,
		"BEARERD_USERNAME=" + querysim.Username,
		password,
		"BEARERD_LISTEN=localhost:0",
		"BEARERD_ADMIN_LISTEN=localhost:0",
	}}.Load(nil, io.Discard)
}

// loopback is an HTTP server on a free port of 127.0.0.1.
type loopback struct {
	URL    string
	server *http.Server
	done   chan struct{}
}

func serveLoopback(h http.Handler) (*loopback, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	lb := &loopback{
		URL:    "http://" + l.Addr().String(),
		server: &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second},
		done:   make(chan struct{}),
	}
	go func() {
		defer close(lb.done)
		_ = lb.server.Serve(l) // ends with close
	}()
	return lb, nil
}

func (lb *loopback) close() {
	_ = lb.server.Close()
	<-lb.done
}
