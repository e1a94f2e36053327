package keyring

import (
	"context"
	"errors"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/zalando/go-keyring"
	secretservice "github.com/zalando/go-keyring/secret_service"
)

const (
	storeName    = "Secret Service"
	absentRemedy = "start one (gnome-keyring, KWallet, KeePassXC) in the session that bearerd runs in, or keep the secret in a file, and set the variable that ends in _FILE"
	putByHand    = "secret-tool store --label=bearerd service bearerd username NAME"
)

const (
	busName         = "org.freedesktop.secrets"
	servicePath     = "/org/freedesktop/secrets"
	collectionOwner = "org.freedesktop.Secret.Collection"
	itemOwner       = "org.freedesktop.Secret.Item"
)

// secretService is the Secret Service of the session.
type secretService struct{}

func systemBackend() Backend { return secretService{} }

// Get reads an entry. go-keyring's own Get asks to unlock the store at each read, so
// that a dialog appears again and again, and waits for ever where no desktop shows it.
func (secretService) Get(name string, mayAsk bool) (string, error) {
	if err := present(); err != nil {
		return "", err
	}
	service, err := secretservice.NewSecretService()
	if err != nil {
		return "", explain(err)
	}
	collection := service.GetLoginCollection()
	if err := open(service, collection, collectionOwner, mayAsk); err != nil {
		return "", err
	}
	items, err := service.SearchItems(collection, map[string]string{"service": Service, "username": name})
	if err != nil {
		return "", explain(err)
	}
	if len(items) == 0 {
		return "", Error{Problem: Missing}
	}
	if err := open(service, service.Object(busName, items[0]), itemOwner, mayAsk); err != nil {
		return "", err
	}
	session, err := service.OpenSession()
	if err != nil {
		return "", explain(err)
	}
	defer func() { _ = service.Close(session) }()
	secret, err := service.GetSecret(items[0], session.Path())
	if err != nil {
		return "", explain(err)
	}
	return string(secret.Value), nil
}

// Set unlocks first: go-keyring would wait for ever for a dialog.
func (secretService) Set(name, secret string) error {
	if err := present(); err != nil {
		return err
	}
	service, err := secretservice.NewSecretService()
	if err != nil {
		return explain(err)
	}
	if err := open(service, service.GetLoginCollection(), collectionOwner, true); err != nil {
		return err
	}
	return explain(keyring.Set(Service, name, secret))
}

func (s secretService) Delete(name string) error {
	if _, err := s.Get(name, true); err != nil { // which unlocks
		return err
	}
	return explain(keyring.Delete(Service, name))
}

// open sees to it that object is not locked. If mayAsk, a person is asked to unlock
// it, and has two minutes for that.
func open(service *secretservice.SecretService, object dbus.BusObject, owner string, mayAsk bool) error {
	property, err := object.GetProperty(owner + ".Locked")
	if err != nil {
		return explain(err)
	}
	if locked, ok := property.Value().(bool); ok && !locked {
		return nil
	}
	if !mayAsk {
		return Error{Problem: Locked}
	}
	var unlocked []dbus.ObjectPath
	var prompt dbus.ObjectPath
	err = service.Object(busName, servicePath).
		Call("org.freedesktop.Secret.Service.Unlock", 0, []dbus.ObjectPath{object.Path()}).Store(&unlocked, &prompt)
	if err != nil {
		return explain(err)
	}
	if prompt == "/" {
		return nil // without a dialog
	}
	return answerPrompt(service, prompt)
}

// answerPrompt has a dialog appear, and waits until it is answered.
func answerPrompt(service *secretservice.SecretService, path dbus.ObjectPath) error {
	const owner = "org.freedesktop.Secret.Prompt"
	match := []dbus.MatchOption{dbus.WithMatchObjectPath(path), dbus.WithMatchInterface(owner)}
	if err := service.AddMatchSignal(match...); err != nil {
		return explain(err)
	}
	defer func() { _ = service.RemoveMatchSignal(match...) }()
	signals := make(chan *dbus.Signal, 16)
	service.Signal(signals)
	defer service.RemoveSignal(signals)
	prompt := service.Object(busName, path)
	if err := prompt.Call(owner+".Prompt", 0, "").Err; err != nil {
		return explain(err)
	}
	over := time.After(dialogPatience)
	for {
		select {
		case signal, ok := <-signals:
			switch {
			case !ok:
				return Error{Problem: Absent}
			case signal.Path != path || signal.Name != owner+".Completed" || len(signal.Body) == 0:
				continue
			}
			if dismissed, _ := signal.Body[0].(bool); dismissed {
				return Error{Problem: Denied}
			}
			return nil
		case <-over:
			_ = prompt.Call(owner+".Dismiss", 0).Err // the answer is of no use any more
			return Error{Problem: Denied}
		}
	}
}

// present looks whether a Secret Service can be had. Without the address of a bus
// go-keyring's own connection would start one by dbus-launch.
func present() error {
	bus, err := dbus.SessionBusPrivateNoAutoStartup()
	if err != nil {
		return Error{Problem: Absent, detail: "no D-Bus"}
	}
	defer func() { _ = bus.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	if err = bus.Auth(nil); err == nil {
		err = bus.Hello()
	}
	if err != nil {
		return Error{Problem: Absent, detail: "no D-Bus"}
	}
	// Which starts it, where the session has one that is not running yet.
	err = bus.Object(busName, servicePath).CallWithContext(ctx, "org.freedesktop.DBus.Peer.Ping", 0).Err
	if ctx.Err() != nil {
		return Error{Problem: Unanswered}
	}
	return explain(err)
}

// explain is failure for what D-Bus says.
func explain(err error) error {
	said, ok := errors.AsType[dbus.Error](err)
	if !ok {
		return failure(err)
	}
	switch said.Name {
	case "org.freedesktop.Secret.Error.IsLocked":
		return Error{Problem: Locked}
	case "org.freedesktop.Secret.Error.NoSuchObject", "org.freedesktop.DBus.Error.UnknownObject", "org.freedesktop.DBus.Error.UnknownMethod":
		return Error{Problem: NoKeyring}
	case "org.freedesktop.DBus.Error.ServiceUnknown", "org.freedesktop.DBus.Error.NoReply", "org.freedesktop.DBus.Error.Disconnected":
		return Error{Problem: Absent}
	}
	return failure(err)
}
