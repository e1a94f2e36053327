package main

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
	"runtime"
	"strings"
	"time"

	"github.com/bearerd/bearerd/tokens"
)

// healthcheck asks the bearerd that runs for its /readyz, and again until it is
// ready or wait is over. An error says why it is not ready. Of the settings it
// needs ADMIN_LISTEN only, and looks at no other.
func healthcheck(s sources, wait time.Duration, signals <-chan os.Signal, stdout io.Writer) error {
	all, _, err := s.gather()
	if err != nil {
		return err
	}
	l := newLoader(all, runtime.GOOS == "windows")
	dials, err := adminAddresses(l.env["BEARERD_ADMIN_LISTEN"])
	if err != nil {
		return fmt.Errorf("BEARERD_ADMIN_LISTEN: %w", err)
	}

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-signals:
			cancel()
		case <-ctx.Done():
		}
	}()
	deadline := time.Now().Add(wait)
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		err := askReady(ctx, dials)
		if err == nil {
			fmt.Fprintln(stdout, "ready")
			return nil
		}
		left := time.Until(deadline)
		if left <= 0 {
			return err
		}
		select {
		case <-time.After(min(pause, left)):
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
	if listen = strings.TrimSpace(listen); listen == "" {
		for _, s := range settingsOf(new(Config)) {
			if s.name == "BEARERD_ADMIN_LISTEN" {
				listen = s.def
			}
		}
	}
	if strings.EqualFold(listen, "off") {
		return nil, errors.New("off: there is no admin listener to ask; give it an address, e.g. localhost:9180")
	}
	if path, ok := strings.CutPrefix(listen, "unix:"); ok {
		return []address{{"unix", path}}, nil
	}
	e, err := parseEndpoint(listen)
	if err != nil {
		return nil, err
	}
	if e.port == 0 {
		return nil, errors.New("port 0 is another one at each start; write a port")
	}
	hosts := []string{e.host}
	switch e.host {
	case "localhost", "": // not by name: an image without /etc/hosts would ask the name server for it
		hosts = []string{"127.0.0.1", "::1"}
	case "0.0.0.0":
		hosts = []string{"127.0.0.1"}
	}
	var all []address
	for _, host := range hosts {
		all = append(all, address{"tcp", endpoint{host, e.port}.String()})
	}
	return all, nil
}

// askReady asks once. An error says why the answer is not "ready".
func askReady(ctx context.Context, dials []address) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	shown := dials[0].at
	client := http.Client{
		Transport: &http.Transport{ // of its own: no proxy, one connection
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				var first error
				for _, d := range dials {
					conn, err := new(net.Dialer).DialContext(ctx, d.network, d.at)
					if err == nil {
						shown = d.at
						return conn, nil
					}
					first = cmp.Or(first, err)
				}
				return nil, first
			},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/readyz", nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("no answer at %s (%s); does bearerd run, and with this BEARERD_ADMIN_LISTEN?", shown, tokens.DescribeError(err))
	}
	defer func() { _ = resp.Body.Close() }()
	var answer struct {
		OK     *bool
		Reason string
	}
	err = json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&answer)
	if err != nil || answer.OK == nil {
		return fmt.Errorf("another program answers at %s (HTTP %d to /readyz); check BEARERD_ADMIN_LISTEN", shown, resp.StatusCode)
	}
	if resp.StatusCode != http.StatusOK || !*answer.OK {
		return fmt.Errorf("not ready: %s", answer.Reason)
	}
	return nil
}
