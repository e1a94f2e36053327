package config

import (
	"slices"
	"testing"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/endpoint"
)

func TestNoUnixSocketsOnWindows(t *testing.T) {
	for setting, want := range map[string]string{
		`LISTEN=unix:C:\bearerd.sock`:         "LISTEN: " + endpoint.ErrNoSockets.Error(),
		`ADMIN_LISTEN=unix:/run/bearerd.sock`: "ADMIN_LISTEN: " + endpoint.ErrNoSockets.Error(),
		"SOCKET_MODE=0600":                    "SOCKET_MODE: this system has no unix sockets with a mode; unset it",
	} {
		if got := problems(t, bearerdtest.With("BEARERD_"+setting)); !slices.Equal(got, []string{"BEARERD_" + want}) {
			t.Errorf("%s: got %q", setting, got)
		}
	}
}
