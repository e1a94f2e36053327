package tokens_test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/bearerd/bearerd/tokens"
)

// in16 is text in UTF-16, in32 in UTF-32, without a BOM.
func in16(order binary.AppendByteOrder, text string) string {
	var b []byte
	for _, unit := range utf16.Encode([]rune(text)) {
		b = order.AppendUint16(b, unit)
	}
	return string(b)
}

func in32(order binary.AppendByteOrder, text string) string {
	var b []byte
	for _, r := range text {
		b = order.AppendUint32(b, uint32(r))
	}
	return string(b)
}

// A file that holds a password in any form but one line of UTF-8 is refused: sent
// as it is, it would be a wrong one.
func TestThreatPasswordThatIsSilentlyAnother(t *testing.T) {
	little, big := binary.LittleEndian, binary.BigEndian
	const (
		notUTF8 = "it is not UTF-8, and looks like "
		save    = ": save it as UTF-8"
		oneLine = "it must be one line, and goes on behind the end of the first"
	)
	for _, test := range []struct{ name, content, want string }{
		{"UTF-16 of PowerShell", "\xff\xfe" + in16(little, "hunter2ö\r\n"), "it is UTF-16 (little-endian)" + save},
		{"UTF-16, the other way", "\xfe\xff" + in16(big, "hunter2ö\n"), "it is UTF-16 (big-endian)" + save},
		{"UTF-16 without BOM", in16(little, "hunter2\n"), "it is UTF-16 (little-endian)" + save},
		{"UTF-16 without BOM, the other way", in16(big, "hunter2\n"), "it is UTF-16 (big-endian)" + save},
		{"UTF-16 of the Credential Manager, a euro in it", in16(little, "hunter2€"), "it is UTF-16 (little-endian)" + save},
		{"UTF-32", "\xff\xfe\x00\x00" + in32(little, "hunter2"), "it is UTF-32 (little-endian)" + save},
		{"UTF-32, the other way", "\x00\x00\xfe\xff" + in32(big, "hunter2"), "it is UTF-32 (big-endian)" + save},
		{"UTF-32 without BOM", in32(little, "hunter2"), "it is UTF-32 (little-endian)" + save},
		{"UTF-32 without BOM, the other way", in32(big, "hunter2"), "it is UTF-32 (big-endian)" + save},
		{"UTF-16 of another script, without BOM", in16(little, "пароль"), "it has a control character (line 1, byte 2)"},
		{"Latin-1", "hunt\xe9r2\n", notUTF8 + "Latin-1 or Windows-1252 (line 1, byte 5)" + save},
		{"Latin-1, its last letter", "hunter\xd6", notUTF8 + "Latin-1 or Windows-1252 (line 1, byte 7)" + save},
		{"Windows-1252", "hunter2\x80", notUTF8 + "Windows-1252 or the encoding of a Windows console (line 1, byte 8)" + save},
		{"echo in a Windows console", "hunter2\x94\r\n", notUTF8 + "Windows-1252 or the encoding of a Windows console (line 1, byte 8)" + save},
		{"cut off", "hünter€"[:9], notUTF8 + "UTF-8 that was cut off (line 1, byte 8)" + save},
		{"mixed", "hünter\xfc2", notUTF8 + "UTF-8 with another encoding in it (line 1, byte 8)" + save},
		{"binary", "\x7fELF\x02\x00\x00\xc0\xff", "it is no text"},
		{"overlong", "hunter\xc0\x80", notUTF8 + "Latin-1 or Windows-1252 (line 1, byte 7)" + save},
		{"half of a surrogate pair", "\xed\xa0\x80", notUTF8 + "Latin-1 or Windows-1252 (line 1, byte 1)" + save},

		{"two lines", "hunter2\nhunter3\n", oneLine},
		{"two line ends", "hunter2\r\n\r\n", oneLine},
		{"an empty line first", "\nhunter2\n", oneLine},
		{"CR alone", "hunter2\r", oneLine},
		{"CR twice", "hunter2\r\r\n", oneLine},
		{"CR in the middle", "hunter2\rhunter3", oneLine},
		{"NEL", "hunter2\u0085", oneLine},
		{"LINE SEPARATOR", "hunter2\u2028hunter3", oneLine},
		{"NUL at the end", "hunter2\x00", "it has a NUL (line 1, byte 8), as binary files and /proc/PID/environ have"},
		{"an environment", "A=hunter2\x00BB=hunter3\x00", "it has a NUL (line 1, byte 10), as binary files and /proc/PID/environ have"},
		{"tab", "hunter2\t", "it has a tab (line 1, byte 8)"},
		{"Ctrl-V", "\x16hunter2", "it has a control character (line 1, byte 1)"},
		{"DEL", "hunter2\x7f", "it has a control character (line 1, byte 8)"},
		{"escape", "\x1b[200~hunter2", "it has a control character (line 1, byte 1)"},
		{"C1", "hunter\u009b2", "it has a control character (line 1, byte 7)"},
		{"two BOMs", "\ufeff\ufeffhunter2", "it has a byte order mark in its middle (line 1, byte 1)"},
		{"two files in one", "hunter2\ufeffhunter3", "it has a byte order mark in its middle (line 1, byte 8)"},
		{"recoded wrongly", "hunt\ufffdr2", "it has U+FFFD (line 1, byte 5), which a program puts in place of a letter that it cannot read"},
	} {
		t.Run(test.name, func(t *testing.T) {
			source := tokens.Source{File: passwordFile(t, test.content)}
			text, err := source.Read()
			if text != "" || err == nil || err.Error() != test.want {
				t.Errorf("got %q, %v, want %q", text.Reveal(), err, test.want)
			}
		})
	}
}

