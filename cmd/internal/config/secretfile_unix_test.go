//go:build unix

package config

import (
	"os"
	"strings"
	"testing"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
)

func TestSecretFilesThatOthersCanRead(t *testing.T) {
	cert, key := writeKeyPair(t)
	secret := bearerdtest.WriteFile(t, "X-Key: hunter2")
	environ := bearerdtest.With("BEARERD_PASSWORD=", "BEARERD_PASSWORD_FILE="+secret, "BEARERD_REQUIRE_HEADER_FILE="+secret,
		"BEARERD_CLIENT_CERT_FILE="+cert, "BEARERD_CLIENT_KEY_FILE="+key)
	chmod := func(path string, mode os.FileMode) {
		t.Helper()
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	warned := func(names ...string) {
		t.Helper()
		got := mustLoad(t, environ).Warnings
		if len(got) != len(names) {
			t.Errorf("got %q, want %q", got, names)
			return
		}
		for i, name := range names {
			if !strings.HasPrefix(got[i], "BEARERD_"+name+": /") || !strings.Contains(got[i], "; run chmod 600 /") {
				t.Errorf("got %q, want one of %s", got[i], name)
			}
		}
	}
	chmod(key, 0o600)
	warned()
	chmod(key, 0o640)
	chmod(secret, 0o644)
	warned("PASSWORD_FILE", "REQUIRE_HEADER_FILE", "CLIENT_KEY_FILE")
	// A link's own mode says nothing.
	chmod(secret, 0o600)
	chmod(key, 0o400)
	link := secret + "-link"
	if err := os.Symlink(secret, link); err != nil {
		t.Fatal(err)
	}
	environ = bearerdtest.With("BEARERD_PASSWORD=", "BEARERD_PASSWORD_FILE="+link)
	warned()
	chmod(secret, 0o604)
	warned("PASSWORD_FILE")
	// Another user's, as a mount of Kubernetes is for who runs bearerd there.
	if os.Getuid() == 0 {
		if err := os.Chown(secret, 65532, 65532); err != nil {
			t.Fatal(err)
		}
		warned()
	}
}

func TestEnvFileThatOthersCanRead(t *testing.T) {
	file := bearerdtest.WriteFile(t, "BEARERD_PASSWORD=hunter2\n")
	for mode, want := range map[os.FileMode]int{0o600: 0, 0o640: 1} {
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		_, warnings, err := Sources{EnvFile: file}.gather(nil)
		if err != nil || len(warnings) != want || want > 0 && warnings[0] != "-env-file: "+file+" has the mode 0640, with which other users may read or change it; run chmod 600 "+file {
			t.Errorf("%04o: got %q, %v", mode, warnings, err)
		}
	}
}
