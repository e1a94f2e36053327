package display

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// MaxText bounds each text in a line of the log, in bytes as they are written:
// a path, a method and much else come from whoever reaches the port.
const MaxText = 1 << 10

// CutMark stands where a text was cut.
const CutMark = "…(cut)"

// SafeLines gives w lines of JSON whose texts are cut to MaxText, with all
// escaped that does not show as it is, or makes a terminal show something else:
// control characters, C1 too, those that change the direction of writing, line
// separators, and what Unicode has not assigned.
func SafeLines(w io.Writer) io.Writer {
	return editedLines{w, func(line []byte) []byte {
		if len(line) <= MaxText && plain(line) {
			return line
		}
		return AppendSafe(nil, line)
	}}
}

// VisibleLines is SafeLines for lines that are not JSON. They are not cut, and
// keep ASCII's control characters, which colour them.
func VisibleLines(w io.Writer) io.Writer {
	return editedLines{w, func(line []byte) []byte {
		if plain(line) {
			return line
		}
		return appendVisible(nil, string(line))
	}}
}

type editedLines struct {
	w    io.Writer
	edit func([]byte) []byte
}

func (e editedLines) Write(p []byte) (int, error) {
	if _, err := e.w.Write(e.edit(p)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// plain reports whether all of p is ASCII, and none of it DEL.
func plain(p []byte) bool {
	for _, b := range p {
		if b >= 0x7f {
			return false
		}
	}
	return true
}

// AppendSafe appends line, which is JSON, as SafeLines has it.
func AppendSafe(dst, line []byte) []byte {
	inText, used := false, 0 // used: bytes of the text, had it not been cut
	for len(line) > 0 {
		if line[0] == '"' {
			if inText && used > MaxText {
				dst = append(dst, CutMark...)
			}
			inText, used = !inText, 0
			dst = append(dst, '"')
			line = line[1:]
			continue
		}
		// A unit is what may not be cut apart.
		var unit []byte
		size := 1
		switch {
		case line[0] == '\\' && len(line) > 1:
			if size = 2; line[1] == 'u' {
				size = min(6, len(line))
			}
			unit = line[:size]
		case line[0] < 0x7f:
			unit = line[:1]
		default:
			var r rune
			r, size = utf8.DecodeRune(line)
			unit = appendRune(nil, r)
		}
		line = line[size:]
		if inText {
			if used += len(unit); used > MaxText {
				continue
			}
		}
		dst = append(dst, unit...)
	}
	return dst
}

// appendVisible appends text as VisibleLines has it.
func appendVisible(dst []byte, text string) []byte {
	for _, r := range text {
		if r < 0x7f {
			dst = append(dst, byte(r))
		} else {
			dst = appendRune(dst, r)
		}
	}
	return dst
}

// appendRune appends r as it is where it shows, else as JSON escapes it.
func appendRune(dst []byte, r rune) []byte {
	switch {
	case unicode.IsPrint(r) && r != utf8.RuneError:
		return utf8.AppendRune(dst, r)
	case r > 0xffff:
		first, second := utf16.EncodeRune(r)
		return fmt.Appendf(dst, `\u%04x\u%04x`, first, second)
	}
	return fmt.Appendf(dst, `\u%04x`, r)
}

// CutText is text as a line that is not JSON may hold it.
func CutText(text string) string {
	if len(text) > MaxText {
		end := MaxText
		for end > MaxText-utf8.UTFMax && !utf8.RuneStart(text[end]) {
			end--
		}
		text = text[:end] + CutMark
	}
	return text
}

// OneLine is text without what would begin another line or steer a terminal.
func OneLine(text string) string {
	if !strings.ContainsFunc(text, unicode.IsControl) {
		return text
	}
	quoted := fmt.Sprintf("%q", text)
	return quoted[1 : len(quoted)-1]
}
