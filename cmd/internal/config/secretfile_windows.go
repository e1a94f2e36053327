package config

import (
	"fmt"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/windows"
)

// exposure says who else may read or change a file of secrets, and what to do; it
// is empty where nobody may. Who administers the machine is nobody else.
func exposure(path string) string {
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return ""
	}
	sd, err := windows.GetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION|windows.DACL_SECURITY_INFORMATION)
	if err != nil {
		return ""
	}
	user, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return ""
	}
	who := othersOf(sd, user.User.Sid)
	if who == nil {
		return ""
	}
	// It names the user, as cmd and PowerShell write variables in different ways.
	return fmt.Sprintf(`%s may be read or changed by %s; run icacls "%[1]s" /inheritance:r /grant:r "%[3]s:F"`,
		path, strings.Join(who, ", "), nameOf(user.User.Sid))
}

// othersOf returns whom an access list lets read or write besides its owner, the
// user, the system, Administrators and services. A right that is refused before
// it is granted is not looked for: that a list is read too strictly costs a warning.
func othersOf(sd *windows.SECURITY_DESCRIPTOR, user *windows.SID) (names []string) {
	owner, _, err := sd.Owner()
	if err != nil {
		return nil
	}
	acl, _, err := sd.DACL()
	if err != nil {
		return nil
	}
	if acl == nil { // which lets everybody do everything
		return []string{"everybody"}
	}
	const (
		matters = windows.FILE_READ_DATA | windows.FILE_WRITE_DATA | windows.FILE_APPEND_DATA |
			windows.GENERIC_ALL | windows.GENERIC_READ | windows.GENERIC_WRITE | windows.WRITE_DAC | windows.WRITE_OWNER
		administrators = "-512" // of a domain
	)
	for i := range uint32(acl.AceCount) {
		var ace *windows.ACCESS_ALLOWED_ACE
		if windows.GetAce(acl, i, &ace) != nil || ace.Header.AceType != windows.ACCESS_ALLOWED_ACE_TYPE ||
			ace.Header.AceFlags&windows.INHERIT_ONLY_ACE != 0 || ace.Mask&matters == 0 {
			continue
		}
		sid := (*windows.SID)(unsafe.Pointer(&ace.SidStart))
		text := sid.String()
		switch {
		case sid.Equals(owner), sid.Equals(user),
			sid.IsWellKnown(windows.WinLocalSystemSid), sid.IsWellKnown(windows.WinBuiltinAdministratorsSid),
			sid.IsWellKnown(windows.WinCreatorOwnerSid), text == "S-1-3-4", // OWNER RIGHTS
			strings.HasPrefix(text, "S-1-5-80-"), strings.HasPrefix(text, "S-1-5-21-") && strings.HasSuffix(text, administrators):
			continue
		}
		names = append(names, nameOf(sid))
	}
	return names
}

// nameOf is an account's name, or its number where it has none.
func nameOf(sid *windows.SID) string {
	account, domain, _, err := sid.LookupAccount("")
	switch {
	case err != nil:
		return sid.String()
	case domain == "":
		return account
	}
	return domain + `\` + account
}
