package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/advice"
	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/descriptors"
	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

// fewDescriptors starts a bearerd that may have n file descriptors, and a
// prober that asks its admin listener by new connections until the test ends.
func fewDescriptors(t *testing.T, n int, upstream http.Handler) (*bearerdtest.World, *bearerdtest.Process) {
	t.Helper()
	w := bearerdtest.NewWorld(t, querysim.Options{}, upstream)
	password := bearerdtest.WriteFile(t, querysim.Password)
	p := w.StartProgram(t, bearerdtest.CommandWithin(t, n), append(bearerdtest.Without(w.Env("vyopta"), "BEARERD_PASSWORD"), append(quietPorts,
		"BEARERD_PASSWORD_FILE="+password, patientDial)...)...)
	bearerdtest.Eventually(t, bearerdtest.Soon, "the first login", func() bool { return p.Metric("bearerd_ready") == 1 })

	stop := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		for {
			for _, path := range []string{"/livez", "/readyz", "/metrics"} {
				c := bearerdtest.NewClient(t)
				c.Timeout = bearerdtest.Soon
				if err := bearerdtest.ExpectStatus(c, p.Admin+path, 200); err != nil {
					t.Errorf("%s: %v", path, err)
				}
				c.CloseIdleConnections()
			}
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	t.Cleanup(func() {
		close(stop)
		done.Wait()
		if text := p.Text(); strings.Contains(text, "password file") || strings.Contains(text, "mend that file") ||
			strings.Contains(text, "Accept error") || strings.Contains(text, "HTTPS_PROXY") || strings.Contains(text, "BEARERD_UPSTREAM") {
			t.Error("the log sends people to what is not at fault")
		}
	})
	return w, p
}

const namesOfOrg = "GET " + bearerdtest.NamesPath + " HTTP/1.1\r\nHost: localhost\r\n\r\n"

// expectOK reads the head of an answer.
func expectOK(conn net.Conn) error {
	_ = conn.SetReadDeadline(time.Now().Add(bearerdtest.Soon))
	return readOK(conn)
}

func readOK(conn net.Conn) error {
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != 200 {
		return fmt.Errorf("got %d", resp.StatusCode)
	}
	return nil
}

// Clients that have had their answer and stay take all descriptors: each that
// comes is served, and who has been idle longest is closed for it.
func TestFaultIdleClientsTakeAllDescriptors(t *testing.T) {
	t.Parallel()
	_, p := fewDescriptors(t, 64, nil)
	var all []net.Conn
	for i := range 150 {
		conn := p.Dial(p.URL, namesOfOrg)
		if err := expectOK(conn); err != nil {
			t.Fatalf("client %d: %v", i, err)
		}
		all = append(all, conn)
		if fds := p.FDs(); fds > 64-descriptors.OwnDescriptors/2 {
			t.Fatalf("%d descriptors are open", fds)
		}
	}
	p.LogInAgain()
	closed := func(conn net.Conn) bool {
		_ = conn.SetReadDeadline(time.Now().Add(time.Millisecond))
		_, err := conn.Read(make([]byte, 1))
		return err != nil && !os.IsTimeout(err)
	}
	if !closed(all[0]) || closed(all[len(all)-1]) {
		t.Error("it is not the client that has been idle longest who was closed")
	}
	p.Until(`"message":"file descriptors are short"`)
	if n := strings.Count(p.Text(), descriptors.SayScarce); n != 1 {
		t.Errorf("it was told %d times, want once", n)
	}
}

// Clients that say nothing, or never end their header, are closed after a second
// where others want to come in.
func TestFaultSilentClientsTakeAllDescriptors(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{"nothing": "", "half a header": "GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: "} {
		t.Run(name, func(t *testing.T) {
			_, p := fewDescriptors(t, 64, nil)
			for range 30 {
				p.Dial(p.URL, text)
			}
			p.LogInAgain()
			if err := expectOK(p.Dial(p.URL, namesOfOrg)); err != nil {
				t.Error(err)
			}
			p.Until(descriptors.SayScarce)
		})
	}
}

// Silent clients of the admin listener are closed in the same way.
func TestFaultSilentClientsOfTheAdminListener(t *testing.T) {
	t.Parallel()
	_, p := fewDescriptors(t, 64, nil)
	for range 30 {
		p.Dial(p.Admin, "")
	}
	for range 3 {
		if err := bearerdtest.ExpectStatus(bearerdtest.NewClient(t), p.Admin+"/livez", 200); err != nil {
			t.Error(err)
		}
		if err := expectOK(p.Dial(p.URL, namesOfOrg)); err != nil {
			t.Error(err)
		}
	}
}

// Requests that wait for upstream keep their connections; those above what there
// is room for wait outside, and are all answered in the end.
func TestFaultWaitingRequestsTakeAllDescriptors(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	w, p := fewDescriptors(t, 64, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { <-release; fmt.Fprint(rw, "ok") }))
	result := make(chan error, 1)
	go func() {
		result <- bearerdtest.Many(60, func(int) error { return expectOK(p.Dial(p.URL, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")) })
	}()
	p.Until(descriptors.SayScarce)
	p.LogInAgain()
	if n := p.Metric("bearerd_requests_in_flight"); n < descriptors.LeastClients || n > 24 {
		t.Errorf("%v requests in flight", n)
	}
	close(release)
	if err := <-result; err != nil {
		t.Error(bearerdtest.FirstLines(err))
	}
	if got := w.Sim.Stats(); got.Logins != 2 {
		t.Errorf("logins: got %d, want 2", got.Logins)
	}
}

// Uploads have connections of their own upstream, beside those that are kept
// there from requests before.
func TestFaultUploadsTakeAllDescriptors(t *testing.T) {
	t.Parallel()
	_, p := fewDescriptors(t, 64, http.HandlerFunc(bearerdtest.Digest))
	body := bytes.Repeat([]byte("x"), 2<<20) // above REPLAY_BUFFER
	want := bearerdtest.DigestReader(bytes.NewReader(body))
	c := bearerdtest.NewClient(t)
	once := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // a POST must not meet the close of an idle connection
	for range 2 {
		if err := bearerdtest.Many(40, func(int) error { return bearerdtest.ExpectStatus(c, p.URL+"/", 200) }); err != nil {
			t.Error(bearerdtest.FirstLines(err))
		}
		c.CloseIdleConnections()
		err := bearerdtest.Many(40, func(i int) error {
			resp, err := once.Post(p.URL+"/up", "application/octet-stream", bytes.NewReader(body))
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			if got, err := io.ReadAll(resp.Body); string(got) != want {
				return fmt.Errorf("upload %d: got %d %.200q %v", i, resp.StatusCode, got, err)
			}
			return nil
		})
		if err != nil {
			t.Error(bearerdtest.FirstLines(err))
		}
	}
	p.LogInAgain()
}

// Where no descriptor is left all the same, each that wants one says so: a login
// that reads a file, one that dials, upstream, and who accepts connections. With
// descriptors all goes on by itself.
func TestFaultNoDescriptorIsTold(t *testing.T) {
	t.Parallel()
	prlimit, err := exec.LookPath("prlimit")
	if err != nil {
		bearerdtest.Lacking(t, "prlimit")
	}
	for _, inFile := range []bool{false, true} {
		t.Run(fmt.Sprintf("password in a file %v", inFile), func(t *testing.T) {
			w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
			env := w.Env("vyopta")
			if inFile {
				password := bearerdtest.WriteFile(t, querysim.Password)
				env = append(bearerdtest.Without(env, "BEARERD_PASSWORD"), "BEARERD_PASSWORD_FILE="+password)
			}
			p := w.Start(t, env...)
			p.Until(`"logged in"`)
			w.Login.CloseClientConnections() // or the login would use the one that is there
			limit := func(n string) {
				if out, err := exec.Command(prlimit, "--pid", strconv.Itoa(p.Cmd.Process.Pid), "--nofile="+n+":").CombinedOutput(); err != nil {
					t.Fatalf("prlimit: %v %s", err, out)
				}
			}
			before := p.FDs()
			conn := p.Dial(p.URL, "")
			bearerdtest.Eventually(t, bearerdtest.Soon, "the connection is there", func() bool { return p.FDs() > before })
			limit("3") // those that are open stay
			if _, err := io.WriteString(conn, namesOfOrg); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil || resp.StatusCode != http.StatusBadGateway {
				t.Errorf("got %v %v, want 502", resp, err)
			}
			p.Signal(syscall.SIGHUP)
			p.Dial(p.Admin, "")
			says := "login failed"
			if inFile {
				says = "login waits for a file"
			}
			for _, message := range []string{"upstream fails", says, descriptors.SayScarce} {
				p.Until(`"message":"` + message + `"`)
				for line := range strings.Lines(p.Text()) {
					if strings.Contains(line, `"message":"`+message+`"`) && (!strings.Contains(line, "no file descriptor is left") || !strings.Contains(line, advice.RaiseLimit)) {
						t.Errorf("got %s", line)
					}
				}
			}
			limit("1024")
			p.Until(`"login works again"`)
			if err := expectOK(p.Dial(p.URL, namesOfOrg)); err != nil {
				t.Error(err)
			}
		})
	}
}
