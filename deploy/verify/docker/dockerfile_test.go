package docker_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerui"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
	"github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// root is the repository's.
const root = "../../.."

func textOf(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// anyImage is a base image that needs no registry.
type anyImage struct{}

func (anyImage) ResolveImageConfig(_ context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	config, err := json.Marshal(ocispecs.Image{Platform: ocispecs.Platform{OS: "linux", Architecture: "amd64"}})
	return ref, digest.FromBytes(config), config, err
}

// lint returns what BuildKit has to say about a Dockerfile.
func lint(t *testing.T, text string) (findings []string) {
	t.Helper()
	source := llb.NewSourceMap(nil, "Dockerfile", "Dockerfile", []byte(text))
	source.Definition = new(llb.Definition) // nil is not expected
	results, err := dockerfile2llb.DockerfileLint(t.Context(), []byte(text), dockerfile2llb.ConvertOpt{
		SourceMap:    source,
		MetaResolver: anyImage{},
		Config:       dockerui.Config{BuildPlatforms: []ocispecs.Platform{{OS: "linux", Architecture: "amd64"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if results.Error != nil {
		findings = append(findings, "error: "+results.Error.Message)
	}
	for _, w := range results.Warnings {
		findings = append(findings, fmt.Sprintf("%s: %s", w.RuleName, w.Detail))
	}
	return findings
}

func TestDockerfile(t *testing.T) {
	text := textOf(t, "Dockerfile")
	for _, finding := range lint(t, text) {
		t.Error(finding)
	}
	// Either would ask the public registry, whatever GO_IMAGE says.
	if strings.Contains(text, "syntax=") || strings.Contains(text, "sha256:") {
		t.Error("the Dockerfile names a frontend or a digest")
	}

	for name, broken := range map[string]string{
		"FromAsCasing":                strings.Replace(text, "scratch AS", "scratch as", 1),
		"SecretsUsedInArgOrEnv":       strings.Replace(text, "ARG GOPROXY", "ARG PROXY_PASSWORD", 1),
		"JSONArgsRecommended":         strings.Replace(text, `ENTRYPOINT ["/bearerd"]`, "ENTRYPOINT /bearerd", 1),
		"UndefinedVar":                strings.Replace(text, "ARG VERSION=devel\nLABEL", "LABEL", 1),
		"InvalidDefaultArgInFrom":     strings.Replace(text, "GO_IMAGE=golang:1.26", "GO_IMAGE", 1),
		"error: dockerfile parse err": text + "COPPY x /\n",
	} {
		if broken == text {
			t.Errorf("%s: nothing is broken", name)
		}
		if !slices.ContainsFunc(lint(t, broken), func(f string) bool { return strings.HasPrefix(f, name) }) {
			t.Errorf("%s is not found: %q", name, lint(t, broken))
		}
	}
}

// Whatever lies in the folder, the build gets the sources only.
func TestDockerignore(t *testing.T) {
	patterns, err := ignorefile.ReadAll(strings.NewReader(textOf(t, ".dockerignore")))
	if err != nil {
		t.Fatal(err)
	}
	ignored, err := patternmatcher.New(patterns)
	if err != nil {
		t.Fatal(err)
	}
	keeps := func(path string) bool {
		no, err := ignored.MatchesOrParentMatches(path)
		if err != nil {
			t.Fatal(err)
		}
		return !no
	}
	for _, path := range []string{
		".env", ".git/config", "cmd/.env", "cmd/bearerd/.password", "deploy/compose/simulator/password",
		"deploy/compose/vyopta/bearerd.env", "password", "cmd/internal/release/main.go", "proxy/guard_test.go", "dist/bearerd",
	} {
		if keeps(path) {
			t.Errorf("%s goes into the build", path)
		}
	}
	needed := map[string]bool{"go.mod": true, "go.sum": true}
	const files = `{{if not .Standard}}{{$dir := .Dir}}{{range .GoFiles}}{{$dir}}/{{.}}{{"\n"}}{{end}}{{range .EmbedFiles}}{{$dir}}/{{.}}{{"\n"}}{{end}}{{end}}`
	at, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	for file := range strings.Lines(goCommand(t, nil, "list", "-deps", "-f", files, "./cmd/bearerd", "./cmd/querysim")) {
		if path, own := strings.CutPrefix(strings.TrimSpace(file), at+"/"); own {
			needed[path] = true
			if !keeps(path) {
				t.Errorf("%s does not go into the build", path)
			}
		}
	}
	err = fs.WalkDir(os.DirFS(root), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // another test's file
			return err
		}
		if entry.Type().IsRegular() && keeps(path) && filepath.Ext(path) != ".go" && !needed[path] {
			t.Errorf("%s goes into the build", path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
