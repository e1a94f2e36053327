package config

import (
	"strings"
	"testing"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/tokens"
)

// A password typed into another variable than its own is not shown by any message
// about that, whatever the variable and wherever the password is set.
func TestThreatPasswordInAnotherVariable(t *testing.T) {
	for i, password := range []string{
		"Hunter-2.Secret", "12345678901", "unix:hunter2", "//hunter2:9", "hunter2://x", "https://hunter2/../x", "hunter2,hunter3", "hunter2 ", `hu"nter\2`, "[hunter2", strings.Repeat("hunter2", 40), "u@hunter2", "häunter2", "/hunter2/x",
	} {
		file := bearerdtest.WriteFile(t, password+"\n")
		for _, secret := range []string{
			"BEARERD_PASSWORD=" + password, "BEARERD_PASSWORD_FILE=" + file, "BEARERD_CLIENT_SECRET=" + password, "BEARERD_USERNAME=" + password,
		} {
			name, _, _ := strings.Cut(secret, "=")
			if i > 0 && name != "BEARERD_PASSWORD" {
				continue // once is enough
			}
			for _, s := range SettingsOf(new(Config)) {
				if _, ok := s.field.Interface().(tokens.Secret); ok || s.Name == name || s.Name == strings.TrimSuffix(name, "_FILE") {
					continue
				}
				given := []given{{fromEnvironment, bearerdtest.With(secret, s.Name+"="+password)}}
				said := saidOf(given...)
				for part := range strings.SplitSeq(password, ",") {
					if strings.Contains(strings.ToLower(said), strings.ToLower(strings.TrimSpace(part))) {
						t.Errorf("%s as in %s: %s", s.Name, name, said)
					}
				}
			}
		}
	}
}

// saidOf is all that reading a configuration says.
func saidOf(given ...given) string {
	c, err := loadConfig(given...)
	said := strings.Join(c.Warnings, "\n")
	if err != nil {
		said = err.Error()
	}
	return said
}

// Other values are shown as before, as is one that is a secret's in part by
// chance, and the remedy stays.
func TestWhatIsNoSecretIsShown(t *testing.T) {
	for _, test := range []struct{ password, value, want string }{
		{"hunter2", "10", `"10" has no unit; write 10s`},
		{"10", "10s x", `"10s x" is not a duration; write e.g. 10s, 1m30s or 500ms`},
		{"s", "10sx", `"10sx" is not a duration; write e.g. 10s, 1m30s or 500ms`},
		{"ten", "ten", `the value is not a duration; write e.g. 10s, 1m30s or 500ms (it is not shown, as it is a secret's too)`},
		{"hunter2", "hunt", `the value is not a duration; write e.g. 10s, 1m30s or 500ms (it is not shown, as it is a secret's too)`},
		{"hunter2", "my hunter2", `the value is not a duration; write e.g. 10s, 1m30s or 500ms (it is not shown, as it is a secret's too)`},
		{"hunter2", "HUNTER2", `the value is not a duration; write e.g. 10s, 1m30s or 500ms (it is not shown, as it is a secret's too)`},
		{"a b c d", "a%20b%20c%20d", `the value is not a duration; write e.g. 10s, 1m30s or 500ms (it is not shown, as it is a secret's too)`},
		{"12345678", "12345678", `the value cannot be used; it is not shown, as it is a secret's too`},
	} {
		said := saidOf(given{fromEnvironment, bearerdtest.With("BEARERD_PASSWORD="+test.password, "BEARERD_LOGIN_TIMEOUT="+test.value)})
		if want := "BEARERD_LOGIN_TIMEOUT: " + test.want; said != want {
			t.Errorf("%q, the password %q: got %s, want %s", test.value, test.password, said, want)
		}
	}
}

// A part of the parameters and the value of the header are secrets too.
func TestThreatPartsOfSecretsAreNotShown(t *testing.T) {
	for _, secret := range []string{"BEARERD_TOKEN_PARAMS=a=b&key=hunter%2D2", "BEARERD_REQUIRE_HEADER=X-Key: hunter-2"} {
		for _, wrong := range []string{"BEARERD_LOGIN_TIMEOUT=hunter-2", "BEARERD_HUNTER-2=x", "BEARERD_LISTEN=hunter-2:1"} {
			if said := saidOf(given{fromEnvironment, bearerdtest.With(secret, wrong)}); said == "" || strings.Contains(strings.ToLower(said), "hunter") {
				t.Errorf("%s and %s: %s", secret, wrong, said)
			}
		}
	}
}

// What a secret in the environment may not hold is bad configuration, and the
// message says where it is.
func TestThreatSecretInTheEnvironment(t *testing.T) {
	for value, want := range map[string]string{
		"hunt\xe9r2":       "it is not UTF-8, and looks like Latin-1 or Windows-1252 (line 1, byte 5): save it as UTF-8",
		"hunter2\nhunter3": "it must be one line, and goes on behind the end of the first",
		"hunter2\t":        "it has a tab (line 1, byte 8)",
		"\x16hunter2":      "it has a control character (line 1, byte 1)",
	} {
		for _, name := range []string{"BEARERD_PASSWORD", "BEARERD_USERNAME", "BEARERD_CLIENT_SECRET", "BEARERD_TOKEN_PARAMS", "BEARERD_REQUIRE_HEADER", "BEARERD_CLIENT_ID", "BEARERD_SCOPE"} {
			if !strings.Contains(name, "SECRET") && !strings.Contains(name, "PASSWORD") && strings.TrimSpace(value) != value {
				continue // the space is not theirs
			}
			if got := problems(t, bearerdtest.With(name+"="+value)); len(got) != 1 || got[0] != name+": "+want {
				t.Errorf("%s=%q: got %q, want %q", name, value, got, want)
			}
		}
	}
}
