package main

import (
	"errors"
	"io"
	"strings"
)

const maxTextFile = 1 << 20 // bytes

// readText returns all text of r without a BOM, which Windows editors write.
// Its errors are for a person, to stand behind the name of the file.
func readText(r io.Reader) (string, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxTextFile+1))
	switch {
	case err != nil:
		return "", reason(err)
	case len(text) > maxTextFile:
		return "", errors.New("larger than 1 MiB; is it the right file?")
	case strings.HasPrefix(string(text), "\xff\xfe"), strings.HasPrefix(string(text), "\xfe\xff"):
		return "", errors.New("is UTF-16; save it as UTF-8") // PowerShell's > writes it
	}
	return strings.TrimPrefix(string(text), "\ufeff"), nil
}
