// Command release writes the archives of a release of bearerd, an SBOM for
// each, and SHA256SUMS:
//
//	go -C cmd/internal/release run .
//
// One commit and one version of Go give the same bytes on any machine, so that
// whoever doubts an archive can make it again. It is a module of its own
// because of the SBOM library, which users of bearerd have no need of.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "release:", err)
		}
		os.Exit(1)
	}
}

// run is the program. What go and git say goes to stderr.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("release", flag.ContinueOnError)
	flags.SetOutput(stderr)
	root := flags.String("root", filepath.Join("..", "..", ".."), "`folder` of the checkout")
	out := flags.String("o", "dist", "`folder` to write to; a relative one is in the checkout")
	version := flags.String("version", "", "version; from git by default")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("no arguments are wanted, got %q", flags.Arg(0))
	}
	started := time.Now()
	var err error
	if *root, err = filepath.Abs(*root); err != nil {
		return err
	}
	r := release{root: *root, version: *version, environ: environ, stderr: stderr}
	if !filepath.IsAbs(*out) {
		*out = filepath.Join(*root, *out)
	}
	if err := r.prepare(ctx); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "bearerd %s, dated %s, into %s\n", r.version, r.time.Format(time.RFC3339), *out)
	if err := r.write(ctx, *out, stdout); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%.1fs in all\n", time.Since(started).Seconds())
	return nil
}

// target is a system that bearerd is released for.
type target struct{ os, arch string }

var targets = []target{
	{"linux", "amd64"}, {"linux", "arm64"},
	{"darwin", "amd64"}, {"darwin", "arm64"},
	{"windows", "amd64"}, {"windows", "arm64"},
}

// binary is the name of the program there.
func (t target) binary() string {
	if t.os == "windows" {
		return "bearerd.exe"
	}
	return "bearerd"
}

// release is one run of this program. prepare fills in what is not given.
type release struct {
	root    string // the checkout
	version string
	environ []string
	stderr  io.Writer

	time    time.Time         // of every entry of every archive
	goEnv   map[string]string // what `go env` says
	builder []string          // the environment of builds
}

// prepare finds out the version, the time and the environment of builds.
func (r *release) prepare(ctx context.Context) error {
	var err error
	if r.version == "" {
		if r.version, err = r.describe(ctx); err != nil {
			return err
		}
	}
	if !versions.MatchString(r.version) {
		// It is part of file names and of a linker flag.
		return fmt.Errorf("version %q: use letters, digits and . _ + - only, 64 at most; -version sets another", r.version)
	}
	if r.time, err = r.date(ctx); err != nil {
		return err
	}
	return r.prepareBuilds(ctx)
}

// made are the names of what a release makes, but for SHA256SUMS.
var made = regexp.MustCompile(`^bearerd_.*_(linux|darwin|windows)_(amd64|arm64)(\.tar\.gz|\.zip|\.cdx\.json)$`)

// write makes the files of the release. SHA256SUMS comes last: a folder that
// has it is complete.
func (r *release) write(ctx context.Context, out string, stdout io.Writer) error {
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	old, err := os.ReadDir(out)
	if err != nil {
		return err
	}
	for _, file := range old { // of an earlier run
		if name := file.Name(); name == "SHA256SUMS" || made.MatchString(name) {
			if err := os.Remove(filepath.Join(out, name)); err != nil {
				return err
			}
		}
	}
	var sums strings.Builder
	write := func(name string, data []byte) error {
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(data), name)
		return os.WriteFile(filepath.Join(out, name), data, 0o644)
	}
	for _, t := range targets {
		started := time.Now()
		name := strings.Join([]string{"bearerd", r.version, t.os, t.arch}, "_")
		a, err := r.pack(ctx, t, name)
		if err != nil {
			return fmt.Errorf("%s/%s: %w", t.os, t.arch, err)
		}
		if err := write(name+a.extension, a.data); err != nil {
			return err
		}
		if err := write(name+".cdx.json", a.sbom); err != nil {
			return err
		}
		fmt.Fprintf(stdout, "%s%s, %.1f MB, %.1fs\n", name, a.extension, float64(len(a.data))/1e6, time.Since(started).Seconds())
	}
	return os.WriteFile(filepath.Join(out, "SHA256SUMS"), []byte(sums.String()), 0o644)
}

// packed is an archive and its SBOM.
type packed struct {
	extension  string
	data, sbom []byte
}

// pack builds bearerd for t and packs it into the folder called name.
func (r *release) pack(ctx context.Context, t target, name string) (packed, error) {
	binary, err := r.build(ctx, t)
	if err != nil {
		return packed{}, err
	}
	info, err := buildinfo.Read(bytes.NewReader(binary))
	if err != nil {
		return packed{}, err
	}
	licenses, err := r.licenses(ctx, t, info)
	if err != nil {
		return packed{}, err
	}
	entries := []entry{{t.binary(), 0o755, binary}}
	for _, file := range []string{"README.md", "CHANGELOG.md", "LICENSE"} {
		data, err := os.ReadFile(filepath.Join(r.root, file))
		if file == "LICENSE" && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return packed{}, err
		}
		entries = append(entries, entry{file, 0o644, data})
	}
	entries = append(entries, entry{"THIRD_PARTY_LICENSES", 0o644, licenses})

	p := packed{extension: ".tar.gz"}
	archive := writeTar
	if t.os == "windows" {
		p.extension, archive = ".zip", writeZip
	}
	if p.data, err = archive(name, entries, r.time); err != nil {
		return packed{}, err
	}
	p.sbom, err = r.sbom(t, info, sha256.Sum256(binary))
	return p, err
}

// output runs a command in the checkout and returns what it prints.
func (r *release) output(ctx context.Context, environ []string, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env, cmd.Stderr = r.root, environ, r.stderr
	data, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", name, args[0], err)
	}
	return data, nil
}
