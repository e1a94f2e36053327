package proxy_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/bearerd/bearerd/proxy"
)

// get is a GET's head with these fields after Host.
func get(target string, fields ...string) string { return lines("GET "+target+" HTTP/1.1", fields...) }

// post is a POST's head with these fields after Host.
func post(fields ...string) string { return lines("POST /a HTTP/1.1", fields...) }

func lines(first string, fields ...string) string {
	return first + "\r\n" + strings.Join(append([]string{"Host: localhost"}, fields...), "\r\n") + "\r\n\r\n"
}

// smuggled is a request that is a body's part; or one that some server takes
// out of it.
const smuggled = "GET /smuggled HTTP/1.1\r\nHost: localhost\r\nAuthorization: " + theirs + "\r\n\r\n"

func repeated(n int, format string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

// An attack is what one client writes, and what must come of it: the answers'
// statuses, and what upstream is asked. end follows each on its connection.
type attack struct{ name, raw, want string }

// unended are the attacks whose body nothing ends but bearerd's patience, which
// is short for them alone: on a busy machine others must not meet its end.
var unended = map[string]bool{"length larger than the body": true, "chunk size of 64 bits": true}

var attacks = []attack{
	// One length, and one only.
	{"two equal lengths", post("Content-Length: 3", "Content-Length: 3") + "abc", `200 200: POST /a and "abc"; GET /end`},
	{"two different lengths", post("Content-Length: 3", "Content-Length: 5") + "abc", "400"},
	{"two lengths, one in a list", post("Content-Length: 3, 3") + "abc", "400"},
	{"two different lengths in a list", post("Content-Length: 3, 5") + "abc", "400"},
	{"negative length", post("Content-Length: -1") + "abc", "400"},
	{"length with a plus", post("Content-Length: +3") + "abc", "400"},
	{"hexadecimal length", post("Content-Length: 0x3") + "abc", "400"},
	{"length with an underscore", post("Content-Length: 1_0") + "abc", "400"},
	{"length with a point", post("Content-Length: 3.0") + "abc", "400"},
	{"length with a space within", post("Content-Length: 3 3") + "abc", "400"},
	{"empty length", post("Content-Length:") + smuggled, "400"},
	{"length of leading zeros", post("Content-Length: 0003") + "abc", `200 200: POST /a and "abc"; GET /end`},
	{"length beyond 63 bits", post("Content-Length: 9223372036854775808") + "abc", "400"},
	{"length beyond 64 bits", post("Content-Length: 18446744073709551619") + "abc", "400"},
	{"length larger than the body", post("Content-Length: 10000") + "abc", "400"},
	{"length of a GET", lines("GET /a HTTP/1.1", fmt.Sprintf("Content-Length: %d", len(smuggled))) + smuggled, "200 200: GET /a and 73 bytes; GET /end"},
	{"length 0 before a body", post("Content-Length: 0") + smuggled, "200 200 200: POST /a; GET /smuggled; GET /end"},
	{"no length before a body", post() + smuggled, "200 200 200: POST /a; GET /smuggled; GET /end"},
	// net/http takes the chunks and hides the length: upstream sees them alone.
	{"length and chunked", post("Content-Length: 3", "Transfer-Encoding: chunked") + "0\r\n\r\n" + smuggled, "200 200 200: POST /a; GET /smuggled; GET /end"},
	{"chunked and length", post("Transfer-Encoding: chunked", "Content-Length: 3") + "0\r\n\r\n" + smuggled, "200 200 200: POST /a; GET /smuggled; GET /end"},
	{"chunked and a bad length", post("Transfer-Encoding: chunked", "Content-Length: -3") + "0\r\n\r\n" + smuggled, "400"},

	// One transfer encoding, and one only.
	{"chunked", post("Transfer-Encoding: chunked") + "3\r\nabc\r\n0\r\n\r\n", `200 200: POST /a and "abc"; GET /end`},
	{"Chunked", post("tRANSFER-eNCODING: cHUNKED") + "3\r\nabc\r\n0\r\n\r\n", `200 200: POST /a and "abc"; GET /end`},
	{"chunked, identity", post("Transfer-Encoding: chunked, identity") + "0\r\n\r\n" + smuggled, "501"},
	{"identity, chunked", post("Transfer-Encoding: identity, chunked") + "0\r\n\r\n" + smuggled, "501"},
	{"identity", post("Transfer-Encoding: identity", "Content-Length: 3") + "abc", "501"},
	{"gzip, chunked", post("Transfer-Encoding: gzip, chunked") + "0\r\n\r\n" + smuggled, "501"},
	{"chunked twice", post("Transfer-Encoding: chunked, chunked") + "0\r\n\r\n" + smuggled, "501"},
	{"two encodings", post("Transfer-Encoding: chunked", "Transfer-Encoding: chunked") + "0\r\n\r\n" + smuggled, "501"},
	{"two different encodings", post("Transfer-Encoding: chunked", "Transfer-Encoding: x") + "0\r\n\r\n" + smuggled, "501"},
	{"spaces before chunked", post("Transfer-Encoding:    chunked") + "3\r\nabc\r\n0\r\n\r\n", `200 200: POST /a and "abc"; GET /end`},
	{"tab before chunked", post("Transfer-Encoding:\tchunked") + "3\r\nabc\r\n0\r\n\r\n", `200 200: POST /a and "abc"; GET /end`},
	{"vertical tab before chunked", post("Transfer-Encoding:\vchunked") + "0\r\n\r\n" + smuggled, "400"},
	{"xchunked", post("Transfer-Encoding: xchunked") + "0\r\n\r\n" + smuggled, "501"},
	{"chunked in quotes", post(`Transfer-Encoding: "chunked"`) + "0\r\n\r\n" + smuggled, "501"},
	{"chunked with a parameter", post("Transfer-Encoding: chunked;q=1") + "0\r\n\r\n" + smuggled, "501"},
	{"empty encoding", post("Transfer-Encoding:", "Content-Length: 3") + "abc", "501"},
	{"folded chunked", post("Transfer-Encoding:\r\n chunked") + "3\r\nabc\r\n0\r\n\r\n", `200 200: POST /a and "abc"; GET /end`},
	{"folded half of an encoding", post("Transfer-Encoding: x\r\n chunked") + "0\r\n\r\n" + smuggled, "501"},
	{"encoding with a space before its colon", post("Transfer-Encoding : chunked", "Content-Length: 5") + "0\r\n\r\n" + smuggled, "400"},
	{"encoding with a tab before its colon", post("Transfer-Encoding\t: chunked", "Content-Length: 5") + "0\r\n\r\n" + smuggled, "400"},
	{"encoding with an underscore", post("Transfer_Encoding: chunked", "Content-Length: 5") + "0\r\n\r\n", `200 200: POST /a and "0\r\n\r\n"; GET /end`},
	{"encoding behind a bare CR", post("X: y\rTransfer-Encoding: chunked", "Content-Length: 5") + "0\r\n\r\n" + smuggled, "400"},
	// HTTP/1.0 knows no chunks.
	{"chunked of HTTP/1.0", lines("POST /a HTTP/1.0", "Transfer-Encoding: chunked") + "0\r\n\r\n" + smuggled, "200: POST /a"},
	{"chunked of HTTP/1.0 kept alive", lines("POST /a HTTP/1.0", "Connection: keep-alive", "Transfer-Encoding: chunked", "Content-Length: 5") + "0\r\n\r\n" + smuggled, `200 200 200: POST /a and "0\r\n\r\n"; GET /smuggled; GET /end`},

	// Chunks.
	{"chunk extensions", post("Transfer-Encoding: chunked") + "3;a=b;c=\"d\"\r\nabc\r\n0;e\r\n\r\n", `200 200: POST /a and "abc"; GET /end`},
	{"chunk extension with a bare LF", post("Transfer-Encoding: chunked") + "3;a\nabc\r\n0\r\n\r\n", "400"},
	{"chunk extension with a bare CR", post("Transfer-Encoding: chunked") + "3;a\rb\r\nabc\r\n0\r\n\r\n", "400"},
	{"endless chunk extension", post("Transfer-Encoding: chunked") + "3;" + strings.Repeat("a", 64<<10) + "\r\nabc\r\n0\r\n\r\n", "400"},
	{"chunk size that overflows", post("Transfer-Encoding: chunked") + "10000000000000003\r\nabc\r\n0\r\n\r\n", "400"},
	{"chunk size of 64 bits", post("Transfer-Encoding: chunked") + "ffffffffffffffff\r\nabc\r\n0\r\n\r\n", "400"},
	{"negative chunk size", post("Transfer-Encoding: chunked") + "-3\r\nabc\r\n0\r\n\r\n", "400"},
	{"chunk size with 0x", post("Transfer-Encoding: chunked") + "0x3\r\nabc\r\n0\r\n\r\n", "400"},
	{"chunk size with a plus", post("Transfer-Encoding: chunked") + "+3\r\nabc\r\n0\r\n\r\n", "400"},
	{"chunk size with an underscore", post("Transfer-Encoding: chunked") + "1_0\r\nabc\r\n0\r\n\r\n", "400"},
	{"chunk size of leading zeros", post("Transfer-Encoding: chunked") + "0000000003\r\nabc\r\n0\r\n\r\n", `200 200: POST /a and "abc"; GET /end`},
	{"chunk size with a space", post("Transfer-Encoding: chunked") + "3 \r\nabc\r\n0\r\n\r\n", `200 200: POST /a and "abc"; GET /end`},
	{"empty chunk size", post("Transfer-Encoding: chunked") + "\r\nabc\r\n0\r\n\r\n", "400"},
	{"chunk that is longer than its size", post("Transfer-Encoding: chunked") + "2\r\nabc\r\n0\r\n\r\n", "400"},
	{"chunk ended by a bare LF", post("Transfer-Encoding: chunked") + "3\r\nabc\n0\r\n\r\n", "400"},
	{"chunk size ended by a bare LF", post("Transfer-Encoding: chunked") + "3\nabc\r\n0\r\n\r\n", "400"},
	{"chunk size ended by a bare CR", post("Transfer-Encoding: chunked") + "3\rabc\r\n0\r\n\r\n", "400"},
	{"chunks without their end", post("Transfer-Encoding: chunked") + "3\r\nabc\r\n", "400"},
	{"a request in a chunk", post("Transfer-Encoding: chunked") + fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(smuggled), smuggled), "200 200: POST /a and 73 bytes; GET /end"},
	{"trailers", post("Transfer-Encoding: chunked", "Trailer: X-T, Authorization", "TE: trailers") + "3\r\nabc\r\n0\r\nX-T: 1\r\nAuthorization: " + theirs + "\r\n\r\n", `200 200: POST /a and "abc"; GET /end`},
	{"trailer that frames", post("Transfer-Encoding: chunked") + "3\r\nabc\r\n0\r\nContent-Length: 50\r\nTransfer-Encoding: x\r\nHost: evil.example\r\n\r\n", `200 200: POST /a and "abc"; GET /end`},
	{"trailer announced that frames", post("Transfer-Encoding: chunked", "Trailer: Content-Length") + "3\r\nabc\r\n0\r\nContent-Length: 50\r\n\r\n", "400"},
	{"malformed trailer", post("Transfer-Encoding: chunked") + "3\r\nabc\r\n0\r\nno colon\r\n\r\n", "400"},

	// Lines.
	{"every line ended by a bare LF", "GET /a HTTP/1.1\nHost: localhost\nX: y\n\n", "200 200: GET /a; GET /end"},
	{"a header ended by a bare LF", get("/a", "X: y\nAuthorization: "+theirs), "200 200: GET /a; GET /end"},
	{"the head ended by bare LFs", "POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\n\nabc", `200 200: POST /a and "abc"; GET /end`},
	{"request line with a bare CR", "GET /a\rX HTTP/1.1\r\nHost: localhost\r\n\r\n", "400"},
	{"bare CR in a value", get("/a", "X: y\rz"), "400"},
	{"bare CRs as line ends", "GET /a HTTP/1.1\rHost: localhost\r\r", "400"},
	{"folded value", get("/a", "X: y\r\n z"), "200 200: GET /a; GET /end"},
	{"folded request", get("/a", "X: y\r\n GET /smuggled HTTP/1.1"), "200 200: GET /a; GET /end"},
	{"folded first field", "GET /a HTTP/1.1\r\n X: y\r\nHost: localhost\r\n\r\n", "400"},
	{"folded Host", "GET /a HTTP/1.1\r\nHost:\r\n localhost\r\n\r\n", "200 200: GET /a; GET /end"},
	{"space before the colon", get("/a", "X : y"), "400"},
	{"Host with a space before the colon", "GET /a HTTP/1.1\r\nHost : localhost\r\n\r\n", "400"},
	{"field without a colon", get("/a", "X"), "400"},
	{"field without a name", get("/a", ": y"), "400"},
	{"NUL in a value", get("/a", "X: y\x00z"), "400"},
	{"NUL in a name", get("/a", "X\x00: y"), "400"},
	{"control byte in a value", get("/a", "X: y\x01z"), "400"},
	{"DEL in a value", get("/a", "X: y\x7fz"), "400"},
	{"control byte in a name", get("/a", "X\x01: y"), "400"},
	{"byte above 127 in a name", get("/a", "X\xff: y"), "400"},
	{"bytes above 127 in a value", get("/a", "X: \xff\xfe"), "200 200: GET /a; GET /end"},
	{"underscores and dots in names", get("/a", "X_Y: 1", "Content_Length: 5", "X.Y: 2"), "200 200: GET /a; GET /end"},
	{"empty lines before the request", "\r\n\r\n" + get("/a"), "400"},
	{"space before the request", " " + get("/a"), "400"},
	{"empty value", get("/a", "X:"), "200 200: GET /a; GET /end"},

	// Host.
	{"two Hosts", get("/a", "Host: localhost"), "400"},
	{"two different Hosts", get("/a", "Host: evil.example"), "400"},
	{"no Host", "GET /a HTTP/1.1\r\nX: y\r\n\r\n", "400"},
	{"no Host of HTTP/1.0", "GET /a HTTP/1.0\r\n\r\n", "421"},
	{"Host with user information", "GET /a HTTP/1.1\r\nHost: user:pw@localhost\r\n\r\n", "400"},
	{"Host with a path", "GET /a HTTP/1.1\r\nHost: localhost/x\r\n\r\n", "400"},
	{"Host with a line break in it", "GET /a HTTP/1.1\r\nHost: localhost%0d%0aX: y\r\n\r\n", "400"},
	{"Host of another", "GET /a HTTP/1.1\r\nHost: evil.example\r\n\r\n", "421 200: GET /end"},
	{"X-Forwarded-Host", get("/a", "X-Forwarded-Host: evil.example", "Forwarded: host=evil.example", "X-Host: z"), "200 200: GET /a; GET /end"},

	// Targets.
	{"absolute target", get("http://localhost/a"), "400 200: GET /end"},
	{"absolute target elsewhere", get("http://evil.example/a"), "400 200: GET /end"},
	{"absolute target with user information", get("http://u:p@localhost/a"), "400 200: GET /end"},
	{"opaque target", get("x:http://evil.example/steal"), "400 200: GET /end"},
	{"authority target", get("evil.example:80"), "400 200: GET /end"},
	{"CONNECT", lines("CONNECT evil.example:80 HTTP/1.1"), "405"},
	{"CONNECT with a tunnel at once", lines("CONNECT localhost:80 HTTP/1.1") + smuggled, "405"},
	{"asterisk", lines("OPTIONS * HTTP/1.1"), "400 200: GET /end"},
	{"GET of the asterisk", get("*"), "400 200: GET /end"},
	{"two slashes", get("//evil.example/a"), "200 200: GET //evil.example/a; GET /end"},
	{"fragment", get("/a#b"), "200 200: GET /a#b; GET /end"},
	{"space in the target", get("/a b"), "400"},
	{"tab in the target", get("/a\tb"), "400"},
	{"request line with two spaces", "GET  /a HTTP/1.1\r\nHost: localhost\r\n\r\n", "400"},
	{"request line with a tab", "GET\t/a\tHTTP/1.1\r\nHost: localhost\r\n\r\n", "400"},
	{"request line with a space at its end", "GET /a HTTP/1.1 \r\nHost: localhost\r\n\r\n", "400"},
	{"request in the target", get("/a HTTP/1.1\r\nHost: localhost\r\n\r\nGET /smuggled"), "200 200 200: GET /a; GET /smuggled; GET /end"},
	{"line break in the target, encoded", get("/a%0d%0aX-Injected:%20y"), "200 200: GET /a%0d%0aX-Injected:%20y; GET /end"},
	{"request in the target, encoded", get("/a%20HTTP/1.1%0d%0aHost:%20evil.example%0d%0a%0d%0aGET%20/smuggled"), "200 200: GET /a%20HTTP/1.1%0d... of 70; GET /end"},
	{"line break in the query, encoded", get("/a?%0d%0aX-Injected:%20y"), "200 200: GET /a?%0d%0aX-Injected:%20y; GET /end"},
	{"NUL in the target", get("/a\x00b"), "400"},
	{"byte above 127 in the target", get("/\xff"), "200 200: GET /\xff; GET /end"},
	{"10,001 parameters", get("/a?" + strings.Repeat("a=1&", 10_000) + "a=1"), "200 200: GET /a?a=1&a=1&a=1&a... of 40010; GET /end"},
	{"target of 64 KiB", get("/" + strings.Repeat("a", 64<<10)), "200 200: GET /aaaaaaaaaaaaaaa... of 65541; GET /end"},
	{"target of 1 MiB", get("/" + strings.Repeat("a", 1<<20)), "431"},

	// Methods and versions.
	{"method of odd bytes", lines("G\x00T /a HTTP/1.1"), "400"},
	{"method with a colon", lines("GE:T /a HTTP/1.1"), "400"},
	{"method of marks", lines("!#$%&'*+-.^_`|~ /a HTTP/1.1"), "200 200: !#$%&'*+-.^_`|~ /a; GET /end"},
	{"method in small letters", lines("get /a HTTP/1.1"), "200 200: get /a; GET /end"},
	{"no method", lines(" /a HTTP/1.1"), "400"},
	{"method of 64 KiB", lines(strings.Repeat("A", 64<<10) + " /a HTTP/1.1"), "200 200: AAAAAAAAAAAAAAAAAAAA... of 65539; GET /end"},
	{"TRACE", lines("TRACE /a HTTP/1.1", "Authorization: "+theirs), "405 200: GET /end"},
	{"HTTP/0.9", "GET /a\r\n\r\n", "400"},
	{"HTTP/1.0", "GET /a HTTP/1.0\r\nHost: localhost\r\n\r\n", "200: GET /a"},
	{"HTTP/1.0 kept alive", "GET /a HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n", "200 200: GET /a; GET /end"},
	{"HTTP/1.2", lines("GET /a HTTP/1.2"), "200 200: GET /a; GET /end"},
	{"HTTP/1.10", lines("GET /a HTTP/1.10"), "400"},
	{"HTTP/2.0", lines("GET /a HTTP/2.0"), "505"},
	{"http/1.1", lines("GET /a http/1.1"), "400"},
	{"preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", "505"},
	{"TLS", "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03\r\n\r\n", "400"},

	// Fields that concern one connection, and the client's own credentials.
	{"credentials", get("/a", "Authorization: "+theirs, "authorization: "+theirs, "Proxy-Authorization: "+theirs, "Proxy_Authorization: "+theirs, "proxy-Authorization_: x"), "200 200: GET /a; GET /end"},
	{"Connection: Authorization", get("/a", "Connection: Authorization", "Authorization: "+theirs), "200 200: GET /a; GET /end"},
	{"Connection: Host, Content-Length", post("Connection: Host, Content-Length", "Content-Length: 3") + "abc", `200 200: POST /a and "abc"; GET /end`},
	{"Connection: Transfer-Encoding", post("Connection: Transfer-Encoding", "Transfer-Encoding: chunked") + "3\r\nabc\r\n0\r\n\r\n", `200 200: POST /a and "abc"; GET /end`},
	{"Connection: X, close", get("/a", "Connection: X, close", "X: y"), "200: GET /a"},
	{"Connection: close, keep-alive", get("/a", "Connection: close, keep-alive", "Keep-Alive: timeout=5"), "200: GET /a"},
	{"Proxy-Connection and Keep-Alive", get("/a", "Proxy-Connection: keep-alive", "Keep-Alive: timeout=100", "TE: trailers, deflate"), "200 200: GET /a; GET /end"},
	{"TE without trailers", get("/a", "TE: gzip"), "200 200: GET /a; GET /end"},
	{"Upgrade to h2c with a body", get("/a", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AA") + "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + smuggled, "200 505: GET /a"},
	{"PRI with a field", "PRI * HTTP/2.0\r\nHost: localhost\r\n\r\n" + smuggled, "505"},
	{"PRI of HTTP/1.1", "PRI * HTTP/1.1\r\nHost: localhost\r\n\r\n", "400 200: GET /end"},
	{"Upgrade to h2c with a length", post("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AA", "Content-Length: 3") + "abc", `200 200: POST /a and "abc"; GET /end`},
	{"HTTP2-Settings without an Upgrade", get("/a", "HTTP2-Settings: AA"), "200 200: GET /a; GET /end"},
	{"Upgrade to WebSocket with a request", get("/a", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 777") + smuggled, "400"},
	{"cookies and forwarding fields", get("/a", "Cookie: a=b", "X-Forwarded-For: 1.2.3.4", "X-Real-IP: 1.2.3.4", "X-Original-URL: /admin", "X-Rewrite-URL: /admin"), "200 200: GET /a; GET /end"},
	{"X-HTTP-Method-Override", get("/a", "X-HTTP-Method-Override: DELETE"), "200 200: GET /a; GET /end"},

	// Expect.
	{"Expect", post("Expect: 100-continue", "Content-Length: 3") + "abc", `100 200 200: POST /a and "abc"; GET /end`},
	{"Expect twice", post("Expect: 100-continue", "Expect: 100-continue", "Content-Length: 3") + "abc", `100 200 200: POST /a and "abc"; GET /end`},
	{"Expect what nobody knows", post("Expect: 200-maybe", "Content-Length: 3") + "abc", "417"},
	{"Expect without a body", get("/a", "Expect: 100-continue"), "200 200: GET /a; GET /end"},
	{"Expect with a body of no bytes", post("Expect: 100-continue", "Content-Length: 0"), "200 200: POST /a; GET /end"},
	{"Expect and chunked", post("Expect: 100-continue", "Transfer-Encoding: chunked") + "3\r\nabc\r\n0\r\n\r\n", `100 200 200: POST /a and "abc"; GET /end`},
	{"a body that is announced upstream", post("Content-Length: 2000") + strings.Repeat("a", 2000), "200 200: POST /a and 2000 bytes; GET /end"},
	{"Expect of a body that is announced upstream", post("Expect: 100-continue", "Content-Length: 2000") + strings.Repeat("a", 2000), "100 200 200: POST /a and 2000 bytes; GET /end"},
	{"Expect of a refused request", lines("POST x:y HTTP/1.1", "Expect: 100-continue", fmt.Sprintf("Content-Length: %d", len(smuggled))) + smuggled, "400"},

	// Size.
	{"header of 64 KiB", get("/a", "X: "+strings.Repeat("y", 64<<10)), "200 200: GET /a; GET /end"},
	{"header of 200 KiB", get("/a", "X: "+strings.Repeat("y", 200<<10)), "431"},
	{"name of 64 KiB", get("/a", strings.Repeat("X", 64<<10)+": y"), "200 200: GET /a; GET /end"},
	{"1,000 headers", get("/a", strings.TrimSuffix(repeated(1000, "X-%d: y\r\n"), "\r\n")), "200 200: GET /a; GET /end"},
	{"10,000 headers", get("/a", strings.TrimSuffix(repeated(10_000, "X-%d: y-and-some-more\r\n"), "\r\n")), "431"},

	// Several requests on one connection.
	{"pipelined", get("/a") + get("/b"), "200 200 200: GET /a; GET /b; GET /end"},
	{"pipelined behind a body", post("Content-Length: 3") + "abc" + get("/b"), `200 200 200: POST /a and "abc"; GET /b; GET /end`},
	{"pipelined, the second refused", get("/a") + get("x:y") + get("/b"), "200 400 200 200: GET /a; GET /b; GET /end"},
	{"pipelined, another's Host in the second", get("/a") + "GET /b HTTP/1.1\r\nHost: evil.example\r\n\r\n" + get("/c"), "200 421 200 200: GET /a; GET /c; GET /end"},
	{"pipelined, a web page's the second", get("/a") + get("/b", "Origin: http://evil.example") + get("/c"), "200 403 200 200: GET /a; GET /c; GET /end"},
	{"pipelined eight times", repeated(8, "GET /%d HTTP/1.1\r\nHost: localhost\r\n\r\n"), "200 200 200 200 200 200 200 200 200: GET /0; GET /1; GET /2; GET /3; GET /4; GET /5; GET /6; GET /7; GET /end"},
	{"a refused request's body", lines("POST x:y HTTP/1.1", fmt.Sprintf("Content-Length: %d", len(smuggled))) + smuggled, "400"},
	{"a refused request's chunks", lines("POST x:y HTTP/1.1", "Transfer-Encoding: chunked") + fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(smuggled), smuggled), "400"},
	{"another's Host and a body", "POST /a HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 400000\r\n\r\n" + strings.Repeat(smuggled, 400_000/len(smuggled)), "421"},
	{"a request behind a bad one", "GET /a\r\n\r\n" + smuggled, "400"},
	{"a request behind the last one", get("/a", "Connection: close") + smuggled, "200: GET /a"},
}

func TestThreatRequestSmuggling(t *testing.T) {
	t.Parallel()
	for _, prefix := range []string{"", "/base"} {
		for _, c := range attacks {
			t.Run("prefix="+prefix+"/"+c.name, func(t *testing.T) {
				t.Parallel()
				patience := patience
				if unended[c.name] {
					patience = 2 * time.Second
				}
				a := newArena(t, setting{prefix: prefix}, patience)
				answers := a.play(t, c.raw+end)
				if got := a.outcome(answers); got != c.want {
					t.Errorf("got\n\t%s\nwant\n\t%s", got, c.want)
				}
				a.judge(t, answers)
				for _, m := range a.requests {
					if strings.Contains(fmt.Sprint(m.head), theirs) {
						t.Errorf("upstream got the client's credentials: %.2000q", m.head)
					}
				}
			})
		}
	}
}

// A replyAttack is what upstream answers to POST /a, and what comes of it: the
// answer's status and body, and the status of the request behind it.
type replyAttack struct{ name, reply, want string }

var replyAttacks = []replyAttack{
	{"plain", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", `200 "hi"; 200 "ok"`},
	{"closed at once", " ", `502 "problem"; 200 "ok"`},
	{"no HTTP", "SSH-2.0-OpenSSH_9.9\r\n\r\n", `502 "problem"; 200 "ok"`},
	{"HTTP/0.9", "<html></html>", `502 "problem"; 200 "ok"`},
	{"HTTP/2 in cleartext", "\x00\x00\x00\x04\x00\x00\x00\x00\x00\r\n\r\n", `502 "problem"; 200 "ok"`},
	{"HTTP/3.0", "HTTP/3.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", `200 "hi"; 200 "ok"`},
	{"HTTP/1.0 to its end", "HTTP/1.0 200 OK\r\n\r\nhi", `200 "hi"; 200 "ok"`},
	{"no reason", "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nhi", `200 "hi"; 200 "ok"`},
	{"status of two digits", "HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nhi", `502 "problem"; 200 "ok"`},
	{"status of four digits", "HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nhi", `502 "problem"; 200 "ok"`},
	{"negative status", "HTTP/1.1 -20 OK\r\nContent-Length: 2\r\n\r\nhi", `502 "problem"; 200 "ok"`},
	{"status 000", "HTTP/1.1 000 OK\r\nContent-Length: 2\r\n\r\nhi", `502 "problem"; 200 "ok"`},
	{"status 999", "HTTP/1.1 999 OK\r\nContent-Length: 2\r\n\r\nhi", `999 "hi"; 200 "ok"`},
	{"control bytes in the reason", "HTTP/1.1 200 O\x00\rX: y\r\nContent-Length: 2\r\n\r\nhi", `200 "hi"; 200 "ok"`},
	{"101 that nobody asked for", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", `502 "problem"; 200 "ok"`},
	{"some 1xx", strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\nSet-Cookie: a=b\r\n\r\n", 3) + "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", `200 "hi"; 200 "ok"`},
	{"flood of 103", strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", 20_000) + ok, `200 "ok"; 200 "ok"`},
	{"flood of 100", strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 40_000) + ok, `200 "ok"; 200 "ok"`},
	{"more than 1 MiB of 103", strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", 30_000) + ok, `502 "problem"; 200 "ok"`},
	{"more than 1 MiB of 100", strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 50_000) + ok, `502 "problem"; 200 "ok"`},
	{"a 1xx alone", "HTTP/1.1 103 Early Hints\r\n\r\n", `502 "problem"; 200 "ok"`},

	{"two equal lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi", `200 "hi"; 200 "ok"`},
	{"two different lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 4\r\n\r\nhiho", `502 "problem"; 200 "ok"`},
	{"lengths in a list", "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nhi", `502 "problem"; 200 "ok"`},
	{"negative length", "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nhi", `502 "problem"; 200 "ok"`},
	{"length with a plus", "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nhi", `502 "problem"; 200 "ok"`},
	{"length beyond 64 bits", "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551618\r\n\r\nhi", `502 "problem"; 200 "ok"`},
	{"length and chunked", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", `200 "abc"; 200 "ok"`},
	{"chunked and length", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n3\r\nabc\r\n0\r\n\r\n", `200 "abc"; 200 "ok"`},
	{"chunked, identity", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, identity\r\n\r\n3\r\nabc\r\n0\r\n\r\n", `502 "problem"; 200 "ok"`},
	{"xchunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", `502 "problem"; 200 "ok"`},
	{"chunked of HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", `200 "3\r\nabc\r\n0\r\n\r\n"; 200 "ok"`},
	{"chunk size that overflows", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000003\r\nabc\r\n0\r\n\r\n", `200 "" cut`},
	{"chunk extensions", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\n\r\n", `200 "abc"; 200 "ok"`},
	{"chunk that is longer than its size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n", `200 "ab" cut`},
	{"body cut short", "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nhi", `200 "hi" cut`},
	{"chunks cut short", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", `200 "abc" cut`},
	{"204 with a body", "HTTP/1.1 204 No Content\r\nContent-Length: 42\r\nConnection: close\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", `204 ""; 200 "ok"`},
	{"304 with a body", "HTTP/1.1 304 Not Modified\r\nContent-Length: 42\r\nConnection: close\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", `304 ""; 200 "ok"`},
	{"two answers", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhiHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", `200 "hi"; 200 "ok"`},
	{"trailers that frame", "HTTP/1.1 200 OK\r\nTrailer: Content-Length\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nContent-Length: 50\r\n\r\n", `502 "problem"; 200 "ok"`},
	{"trailers that frame, unannounced", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nContent-Length: 50\r\nSet-Cookie: a=b\r\nAccess-Control-Allow-Origin: *\r\n\r\n", `200 "abc"; 200 "ok"`},
	{"trailers of a connection, unannounced", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nConnection: close\r\nKeep-Alive: x\r\nupgrade: h2c\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\nHost: evil.example\r\nAuthorization: x\r\n\r\n", `200 "abc"; 200 "ok"`},
	{"trailers of a connection, announced", "HTTP/1.1 200 OK\r\nTrailer: Upgrade, Location\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nUpgrade: h2c\r\nLocation: /x\r\n\r\n", `200 "abc"; 200 "ok"`},

	{"bare CR in a value", "HTTP/1.1 200 OK\r\nX: y\rSet-Cookie: a=b\r\nContent-Length: 2\r\n\r\nhi", `502 "problem"; 200 "ok"`},
	{"bare LF in a value", "HTTP/1.1 200 OK\r\nX: y\nSet-Cookie: a=b\r\nContent-Length: 2\r\n\r\nhi", `200 "hi"; 200 "ok"`},
	{"bare CRs that end a head", "HTTP/1.1 200 OK\r\nX: y\r\rHTTP/1.1 200 OK\r\r\nContent-Length: 2\r\n\r\nhi", `502 "problem"; 200 "ok"`},
	{"NUL in a value", "HTTP/1.1 200 OK\r\nX: y\x00z\r\nContent-Length: 2\r\n\r\nhi", `502 "problem"; 200 "ok"`},
	{"control byte in a value", "HTTP/1.1 200 OK\r\nX: y\x01z\r\nContent-Length: 2\r\n\r\nhi", `502 "problem"; 200 "ok"`},
	{"folded value", "HTTP/1.1 200 OK\r\nX: y\r\n Set-Cookie: a=b\r\nContent-Length: 2\r\n\r\nhi", `200 "hi"; 200 "ok"`},
	{"space before the colon", "HTTP/1.1 200 OK\r\nX: y\r\nSet-Cookie : a=b\r\nContent-Length: 2\r\n\r\nhi", `200 "hi"; 200 "ok"`},
	{"NUL in a name", "HTTP/1.1 200 OK\r\nX\x00Y: y\r\nContent-Length: 2\r\n\r\nhi", `502 "problem"; 200 "ok"`},
	{"no colon", "HTTP/1.1 200 OK\r\nX\r\nContent-Length: 2\r\n\r\nhi", `502 "problem"; 200 "ok"`},
	{"Connection: Authorization", "HTTP/1.1 200 OK\r\nConnection: Authorization\r\nAuthorization: y\r\nContent-Length: 2\r\n\r\nhi", `200 "hi"; 200 "ok"`},
	{"Connection: Content-Length", "HTTP/1.1 200 OK\r\nConnection: Content-Length, Content-Type\r\nContent-Length: 2\r\n\r\nhi", `200 "hi"; 200 "ok"`},
	{"fields of upstream's connection", "HTTP/1.1 200 OK\r\nConnection: keep-alive, X\r\nX: y\r\nKeep-Alive: timeout=9\r\nProxy-Authenticate: Basic\r\nProxy-Connection: x\r\nUpgrade: h2c\r\nAlt-Svc: h2\r\nContent-Length: 2\r\n\r\nhi", `200 "hi"; 200 "ok"`},
	{"Location with line breaks", "HTTP/1.1 302 Found\r\nLocation: /x%0d%0aSet-Cookie:%20a=b\r\nContent-Length: 2\r\n\r\nhi", `302 "hi"; 200 "ok"`},
	{"Location with a bare CR", "HTTP/1.1 302 Found\r\nLocation: /x\rSet-Cookie: a=b\r\nContent-Length: 2\r\n\r\nhi", `502 "problem"; 200 "ok"`},
	{"header of 11 MiB", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("y", 11<<20) + "\r\nContent-Length: 2\r\n\r\nhi", `502 "problem"; 200 "ok"`},
	{"10,000 headers", "HTTP/1.1 200 OK\r\n" + repeated(10_000, "X-%d: y\r\n") + "Content-Length: 2\r\n\r\nhi", `200 "hi"; 200 "ok"`},
}

// Upstream is believed, but what it says must not reach the client as more than
// one answer, nor change what the next one says.
func TestThreatUpstreamAnswers(t *testing.T) {
	for _, early := range []bool{false, true} {
		for _, c := range replyAttacks {
			t.Run(fmt.Sprintf("early=%v/%s", early, c.name), func(t *testing.T) {
				t.Parallel()
				a := newArena(t, setting{}, patience)
				a.reply, a.early = c.reply, early
				got := a.play(t, post("Content-Length: 3")+"abc"+end)
				if got := replies(got); got != c.want {
					t.Errorf("got\n\t%s\nwant\n\t%s", got, c.want)
				}
				a.judge(t, got)
			})
		}
	}
}

func replies(got []message) string {
	var all []string
	for _, m := range got {
		reply := m.status()
		if strings.Contains(strings.Join(m.fields, "\n"), "application/problem+json") {
			m.body = "problem"
		}
		if len(m.body) > 60 {
			m.body = fmt.Sprintf("%d bytes", len(m.body))
		}
		reply += fmt.Sprintf(" %q", m.body)
		if !m.whole {
			reply += " cut"
		}
		all = append(all, reply)
	}
	return strings.Join(all, "; ")
}

// ReverseProxy forgets the connection of a switch that it does not make: each
// would stay open for as long as upstream likes.
func TestThreatUnaskedSwitchEndsItsConnection(t *testing.T) {
	for _, fields := range []string{"Connection: Upgrade\r\nUpgrade: h2c\r\n", "Upgrade: websocket\r\n", ""} {
		closed := make(chan struct{}, 2)
		u := listen(t, func(_ int, c *wire) {
			c.head()
			c.send(t, "HTTP/1.1 101 Switching Protocols\r\n"+fields+"\r\n")
			if _, more := c.head(); !more {
				closed <- struct{}{}
			}
		})
		d := start(t, proxy.Options{Upstream: u, AllowUpgrade: true})
		for _, asked := range []string{"X: y", "Connection: Upgrade\r\nUpgrade: websocket"} {
			resp, _ := d.get(t, "/", asked)
			same(t, "status", resp.StatusCode, 502)
			within(t, "the end of upstream's connection", patience, closed)
		}
	}
}
