package proxy_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/bearerd/bearerd/proxy"
)

// preface is how a client begins HTTP/2 with prior knowledge: the magic text, its
// settings, and here a request that nobody answers.
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + "\x00\x00\x00\x04\x00\x00\x00\x00\x00" +
	"\x00\x00\x03\x01\x05\x00\x00\x00\x01\x82\x86\x84"

// HTTP/2 with prior knowledge is told in HTTP/2 that there is none here.
func TestHTTP2WithPriorKnowledge(t *testing.T) {
	d := start(t, proxy.Options{Upstream: upstream(t, func(http.ResponseWriter, *http.Request) { t.Error("upstream was asked") })})
	for name, sent := range map[string]string{"all at once": preface, "the first line alone": preface[:18]} {
		t.Run(name, func(t *testing.T) {
			c := d.dial(t)
			c.send(t, sent)
			if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(c)
			if err != nil {
				t.Fatalf("after %q: %v", got, err)
			}
			var kinds []byte
			var last, code uint32
			for len(got) >= 9 {
				length := int(got[0])<<16 | int(got[1])<<8 | int(got[2])
				kinds = append(kinds, got[3])
				body := got[9 : 9+length]
				if got[3] == 7 {
					last, code = binary.BigEndian.Uint32(body), binary.BigEndian.Uint32(body[4:])
				}
				got = got[9+length:]
			}
			if !bytes.Equal(kinds, []byte{4, 7}) || last != 0 || code != 0xd || len(got) != 0 {
				t.Errorf("got frames %v, last stream %d, code %#x and %q; want SETTINGS and GOAWAY 0 with HTTP_1_1_REQUIRED", kinds, last, code, got)
			}
		})
	}
	for _, ex := range d.exchanges(t, 2) {
		if ex.Error != proxy.HTTP11Required || ex.Status != http.StatusHTTPVersionNotSupported || ex.Outcome != proxy.Completed || ex.Path != "" {
			t.Errorf("got %+v", ex)
		}
	}
}

// curl says what it was told.
func TestHTTP2WithPriorKnowledgeByCurl(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("this machine lacks curl")
	}
	if out, err := exec.Command(curl, "--version").Output(); err != nil || !strings.Contains(string(out), "HTTP2") {
		t.Skip("this curl lacks HTTP/2")
	}
	d := start(t, proxy.Options{Upstream: upstream(t, func(http.ResponseWriter, *http.Request) { t.Error("upstream was asked") })})
	out, err := exec.Command(curl, "-sv", "--max-time", "10", "--noproxy", "*", "--http2-prior-knowledge", d.URL+"/x").CombinedOutput()
	if err == nil || strings.Contains(string(out), "timed out") {
		t.Errorf("got %v\n%s", err, out)
	}
	t.Logf("%s", out)
	if ex := d.exchanges(t, 1)[0]; ex.Error != proxy.HTTP11Required {
		t.Errorf("got %+v", ex)
	}
}
