package config

import (
	"crypto/sha256"
	"encoding/binary"
	"io"

	"github.com/bearerd/bearerd/tokens"
)

// FileText is what a file held at one moment, or why it cannot be read.
type FileText struct {
	Text string
	Err  error
}

// readFileText reads a file; none has no text and no error.
func readFileText(path string) FileText {
	if path == "" {
		return FileText{}
	}
	text, err := tokens.ReadTextFile(path)
	return FileText{text, err}
}

// Fingerprint tells contents of files apart, and nothing of them.
type Fingerprint [sha256.Size]byte

// FingerprintOf tells by contents, or by why there are none.
func FingerprintOf(files ...FileText) (d Fingerprint) {
	h := sha256.New()
	for _, f := range files {
		text := f.Text
		if f.Err != nil {
			text = f.Err.Error()
		}
		_ = binary.Write(h, binary.BigEndian, int64(len(text)))
		_, _ = io.WriteString(h, text)
	}
	copy(d[:], h.Sum(nil))
	return d
}
