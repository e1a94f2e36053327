.PHONY: build release test long race lint windows fuzz probes cluster bench page-picture badday fleet toxiproxy settings ci

build: ## bearerd and querysim, in this folder
	go build ./cmd/bearerd
	go build ./cmd/querysim

release: ## the archives of a release, in dist; `.ci/run release` compares two
	go -C cmd/internal/release run .

test long race lint windows fuzz: ## a step of .ci/run; fuzz takes FUZZTIME=10m and the like
	.ci/run $(patsubst test,tests,$@)

ci: ## all steps
	.ci/run

probes: ## the Kubernetes manifests' probes through five minutes of a wrong password; as root on Linux
	CI=true go -C deploy/verify test -count=1 -v -timeout 20m -parallel 8 ./kubernetes -args -probes-for 5m

cluster: ## deploy/README.md on a real Kubernetes, which is built in dist/kubernetes; as root on Debian
	go -C deploy/verify test -count=1 -v -timeout 4h ./cluster -programs=$(CURDIR)/dist/kubernetes

toxiproxy: ## 20 minutes of a bad network; the figures of CONTRIBUTING
	go -C cmd/internal/interop test -count=1 -timeout 30m -run '^TestToxiproxy$$' -v . -toxic-for 20m

bench: ## the figures of docs/figures.md
	go test -run '^$$' -bench 'Token|TimeNow' ./tokens
	go test -run '^$$' -bench 'CPUPerRequest|Start' -benchtime 8x ./cmd/bearerd

page-picture: ## two bad minutes on the page: docs/page.png, and its widths, light and dark, in dist/page
	go -C cmd/internal/interop test -count=1 -timeout 10m -run '^TestPagePicture$$' -v . -picture $(CURDIR)/docs/page.png

compare: ## nginx, HAProxy, Caddy and bearerd do the same work; the table and the picture of docs/figures.md go to dist
	.ci/run compare

fleet: ## fifty bearerds, and five hundred managers, with one login; a quarter of an hour; the report and its picture go to dist
	mkdir -p dist
	go test -count=1 -v -timeout 30m -run '^TestFleet$$' ./cmd/internal/fleet -whole $(CURDIR)/dist
badday: ## an hour of trouble in ten minutes; the report and its picture go to dist
	go run ./cmd/internal/badday

settings: ## writes the generated table of docs/settings.md
	go test ./cmd/internal/config -run TestSettingsPage -update
export FUZZTIME
