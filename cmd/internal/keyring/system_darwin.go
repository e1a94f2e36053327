package keyring

import (
	"errors"
	"os/exec"

	"github.com/zalando/go-keyring"
)

const (
	storeName    = "Keychain"
	absentRemedy = "keep the secret in a file, and set the variable that ends in _FILE"
	putByHand    = "security add-generic-password -U -s bearerd -a NAME -w"
)

// keychain is the login keychain, by /usr/bin/security: releases are built without
// cgo, which its own interface needs.
type keychain struct {
	// refused says that a read failed, so that a person may have dismissed its
	// dialog. Whether a read will show one cannot be known before.
	refused bool
}

func systemBackend() Backend { return new(keychain) }

// Get reads an entry, but not by itself again where a dialog may have been
// dismissed.
func (k *keychain) Get(name string, mayAsk bool) (string, error) {
	if k.refused && !mayAsk {
		return "", Error{Problem: Denied}
	}
	text, err := keyring.Get(Service, name)
	err = explain(err)
	failed, ok := errors.AsType[Error](err)
	k.refused = ok && failed.Problem != Missing && failed.Problem != Locked
	return text, err
}

func (*keychain) Set(name, secret string) error {
	return explain(keyring.Set(Service, name, secret))
}

func (*keychain) Delete(name string) error { return explain(keyring.Delete(Service, name)) }

// explain is failure for what security ends with: the last byte of an OSStatus.
func explain(err error) error {
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return failure(err)
	}
	switch exit.ExitCode() {
	case 36: // errSecInteractionNotAllowed: over ssh no dialog can appear
		return Error{Problem: Locked}
	case 44: // errSecItemNotFound
		return Error{Problem: Missing}
	case 51, 128: // errSecAuthFailed, userCanceledErr
		return Error{Problem: Denied}
	}
	return failure(err)
}
