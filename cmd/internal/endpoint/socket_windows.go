package endpoint

import (
	"errors"
)

// HasSocketMode: permissions keep other users from a unix socket.
const HasSocketMode = false

// ErrNoSockets refuses each path.
var ErrNoSockets = errors.New("bearerd makes no unix sockets on Windows: they have no mode there, so every user could connect; write e.g. localhost:8080")

func parseSocketPath(string) (string, error) { return "", ErrNoSockets }
