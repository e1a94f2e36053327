package proxy

import (
	"net/url"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Traverses reports whether some server might read path as one with dot
// segments or a NUL byte: at each level of decoding, with / and \ both as
// separators and parameters (";x") cut off (CVE-2025-47952, CVE-2025-66490).
// A ? or # ends a segment too: nginx takes a bare # for the end of the path, and
// reads /a/..# as /. So does a colon, which begins the name of a stream on
// Windows. Blanks do not count, as Windows strips them, and characters count as
// what servers that want ASCII make of them.
func Traverses(path string) bool {
	// Nobody needs more levels than these; a path that has them is hiding
	// something, and each level costs a pass.
	const levels = 4
	for range levels {
		if strings.IndexByte(path, 0) >= 0 {
			return true
		}
		path = plainly(path)
		for segment := range strings.FieldsFuncSeq(path, func(r rune) bool { return r == '/' || r == '\\' }) {
			if isDots(segment) {
				return true
			}
		}
		if strings.IndexByte(path, 0) >= 0 {
			return true
		}
		decoded := unescapeLoosely(path)
		if decoded == path {
			return false
		}
		path = decoded
	}
	return true
}

// isDots reports whether a segment may be read as . or .. . More dots are a
// name, but with blanks among them.
func isDots(segment string) bool {
	if end := strings.IndexAny(segment, ";?#:"); end >= 0 {
		segment = segment[:end]
	}
	if !strings.Contains(segment, ".") {
		return false
	}
	dots := strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			return -1
		}
		return r
	}, segment)
	return dots == "." || dots == ".." || dots != segment && strings.Trim(dots, ".") == ""
}

// plainly returns path with the characters that some servers take for ASCII as
// that: full-width forms and other lookalikes, which a conversion to a code page
// or Unicode's NFKC makes dots and slashes of, and overlong UTF-8.
func plainly(path string) string {
	if strings.IndexFunc(path, func(r rune) bool { return r >= utf8.RuneSelf }) < 0 {
		return path
	}
	var b strings.Builder
	for i := 0; i < len(path); {
		r, size := utf8.DecodeRuneInString(path[i:])
		if r == utf8.RuneError && size == 1 {
			c, n := overlong(path[i:])
			b.WriteByte(c)
			i += n
			continue
		}
		i += size
		if as, ok := lookalikes[r]; ok {
			b.WriteString(as)
		} else if r >= 0xff01 && r <= 0xff5e { // the full-width forms of ! to ~
			b.WriteByte(byte(r - 0xfee0))
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

var lookalikes = map[rune]string{
	0x2024: ".", 0xfe52: ".", 0x3002: ".", 0xff61: ".", // one dot leader, small, ideographic
	0x2025: "..", 0xfe30: "..", 0x2026: "...", 0xfe19: "...", // leaders, ellipses
	0x2044: "/", 0x2215: "/", 0x29f8: "/", // fraction, division, big solidus
	0x2216: `\`, 0xfe68: `\`, 0x29f5: `\`, 0x29f9: `\`, 0xffe5: `\`, 0xffe6: `\`, // set minus, small; yen and won, which are backslashes in two code pages
	0xa5: `\`, 0x20a9: `\`,
	0xfe6a: "%", 0x066a: "%",
	0x3000: " ",
}

// overlong returns the dot, slash, percent sign or NUL that s begins with, in more
// bytes than it needs, and their number; where it begins with none, its first byte. A
// careless decoder does not look at the upper bits of the bytes that follow.
func overlong(s string) (c byte, n int) {
	var value uint
	switch lead := s[0]; {
	case lead == 0xc0 || lead == 0xc1:
		value, n = uint(lead&1), 2
	case lead == 0xe0:
		n = 3
	case lead == 0xf0:
		n = 4
	case lead == 0xf8:
		n = 5
	case lead == 0xfc:
		n = 6
	}
	if n == 0 || len(s) < n {
		return s[0], 1
	}
	for _, next := range []byte(s[1:n]) {
		value = value<<6 | uint(next&0x3f)
	}
	if value >= utf8.RuneSelf || strings.IndexByte("./\\%\x00", byte(value)) < 0 {
		return s[0], 1 // no other harms, and a letter would swallow the slash that it may be made of
	}
	return byte(value), n
}

// unescapeLoosely decodes every valid %XX once, and every %uXXXX, which is
// Microsoft's, and leaves the rest.
func unescapeLoosely(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	if u, err := url.PathUnescape(s); err == nil {
		return u
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if u, err := url.PathUnescape(s[i : i+3]); err == nil {
				b.WriteString(u)
				i += 2
				continue
			}
			if (s[i+1] == 'u' || s[i+1] == 'U') && i+5 < len(s) {
				if r, err := strconv.ParseUint(s[i+2:i+6], 16, 16); err == nil {
					b.WriteRune(rune(r))
					i += 5
					continue
				}
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// under reports whether path is prefix or below it, by whole segments. Both
// are compared as they are written: what is escaped in a way that the list
// does not have is not on the list.
func under(prefix, path string) bool {
	rest, ok := strings.CutPrefix(path, prefix)
	return ok && (rest == "" || rest[0] == '/')
}
