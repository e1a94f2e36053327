package daemon

import (
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"unicode/utf16"
	"unsafe"

	"golang.org/x/sys/windows"
)

// serviceSID is the identity NT SERVICE\name. Windows makes it of the name, so that
// it can be known before there is the service: S-1-5-80 and the SHA-1 of the name
// in capitals, in UTF-16.
func serviceSID(name string) string {
	var text []byte
	for _, unit := range utf16.Encode([]rune(strings.ToUpper(name))) {
		text = binary.LittleEndian.AppendUint16(text, unit)
	}
	sum := sha1.Sum(text)
	var sid strings.Builder
	sid.WriteString("S-1-5-80")
	for i := 0; i < len(sum); i += 4 {
		fmt.Fprintf(&sid, "-%d", binary.LittleEndian.Uint32(sum[i:]))
	}
	return sid.String()
}

// Rights of the service on a folder of its own and all that is in it.
const (
	noRight     = ""
	mayRead     = "0x1200a9" // FILE_GENERIC_READ and FILE_GENERIC_EXECUTE
	mayReadMore = "0x1301bf" // and write and delete
)

// closedFolder makes a folder, or takes over one that Administrators or the system
// own, for SYSTEM, Administrators and, with rights, the service; nothing is
// inherited from above. A folder of anybody else is refused: whoever owns it could
// let himself in again, and everybody may make folders in ProgramData.
func closedFolder(path, name, rights string) (made bool, err error) {
	sddl := "O:BAD:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)"
	if rights != noRight {
		sddl += "(A;OICI;" + rights + ";;;" + serviceSID(name) + ")"
	}
	sd, err := windows.SecurityDescriptorFromString(sddl)
	if err != nil {
		return false, fmt.Errorf("the access to %s: %w", path, err)
	}
	wide, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return false, err
	}
	sa := windows.SecurityAttributes{SecurityDescriptor: sd}
	sa.Length = uint32(unsafe.Sizeof(sa))
	err = windows.CreateDirectory(wide, &sa)
	if err == nil {
		return true, nil
	}
	if !errors.Is(err, windows.ERROR_ALREADY_EXISTS) {
		return false, &os.PathError{Op: "mkdir", Path: path, Err: err}
	}
	if info, err := os.Lstat(path); err != nil || !info.IsDir() {
		return false, fmt.Errorf("%s is there and no folder: remove it", path)
	}
	owner, err := ownerOf(path)
	if err != nil {
		return false, fmt.Errorf("who owns %s: %w", path, err)
	}
	if !owner.IsWellKnown(windows.WinBuiltinAdministratorsSid) && !owner.IsWellKnown(windows.WinLocalSystemSid) && !isWine() {
		return false, fmt.Errorf("%s is there, and belongs neither to Administrators nor to the system: look what is in it, and remove it", path)
	}
	acl, _, err := sd.DACL()
	if err != nil {
		return false, err
	}
	if err := windows.SetNamedSecurityInfo(path, windows.SE_FILE_OBJECT,
		windows.DACL_SECURITY_INFORMATION|windows.PROTECTED_DACL_SECURITY_INFORMATION, nil, nil, acl, nil); err != nil {
		return false, fmt.Errorf("the access to %s: %w", path, err)
	}
	return false, nil
}

func ownerOf(path string) (*windows.SID, error) {
	sd, err := windows.GetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION)
	if err != nil {
		return nil, err
	}
	owner, _, err := sd.Owner()
	return owner, err
}

// isWine: there whoever makes a file owns it, whatever is asked for. On Windows
// nobody can put such a function into the system's library.
func isWine() bool {
	return windows.NewLazySystemDLL("ntdll.dll").NewProc("wine_get_version").Find() == nil
}
