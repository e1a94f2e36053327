package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/windows"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
)

func TestWhoElseMayRead(t *testing.T) {
	const me, other = "S-1-5-21-1-2-3-1001", "S-1-5-21-1-2-3-1002"
	user, err := windows.StringToSid(me)
	if err != nil {
		t.Fatal(err)
	}
	for sddl, want := range map[string]int{
		"O:" + me + "D:(A;;FA;;;SY)(A;;FA;;;BA)(A;;FA;;;" + me + ")":         0, // as in a profile
		"O:BAD:(A;;FA;;;BA)(A;;FR;;;" + me + ")(A;;FR;;;S-1-5-80-1-2-3-4-5)": 0, // as a service's
		"O:" + me + "D:(A;;FA;;;OW)(A;;FA;;;CO)(A;;FA;;;S-1-5-21-1-2-3-512)": 0,
		"O:" + me + "D:(A;;FA;;;BA)(A;;0x1200a9;;;BU)":                       1, // as on C:\
		"O:" + me + "D:(A;;FR;;;WD)(A;;FR;;;AU)":                             2,
		"O:" + me + "D:(A;;FR;;;" + other + ")":                              1,
		"O:" + me + "D:(A;;0x2;;;WD)":                                        1, // may change it
		"O:" + me + "D:(A;;GR;;;WD)":                                         1,
		"O:" + me + "D:(A;;0x80;;;WD)":                                       0, // its attributes alone
		"O:" + me + "D:(A;OICIIO;FA;;;WD)":                                   0, // of what is made in a folder
		"O:" + me + "D:(D;;FA;;;WD)":                                         0,
	} {
		sd, err := windows.SecurityDescriptorFromString(sddl)
		if err != nil {
			t.Fatal(sddl, err)
		}
		if got := othersOf(sd, user); len(got) != want {
			t.Errorf("%s: got %q, want %d", sddl, got, want)
		}
	}
}

func TestSecretFilesThatOthersCanRead(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	environ := bearerdtest.With("BEARERD_PASSWORD=", "BEARERD_PASSWORD_FILE="+secret)
	let := func(sddl string) {
		t.Helper()
		sd, err := windows.SecurityDescriptorFromString(sddl)
		if err != nil {
			t.Fatal(err)
		}
		acl, _, err := sd.DACL()
		if err != nil {
			t.Fatal(err)
		}
		if err := windows.SetNamedSecurityInfo(secret, windows.SE_FILE_OBJECT,
			windows.DACL_SECURITY_INFORMATION|windows.PROTECTED_DACL_SECURITY_INFORMATION, nil, nil, acl, nil); err != nil {
			t.Fatal(err)
		}
	}
	user, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		t.Fatal(err)
	}
	mine := "D:P(A;;FA;;;SY)(A;;FA;;;BA)(A;;FA;;;" + user.User.Sid.String() + ")"
	let(mine)
	if got := mustLoad(t, environ).Warnings; len(got) != 0 {
		t.Errorf("got %q, want no warning", got)
	}
	let(mine + "(A;;FR;;;WD)")
	got := mustLoad(t, environ).Warnings
	if len(got) != 1 || !strings.HasPrefix(got[0], "BEARERD_PASSWORD_FILE: ") || !strings.Contains(got[0], `; run icacls "`+secret+`" /inheritance:r /grant:r "`) {
		t.Errorf("got %q, want one that says how to close it", got)
	}
}
