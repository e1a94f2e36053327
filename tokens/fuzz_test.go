package tokens_test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bearerd/bearerd/tokens"
)

// FuzzAnswer has the login server answer with any bytes, over real HTTP. Whatever
// they are, they end one login, and that
//   - brings a token, which is the access_token of the one JSON object of a 200
//     or 201 that has no error, free of spaces and control characters; it lives
//     from 1 s to 24 h, and no longer than expires_in, exp less iat, and exp less
//     Date say, or
//   - fails, for a cause that is made of fixed phrases: rejected, with a status of
//     refusals only, and the next login in 30 s to an hour; throttled, and that in
//     1 s to 5 min; or transient, and that in 1 s to 36 s.
func FuzzAnswer(f *testing.F) {
	const good = "HTTP/1.1 200 OK\r\nDate: Tue, 14 Nov 2023 22:13:20 GMT\r\n\r\n"
	for _, body := range []string{
		`{"access_token":"abc","expires_in":300,"token_type":"bearer"}`, `{"access_token":"abc","expires_in":"300"}`, `{"access_token":"abc","expires_in":"1e400"}`,
		`{"access_token":"abc","expires_in":-1}`, `{"access_token":"abc","expires_in":0.5}`, `{"access_token":"abc","expires_in":100000}`, `{"access_token":"abc","expires_in":9007199254740993}`,
		`{"access_token":"abc","expires_in":null}`, `{"access_token":"abc","expires_in":[1]}`, `{"access_token":"abc","expires_in":"0x10"}`, `{"access_token":"abc","expires_in":"NaN"}`,
		`{"access_token":"` + jwt(`{"alg":"RS256"}`, `{"exp":1700000300,"iat":1700000000}`) + `"}`, `{"access_token":"` + jwt(`{"alg":"x"}`, `{"exp":1700000300.5}`) + `","expires_in":600}`,
		`{"access_token":"` + jwt(`{}`, `{"exp":1e400,"iat":-1e400}`) + `","expires_in":-1}`, `{"access_token":"` + jwt(`{}`, `{"exp":"1700000300","iat":null}`) + `"}`, `{"access_token":"` + jwt(`{}`, `{"exp":1700000000.5,"iat":1700000000}`) + `"}`,
		`{"access_token":"a b"}`, `{"access_token":"a\u0000"}`, `{"access_token":"a\r\nX: y"}`, `{"access_token":"a\u00e9"}`, `{"access_token":""}`, `{"access_token":null}`, `{"access_token":["a"]}`,
		`{"access_token":"a","access_token":"b"}`, `{"access_token":"a","Access_Token":"b"}`, `{"access_token":"a","error":null}`, `{"access_token":"a","error":"x"}`,
		`{"error":"invalid_grant","error_description":"secret-of-the-server"}`, `{"error":"secret-of-the-server"}`, `{"error":{"a":1}}`, "\ufeff{}", `{"access_token":"abc"`, `{"access_token":"abc"}{}`,
		`[{"access_token":"abc"}]`, "<html>secret-of-the-server</html>", strings.Repeat("[", 10_001), "",
	} {
		f.Add([]byte(good + body))
		f.Add([]byte("HTTP/1.1 400 Bad Request\r\nRetry-After: 7\r\n\r\n" + body))
	}
	const object = `{"access_token":"abc"}`
	for _, answer := range []string{
		"", "HTTP/1.1", "HTTP/1.1 000 x\r\n\r\n{\"error\":\"x\"}", "SSH-2.0-secret-of-the-server\r\n", "HTTP/1.1 2000 OK\r\n\r\n", "HTTP/1.1 000 OK\r\n\r\n" + object, "HTTP/9.9 200 OK\r\n\r\n" + object,
		"HTTP/1.1 200 OK\r\nX: y\x00secret-of-the-server\r\n\r\n" + object, "HTTP/1.1 200 OK\r\nsecret-of-the-server\r\n\r\n" + object,
		"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n" + object, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + object, "HTTP/1.1 200 OK\r\nContent-Length: secret-of-the-server\r\n\r\n" + object,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n16\r\n" + object + "\r\n0\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n16\r\n" + object,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: secret-of-the-server\r\n\r\n" + object, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + object,
		"HTTP/1.1 200 OK\r\nDate: secret-of-the-server\r\n\r\n" + object, "HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" + good + object,
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n" + object, "HTTP/1.1 204 No Content\r\n\r\n" + object, "HTTP/1.1 201 Created\r\n\r\n" + object,
		"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://secret-of-the-server/\r\n\r\n", "HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n" + object,
		"HTTP/1.1 401 Unauthorized\r\n\r\n", "HTTP/1.1 403 Forbidden\r\n\r\n{}", "HTTP/1.1 403 Forbidden\r\n\r\n<html>", "HTTP/1.1 500 secret-of-the-server\r\n\r\n{\"error\":\"server_error\"}",
		"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 120\r\n\r\n", "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 0\r\n\r\n", "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 99999999999999999999\r\n\r\n", "HTTP/1.1 429 Too Many Requests\r\nRetry-After: -5\r\n\r\n",
		"HTTP/1.1 401 Unauthorized\r\nRetry-After: 1\r\n\r\n{\"error\":\"invalid_grant\"}", "HTTP/1.1 401 Unauthorized\r\nRetry-After: 99999999999999999999\r\n\r\n{\"error\":\"invalid_grant\"}",
		"HTTP/1.1 400 Bad Request\r\n\r\n{\"error\":\"slow_down\"}", "HTTP/1.1 400 Bad Request\r\n\r\n{\"error\":\"scope_invalid\"}", "HTTP/1.1 422 Unprocessable\r\n\r\n<html>", "HTTP/1.1 423 Locked\r\nRetry-After: 7200\r\n\r\n", "HTTP/1.1 403 Forbidden\r\nRetry-After: 7\r\n\r\n<html>",
		"HTTP/1.1 201 Created\r\n\r\n{\"access_token\":\"a\",\"error\":\"\"}", "HTTP/1.1 400 Bad Request\r\n\r\n{\"error\":\"Bad Request\"}", "HTTP/1.1 400 Bad Request\r\n\r\n{\"error\":\"secret-password-of-the-server\"}",
		"HTTP/1.1 503 Unavailable\r\nDate: Tue, 14 Nov 2023 22:13:20 GMT\r\nRetry-After: Tue, 14 Nov 2023 22:14:20 GMT\r\n\r\n", "HTTP/1.1 503 Unavailable\r\nRetry-After: Fri, 31 Dec 9999 23:59:59 GMT\r\n\r\n",
		"HTTP/1.1 503 Unavailable\r\nDate: Mon, 01 Jan 0001 00:00:00 GMT\r\nRetry-After: Fri, 31 Dec 9999 23:59:59 GMT\r\n\r\n",
	} {
		f.Add([]byte(answer))
	}

	url, say := sayer(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		say(raw)
		begin := time.Now()
		m := newManager(t, tokens.NewTransport(tokens.TransportOptions{}), func(o *tokens.Options) { o.Login.URL = url })
		token, err := m.Token(t.Context())
		m.Close()
		if logins := len(m.seen()); logins != 1 {
			t.Fatalf("got %d logins, want 1", logins)
		}
		e := m.lastEvent()
		if (err == nil) != (e.Result() == tokens.OK) || token != e.Token {
			t.Fatalf("Token: %v, %v; event: %+v", token, err, e)
		}
		if err != nil {
			least, most := time.Second, 36*time.Second
			switch e.Result() {
			case tokens.Rejected:
				least, most = 30*time.Second, time.Hour
				if !slices.Contains([]int{400, 401, 403, 422, 423}, e.Status) {
					t.Errorf("got %+v of the status %d", e, e.Status)
				}
			case tokens.Throttled:
				most = 5 * time.Minute
			}
			if wait := e.NextLogin.Sub(begin); e.Token != nil || e.Stopped || wait < least || wait > most+time.Since(begin)+20*time.Millisecond { // the two clocks of Windows tick apart
				t.Errorf("got %+v, the next login in %v", e, wait)
			}
			if e.Cause.Kind == "" || e.Cause.Status != e.Status {
				t.Errorf("got the cause %#v of the status %d", e.Cause, e.Status)
			}
			if u, ok := errors.AsType[*tokens.Unavailable](err); !ok || u.Cause != e.Cause || !ownWords.MatchString(e.Cause.String()) {
				t.Errorf("got %v of the event %+v, want a cause of our own words only", err, e)
			}
			return
		}
		for _, c := range []byte(token.Bearer()) {
			if c <= ' ' || c > '~' {
				t.Errorf("got a token with the byte %#x", c)
			}
		}
		if token.Lifetime < time.Second || token.Lifetime > 24*time.Hour {
			t.Errorf("got a lifetime of %v", token.Lifetime)
		}
		access, bounds := readAnswer(t, raw)
		if access != token.Bearer() {
			t.Errorf("got the token %q, want %q", token.Bearer(), access)
		}
		for _, seconds := range bounds {
			if seconds >= 1 && token.Lifetime.Seconds() > seconds {
				t.Errorf("got a lifetime of %v by %s, want %v s at most", token.Lifetime, token.Rule, seconds)
			}
		}
	})
}

