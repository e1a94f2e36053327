package keyring

import (
	"errors"

	"github.com/zalando/go-keyring"
	"golang.org/x/sys/windows"
)

const (
	storeName    = "Credential Manager"
	absentRemedy = "over SSH or WinRM, and in some services, Windows has none: keep the secret in a file, and set the variable that ends in _FILE"
	putByHand    = "cmdkey /generic:bearerd:NAME /user:NAME /pass"
)

// credentialManager is that of this user. No dialog of it ever appears.
type credentialManager struct{}

func systemBackend() Backend { return credentialManager{} }

func (credentialManager) Get(name string, _ bool) (string, error) {
	text, err := keyring.Get(Service, name)
	return text, explain(err)
}

func (credentialManager) Set(name, secret string) error {
	return explain(keyring.Set(Service, name, secret))
}

func (credentialManager) Delete(name string) error {
	return explain(keyring.Delete(Service, name))
}

func explain(err error) error {
	if errors.Is(err, windows.ERROR_NO_SUCH_LOGON_SESSION) {
		return Error{Problem: Absent}
	}
	return failure(err)
}
