package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/config"
)

func TestParseCommand(t *testing.T) {
	for _, test := range []struct {
		args string
		want command // or
		err  string  // a part of the error
	}{
		{"", command{name: "serve"}, ""},
		{"serve", command{name: "serve"}, ""},
		{"-preset vyopta", command{name: "serve", preset: "vyopta"}, ""},
		{"serve --preset=vyopta -env-file f", command{name: "serve", preset: "vyopta", envFile: "f"}, ""},
		{"-env-file f check", command{name: "check", envFile: "f"}, ""},
		{"-env-file f check -env-file g", command{name: "check", envFile: "g"}, ""},
		{"check -all", command{name: "check", all: true}, ""},
		{"check -path /a?b=c -json", command{name: "check", path: "/a?b=c", json: true}, ""},
		{"healthcheck -wait 30s", command{name: "healthcheck", wait: 30 * time.Second}, ""},
		{"-h", command{name: "help"}, ""},
		{"--help", command{name: "help"}, ""},
		{"healthcheck -h", command{name: "help"}, ""},
		{"help", command{name: "help"}, ""},
		{"-version", command{name: "version"}, ""},
		{"version", command{name: "version"}, ""},
		{"demo", command{name: "demo"}, ""},
		{"demo -faults", command{name: "demo", faults: true}, ""},

		{"serv", command{}, `unknown command "serv"`},
		{"-x", command{}, "settings are environment variables"},
		{"-preset", command{}, "preset"},
		{"-preset=", command{}, "-preset has no value"},
		{"check -path x", command{}, "must begin with a slash"},
		{"serve -path /x", command{}, "bearerd check -path"},
		{"-json check", command{}, "bearerd check -json"},
		{"-faults demo", command{}, "bearerd demo -faults"},
		{"check -faults", command{}, "bearerd demo -faults"},
		{"demo -faults=x", command{}, "faults"},
		{"demo -faults x", command{}, `"x"`},
		{"serve -x", command{}, "not defined: -x"},
		{"check x", command{}, `"x"`},
		{"demo -preset vyopta", command{}, "needs no settings"},
		{"healthcheck -wait 30", command{}, "write 30s"},
		{"healthcheck -wait -1s", command{}, "negative"},
	} {
		got, err := parseCommand(strings.Fields(test.args))
		switch {
		case test.err != "":
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("bearerd %s: got %v, want an error with %q", test.args, err, test.err)
			}
		case err != nil || got != test.want:
			t.Errorf("bearerd %s: got %+v, %v; want %+v", test.args, got, err, test.want)
		}
	}
}

// Neither is one on the command line, wherever there.
func TestThreatPasswordOnTheCommandLine(t *testing.T) {
	const password = "hunter2-Secret"
	file := bearerdtest.WriteFile(t, password+"\r\n")
	for _, secret := range []string{"BEARERD_PASSWORD=" + password, "BEARERD_PASSWORD_FILE=" + file} {
		for _, args := range [][]string{
			{password}, {"-" + password}, {"--" + password + "=x"}, {"serve", password}, {"-preset", password}, {"-preset=" + password}, {"-env-file", password}, {"-env-file", "/tmp/" + password},
			{"check", "-path", password}, {"check", "-json=" + password}, {"healthcheck", "-wait", password}, {"healthcheck", "-wait=" + password}, {"-env-file"},
		} {
			var stdout, stderr bytes.Buffer
			env := bearerdtest.With(secret, "BEARERD_LISTEN=localhost:0", "BEARERD_ADMIN_LISTEN=off", "BEARERD_TOKEN_WAIT=x")
			if code := run(args, env, nil, &stdout, &stderr); code == exitOK {
				t.Errorf("%q: got %d, want an error", args, code)
			}
			if said := stdout.String() + stderr.String(); said == "" || strings.Contains(strings.ToLower(said), strings.ToLower(password)) {
				t.Errorf("%q: %s", args, said)
			}
		}
	}
	var stderr bytes.Buffer
	run([]string{"sevre"}, bearerdtest.With("BEARERD_PASSWORD="+password), nil, &stderr, &stderr)
	if !strings.Contains(stderr.String(), `"sevre"`) {
		t.Errorf("got %s, want the word that is wrong", &stderr)
	}
}

func TestHelpNamesEverySetting(t *testing.T) {
	var help strings.Builder
	config.WriteHelp(&help)
	for _, s := range config.SettingsOf(new(config.Config)) {
		if s.Desc == "" {
			t.Errorf("%s has no desc", s.Name)
		}
		if s.Def != "" && s.Unset != "" {
			t.Errorf("%s has a default and says what unset means", s.Name)
		}
		if n := strings.Count(help.String(), "\n  "+s.Name+"\n") + strings.Count(help.String(), "\n  "+s.Name+" ("); n != 1 {
			t.Errorf("%s is in the help %d times", s.Name, n)
		}
		if !strings.Contains(help.String(), "\n  "+s.Name+" (default "+s.Def+")\n") && s.Def != "" {
			t.Errorf("%s: its default is not in the help", s.Name)
		}
	}
	for line := range strings.Lines(usage + help.String()) {
		if len(line) > 81 && !strings.Contains(line, "https://") {
			t.Errorf("%d columns: %s", len(line)-1, line)
		}
	}
	if !strings.Contains(help.String(), "BEARERD_CLIENT_ID=WXP Collaboration\n") {
		t.Error("the presets are not in the help")
	}
}
