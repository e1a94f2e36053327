package config

import (
	"strings"
	"testing"

	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

// Whoever adds a preset adds its login server to the simulator: tests, demo and
// docs try each preset there.
func TestEveryPresetHasAVendorInTheSimulator(t *testing.T) {
	vendors := make(map[string]querysim.Vendor)
	for _, v := range querysim.Vendors() {
		vendors[v.Name] = v
		if _, ok := presets[v.Name]; !ok {
			t.Errorf("%s is a vendor of the simulator, and no preset", v.Name)
		}
	}
	for name, p := range presets {
		v, ok := vendors[name]
		if !ok {
			t.Errorf("preset %s has no vendor in the simulator", name)
			continue
		}
		if url := p.values["BEARERD_TOKEN_URL"]; !strings.HasSuffix(url, v.LoginPath) {
			t.Errorf("%s: the preset's token URL is %s, the simulator's path %s", name, url, v.LoginPath)
		}
		for variable, want := range map[string]string{"BEARERD_TOKEN_HOST": v.LoginHost, "BEARERD_GRANT_TYPE": v.GrantType} {
			if got := p.values[variable]; got != want {
				t.Errorf("%s: %s is %q in the preset and %q in the simulator", name, variable, got, want)
			}
		}
		if id := p.values["BEARERD_CLIENT_ID"]; !p.client && id != v.ClientID {
			t.Errorf("%s: the client is %q in the preset and %q in the simulator", name, id, v.ClientID)
		}
	}
}
