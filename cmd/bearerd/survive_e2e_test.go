//go:build unix

package main

import (
	"fmt"
	"net/http"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/demo"
	"github.com/bearerd/bearerd/cmd/internal/docs"
)

// pair is a querysim and a bearerd in front of it.
type pair struct {
	*bearerdtest.Process
	control string // of querysim
}

func startPair(t *testing.T, flags ...string) pair {
	t.Helper()
	var stdout bearerdtest.Output
	cmd := exec.Command(bearerdtest.Simulator(t), append(flags, "-login-listen=127.0.0.1:0", "-query-listen=127.0.0.1:0", "-control-listen=127.0.0.1:0")...)
	cmd.Stdout, cmd.Stderr = &stdout, &stdout
	bearerdtest.StartCommand(t, cmd)
	env := stdout.Until(t, `(BEARERD_PRESET=vyopta)\n(BEARERD_TOKEN_URL=.*)\n(BEARERD_UPSTREAM=.*)\n(BEARERD_USERNAME=.*)\n(BEARERD_PASSWORD=.*)\n`)[1:]
	return pair{new(bearerdtest.World).Start(t, env...), stdout.Until(t, `control: +(\S+)`)[1]}
}

// curl does what a curl line of docs/faults.md does.
func (p pair) curl(line string) error {
	words := strings.Fields(line)
	address := words[len(words)-1]
	method, data := http.MethodGet, []string(nil)
	for i := 1; i+1 < len(words)-1; i += 2 {
		switch words[i] {
		case "-X":
			method = words[i+1]
		case "-d":
			method, data = http.MethodPost, append(data, words[i+1])
		default:
			return fmt.Errorf("%s: %s is not known here", line, words[i])
		}
	}
	url, ok := strings.CutPrefix(address, "127.0.0.1:8083")
	if url = p.control + url; !ok {
		if url, ok = strings.CutPrefix(address, "localhost:9180"); !ok {
			return fmt.Errorf("%s: where is that?", line)
		}
		url = p.Admin + url
	}
	req, err := http.NewRequest(method, url, strings.NewReader(strings.Join(data, "&")))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s: HTTP %d", line, resp.StatusCode)
	}
	return nil
}

// sees asks as the caller does, with GET or POST.
func (p pair) sees(c *http.Client, method string) demo.Response {
	p.T.Helper()
	url, body := p.URL+bearerdtest.NamesPath, ""
	if method == http.MethodPost {
		url = p.URL + "/cpmm/api/v1/orgs/42/metrics"
		body = `{"name":"activeCalls","resultType":"kpi","start":"2026-01-01T00:00:00Z","end":"2026-01-02T00:00:00Z"}`
	}
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		p.T.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	return demo.Call(c, req)
}

// expect checks the caller's part of a row: `200`, cut short; `502 x` for a
// POST; `200`, then `502 x`; `503 x` with a `Retry-After` up to 48.
func (p pair) expect(cell string) {
	p.T.Helper()
	c := bearerdtest.NewClient(p.T)
	last := ""
	for i, part := range regexp.MustCompile("; |, then ").Split(cell, -1) {
		_, rest, _ := strings.Cut(part, "`")
		want, rest, ok := strings.Cut(rest, "`")
		if !ok {
			p.T.Fatalf("%q is no answer", part)
		}
		if strings.HasPrefix(rest, ", cut short") {
			want += ", cut short"
		}
		method, times := http.MethodGet, 2
		if strings.Contains(rest, "for a POST") {
			method, times = http.MethodPost, 1
			if strings.HasPrefix(want, "502") {
				p.sees(c, http.MethodGet) // the connection of a second attempt is not kept
			}
		}
		if i > 0 && strings.Contains(cell, ", then ") {
			late := false // a token may end on its way, once
			bearerdtest.Eventually(p.T, 20*time.Second, want, func() bool {
				got := p.sees(c, method).Kind()
				if got == "401" && !late {
					late = true
				} else if got != want && got != last {
					p.T.Fatalf("%s: got %s, want %s, then %s", method, got, last, want)
				}
				return got == want
			})
		}
		for range times {
			got := p.sees(c, method)
			if got.Kind() != want {
				p.T.Fatalf("%s: got %s, want %s", method, got.Kind(), want)
			}
			if least := numberAfter("after ", rest); got.Took < time.Duration(least)*time.Second {
				p.T.Errorf("%s: took %v, want %d s", method, got.Took, least)
			}
			seconds, _ := strconv.Atoi(got.RetryAfter)
			most := numberAfter("`Retry-After` up to ", rest)
			if strings.Contains(rest, "`Retry-After`") && (seconds < 1 || most > 0 && (seconds > most || seconds < most/2)) {
				p.T.Errorf("%s: got Retry-After %q, want %s", method, got.RetryAfter, rest)
			}
		}
		last = want
	}
}

