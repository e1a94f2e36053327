module github.com/bearerd/bearerd/deploy/verify

go 1.26.0
