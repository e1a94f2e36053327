//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/bearerd/bearerd/cmd/internal/admin"
	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

func TestStatus(t *testing.T) {
	t.Parallel()
	for _, v := range querysim.Vendors() {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
			p := w.Start(t, w.Env(v.Name)...)
			c := bearerdtest.NewClient(t)
			if err := bearerdtest.ExpectStatus(c, p.URL+bearerdtest.NamesPath, 200); err != nil {
				t.Fatal(err)
			}
			if err := bearerdtest.ExpectStatus(c, p.URL+"/nowhere", 404); err != nil {
				t.Fatal(err)
			}
			// A request is counted when it has ended, which is after its answer.
			const series = `bearerd_requests_total{code="404",method="GET"}`
			bearerdtest.Eventually(t, bearerdtest.Soon, series, func() bool { return p.Metric(series) == 1 })
			status, header, text := bearerdtest.Fetch(t, c, p.Admin+"/status")
			if status != 200 || header.Get("Content-Type") != "application/json" {
				t.Fatalf("got %d %v %q, want 200 and JSON", status, header, text)
			}
			if !strings.HasPrefix(text, "{\n  \"version\": ") || !strings.HasSuffix(text, "\n}\n") {
				t.Errorf("got %s\nwant indented lines, the last one ended", text)
			}
			var got admin.Status
			if err := json.Unmarshal([]byte(text), &got); err != nil {
				t.Fatal(err)
			}
			if !got.Ready || got.Token == nil || got.Token.Generation != 1 || !got.Token.Good || got.Token.LastUsed == nil ||
				got.Token.Remaining <= 290 || got.Token.Remaining > 300 || got.Login.LastResult != "ok" || got.Login.ClockSkew == nil {
				t.Errorf("got %s\nwant a good token that was used", text)
			}
			if got.Preset != v.Name || got.Grant != v.GrantType || got.Upstream != w.Query.URL || got.TokenURL != w.Login.URL+v.LoginPath ||
				"http://"+got.Listen[0] != p.URL || "http://"+got.Admin[0] != p.Admin {
				t.Errorf("got %s\nwant what the start-up line says", text)
			}
			if got, err := json.Marshal(got.Counters["bearerd_requests_total"]); err != nil || string(got) != `{"200":{"GET":1},"404":{"GET":1}}` {
				t.Errorf("requests: got %s %v, want those of /metrics", got, err)
			}
		})
	}
}

func TestStatusWhileTheLoginFails(t *testing.T) {
	t.Parallel()
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	v := querysim.Vendors()[0]
	p := w.Start(t, append(w.Env(v.Name), "BEARERD_CLIENT_ID=hidden-client",
		"BEARERD_TOKEN_URL="+w.Login.URL+v.LoginPath+"?tenant=hidden-query")...)
	if err := bearerdtest.ExpectStatus(bearerdtest.NewClient(t), p.URL+bearerdtest.NamesPath, 502); err != nil {
		t.Fatal(err)
	}
	_, _, text := bearerdtest.Fetch(t, http.DefaultClient, p.Admin+"/status")
	for _, hidden := range []string{"hidden-client", "hidden-query", querysim.Username} {
		if strings.Contains(text, hidden) {
			t.Errorf("/status has %s:\n%s", hidden, text)
		}
	}
	var got admin.Status
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	if got.Ready || !strings.Contains(text, `"token": null`) || got.Login.LastResult != "rejected" || got.Login.Rejections != 1 ||
		got.Login.FailingSince.IsZero() || got.Login.NextLogin.Before(got.Login.FailingSince) {
		t.Errorf("got %s\nwant no token, one refusal and a next login", text)
	}
	status, _, probe := bearerdtest.Fetch(t, http.DefaultClient, p.Admin+"/readyz")
	if status != 503 || !strings.Contains(probe, got.Reason) || !strings.Contains(probe, got.Login.Remedy) || got.Login.Remedy == "" {
		t.Errorf("/readyz: got %d %s, want the reason and the remedy of /status:\n%s", status, probe, text)
	}
}

