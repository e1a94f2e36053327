package main

import (
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

// upstream is what all are put before: HTTP/1.1 over TLS, as each of them
// speaks it. It has a login server too, for bearerd.
type upstream struct {
	server, login *httptest.Server
	sim           *querysim.Simulator
	addr, ca      string
	bare          atomic.Int64 // requests without a token
	held          atomic.Int64 // requests that wait for their answer
}

const (
	smallSize = 1100
	largeSize = 1 << 20
	giB       = 1 << 30
)

func newUpstream(dir string) (*upstream, error) {
	up := &upstream{ca: filepath.Join(dir, "ca.pem")}
	var err error
	if up.sim, err = querysim.New(querysim.Options{}); err != nil {
		return nil, err
	}
	up.login = httptest.NewServer(up.sim.LoginHandler())
	up.server = httptest.NewUnstartedServer(http.HandlerFunc(up.answer))
	up.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	up.server.StartTLS()
	up.addr = up.server.Listener.Addr().String()
	return up, os.WriteFile(up.ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: up.server.Certificate().Raw}), 0o644)
}

// prepare has the login server be as w wants it.
func (up *upstream) prepare(w work) error {
	lifetime := w.lifetime
	if lifetime == 0 {
		lifetime = 300 * time.Second
	}
	if err := up.sim.SetLifetime(lifetime); err != nil {
		return err
	}
	return up.sim.SetFaults(w.faults)
}

func (up *upstream) close() {
	up.server.CloseClientConnections()
	up.server.Close()
	up.login.Close()
}

func (up *upstream) bearerdEnv() []string {
	return []string{
		"BEARERD_PRESET=vyopta", "BEARERD_TOKEN_URL=" + up.login.URL + querysim.Vendors()[0].LoginPath,
		"BEARERD_USERNAME=" + querysim.Username, "BEARERD_PASSWORD=" + querysim.Password,
		"BEARERD_UPSTREAM=https://" + up.addr, "BEARERD_CA_FILE=" + up.ca,
		"BEARERD_ADMIN_LISTEN=off", "BEARERD_LOG_LEVEL=info", "BEARERD_LOG_FORMAT=json",
		"BEARERD_MAX_IN_FLIGHT=20000", "BEARERD_PROXY=off",
	}
}

var block = make([]byte, 64<<10)

// answer says as many bytes as the path names, or events.
func (up *upstream) answer(w http.ResponseWriter, r *http.Request) {
	if !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer ") {
		up.bare.Add(1)
		http.Error(w, "no token", http.StatusUnauthorized)
		return
	}
	if n, err := io.Copy(io.Discard, r.Body); err != nil || r.ContentLength > 0 && n != r.ContentLength {
		return
	}
	switch what, arg, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/"); what {
	case "bytes":
		n, _ := strconv.Atoi(arg)
		w.Header().Set("Content-Length", arg)
		w.Header().Set("Content-Type", "application/json")
		for n > 0 {
			sent, err := w.Write(block[:min(n, len(block))])
			if err != nil {
				return
			}
			n -= sent
		}
	case "events":
		n, _ := strconv.Atoi(arg)
		w.Header().Set("Content-Type", "text/event-stream")
		event := make([]byte, eventSize)
		tick := time.NewTicker(eventEvery)
		defer tick.Stop()
		for range n {
			<-tick.C
			binary.BigEndian.PutUint64(event, uint64(time.Now().UnixNano()))
			if _, err := w.Write(event); err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush()
		}
	case "hold":
		up.held.Add(1)
		defer up.held.Add(-1)
		<-r.Context().Done()
	default:
		fmt.Fprint(w, "ok")
	}
}

const (
	eventSize  = 100 // bytes; the first 8 are when it was sent
	eventEvery = 10 * time.Millisecond
)
