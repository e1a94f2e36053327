package logs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/advice"
	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/proxy"
	"github.com/bearerd/bearerd/tokens"
)

const rightPassword, wrongPassword = "hunter2-password", "hunter3-password"

// expectLines compares levels and messages.
func expectLines(t *testing.T, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got %d lines\n%s\nwant %d\n%s", len(got), strings.Join(got, "\n"), len(want), strings.Join(want, "\n"))
	}
}

// expectFields looks for what each line of trouble must hold.
func expectFields(t *testing.T, lines []bearerdtest.Logged) {
	t.Helper()
	for _, n := range lines {
		switch n.Message {
		case SayLoginWorks, sayUpstreamAnswers:
			if n.FailingSince.IsZero() || n.FailedFor <= 0 {
				t.Errorf("%+v: no word of the trouble that is over", n)
			}
			continue
		case SayLoggedIn, SayRenewed:
			continue
		}
		if n.Cause == "" || n.Remedy == "" || n.FailingSince.IsZero() || n.FailingSince.After(n.Time.Add(time.Millisecond)) {
			t.Errorf("%+v: no cause, no remedy, or not since when", n)
		}
		want := !strings.HasPrefix(n.Message, "upstream") && n.Message != sayLoginStopped
		if got := n.LoggingIn || n.NextLogin.After(n.Time); got != want {
			t.Errorf("%+v: got a next login: %t, want %t", n, got, want)
		}
		if strings.HasPrefix(n.Message, "login") == (n.Impact == "") {
			t.Errorf("%+v: impact %q", n, n.Impact)
		}
		if n.Code == "" && n.Impact == "" {
			t.Errorf("%+v: neither what clients get nor what it means to them", n)
		}
	}
}

// A person reads the log of an hour in which nearly everything fails once:
// 7,200 requests, some hundred logins, and a line for each change of state.
func TestLogOfABadHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		between := func(from, to float64) bool {
			minute := time.Since(start).Minutes()
			return from <= minute && minute < to
		}
		attempts := 0
		login := roundTrip(func(r *http.Request) (*http.Response, error) {
			attempts++
			if err := r.ParseForm(); err != nil {
				t.Error(err)
			}
			time.Sleep(100 * time.Millisecond)
			switch {
			case between(10, 18) && attempts%2 == 0:
				<-r.Context().Done()
				return nil, r.Context().Err()
			case between(10, 18):
				return replyWith(503, "<html>sorry")
			case between(24, 32):
				return replyWith(429, "", "Retry-After", "60")
			case r.PostForm.Get("password") != rightPassword:
				return replyWith(401, `{"error":"invalid_grant"}`)
			}
			return replyWith(200, fmt.Sprintf(`{"access_token":"token-%d","token_type":"Bearer","expires_in":300}`, attempts))
		})
		var calls int
		var mu sync.Mutex // guards calls
		upstream := roundTrip(func(r *http.Request) (*http.Response, error) {
			mu.Lock()
			calls++
			turn := calls % 3
			mu.Unlock()
			time.Sleep(20 * time.Millisecond)
			switch {
			case !between(51, 52):
				return replyWith(200, "[]", "Content-Type", "application/json")
			case turn == 0:
				return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 443}, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
			case turn == 1:
				return nil, io.ErrUnexpectedEOF
			}
			httptrace.ContextClientTrace(r.Context()).GotConn(httptrace.GotConnInfo{})
			time.Sleep(time.Second)
			return nil, os.ErrDeadlineExceeded
		})
		file := filepath.Join(t.TempDir(), "password")
		write := func(password string) {
			if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
				t.Error(err)
			}
		}
		write(rightPassword)
		time.AfterFunc(35*time.Minute, func() { write(wrongPassword) })
		time.AfterFunc(46*time.Minute, func() { write(rightPassword) })

		d := newDaemon(t, 15*time.Second, tokens.Source{File: file}, login, upstream)
		d.serve(500*time.Millisecond, time.Hour)
		d.close()

		log := d.out.String()
		t.Logf("%d logins; answers by code %v\n%s", attempts, d.codes, log)
		lines, says := bearerdtest.ReadLog(t, log)
		// The points of the refreshes ahead are drawn; the times above leave each
		// the room that it needs.
		expectLines(t, says, []string{
			"info: logged in",
			"info: token renewed",
			"info: token renewed",
			"warn: login failed", // 503 …
			"warn: login failed", // … and time-outs, by turns
			"warn: requests fail: no token",
			"info: login works again",
			"info: token renewed",
			"warn: login failed", // 429
			"warn: requests fail: no token",
			"info: login works again",
			"error: login rejected",
			"warn: requests fail: no token",
			"error: login stopped",
			"info: login works again",
			"info: token renewed",
			"warn: upstream fails", // refused, cut off, too slow, by turns
			"warn: upstream fails",
			"warn: upstream fails",
			"info: upstream answers again",
			"info: token renewed",
			"info: token renewed",
		})
		expectFields(t, lines)
		lost, broken := 0, 0
		for _, n := range lines {
			switch n.Message {
			case SayLoginWorks:
				lost += n.FailedRequests
				if n.FailedLogins < 5 {
					t.Errorf("%+v: got %d failed logins, want 5 or more", n, n.FailedLogins)
				}
			case sayUpstreamAnswers:
				broken += n.FailedRequests
			}
		}
		if want := d.codes[proxy.LoginUnavailable] + d.codes[proxy.LoginRejected]; lost != want || lost < 1000 {
			t.Errorf("requests without a token: the log tells of %d, want %d and many", lost, want)
		}
		if want := d.codes[proxy.UpstreamUnreachable] + d.codes[proxy.UpstreamTimeout]; broken != want || broken < 100 {
			t.Errorf("requests without an answer: the log tells of %d, want %d and many", broken, want)
		}
		for _, secret := range []string{"hunter", "secret-", "token-"} {
			if strings.Contains(log, secret) {
				t.Errorf("the log holds %q", secret)
			}
		}
	})
}

