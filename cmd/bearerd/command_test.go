package main

import (
	"strings"
	"testing"
	"time"
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
