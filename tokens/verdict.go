package tokens

import (
	"bytes"
	"mime"
	"net/http"
	"strings"
	"time"
)

// verdict says what kind of failure an answer is that is no success, and why.
// body is as far as it came; whole says that it came whole.
//
// What decides is whose fault it may be. An account is locked by refusals of its
// credentials, so whatever may be one is held to be one: RFC 6749 5.2 has 400
// and 401 for them, and servers in use say 403, 422 or 423, with an error code of
// their own, with other JSON, or with nothing at all.
func verdict(status int, header http.Header, body []byte, whole bool, retryAfter time.Duration) (Result, Cause) {
	c, fault := Cause{Kind: CauseStatus, Status: status}, blameNothing
	if whole {
		members, _, _ := parseMembers(body) // none, where it is no JSON
		c.Code, fault = errorCode(status, members)
	}
	mayRefuse, mayThrottle := false, false
	switch status {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden:
		mayRefuse, mayThrottle = true, retryAfter >= 0 && fault != blameCredentials
	case http.StatusUnprocessableEntity, http.StatusLocked:
		mayRefuse = true
	case http.StatusTooManyRequests:
		mayThrottle = true
	case http.StatusServiceUnavailable:
		mayThrottle = retryAfter >= 0
	}
	switch {
	case status >= 300 && status < 400:
		c.Kind = CauseRedirect
	case mayRefuse && status != http.StatusUnauthorized && c.Code == "" && isPage(header, body):
		c.Kind = CausePage
	}
	switch {
	case mayThrottle:
		return Throttled, c
	case mayRefuse && fault != blameServer && c.Kind != CausePage:
		return Rejected, c
	}
	return Transient, c
}

// isPage reports whether an answer is a page of HTML, going by what it holds: PHP
// and Express call JSON and mere text HTML, too.
func isPage(header http.Header, body []byte) bool {
	body = bytes.TrimSpace(trimBOM(body))
	if len(body) == 0 || body[0] != '<' {
		return false
	}
	declared, _, _ := mime.ParseMediaType(header.Get("Content-Type"))
	return declared == "text/html" || declared == "application/xhtml+xml" || strings.HasPrefix(http.DetectContentType(body), "text/html")
}