// A person may want a login at any time: it ends each back-off, and the stop
// after five refusals, which would take seven and a half minutes by itself.
func TestLogInAgainLiftsAStop(t *testing.T) {
	t.Parallel()
	for how, logIn := range map[string]func(*testing.T, *bearerdtest.Process){
		"SIGHUP": func(t *testing.T, p *bearerdtest.Process) {
			p.Signal(syscall.SIGHUP)
		},
		"POST /login": func(t *testing.T, p *bearerdtest.Process) {
			if status, body := p.Post("/login"); status != 202 || !strings.HasPrefix(body, `{"ok":true,`) {
				t.Fatalf("POST /login: got %d %q, want 202", status, body)
			}
		},
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
			w.Sim.SetPassword("changed")
			p := w.Serve(t)
			for refusals := 1; ; refusals++ {
				bearerdtest.Eventually(t, bearerdtest.Soon, "a refusal more", func() bool {
					return p.Metric(`bearerd_logins_total{result="rejected"}`) == float64(refusals)
				})
				if refusals == 5 {
					break
				}
				logIn(t, p)
			}
			status, _, body := bearerdtest.Fetch(t, http.DefaultClient, p.Admin+"/readyz")
			if status != 503 || !strings.Contains(body, "logins stopped after 5 refusals (HTTP ") {
				t.Errorf("/readyz: got %d %s, want 503 and that logins stopped", status, body)
			}
			if got := p.Metric("bearerd_login_stopped"); got != 1 {
				t.Errorf("bearerd_login_stopped: got %v, want 1", got)
			}
			w.Sim.SetPassword(querysim.Password)
			logIn(t, p)
			bearerdtest.Eventually(t, bearerdtest.Soon, "ready", func() bool { return bearerdtest.ExpectStatus(http.DefaultClient, p.Admin+"/readyz", 200) == nil })
			if err := bearerdtest.ExpectStatus(bearerdtest.NewClient(t), p.URL+bearerdtest.NamesPath, 200); err != nil {
				t.Error(err)
			}
			if got := w.Sim.Stats().Logins; got != 6 {
				t.Errorf("logins: got %d, want 6", got)
			}
		})
	}
}

// While the token is good nothing but SIGHUP and POST /login makes bearerd
// use a changed file.
func TestLogInAgainReadsFiles(t *testing.T) {
	t.Parallel()
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	file := bearerdtest.WriteFile(t, querysim.Password+"\n")
	p := w.Serve(t, "BEARERD_PASSWORD=", "BEARERD_PASSWORD_FILE="+file)
	bearerdtest.Eventually(t, bearerdtest.Soon, "ready", func() bool { return bearerdtest.ExpectStatus(http.DefaultClient, p.Admin+"/readyz", 200) == nil })
	w.Sim.SetPassword("rotated")
	bearerdtest.Put(t, file, "rotated\n")
	p.Signal(syscall.SIGHUP)
	bearerdtest.Eventually(t, bearerdtest.Soon, "a second token", func() bool { return p.Metric("bearerd_token_generation") == 2 })
	if status, _ := p.Post("/login"); status != 202 {
		t.Errorf("POST /login: got %d, want 202", status)
	}
	bearerdtest.Eventually(t, bearerdtest.Soon, "a third token", func() bool { return p.Metric("bearerd_token_generation") == 3 })
	if got := w.Sim.Stats(); got.Logins != 3 || got.LoginsOK != 3 {
		t.Errorf("logins: got %d, %d of them ok; want 3 and 3", got.Logins, got.LoginsOK)
	}
}

func TestPOSTLoginJoinsTheOneUnderWay(t *testing.T) {
	t.Parallel()
	options, answerLogin := bearerdtest.HoldLogin(1)
	defer answerLogin()
	w := bearerdtest.NewWorld(t, options, nil)
	p := w.Serve(t)
	bearerdtest.Eventually(t, bearerdtest.Soon, "the first login", func() bool { return w.Sim.Stats().Logins == 1 })
	_, _, body := bearerdtest.Fetch(t, http.DefaultClient, p.Admin+"/startupz")
	if !strings.Contains(body, "the first login is under way") {
		t.Errorf("/startupz: got %s, want that the login is under way", body)
	}
	for range 3 {
		if status, body := p.Post("/login"); status != 202 {
			t.Errorf("got %d %q, want 202", status, body)
		}
	}
	answerLogin()
	if err := bearerdtest.ExpectStatus(bearerdtest.NewClient(t), p.URL+bearerdtest.NamesPath, 200); err != nil {
		t.Error(err)
	}
	if got := w.Sim.Stats().Logins; got != 1 {
		t.Errorf("logins: got %d, want 1", got)
	}
}

