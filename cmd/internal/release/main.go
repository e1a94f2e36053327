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
	"path"
	"path/filepath"
	"regexp"
	"slices"
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
	only := flags.String("targets", "", "`os/arch,…` to release for; all by default")
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
	if r.targets, err = parseTargets(*only); err != nil {
		return err
	}
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

func (t target) String() string { return t.os + "/" + t.arch }

var targets = []target{
	{"linux", "amd64"}, {"linux", "arm64"},
	{"darwin", "amd64"}, {"darwin", "arm64"},
	{"windows", "amd64"}, {"windows", "arm64"},
}

// parseTargets returns those of targets that list names, all where it is empty.
func parseTargets(list string) (named []target, err error) {
	if list == "" {
		return targets, nil
	}
	for name := range strings.SplitSeq(list, ",") {
		i := slices.IndexFunc(targets, func(t target) bool { return t.String() == name })
		if i < 0 {
			return nil, fmt.Errorf("target %q: there are %v", name, targets)
		}
		named = append(named, targets[i])
	}
	return named, nil
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
	targets []target
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
	for _, t := range r.targets {
		started := time.Now()
		name := strings.Join([]string{"bearerd", r.version, t.os, t.arch}, "_")
		a, err := r.pack(ctx, t, name)
		if err != nil {
			return fmt.Errorf("%v: %w", t, err)
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
	var entries []entry
	if t.os == "windows" {
		entries = append(entries, entry{firstName, 0o644, []byte(strings.ReplaceAll(firstText, "\n", "\r\n"))})
	}
	entries = append(entries, entry{t.binary(), 0o755, binary})
	documents, err := r.documents()
	if err != nil {
		return packed{}, err
	}
	entries = append(entries, documents...)
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

// The Windows archive opens with what to do, in five lines that Notepad shows. The
// name stands first in the Explorer.
const (
	firstName = "_READ ME FIRST.txt"
	firstText = `Unpack this archive into a folder of your own. Then double-click bearerd.exe there: it asks a few questions.
Windows may say "Windows protected your PC", as nobody has signed this program: choose More info, then Run anyway.
It logs in once, keeps the password in the Credential Manager, and shows the lines to paste into Excel and Power BI.
To take it away again: bearerd service uninstall -user. For a server, without questions: docs\background.md.
To see it at work without an account, in cmd or PowerShell: .\bearerd.exe demo. All the rest: README.md.
`
)

// documents are the pages that README leads to, and the files of deploy that
// they tell how to use. What else lies in these folders, such as the secret of
// somebody who tries a manifest in its place, is not packed.
func (r *release) documents() (entries []entry, err error) {
	kinds := map[string]bool{".md": true, ".svg": true, ".png": true, ".yaml": true, ".yml": true, ".json": true, ".service": true, ".socket": true}
	for _, from := range []string{
		"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE", "docs", "deploy/README.md",
		"deploy/grafana", "deploy/kubernetes", "deploy/prometheus", "deploy/systemd",
	} {
		err := fs.WalkDir(os.DirFS(r.root), from, func(name string, d fs.DirEntry, err error) error {
			switch {
			case name == "LICENSE" && errors.Is(err, fs.ErrNotExist):
				return nil
			case err != nil || d.IsDir():
				return err
			case name != "LICENSE" && d.Name() != "bearerd.env" && !kinds[path.Ext(name)]:
				return nil
			}
			data, err := os.ReadFile(filepath.Join(r.root, name))
			entries = append(entries, entry{name, 0o644, data})
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return entries, nil
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
