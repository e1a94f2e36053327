.PHONY: build release test race lint fuzz bench badday readme ci

build: ## bearerd and querysim, in this folder
	go build ./cmd/bearerd
	go build ./cmd/querysim

release: ## the archives of a release, in dist; `.ci/run release` compares two
	go -C cmd/internal/release run .

test race lint fuzz: ## a step of .ci/run; fuzz takes FUZZTIME=10m and the like
	.ci/run $(patsubst test,tests,$@)

ci: ## all steps
	.ci/run

bench: ## the figures of the README
	go test -run '^$$' -bench 'Token|TimeNow' ./tokens
	go test -run '^$$' -bench 'CPUPerRequest|Start' -benchtime 8x ./cmd/bearerd

badday: ## an hour of trouble in ten minutes; the report and its picture go to dist
	go run ./cmd/internal/badday

readme: ## writes the generated settings table
	go test ./cmd/bearerd -run TestREADMESettingsTable -update
export FUZZTIME
