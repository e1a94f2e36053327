package querysim

import (
	"bytes"
	"net/http"
	"strconv"
	"time"
)

const (
	// downPage is what a load balancer shows when the login server is away.
	downPage = `<html>
<head><title>503 Service Temporarily Unavailable</title></head>
<body><center><h1>503 Service Temporarily Unavailable</h1></center></body>
</html>
`
	// portalPage is what a captive portal shows for any address.
	portalPage = `<!DOCTYPE html>
<html><head><title>Welcome</title></head>
<body><form method="post"><input name="room"><input type="submit" value="Connect"></form></body></html>
`
	// firewallPage is what a web application firewall shows.
	firewallPage = `<html><head><title>Request Rejected</title></head>
<body>The requested URL was rejected. Please consult with your administrator.</body></html>
`
)

// takeLoginFault returns the fault that one login meets.
func (s *Simulator) takeLoginFault() LoginFault {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.faults.Login
	if s.faults.LoginNext > 0 {
		if s.faults.LoginNext--; s.faults.LoginNext == 0 {
			s.faults.Login = ""
		}
	}
	return f
}

// frontAnswer returns the answer of what stands in front of the login server,
// and false if fault is none of that. What was asked does not matter to it.
func (s *Simulator) frontAnswer(fault LoginFault, now time.Time) (answer, bool) {
	name, arg := fault.split()
	page := func(status int, text string) (answer, bool) {
		return answer{result: string(name), status: status, mediaType: "text/html", body: []byte(text)}, true
	}
	switch name {
	case LoginDown:
		a, _ := page(http.StatusServiceUnavailable, downPage)
		a.result = resultUnavailable
		return a, true
	case LoginHTML:
		return page(http.StatusOK, portalPage)
	case LoginFirewall:
		return page(http.StatusForbidden, firewallPage)
	case LoginLater:
		a := jsonAnswer(string(name), http.StatusBadRequest, errorBody{Error: "temporarily_unavailable"})
		wait, _ := time.ParseDuration(arg) // it was checked
		a.retryAfter = strconv.Itoa(int(wait / time.Second))
		return a, true
	case LoginBare:
		status, _ := strconv.Atoi(arg) // it was checked
		return answer{result: string(name), status: status}, true
	case LoginStatus:
		status, _ := strconv.Atoi(arg) // it was checked
		return jsonAnswer(string(name), status, errorBody{Error: "unknown_error"}), true
	case LoginTooMany, LoginTooManyDate, LoginBusy, LoginBusyDate:
		status := http.StatusTooManyRequests
		if name == LoginBusy || name == LoginBusyDate {
			status = http.StatusServiceUnavailable
		}
		a := jsonAnswer(string(name), status, errorBody{Error: "temporarily_unavailable"})
		wait, _ := time.ParseDuration(arg) // it was checked
		a.retryAfter = strconv.Itoa(int(wait / time.Second))
		if name == LoginTooManyDate || name == LoginBusyDate {
			a.retryAfter = httpDate(now.Add(wait))
		}
		return a, true
	case LoginRedirect:
		return answer{result: string(name), status: http.StatusTemporaryRedirect, mediaType: "text/html", location: arg}, true
	case LoginReset:
		return answer{result: string(name)}, true
	}
	return answer{}, false
}

// spoil returns what fault makes of the good answer a.
func spoil(a answer, fault LoginFault) answer {
	switch fault {
	case LoginCut:
		a.unsent = len(a.body) / 2
	case LoginTruncated:
		a.body = a.body[:len(a.body)/2]
	case LoginErrorMember:
		a.body = bytes.Replace(a.body, []byte("{"), []byte(`{"error":"server_error",`), 1)
	case LoginEmptyError:
		a.body = bytes.Replace(a.body, []byte("{"), []byte(`{"error":"",`), 1)
		return a // as good as before
	case LoginCreated:
		a.status = http.StatusCreated
		return a
	default:
		return a
	}
	a.result = string(fault)
	return a
}
