package main

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

var (
	licenseNames = regexp.MustCompile(`(?i)^(un)?licen[sc]e|^copying`)
	noticeNames  = regexp.MustCompile(`(?i)^notice|^patents|^copyright`)
)

// licenses returns the texts that a binary for t must be passed on with: Go's
// and those of the modules that info names.
func (r *release) licenses(ctx context.Context, t target, info *buildinfo.BuildInfo) ([]byte, error) {
	packages, err := r.packages(ctx, t)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "bearerd for %s/%s contains parts of Go and of the modules below.\n", t.os, t.arch)
	add := func(name, dir string, dirs []string) error {
		files, err := licenseFiles(dir, dirs)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(filepath.Join(dir, file))
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, "\n==== %s: %s\n\n%s\n", name, filepath.ToSlash(file), bytes.TrimSpace(text))
		}
		return nil
	}
	if err := add(info.GoVersion, r.goEnv["GOROOT"], nil); err != nil {
		return nil, err
	}
	for _, module := range info.Deps { // sorted by path
		if module.Replace != nil {
			return nil, fmt.Errorf("%s is replaced in go.mod, and a release says which published module it has", module.Path)
		}
		linked, ok := packages[module.Path]
		if !ok {
			return nil, fmt.Errorf("%s is in the binary, and in no answer of go list", module.Path)
		}
		if err := add(module.Path+" "+module.Version, linked.dir, linked.packages); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

// linked is a module's folder in the module cache, and those of its packages
// that are in the binary.
type linked struct {
	dir      string
	packages []string
}

// packages returns by module path what bearerd for t consists of.
func (r *release) packages(ctx context.Context, t target) (map[string]linked, error) {
	data, err := r.goFor(ctx, t, "list", "-deps", "-json=Dir,Module", "./cmd/bearerd")
	if err != nil {
		return nil, err
	}
	modules := make(map[string]linked)
	for d := json.NewDecoder(bytes.NewReader(data)); ; {
		var p struct {
			Dir    string
			Module *struct{ Path, Dir string } // nil for the standard library
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return modules, nil
		} else if err != nil {
			return nil, fmt.Errorf("parsing go list: %w", err)
		}
		if p.Module != nil {
			m := modules[p.Module.Path]
			modules[p.Module.Path] = linked{p.Module.Dir, append(m.packages, p.Dir)}
		}
	}
}

// licenseFiles finds the licences and notices in dir, a module's root, and in
// the folders between it and its packages: what a module has copied from
// elsewhere has its own. The names are relative to dir, the root's first.
func licenseFiles(dir string, packages []string) ([]string, error) {
	folders := map[string]bool{".": true}
	for _, p := range packages {
		rel, err := filepath.Rel(dir, p)
		if err != nil || !filepath.IsLocal(rel) {
			return nil, fmt.Errorf("package %s is not in %s", p, dir)
		}
		for ; rel != "."; rel = filepath.Dir(rel) {
			folders[rel] = true
		}
	}
	var files []string
	licensed := false
	for _, folder := range slices.Sorted(maps.Keys(folders)) { // "." sorts before letters
		list, err := os.ReadDir(filepath.Join(dir, folder))
		if err != nil {
			return nil, err
		}
		for _, f := range list { // sorted by name
			license := licenseNames.MatchString(f.Name())
			if !f.Type().IsRegular() || strings.HasSuffix(f.Name(), ".go") || !license && !noticeNames.MatchString(f.Name()) {
				continue
			}
			licensed = licensed || license
			files = append(files, filepath.Join(folder, f.Name()))
		}
	}
	if !licensed {
		return nil, fmt.Errorf("no licence file in %s: without one it may not be passed on", dir)
	}
	return files, nil
}
