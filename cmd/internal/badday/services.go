package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/querysim"
)

// login is one POST to the login server.
type login struct {
	instance          int // whose it is; 0: not bearerd's
	arrived, answered time.Duration
	result            result
	retryAfter        time.Duration // of a throttled one
}

// result is what a login came to, as bearerd's metrics call it.
type result string

const (
	ok        result = "ok"
	rejected  result = "rejected"
	throttled result = "throttled"
	transient result = "transient"
)

// token is one that the login server issued.
type token struct {
	instance                int // to whom
	requested, issued, ends time.Duration
	revoked                 bool // at ends
}

// services are what bearerd talks to: the simulator, and somebody who takes
// down all that it is asked.
type services struct {
	sim      *querysim.Simulator
	lifetime time.Duration
	now      func() time.Duration // since the start

	mu        sync.Mutex // guards all below
	logins    []login
	tokens    []*token
	byText    map[string]*token
	underWay  map[int]int // logins, by instance
	atOnce    int         // the most of one instance
	notIssued int         // requests with a token that the login server did not issue
}

func newServices(lifetime time.Duration, now func() time.Duration) (*services, error) {
	// The delay is that of a login server far away.
	sim, err := querysim.New(querysim.Options{Lifetime: lifetime, LoginDelay: 100 * time.Millisecond})
	if err != nil {
		return nil, err
	}
	s := &services{sim: sim, lifetime: lifetime, now: now, byText: map[string]*token{}, underWay: map[int]int{}}
	return s, s.setLoginFault("")
}

// setLoginFault sets what logins meet; "" is nothing.
func (s *services) setLoginFault(f querysim.LoginFault) error {
	faults := s.sim.Faults()
	faults.Login = f
	faults.BruteForceLock = true
	return s.sim.SetFaults(faults)
}

// unlock is what an administrator does to an account that is locked.
func (s *services) unlock() error {
	faults := s.sim.Faults()
	faults.BruteForceLock = false
	if err := s.sim.SetFaults(faults); err != nil {
		return err
	}
	return s.setLoginFault(faults.Login)
}

// instanceField is the form field by which a bearerd's logins are known
// (TOKEN_PARAMS).
const instanceField = "instance"

func (s *services) serveLogin(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 64<<10))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	form, _ := url.ParseQuery(string(body)) // one that is none has no instance
	l := login{arrived: s.now()}
	l.instance, _ = strconv.Atoi(form.Get(instanceField))

	s.mu.Lock()
	s.underWay[l.instance]++
	s.atOnce = max(s.atOnce, s.underWay[l.instance])
	s.mu.Unlock()

	answer := &loginAnswer{ResponseWriter: w, services: s, login: &l}
	s.sim.LoginHandler().ServeHTTP(answer, r)

	s.mu.Lock()
	defer s.mu.Unlock()
	s.underWay[l.instance]--
	l.answered = s.now()
	if l.result == "" {
		l.result = transient
	}
	s.logins = append(s.logins, l)
}

// loginAnswer takes down what a login came to before bearerd can know it.
type loginAnswer struct {
	http.ResponseWriter
	services *services
	login    *login
}

