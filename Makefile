.PHONY: build test race lint fuzz bench readme ci

build: ## bearerd and querysim, in this folder
	go build ./cmd/bearerd
	go build ./cmd/querysim

test:
	go test ./...

race:
	go test -race -short ./...

lint:
	gofmt -l .
	go vet ./...
	go tool staticcheck ./...
	go fix -diff ./...
	go mod tidy -diff

FUZZTIME ?= 1m
fuzz: ## every fuzz target, FUZZTIME each
	for file in $$(grep -rl --include='*_test.go' '^func Fuzz' .); do \
	  for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' $$file); do \
	    go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) ./$$(dirname $$file) || exit 1; \
	  done; \
	done

bench: ## the figures of the README
	go test -run '^$$' -bench 'Token|TimeNow' ./tokens
	go test -run '^$$' -bench 'CPUPerRequest|Start' -benchtime 10x ./cmd/bearerd

readme: ## writes the generated settings table
	go test ./cmd/bearerd -run TestREADMESettingsTable -update

ci:
	.ci/run
