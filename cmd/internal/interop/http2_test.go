package interop_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
)

// serveHTTP2 serves handler by TLS and HTTP/2, and returns its URL and bearerd's
// setting to trust it.
func serveHTTP2(t *testing.T, handler http.Handler) (url, trust string) {
	t.Helper()
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Proto != "HTTP/2.0" {
			t.Errorf("upstream got %s, want HTTP/2.0", r.Proto)
		}
		handler.ServeHTTP(w, r)
	}))
	web.EnableHTTP2 = true
	web.StartTLS()
	t.Cleanup(web.Close)
	return web.URL, bearerdtest.Trusting(t, web)
}

func TestHTTP2Uploads(t *testing.T) {
	s := newLogin(t)
	url, trust := serveHTTP2(t, s.protect(t, echo))
	for _, body := range []upload{
		{"none", 0, false},
		{"held", replayBuffer, false},
		{"announced", 3 << 20, false},
		{"of unknown length", replayBuffer / 2, true},
		{"of unknown length, too large", 3 << 20, true},
	} {
		text := strings.Repeat("0123456789abcde\n", body.size/16)
		p := start(t, s.env(url, trust, fmt.Sprint("BEARERD_REPLAY_BUFFER=", replayBuffer))...)
		wantEcho(t, p.url, text)
		s.revoke()
		before := s.logins(200)
		wantReplay(t, p.url, body, text, !body.chunked || body.size <= replayBuffer)
		if got := s.logins(200) - before; got != 1 {
			t.Errorf("%s: got %d logins, want 1", body.name, got)
		}
		wantEcho(t, p.url, text)
	}
}

// Each event comes before the next is made, and the trailer at the end.
func TestHTTP2Stream(t *testing.T) {
	s := newLogin(t)
	next := make(chan struct{})
	url, trust := serveHTTP2(t, s.protect(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Trailer", "X-Count")
		for n := range 20 {
			fmt.Fprintf(w, "data: %d\n\n", n)
			w.(http.Flusher).Flush()
			select {
			case <-next:
			case <-r.Context().Done():
				return
			}
		}
		w.Header().Set("X-Count", "20")
	}))
	p := start(t, s.env(url, trust)...)
	if got := wantEvents(t, p.url, next).Trailer.Get("X-Count"); got != "20" {
		t.Errorf("got the trailer %q, want 20", got)
	}
}

// wantEvents reads 20 events in step with their maker.
func wantEvents(t *testing.T, url string, next chan<- struct{}) *http.Response {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for n := range 20 {
		if !lines.Scan() || lines.Text() != fmt.Sprint("data: ", n) {
			t.Fatalf("got %q, %v, want event %d", lines.Text(), lines.Err(), n)
		}
		lines.Scan()
		next <- struct{}{}
	}
	if lines.Scan() || lines.Err() != nil {
		t.Errorf("got %q, %v after the last event, want the end", lines.Text(), lines.Err())
	}
	return resp
}

