package main

import (
	"bufio"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

// A desktop is a session bus with a Secret Service on it, which is GNOME's.
type desktop struct {
	t   *testing.T
	env []string
}

// newDesktop starts a bus, which ends with the test, and everything on it with it.
func newDesktop(t *testing.T) *desktop {
	t.Helper()
	for _, program := range []string{"dbus-daemon", "dbus-send", "gnome-keyring-daemon", "secret-tool"} {
		if _, err := exec.LookPath(program); err != nil {
			bearerdtest.Lacking(t, program)
		}
	}
	home := t.TempDir()
	runtime := filepath.Join(home, "run")
	if err := os.Mkdir(runtime, 0o700); err != nil {
		t.Fatal(err)
	}
	d := &desktop{t, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "XDG_RUNTIME_DIR=" + runtime}}
	// Without the machine's own services, which a bus would start by itself.
	bus := exec.Command("dbus-daemon", "--nofork", "--print-address=1", "--config-file="+bearerdtest.WriteFile(t, `<!DOCTYPE busconfig PUBLIC
		"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
		<busconfig><type>session</type><listen>unix:dir=`+runtime+`</listen><auth>EXTERNAL</auth>
		<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`))
	bus.Env = d.env
	out, err := bus.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := bus.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = bus.Process.Kill()
		_ = bus.Wait()
	})
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	d.env = append(d.env, "DBUS_SESSION_BUS_ADDRESS="+strings.TrimSpace(address))
	return d
}

// logIn starts the Secret Service as a login at the desktop does, with the keyring
// unlocked.
func (d *desktop) logIn() {
	d.t.Helper()
	daemon := exec.Command("gnome-keyring-daemon", "--foreground", "--unlock", "--components=secrets")
	daemon.Env, daemon.Stdin = d.env, strings.NewReader("of-the-keyring")
	if err := daemon.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() {
		_ = daemon.Process.Kill()
		_ = daemon.Wait()
	})
	bearerdtest.Eventually(d.t, bearerdtest.Soon, "the keyring is unlocked", func() bool {
		out, _ := d.command("", "dbus-send", "--session", "--print-reply", "--dest=org.freedesktop.secrets",
			"/org/freedesktop/secrets/collection/login", "org.freedesktop.DBus.Properties.Get", "string:org.freedesktop.Secret.Collection", "string:Locked")
		return strings.Contains(out, "boolean false")
	})
}

func (d *desktop) command(input, name string, args ...string) (out string, err error) {
	cmd := exec.Command(name, args...)
	cmd.Env, cmd.Stdin = d.env, strings.NewReader(input)
	all, err := cmd.CombinedOutput()
	return string(all), err
}

func (d *desktop) must(input, name string, args ...string) {
	d.t.Helper()
	if out, err := d.command(input, name, args...); err != nil {
		d.t.Fatal(name, args, err, out)
	}
}

// keep puts a secret into the store by another program.
func (d *desktop) keep(entry, secret string) {
	d.t.Helper()
	d.must(secret, "secret-tool", "store", "--label=bearerd", "service", "bearerd", "username", entry)
}

func (d *desktop) lock() {
	d.t.Helper()
	d.must("", "dbus-send", "--session", "--print-reply", "--dest=org.freedesktop.secrets", "/org/freedesktop/secrets",
		"org.freedesktop.Secret.Service.Lock", "array:objpath:/org/freedesktop/secrets/collection/login")
}

// The password is read from the Secret Service before each login, so that a new one
// there is used. Locked, it costs no login, and the next is made after it is open.
func TestPasswordInTheSecretService(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.logIn()
	d.keep("work", querysim.Password)
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	env := append(bearerdtest.Without(w.Env("vyopta"), "BEARERD_PASSWORD"), "BEARERD_PASSWORD_KEYRING=work")
	p := w.Start(t, append(env, d.env...)...)
	if err := bearerdtest.ExpectStatus(bearerdtest.NewClient(t), p.URL+"/cpmm/api/v1/orgs/42/metrics/names", http.StatusOK); err != nil {
		t.Fatal(err)
	}
	p.Until(`"PASSWORD":"keyring"`)
	d.lock()
	// As if a person wanted it: nothing can show a dialog here, and that must not
	// hang.
	if status, body := p.Post("/login"); status != http.StatusAccepted {
		t.Fatalf("POST /login: got %d %s", status, body)
	}
	p.Until("the system's key store (Secret Service)")
	if n := w.Sim.Stats().Logins; n != 1 {
		t.Errorf("got %d logins, want none while the store is locked", n)
	}
}

// Without a store, bearerd serves, says so, and goes on.
func TestNoSecretService(t *testing.T) {
	t.Parallel()
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	p := w.Start(t, append(bearerdtest.Without(w.Env("vyopta"), "BEARERD_PASSWORD"), "BEARERD_PASSWORD_KEYRING=work")...)
	p.Until("waiting for the password in the system's key store (Secret Service): there is none in this session")
	p.Until("keep the secret in a file, and set the variable that ends in _FILE")
	d := newDesktop(t) // a bus, and nobody on it
	p = w.Start(t, append(append(bearerdtest.Without(w.Env("vyopta"), "BEARERD_PASSWORD"), "BEARERD_PASSWORD_KEYRING=work"), d.env...)...)
	p.Until("there is none in this session")
	bearerdtest.Eventually(t, bearerdtest.Soon, "the reason at /readyz", func() bool {
		_, _, body := bearerdtest.Fetch(t, bearerdtest.NewClient(t), p.Admin+"/readyz")
		return strings.Contains(body, "waiting for the password in the system's key store")
	})
}
