// Package proxy is bearerd's data path: an [httputil.ReverseProxy] that lets
// only allowed requests through, puts the current bearer token on each, logs
// in again when upstream refuses the token, and sends the request a second
// time with the new one.
//
// It knows nothing of how a token is had (see [Source]) and never sends a
// request upstream without one.
package proxy
