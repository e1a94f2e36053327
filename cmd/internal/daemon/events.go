package daemon

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// level is how much an event matters, as the Event Log of Windows has it.
type level int

const (
	info level = iota + 1
	warning
	failure
)

// events passes a log on to w, and has tell be told of each line of it that is no
// request's: what bearerd is, has become or cannot do. What is no JSON is of a
// bearerd that did not come to serve; lines of that which come together are one
// event.
type events struct {
	w    io.Writer // nil: there is no other log
	tell func(l level, text string)
}

func (e events) Write(p []byte) (n int, err error) {
	n = len(p)
	if e.w != nil {
		n, err = e.w.Write(p)
	}
	var plain []byte
	for line := range bytes.Lines(p) {
		if bytes.Contains(line, []byte(`"message":"request"`)) {
			continue
		}
		if l, text, ok := eventOf(line); !ok {
			plain = append(plain, line...)
		} else if l > 0 {
			e.tell(l, text)
		}
	}
	if text := strings.TrimSpace(string(plain)); text != "" {
		e.tell(failure, text)
	}
	return n, err
}

// eventOf is a line of the log in words. A level of 0 is not worth an event.
func eventOf(line []byte) (l level, text string, ok bool) {
	var fields map[string]any
	if json.Unmarshal(line, &fields) != nil {
		return 0, "", false
	}
	message, _ := fields["message"].(string)
	switch fields["level"] {
	case "debug", "trace":
		return 0, "", true
	case "info":
		l = info
	case "warn":
		l = warning
	default:
		l = failure
	}
	var all strings.Builder
	all.WriteString(message)
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		switch name {
		case "message", "level", "time":
			continue
		}
		value := fields[name]
		if _, is := value.(string); !is {
			shown, _ := json.Marshal(value)
			value = string(shown)
		}
		fmt.Fprintf(&all, "\n%s: %s", name, value)
	}
	return l, all.String(), true
}