// A stream that upstream resets in the middle of a body is no whole answer.
func TestHTTP2Reset(t *testing.T) {
	s := newLogin(t)
	url, trust := serveHTTP2(t, s.protect(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	p := start(t, s.env(url, trust)...)
	resp, err := http.Get(p.url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err == nil || string(body) != "half" {
		t.Errorf("got %q and %v, want half, and an error", body, err)
	}
}

// frames is one connection of a server that says what it likes: its stream and
// the fields of that, and writes.
type frames struct {
	*http2.Framer
	id uint32
}

// answer is a whole answer.
func (f frames) answer(body string) {
	var block bytes.Buffer
	_ = hpack.NewEncoder(&block).WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: f.id, BlockFragment: block.Bytes(), EndHeaders: true})
	_ = f.WriteData(f.id, true, []byte(body))
}

// serveFrames serves HTTP/2 frame by frame. It gives each request, once the
// whole of it has come, to serve, which may answer and says whether the
// connection goes on. Attempts are counted from 1, over all connections.
func serveFrames(t *testing.T, s *loginServer, serve func(f frames, attempt int, body string) bool) (url, trust string) {
	t.Helper()
	certificate := httptest.NewUnstartedServer(nil)
	certificate.StartTLS()
	certificate.Close()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: certificate.TLS.Certificates, NextProtos: []string{"h2"},
	})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex // guards attempts
	attempts := 0
	serveConnections(t, listener, func(conn net.Conn) {
		preface := make([]byte, len(http2.ClientPreface))
		if _, err := io.ReadFull(conn, preface); err != nil || string(preface) != http2.ClientPreface {
			return // closed without use, or the test's end
		}
		framer := http2.NewFramer(conn, conn)
		framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		_ = framer.WriteSettings()
		bodies := map[uint32]*bytes.Buffer{}
		for {
			frame, err := framer.ReadFrame()
			if err != nil {
				return
			}
			ended := false
			switch frame := frame.(type) {
			case *http2.SettingsFrame:
				if !frame.IsAck() {
					_ = framer.WriteSettingsAck()
				}
			case *http2.PingFrame:
				if !frame.IsAck() {
					_ = framer.WritePing(true, frame.Data)
				}
			case *http2.MetaHeadersFrame:
				var authorization []string
				for _, field := range frame.RegularFields() {
					if field.Name == "authorization" {
						authorization = append(authorization, field.Value)
					}
				}
				if !s.admits(t, authorization) {
					t.Error("a request came with a token that is not good")
				}
				bodies[frame.StreamID] = new(bytes.Buffer)
				ended = frame.StreamEnded()
			case *http2.DataFrame:
				bodies[frame.StreamID].Write(frame.Data())
				ended = frame.StreamEnded()
			}
			if !ended {
				continue
			}
			id := frame.Header().StreamID
			mu.Lock()
			attempts++
			n := attempts
			mu.Unlock()
			if !serve(frames{framer, id}, n, bodies[id].String()) {
				return
			}
		}
	})
	return "https://" + listener.Addr().String(), bearerdtest.Trusting(t, certificate)
}

// What upstream says of a POST that it ends without an answer decides whether
// it is sent again: only where upstream has done nothing with it.
func TestHTTP2Refusals(t *testing.T) {
	for _, test := range []struct {
		name   string
		refuse func(f frames) (goesOn bool)
		again  bool // else bearerd answers 502
	}{
		{"REFUSED_STREAM", func(f frames) bool { return f.WriteRSTStream(f.id, http2.ErrCodeRefusedStream) == nil }, true},
		{"GOAWAY before it", func(f frames) bool {
			_ = f.WriteGoAway(f.id-2, http2.ErrCodeNo, nil)
			return true // the client closes
		}, true},
		{"GOAWAY after it, and the end", func(f frames) bool {
			_ = f.WriteGoAway(f.id, http2.ErrCodeNo, nil)
			return false
		}, false},
		{"GOAWAY for an error", func(f frames) bool {
			_ = f.WriteGoAway(f.id, http2.ErrCodeInternal, nil)
			return false
		}, false},
		{"INTERNAL_ERROR", func(f frames) bool { return f.WriteRSTStream(f.id, http2.ErrCodeInternal) == nil }, false},
		{"PROTOCOL_ERROR", func(f frames) bool { return f.WriteRSTStream(f.id, http2.ErrCodeProtocol) == nil }, false},
		{"CANCEL", func(f frames) bool { return f.WriteRSTStream(f.id, http2.ErrCodeCancel) == nil }, false},
		{"the end", func(frames) bool { return false }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newLogin(t)
			var mu sync.Mutex
			var refused, processed []string
			url, trust := serveFrames(t, s, func(f frames, attempt int, body string) bool {
				mu.Lock()
				defer mu.Unlock()
				if attempt == 2 { // the first is to warm the connection
					refused = append(refused, body)
					return test.refuse(f)
				}
				processed = append(processed, body)
				f.answer(body)
				return true
			})
			p := start(t, s.env(url, trust)...)
			want := "first, again"
			wantEcho(t, p.url, "first")
			resp, body := fetch(t, "POST", p.url, strings.NewReader("again"))
			if test.again && (resp.StatusCode != 200 || body != "again") {
				t.Errorf("got %d %s, want 200 again", resp.StatusCode, body)
			}
			if !test.again {
				if resp.StatusCode != 502 || !strings.Contains(body, `"upstream_unreachable"`) {
					t.Errorf("got %d %s, want 502 upstream_unreachable", resp.StatusCode, body)
				}
				want = "first"
			}
			wantEcho(t, p.url, "after")
			mu.Lock()
			defer mu.Unlock()
			if got := strings.Join(processed, ", "); got != want+", after" || len(refused) != 1 || refused[0] != "again" {
				t.Errorf("upstream processed %s, and refused %q; want %s, after, and the one", got, refused, want)
			}
		})
	}
}