// An account that is locked for some hours looks like one whose password was
// changed: the log says when bearerd begins to ask but once an hour.
func TestLogOfALockedAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		login := roundTrip(func(*http.Request) (*http.Response, error) {
			if hours := time.Since(start).Hours(); 1 < hours && hours < 5 {
				return replyWith(401, `{"error":"invalid_grant"}`)
			}
			return replyWith(200, `{"access_token":"a","token_type":"Bearer","expires_in":3600}`)
		})
		upstream := roundTrip(func(*http.Request) (*http.Response, error) { return replyWith(200, "") })
		d := newDaemon(t, 15*time.Second, tokens.Source{Value: rightPassword}, login, upstream)
		d.serve(10*time.Second, 6*time.Hour+30*time.Minute)
		d.close()
		lines, says := bearerdtest.ReadLog(t, d.out.String())
		first := slices.Index(says, "error: login rejected")
		if first < 0 {
			t.Fatalf("no rejection:\n%s", &d.out)
		}
		expectLines(t, says[first:first+4], []string{
			"error: login rejected",
			"error: login rejected",
			"warn: requests fail: no token",
			"info: login works again",
		})
		expectFields(t, lines)
		hourly := lines[first+1]
		if !strings.Contains(hourly.Remedy, "once an hour") || hourly.NextLogin.Sub(hourly.Time) < 40*time.Minute {
			t.Errorf("got %+v, want it to say that the next attempt comes in an hour", hourly)
		}
	})
}

// A login server that is slower than TOKEN_WAIT fails no login, but requests.
func TestLogOfASlowLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		login := roundTrip(func(*http.Request) (*http.Response, error) {
			time.Sleep(9500 * time.Millisecond) // no request gives up at that moment
			return replyWith(200, `{"access_token":"a","token_type":"Bearer","expires_in":60}`)
		})
		upstream := roundTrip(func(*http.Request) (*http.Response, error) { return replyWith(200, "") })
		d := newDaemon(t, 2*time.Second, tokens.Source{Value: rightPassword}, login, upstream)
		d.serve(time.Second, 30*time.Second)
		d.close()
		lines, says := bearerdtest.ReadLog(t, d.out.String())
		expectLines(t, says, []string{"warn: requests fail: no token", "info: logged in"})
		if n := lines[0]; n.Code != "login_timeout" || n.Cause == "" || n.Remedy == "" || n.FailingSince.IsZero() {
			t.Errorf("got %+v", n)
		}
		if got, want := lines[1].FailedRequests, d.codes[proxy.LoginTimeout]; got != want || got == 0 {
			t.Errorf("requests that failed: got %d, want %d", got, want)
		}
	})
}

// Logs that a unit test feeds.

func newStates(level string) (*States, *bytes.Buffer) {
	var out bytes.Buffer
	return &States{
		Logger: NewLogger(&out, false, level, "json"),
		Status: func() tokens.Status { return tokens.Status{} },
	}, &out
}

func succeeded() tokens.Event {
	return tokens.Event{Token: &tokens.Token{Generation: 7, Lifetime: 5 * time.Minute, Rule: tokens.RuleExpiresIn}}
}

