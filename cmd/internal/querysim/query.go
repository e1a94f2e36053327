package querysim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	orgsPrefix = "/cpmm/api/v1/orgs/"

	defaultPageSize = 20
	maxPageSize     = 1000
	maxQueryBody    = 1 << 20 // bytes
)

// QueryHandler returns the Query Service, behind the token check.
func (s *Simulator) QueryHandler() http.Handler {
	return s.RequireToken(http.HandlerFunc(s.serveQuery))
}

// serveQuery routes by hand: http.ServeMux would answer an unclean path with
// a redirect and an unknown one in plain text.
func (s *Simulator) serveQuery(w http.ResponseWriter, r *http.Request) {
	rest, _ := strings.CutPrefix(r.URL.Path, orgsPrefix)
	number, resource, _ := strings.Cut(rest, "/")
	org, err := strconv.ParseInt(number, 10, 64)
	if len(rest) == len(r.URL.Path) || err != nil {
		writeJSON(w, http.StatusNotFound, errorBody{Error: "not_found"})
		return
	}
	kind, isKind := kinds[resource]
	switch {
	case resource == "metrics":
		if allowed(w, r, http.MethodPost) {
			s.serveMetric(w, r, org)
		}
	case resource == "metrics/names":
		if allowed(w, r, http.MethodGet, http.MethodHead) {
			writeJSON(w, http.StatusOK, metricNames())
		}
	case resource == "metrics/models":
		if allowed(w, r, http.MethodGet, http.MethodHead) {
			writeJSON(w, http.StatusOK, models)
		}
	case isKind:
		if allowed(w, r, http.MethodGet, http.MethodHead) {
			s.serveList(w, r, org, kind)
		}
	default:
		writeJSON(w, http.StatusNotFound, errorBody{Error: "not_found"})
	}
}

// allowed reports whether r has one of methods, and answers 405 if not.
func allowed(w http.ResponseWriter, r *http.Request, methods ...string) bool {
	if slices.Contains(methods, r.Method) {
		return true
	}
	w.Header().Set("Allow", strings.Join(methods, ", "))
	writeJSON(w, http.StatusMethodNotAllowed, errorBody{Error: "method_not_allowed"})
	return false
}

func badRequest(w http.ResponseWriter, err error) {
	writeJSON(w, http.StatusBadRequest, errorBody{Error: "bad_request", Description: err.Error()})
}

// window is a span of time, the end not included.
type window struct{ start, end time.Time }

// defaultWindow is the 24 h up to the last full hour, so that the pages of a
// query that names no window fit together.
func defaultWindow(now time.Time) window {
	end := now.UTC().Truncate(time.Hour)
	return window{end.Add(-24 * time.Hour), end}
}

func (win window) check() error {
	// Beyond these years the sums of data.go would overflow.
	if win.start.Year() < 1970 || win.end.Year() > 2100 {
		return errors.New("start and end must lie between 1970 and 2100")
	}
	if !win.start.Before(win.end) {
		return errors.New("start must be before end")
	}
	return nil
}

// parseInstant reads RFC 3339 or milliseconds since 1970.
func parseInstant(text string) (time.Time, error) {
	if ms, err := strconv.ParseInt(text, 10, 64); err == nil {
		return time.UnixMilli(ms).UTC(), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, errors.New("a time must be RFC 3339 or milliseconds since 1970")
	}
	return t.UTC(), nil
}

// list is one page of an information query. The vendors document the first
// five fields ahead of the content, in this order.
type list struct {
	TotalCount   int      `json:"totalCount"`
	TotalPages   int      `json:"totalPages"`
	PageNumber   int      `json:"pageNumber"`
	PageSize     int      `json:"pageSize"`
	LimitReached bool     `json:"limitReached"` // there was more than one query may find: ask for a shorter time
	Content      []record `json:"content"`
}

// listQuery holds the options of an information query.
type listQuery struct {
	window
	page, size int
	filter     []field // each value as text
	sortBy     string  // empty: as found
	descending bool
}

func (s *Simulator) serveList(w http.ResponseWriter, r *http.Request, org int64, k kind) {
	q, err := parseListQuery(r.URL.RawQuery, k, defaultWindow(s.clock()))
	if err != nil {
		badRequest(w, err)
		return
	}
	found, limitReached := s.data.records(k, org, q.window)
	found = slices.DeleteFunc(found, func(rec record) bool { return !rec.matches(q.filter) })
	if q.sortBy != "" {
		slices.SortStableFunc(found, func(a, b record) int {
			if q.descending {
				a, b = b, a
			}
			return compareValues(a.get(q.sortBy), b.get(q.sortBy))
		})
	}
	// Never past the end: a page beyond the last one is empty. Compared by
	// division because page times size may overflow.
	from := len(found)
	if q.page <= len(found)/q.size {
		from = min(q.page*q.size, len(found))
	}
	writeJSON(w, http.StatusOK, list{
		TotalCount:   len(found),
		TotalPages:   (len(found) + q.size - 1) / q.size,
		PageNumber:   q.page,
		PageSize:     q.size,
		LimitReached: limitReached,
		Content:      append([]record{}, found[from:min(from+q.size, len(found))]...), // never null
	})
}

