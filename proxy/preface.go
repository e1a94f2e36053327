package proxy

import (
	"io"
	"net/http"
	"time"
)

// isPreface reports whether r is the first line of HTTP/2 with prior knowledge
// (RFC 9113 3.4), as grpcurl and curl --http2-prior-knowledge send it. net/http
// hands it over as a request of its own kind (net/http/request.go, isH2Upgrade).
func isPreface(r *http.Request) bool {
	return r.Method == "PRI" && r.RequestURI == "*" && r.ProtoMajor == 2
}

// goAway is what a server of HTTP/2 says to a client that must use HTTP/1.1: the
// empty SETTINGS that each begins with, and GOAWAY for all its streams with
// HTTP_1_1_REQUIRED (RFC 9113 6.5, 6.8 and 7). What follows the code is for
// people, in the client's log.
const (
	goAwayText = "bearerd speaks HTTP/1.1 on this port"
	goAway     = "\x00\x00\x00\x04\x00\x00\x00\x00\x00" +
		"\x00\x00" + string(rune(8+len(goAwayText))) + "\x07\x00\x00\x00\x00\x00" +
		"\x00\x00\x00\x00" + "\x00\x00\x00\x0d" + goAwayText
)

const (
	goAwayPatience = time.Second // for the client to read it and close
	goAwayUnread   = 64 << 10    // bytes that it may have sent meanwhile
)

// refuseHTTP2 answers in HTTP/2, and closes the connection. The record has the
// status that says the same in HTTP/1.1.
func (ex *exchangeWriter) refuseHTTP2() {
	ex.Error, ex.Status = HTTP11Required, meanings[HTTP11Required].status
	conn, buffered, err := http.NewResponseController(ex.w).Hijack()
	if err != nil {
		writeError(ex, &Error{Code: HTTP11Required})
		return
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(goAwayPatience))
	if _, err := io.WriteString(conn, goAway); err != nil {
		return
	}
	// To close with something unread resets the connection, and the client might
	// lose what it has not read.
	if half, ok := conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		_, _ = io.CopyN(io.Discard, buffered, goAwayUnread)
	}
}
