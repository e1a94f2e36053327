.PHONY: build release test race lint fuzz probes cluster bench badday toxiproxy readme ci

build: ## bearerd and querysim, in this folder
	go build ./cmd/bearerd
	go build ./cmd/querysim

release: ## the archives of a release, in dist; `.ci/run release` compares two
	go -C cmd/internal/release run .

test race lint fuzz: ## a step of .ci/run; fuzz takes FUZZTIME=10m and the like
	.ci/run $(patsubst test,tests,$@)

ci: ## all steps
	.ci/run

probes: ## the Kubernetes manifests' probes through five minutes of a wrong password; as root on Linux
	CI=true go -C deploy/verify test -count=1 -v -timeout 20m -parallel 8 ./kubernetes -args -probes-for 5m

cluster: ## deploy/README.md on a real Kubernetes, which is built in dist/kubernetes; as root on Debian
	go -C deploy/verify test -count=1 -v -timeout 4h ./cluster -programs=$(CURDIR)/dist/kubernetes

toxiproxy: ## 20 minutes of a bad network; the figures of CONTRIBUTING
	go -C cmd/internal/interop test -count=1 -timeout 30m -run '^TestToxiproxy$$' -v . -toxic-for 20m

bench: ## the figures of the README
	go test -run '^$$' -bench 'Token|TimeNow' ./tokens
	go test -run '^$$' -bench 'CPUPerRequest|Start' -benchtime 8x ./cmd/bearerd

badday: ## an hour of trouble in ten minutes; the report and its picture go to dist
	go run ./cmd/internal/badday

readme: ## writes the generated settings table
	go test ./cmd/bearerd -run TestREADMESettingsTable -update
export FUZZTIME