// ownWords are the texts of a failed login: with a status, an error code of the
// registry or an address of this machine in them, and nothing else that came.
var ownWords = func() *regexp.Regexp {
	const code = `(an unregistered error code|error (invalid_(request|client|grant|scope|target|token)|unauthorized_client|unsupported_(grant|response)_type|access_denied|` +
		`server_error|temporarily_unavailable|slow_down|insufficient_scope|(interaction|login|consent|account_selection)_required|` +
		`scope_invalid|authorization_type_invalid|request_(unauthorized|forbidden)))`
	const exchange = `(the exchange failed|(read|write) tcp 127\.0\.0\.1:\d+: [a-z ]+)`
	const bad = `, but (the answer is not one JSON object|the answer has a member twice|the answer has an error member(: ` + code + `)?|the answer has no access_token string|` +
		`the access_token has characters that no header may carry|the answer is larger than 1 MiB|the answer broke off: ` + exchange + `)`
	const failed = `(, ` + code + `)?(, a redirect, which is never followed: check the token URL|` +
		`, with a web page: a firewall, a proxy or a portal on the way answers in place of the login server)?`
	return regexp.MustCompile(`^(HTTP 20[01]` + bad + `|HTTP \d{1,3}` + failed + `|` + exchange + `)$`)
}()

