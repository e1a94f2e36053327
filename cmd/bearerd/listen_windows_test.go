package main

import (
	"slices"
	"testing"
)

func TestNoUnixSocketsOnWindows(t *testing.T) {
	for setting, want := range map[string]string{
		`LISTEN=unix:C:\bearerd.sock`:         "LISTEN: " + errNoSockets.Error(),
		`ADMIN_LISTEN=unix:/run/bearerd.sock`: "ADMIN_LISTEN: " + errNoSockets.Error(),
		"SOCKET_MODE=0600":                    "SOCKET_MODE: this system has no unix sockets with a mode; unset it",
	} {
		if got := problems(t, with("BEARERD_"+setting)); !slices.Equal(got, []string{"BEARERD_" + want}) {
			t.Errorf("%s: got %q", setting, got)
		}
	}
}
