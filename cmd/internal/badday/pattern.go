package main

import (
	"errors"
	"io"
	"math/rand/v2"
)

// pattern is what all bodies consist of. Its length is prime, so that bytes
// lost or sent twice do not fit.
var pattern = func() []byte {
	p := make([]byte, 65521)
	_, _ = rand.NewChaCha8([32]byte{}).Read(p)
	return p
}()

// patterned reads the pattern, again and again, left bytes in all.
type patterned struct {
	offset, left int64
}

func (p *patterned) Read(b []byte) (int, error) {
	if p.left == 0 {
		return 0, io.EOF
	}
	at := p.offset % int64(len(pattern))
	n := copy(b[:min(int64(len(b)), p.left)], pattern[at:])
	p.offset += int64(n)
	p.left -= int64(n)
	return n, nil
}

var errContent = errors.New("the content is wrong")

// comparing is a Writer that wants what want reads.
type comparing struct {
	want   patterned
	buffer [32 << 10]byte
}

func (c *comparing) Write(p []byte) (n int, err error) {
	for n < len(p) {
		k, err := c.want.Read(c.buffer[:min(len(c.buffer), len(p)-n)])
		if err != nil || string(c.buffer[:k]) != string(p[n:n+k]) {
			return n, errContent
		}
		n += k
	}
	return n, nil
}