// sayer serves on a free port, and answers each request with the bytes that say
// was last called with.
func sayer(t testing.TB) (url string, say func([]byte)) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var answer atomic.Pointer[[]byte]
	var served sync.WaitGroup
	served.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if r, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
				_, _ = io.Copy(io.Discard, r.Body) // or the client would be reset
				_, _ = c.Write(*answer.Load())
			}
			_ = c.Close()
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		served.Wait()
	})
	return "http://" + l.Addr().String() + "/token", func(b []byte) { answer.Store(&b) }
}

// readAnswer reads the token of an answer that brought one, and what each of its
// sources says of its lifetime, in seconds.
func readAnswer(t *testing.T, raw []byte) (access string, bounds []float64) {
	in := bufio.NewReader(bytes.NewReader(raw))
	res, err := http.ReadResponse(in, nil)
	for err == nil && res.StatusCode < 200 {
		res, err = http.ReadResponse(in, nil)
	}
	if err != nil || res.StatusCode != http.StatusOK && res.StatusCode != http.StatusCreated {
		t.Fatalf("got a token of the answer %+v, %v", res, err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("got a token of an answer that breaks off: %v", err)
	}
	var members map[string]any
	if err := json.Unmarshal(bytes.TrimPrefix(body, []byte("\ufeff")), &members); err != nil {
		if strings.Contains(err.Error(), "cannot unmarshal number") {
			t.Skip() // beyond a float64, in a member that nobody reads
		}
		t.Fatalf("got a token of %q: %v", body, err)
	}
	if e := members["error"]; e != nil && e != "" {
		t.Fatalf("got a token of %q, which has an error", body)
	}
	access, _ = members["access_token"].(string)
	switch n := members["expires_in"].(type) {
	case float64:
		bounds = append(bounds, n)
	case string:
		var number float64
		if strings.TrimSpace(n) == n && json.Unmarshal([]byte(n), &number) == nil {
			bounds = append(bounds, number)
		}
	}
	var claims map[string]any // and not a struct, for which Iat would be iat
	parts := strings.Split(access, ".")
	if len(parts) != 3 {
		return access, bounds
	}
	header, err := base64.RawURLEncoding.DecodeString(parts[0])
	payload, err2 := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || err2 != nil || json.Unmarshal(header, new(map[string]any)) != nil || json.Unmarshal(payload, &claims) != nil {
		return access, bounds
	}
	exp, _ := claims["exp"].(float64)
	iat, _ := claims["iat"].(float64)
	if exp == 0 {
		return access, bounds
	}
	if iat != 0 {
		bounds = append(bounds, exp-iat)
	}
	if date, err := http.ParseTime(res.Header.Get("Date")); err == nil {
		bounds = append(bounds, exp-float64(date.Unix()))
	}
	return access, bounds
}

// FuzzCredentialFile: what is sent is the file's content but for a BOM and one
// newline, or nothing is sent.
func FuzzCredentialFile(f *testing.F) {
	for _, seed := range []string{"", "pw", "pw\n", "pw\r\n", " pw \n", "\r", "\n\n", "\ufeff", "\ufeffpw\n", "\xff\xfep\x00", "p&w=%zz+\x00"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		path := passwordFile(t, string(content))
		bubble(t, func(t *testing.T) {
			s := newServer(t, nil)
			m := newManager(t, s, fromFile(path))
			_, err := m.Token(t.Context())
			m.Close()
			got := passwords(s)
			if err != nil {
				if e := m.lastEvent(); len(got) != 0 || !e.Waiting || !strings.Contains(e.Cause.String(), "file") {
					t.Errorf("got %q, %v, %+v; want nothing sent and the reason", got, err, e)
				}
				return
			}
			rest, found := bytes.CutPrefix(bytes.TrimPrefix(content, []byte("\ufeff")), []byte(got[0]))
			if len(got) != 1 || got[0] == "" || !found || len(rest) > 0 && string(rest) != "\n" && string(rest) != "\r\n" {
				t.Errorf("sent %q of %q", got, content)
			}
		})
	})
}
