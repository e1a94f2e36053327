package daemon

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/windows"
)

// The identity of a service that every Windows has (sc showsid TrustedInstaller).
func TestServiceSID(t *testing.T) {
	const want = "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464"
	for _, name := range []string{"TrustedInstaller", "trustedinstaller"} {
		if got := serviceSID(name); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}

func TestClosedFolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	for _, want := range []bool{true, false} { // made, then taken over
		if made, err := closedFolder(path, "bearerd", mayRead); err != nil || made != want {
			t.Errorf("got %v, %v, want %v", made, err, want)
		}
	}
	file := filepath.Join(path, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := closedFolder(file, "bearerd", mayRead); err == nil {
		t.Error("a file in its place: got no error")
	}
	sd, err := windows.SecurityDescriptorFromString("O:BAD:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;" + mayReadMore + ";;;" + serviceSID("x") + ")")
	if err != nil {
		t.Fatal(err)
	}
	if acl, _, err := sd.DACL(); err != nil || acl.AceCount != 3 {
		t.Errorf("got %+v, %v, want three entries", acl, err)
	}
}
