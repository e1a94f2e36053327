package daemon

import (
	"bytes"
	"debug/pe"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
)

func TestNames(t *testing.T) {
	for name, good := range map[string]bool{
		"bearerd": true, "a": true, "bearerd-2": true, strings.Repeat("a", 40): true,
		"": false, "A": false, "2a": false, "a b": false, "a/b": false, `a"`: false, "a_b": false, "..": false, strings.Repeat("a", 41): false,
	} {
		if err := CheckName(name); (err == nil) != good {
			t.Errorf("%q: got %v", name, err)
		}
	}
}

func TestCopiedFileNames(t *testing.T) {
	for setting, want := range map[string]string{"BEARERD_PASSWORD_FILE": "password", "BEARERD_CA_FILE": "ca", "BEARERD_LISTEN": "", "OTHER_FILE": ""} {
		if got, ok := fileName(setting); ok != (want != "") || ok && got != want {
			t.Errorf("%s: got %q %v, want %q", setting, got, ok, want)
		}
	}
}

func TestKeyStoreSettings(t *testing.T) {
	for text, want := range map[string]string{
		"BEARERD_PASSWORD_KEYRING=a\n":                           "BEARERD_PASSWORD_KEYRING",
		"X=1\r\n export bearerd_client_secret_keyring = a\r\n":   "BEARERD_CLIENT_SECRET_KEYRING",
		"BEARERD_PASSWORD_KEYRING=\n":                            "",
		"#BEARERD_PASSWORD_KEYRING=a\nBEARERD_PASSWORD_FILE=a\n": "",
		"BEARERD_SCOPE=BEARERD_PASSWORD_KEYRING=a\n":             "",
	} {
		if got := keyringSetting(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

// What was done is taken back, the last first, and a file that was there is there
// again.
func TestUndo(t *testing.T) {
	dir := t.TempDir()
	old, fresh := filepath.Join(dir, "old"), filepath.Join(dir, "fresh")
	if err := os.WriteFile(old, []byte("before"), 0o600); err != nil {
		t.Fatal(err)
	}
	var back undo
	for _, path := range []string{old, fresh, old} {
		if err := replaceFile(&back, path, []byte("after"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := bearerdtest.TextOf(t, old); got != "after" {
		t.Errorf("got %q, want it replaced", got)
	}
	back.run()
	if got := bearerdtest.TextOf(t, old); got != "before" || bearerdtest.IsThere(fresh) {
		t.Errorf("got %q, and fresh is there: %v", got, bearerdtest.IsThere(fresh))
	}
	if err := replaceFile(&back, filepath.Join(dir, "none", "x"), nil, 0o600); err == nil {
		t.Error("a folder that is not there: got no error")
	}
}

func TestRemoveLeavesWhatIsNotBearerds(t *testing.T) {
	dir := t.TempDir()
	own, other := filepath.Join(dir, "own"), filepath.Join(dir, "own", "mine")
	if err := os.Mkdir(own, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	if err := remove(&said, filepath.Join(own, "log"), own); err != nil || !bearerdtest.IsThere(other) || !strings.Contains(said.String(), "left "+own) {
		t.Errorf("got %v, %s", err, &said)
	}
}

func TestEvents(t *testing.T) {
	var log bytes.Buffer
	var told []string
	e := events{w: &log, tell: func(l level, text string) { told = append(told, fmt.Sprint(l, " ", text)) }}
	for _, piece := range []string{
		`{"level":"info","listen":["a"],"version":"1","time":"x","message":"serving"}` + "\n" + `{"level":"info","path":"/a","message":"request"}` + "\n",
		`{"level":"debug","message":"detail"}` + "\n",
		`{"level":"warn","remedy":"do this","message":"login failed"}` + "\n" + `{"level":"error","message":"bad"}` + "\n",
		"BEARERD_A: unknown\nBEARERD_B: missing\n",
	} {
		if n, err := io.WriteString(e, piece); n != len(piece) || err != nil {
			t.Errorf("got %d, %v", n, err)
		}
	}
	want := []string{"1 serving\nlisten: [\"a\"]\nversion: 1", "2 login failed\nremedy: do this", "3 bad", "3 BEARERD_A: unknown\nBEARERD_B: missing"}
	if !slices.Equal(told, want) {
		t.Errorf("got %q, want %q", told, want)
	}
	if got := strings.Count(log.String(), "\n"); got != 7 {
		t.Errorf("the log: got %d lines, want all 7", got)
	}
}

// The header of a program as Go's linker makes one, by which Windows decides.
func TestWindowless(t *testing.T) {
	header := make([]byte, 1024)
	copy(header, "MZ")
	header[0x3c] = 0x80
	copy(header[0x80:], "PE\x00\x00\x64\x86\x00\x00")
	header[0x80+20], header[0x80+21] = 0xf0, 0 // the optional header's size
	copy(header[0x80+24:], "\x0b\x02")
	header[0x80+24+68] = 3
	header[0x80+24+108] = 16 // NumberOfRvaAndSizes
	if err := windowless(header); err != nil {
		t.Fatal(err)
	}
	f, err := pe.NewFile(bytes.NewReader(header))
	if err != nil {
		t.Fatal(err)
	}
	if got := f.OptionalHeader.(*pe.OptionalHeader64).Subsystem; got != pe.IMAGE_SUBSYSTEM_WINDOWS_GUI {
		t.Errorf("got the subsystem %d, want %d", got, pe.IMAGE_SUBSYSTEM_WINDOWS_GUI)
	}
	for _, bad := range [][]byte{nil, []byte("MZ"), make([]byte, 1024), header[:0xa0]} {
		if windowless(slices.Clone(bad)) == nil {
			t.Errorf("%d bytes: got no error", len(bad))
		}
	}
}

const hostile = `/a b/"c"/$HOME/%n/back\slash/<&>/bearerd`

func TestPlist(t *testing.T) {
	args := []string{hostile, "service", "run", "-name", "x", "-env-file", "/e & f"}
	text := plist("x", args)
	if got, err := plistArgs(text); err != nil || !slices.Equal(got, args) {
		t.Errorf("got %q, %v, want %q", got, err, args)
	}
	plistutil, err := exec.LookPath("plistutil")
	if err != nil {
		bearerdtest.Lacking(t, "plistutil, which reads it as others do")
	}
	// There and back: what it does not understand it does not write again.
	dir := t.TempDir()
	file := filepath.Join(dir, "x.plist")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, step := range [][]string{{file, file + ".bin", "bin"}, {file + ".bin", file + ".xml", "xml"}} {
		if out, err := exec.Command(plistutil, "-i", step[0], "-o", step[1], "-f", step[2]).CombinedOutput(); err != nil {
			t.Fatalf("plistutil: %v %s", err, out)
		}
	}
	again := bearerdtest.TextOf(t, file+".xml")
	if got, err := plistArgs(again); err != nil || !slices.Equal(got, args) {
		t.Errorf("got %q, %v, want %q", got, err, args)
	}
	for _, want := range []string{"<key>Label</key>", "<string>local.x</string>", "<key>RunAtLoad</key>", "<key>SuccessfulExit</key>", "<integer>30</integer>"} {
		if !strings.Contains(again, want) {
			t.Errorf("got no %s in %s", want, again)
		}
	}
}

// systemd reads what is written: a user's unit with a name full of what it takes
// for its own, and the machine's with and without sockets.
func TestUnitsAreVerified(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		bearerdtest.Lacking(t, "systemd-analyze")
	}
	folder := filepath.Join(t.TempDir(), "a b %n")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(folder, "bearerd")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	all := map[string]map[string]string{
		"user":    {"x.service": userUnit(program, folder+`/$HOME/"c" back\slash`)},
		"machine": systemUnits("other", "BEARERD_PRESET=wxp\n", []string{"password", "ca"}),
		"ports":   systemUnits("third", "BEARERD_LISTEN=localhost:1\n", nil),
	}
	for name, want := range map[string]int{"user": 1, "machine": 3, "ports": 1} {
		if got := len(all[name]); got != want {
			t.Errorf("%s: got %d units, want %d", name, got, want)
		}
	}
	for which, units := range all {
		dir := t.TempDir()
		args := []string{"verify", "--man=no"}
		if which == "user" {
			args = append(args, "--user")
			t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
		}
		for name, text := range units {
			path := filepath.Join(dir, name)
			text = strings.NewReplacer("/usr/local/lib/bearerd/other/bearerd", "/bin/true", "/usr/local/lib/bearerd/third/bearerd", "/bin/true").Replace(text)
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			args = append(args, path)
		}
		if out, err := exec.Command(analyze, args...).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: got %v %s", which, err, out)
		}
	}
	service := all["machine"]["other.service"]
	for _, want := range []string{
		"\nLoadCredential=env:/etc/other/env\nLoadCredential=ca:/etc/other/credentials/ca\nEnvironment=BEARERD_CA_FILE=%d/ca\n",
		"\nEnvironment=BEARERD_PASSWORD_FILE=%d/password\n", "\nExecStart=/usr/local/lib/bearerd/other/bearerd -env-file %d/env\n",
	} {
		if !strings.Contains(service, want) {
			t.Errorf("got no %q in\n%s", want, service)
		}
	}
	for name, text := range all["machine"] {
		if strings.Contains(text, "/etc/bearerd") || strings.Contains(text, "bearerd.service") || strings.Contains(text, "/usr/local/bin") || strings.Contains(text, "Directory=bearerd") {
			t.Errorf("%s has the place of another name in it:\n%s", name, text)
		}
	}
}
