package keyring_test

import (
	"strings"
	"testing"

	oskeyring "github.com/zalando/go-keyring"

	"github.com/bearerd/bearerd/cmd/internal/keyring"
)

// The Credential Manager itself, and what its own dialog writes: UTF-16.
func TestCredentialManager(t *testing.T) {
	store := keyring.New(nil)
	if err := store.Absent(); err != nil {
		t.Fatal(err)
	}
	const name = "bearerd's own test"
	t.Cleanup(func() { _ = store.Remove(t.Context(), name) })
	_, err := store.Entry(name).Read(t.Context(), false)
	expect(t, "", err, "", keyring.Missing)
	if err := store.Keep(t.Context(), name, "pässword€"); err != nil {
		t.Fatal(err)
	}
	secret, err := store.Entry(name).Read(t.Context(), false)
	expect(t, secret, err, "pässword€", "")
	wide := "p\x00a\x00s\x00s\x00w\x00o\x00r\x00d\x00\xac\x20"
	if err := oskeyring.Set(keyring.Service, name, wide); err != nil {
		t.Fatal(err)
	}
	secret, err = store.Entry(name).Read(t.Context(), false)
	expect(t, secret, err, "password€", "")
	if err := oskeyring.Set(keyring.Service, name, strings.Repeat("x", 3)+"\xe4"); err != nil {
		t.Fatal(err)
	}
	_, err = store.Entry(name).Read(t.Context(), false)
	expect(t, "", err, "", keyring.Unreadable)
	if err := store.Remove(t.Context(), name); err != nil {
		t.Error(err)
	}
	_, err = store.Entry(name).Read(t.Context(), false)
	expect(t, "", err, "", keyring.Missing)
}
