//go:build unix

package interop_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/dexidp/dex/server"
	"github.com/dexidp/dex/storage"
	"github.com/dexidp/dex/storage/memory"
	"golang.org/x/crypto/bcrypt"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
)

// What runs the login servers of TestLoginServers. Each is given an account, and
// returns where it takes logins.

// real is the account at all of them. Form-encoding changes each part. A colon in
// an id cannot stand in a Basic header (RFC 7617, 2), and what is no ASCII is
// refused by some in an id or a secret (RFC 6749, appendix A).
var real = account{"a b+c%d", "a:b c+d%25", "müller@example.com", "p%ss+ &=:ü"}

// Who may not log in, and the end of the id of a client that is given another
// grant, or another way of saying who it is.
const (
	lockedUser  = "locked@example.com"
	otherClient = ".other"
)

// onlyScope is what the account may have, where the server has scopes.
const onlyScope = "metrics"

// endpoint takes logins.
type endpoint struct {
	url       string
	transport http.RoundTripper
}

// newDex runs Dex, whose users are those of its own database.
func newDex(t *testing.T) endpoint {
	hash, err := bcrypt.GenerateFromPassword([]byte(real.password), bcrypt.DefaultCost) // Dex takes no lower one
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	store := storage.WithStaticPasswords(
		storage.WithStaticClients(memory.New(log), []storage.Client{{ID: real.clientID, Secret: real.clientSecret}}),
		[]storage.Password{{Email: real.username, Hash: hash, Username: "m", UserID: "1"}}, log)
	store = storage.WithStaticConnectors(store, []storage.Connector{{ID: server.LocalConnector, Type: server.LocalConnector}})
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	web := httptest.NewUnstartedServer(nil)
	t.Cleanup(web.Close)
	root := "http://" + web.Listener.Addr().String()
	dex, err := server.NewServer(ctx, server.Config{
		Issuer: root, Storage: store, Logger: log, PasswordConnector: server.LocalConnector,
		Web: server.WebConfig{WebFS: os.DirFS(moduleDir(t, "github.com/dexidp/dex") + "/web")},
	})
	if err != nil {
		t.Fatal(err)
	}
	web.Config.Handler = dex
	web.Start()
	return endpoint{root + "/token", http.DefaultTransport}
}

func moduleDir(t *testing.T, module string) string {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(dir))
}

// hydraProgram is the path of Hydra, made once. Its database in memory is
// SQLite's.
var hydraProgram = sync.OnceValues(func() (string, error) {
	dir, err := bearerdtest.Programs()
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "hydra")
	build := exec.Command("go", "build", "-tags", "sqlite,sqlite_omit_load_extension", "-ldflags=-s -w", "-o", file, "github.com/ory/hydra/v2")
	build.Dir = "hydra"
	build.Env = append(os.Environ(), "CGO_ENABLED=1", "CGO_CFLAGS=-O0") // SQLite takes half a minute else
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return file, nil
})

// hydraConfig is for a folder of sockets.
const hydraConfig = `
dsn: memory
serve:
  public: {host: "unix:%[1]s/public"}
  admin: {host: "unix:%[1]s/admin"}
secrets: {system: [only-for-a-test-of-bearerd]}
urls: {self: {issuer: "http://localhost"}, login: "http://localhost/login", consent: "http://localhost/consent"}
oauth2: {hashers: {algorithm: bcrypt, bcrypt: {cost: 8}}}
sqa: {opt_out: true}
`

