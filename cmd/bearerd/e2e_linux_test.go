package main

import (
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"testing"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/longtest"
	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

// noise is n bytes that no two ranges share, from a seed.
func noise(n int64) io.Reader { return io.LimitReader(&noiseReader{r: rand.NewPCG(1, 2)}, n) }

type noiseReader struct{ r *rand.PCG }

func (n *noiseReader) Read(p []byte) (int, error) {
	whole := len(p) &^ 7
	if whole == 0 {
		p[0] = byte(n.r.Uint64())
		return 1, nil
	}
	for i := 0; i < whole; i += 8 {
		binary.LittleEndian.PutUint64(p[i:], n.r.Uint64())
	}
	return whole, nil
}

const gib = 1 << 30

func TestGiBEachWayMemoryFlat(t *testing.T) {
	longtest.Mark(t, "moves 2 GiB")
	w := bearerdtest.NewWorld(t, querysim.Options{}, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			bearerdtest.Digest(rw, r)
			return
		}
		rw.Header().Set("Content-Length", strconv.Itoa(gib))
		_, _ = io.Copy(rw, noise(gib))
	}))
	p := w.Serve(t)
	c := bearerdtest.NewClient(t)
	// What a few requests need is there before the peak is first read.
	for range 20 {
		fetchPost(t, c, p.URL+"/up", noise(1<<20), 1<<20)
	}
	before := p.Memory("VmHWM")
	want := bearerdtest.DigestReader(noise(gib))
	if got := fetchPost(t, c, p.URL+"/up", noise(gib), gib); got != want {
		t.Errorf("1 GiB up: got %q, want %q", got, want)
	}
	if got := fetchPost(t, c, p.URL+"/up", noise(gib), -1); got != want {
		t.Errorf("1 GiB up, length unknown: got %q, want %q", got, want)
	}
	resp, err := c.Get(p.URL + "/down")
	if err != nil {
		t.Fatal(err)
	}
	got := bearerdtest.DigestReader(resp.Body)
	_ = resp.Body.Close()
	if got != want {
		t.Errorf("1 GiB down: got %q, want %q", got, want)
	}
	after := p.Memory("VmHWM")
	t.Logf("VmHWM: %d KiB before, %d KiB after", before, after)
	if after-before > 16<<10 {
		t.Errorf("peak memory grew by %d KiB, want at most 16 MiB", after-before)
	}
}

func TestLargeUploadOnRevokedTokenIsReplayedWhole(t *testing.T) {
	w := bearerdtest.NewWorld(t, querysim.Options{}, http.HandlerFunc(bearerdtest.Digest))
	p := w.Serve(t)
	c := bearerdtest.NewClient(t)
	bearerdtest.Fetch(t, c, p.URL+"/")
	w.Sim.Revoke()
	const size = 50 << 20
	if got, want := fetchPost(t, c, p.URL+"/up", noise(size), size), bearerdtest.DigestReader(noise(size)); got != want {
		t.Errorf("50 MiB on a revoked token: got %q, want %q", got, want)
	}
	if got := w.Sim.Stats(); got.Logins != 2 || got.Unauthorized != 1 {
		t.Errorf("got %+v, want 2 logins and one 401", got)
	}
	if got := p.Metric(`bearerd_upstream_unauthorized_total{outcome="replayed"}`); got != 1 {
		t.Errorf("replayed: got %v, want 1", got)
	}
}

// fetchPost posts a body and returns what a 200 says; length -1 is chunked.
func fetchPost(t testing.TB, c *http.Client, url string, body io.Reader, length int64) string {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, url, body)
	if err != nil {
		t.Fatal(err)
	}
	req.ContentLength = length
	status, _, got := bearerdtest.Do(t, c, req)
	if status != 200 {
		t.Fatalf("POST: got %d %q, want 200", status, got)
	}
	return got
}