func TestQuitQuitQuit(t *testing.T) {
	t.Parallel()
	arrived, release := make(chan struct{}), make(chan struct{})
	w := bearerdtest.NewWorld(t, querysim.Options{}, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(arrived)
			<-release
		}
	}))
	t.Run("not without the setting", func(t *testing.T) {
		p := w.Serve(t)
		if status, body := p.Post("/quitquitquit"); status != 403 || !strings.Contains(body, "BEARERD_ALLOW_QUIT") {
			t.Errorf("got %d %q, want 403 and the setting", status, body)
		}
		if err := bearerdtest.ExpectStatus(http.DefaultClient, p.Admin+"/livez", 200); err != nil {
			t.Error(err)
		}
		if strings.Contains(p.Text(), `"message":"stopping"`) {
			t.Error("it stops")
		}
	})
	t.Run("a clean stop", func(t *testing.T) {
		p := w.Serve(t, "BEARERD_ALLOW_QUIT=true", "BEARERD_DRAIN_DELAY=5s")
		slow := make(chan error, 1)
		go func() { slow <- bearerdtest.ExpectStatus(bearerdtest.NewClient(t), p.URL+"/slow", 200) }()
		<-arrived
		// The second changes nothing, and is not the second signal; nor is a
		// signal after them, the first.
		for range 2 {
			if status, body := p.Post("/quitquitquit"); status != 202 || !strings.HasSuffix(body, "}\n") {
				t.Errorf("got %d %q, want 202", status, body)
			}
			expectDraining(t, p)
		}
		p.Signal(syscall.SIGTERM)
		close(release)
		if err := <-slow; err != nil {
			t.Errorf("a request that was under way: %v", err)
		}
		if code := p.ExitCode(bearerdtest.AtOnce); code != 0 {
			t.Errorf("exit code: got %d, want 0", code)
		}
		if got := strings.Count(p.Text(), `"message":"stopping"`); got != 1 {
			t.Errorf("stops begun: got %d, want 1", got)
		}
	})
	t.Run("a second signal after it ends it at once", func(t *testing.T) {
		p := w.Serve(t, "BEARERD_ALLOW_QUIT=true", "BEARERD_DRAIN_DELAY=1h")
		if status, _ := p.Post("/quitquitquit"); status != 202 {
			t.Errorf("got %d, want 202", status)
		}
		signalTwice(p)
		if code := p.ExitCode(bearerdtest.AtOnce); code != 1 {
			t.Errorf("exit code: got %d, want 1", code)
		}
	})
}

// What Prometheus's own linter has to say of /metrics: nothing.
func TestPromtool(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		bearerdtest.Lacking(t, "promtool")
	}
	w := bearerdtest.NewWorld(t, querysim.Options{}, nil)
	p := w.Serve(t)
	c := bearerdtest.NewClient(t)
	for path, want := range map[string]int{bearerdtest.NamesPath: 200, "/nowhere": 404} {
		if err := bearerdtest.ExpectStatus(c, p.URL+path, want); err != nil {
			t.Fatal(err)
		}
	}
	w.Sim.Revoke()
	if err := bearerdtest.ExpectStatus(c, p.URL+bearerdtest.NamesPath, 200); err != nil {
		t.Fatal(err)
	}
	const series = `bearerd_upstream_unauthorized_total{outcome="replayed"}`
	bearerdtest.Eventually(t, bearerdtest.Soon, series, func() bool { return p.Metric(series) == 1 })
	_, _, text := bearerdtest.Fetch(t, c, p.Admin+"/metrics")
	check := exec.Command(promtool, "check", "metrics")
	check.Stdin = strings.NewReader(text)
	if out, err := check.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: got %v and\n%s\nwant 0 and silence", err, out)
	}
}

// askEnv in the environment makes the test binary a client of the requests
// in it: another network namespace takes another process.
const askEnv = "BEARERD_TEST_ASK"

type question struct{ Method, URL, Host string }

type reply struct {
	Status int
	Body   string
}

// askedElsewhere reports whether this process was such a client.
func askedElsewhere() bool {
	text := os.Getenv(askEnv)
	if text == "" {
		return false
	}
	var questions []question
	if err := json.Unmarshal([]byte(text), &questions); err != nil {
		panic(err)
	}
	replies, err := put(questions)
	if err != nil {
		panic(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(replies); err != nil {
		panic(err)
	}
	return true
}

// put puts questions one after the other.
func put(questions []question) ([]reply, error) {
	client := &http.Client{Timeout: bearerdtest.Soon}
	var replies []reply
	for _, q := range questions {
		req, err := http.NewRequest(q.Method, q.URL, nil)
		if err != nil {
			return nil, err
		}
		req.Host = q.Host
		resp, err := client.Do(req)
		if err != nil {
			return nil, err
		}
		var body bytes.Buffer
		_, err = io.Copy(&body, resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			return nil, err
		}
		replies = append(replies, reply{resp.StatusCode, body.String()})
	}
	return replies, nil
}
