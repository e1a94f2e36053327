package tokens

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"
)

// MaxTextFile is how many bytes a text file may have.
const MaxTextFile = 1 << 20

// A textError is a fixed phrase about a file, which is safe to log: it says where
// something is, and never what.
type textError string

func (e textError) Error() string { return string(e) }

const (
	errMissing    textError = "it does not exist"
	errForbidden  textError = "this process may not read it"
	errUnreadable textError = "it cannot be read"
	errDescriptor textError = "it cannot be opened: no file descriptor is left"
	errDirectory  textError = "it is a directory"
	errNotRegular textError = "it is not a regular file"
	errEmpty      textError = "it is empty"
	errTooLarge   textError = "it is larger than 1 MiB: is it the right file?"
)

// ReadTextFile returns the text of a regular file, as [ReadText] does. Its errors
// are fixed phrases that begin with "it" and tell no part of path or text.
func ReadTextFile(path string) (string, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", errMissing
	case errors.Is(err, fs.ErrPermission):
		return "", errForbidden
	case err != nil:
		return "", errUnreadable
	case info.IsDir():
		return "", errDirectory
	case !info.Mode().IsRegular():
		return "", errNotRegular // to open a FIFO would block
	}
	file, err := os.Open(path)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return "", errForbidden
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return "", errDescriptor
	case err != nil:
		return "", errUnreadable
	}
	defer func() { _ = file.Close() }()
	return ReadText(file)
}

// ReadText returns all text of r, without the UTF-8 BOM that Windows editors
// write. Text in UTF-16 or UTF-32, and more than [MaxTextFile] bytes, are errors,
// of the kind that [ReadTextFile] has; other bytes that are no UTF-8 are for
// [CheckText] and [CheckSecret] to find: in a PEM file they may stand in comments.
func ReadText(r io.Reader) (string, error) {
	content, err := io.ReadAll(io.LimitReader(r, MaxTextFile+1))
	text := string(content)
	switch wide := wideEncoding(text); {
	case err != nil:
		return "", errUnreadable
	case len(text) > MaxTextFile:
		return "", errTooLarge
	case wide != "":
		return "", textError("it is " + wide + ": save it as UTF-8")
	}
	return strings.TrimPrefix(text, "\ufeff"), nil
}

// readSecret returns the content of a file of one secret, without one line end
// (LF or CRLF). Its errors are fixed phrases.
func readSecret(path string) (Secret, error) {
	text, err := ReadTextFile(path)
	if err != nil {
		return "", err
	}
	if line, ok := strings.CutSuffix(text, "\n"); ok {
		text = strings.TrimSuffix(line, "\r")
	}
	if text == "" {
		return "", errEmpty
	}
	if err := CheckSecret(text); err != nil {
		return "", err
	}
	return Secret(text), nil
}

// CheckText returns what is wrong with a text of lines: bytes that are no UTF-8,
// and control characters other than tabs and line ends. An error is of the kind
// that [ReadTextFile] has.
func CheckText(text string) error {
	return check(text, func(r rune) bool { return unicode.IsControl(r) && r != '\t' && r != '\n' && r != '\r' })
}

// CheckSecret returns what is wrong with the text of a secret: bytes that are no
// UTF-8, a control character or line end, and what a program has put in place of
// a letter that it could not read. Sent, each would be a wrong password, which
// counts against the account. An error is of the kind that [ReadTextFile] has.
func CheckSecret(text string) error {
	return check(text, func(r rune) bool {
		return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || r == '\ufeff' || r == utf8.RuneError
	})
}

// check returns what is wrong with text, in which no rune may be bad.
func check(text string, bad func(rune) bool) error {
	if wide := wideEncoding(text); wide != "" {
		return textError("it is " + wide + ", not UTF-8")
	}
	for i, r := range text {
		if r == utf8.RuneError && !strings.HasPrefix(text[i:], "\ufffd") {
			if strings.Contains(text, "\x00") {
				return textError("it is no text")
			}
			return textError("it is not UTF-8, and looks like " + narrowEncoding(text, i) + place(text, i) + ": save it as UTF-8")
		}
	}
	i := strings.IndexFunc(text, bad)
	if i < 0 {
		return nil
	}
	switch r, _ := utf8.DecodeRuneInString(text[i:]); r {
	case '\n', '\r', '\u0085', '\u2028', '\u2029':
		// No byte is told: it would be the length of the line before.
		return textError("it must be one line, and goes on behind the end of the first")
	case 0:
		return textError("it has a NUL" + place(text, i) + ", as binary files and /proc/PID/environ have")
	case '\t':
		return textError("it has a tab" + place(text, i))
	case '\ufeff':
		return textError("it has a byte order mark in its middle" + place(text, i))
	case utf8.RuneError:
		return textError("it has U+FFFD" + place(text, i) + ", which a program puts in place of a letter that it cannot read")
	}
	return textError("it has a control character" + place(text, i))
}

// place says where in text byte i is, both counted from 1.
func place(text string, i int) string {
	before := text[:i]
	return fmt.Sprintf(" (line %d, byte %d)", strings.Count(before, "\n")+1, i-strings.LastIndexByte(before, '\n'))
}

// wideEncoding names the encoding of text with two or four bytes a letter; "" when
// it is none. Without a BOM the zeros of ASCII letters tell.
func wideEncoding(text string) string {
	for _, bom := range []struct{ bytes, name string }{
		{"\xff\xfe\x00\x00", "UTF-32 (little-endian)"}, // before UTF-16's, with which it begins
		{"\x00\x00\xfe\xff", "UTF-32 (big-endian)"},
		{"\xff\xfe", "UTF-16 (little-endian)"}, // PowerShell's > writes it
		{"\xfe\xff", "UTF-16 (big-endian)"},
	} {
		if strings.HasPrefix(text, bom.bytes) {
			return bom.name
		}
	}
	if !strings.Contains(text, "\x00") {
		return ""
	}
	var zeros [4]int // by the place in a group of four bytes
	for i := range len(text) {
		if text[i] == 0 {
			zeros[i%4]++
		}
	}
	units := func(size int) int { return max(1, len(text)/size) }
	most := func(n, of int) bool { return 4*n >= 3*of }
	even, odd := zeros[0]+zeros[2], zeros[1]+zeros[3]
	switch {
	case len(text)%4 == 0 && zeros[0] == 0 && zeros[2] == units(4) && zeros[3] == units(4):
		return "UTF-32 (little-endian)"
	case len(text)%4 == 0 && zeros[3] == 0 && zeros[0] == units(4) && zeros[1] == units(4):
		return "UTF-32 (big-endian)"
	case len(text)%2 == 0 && even == 0 && most(odd, units(2)):
		return "UTF-16 (little-endian)"
	case len(text)%2 == 0 && odd == 0 && most(even, units(2)):
		return "UTF-16 (big-endian)"
	}
	return ""
}

// narrowEncoding guesses what a text is in that is no UTF-8 from byte i on.
func narrowEncoding(text string, i int) string {
	valid := strings.ContainsFunc(text[:i], func(r rune) bool { return r >= utf8.RuneSelf })
	switch c := text[i]; {
	case valid && !utf8.FullRuneInString(text[i:]):
		return "UTF-8 that was cut off"
	case valid:
		return "UTF-8 with another encoding in it"
	case c < 0xa0: // where Latin-1 has control characters
		return "Windows-1252 or the encoding of a Windows console"
	}
	return "Latin-1 or Windows-1252"
}
