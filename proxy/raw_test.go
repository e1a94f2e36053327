package proxy_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// What a client writes is judged here by what comes out of bearerd, byte for
// byte: both ends are raw, and both sides are read by a parser that forgives
// nothing. A server behind bearerd may read its bytes in any way that their
// grammar allows; so the grammar must leave it only one.

// message is an HTTP/1.1 message as it was on the wire.
type message struct {
	head
	body    string
	trailer head // fields only
	whole   bool // it was there to its end
}

func (m message) status() string { return strings.Split(m.line, " ")[1] }

// grammarError is what is wrong with a message.
type grammarError string

func (e grammarError) Error() string { return string(e) }

// strictly reads one message; of a request where request is set, and of an
// answer to method otherwise. It returns io.EOF at the end of the connection,
// a message that is not whole where the connection ends within it, and a
// grammarError for one that two servers might read in two ways. It calls begun
// with the head, before the body is read.
func strictly(in *bufio.Reader, request bool, method string, begun func(head)) (message, error) {
	var m message
	if _, err := in.Peek(1); err != nil {
		return m, io.EOF
	}
	lines, err := strictLines(in)
	if err != nil {
		return m, cut(err)
	}
	if len(lines) == 0 {
		return m, grammarError("an empty line before the message")
	}
	m.line, m.fields = lines[0], lines[1:]
	length, chunked, err := m.check(request)
	if err != nil {
		return m, err
	}
	if begun != nil {
		begun(m.head)
	}
	if !request {
		if status := m.status(); method == "HEAD" || status[0] == '1' || status == "204" || status == "304" {
			m.whole = true
			return m, nil
		}
	}
	var body strings.Builder
	switch {
	case chunked:
		m.trailer.fields, err = strictChunks(in, &body, request)
	case length >= 0:
		_, err = io.CopyN(&body, in, length)
	case !request:
		_, err = io.Copy(&body, in)
	}
	m.body = body.String()
	m.whole = err == nil
	return m, cut(err)
}

// cut returns nil for what only says that the connection has ended.
func cut(err error) error {
	if _, ok := errors.AsType[grammarError](err); ok || errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return nil
}

// strictLines reads lines to an empty one.
func strictLines(in *bufio.Reader) ([]string, error) {
	var lines []string
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return lines, err
		}
		line, ok := strings.CutSuffix(line, "\r\n")
		if !ok {
			return lines, grammarError(fmt.Sprintf("the line %.80q ends with a bare LF", line))
		}
		if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
			return lines, grammarError(fmt.Sprintf("the line %.80q holds a control byte", line))
		}
		if line == "" {
			return lines, nil
		}
		lines = append(lines, line)
	}
}

// check returns the length that the head gives its body, -1 for none.
func (h head) check(request bool) (length int64, chunked bool, err error) {
	parts := strings.SplitN(h.line, " ", 3)
	switch {
	case len(parts) < 3, request && (parts[2] != "HTTP/1.1" || !isToken(parts[0]) || parts[1] == ""),
		!request && (parts[0] != "HTTP/1.1" && parts[0] != "HTTP/1.0" || len(parts[1]) != 3 || strings.Trim(parts[1], "0123456789") != ""):
		return 0, false, grammarError(fmt.Sprintf("the first line is %.80q", h.line))
	}
	if err := checkFields(h.fields); err != nil {
		return 0, false, err
	}
	lengths, encodings := h.values("Content-Length"), h.values("Transfer-Encoding")
	switch {
	case len(lengths)+len(encodings) > 1:
		return 0, false, grammarError(fmt.Sprintf("two lengths: %q %q", lengths, encodings))
	case len(encodings) == 1 && encodings[0] != "chunked":
		return 0, false, grammarError(fmt.Sprintf("the transfer encoding %q", encodings[0]))
	case len(encodings) == 1:
		return -1, true, nil
	case len(lengths) == 1:
		length, err = strconv.ParseInt(lengths[0], 10, 64)
		if err != nil || strings.Trim(lengths[0], "0123456789") != "" {
			return 0, false, grammarError(fmt.Sprintf("the length %q", lengths[0]))
		}
		return length, false, nil
	}
	return -1, false, nil
}

func checkFields(fields []string) error {
	for _, f := range fields {
		if name, _, ok := strings.Cut(f, ":"); !ok || !isToken(name) {
			return grammarError(fmt.Sprintf("the field %.80q has no name, is folded, or has space before its colon", f))
		}
	}
	return nil
}

func isToken(s string) bool {
	return s != "" && strings.Trim(s, "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz") == ""
}

// strictChunks reads a chunked body and returns its trailer; of a request it
// allows none.
func strictChunks(in *bufio.Reader, body io.Writer, request bool) ([]string, error) {
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return nil, err
		}
		size, ok := strings.CutSuffix(line, "\r\n")
		n, err := strconv.ParseUint(size, 16, 32)
		if !ok || err != nil || strings.Trim(size, "0123456789abcdefABCDEF") != "" {
			return nil, grammarError(fmt.Sprintf("the chunk size %.80q", line))
		}
		if n == 0 {
			break
		}
		if _, err := io.CopyN(body, in, int64(n)); err != nil {
			return nil, err
		}
		end := make([]byte, 2)
		if _, err := io.ReadFull(in, end); err != nil {
			return nil, err
		}
		if string(end) != "\r\n" {
			return nil, grammarError(fmt.Sprintf("a chunk that ends with %q", end))
		}
	}
	trailer, err := strictLines(in)
	if err == nil {
		err = checkFields(trailer)
	}
	if err == nil && request && len(trailer) > 0 {
		err = grammarError(fmt.Sprintf("the trailer %q", trailer))
	}
	return trailer, err
}
