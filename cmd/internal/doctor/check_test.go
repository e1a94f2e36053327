package doctor

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/assembly"
	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/config"
	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

func TestCheckHasALimit(t *testing.T) {
	w := bearerdtest.NewWorld(t, querysim.Options{}, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	cfg, err := config.Sources{Environ: w.Env("vyopta")}.Load(nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	r := newReport("")
	out := assembly.NewWayOut(cfg)
	token := r.logIn(t.Context(), cfg, out)
	r.askUpstream(t.Context(), cfg, out, &url.URL{Path: "/x"}, token, 50*time.Millisecond)
	r.judge()
	if r.Healthy || len(r.Problems) != 1 || r.Problems[0].Remedy == "" || !strings.Contains(r.Problems[0].Problem, "no answer within 50ms") {
		t.Errorf("got %+v, want that there was no answer, and a remedy", r.Problems)
	}
}
