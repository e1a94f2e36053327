package keyring_test

import (
	"bufio"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/godbus/dbus/v5"
	secretservice "github.com/zalando/go-keyring/secret_service"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/keyring"
)

const (
	servicePath = dbus.ObjectPath("/org/freedesktop/secrets")
	loginPath   = dbus.ObjectPath("/org/freedesktop/secrets/collection/login")
	itemPath    = dbus.ObjectPath("/org/freedesktop/secrets/collection/login/1")
	promptPath  = dbus.ObjectPath("/org/freedesktop/secrets/prompt/1")
	sessionPath = dbus.ObjectPath("/org/freedesktop/secrets/session/1")
)

// secretService is a Secret Service whose dialog a person answers at once.
type secretService struct {
	bus *dbus.Conn

	mu       sync.Mutex // guards what follows
	locked   bool
	dismiss  bool // what the person does
	prompts  int
	searched map[string]string
}

func (s *secretService) set(locked, dismiss bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.locked, s.dismiss = locked, dismiss
}

func (s *secretService) seen() (prompts int, searched map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.prompts, s.searched
}

func (s *secretService) Unlock(paths []dbus.ObjectPath) ([]dbus.ObjectPath, dbus.ObjectPath, *dbus.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.locked {
		return paths, "/", nil
	}
	return nil, promptPath, nil
}

func (s *secretService) OpenSession(string, dbus.Variant) (dbus.Variant, dbus.ObjectPath, *dbus.Error) {
	return dbus.MakeVariant(""), sessionPath, nil
}

func (s *secretService) SearchItems(attributes map[string]string) ([]dbus.ObjectPath, *dbus.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.searched = attributes
	return []dbus.ObjectPath{itemPath}, nil
}

func (s *secretService) GetSecret(session dbus.ObjectPath) (secretservice.Secret, *dbus.Error) {
	return secretservice.NewSecret(session, "pa$$word"), nil
}

func (s *secretService) Close() *dbus.Error { return nil }

// Prompt is the dialog.
func (s *secretService) Prompt(string) *dbus.Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.prompts++
	s.locked = s.dismiss
	if err := s.bus.Emit(promptPath, "org.freedesktop.Secret.Prompt.Completed", s.dismiss, dbus.MakeVariant([]dbus.ObjectPath{loginPath})); err != nil {
		return dbus.MakeFailedError(err)
	}
	return nil
}

// Get is of the properties.
func (s *secretService) Get(owner, name string) (dbus.Variant, *dbus.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if name == "Collections" {
		return dbus.MakeVariant([]dbus.ObjectPath{loginPath}), nil
	}
	return dbus.MakeVariant(s.locked && owner == "org.freedesktop.Secret.Collection"), nil
}

// A dialog appears only where a person may be asked, and its answer decides.
func TestDialogOfTheSecretService(t *testing.T) {
	if _, err := exec.LookPath("dbus-daemon"); err != nil {
		bearerdtest.Lacking(t, "dbus-daemon")
	}
	daemon := exec.Command("dbus-daemon", "--nofork", "--print-address=1", "--config-file="+bearerdtest.WriteFile(t, `<!DOCTYPE busconfig PUBLIC
		"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
		<busconfig><type>session</type><listen>unix:dir=`+t.TempDir()+`</listen><auth>EXTERNAL</auth>
		<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`))
	out, err := daemon.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = daemon.Process.Kill()
		_ = daemon.Wait()
	}()
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", strings.TrimSpace(address))
	bus, err := dbus.Connect(strings.TrimSpace(address))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = bus.Close() }()
	s := &secretService{bus: bus}
	for path, owners := range map[dbus.ObjectPath][]string{
		servicePath: {"org.freedesktop.Secret.Service"}, loginPath: {"org.freedesktop.Secret.Collection"}, itemPath: {"org.freedesktop.Secret.Item"},
		promptPath: {"org.freedesktop.Secret.Prompt"}, sessionPath: {"org.freedesktop.Secret.Session"},
	} {
		for _, owner := range append(owners, "org.freedesktop.DBus.Properties") {
			if err := bus.Export(s, path, owner); err != nil {
				t.Fatal(err)
			}
		}
	}
	if reply, err := bus.RequestName("org.freedesktop.secrets", 0); err != nil || reply != dbus.RequestNameReplyPrimaryOwner {
		t.Fatal(reply, err)
	}

	store := keyring.New(nil)
	for _, tt := range []struct {
		name                     string
		locked, dismissed, asked bool
		want                     string
		problem                  keyring.Problem
		prompts                  int
	}{
		{"open", false, false, true, "pa$$word", "", 0},
		{"locked, and nobody asked", true, false, false, "", keyring.Locked, 0},
		{"locked, and dismissed", true, true, true, "", keyring.Denied, 1},
		{"still locked, and nobody asked", true, true, false, "", keyring.Locked, 1},
		{"locked, and unlocked", true, false, true, "pa$$word", "", 2},
	} {
		s.set(tt.locked, tt.dismissed)
		secret, err := store.Entry("work").Read(t.Context(), tt.asked)
		t.Log(tt.name)
		expect(t, secret, err, tt.want, tt.problem)
		if prompts, searched := s.seen(); prompts != tt.prompts || searched["service"] != "bearerd" || searched["username"] != "work" {
			t.Errorf("got %d dialogs, want %d; searched for %v", prompts, tt.prompts, searched)
		}
	}
}
