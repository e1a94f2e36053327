package querysim

import (
	"context"
	"net"
	"net/http"
)

type connKey struct{}

// ConnContext is for [http.Server.ConnContext]. Over HTTP/2 the faults that end a
// connection need it; without, they end the stream.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// dropConnection closes the client's connection without an answer, by a reset
// or in order.
func dropConnection(w http.ResponseWriter, r *http.Request, reset bool) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil { // HTTP/2, where each request has its stream
		conn, _ = r.Context().Value(connKey{}).(net.Conn)
		if conn == nil {
			panic(http.ErrAbortHandler) // resets it
		}
		defer panic(http.ErrAbortHandler) // no answer may go out before the end
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
