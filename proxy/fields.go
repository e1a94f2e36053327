package proxy

import (
	"net/http"
	"strings"
)

// fields says which fields of a header go on, and how. It looks at no body.
type fields struct {
	target   target
	required func() HeaderRule // as Options.RequireHeader; not nil
	cookies  bool              // they go on
}

// dropFromRequest takes away what upstream must not see of a caller's header:
// credentials, what says how a request came here, and what only this hop needs.
// The token is not on it yet.
func (f *fields) dropFromRequest(header http.Header) {
	required := f.required().Name
	if required != "" {
		delete(header, required)
	}
	for name := range header {
		if meant := plainName(name); f.keeps(meant) || meant != name && framing[meant] || meant != name && meant == plainName(required) {
			delete(header, name)
		}
	}
}

// keeps reports whether a field of the caller's stays here.
func (f *fields) keeps(name string) bool {
	switch name {
	case "Authorization", "Proxy-Authorization", "Expect", "Forwarded", "X-Real-Ip", "X-Original-Url", "X-Rewrite-Url":
		return true
	case "Cookie": // those of localhost belong to every dev server on the machine
		return !f.cookies
	}
	return strings.HasPrefix(name, "X-Forwarded-")
}

// framing are the fields that net/http or ReverseProxy writes or removes: what
// is left of them is right, but for other spellings.
var framing = map[string]bool{
	"Host": true, "Content-Length": true, "Transfer-Encoding": true, "Trailer": true, "Te": true,
	"Connection": true, "Keep-Alive": true, "Proxy-Connection": true, "Proxy-Authenticate": true, "Upgrade": true, "Http2-Settings": true,
	"Cookie": true, // where it is forwarded, by this name only
}

// plainName is a field's name as an upstream may read it that makes variables of
// them: CGI and WSGI write HTTP_X_REAL_IP for X-Real-Ip and X_Real_Ip alike, and
// some servers do so for each character that is neither letter nor digit.
func plainName(name string) string {
	odd := func(r rune) bool {
		return r != '-' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}
	if strings.IndexFunc(name, odd) < 0 {
		return name // as nearly all are, in canonical form
	}
	return http.CanonicalHeaderKey(strings.Map(func(r rune) rune {
		if odd(r) {
			return '-'
		}
		return r
	}, name))
}

// setForwarded tells upstream by which address its answers' links are true: that
// which the caller used (RFC 7239). X-Forwarded-Prefix takes upstream's own path
// away, which bearerd adds.
func setForwarded(header http.Header, in *http.Request, hasPrefix bool) {
	proto := "http"
	if in.TLS != nil {
		proto = "https"
	}
	forwarded := "proto=" + proto
	if in.Host != "" { // HTTP/1.0 over a unix socket
		// net/http lets no quote and no backslash into it.
		forwarded = `host="` + in.Host + `";` + forwarded
		header["X-Forwarded-Host"] = []string{in.Host}
	}
	header["Forwarded"] = []string{forwarded}
	header["X-Forwarded-Proto"] = []string{proto}
	if hasPrefix {
		header["X-Forwarded-Prefix"] = []string{"/"}
	}
}

// notReplayed tells a client that got a 401 that its own retry will succeed.
const notReplayed = `bearerd; details="reauthenticated_not_replayed"`

// mapResponse takes away what is not upstream's to say here, and makes addresses
// inside upstream paths of bearerd's.
func (f *fields) mapResponse(resp *http.Response, ex *exchangeWriter) {
	for name := range resp.Header {
		if f.drops(name) {
			delete(resp.Header, name)
		}
	}
	for name := range resp.Trailer {
		if f.dropsTrailer(name) {
			delete(resp.Trailer, name)
		}
	}
	if status := resp.Header["Proxy-Status"]; status != nil {
		if status = othersStatus(status); len(status) > 0 {
			resp.Header["Proxy-Status"] = status
		} else {
			delete(resp.Header, "Proxy-Status")
		}
	}
	if ex.Unauthorized == NotReplayable {
		resp.Header.Add("Proxy-Status", notReplayed)
	}
	switch status := resp.StatusCode; {
	case status == http.StatusCreated, status == http.StatusAccepted, status/100 == 3: // 202: where to ask how it goes
		mapOnly(resp.Header["Location"], f.target.location)
	}
	mapOnly(resp.Header["Content-Location"], f.target.location)
	mapEach(resp.Header["Link"], f.target.link)
	mapEach(resp.Header["Set-Cookie"], func(cookie string) string { return f.target.cookie(cookie, ex.secure) })
}

// mapOnly changes the value of a field that comes once. Of two, nobody knows
// which a client believes.
func mapOnly(values []string, to func(string) string) {
	if len(values) == 1 {
		mapEach(values, to)
	}
}

func mapEach(values []string, to func(string) string) {
	for i, v := range values {
		values[i] = to(v)
	}
}

// drops reports whether a field of upstream's answers stays here.
func (f *fields) drops(name string) bool {
	switch name {
	case "Alt-Svc": // it names upstream's ports, not bearerd's
		return true
	case "Clear-Site-Data", "Nel", "Report-To", "Reporting-Endpoints":
		// They rule over the whole origin. That is the machine's here, and
		// reports of it would leave the machine.
		return true
	case "Set-Cookie":
		return !f.cookies
	}
	return strings.HasPrefix(name, "Access-Control-") // who may read is not upstream's to say here
}

// dropsTrailer is drops for a field behind a body, where some mean something
// else, or harm (RFC 9110, 6.5.1), and where none is mapped. net/http looks at
// those alone that upstream announces, and lets Upgrade and Location pass.
func (f *fields) dropsTrailer(name string) bool {
	switch name {
	case "Connection", "Content-Length", "Host", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
		"Authorization", "Proxy-Authenticate", "Proxy-Authorization", "Www-Authenticate",
		"Cache-Control", "Content-Encoding", "Content-Range", "Content-Type", "Expect", "Max-Forwards", "Pragma", "Range",
		"Location", "Content-Location", "Link", "Set-Cookie", "Proxy-Status":
		return true
	}
	return f.drops(name)
}

// othersStatus are the values of Proxy-Status without the members that name
// bearerd, which is for bearerd to write (RFC 9209, 2). One that no list can be
// is left out whole.
func othersStatus(values []string) []string {
	var kept []string
	for _, value := range values {
		var others []string
		members, ok := splitList(value)
		for _, member := range members {
			name := strings.ToLower(strings.Trim(member, " \t\""))
			if name != "" && !strings.HasPrefix(name, "bearerd") {
				others = append(others, member)
			}
		}
		switch {
		case !ok || len(others) == 0:
		case len(others) == len(members):
			kept = append(kept, value)
		default:
			kept = append(kept, strings.TrimLeft(strings.Join(others, ","), " \t"))
		}
	}
	return kept
}

// splitList cuts a list at its commas, but for those in quoted strings. It
// returns false where a quote is left open.
func splitList(value string) (members []string, ok bool) {
	begin, quoted := 0, false
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case c == ',' && !quoted:
			members = append(members, value[begin:i])
			begin = i + 1
		}
	}
	return append(members, value[begin:]), !quoted
}
