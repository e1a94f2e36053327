package main

import (
	"strings"
	"testing"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

// Processes that share an engine log in once, refuse once, and go on without it.
func TestSharedEndToEnd(t *testing.T) {
	t.Parallel()
	redis := bearerdtest.StartRedis(t)
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	env := append(w.Env("vyopta"), "BEARERD_SHARED=unix://"+redis.Socket)
	client := bearerdtest.NewClient(t)
	var all []*bearerdtest.Process
	for range 4 {
		p := w.Start(t, env...)
		if status, _, body := bearerdtest.Fetch(t, client, p.URL+bearerdtest.NamesPath); status != 200 {
			t.Fatalf("got %d %s, want 200", status, body)
		}
		all = append(all, p)
	}
	if got := w.Sim.Stats().Logins; got != 1 {
		t.Errorf("got %d logins of four processes, want 1", got)
	}
	last := all[3]
	last.Until(`"shared":"unix://` + redis.Socket + `"`)
	last.Until(`"adopted":true`)
	for series, want := range map[string]float64{
		"bearerd_shared_up": 1, "bearerd_shared_adopted_total": 1, `bearerd_logins_total{result="ok"}`: 0,
		`bearerd_shared_operations_total{op="lease",result="ok"}`: 0,
	} {
		if got := last.Metric(series); got != want {
			t.Errorf("%s: got %v, want %v", series, got, want)
		}
	}

	wrong := append(bearerdtest.Without(env, "BEARERD_PASSWORD"), "BEARERD_PASSWORD=wrong")
	for range 3 {
		p := w.Start(t, wrong...)
		if status, _, _ := bearerdtest.Fetch(t, client, p.URL+bearerdtest.NamesPath); status != 502 {
			t.Errorf("got %d with a wrong password, want 502", status)
		}
	}
	if got := w.Sim.Stats().Logins; got != 2 {
		t.Errorf("got %d logins, want one more for a wrong password", got)
	}

	redis.Kill()
	bearerdtest.Eventually(t, bearerdtest.Soon, "the loss is told", func() bool {
		last.LogInAgain() // which asks the engine, and goes on without it
		return strings.Contains(last.Text(), `"message":"shared engine lost"`)
	})
	if status, _, body := bearerdtest.Fetch(t, client, last.URL+bearerdtest.NamesPath); status != 200 {
		t.Errorf("without the engine: got %d %s, want 200", status, body)
	}
	if got := last.Metric("bearerd_ready"); got != 1 {
		t.Errorf("without the engine it is not ready")
	}
	redis.Start()
	bearerdtest.Eventually(t, bearerdtest.Soon, "it joins again", func() bool { return last.Metric("bearerd_shared_up") == 1 })
	last.Until(`"message":"shared engine found"`)
}
