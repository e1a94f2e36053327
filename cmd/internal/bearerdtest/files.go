package bearerdtest

import (
	"encoding/pem"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
)

// WriteFile returns the path of a new file with text.
func WriteFile(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "settings.env")
	Put(t, path, text)
	return path
}

// Put writes a file that is for its owner alone, or writes it again.
func Put(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Trusting returns the setting by which bearerd trusts a server of httptest.
func Trusting(t testing.TB, server *httptest.Server) string {
	t.Helper()
	return "BEARERD_CA_FILE=" + WriteFile(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
}

// SocketDir is a directory whose name is short enough for sockets in it.
func SocketDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "bd-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// IsThere tells whether there is anything at path, or a link to nothing.
func IsThere(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func TextOf(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
