package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/config"
)

// The window of a double click stays until Enter, whatever came of it.
func TestDoubleClickKeepsItsWindow(t *testing.T) {
	home := t.TempDir()
	for _, name := range []string{"HOME", "XDG_CONFIG_HOME", "AppData"} {
		t.Setenv(name, home)
	}
	enter, hand, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = enter.Close() }()
	var out bearerdtest.Output
	code := make(chan int)
	go func() { code <- runDoubleClicked(nil, nil, enter, &out, &out) }()
	out.Until(t, "Press Enter to close this window")
	if !strings.Contains(out.String(), "setup asks at a terminal") { // which a test has not
		t.Errorf("got no setup, but\n%s", &out)
	}
	select {
	case c := <-code:
		t.Fatalf("ended with %d before Enter", c)
	default:
	}
	if _, err := hand.WriteString("\r\n"); err != nil {
		t.Fatal(err)
	}
	if c := <-code; c != exitFailed {
		t.Errorf("got exit code %d, want 1", c)
	}

	// Where it is set up, but wrongly, that is to be read too.
	path, err := config.SavedFile()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("BEARERD_PRESET=nobody\nBEARERD_ADMIN_LISTEN=off\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out = bearerdtest.Output{}
	go func() { code <- runDoubleClicked(nil, nil, enter, &out, &out) }()
	out.Until(t, "Press Enter to close this window")
	if !strings.Contains(out.String(), "BEARERD_PRESET") {
		t.Errorf("got\n%s", &out)
	}
	_, _ = hand.WriteString("\n")
	if c := <-code; c != exitConfig {
		t.Errorf("got exit code %d, want 78", c)
	}
}
