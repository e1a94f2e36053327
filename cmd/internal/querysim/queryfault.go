package querysim

import (
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// beginQuery counts a request and returns how long it waits.
func (s *Simulator) beginQuery() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Queries++
	return s.faults.QueryDelay
}

// judgeQuery counts what becomes of a request and returns the fault that it
// meets.
func (s *Simulator) judgeQuery(r *http.Request, wellFormed, good bool) QueryFault {
	s.mu.Lock()
	defer s.mu.Unlock()
	fault := s.takeQueryFault(r)
	switch {
	case fault != "":
		s.stats.QueriesFaulty++
		name, arg := fault.split()
		if name == QueryUnauthorizedEarly || name == QueryUnauthorizedLate || name == QueryStatus && arg == "401" {
			s.stats.Unauthorized++
		}
	case !good:
		s.stats.Unauthorized++
	}
	if !wellFormed {
		s.stats.WithoutToken++
	}
	return fault
}

// takeQueryFault needs s.mu.
func (s *Simulator) takeQueryFault(r *http.Request) QueryFault {
	fault := s.faults.Query
	if fault == QueryStale {
		// A handler is not told which connection it serves. net/http asks each
		// connection for its address once, so the pointer it gets names it; and
		// as used holds that pointer, no later connection has the same.
		conn, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
		if !s.used[conn] {
			s.used[conn] = true
			return ""
		}
		delete(s.used, conn)
	}
	if s.faults.QueryNext > 0 {
		if s.faults.QueryNext--; s.faults.QueryNext == 0 {
			s.faults.Query = ""
			clear(s.used)
		}
	}
	return fault
}

// misbehave answers r, or not, as fault has it.
func misbehave(w http.ResponseWriter, r *http.Request, fault QueryFault) {
	switch name, arg := fault.split(); name {
	case QueryUnauthorizedEarly:
		// Without this net/http would read the body before it sends the answer.
		w.Header().Set("Connection", "close")
		unauthorized(w, "The token is not known")
	case QueryUnauthorizedLate:
		_, _ = io.Copy(io.Discard, r.Body) // a body cut short is answered too
		unauthorized(w, "The token is not known")
	case QueryStatus:
		status, _ := strconv.Atoi(arg) // it was checked
		writeJSON(w, status, errorBody{Error: "server_error"})
	case QueryReset:
		dropConnection(w, r, true)
	case QueryCut:
		const part = `{"totalCount":1,"totalPages":1,"content":[`
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(2*len(part)))
		w.WriteHeader(http.StatusOK)
		_, _ = io.WriteString(w, part) // net/http closes what was not sent whole
	case QueryStale:
		dropConnection(w, r, false)
	}
}
