package listen

import (
	"io/fs"
	"net"

	"github.com/bearerd/bearerd/cmd/internal/endpoint"
)

func listenSocket(string, string, fs.FileMode) (net.Listener, error) {
	return nil, endpoint.ErrNoSockets
}