func failedWith(cause string) tokens.Event {
	now := time.Now()
	return tokens.Event{Failure: tokens.Failure{Kind: tokens.Transient, Cause: tokens.Cause{Kind: tokens.CauseNoAnswer, Err: errors.New(cause)}, FailingSince: now}, NextLogin: now.Add(time.Second)}
}

func TestStateLogOfCausesThatAlternate(t *testing.T) {
	l, out := newStates("info")
	for range 100 {
		l.Login(failedWith("HTTP 503"))
		l.Login(failedWith("dial tcp 192.0.2.1:443: connection refused"))
	}
	l.Login(succeeded())
	l.Login(failedWith("HTTP 503")) // another episode
	lines, says := bearerdtest.ReadLog(t, out.String())
	expectLines(t, says, []string{"warn: login failed", "warn: login failed", "info: login works again", "warn: login failed"})
	if got := lines[2].FailedLogins; got != 200 {
		t.Errorf("failed logins: got %d, want 200", got)
	}

	out.Reset()
	l.Login(succeeded())
	for i := range 1000 {
		l.Login(failedWith("cause " + strconv.Itoa(i)))
	}
	if _, says := bearerdtest.ReadLog(t, out.String()); len(says) != 1+maxCauses {
		t.Errorf("1,000 causes: got %d lines, want one and %d", len(says), maxCauses)
	}

	l, out = newStates("debug")
	for range 3 {
		l.Login(failedWith("HTTP 503"))
	}
	_, says = bearerdtest.ReadLog(t, out.String())
	expectLines(t, says, []string{"warn: login failed", "debug: login failed", "debug: login failed"})
}

func TestStateLogOfCredentials(t *testing.T) {
	l, out := newStates("info")
	rejected := func(n int) tokens.Event {
		ev := failedWith("")
		ev.Cause = tokens.Cause{Kind: tokens.CauseStatus, Status: 401, Code: "invalid_grant"}
		ev.Kind, ev.Status, ev.Rejections = tokens.Rejected, 401, n
		return ev
	}
	waiting := failedWith(`waiting for the password file "/p": it is empty`)
	waiting.Waiting, waiting.NextLogin = true, time.Time{}
	stopped := rejected(5)
	stopped.Stopped, stopped.NextLogin = true, time.Time{}
	for _, ev := range []tokens.Event{
		waiting, rejected(1), rejected(2), rejected(3),
		rejected(1), rejected(2), rejected(3), rejected(4), // another password, as wrong
		stopped,
		stopped, // a person asked for one more
	} {
		l.Login(ev)
	}
	lines, says := bearerdtest.ReadLog(t, out.String())
	expectLines(t, says, []string{
		"warn: login waits for a file", "error: login rejected", "error: login rejected", "error: login stopped", "error: login stopped",
	})
	for _, n := range lines {
		if n.Cause == "" || n.Remedy == "" || n.Impact == "" || n.FailingSince.IsZero() {
			t.Errorf("got %+v", n)
		}
	}

	l, out = newStates("info")
	l.Way.Typed = true
	l.Login(rejected(1))
	if lines, _ := bearerdtest.ReadLog(t, out.String()); !strings.Contains(lines[0].Remedy, "type user name and password anew") {
		t.Errorf("credentials that were typed: got remedy %q", lines[0].Remedy)
	}
	// SIGHUP would be the end of a bearerd whose credentials were typed, and nothing
	// to one that was started with it ignored.
	for _, way := range []advice.Way{{}, {Typed: true}, {Deaf: true}} {
		for _, ev := range []tokens.Event{stopped, rejected(tokens.QuickRejections)} {
			l, out = newStates("info")
			l.Way = way
			l.Login(ev)
			if lines, _ := bearerdtest.ReadLog(t, out.String()); strings.Contains(lines[0].Remedy, "SIGHUP") != (way == advice.Way{} && runtime.GOOS != "windows") ||
				!strings.Contains(lines[0].Remedy, "POST /login") {
				t.Errorf("%+v: got remedy %q", way, lines[0].Remedy)
			}
		}
	}
}

func TestStateLogOfATokenThatIsStillGood(t *testing.T) {
	l, out := newStates("info")
	expiry := time.Now().Add(time.Minute)
	l.Status = func() tokens.Status { return tokens.Status{Good: true, Expiry: expiry} }
	l.Login(failedWith("HTTP 503"))
	lines, _ := bearerdtest.ReadLog(t, out.String())
	if n := lines[0]; !strings.HasPrefix(n.Impact, "none yet") || n.TokenExpiry.Sub(expiry).Abs() > time.Millisecond {
		t.Errorf("got %+v, want it to say that requests go on until %v", n, expiry)
	}
}

