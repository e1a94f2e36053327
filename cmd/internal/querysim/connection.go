package querysim

import (
	"net"
	"net/http"
)

// dropConnection closes the client's connection without an answer, by a reset
// or in order.
func dropConnection(w http.ResponseWriter, reset bool) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // HTTP/2: resets the stream
	}
	if reset {
		if t, ok := conn.(interface{ NetConn() net.Conn }); ok {
			conn = t.NetConn() // of TLS, whose Close would say goodbye first
		}
		if c, ok := conn.(interface{ SetLinger(int) error }); ok {
			_ = c.SetLinger(0) // makes Close reset
		}
	}
	_ = conn.Close()
}
