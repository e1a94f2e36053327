package monitoring_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/bearerd/bearerd/deploy/verify/internal/testenv"
)

const rulesFile = "../../prometheus/rules.yml"

func promtool(t *testing.T, args ...string) (output string, err error) {
	t.Helper()
	out, err := exec.Command(testenv.Program(t, "promtool"), args...).CombinedOutput()
	return string(out), err
}

func TestRules(t *testing.T) {
	if out, err := promtool(t, "check", "rules", rulesFile); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := promtool(t, "test", "rules", "../../prometheus/rules_test.yml"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// That the tests of the rules can fail: each of these changes makes them.
func TestWrongRulesFail(t *testing.T) {
	t.Parallel()
	rules, err := os.ReadFile(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	tests, err := os.ReadFile("../../prometheus/rules_test.yml")
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range []struct{ old, new string }{
		{"bearerd_token_expiry_timestamp_seconds - bearerd_clock_skew_seconds or ", ""},
		{" or bearerd_token_expiry_timestamp_seconds)", ")"},
		{`5..|401|aborted`, `4..|5..|401|aborted`},
		{`5..|401|aborted`, `5..|aborted`},
		{"            or 0 * rate(bearerd_request_duration_seconds_count[10m])\n", ""},
		{`{outcome="replayed"}`, ""},
		{"(rate(bearerd_token_wait_seconds_count[10m]) > 0)", "rate(bearerd_token_wait_seconds_count[10m])"},
		{`          sum without (result) (bearerd_logins_total{result="rejected"}) > 0` + "\n          and (", "          ("},
		{`[5m])) > 0`, `[5m])) > 2`},
		{"80m])) > 0", "60m])) > 0"},
		{`bearerd_ready == 0 or sum`, `sum`},
		{`bearerd_ready == 0 or sum without (result) (increase(bearerd_logins_total{result="ok"}[80m])) == 0`, "bearerd_ready == 0"},
		{"bearerd_login_stopped == 1", "bearerd_login_stopped == 0"},
		{"bearerd_ready == 0\n        for: 2m", "bearerd_ready == 0\n        for: 1m"},
		{"bearerd_ready == 0\n        for: 2m", "bearerd_ready == 0\n        for: 5m"},
		{"0.1 * bearerd_token_lifetime_seconds", "0.3 * bearerd_token_lifetime_seconds"},
		{"0.1 * bearerd_token_lifetime_seconds", "0"},
		{"          and increase(bearerd_token_wait_seconds_count[2m]) > 0\n", ""},
		{"bearerd_token_wait_seconds_count[2m]", "bearerd_token_wait_seconds_count[5m]"},
		{"bearerd_token_wait_seconds_count[2m]", "bearerd_request_duration_seconds_count[2m]"}, // the guard's refusals are no use
		{"bearerd_replays:ratio_rate10m > 0.05\n        for: 15m", "bearerd_replays:ratio_rate10m > 0.05\n        for: 5m"},
		{"bearerd_replays:ratio_rate10m > 0.05", "bearerd_replays:ratio_rate10m > 0.01"},
		{"bearerd_replays:ratio_rate10m > 0.05", "bearerd_replays:ratio_rate10m > 0.5"},
		{"bearerd_request_errors:ratio_rate10m > 0.05\n        for: 15m", "bearerd_request_errors:ratio_rate10m > 0.05\n        for: 5m"},
		{"bearerd_request_errors:ratio_rate10m > 0.05", "bearerd_request_errors:ratio_rate10m > 0.1"},
		{"abs(bearerd_clock_skew_seconds)", "bearerd_clock_skew_seconds"},
		{"abs(bearerd_clock_skew_seconds) >= 5", "abs(bearerd_clock_skew_seconds) >= 4"},
		{"          and increase(bearerd_token_wait_seconds_count[1h]) > 0\n        for: 15m", "        for: 15m"},
		{"[1h]) > 0\n        for: 15m", "[1h]) > 0\n        for: 5m"},
		{"bearerd_shared_up == 0\n        for: 5m", "bearerd_shared_up == 0\n        for: 2m"},
		{"bearerd_shared_up == 0", "bearerd_shared_up == 1"},
		{" and ignoring (version, goversion) present_over_time(bearerd_build_info[1h])", ""},
		{"[1h])\n        for: 5m", "[1h])\n        for: 1m"},
	} {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			wrong := strings.Replace(string(rules), change.old, change.new, 1)
			if wrong == string(rules) {
				t.Fatalf("the rules have no %q", change.old)
			}
			dir := t.TempDir()
			for name, text := range map[string]string{"rules.yml": wrong, "rules_test.yml": string(tests)} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			out, err := promtool(t, "test", "rules", filepath.Join(dir, "rules_test.yml"))
			if err == nil || !strings.Contains(out, "exp:") {
				t.Errorf("%q for %q: got %v, want a test to fail\n%s", change.new, change.old, err, out)
			}
		})
	}
}

// TestRulesOfARunningBearerd has a Prometheus evaluate the rules on what
// bearerds really expose.
func TestRulesOfARunningBearerd(t *testing.T) {
	t.Parallel()
	m := monitor(t)
	firing := func(instance, alert string) bool {
		return len(m.query(t, fmt.Sprintf(`ALERTS{alertname=%q,alertstate="firing",instance=%q}`, alert, instance))) == 1
	}
	testenv.Eventually(t, "the refused login alerts", func() bool { return firing("refused", "BearerdLoginRejected") })
	testenv.Eventually(t, "logins stopped", func() bool {
		status(t, http.MethodPost, m.refused+"/login", "", nil)
		return firing("refused", "BearerdLoginStopped")
	})
	testenv.Eventually(t, "BearerdNotReady, pending or firing", func() bool {
		return len(m.query(t, `ALERTS{alertname="BearerdNotReady",instance="refused"}`)) == 1
	})
	testenv.Eventually(t, "BearerdSharedLost, pending", func() bool {
		return len(m.query(t, `ALERTS{alertname="BearerdSharedLost",instance="idle"}`)) == 1
	})
	if got := m.query(t, `ALERTS{instance="idle",alertname!~"BearerdDown|BearerdSharedLost"} or ALERTS{alertstate="firing",instance=~"idle|used"}`); len(got) != 0 {
		t.Errorf("got %v, want silence", got)
	}

	var rules struct {
		Groups []struct {
			Rules []struct {
				Name, Query, Type, Health, LastError string
				Alerts                               []struct{ Annotations map[string]string }
			}
		}
	}
	if err := m.get("/api/v1/rules", &rules); err != nil {
		t.Fatal(err)
	}
	var used []string
	for _, group := range rules.Groups {
		for _, rule := range group.Rules {
			if rule.Health != "ok" {
				t.Errorf("%s is %s: %s", rule.Name, rule.Health, rule.LastError)
			}
			if rule.Type == "recording" {
				used = append(used, rule.Name+`{instance="used"}`)
			}
			used = append(used, selectors(rule.Query)...)
			for _, alert := range rule.Alerts {
				for name, text := range alert.Annotations {
					if strings.Contains(text, "<") {
						t.Errorf("%s, %s: %s", rule.Name, name, text)
					}
				}
			}
		}
	}
	if len(used) < 20 {
		t.Errorf("series in the rules: got %q, want more", used)
	}
	var lost []string
	defer func() {
		if lost != nil {
			t.Errorf("no bearerd has %q", lost)
		}
	}()
	testenv.Eventually(t, "all series of the rules", func() bool {
		lost = m.lost(t, used...)
		return lost == nil
	})
	for _, wrong := range []string{`bearerd_logins_total{result="refused"}`, `bearerd_token_age_seconds`, `bearerd_ready{result="ok"}`} {
		if got := m.lost(t, selectors(wrong+" > 0")...); !slices.Equal(got, []string{wrong}) {
			t.Errorf("%s: got %q, want that it is lost", wrong, got)
		}
	}
}

// selectors returns the series that an expression selects.
func selectors(expr string) []string {
	return regexp.MustCompile(`\b(instance:)?(bearerd|process|go)_\w+(:\w+)*(\{[^}]*\})?`).FindAllString(expr, -1)
}
