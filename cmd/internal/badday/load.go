package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Kinds of requests.
const (
	poll     = "poll"
	bulk     = "bulk POST"
	stream   = "SSE stream"
	download = "1 GiB download"
)

var requestKinds = []string{poll, bulk, stream, download}

// Codes of a failure, besides those of bearerd's own answers and the statuses
// of upstream's.
const (
	cutShort  = "cut short"     // the answer
	noAnswer  = "no answer"     // the connection failed
	corrupted = "wrong content" // of an answer that came whole
)

// request is one, as its client saw it.
type request struct {
	kind       string
	start, end time.Duration
	code       string // "": it succeeded
}

func (r request) String() string {
	return fmt.Sprintf("%s from %.2f s to %.2f s: %s", r.kind, r.start.Seconds(), r.end.Seconds(), r.code)
}

// load is all that clients do.
type load struct {
	url    string
	now    func() time.Duration
	client *http.Client // keeps its connections
	fresh  *http.Client // makes one for each request

	mu       sync.Mutex // guards all below
	requests []request
	silence  time.Duration // the longest between two events of a stream
	slowest  time.Duration // of the polls that succeeded
}

func newLoad(url string, now func() time.Duration) *load {
	return &load{
		url: url, now: now,
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}},
		fresh:  &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
	}
}

const (
	pollers   = 8 // half of them on a new connection each time, as curl
	pollEvery = 100 * time.Millisecond
	bulkEvery = 500 * time.Millisecond
)

// uploads are the bodies that are posted, side by side.
var uploads = []struct {
	size    int64
	chunked bool
}{
	{64 << 10, false}, // held for a replay
	{4 << 20, false},  // announced by Expect: 100-continue
	{900 << 10, true}, // kept as it goes
	{32 << 10, true},
}

// run returns when ctx has ended and every client has left.
func (l *load) run(ctx context.Context) {
	var wg sync.WaitGroup
	for n := range pollers {
		client := l.client
		if n%2 == 0 {
			client = l.fresh
		}
		wg.Go(func() {
			l.repeat(ctx, poll, pollEvery, func(ctx context.Context) error { return l.poll(ctx, client) })
		})
	}
	for _, u := range uploads {
		wg.Go(func() {
			l.repeat(ctx, bulk, bulkEvery, func(ctx context.Context) error { return l.upload(ctx, u.size, u.chunked) })
		})
	}
	wg.Go(func() { l.repeat(ctx, stream, pollEvery, l.stream) })
	wg.Go(func() { l.repeat(ctx, download, pollEvery, l.download) })
	wg.Wait()
	l.client.CloseIdleConnections()
}

// repeat makes requests with pauses between them.
func (l *load) repeat(ctx context.Context, kind string, pause time.Duration, once func(context.Context) error) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		r := request{kind: kind, start: l.now()}
		err := once(ctx)
		r.end = l.now()
		if ctx.Err() != nil && err != nil {
			// The day is over. Only a stream is complete without an end.
			if kind != stream {
				return
			}
		} else {
			r.code = codeOf(err)
		}
		l.mu.Lock()
		l.requests = append(l.requests, r)
		if kind == poll && err == nil {
			l.slowest = max(l.slowest, r.end-r.start)
		}
		l.mu.Unlock()
		timer.Reset(pause)
	}
}

// answerError is an answer that is an error.
type answerError string

func (e answerError) Error() string { return string(e) }

func codeOf(err error) string {
	answered, isAnswer := errors.AsType[answerError](err)
	switch {
	case err == nil:
		return ""
	case isAnswer:
		return string(answered)
	case errors.Is(err, errContent):
		return corrupted
	case errors.Is(err, errCut):
		return cutShort
	}
	return noAnswer
}

var errCut = errors.New("the answer was cut short")

// send returns a 200 answer, or an answerError, or that there was no answer.
func (l *load) send(ctx context.Context, client *http.Client, method, path string, body io.Reader, size int64) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, l.url+path, body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.ContentLength = size
	}
	resp, err := client.Do(req)
	if err != nil || resp.StatusCode == http.StatusOK {
		return resp, err
	}
	defer func() { _ = resp.Body.Close() }()
	code := answerError(resp.Status[:3])
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errCut, err)
	}
	var own struct{ Code string }
	if strings.HasPrefix(resp.Header.Get("Proxy-Status"), "bearerd; error=") && json.Unmarshal(text, &own) == nil {
		code = answerError(own.Code)
	}
	return nil, code
}

// patience is how long a client waits for a short answer.
const patience = 30 * time.Second

// short makes a request with a short answer and returns it.
func (l *load) short(ctx context.Context, client *http.Client, method, path string, body io.Reader, size int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	resp, err := l.send(ctx, client, method, path, body, size)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		err = fmt.Errorf("%w: %w", errCut, err)
	}
	return text, err
}

func (l *load) poll(ctx context.Context, client *http.Client) error {
	text, err := l.short(ctx, client, http.MethodGet, namesPath, nil, 0)
	if err == nil && !bytes.HasPrefix(text, []byte(`["activeCalls",`)) {
		err = errContent
	}
	return err
}

func (l *load) upload(ctx context.Context, size int64, chunked bool) error {
	body := func() io.Reader { return &patterned{offset: size, left: size} }
	sum := crc32.NewIEEE()
	_, _ = io.Copy(sum, body())
	announced := size
	if chunked {
		announced = -1
	}
	// net/http cannot send this body again by itself, so no retry of its own
	// hides a connection that bearerd closed too soon.
	text, err := l.short(ctx, l.client, http.MethodPost, bulkPath, body(), announced)
	if err == nil && string(text) != fmt.Sprintf(bulkAnswer, size, sum.Sum32()) {
		err = errContent
	}
	return err
}

func (l *load) stream(ctx context.Context) error {
	resp, err := l.send(ctx, l.client, http.MethodGet, streamPath, nil, 0)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewScanner(resp.Body)
	last := l.now()
	for n := 0; lines.Scan(); n++ {
		if lines.Text() != fmt.Sprintf("data: %d", n) || !lines.Scan() || lines.Text() != "" {
			return errContent
		}
		l.mu.Lock()
		l.silence = max(l.silence, l.now()-last)
		l.mu.Unlock()
		last = l.now()
	}
	return fmt.Errorf("%w: %v", errCut, lines.Err())
}

func (l *load) download(ctx context.Context) error {
	resp, err := l.send(ctx, l.client, http.MethodGet, downloadPath, nil, 0)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	n, err := io.Copy(&comparing{want: patterned{left: downloadSize}}, resp.Body)
	switch {
	case errors.Is(err, errContent):
		return err
	case err != nil || n < downloadSize:
		return fmt.Errorf("%w: after %d bytes: %v", errCut, n, err)
	}
	return nil
}
