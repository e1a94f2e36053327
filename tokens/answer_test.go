package tokens_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bearerd/bearerd/tokens"
)

// logInOnce makes one login that is answered so, and returns its event.
func logInOnce(t *testing.T, a reply) tokens.Event {
	t.Helper()
	s := newServer(t, func(int) reply { return a })
	s.latency = 0
	m := newManager(t, s)
	token, err := m.Token(t.Context())
	m.Close()
	s.expectLogins(1)
	e := m.lastEvent()
	if (err == nil) != (e.Result() == tokens.OK) || token != e.Token {
		t.Fatalf("Token: %v, %v; event: %+v", token, err, e)
	}
	if u, ok := errors.AsType[*tokens.Unavailable](err); err != nil && (!ok || u.Kind != e.Result() || u.Cause != e.Cause) {
		t.Fatalf("Token: %v; event: %+v", err, e)
	}
	return e
}

// jwt returns a JWT with the given claims, signed by nobody.
func jwt(header, claims string) string {
	enc := base64.RawURLEncoding
	return enc.EncodeToString([]byte(header)) + "." + enc.EncodeToString([]byte(claims)) + ".c2ln"
}

func TestWhereTheTokenEnds(t *testing.T) {
	const rs256 = `{"alg":"RS256"}`
	const date = 1_700_000_000
	answer := func(claims, rest string) string {
		return fmt.Sprintf(`{"access_token":"%s"%s}`, jwt(rs256, claims), rest)
	}
	found := make(map[tokens.Rule]bool)
	opaque := func(expiresIn string) string { return `{"access_token":"abc","expires_in":` + expiresIn + `}` }
	for _, test := range []struct {
		name, body string
		lifetime   time.Duration
		rule       tokens.Rule
	}{
		{"expires_in number", opaque(`300`), 300 * time.Second, tokens.RuleExpiresIn},
		{"expires_in numeric string", opaque(`"300"`), 300 * time.Second, tokens.RuleExpiresIn},
		{"expires_in fraction is floored", opaque(`299.99`), 299 * time.Second, tokens.RuleExpiresIn},
		{"expires_in fraction in a string", opaque(`"299.99"`), 299 * time.Second, tokens.RuleExpiresIn},
		{"expires_in exponent", opaque(`3e2`), 300 * time.Second, tokens.RuleExpiresIn},
		{"expires_in 1", opaque(`1`), time.Second, tokens.RuleExpiresIn},
		{"expires_in missing", `{"access_token":"abc"}`, time.Minute, tokens.RuleDefault},
		{"expires_in null", opaque(`null`), time.Minute, tokens.RuleDefault},
		{"expires_in zero", opaque(`0`), time.Minute, tokens.RuleDefault},
		{"expires_in below one", opaque(`0.9`), time.Minute, tokens.RuleDefault},
		{"expires_in negative", opaque(`-300`), time.Minute, tokens.RuleDefault},
		{"expires_in minus zero", opaque(`-0`), time.Minute, tokens.RuleDefault},
		{"expires_in words", opaque(`"soon"`), time.Minute, tokens.RuleDefault},
		{"expires_in NaN", opaque(`"NaN"`), time.Minute, tokens.RuleDefault},
		{"expires_in Infinity", opaque(`"Infinity"`), time.Minute, tokens.RuleDefault},
		{"expires_in hexadecimal", opaque(`"0x10"`), time.Minute, tokens.RuleDefault},
		{"expires_in empty", opaque(`""`), time.Minute, tokens.RuleDefault},
		{"expires_in object", opaque(`{"seconds":300}`), time.Minute, tokens.RuleDefault},
		{"expires_in array", opaque(`[300]`), time.Minute, tokens.RuleDefault},
		{"expires_in true", opaque(`true`), time.Minute, tokens.RuleDefault},
		{"expires_in a day and more", opaque(`86401`), 24 * time.Hour, tokens.RuleExpiresIn},
		{"expires_in beyond int64", opaque(`1e30`), 24 * time.Hour, tokens.RuleExpiresIn},
		{"expires_in beyond float64", opaque(`1e400`), 24 * time.Hour, tokens.RuleExpiresIn},
		{"expires_in string beyond float64", opaque(`"1e400"`), 24 * time.Hour, tokens.RuleExpiresIn},
		{"expires_in minus beyond float64", opaque(`-1e400`), time.Minute, tokens.RuleDefault},
		{"expires_in below float64", opaque(`1e-400`), time.Minute, tokens.RuleDefault},

		{"exp and iat", answer(`{"exp":1000300,"iat":1000000}`, ""), 300 * time.Second, tokens.RuleExpIat},
		{"exp and iat floats", answer(`{"exp":1000300.75,"iat":1000000.5}`, ""), 300250 * time.Millisecond, tokens.RuleExpIat},
		{"exp and iat floats, whole", answer(`{"exp":1.0003e6,"iat":1e6}`, ""), 300 * time.Second, tokens.RuleExpIat},
		{"exp and iat half a second apart", answer(`{"exp":1000000.5,"iat":1000000}`, ""), time.Second, tokens.RuleExpIat},
		{"exp before iat", answer(`{"exp":1000000,"iat":1000300}`, ""), time.Minute, tokens.RuleDefault},
		{"exp and iat beyond float64", answer(`{"exp":1e400,"iat":1e400}`, ""), 24 * time.Hour, tokens.RuleExpDate},
		{"exp beyond float64", answer(`{"exp":1e400,"iat":5}`, ""), 24 * time.Hour, tokens.RuleExpIat},
		{"exp a string", answer(`{"exp":"1000300","iat":1000000}`, ""), time.Minute, tokens.RuleDefault},
		{"exp null", answer(`{"exp":null,"iat":1000000}`, ""), time.Minute, tokens.RuleDefault},
		{"exp without iat, by Date", answer(fmt.Sprintf(`{"exp":%d}`, date+120), ""), 120 * time.Second, tokens.RuleExpDate},
		{"exp gone by", answer(fmt.Sprintf(`{"exp":%d}`, date-120), ""), time.Minute, tokens.RuleDefault},

		{"the smallest: expires_in", answer(fmt.Sprintf(`{"exp":%d,"iat":%d}`, date+120, date-180), `,"expires_in":60`), time.Minute, tokens.RuleExpiresIn},
		{"the smallest: exp-iat", answer(fmt.Sprintf(`{"exp":%d,"iat":%d}`, date+120, date+20), `,"expires_in":300`), 100 * time.Second, tokens.RuleExpIat},
		{"the smallest: exp-date", answer(fmt.Sprintf(`{"exp":%d,"iat":%d}`, date+120, date-180), `,"expires_in":300`), 120 * time.Second, tokens.RuleExpDate},
		{"zero is no smallest", answer(fmt.Sprintf(`{"exp":%d,"iat":%d}`, date-1, date-301), `,"expires_in":0`), 300 * time.Second, tokens.RuleExpIat},

		{"JWT of an unknown alg", `{"access_token":"` + jwt(`{"alg":"XX999"}`, `{"exp":1000300,"iat":1000000}`) + `"}`, 300 * time.Second, tokens.RuleExpIat},
		{"JWT without an alg", `{"access_token":"` + jwt(`{}`, `{"exp":1000300,"iat":1000000}`) + `"}`, 300 * time.Second, tokens.RuleExpIat},
		{"JWT whose claims are null", answer(`null`, ""), time.Minute, tokens.RuleDefault},
		{"JWT whose claims are no object", answer(`[1]`, ""), time.Minute, tokens.RuleDefault},
		{"three parts of nonsense", `{"access_token":"a.b.c"}`, time.Minute, tokens.RuleDefault},
		{"five parts", `{"access_token":"a.b.c.d.e","expires_in":300}`, 300 * time.Second, tokens.RuleExpiresIn},
		{"JWT nested deeply", answer(`{"exp":1000300,"iat":1000000,"x":`+strings.Repeat("[", 100_000)+strings.Repeat("]", 100_000)+`}`, ""), time.Minute, tokens.RuleDefault},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := logInOnce(t, reply{body: test.body, header: http.Header{"Date": {time.Unix(date, 0).UTC().Format(http.TimeFormat)}}})
			if e.Result() != tokens.OK {
				t.Fatalf("got %+v, want a token", e)
			}
			if e.Token.Lifetime != test.lifetime || e.Token.Rule != test.rule {
				t.Errorf("got %v by %s, want %v by %s", e.Token.Lifetime, e.Token.Rule, test.lifetime, test.rule)
			}
			found[e.Token.Rule] = true
		})
	}
	text, err := os.ReadFile("answer.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range regexp.MustCompile(`(?m)^\tRule\w+ +Rule = "(.*?)"`).FindAllStringSubmatch(string(text), -1) {
		if !found[tokens.Rule(rule[1])] {
			t.Errorf("no answer here is read by the rule %s", rule[1])
		}
	}
}

