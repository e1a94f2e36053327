package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

// The console that somebody has clicked into: while text is selected in it, Windows
// has whoever writes there wait. That of Wine selects and goes on, so its terminal
// takes nothing, by which the writer waits for the console as well. All else goes on,
// a stop too, and once it shows again what was lost is told.
func TestWineConsoleThatStandsStill(t *testing.T) {
	for _, shows := range []bool{true, false} {
		t.Run(map[bool]string{true: "for a while", false: "to the end"}[shows], func(t *testing.T) {
			w := newWine(t)
			env, url, admin := w.settings("a.env")
			p := w.start("-env-file", env)
			p.expect("logged in", 1)
			p.still.Lock()
			goesOn := func() { p.still.Unlock() }
			defer func() { goesOn() }()

			c := bearerdtest.NewClient(t)
			p.Admin = admin
			long := url + "/" + strings.Repeat("x", 2<<10)
			for requests := 0; p.Metric("bearerd_log_lines_lost_total") == 0; {
				if err := bearerdtest.Many(4, func(int) error {
					for range 100 {
						if err := bearerdtest.ExpectStatus(c, long, 404); err != nil {
							return err
						}
					}
					return nil
				}); err != nil {
					t.Fatal(bearerdtest.FirstLines(err))
				}
				if requests += 400; requests > 10_000 { // 2 MiB wait, a line has 1 KiB
					t.Fatal("the console takes all: it does not stand still")
				}
			}
			for _, path := range []string{admin + "/livez", admin + "/readyz", admin + "/status", url + bearerdtest.NamesPath} {
				if err := bearerdtest.ExpectStatus(c, path, 200); err != nil {
					t.Errorf("%s: %v", path, err)
				}
			}
			w.run(0, "healthcheck", "-env-file", env)
			p.LogInAgain()
			if shows {
				goesOn()
				goesOn = func() {}
				p.expect("log lines lost", 1)
			}
			began := time.Now()
			p.ctrlC()
			if code := p.ExitCode(bearerdtest.Soon); code != 0 || time.Since(began) > 10*time.Second {
				t.Errorf("after Ctrl-C: got %d after %v, want 0 at once", code, time.Since(began))
			}
		})
	}
}