// A request may end after the login that came too late for it, or because
// bearerd stops. Neither is a login that fails.
func TestStateLogOfRequestsThatComeLate(t *testing.T) {
	l, out := newStates("info")
	for _, st := range []tokens.Status{{Good: true, LoggedInOnce: true}, {LoggedInOnce: true}, {}} {
		l.Status = func() tokens.Status { return st }
		l.Request(&proxy.Exchange{Error: proxy.LoginUnavailable})
		if st.Good {
			l.Request(&proxy.Exchange{Error: proxy.LoginTimeout})
		}
	}
	if out.Len() > 0 {
		t.Errorf("got\n%s\nwant nothing", out)
	}
}

func TestStateLogOfClocks(t *testing.T) {
	l, out := newStates("info")
	for _, skew := range []time.Duration{0, 4, -6, -6, 7, 4, 4, 5, 1, 0, 4} {
		ev := succeeded()
		ev.Skew, ev.SkewKnown = skew*time.Second, true
		l.Login(ev)
		l.Login(succeeded()) // an answer without a Date
	}
	lines, says := bearerdtest.ReadLog(t, out.String())
	lines = slices.DeleteFunc(lines, func(n bearerdtest.Logged) bool { return !strings.Contains(n.Message, "clock") })
	says = slices.DeleteFunc(says, func(s string) bool { return !strings.Contains(s, "clock") })
	expectLines(t, says, []string{"warn: local clock differs from the login server's", "info: local clock agrees with the login server's again"})
	if n := lines[0]; n.Cause != "this machine's clock is 6s behind the login server's" || n.Remedy == "" || n.Skew != -6 {
		t.Errorf("got %+v", n)
	}
}

// exchanges makes requests at a time of their own.
type exchanges struct {
	l     *States
	start time.Time
}

func (x exchanges) answered(after, took time.Duration) {
	x.l.Request(&proxy.Exchange{Status: 404, Outcome: proxy.Completed, Start: x.start.Add(after), Duration: took, Generation: 1})
}

func (x exchanges) failed(after time.Duration, cause error) {
	x.l.Request(&proxy.Exchange{Status: 502, Outcome: proxy.Completed, Start: x.start.Add(after), Generation: 1,
		Error: proxy.UpstreamUnreachable, Cause: cause})
}

func TestStateLogOfUpstream(t *testing.T) {
	l, out := newStates("info")
	x := exchanges{l, time.Now()}
	secretive := errors.New("hunter2")
	const s = time.Second
	x.answered(0, 0)
	x.failed(10*s, secretive)
	x.answered(11*s, 0) // too soon
	x.failed(20*s, io.EOF)
	x.failed(30*s, secretive)
	x.answered(59*s, 0)                     // 29 s after the last
	x.answered(25*s, 90*s)                  // a stream that began before the last
	x.failed(35*s, io.EOF)                  // the episode goes on
	x.answered(64*s, 0)                     // 29 s after the last
	x.answered(64*s, 1100*time.Millisecond) // 30.1 s
	x.answered(70*s, 0)
	lines, says := bearerdtest.ReadLog(t, out.String())
	expectLines(t, says, []string{"warn: upstream fails", "warn: upstream fails", "info: upstream answers again"})
	if n := lines[2]; n.FailedRequests != 4 || n.FailedFor != 25 || n.FailingSince.Sub(x.start.Add(10*s)).Abs() > time.Millisecond {
		t.Errorf("got %+v, want 4 requests in the 25 s since the tenth", n)
	}
	if strings.Contains(out.String(), "hunter2") {
		t.Error("the log quotes an error")
	}

	// One failure a second among good requests is one episode; one a minute, one
	// each.
	for _, test := range []struct {
		every time.Duration
		lines int
	}{{s, 1}, {time.Minute, 2 * 10}} {
		l, out := newStates("info")
		x := exchanges{l, time.Now()}
		for at := time.Duration(0); at < 10*time.Minute; at += s {
			if at%test.every == 0 {
				x.failed(at, io.EOF)
			} else {
				x.answered(at, time.Millisecond)
			}
		}
		if _, says := bearerdtest.ReadLog(t, out.String()); len(says) != test.lines {
			t.Errorf("a failure every %v for 10 min: got %d lines, want %d", test.every, len(says), test.lines)
		}
	}
}