// The answer's own scope is told as it is, and is no reason to refuse the token.
func TestScopeOfTheAnswer(t *testing.T) {
	for body, want := range map[string]string{
		`{"access_token":"abc"}`: "", `{"access_token":"abc","scope":"a b"}`: "a b", `{"access_token":"abc","scope":["a"]}`: "",
		`{"access_token":"abc","scope":null}`: "", `{"access_token":"abc","scope":"a","scope":"b"}`: "b",
	} {
		if e := logInOnce(t, reply{body: body}); e.Result() != tokens.OK || e.Token.Scope != want {
			t.Errorf("%s: got %+v, want scope %q", body, e, want)
		}
	}
}

// Without a Date header there is no rule for exp alone, and no skew.
func TestWhereTheTokenEndsWithoutDate(t *testing.T) {
	for _, header := range []http.Header{nil, {"Date": {"yesterday"}}} {
		e := logInOnce(t, reply{body: `{"access_token":"` + jwt(`{"alg":"none"}`, `{"exp":4000000000}`) + `"}`, header: header})
		if e.Result() != tokens.OK || e.Token.Rule != tokens.RuleDefault || e.Token.Lifetime != time.Minute || e.SkewKnown {
			t.Errorf("header %v: got %+v, want the default and no skew", header, e)
		}
	}
}

