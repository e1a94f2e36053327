//go:build unix

package config

import (
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/endpoint"
)

func TestSocketSettings(t *testing.T) {
	long := "/" + strings.Repeat("x", endpoint.MaxSocketPath-1)
	mustLoad(t, bearerdtest.With("BEARERD_LISTEN=unix:"+long))
	for setting, want := range map[string]string{
		"LISTEN=unix:":                     "LISTEN: unix: names no file; write e.g. unix:/run/bearerd/data.sock",
		"LISTEN=unix:///":                  "LISTEN: unix: names no file; write e.g. unix:/run/bearerd/data.sock",
		"LISTEN=unix:///run/x":             `LISTEN: "unix:///run/x" is written like a URL; write unix:/run/x`,
		"ADMIN_LISTEN=unix:x/y":            `ADMIN_LISTEN: "x/y" is not an absolute path; write it from the / on, e.g. unix:/run/bearerd/data.sock`,
		"LISTEN=unix:/run/x/":              `LISTEN: "/run/x/" is a directory; write the path of a file in it`,
		"LISTEN=unix:@x":                   "LISTEN: an abstract socket has no mode, so every user of this machine could connect; write the path of a file, e.g. unix:/run/bearerd/data.sock",
		"LISTEN=unix:" + long + "y":        fmt.Sprintf(`LISTEN: "%s..." has %d bytes, and for a socket this system takes %d at most; write a shorter path`, long[:100], len(long)+1, endpoint.MaxSocketPath),
		"LISTEN=unix:/run/x,unix:/run/./x": `LISTEN: "unix:/run/./x" is taken by another listener of bearerd; choose another path`,
		"SOCKET_MODE=rw":                   `SOCKET_MODE: "rw" is not a mode; write e.g. 0600 for this user only, or 0660 for the group too`,
		"SOCKET_MODE=1777":                 `SOCKET_MODE: "1777" is not a mode; write e.g. 0600 for this user only, or 0660 for the group too`,
		"SOCKET_MODE=0698":                 `SOCKET_MODE: "0698" is not a mode; write e.g. 0600 for this user only, or 0660 for the group too`,
	} {
		if got := problems(t, bearerdtest.With("BEARERD_"+setting)); len(got) != 1 || got[0] != "BEARERD_"+want {
			t.Errorf("%s:\ngot  %q\nwant %q", setting, got, "BEARERD_"+want)
		}
	}
	for value, want := range map[string]fs.FileMode{"0": 0, "600": 0o600, "0777": 0o777} {
		if got := mustLoad(t, bearerdtest.With("BEARERD_SOCKET_MODE="+value)).SocketMode; got != want {
			t.Errorf("SOCKET_MODE=%s: got %o, want %o", value, got, want)
		}
	}
	// Only unix sockets: other machines cannot connect, so nothing more is asked.
	c := mustLoad(t, bearerdtest.With("BEARERD_LISTEN=unix:/run/a/../b,unix:/run/c", "BEARERD_ADMIN_LISTEN=unix:/run/d", "BEARERD_SOCKET_MODE=0660"))
	if c.SocketMode != 0o660 || len(c.Warnings) > 0 {
		t.Errorf("got %o, %q", c.SocketMode, c.Warnings)
	}
	c = mustLoad(t, bearerdtest.With("BEARERD_SOCKET_MODE=0666"))
	if len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "every user of this machine may connect") {
		t.Errorf("0666: warnings %q", c.Warnings)
	}
}
