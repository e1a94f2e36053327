module github.com/bearerd/bearerd/cmd/internal/interop

go 1.26.0

replace github.com/bearerd/bearerd => ../../..

require (
	github.com/bearerd/bearerd v0.0.0-00010101000000-000000000000
	github.com/chromedp/cdproto v0.159.0
	github.com/chromedp/chromedp v0.23.0
)

require (
	github.com/go-json-experiment/json v0.0.0-20260213210345-44df1a37e875 // indirect
	github.com/golang-jwt/jwt/v5 v5.3.1 // indirect
)
