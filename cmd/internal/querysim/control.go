package querysim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
)

// ControlHandler lets a person or a test steer the simulator over HTTP, on a
// listener of its own:
//
//   - POST /revoke revokes every token.
//   - POST /lock locks the account: [Simulator.LockAccount].
//   - GET /stats returns [Stats] as JSON.
//   - GET /faults returns [Faults] as JSON, by the names of [FaultSettings].
//   - POST /faults changes those that are given, in a form or as JSON, all or
//     none of them, and returns what holds then. An empty fault ends it.
//   - DELETE /faults ends all.
func (s *Simulator) ControlHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /revoke", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]int{"revoked": s.Revoke()})
	})
	mux.HandleFunc("POST /lock", func(w http.ResponseWriter, _ *http.Request) {
		s.LockAccount()
		s.writeFaults(w)
	})
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, s.Stats())
	})
	mux.HandleFunc("GET /faults", func(w http.ResponseWriter, _ *http.Request) { s.writeFaults(w) })
	mux.HandleFunc("POST /faults", func(w http.ResponseWriter, r *http.Request) {
		values, ok := readSettings(w, r)
		if !ok {
			return
		}
		s.serveChange(w, func(f *Faults) error {
			for name, text := range values {
				if err := f.Set(name, text); err != nil {
					return err
				}
			}
			return nil
		})
	})
	mux.HandleFunc("DELETE /faults", func(w http.ResponseWriter, _ *http.Request) {
		s.serveChange(w, func(f *Faults) error {
			*f = Faults{}
			return nil
		})
	})
	return mux
}

func (s *Simulator) writeFaults(w http.ResponseWriter) {
	f := s.Faults()
	var rec record
	for _, setting := range FaultSettings() {
		rec = append(rec, field{setting.Name, setting.Get(f)})
	}
	writeJSON(w, http.StatusOK, rec)
}

func (s *Simulator) serveChange(w http.ResponseWriter, change func(*Faults) error) {
	if err := s.changeFaults(change); err != nil {
		badRequest(w, err)
		return
	}
	s.writeFaults(w)
}

// readSettings reads the body of r, and answers it if that has no settings.
func readSettings(w http.ResponseWriter, r *http.Request) (values map[string]string, ok bool) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxForm))
	if err != nil {
		badRequest(w, errors.New("the body could not be read, or is too long"))
		return nil, false
	}
	switch t, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); t {
	case "application/x-www-form-urlencoded":
		values, err = formValues(body)
	case "application/json":
		values, err = jsonValues(body)
	default:
		writeJSON(w, http.StatusUnsupportedMediaType, errorBody{Error: resultMediaType, Description: "Send a form or application/json"})
		return nil, false
	}
	if err != nil {
		badRequest(w, err)
		return nil, false
	}
	return values, true
}

func formValues(body []byte) (map[string]string, error) {
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, errors.New("the body is not a form")
	}
	values := make(map[string]string, len(form))
	for name, texts := range form {
		if len(texts) > 1 {
			return nil, fmt.Errorf("%q is given twice", name)
		}
		values[name] = texts[0]
	}
	return values, nil
}

// jsonValues takes numbers, true and false for what GET shows as strings.
func jsonValues(body []byte) (map[string]string, error) {
	var object map[string]any
	if json.Unmarshal(body, &object) != nil {
		return nil, errors.New("the body must be one JSON object")
	}
	values := make(map[string]string, len(object))
	for name, v := range object {
		switch v.(type) {
		case string, float64, bool:
			values[name] = fmt.Sprint(v)
		default:
			return nil, fmt.Errorf("%q must be a string, a number, true or false", name)
		}
	}
	return values, nil
}