// The environment of a process is none of its secrets, however it is pointed at.
func TestThreatEnvironmentAsPassword(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("no /proc here")
	}
	text, err := tokens.Source{File: "/proc/self/environ"}.Read()
	if text != "" || err == nil || strings.Contains(err.Error(), os.Getenv("PATH")) {
		t.Errorf("got %d bytes, %v, want an error", len(text), err)
	}
}

// A file of settings may have tabs and line ends, and nothing else that a person
// cannot see.
func TestCheckText(t *testing.T) {
	for text, want := range map[string]string{
		"A=b\n\tC=d\r\n# ö\n": "",
		"A=b\n# \xf6\n":       "it is not UTF-8, and looks like Latin-1 or Windows-1252 (line 2, byte 3): save it as UTF-8",
		"A=b\nC=d\x00":        "it has a NUL (line 2, byte 4), as binary files and /proc/PID/environ have",
		"A=b\nC=\x1b[2J":      "it has a control character (line 2, byte 3)",
		"# \ufffd\n":          "",
	} {
		got := ""
		if err := tokens.CheckText(text); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

// A PEM file may have comments in any encoding, so that only what hides its lines
// is refused.
func TestReadTextFileLeavesLatin1(t *testing.T) {
	path := passwordFile(t, "\ufeff# Universit\xe4t\n-----BEGIN CERTIFICATE-----\n")
	if text, err := tokens.ReadTextFile(path); err != nil || !strings.HasPrefix(text, "# Universit\xe4t") {
		t.Errorf("got %q, %v", text, err)
	}
	for path, want := range map[string]string{
		t.TempDir():                        "it is a directory",
		filepath.Join(t.TempDir(), "none"): "it does not exist",
	} {
		if text, err := tokens.ReadTextFile(path); err == nil || err.Error() != want {
			t.Errorf("got %q, %v, want %q", text, err, want)
		}
	}
}

// FuzzSecretFile has any bytes in a secret's file. Either they are one line of
// UTF-8 that a person can see and type, and are used as they are, without a BOM
// and one line end; or nothing of them is used, and the error, which holds no part
// of them, says what is wrong. What can be used from a file can be used from a
// variable, and as a text of lines.
func FuzzSecretFile(f *testing.F) {
	for _, content := range []string{
		"pw", "pw\n", "pw\r\n", "pw\r\n\r\n", "\ufeffpw", "p\xe9", "p\x00", "a\x00b\x00", "\x00a\x00b", "a\x00\x00\x00", "\xff\xfe", "\u2028", "\ufffd", "\xed\xa0\x80", "é€😀", "\t", "",
	} {
		f.Add([]byte(content))
	}
	path := filepath.Join(f.TempDir(), "secret")
	f.Fuzz(func(t *testing.T, content []byte) {
		write(t, path, string(content))
		secret, err := tokens.Source{File: path}.Read()
		text := secret.Reveal()
		if err != nil {
			if text != "" {
				t.Errorf("an error, and %q all the same", text)
			}
			if !strings.HasPrefix(err.Error(), "it ") || strings.ContainsAny(err.Error(), "\n\r\x00") {
				t.Errorf("got the error %q", err)
			}
			return
		}
		if rest := strings.TrimPrefix(string(content), "\ufeff"); rest != text && rest != text+"\n" && rest != text+"\r\n" {
			t.Errorf("got %q of %q", text, content)
		}
		if text == "" || !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 || r == utf8.RuneError }) {
			t.Errorf("%q is used", text)
		}
		if tokens.CheckSecret(text) != nil || tokens.CheckText(text) != nil {
			t.Errorf("%q may be in a file only", text)
		}
	})
}