// newHydra runs Ory Hydra, which lets a client say who it is in one way.
func newHydra(t *testing.T) endpoint {
	file, err := hydraProgram()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "hydra-") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	config := filepath.Join(dir, "hydra.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, hydraConfig, dir), 0o600); err != nil {
		t.Fatal(err)
	}
	runs(t, exec.Command(file, "serve", "all", "--dev", "--config", config))
	admin := &http.Client{Transport: onSocket(dir + "/admin")}
	bearerdtest.Eventually(t, bearerdtest.Soon, "Hydra is ready", func() bool {
		resp, err := admin.Get("http://hydra/health/ready")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	for id, method := range map[string]string{real.clientID: "client_secret_post", real.clientID + otherClient: "client_secret_basic"} {
		wantPosted(t, admin, "http://hydra/admin/clients", map[string]any{
			"client_id": id, "client_secret": real.clientSecret, "scope": onlyScope,
			"grant_types": []string{"client_credentials"}, "token_endpoint_auth_method": method,
		})
	}
	return endpoint{"http://hydra/oauth2/token", onSocket(dir + "/public")}
}

func onSocket(path string) *http.Transport {
	return &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
}

// glewlwydConfig is for a port, the folder of modules and the database's file.
const glewlwydConfig = `
bind_address = "127.0.0.1"
port = %d
external_url = "http://localhost"
login_url = "login.html"
api_prefix = "api"
log_mode = "console"
log_level = "WARNING"
cookie_secure = 0
session_key = "GLEWLWYD2_SESSION_ID"
admin_scope = "g_admin"
profile_scope = "g_profile"
user_module_path = "%[2]s/user"
user_middleware_module_path = "%[2]s/user_middleware"
client_module_path = "%[2]s/client"
user_auth_scheme_module_path = "%[2]s/scheme"
plugin_module_path = "%[2]s/plugin"
hash_algorithm = "SHA512"
database = { type = "sqlite3" path = "%[3]s" };
`

// newGlewlwyd runs Glewlwyd, set up as an administrator does it.
func newGlewlwyd(t *testing.T) endpoint {
	file, err := exec.LookPath("glewlwyd")
	if err != nil {
		bearerdtest.Lacking(t, "glewlwyd")
	}
	sqlite, err := exec.LookPath("sqlite3")
	if err != nil {
		bearerdtest.Lacking(t, "sqlite3")
	}
	usr := filepath.Dir(filepath.Dir(file)) // it may not be in its place
	schema, err := os.Open(usr + "/share/dbconfig-common/data/glewlwyd/install/sqlite3")
	if err != nil {
		t.Fatal(err)
	}
	defer schema.Close()
	dir := t.TempDir()
	create := exec.Command(sqlite, dir+"/db")
	create.Stdin = schema
	if out, err := create.CombinedOutput(); err != nil {
		t.Fatalf("sqlite3: %v\n%s", err, out)
	}
	port := bearerdtest.FreePort(t)
	root := fmt.Sprintf("http://127.0.0.1:%d/api", port)
	if err := os.WriteFile(dir+"/config", fmt.Appendf(nil, glewlwydConfig, port, usr+"/lib/glewlwyd", dir+"/db"), 0o600); err != nil {
		t.Fatal(err)
	}
	runs(t, exec.Command(file, "--config-file="+dir+"/config"))
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	admin := &http.Client{Jar: jar}
	bearerdtest.Eventually(t, bearerdtest.Soon, "Glewlwyd listens", func() bool {
		resp, err := admin.Get(root + "/")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return true
	})
	wantPosted(t, admin, root+"/auth/", map[string]any{"username": "admin", "password": "password"}) // of its documentation
	wantPosted(t, admin, root+"/scope/", map[string]any{"name": onlyScope, "display_name": onlyScope, "password_required": false, "scheme": map[string]any{}})
	wantPosted(t, admin, root+"/mod/plugin/", map[string]any{"module": "oauth2-glewlwyd", "name": "oauth2", "display_name": "OAuth 2.0", "parameters": map[string]any{
		"jwt-type": "sha", "jwt-key-size": "256", "key": strings.Repeat("only for a test ", 4), "cert": "",
		"access-token-duration": 3600, "refresh-token-duration": 3600, "code-duration": 600, "refresh-token-rolling": true,
		"auth-type-password-enabled": true, "auth-type-client-enabled": true,
		"auth-type-code-enabled": false, "auth-type-implicit-enabled": false, "auth-type-refresh-enabled": false,
	}})
	for name, enabled := range map[string]bool{real.username: true, lockedUser: false} {
		wantPosted(t, admin, root+"/user/", map[string]any{"username": name, "password": real.password, "enabled": enabled, "scope": []string{onlyScope}})
	}
	wantPosted(t, admin, root+"/client/", map[string]any{
		"client_id": real.clientID, "password": real.clientSecret, "client_secret": real.clientSecret, "confidential": true, "enabled": true,
		"name": "bearerd", "redirect_uri": []string{}, "authorization_type": []string{"password", "client_credentials"}, "scope": []string{onlyScope},
	})
	return endpoint{root + "/oauth2/token", http.DefaultTransport}
}

// wantPosted posts JSON.
func wantPosted(t *testing.T, client *http.Client, url string, value any) {
	t.Helper()
	body, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Post(url, "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, _ := io.ReadAll(resp.Body); resp.StatusCode/100 != 2 {
		t.Fatalf("POST %s: got %d %s", url, resp.StatusCode, text)
	}
}

// newNode runs @node-oauth/oauth2-server.
func newNode(t *testing.T) endpoint {
	if _, err := os.Stat("testdata/node/node_modules"); err != nil {
		bearerdtest.Lacking(t, "testdata/node/node_modules")
	}
	return endpoint{runNode(t, "oauth2-server.js", scriptEnv(t)...) + "/token", http.DefaultTransport}
}

// runNode runs a script of testdata/node, and returns the URL that it prints.
func runNode(t *testing.T, script string, env ...string) string {
	node, err := exec.LookPath("node")
	if err != nil {
		bearerdtest.Lacking(t, "node")
	}
	says, err := os.Create(filepath.Join(t.TempDir(), "says"))
	if err != nil {
		t.Fatal(err)
	}
	defer says.Close()
	cmd := exec.Command(node, script)
	cmd.Dir = "testdata/node"
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout = says
	runs(t, cmd)
	var root string
	bearerdtest.Eventually(t, bearerdtest.Soon, "node tells its address", func() bool {
		said, err := os.ReadFile(says.Name())
		if err != nil {
			t.Fatal(err)
		}
		var whole bool
		root, whole = strings.CutSuffix(string(said), "\n")
		return whole
	})
	return root
}

// newDjango, newAuthlib and newFastAPI each run a script of testdata/python.

func newDjango(t *testing.T) endpoint {
	return takesLogins(t, "oauth2_provider", "gunicorn", "--bind", "fd://3", "django_server:app")
}

func newAuthlib(t *testing.T) endpoint {
	return takesLogins(t, "authlib", "gunicorn", "--bind", "fd://3", "authlib_server:app")
}

func newFastAPI(t *testing.T) endpoint {
	return takesLogins(t, "fastapi", "uvicorn", "--fd", "3", "fastapi_server:app")
}

func takesLogins(t *testing.T, needs, module string, args ...string) endpoint {
	return endpoint{runPython(t, needs, module, args...) + "/token", http.DefaultTransport}
}

// python is Debian's, with Debian's packages: another may stand on PATH.
const python = "/usr/bin/python3"

// runPython runs a web server, a module of Python's, in testdata/python, with
// arguments that let it serve the socket that it finds as descriptor 3, and
// returns its URL.
func runPython(t *testing.T, needs, module string, args ...string) string {
	for _, name := range []string{needs, module} {
		if exec.Command(python, "-c", "import "+name).Run() != nil {
			bearerdtest.Lacking(t, "Debian's package of Python's "+name)
		}
	}
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	passed, err := socket.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer passed.Close()
	cmd := exec.Command(python, append([]string{"-m", module}, args...)...)
	cmd.Dir = "testdata/python"
	cmd.Env = append(append(os.Environ(), scriptEnv(t)...), "PYTHONDONTWRITEBYTECODE=1", "AUTHLIB_INSECURE_TRANSPORT=1")
	cmd.ExtraFiles = []*os.File{passed}
	runs(t, cmd)
	at := "http://" + socket.Addr().String()
	resp, err := (&http.Client{Timeout: patience}).Get(at) // the socket lets it wait
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return at
}

// scriptEnv tells a script of testdata of the account.
func scriptEnv(t *testing.T) []string {
	account, err := json.Marshal(map[string]string{
		"client_id": real.clientID, "client_secret": real.clientSecret, "username": real.username, "password": real.password,
		"locked": lockedUser, "other_client": real.clientID + otherClient,
	})
	if err != nil {
		t.Fatal(err)
	}
	return []string{"ACCOUNT=" + string(account), "DIR=" + t.TempDir()}
}

// runs runs a program until the test's end.
func runs(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "output"))
	if err != nil {
		t.Fatal(err)
	}
	if cmd.Stdout == nil {
		cmd.Stdout = out
	}
	cmd.Stderr = out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = out.Close()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // what it started is its to end
		_ = cmd.Wait()
		if t.Failed() {
			text, _ := os.ReadFile(out.Name())
			t.Logf("what %s wrote:\n%s", filepath.Base(cmd.Path), text)
		}
	})
}