// numberAfter returns the number that follows words in text; 0: none.
func numberAfter(words, text string) int {
	_, rest, _ := strings.Cut(text, words)
	n, _ := strconv.Atoi(regexp.MustCompile("^[0-9]*").FindString(rest))
	return n
}

// expectLog checks the log's part of a row: nothing, or a message and what its
// line holds.
func (p pair) expectLog(cell string) {
	p.T.Helper()
	if cell == "nothing" {
		if line := regexp.MustCompile(`.*"level":"(warn|error)".*`).FindString(p.Text()); line != "" {
			p.T.Errorf("the log says %s", line)
		}
		return
	}
	words := spans(cell)
	words[0] = "message=" + words[0]
	bearerdtest.Eventually(p.T, bearerdtest.Soon, cell+" in the log", func() bool {
		for line := range strings.Lines(p.Text()) {
			if !slices.ContainsFunc(words, func(word string) bool {
				name, value, _ := strings.Cut(word, "=")
				return !strings.Contains(line, fmt.Sprintf("%q:%q", name, value))
			}) {
				return true
			}
		}
		return false
	})
}

// spans returns what stands in backticks.
func spans(text string) (all []string) {
	for _, found := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(text, -1) {
		all = append(all, found[1])
	}
	return all
}

// Every row of the table in docs/faults.md, as it stands there.
func TestSurvives(t *testing.T) {
	t.Parallel()
	section := docs.Section(t, "docs/faults.md", "See it survive")
	rows := regexp.MustCompile(`(?m)^\| (.*) \| (.*) \| (.*) \| (.*) \|$`).FindAllStringSubmatch(section, -1)
	if len(rows) < 2 {
		t.Fatal("docs/faults.md has no table of faults")
	}
	for _, row := range rows[1:] {
		var flags, lines []string
		for _, span := range spans(row[2]) {
			if strings.HasPrefix(span, "curl ") {
				lines = append(lines, span)
			} else {
				flags = append(flags, strings.Fields(span)...)
			}
		}
		t.Run(row[1], func(t *testing.T) {
			t.Parallel()
			p := startPair(t, flags...)
			if len(lines) > 0 {
				if got := p.sees(bearerdtest.NewClient(t), http.MethodGet).Kind(); got != "200" {
					t.Fatalf("at first: got %s, want 200", got)
				}
			}
			for _, line := range lines {
				if err := p.curl(line); err != nil {
					t.Fatal(err)
				}
			}
			p.expect(row[3])
			p.expectLog(row[4])
		})
	}
	t.Run("changed while they run", func(t *testing.T) {
		t.Parallel()
		p := startPair(t)
		lines := regexp.MustCompile("`(curl .*?/faults)`").FindAllStringSubmatch(section, -1)
		if len(lines) != 2 {
			t.Fatalf("got %q, want a line that sets faults and one that ends them", lines)
		}
		for _, line := range lines {
			if err := p.curl(line[1]); err != nil {
				t.Error(err)
			}
		}
	})
}