func (a *loginAnswer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func (a *loginAnswer) WriteHeader(status int) {
	switch status {
	case http.StatusTooManyRequests:
		a.login.result = throttled
		a.login.retryAfter, _ = time.ParseDuration(a.Header().Get("Retry-After") + "s")
	case http.StatusBadRequest, http.StatusUnauthorized:
		a.login.result = rejected
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *loginAnswer) Write(p []byte) (int, error) {
	var good struct {
		Text string `json:"access_token"`
	}
	if json.Unmarshal(p, &good) == nil && good.Text != "" {
		a.login.result = ok
		s := a.services
		t := &token{instance: a.login.instance, requested: a.login.arrived, issued: s.now()}
		// bearerd counts from when it asked.
		t.ends = t.requested + s.lifetime
		s.mu.Lock()
		s.tokens = append(s.tokens, t)
		s.byText[good.Text] = t
		s.mu.Unlock()
	}
	return a.ResponseWriter.Write(p)
}

// revoke ends all tokens.
func (s *services) revoke() {
	s.sim.Revoke()
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	for _, t := range s.tokens {
		if now < t.ends {
			t.ends, t.revoked = now, true
		}
	}
}

// settled tells whether no login is under way and the last token is old enough
// to be known to whom it was issued. A token that is revoked while its login's
// answer is on the way would be refused twice, and no proxy sends a request a
// third time.
func (s *services) settled() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.underWay {
		if n > 0 {
			return false
		}
	}
	return len(s.tokens) > 0 && s.now()-s.tokens[len(s.tokens)-1].issued > margin
}

// misdial is somebody else's attempt to log in with a wrong password.
func (s *services) misdial(url string) error {
	v := querysim.Vendors()[0]
	form := "grant_type=password&client_id=" + v.ClientID + "&username=" + querysim.Username + "&password=guessed"
	req, err := http.NewRequest(http.MethodPost, url, strings.NewReader(form))
	if err != nil {
		return err
	}
	req.Host = v.LoginHost
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// Paths of the upstream, besides the Query Service's own.
const (
	namesPath    = "/cpmm/api/v1/orgs/42/metrics/names"
	bulkPath     = "/bulk"
	streamPath   = "/stream"
	downloadPath = "/download"
)

// upstream returns the Query Service with a few paths more.
func (s *services) upstream(rate int) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", s.sim.QueryHandler())
	mux.Handle(bulkPath, s.sim.RequireToken(http.HandlerFunc(serveBulk)))
	mux.Handle(streamPath, s.sim.RequireToken(http.HandlerFunc(serveStream)))
	mux.Handle(downloadPath, s.sim.RequireToken(serveDownload(rate)))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		s.mu.Lock()
		if text != "" && s.byText[text] == nil {
			s.notIssued++
		}
		s.mu.Unlock()
		mux.ServeHTTP(w, r)
	})
}

// serveBulk answers with the length and checksum of what came.
func serveBulk(w http.ResponseWriter, r *http.Request) {
	sum := crc32.NewIEEE()
	n, err := io.Copy(sum, r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	_, _ = fmt.Fprintf(w, bulkAnswer, n, sum.Sum32())
}

const bulkAnswer = "%d %08x"

const tick = 250 * time.Millisecond

// serveStream sends numbers as server-sent events until the client leaves.
func serveStream(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	flush := http.NewResponseController(w).Flush
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for n := 0; ; n++ {
		if _, err := fmt.Fprintf(w, "data: %d\n\n", n); err != nil || flush() != nil {
			return
		}
		select {
		case <-ticker.C:
		case <-r.Context().Done():
			return
		}
	}
}

const downloadSize = 1 << 30

// serveDownload sends rate bytes of the pattern a second.
func serveDownload(rate int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(downloadSize))
		w.Header().Set("Content-Type", "application/octet-stream")
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		body := &patterned{left: downloadSize}
		for began := time.Now(); body.left > 0; {
			due := int64(time.Since(began).Seconds() * float64(rate))
			if _, err := io.CopyN(w, body, min(due-body.offset, body.left)); err != nil {
				return
			}
			select {
			case <-ticker.C:
			case <-r.Context().Done():
				return
			}
		}
	}
}

// server is one that can be gone for a while. The zero value and a handler are
// one that has not been up yet.
type server struct {
	handler http.Handler

	address string
	http    *http.Server
	mu      sync.Mutex // guards conns
	conns   map[net.Conn]bool
}

// up begins to serve, where it did before.
func (s *server) up() error {
	address := s.address
	if address == "" {
		address = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", address)
	for deadline := time.Now().Add(5 * time.Second); err != nil && time.Now().Before(deadline); l, err = net.Listen("tcp", address) {
		time.Sleep(10 * time.Millisecond) // another program may have a connection from this port
	}
	if err != nil {
		return fmt.Errorf("coming back: %w", err)
	}
	s.address = l.Addr().String()
	s.http = &http.Server{Handler: s.handler, ConnState: s.observe}
	go func(h *http.Server) { _ = h.Serve(l) }(s.http) // ends with down
	return nil
}

func (s *server) url() string { return "http://" + s.address }

func (s *server) observe(conn net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch state {
	case http.StateNew:
		if s.conns == nil {
			s.conns = map[net.Conn]bool{}
		}
		s.conns[conn] = true
	case http.StateClosed, http.StateHijacked:
		delete(s.conns, conn)
	}
}

// down resets all connections and takes no more.
func (s *server) down() {
	s.mu.Lock()
	for conn := range s.conns {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // makes Close reset
		}
	}
	s.mu.Unlock()
	_ = s.http.Close()
}
