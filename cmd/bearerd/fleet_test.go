package main

import (
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/docs"
	"github.com/bearerd/bearerd/cmd/internal/longtest"
	"github.com/bearerd/bearerd/cmd/internal/querysim"
	"github.com/bearerd/bearerd/tokens"
)

// These tests compute what deploy/README.md says of many pods with one account,
// against the simulator's lock, which is a Keycloak's.

// called has a handler answer in this process: a synctest bubble has no network.
type called struct{ http.Handler }

func (c called) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	c.ServeHTTP(w, r)
	return w.Result(), nil
}

// fleet runs n pods in a bubble, all started within ten seconds and in use all
// the time, and calls then after the last has started. Each has this password.
func fleet(t *testing.T, n int, password string, then func(*querysim.Simulator)) {
	synctest.Test(t, func(t *testing.T) {
		sim, err := querysim.New(querysim.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := sim.SetFaults(querysim.Faults{BruteForceLock: true}); err != nil {
			t.Fatal(err)
		}
		vyopta := querysim.Vendors()[0]
		for range n {
			m := tokens.New(tokens.Options{KeepWarm: true, Login: tokens.Login{
				URL: "http://" + vyopta.LoginHost + vyopta.LoginPath, Host: vyopta.LoginHost,
				Grant: vyopta.GrantType, ClientID: vyopta.ClientID,
				Username:  tokens.Source{Value: querysim.Username},
				Password:  tokens.Source{Value: tokens.Secret(password)},
				Transport: called{sim.LoginHandler()},
			}})
			defer m.Close()
			m.Start()
			time.Sleep(10 * time.Second / time.Duration(n))
		}
		then(sim)
	})
}

func TestDeployREADMEFleetTable(t *testing.T) {
	longtest.Mark(t, "computes 20 s")
	t.Parallel()
	text := docs.Section(t, "deploy/README.md", "Scaling")
	rows := regexp.MustCompile(`(?m)^\| (\d+) \| ([\d.]+) \| (\d+) \| (\d+) \| (\d+) \|$`).FindAllStringSubmatch(text, -1)
	if len(rows) != 5 {
		t.Fatalf("the table has %d rows, want 5", len(rows))
	}
	for _, row := range rows {
		var n, logins, counted, locks int
		var rate float64
		if _, err := fmt.Sscan(strings.Join(row[1:], " "), &n, &rate, &logins, &counted, &locks); err != nil {
			t.Fatal(err)
		}
		fleet(t, n, querysim.Password, func(sim *querysim.Simulator) {
			time.Sleep(5 * time.Minute) // the first renewals are still near each other
			before := sim.Stats().Logins
			hours := max(1, 10/n) // few pods make few logins to count
			time.Sleep(time.Duration(hours) * time.Hour)
			s := sim.Stats()
			if got := float64(s.Logins-before) / float64(60*hours); math.Abs(got-rate) > 0.05*got {
				t.Errorf("%d pods: got %.3g logins a minute, README has %g", n, got, rate)
			}
			if s.LoginsOK != s.Logins {
				t.Errorf("%d pods: got %+v, want good logins only", n, s)
			}
		})
		fleet(t, n, "wrong", func(sim *querysim.Simulator) {
			time.Sleep(2 * time.Hour)
			s := sim.Stats()
			if s.Logins != logins || s.Logins-s.LoginsLocked != counted || s.Lockouts != locks {
				t.Errorf("%d pods, wrong password: got %d logins, %d counted and %d locks; README has %d, %d and %d",
					n, s.Logins, s.Logins-s.LoginsLocked, s.Lockouts, logins, counted, locks)
			}
		})
	}
}

// Pods that have worked try again each hour when the password is changed at the
// login server. Many of them keep the account locked: README says so.
func TestDeployREADMEChangedPassword(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ pods, least, most int }{{1, 0, 0}, {100, 60, 150}} {
		fleet(t, tt.pods, querysim.Password, func(sim *querysim.Simulator) {
			sim.SetPassword("another")
			time.Sleep(6 * time.Hour)
			if got := sim.Stats().Lockouts; got < tt.least || got > tt.most {
				t.Errorf("%d pods: got %d locks in six hours, want %d to %d", tt.pods, got, tt.least, tt.most)
			}
		})
	}
}
