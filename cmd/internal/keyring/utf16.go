package keyring

import (
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// decodeUTF16 returns content, which is little-endian UTF-16, or as it stands where
// that is no text: whoever uses it refuses it then.
func decodeUTF16(content string) string {
	units := make([]uint16, 0, len(content)/2)
	for i := 0; i+1 < len(content); i += 2 {
		units = append(units, uint16(content[i])|uint16(content[i+1])<<8)
	}
	text := string(utf16.Decode(units))
	if strings.ContainsRune(text, utf8.RuneError) {
		return content
	}
	return strings.TrimPrefix(text, "\ufeff")
}