func TestDefaultLifetimeIsCappedToo(t *testing.T) {
	s := newServer(t, func(int) reply { return reply{body: `{"access_token":"abc"}`} })
	for given, want := range map[time.Duration]time.Duration{0: time.Minute, -1: time.Minute, 90 * time.Second: 90 * time.Second, 48 * time.Hour: 24 * time.Hour} {
		m := newManager(t, s, func(o *tokens.Options) { o.DefaultLifetime = given })
		if got := m.good(1); got.Lifetime != want || got.Rule != tokens.RuleDefault {
			t.Errorf("DefaultLifetime %v: got %v by %s, want %v", given, got.Lifetime, got.Rule, want)
		}
	}
}

func TestWhatIsAGoodAnswer(t *testing.T) {
	const notOneObject = "HTTP 200, but the answer is not one JSON object"
	const noToken = "HTTP 200, but the answer has no access_token string"
	const errorIn200 = "HTTP 200, but the answer has an error member"
	const badToken = "HTTP 200, but the access_token has characters that no header may carry"
	const ambiguous = "HTTP 200, but the answer has a member twice"
	deep := strings.Repeat("[", 200_000) + strings.Repeat("]", 200_000)
	for _, test := range []struct{ name, body, cause string }{
		{"plain", `{"access_token":"abc"}`, ""},
		{"BOM", "\ufeff" + `{"access_token":"abc"}`, ""},
		{"white space around", " \r\n\t" + `{ "access_token" : "abc" }` + "\n\n", ""},
		{"escapes", `{"access_token":"\u0061bc"}`, ""},
		{"token_type in any case", `{"access_token":"abc","token_type":"bEaReR"}`, ""},
		{"token_type of another kind", `{"access_token":"abc","token_type":"mac"}`, ""},
		{"token_type of a wrong type", `{"access_token":"abc","token_type":7}`, ""},
		{"refresh_token is ignored", `{"access_token":"abc","refresh_token":null,"refresh_expires_in":1800}`, ""},
		{"error null", `{"access_token":"abc","error":null}`, ""},
		{"error empty", `{"access_token":"abc","error":""}`, ""},
		{"other members twice", `{"access_token":"abc","scope":"a","scope":"b"}`, ""},
		{"every character a header may carry", `{"access_token":"!#$%&'()*+,-./09:;<=>?@AZ[]^_` + "`" + `az{|}~"}`, ""},

		{"two BOMs", "\ufeff\ufeff" + `{"access_token":"abc"}`, notOneObject},
		{"empty", "\n", notOneObject},
		{"HTML", "<!DOCTYPE html><title>Sign in</title>", notOneObject},
		{"truncated", `{"access_token":"abc","expires_in":3`, notOneObject},
		{"truncated after a member", `{"access_token":"abc"`, notOneObject},
		{"null", `null`, notOneObject},
		{"string", `"abc"`, notOneObject},
		{"array", `[{"access_token":"abc"}]`, notOneObject},
		{"trailing text", `{"access_token":"abc"}x`, notOneObject},
		{"trailing object", `{"access_token":"abc"}{}`, notOneObject},
		{"trailing brace", `{"access_token":"abc"}}`, notOneObject},
		{"trailing comma", `{"access_token":"abc",}`, notOneObject},
		{"missing comma", `{"access_token":"abc" "expires_in":3}`, notOneObject},
		{"missing colon", `{"access_token" "abc"}`, notOneObject},
		{"wrong bracket", `{"access_token":"abc"]`, notOneObject},
		{"name that is no string", `{1:2,"access_token":"abc"}`, notOneObject},
		{"nested deeply", `{"access_token":"abc","x":` + deep + `}`, notOneObject},
		{"nested deeply at the top", deep, notOneObject},

		{"no access_token", `{"token_type":"bearer"}`, noToken},
		{"access_token in another case", `{"Access_Token":"abc"}`, noToken},
		{"access_token empty", `{"access_token":""}`, noToken},
		{"access_token null", `{"access_token":null}`, noToken},
		{"access_token number", `{"access_token":7}`, noToken},
		{"access_token object", `{"access_token":{"value":"abc"}}`, noToken},
		{"access_token array", `{"access_token":["abc"]}`, noToken},
		{"access_token inside another", `{"data":{"access_token":"abc"}}`, noToken},

		{"space", `{"access_token":"a b"}`, badToken},
		{"space at the end", `{"access_token":"ab "}`, badToken},
		{"newline", `{"access_token":"a\nb"}`, badToken},
		{"CR and a header", `{"access_token":"a\r\nX-Evil: 1"}`, badToken},
		{"NUL", `{"access_token":"a\u0000"}`, badToken},
		{"DEL", `{"access_token":"a\u007f"}`, badToken},
		{"not ASCII", `{"access_token":"é"}`, badToken},
		{"not UTF-8", "{\"access_token\":\"\xff\"}", badToken},

		{"error", `{"access_token":"abc","error":"invalid_grant"}`, errorIn200 + ": error invalid_grant"},
		{"error alone", `{"error":"invalid_grant"}`, errorIn200 + ": error invalid_grant"},
		{"error of spaces", `{"access_token":"abc","error":" "}`, errorIn200 + ": an unregistered error code"},
		{"error false", `{"access_token":"abc","error":false}`, errorIn200},
		{"error object", `{"access_token":"abc","error":{}}`, errorIn200},

		{"access_token twice", `{"access_token":"abc","access_token":"def"}`, ambiguous},
		{"access_token twice, then more", `{"access_token":"abc","access_token":"def","expires_in":3}`, ambiguous},
		{"expires_in twice", `{"access_token":"abc","expires_in":1,"expires_in":2}`, ambiguous},
		{"error twice", `{"access_token":"abc","error":"x","error":null}`, ambiguous},
	} {
		t.Run(test.name, func(t *testing.T) {
			begin := time.Now()
			e := logInOnce(t, reply{body: test.body, header: http.Header{"Content-Type": {"text/html"}}})
			want := tokens.Transient
			if test.cause == "" {
				want = tokens.OK
			}
			if e.Result() != want || e.Cause.String() != test.cause || e.Status != 200 {
				t.Errorf("got %s %d %q, want %s 200 %q", e.Result(), e.Status, e.Cause, want, test.cause)
			}
			if took := time.Since(begin); took > time.Minute {
				t.Errorf("took %v", took)
			}
		})
	}
}

