package setup

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/config"
	"github.com/bearerd/bearerd/cmd/internal/keyring"
	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

// memory is a store in memory.
type memory struct {
	entries map[string]string
	fails   error // of Set
}

func (m memory) Get(name string, _ bool) (string, error) {
	if secret, ok := m.entries[name]; ok {
		return secret, nil
	}
	return "", keyring.Error{Problem: keyring.Missing}
}

func (m memory) Set(name, secret string) error {
	if m.fails != nil {
		return m.fails
	}
	m.entries[name] = secret
	return nil
}

func (m memory) Delete(name string) error { delete(m.entries, name); return nil }

// scripted is a setup without a terminal, for an account of w.
func scripted(t *testing.T, w *bearerdtest.World, store keyring.Backend) Options {
	t.Helper()
	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	_ = l.Close()
	return Options{
		Answers: Answers{
			Preset: "vyopta", Username: querysim.Username, PasswordFile: bearerdtest.WriteFile(t, querysim.Password), Port: port,
			File: filepath.Join(t.TempDir(), "folder", "settings.env"), Yes: true,
		},
		Environ: bearerdtest.Without(w.Env("vyopta"), "BEARERD_PRESET", "BEARERD_USERNAME", "BEARERD_PASSWORD"),
		Store:   keyring.New(store),
		Browse:  func(string) error { t.Error("a page was opened unasked"); return nil },
	}
}

// What setup hands to the system is a file that works, and a failure there leaves the
// set-up whole.
func TestStartedByTheSystem(t *testing.T) {
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	store := memory{entries: map[string]string{}}
	o := scripted(t, w, store)
	for _, fails := range []error{nil, errors.New("not permitted")} {
		var installed string
		o.Install = func(envFile string, _ io.Writer) error {
			installed = envFile
			return fails
		}
		var out bytes.Buffer
		result, err := Run(o, nil, &out)
		if !errors.Is(err, fails) || result.ServeFrom != "" || installed != o.Answers.File {
			t.Errorf("got %+v, %v, installed from %q\n%s", result, err, installed, &out)
		}
		cfg, err := config.Sources{EnvFile: o.Answers.File}.Load(nil, &out)
		if err != nil || cfg.PasswordKeyring != "vyopta" || store.entries["vyopta"] != querysim.Password {
			t.Errorf("the settings: got %q, %v", cfg.PasswordKeyring, err)
		}
		if strings.Contains(out.String(), querysim.Password) {
			t.Error("the password was shown")
		}
	}
}

// Another service takes nothing of the one before, and lines of one's own stay.
func TestAnotherService(t *testing.T) {
	s := &setup{port: defaultPort, admin: "9181",
		old:   []string{"BEARERD_UPSTREAM=https://old.example", "BEARERD_TOKEN_URL=https://old.example/t", "BEARERD_GRANT_TYPE=password", "BEARERD_KEEP_WARM=true"},
		taken: []string{"BEARERD_CA_FILE=/ca.pem"},
		login: loginAnswers{lines: []string{"BEARERD_PRESET=vyopta", "BEARERD_USERNAME=me"}}}
	want := []string{"BEARERD_PRESET=vyopta", "BEARERD_USERNAME=me", "BEARERD_ADMIN_LISTEN=localhost:9181", "BEARERD_CA_FILE=/ca.pem", "BEARERD_KEEP_WARM=true"}
	if got := s.lines(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	s.old = append(s.old, "BEARERD_PRESET=vyopta")
	if got := value(s.lines(), "BEARERD_UPSTREAM"); got != "https://old.example" {
		t.Errorf("of the same service: got %q", got)
	}
}

// What was there before is there again, where a step fails.
func TestAFailureTakesBack(t *testing.T) {
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	store := memory{entries: map[string]string{"vyopta": "before"}}
	o := scripted(t, w, store)
	if err := os.MkdirAll(o.Answers.File, 0o700); err != nil { // a folder: no file can be written there
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := Run(o, nil, &out); err == nil {
		t.Fatalf("got no error\n%s", &out)
	}
	o.Answers.File = filepath.Join(o.Answers.File, "x", "settings.env")
	store.fails = keyring.Error{Problem: keyring.Denied}
	o.Store = keyring.New(store)
	if _, err := Run(o, nil, &out); err == nil || !strings.Contains(err.Error(), "nothing was changed") || !strings.Contains(err.Error(), "-keep file") {
		t.Errorf("got %v", err)
	}
	if store.entries["vyopta"] != "before" || bearerdtest.IsThere(o.Answers.File) {
		t.Errorf("got %q in the store, and settings: %v", store.entries["vyopta"], bearerdtest.IsThere(o.Answers.File))
	}
	s := &setup{Options: o, out: &out, file: filepath.Join(t.TempDir(), "settings.env"), port: defaultPort, admin: defaultAdmin}
	store.fails = nil
	s.Store = keyring.New(store)
	s.login = loginAnswers{lines: []string{`BEARERD_USERNAME='it's #1`}, secretOf: "PASSWORD", host: "vyopta"} // no line can hold it
	s.secret = "new"
	if err := s.write(context.Background(), keepInStore); err == nil || store.entries["vyopta"] != "before" || bearerdtest.IsThere(s.file) {
		t.Errorf("got %v, %q in the store", err, store.entries["vyopta"])
	}
}

// Every line reads back as it was.
func TestEnvLines(t *testing.T) {
	for _, value := range []string{"plain", "me@example.com", "a b", "a #b", `"quoted"`, "'x", `back\slash $HOME`, "ä€"} {
		line, err := envLine("BEARERD_USERNAME=" + value)
		if err != nil {
			if !strings.Contains(value, "'") {
				t.Errorf("%q: %v", value, err)
			}
			continue
		}
		back, err := config.ReadSettings(bearerdtest.WriteFile(t, line+"\n"))
		if err != nil || len(back) != 1 || back[0] != "BEARERD_USERNAME="+value {
			t.Errorf("%q: got %q, %v", value, back, err)
		}
	}
}
