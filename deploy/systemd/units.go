// Package systemd holds the units of a hardened system service, as they stand beside
// this file, for who installs them by a program.
package systemd

import _ "embed"

// The units, as for /usr/local/bin/bearerd and /etc/bearerd.
var (
	//go:embed bearerd.service
	Service string
	//go:embed bearerd.socket
	Socket string
	//go:embed bearerd-admin.socket
	AdminSocket string
)
