package querysim_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

// lockRig is a rig whose account locks.
type lockRig struct {
	rig
	clock *clock
}

func newLockRig(t *testing.T) lockRig {
	c := newClock()
	c.Advance(100 * time.Millisecond) // to a whole second
	r := lockRig{newRig(t, querysim.Options{Now: c.Now}), c}
	r.setFaults(querysim.Faults{BruteForceLock: true})
	return r
}

// login logs in with password and checks the answer's status.
func (r lockRig) login(password string, want int) {
	r.t.Helper()
	a := vyoptaAttempt()
	a.form.Set("password", password)
	got := do(r.t, a.request(r.t, r.rig.login))
	if got.status != want {
		r.t.Errorf("got %d %s, want %d", got.status, got.body, want)
	}
	const text = `{"error":"invalid_grant","error_description":"Invalid user credentials"}`
	if want != 200 && got.body != text {
		r.t.Errorf("got %s, want %s", got.body, text)
	}
}

func (r lockRig) good(want int) { r.t.Helper(); r.login(querysim.Password, want) }

// fail is a wrong password that is taken as one, two seconds after what went
// before.
func (r lockRig) fail() { r.t.Helper(); r.clock.Advance(2 * time.Second); r.login("wrong", 401) }

// checkLockedFor checks that the lock ends after wait and no sooner.
func (r lockRig) checkLockedFor(wait time.Duration) {
	r.t.Helper()
	r.login("wrong", 400)
	r.clock.Advance(wait - time.Millisecond)
	r.login("wrong", 400)
	r.clock.Advance(time.Millisecond)
}

func TestLockAfterThirtyFailures(t *testing.T) {
	r := newLockRig(t)
	for range 29 {
		r.fail()
	}
	if s := r.sim.Stats(); s.Lockouts != 0 || s.LoginsLocked != 0 {
		t.Fatalf("after 29 failures: got %+v, want no lock", s)
	}
	r.fail() // the 30th
	r.good(400)
	r.checkLockedFor(60 * time.Second)
	for n := 31; n <= 490; n++ {
		r.login("wrong", 401)
		r.checkLockedFor(min(time.Duration(n/30)*60, 900) * time.Second)
	}
	s := r.sim.Stats()
	if s.Lockouts != 1+460 || s.LoginsLocked != 1+2*461 || s.LoginsRefused != s.Logins {
		t.Errorf("stats: got %+v, want 461 lock-outs", s)
	}
	r.good(200)
}

func TestLockAfterTwoQuickFailures(t *testing.T) {
	for _, tt := range []struct {
		apart time.Duration
		locks bool
	}{{0, true}, {999 * time.Millisecond, true}, {time.Second, false}} {
		t.Run(fmt.Sprint(tt.apart), func(t *testing.T) {
			r := newLockRig(t)
			r.fail()
			r.clock.Advance(tt.apart)
			r.login("wrong", 401)
			if !tt.locks {
				r.good(200)
				return
			}
			// Whole seconds are compared: the fraction is off the wait.
			r.checkLockedFor(60*time.Second - tt.apart)
			r.good(200)
		})
	}
}

func TestGoodLoginForgetsFailures(t *testing.T) {
	r := newLockRig(t)
	for range 29 {
		r.fail()
	}
	r.good(200)
	r.login("wrong", 401) // at once, and not quick after a failure
	for range 28 {
		r.fail()
	}
	r.good(200)
}

func TestTwelveHoursForgetFailures(t *testing.T) {
	const forget = 12 * time.Hour
	for _, tt := range []struct {
		pause time.Duration
		locks bool
	}{{forget, true}, {forget + time.Millisecond, false}} {
		t.Run(fmt.Sprint(tt.pause), func(t *testing.T) {
			r := newLockRig(t)
			for range 29 {
				r.fail()
			}
			r.clock.Advance(tt.pause)
			r.login("wrong", 401)
			if tt.locks {
				r.good(400)
				return
			}
			r.login("wrong", 401) // the moment of the one before is forgotten with the rest
			r.good(200)
		})
	}
}

// Only a wrong password of a known user counts, at the server where it was
// given, and only while the lock is on.
func TestWhatDoesNotLock(t *testing.T) {
	r := newLockRig(t)
	unknown, client, secret := vyoptaAttempt(), vyoptaAttempt(), graphnetPassword()
	unknown.form.Set("username", "other@example.com")
	client.form.Set("client_id", "other")
	secret.form.Set("password", "wrong")
	for range 40 {
		for _, a := range []attempt{unknown, client, secret} {
			do(t, a.request(t, r.rig.login))
		}
	}
	r.good(200)
	r.tokens(graphnetPassword())

	r.setFaults(querysim.Faults{BruteForceLock: true, Login: querysim.LoginRejected, LoginNext: 2})
	r.good(401)
	r.good(401)
	r.good(400)
	r.tokens(wxpAttempt())
	r.setFaults(querysim.Faults{})
	for range 3 {
		r.login("wrong", 401)
	}
	r.setFaults(querysim.Faults{BruteForceLock: true})
	r.good(200)
	if s := r.sim.Stats(); s.Lockouts != 1 || s.LoginsLocked != 1 {
		t.Errorf("stats: got %+v, want one lock-out", s)
	}
}

func TestControlLock(t *testing.T) {
	r := newLockRig(t)
	r.setFaults(querysim.Faults{}) // the lock turns itself on
	for range 2 {                  // once more changes nothing
		resp, err := http.Post(r.control+"/lock", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != 200 || !r.sim.Faults().BruteForceLock {
			t.Errorf("got %d and %+v, want 200 and the lock on", resp.StatusCode, r.sim.Faults())
		}
	}
	r.good(400)
	r.tokens(graphnetPassword())
	r.checkLockedFor(60 * time.Second)
	r.good(200)
	r.tokens(wxpAttempt())
	if s := r.sim.Stats(); s.Lockouts != 2 || s.Logins != 6 {
		t.Errorf("stats: got %+v, want a lock-out at each of two servers, and 6 logins", s)
	}
}