// parseListQuery reads start, end, filter=field:value[,field:value],
// page, size and sort=field[,asc|desc]. What is left out is as in win, a start
// 24 h before the end. Other parameters are not looked at.
func parseListQuery(raw string, k kind, win window) (listQuery, error) {
	q := listQuery{window: win, size: defaultPageSize}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return q, errors.New("the query string is malformed")
	}
	if text := values.Get("end"); text != "" {
		if q.end, err = parseInstant(text); err != nil {
			return q, fmt.Errorf("end: %w", err)
		}
		if values.Get("start") == "" {
			q.start = q.end.Add(-24 * time.Hour)
		}
	}
	if text := values.Get("start"); text != "" {
		if q.start, err = parseInstant(text); err != nil {
			return q, fmt.Errorf("start: %w", err)
		}
	}
	if err := q.check(); err != nil {
		return q, err
	}
	if text := values.Get("page"); text != "" {
		if q.page, err = strconv.Atoi(text); err != nil || q.page < 0 {
			return q, errors.New("page must be 0 or more")
		}
	}
	if text := values.Get("size"); text != "" {
		if q.size, err = strconv.Atoi(text); err != nil || q.size < 1 || q.size > maxPageSize {
			return q, fmt.Errorf("size must be 1 to %d", maxPageSize)
		}
	}
	if text := values.Get("filter"); text != "" {
		for term := range strings.SplitSeq(text, ",") {
			name, value, ok := strings.Cut(term, ":")
			if !ok || !k.hasField(name) {
				return q, errors.New("filter must be field:value, of a field that the answer has")
			}
			q.filter = append(q.filter, field{name, value})
		}
	}
	if text := values.Get("sort"); text != "" {
		name, direction, _ := strings.Cut(text, ",")
		if !k.hasField(name) || direction != "" && direction != "asc" && direction != "desc" {
			return q, errors.New("sort must be field,asc or field,desc, of a field that the answer has")
		}
		q.sortBy, q.descending = name, direction == "desc"
	}
	return q, nil
}

// metricQuery is the body of POST metrics. The vendors document resultType,
// start and end; name and model take the values of the lists of those names.
type metricQuery struct {
	Name       string   `json:"name"`
	Model      string   `json:"model"` // empty: all
	ResultType string   `json:"resultType"`
	Start      *instant `json:"start"`
	End        *instant `json:"end"`
}

// instant is a time in JSON: a string as parseInstant takes it, or a number.
type instant struct{ time.Time }

func (i *instant) UnmarshalJSON(b []byte) (err error) {
	text := string(b)
	if b[0] == '"' {
		if err := json.Unmarshal(b, &text); err != nil {
			return err
		}
	}
	i.Time, err = parseInstant(text)
	return err
}

// metricAnswer is a kpi (Timestamp and Value) or a trend (Interval and
// Values).
type metricAnswer struct {
	Name       string     `json:"name"`
	ResultType string     `json:"resultType"`
	Start      time.Time  `json:"start"`
	End        time.Time  `json:"end"`
	Timestamp  *time.Time `json:"timestamp,omitempty"` // of Value; missing without one
	Value      *float64   `json:"value,omitempty"`     // missing if no sample lies in the window
	Interval   int        `json:"interval,omitempty"`  // seconds from one of Values to the next
	Values     *[]sample  `json:"values,omitempty"`    // empty if no sample lies in the window
}

func (s *Simulator) serveMetric(w http.ResponseWriter, r *http.Request, org int64) {
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		writeJSON(w, http.StatusUnsupportedMediaType, errorBody{Error: resultMediaType, Description: "The Content-Type must be application/json"})
		return
	}
	q, m, err := parseMetricQuery(http.MaxBytesReader(w, r.Body, maxQueryBody))
	if err != nil {
		badRequest(w, err)
		return
	}
	win := window{q.Start.Time, q.End.Time}
	a := metricAnswer{Name: q.Name, ResultType: q.ResultType, Start: win.start, End: win.end}
	if q.ResultType == "kpi" {
		if last, ok := s.data.kpi(m, org, q.Model, win); ok {
			a.Timestamp, a.Value = &last.Timestamp, &last.Value
		}
	} else {
		values, interval := s.data.trend(m, org, q.Model, win)
		a.Values, a.Interval = &values, int(interval/time.Second)
	}
	writeJSON(w, http.StatusOK, a)
}

func parseMetricQuery(body io.Reader) (metricQuery, metric, error) {
	var q metricQuery
	text, err := io.ReadAll(body)
	if err != nil {
		return q, metric{}, errors.New("the body could not be read, or is too long")
	}
	if json.Unmarshal(text, &q) != nil {
		return q, metric{}, errors.New("the body must be one JSON object; start and end are RFC 3339 or milliseconds since 1970")
	}
	i := slices.IndexFunc(metrics, func(m metric) bool { return m.name == q.Name })
	switch {
	case i < 0:
		return q, metric{}, errors.New("name must be one of metrics/names")
	case q.Model != "" && !slices.Contains(models, q.Model):
		return q, metric{}, errors.New("model must be one of metrics/models, or left out")
	case q.ResultType != "kpi" && q.ResultType != "trend":
		return q, metric{}, errors.New("resultType must be kpi or trend")
	case q.Start == nil || q.End == nil:
		return q, metric{}, errors.New("start and end are required")
	}
	return q, metrics[i], window{q.Start.Time, q.End.Time}.check()
}