// Skew is known of bad answers too, and signed.
func TestClockSkew(t *testing.T) {
	for _, skew := range []time.Duration{0, 5 * time.Minute, -5 * time.Minute} {
		bubble(t, func(t *testing.T) {
			header := http.Header{"Date": {time.Now().Add(-skew).UTC().Format(http.TimeFormat)}}
			e := logInOnce(t, reply{status: 500, header: header})
			if !e.SkewKnown || e.Skew != skew {
				t.Errorf("got %v, %t, want %v", e.Skew, e.SkewKnown, skew)
			}
		})
	}
}

// Date is of the answer's head: a body that is long in coming makes no skew.
func TestClockSkewSlowBody(t *testing.T) {
	bubble(t, func(t *testing.T) {
		answer := func(*http.Request) (*http.Response, error) {
			body, w := io.Pipe()
			header := http.Header{"Date": {time.Now().UTC().Format(http.TimeFormat)}}
			go func() {
				time.Sleep(8 * time.Second)
				_, _ = io.WriteString(w, `{"access_token":"abc","expires_in":300}`)
				_ = w.Close()
			}()
			return &http.Response{StatusCode: 200, Header: header, Body: body}, nil
		}
		m := newManager(t, roundTripper(answer))
		m.good(1)
		synctest.Wait()
		if e := m.lastEvent(); !e.SkewKnown || e.Skew != 0 {
			t.Errorf("got %v, %t, want 0", e.Skew, e.SkewKnown)
		}
	})
}
