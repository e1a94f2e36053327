package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// prepareBuilds sets r.builder: the environment without anything that go reads
// from it or from the file of `go env -w`, but for where modules and caches
// are; and with a fixed value for what changes the result.
func (r *release) prepareBuilds(ctx context.Context) error {
	data, err := r.output(ctx, r.environ, "go", "env", "-json")
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, &r.goEnv); err != nil {
		return fmt.Errorf("parsing go env: %w", err)
	}
	r.builder = slices.DeleteFunc(slices.Clone(r.environ), func(setting string) bool {
		name, _, _ := strings.Cut(setting, "=")
		_, known := r.goEnv[strings.ToUpper(name)]
		return known
	})
	for _, name := range []string{
		"GOAUTH", "GOCACHE", "GOINSECURE", "GOMODCACHE", "GONOPROXY", "GONOSUMDB", "GOPATH",
		"GOPRIVATE", "GOPROXY", "GOSUMDB", "GOTMPDIR", "GOTOOLCHAIN", "GOVCS",
	} {
		r.builder = append(r.builder, name+"="+r.goEnv[name])
	}
	r.builder = append(r.builder, "CGO_ENABLED=0", "GOENV=off", "GOWORK=off", "GOFIPS140=off",
		"GOAMD64=v1", "GOARM64=v8.0",
		"GOFLAGS=-mod=readonly") // empty would mean: what GOROOT/go.env says
	return nil
}

// goFor returns what a go command for t prints.
func (r *release) goFor(ctx context.Context, t target, args ...string) ([]byte, error) {
	return r.output(ctx, append(slices.Clip(r.builder), "GOOS="+t.os, "GOARCH="+t.arch), "go", args...)
}

// build returns bearerd for t.
func (r *release) build(ctx context.Context, t target) ([]byte, error) {
	dir, err := os.MkdirTemp("", "bearerd-release-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	// -trimpath: no folder of this machine; -buildvcs=false: releaseVersion says
	// it, also where there is no git; -s -w: no debug information, a third of
	// the size; -buildid=: the binary names no cache entry.
	ldflags := "-s -w -buildid= -X main.releaseVersion=" + r.version
	if t.os == "darwin" {
		ldflags += " -B " + r.machoUUID(t)
	}
	file := filepath.Join(dir, t.binary())
	if _, err := r.goFor(ctx, t, "build", "-trimpath", "-buildvcs=false", "-ldflags", ldflags, "-o", file, "./cmd/bearerd"); err != nil {
		return nil, err
	}
	return os.ReadFile(file)
}

// machoUUID is the LC_UUID of a binary for macOS. The linker makes it from the
// build ID, and leaves it out where that is empty; macOS 26 does not start a
// program without one, and macOS 15 keeps it from the local network
// (go.dev/issue/68678). Each release has its own.
func (r *release) machoUUID(t target) string {
	sum := sha256.Sum256([]byte("bearerd " + r.version + " " + t.os + "/" + t.arch))
	id := sum[:16]
	id[6] = id[6]&0x0f | 0x80 // RFC 9562, section 5.8: a UUID of the maker's own kind
	id[8] = id[8]&0x3f | 0x80
	return fmt.Sprintf("0x%x", id)
}