// At a double click the console is bearerd's alone. It sets bearerd up, the next
// serves, and one more opens the status page of that; the window stays until Enter.
// With a shell in the console it is a command like any other. Wine's console of a
// terminal is one process's in the same way; a window of its own wants a display.
func TestWineDoubleClick(t *testing.T) {
	w := newWine(t)
	const window = "Press Enter to close this window."
	folders, err := filepath.Glob(w.under(`C:\users\*\AppData\Roaming`))
	if err != nil || len(folders) != 1 {
		t.Fatalf("got folders %q, %v", folders, err)
	}
	folder := filepath.Join(folders[0], "bearerd")
	if bearerdtest.IsThere(folder) {
		t.Fatal("this prefix has settings already")
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	// The usual port is taken, by this test or somebody else, so that setup asks.
	if taken, err := net.Listen("tcp", "localhost:8080"); err == nil {
		defer taken.Close()
	}
	// What Wine opens pages with.
	programs := t.TempDir()
	opened := filepath.Join(programs, "opened")
	if err := os.WriteFile(filepath.Join(programs, "xdg-open"), []byte("#!/bin/sh\necho \"$1\" >>'"+opened+"'\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", programs+":"+os.Getenv("PATH"))
	closes := func(p *atTerminal, code int) {
		t.Helper()
		p.expect(window, 1)
		select {
		case <-p.Exited:
			t.Fatal("the window was gone before Enter")
		default:
		}
		bearerdtest.Eventually(t, bearerdtest.Soon, "the window closes", func() bool {
			p.enter("\r") // once more where Wine's console had none who read yet
			select {
			case <-p.Exited:
				return true
			case <-time.After(time.Second):
				return false
			}
		})
		if got := p.ExitCode(bearerdtest.Soon); got != code {
			t.Errorf("got exit code %d, want %d\n%s", got, code, p.text())
		}
	}

	vendor := querysim.Vendors()[0]
	login := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		r.Host = vendor.LoginHost // which setup does not ask for
		w.w.Login.Config.Handler.ServeHTTP(rw, r)
	}))
	t.Cleanup(login.Close)

	port := bearerdtest.FreePort(t)
	p := w.start()
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(p.text())
		}
	})
	for _, step := range [][2]string{
		{"Which port shall tools use?", fmt.Sprint(port)},
		{"1 to 4 [1]:", "4"},
		{"URL of the API:", w.w.Query.URL},
		{"URL that logins are posted to:", login.URL + vendor.LoginPath},
		{"a client with a secret of its own (2)? [1]:", "1"},
		{"client_id:", vendor.ClientID},
		{"User name:", querysim.Username},
		{strings.TrimSpace(passwordPrompt), querysim.Password},
		{"That works", ""},
	} {
		p.expect(step[0], 1)
		if step[1] != "" {
			p.enter(step[1] + "\r")
		}
	}
	for _, step := range [][2]string{
		{"Credential Manager? [Y/n]", "n"},
		{"Keep it in a file", "y"},
		{"Write them there? [Y/n]", "y"},
		{"Start bearerd now and at each logon? [Y/n]", "n"},
	} {
		p.expect(step[0], 1)
		p.enter(step[1] + "\r")
	}
	closes(p, 0)
	url := fmt.Sprint("http://localhost:", port)

	p = w.start()
	p.expect("logged in", 1)
	w.expect(url)
	again := w.start()
	again.expect("bearerd runs. Its status page: http://localhost:", 1)
	closes(again, 0)
	bearerdtest.Eventually(t, bearerdtest.Soon, "the page is opened", func() bool {
		page, err := os.ReadFile(opened)
		return err == nil && strings.HasPrefix(string(page), "http://localhost:") && strings.Contains(again.text(), strings.TrimSpace(string(page)))
	})
	cmd := w.command()
	cmd.Args = append([]string{cmd.Args[0], "cmd", "/c"}, cmd.Args[1:]...)
	shell := startCommandAtTerminal(t, w.w, cmd, os.Environ()...)
	if code := shell.ExitCode(bearerdtest.Soon); code != 1 || strings.Contains(shell.text(), window) {
		t.Errorf("from a shell: got exit code %d, want 1, and no window to be closed\n%s", code, shell.text())
	}
	shell.expect("port taken by another program", 1)
	p.ctrlC()
	closes(p, 0)
}

// A PAC file that the user's settings name says how upstream is reached, by the first
// of its proxies that is there: Windows' own library reads it, which Wine has too.
// Alone: the settings are the prefix's.
func TestWineProxyOfAPACFile(t *testing.T) {
	w := newWine(t)
	query := w.w.Query.Config.Handler
	hop := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Host != "query.example" {
			rw.WriteHeader(http.StatusBadGateway)
			return
		}
		query.ServeHTTP(rw, r)
	}))
	t.Cleanup(hop.Close)
	script := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "application/x-ns-proxy-autoconfig")
		_, _ = fmt.Fprintf(rw, `function FindProxyForURL(url, host) {
			return shExpMatch(host, "*.example") ? "PROXY %s" : "DIRECT";
		}`, strings.TrimPrefix(hop.URL, "http://"))
	}))
	t.Cleanup(script.Close)

	const key, name = `HKCU\Software\Microsoft\Windows\CurrentVersion\Internet Settings\Connections`, "DefaultConnectionSettings"
	registry := func(args ...string) error {
		return exec.Command("/usr/lib/wine/wine64", append([]string{"reg"}, args...)...).Run()
	}
	// The form, a counter, flags, of which 4 is for a PAC file, and each text behind
	// its length: proxies, exceptions and the file's address.
	pac := script.URL + "/proxy.pac"
	value := fmt.Sprintf("4600000000000000050000000000000000000000%02x000000%x", len(pac), pac) + strings.Repeat("00", 32)
	if err := registry("add", key, "/v", name, "/t", "REG_BINARY", "/d", value, "/f"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = registry("delete", key, "/v", name, "/f") })

	env, url, _ := w.settings("a.env", "BEARERD_UPSTREAM=http://query.example", "BEARERD_ALLOW_INSECURE=true", "BEARERD_LOG_FORMAT=json")
	p := w.start("-env-file", env)
	p.expect("logged in", 1)
	shows(t, p.text(), `"upstream_proxy":"`+hop.URL+`"`, `"proxy":"system"`)
	w.expect(url)
}