// An upstream that answers, but not well, is trouble too: with ACCESS_LOG=off
// nothing else tells of it.
func TestStateLogOfBadAnswers(t *testing.T) {
	l, out := newStates("info")
	stopping := false
	l.Ending = func() bool { return stopping }
	start := time.Now()
	request := func(after time.Duration, status int, outcome proxy.Outcome) {
		l.Request(&proxy.Exchange{Status: status, Refused: status == 401, Outcome: outcome, Start: start.Add(after), Generation: 1})
	}
	for range 100 {
		request(0, 401, proxy.Completed)
		request(0, 503, proxy.Completed)
		request(0, 200, proxy.Aborted)
		request(0, 403, proxy.Completed)
	}
	request(time.Minute, 200, proxy.Completed)
	stopping = true
	request(2*time.Minute, 200, proxy.Aborted) // by bearerd
	lines, says := bearerdtest.ReadLog(t, out.String())
	expectLines(t, says, []string{"warn: upstream fails", "warn: upstream fails", "warn: upstream fails", "info: upstream answers again"})
	for i, want := range []string{"HTTP 401", "HTTP 503", "cut short"} {
		if n := lines[i]; !strings.Contains(n.Cause, want) || n.Remedy == "" || n.FailingSince.IsZero() {
			t.Errorf("got %+v, want %s", n, want)
		}
	}
	if n := lines[3]; n.FailedRequests != 300 {
		t.Errorf("got %+v, want 300 requests", n)
	}
}

// Tokens that die early again and again are one line, whether the requests are
// cured or not, until they have not for an hour.
func TestStateLogOfTokensThatDieEarly(t *testing.T) {
	l, out := newStates("info")
	start := time.Now()
	for _, after := range []time.Duration{0, time.Second, 50 * time.Minute, 100 * time.Minute, 161 * time.Minute} {
		for _, refused := range []bool{true, false} {
			ex := proxy.Exchange{Status: 200, Unauthorized: proxy.Replayed, ShortLived: true, Refused: refused, Outcome: proxy.Completed, Start: start.Add(after), Generation: 1}
			if refused {
				ex.Status, ex.Unauthorized = 401, proxy.Passed
			}
			l.Request(&ex)
		}
	}
	lines, says := bearerdtest.ReadLog(t, out.String())
	expectLines(t, says, []string{"warn: tokens die early", "warn: tokens die early"})
	for _, n := range lines {
		if !strings.Contains(n.Remedy, "another program") || n.Cause == "" || n.Impact == "" || n.FailingSince.IsZero() {
			t.Errorf("got %+v", n)
		}
	}
}

// What is no answer of upstream's does not end its trouble.
func TestStateLogOfAnswersOfItsOwn(t *testing.T) {
	l, out := newStates("info")
	x := exchanges{l, time.Now()}
	x.failed(0, io.EOF)
	out.Reset()
	for _, ex := range []proxy.Exchange{
		{Error: proxy.HostNotAllowed, Status: 421, Outcome: proxy.Completed},
		{Status: 204, Outcome: proxy.Completed}, // no token was sent
		{Outcome: proxy.ClientClosed, Generation: 1},
	} {
		ex.Start = x.start.Add(time.Minute)
		l.Request(&ex)
	}
	if out.Len() > 0 {
		t.Errorf("got\n%s\nwant nothing", out)
	}
}

func TestStateLogCostsAGoodRequestNothing(t *testing.T) {
	l, out := newStates("info")
	ex := &proxy.Exchange{Status: 200, Outcome: proxy.Completed, Start: time.Now(), Duration: time.Millisecond, Generation: 1}
	if got := testing.AllocsPerRun(1000, func() { l.Request(ex) }); got != 0 {
		t.Errorf("got %v allocations, want none", got)
	}
	if out.Len() > 0 {
		t.Errorf("got\n%s", out)
	}
}

// On a terminal times are short, and what a tired person needs comes first.
func TestStateLogOnAConsole(t *testing.T) {
	var out bytes.Buffer
	now := time.Now().UTC()
	l := &States{Logger: NewLogger(&out, false, "info", "console"), Status: func() tokens.Status { return tokens.Status{} }}
	ev := failedWith("HTTP 503")
	ev.FailingSince, ev.NextLogin = now, now.AddDate(0, 0, 2)
	l.Login(ev)
	got := out.String()
	for _, want := range []string{
		" failing_since=" + now.Local().Format("15:04:05"),
		" next_login=" + now.AddDate(0, 0, 2).Local().Format("2006-01-02T15:04:05"),
	} {
		if !strings.Contains(got, want) {
			t.Errorf("got %q, want %q in it", got, want)
		}
	}
	at := -1
	for _, part := range []string{"WRN", "login failed", "cause=", "impact=", "next_login=", "remedy=", "failing_since=", "result="} {
		i := strings.Index(got, part)
		if i <= at {
			t.Errorf("%q is not in its place: %s", part, got)
		}
		at = i
	}
}
