package proxy_test

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"

	"github.com/bearerd/bearerd/proxy"
)

// HTTP/2 by hand, as servers that net/http cannot play speak it (RFC 9113).

const (
	frameData     = 0
	frameHeaders  = 1
	frameReset    = 3
	frameSettings = 4
	framePing     = 6
	frameGoAway   = 7

	flagEnd        = 1 // of a stream; of SETTINGS and PING: an acknowledgement
	flagEndHeaders = 4
)

// codes of errors
const (
	noError          = 0
	protocolError    = 1
	internalError    = 2
	refusedStream    = 7
	cancelStream     = 8
	enhanceYourCalm  = 11
	http11Required   = 13
	codeNobodyKnows  = 0x77
	settingMaxStream = 3
)

// frames is upstream's end of an HTTP/2 connection.
type frames struct {
	conn net.Conn
	in   *bufio.Reader
	mu   sync.Mutex // one frame is written at a time

	eager bool // a request is there with its header: its body is not waited for
}

// h2Upstream is a raw HTTP/2 server on a free port. Its transport trusts it.
// serve gets each connection, from 0 on, as soon as that is set up. One that does
// not agree on HTTP/2 goes to http1.
func h2Upstream(t testing.TB, serve func(n int, f *frames), http1 func(n int, c *wire)) (*url.URL, *http.Transport) {
	t.Helper()
	config, o := certified(t)
	tr := proxy.NewTransport(o)
	t.Cleanup(tr.CloseIdleConnections)
	var mu sync.Mutex
	count := 0
	u := listen(t, func(nth int, w *wire) {
		c := tls.Server(w.Conn, config)
		if c.Handshake() != nil {
			return
		}
		defer c.Close()
		if c.ConnectionState().NegotiatedProtocol != "h2" {
			if http1 == nil {
				t.Error("got a connection without HTTP/2")
				return
			}
			http1(nth, &wire{Conn: c, in: bufio.NewReader(c)})
			return
		}
		mu.Lock()
		n := count
		count++
		mu.Unlock()
		if f := newFrames(c); f != nil {
			serve(n, f)
		}
	})
	u.Scheme = "https"
	return u, tr
}

// certified returns the TLS of a server, and options of a transport that trusts it.
func certified(t testing.TB) (*tls.Config, proxy.TransportOptions) {
	t.Helper()
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS()
	defer s.Close()
	return &tls.Config{Certificates: s.TLS.Certificates, NextProtos: []string{"h2", "http/1.1"}},
		proxy.TransportOptions{RootCAs: s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}
}

// newFrames reads the client's preface and sends settings.
func newFrames(c net.Conn, settings ...byte) *frames {
	f := &frames{conn: c, in: bufio.NewReader(c)}
	preface := make([]byte, len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
	if _, err := io.ReadFull(f.in, preface); err != nil {
		return nil
	}
	f.write(frameSettings, 0, 0, settings)
	return f
}

func (f *frames) write(kind, flags byte, stream uint32, payload []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := binary.BigEndian.AppendUint32(nil, uint32(len(payload))<<8|uint32(kind))
	b = append(b, flags)
	b = binary.BigEndian.AppendUint32(b, stream)
	_, _ = f.conn.Write(append(b, payload...)) // the client may have gone
}

// read returns the next frame.
func (f *frames) read() (kind, flags byte, stream uint32, payload []byte, err error) {
	var head [9]byte
	if _, err = io.ReadFull(f.in, head[:]); err != nil {
		return
	}
	payload = make([]byte, binary.BigEndian.Uint32(head[:4])>>8)
	_, err = io.ReadFull(f.in, payload)
	return head[3], head[4], binary.BigEndian.Uint32(head[5:]) &^ (1 << 31), payload, err
}

var errConnEnd = errors.New("the connection has ended")

// request waits for the next request and returns its stream and its body, once it
// is there whole. It answers what the connection itself needs.
func (f *frames) request() (stream uint32, body string, err error) {
	for {
		kind, flags, id, payload, err := f.read()
		if err != nil {
			return 0, "", errConnEnd
		}
		switch {
		case kind == frameSettings && flags&flagEnd == 0:
			f.write(frameSettings, flagEnd, 0, nil)
		case kind == framePing && flags&flagEnd == 0:
			f.write(framePing, flagEnd, 0, payload)
		case kind == frameData:
			body += string(payload)
		}
		if kind == frameHeaders && f.eager || !f.eager && (kind == frameData || kind == frameHeaders) && flags&flagEnd != 0 {
			return id, body, nil
		}
	}
}

// answer answers with a status that HPACK has a byte for.
func (f *frames) answer(stream uint32, status int) {
	index := map[int]byte{200: 8, 404: 13, 500: 14}[status]
	if status == 401 {
		f.write(frameHeaders, flagEnd|flagEndHeaders, stream, append([]byte{0x08, 3}, "401"...)) // :status, not indexed
		return
	}
	f.write(frameHeaders, flagEndHeaders, stream, []byte{0x80 | index})
	f.write(frameData, flagEnd, stream, []byte("ok"))
}

func (f *frames) reset(stream, code uint32) {
	f.write(frameReset, 0, stream, binary.BigEndian.AppendUint32(nil, code))
}

// goAway says that streams above last were not processed. The text is upstream's
// own.
func (f *frames) goAway(last, code uint32, text string) {
	b := binary.BigEndian.AppendUint32(nil, last)
	b = binary.BigEndian.AppendUint32(b, code)
	f.write(frameGoAway, 0, 0, append(b, text...))
}
