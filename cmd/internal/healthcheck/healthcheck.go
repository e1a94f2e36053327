// Package healthcheck is bearerd healthcheck: it asks the bearerd that runs whether
// it is ready. It knows the admin listener's address and answer, and nothing else.
package healthcheck

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/config"
	"github.com/bearerd/bearerd/cmd/internal/display"
	"github.com/bearerd/bearerd/cmd/internal/endpoint"
	"github.com/bearerd/bearerd/cmd/internal/interrupt"
	"github.com/bearerd/bearerd/cmd/internal/neterror"
)

// askPatience is how long one answer may take.
const askPatience = 5 * time.Second

// Run asks the bearerd that runs for its /readyz, and again until it is
// ready or wait is over. An error says why it is not ready. Of the settings it
// needs ADMIN_LISTEN only, and looks at no other.
func Run(s config.Sources, wait time.Duration, signals <-chan os.Signal, stdout io.Writer) error {
	listen, secrets, err := s.AdminListen(signals)
	if err != nil {
		return err
	}
	addresses, err := adminAddresses(listen)
	if err != nil {
		return fmt.Errorf("BEARERD_ADMIN_LISTEN: %s", secrets.Message(err.Error(), listen))
	}
	ctx, stop := interrupt.Context(signals)
	defer stop()
	patience := askPatience
	if wait > 0 {
		patience = min(wait, askPatience)
		var cancel func()
		ctx, cancel = context.WithTimeout(ctx, wait)
		defer cancel()
	}
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		notReady := askReady(ctx, addresses, patience)
		if notReady == nil {
			fmt.Fprintln(stdout, "ready")
			return nil
		}
		if err == nil || ctx.Err() == nil {
			err = notReady // one that the end of the wait broke off says less than the one before
		}
		if wait == 0 {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return err
		}
	}
}

// address is where to connect.
type address struct{ network, at string }

// adminAddresses returns where an admin listener at listen can be reached from
// this machine, to be tried in turn.
func adminAddresses(listen string) ([]address, error) {
	if strings.EqualFold(listen, "off") {
		return nil, errors.New("off: there is no admin listener to ask; give it an address, e.g. localhost:9180")
	}
	e, err := endpoint.Parse(listen)
	if err != nil {
		return nil, err
	}
	if e.Path != "" {
		return []address{{"unix", e.Path}}, nil
	}
	if e.Port == 0 {
		return nil, errors.New("port 0 is another one at each start; write a port")
	}
	hosts := []string{e.Host}
	switch e.Host {
	case "localhost", "": // not by name: an image without /etc/hosts would ask the name server for it
		hosts = []string{"127.0.0.1", "::1"}
	case "0.0.0.0":
		hosts = []string{"127.0.0.1"}
	}
	var all []address
	for _, host := range hosts {
		all = append(all, address{"tcp", endpoint.Addr{Host: host, Port: e.Port}.String()})
	}
	return all, nil
}

// askReady asks once, the first of addresses that takes a connection. An error
// says why the answer is not "ready".
func askReady(ctx context.Context, addresses []address, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var (
		conn    net.Conn
		at      string
		refused error // by the first
	)
	for _, a := range addresses {
		var err error
		if conn, err = new(net.Dialer).DialContext(ctx, a.network, a.at); err == nil {
			at = a.at
			break
		}
		refused = cmp.Or(refused, err)
	}
	if conn == nil {
		return fmt.Errorf("no answer at %s (%s); does bearerd run, and with this BEARERD_ADMIN_LISTEN?", addresses[0].at, neterror.Of(refused))
	}
	defer func() { _ = conn.Close() }()
	transport := &http.Transport{ // of its own: no proxy, and this connection only
		DisableKeepAlives: true,
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return conn, nil },
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/readyz", nil)
	if err != nil {
		panic(err) // a constant
	}
	resp, err := transport.RoundTrip(req)
	if ctx.Err() != nil {
		return fmt.Errorf("%s takes connections, and does not answer within %v", at, patience)
	}
	if err != nil {
		return fmt.Errorf("another program is at %s, or bearerd has just ended (%s); check BEARERD_ADMIN_LISTEN", at, neterror.Of(err))
	}
	defer func() { _ = resp.Body.Close() }()
	var probe struct {
		OK     *bool
		Reason string
		Remedy string
	}
	err = json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&probe)
	switch {
	case err != nil || probe.OK == nil:
		return fmt.Errorf("another program answers at %s (HTTP %d to /readyz); check BEARERD_ADMIN_LISTEN", at, resp.StatusCode)
	case resp.StatusCode == http.StatusOK && *probe.OK:
		return nil
	case probe.Remedy != "":
		return fmt.Errorf("not ready: %s; %s", display.Printable(probe.Reason), display.Printable(probe.Remedy))
	}
	return fmt.Errorf("not ready: %s", display.Printable(probe.Reason))
}
