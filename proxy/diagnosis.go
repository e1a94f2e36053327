package proxy

import (
	"errors"
	"io"
	"strings"
)

// UpstreamError is how upstream ended an attempt without an answer, in words
// that are safe to log.
type UpstreamError struct {
	What string // a fixed phrase; of what upstream sent, it has known names alone
	err  error  // may quote upstream
}

func (e *UpstreamError) Error() string { return e.What }

func (e *UpstreamError) Unwrap() error { return e.err }

// diagnosis is what an attempt's error says of upstream.
type diagnosis struct {
	what        string // "": nothing that has a name here
	unprocessed bool   // upstream promises that it did nothing with the request (RFC 9113, sections 7 and 8.7)
	wantsHTTP1  bool   // upstream asks for it by HTTP/1.1
}

func (d diagnosis) name(err error) error {
	if d.what == "" {
		return err
	}
	return &UpstreamError{d.what, err}
}

// streamError is the form of net/http's own, which errors.As copies to it
// (net/http/h2_error.go).
type streamError struct {
	StreamID uint32
	Code     uint32
	Cause    error
}

func (streamError) Error() string { return "HTTP/2 stream error" }

// Texts of net/http's HTTP/2, which has no other way to tell these apart. A test
// holds them to it.
const (
	textFromPeer   = "received from peer"
	textGoAway     = "http2: Transport received Server's graceful shutdown GOAWAY"
	textGoAwayCode = "http2: Transport received GOAWAY from server ErrCode:"
	textGoAwayEnd  = "http2: server sent GOAWAY and closed the connection; "
	textSilent     = "http2: client connection lost"
	textBroken     = "connection error: "
	textClosedIdle = "http: server closed idle connection"
)

// diagnose says what upstream did.
func diagnose(err error) diagnosis {
	var reset streamError
	if errors.As(err, &reset) {
		code := codeName(reset.Code)
		if reset.Cause == nil || reset.Cause.Error() != textFromPeer {
			return diagnosis{what: "upstream's HTTP/2 answer broke the protocol: " + code}
		}
		return diagnosis{
			what:        "upstream reset the HTTP/2 stream: " + code,
			unprocessed: code == "REFUSED_STREAM" || code == codeHTTP1, // who did it would not ask for it once more
			wantsHTTP1:  code == codeHTTP1,
		}
	}
	text := err.Error()
	if text == textGoAway {
		return diagnosis{what: "upstream sent GOAWAY before it took the request", unprocessed: true}
	}
	if rest, ok := strings.CutPrefix(text, textGoAwayCode); ok {
		code := knownCode(rest)
		return diagnosis{what: "upstream sent GOAWAY before it took the request: " + code, unprocessed: true, wantsHTTP1: code == codeHTTP1}
	}
	if rest, ok := strings.CutPrefix(text, textGoAwayEnd); ok {
		_, rest, _ = strings.Cut(rest, "ErrCode=")
		rest, _, _ = strings.Cut(rest, ",") // what follows is upstream's own text
		code := knownCode(rest)
		return diagnosis{what: "upstream sent GOAWAY and closed the connection: " + code, wantsHTTP1: code == codeHTTP1}
	}
	if rest, ok := strings.CutPrefix(text, textBroken); ok {
		return diagnosis{what: "upstream's HTTP/2 connection broke the protocol: " + knownCode(rest)}
	}
	switch {
	case text == textSilent:
		return diagnosis{what: "the HTTP/2 connection was dead: upstream answered no ping"}
	case text == textClosedIdle:
		return diagnosis{what: "upstream closed the connection as the request was sent"}
	case errors.Is(err, errSecondTry):
		return diagnosis{what: "upstream closed the connection before it answered"}
	case err == errCrowded, err == errStill:
		return diagnosis{what: err.Error()}
	case err == io.ErrUnexpectedEOF:
		return diagnosis{what: "upstream closed the connection before it answered"}
	}
	return diagnosis{}
}

const codeHTTP1 = "HTTP_1_1_REQUIRED"

// codes are HTTP/2's errors by number (RFC 9113, section 7).
var codes = []string{
	"NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
	"FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM",
	"INADEQUATE_SECURITY", codeHTTP1,
}

func codeName(code uint32) string {
	if code < uint32(len(codes)) {
		return codes[code]
	}
	return "a code that RFC 9113 does not know"
}

// knownCode is text where that is the name of a code.
func knownCode(text string) string {
	for _, name := range codes {
		if name == text {
			return name
		}
	}
	return codeName(^uint32(0))
}
