package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/buildinfo"
	"debug/elf"
	"debug/macho"
	"debug/pe"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/CycloneDX/cyclonedx-go"
)

const checkout = "../../.."

// TestSameBytesTwice makes the release in the checkout and again from a copy of
// its files: in another folder, without git, with nothing in the build cache and
// with an environment that is out to change the result. Then it looks at what
// there is. With -short it is a release for one architecture of each system, by
// one build cache, which has nothing for an environment that changes the result.
func TestSameBytesTwice(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("needs sh, for umask")
	}
	program := filepath.Join(t.TempDir(), "release")
	command(t, ".", nil, "go", "build", "-o", program, ".")

	only, cache := "", t.TempDir()
	if testing.Short() {
		only, cache = "linux/amd64,darwin/arm64,windows/amd64", strings.TrimSpace(command(t, ".", nil, "go", "env", "GOCACHE"))
	}
	first := filepath.Join(t.TempDir(), "dist")
	t.Logf("in the checkout:\n%s", command(t, ".", nil, program, "-o", first, "-targets", only))

	r := release{root: checkout, environ: os.Environ(), stderr: t.Output()}
	if err := r.prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), "another place", "src")
	copyTracked(t, copied)
	settings := filepath.Join(t.TempDir(), "env") // what go env -w writes
	write(t, settings, "GOFLAGS=-tags=elsewhere\nGOFIPS140=latest\n")
	second := filepath.Join(t.TempDir(), "dist")
	t.Logf("in %s:\n%s", copied, command(t, "/", []string{
		fmt.Sprintf("SOURCE_DATE_EPOCH=%d", r.time.Unix()),
		"GOCACHE=" + cache, "GOENV=" + settings, "GOWORK=" + filepath.Join(copied, "go.work"),
		"GOFLAGS=-race -gcflags=-N", "GOAMD64=v3", "GOARM64=v9.0", "GOOS=plan9", "GOARCH=386", "CGO_ENABLED=1",
		"TZ=Pacific/Auckland", "LC_ALL=tr_TR.UTF-8",
	}, "sh", "-c", `umask 077; exec "$@"`, "sh", program, "-root", copied, "-o", second, "-version", r.version, "-targets", only))

	compare(t, first, second)
	checkSums(t, first)
	made, err := parseTargets(only)
	if err != nil {
		t.Fatal(err)
	}
	for _, target := range made {
		t.Run(target.String(), func(t *testing.T) {
			checkArchive(t, &r, target, filepath.Join(first, strings.Join([]string{"bearerd", r.version, target.os, target.arch}, "_")))
		})
	}
}

// compare reports each file of two releases that differs, and what in it.
func compare(t *testing.T, first, second string) {
	t.Helper()
	if got, want := names(t, second), names(t, first); !slices.Equal(got, want) {
		t.Fatalf("the copy's release is of %q, the checkout's of %q", got, want)
	}
	for _, name := range names(t, first) {
		a, b := read(t, filepath.Join(first, name)), read(t, filepath.Join(second, name))
		if bytes.Equal(a, b) {
			continue
		}
		t.Errorf("%s differs", name)
		if strings.HasSuffix(name, ".tar.gz") || strings.HasSuffix(name, ".zip") {
			entriesB := unpack(t, name, b)
			for i, e := range unpack(t, name, a) {
				if i < len(entriesB) && !e.equal(entriesB[i]) {
					t.Errorf("%s: %s differs", name, e.name)
				}
			}
		}
	}
}

// checkSums does what sha256sum -c does.
func checkSums(t *testing.T, dir string) {
	t.Helper()
	listed := []string{"SHA256SUMS"}
	for line := range strings.Lines(string(read(t, filepath.Join(dir, "SHA256SUMS")))) {
		sum, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		if got := fmt.Sprintf("%x", sha256.Sum256(read(t, filepath.Join(dir, name)))); got != sum {
			t.Errorf("SHA256SUMS says %s of %s, want %s", sum, name, got)
		}
		listed = append(listed, name)
	}
	slices.Sort(listed)
	if got := names(t, dir); !slices.Equal(got, listed) {
		t.Errorf("the folder has %q, SHA256SUMS %q", got, listed)
	}
}

// checkArchive looks into one archive and its SBOM; path lacks the extension.
func checkArchive(t *testing.T, r *release, target target, path string) {
	extension, binary := ".tar.gz", "bearerd"
	if target.os == "windows" {
		extension, binary = ".zip", "bearerd.exe"
	}
	entries := unpack(t, extension, read(t, path+extension))
	folder := filepath.Base(path) + "/"
	documents, err := r.documents()
	if err != nil {
		t.Fatal(err)
	}
	want, at := []string{folder, folder + binary}, 1
	if target.os == "windows" {
		want, at = []string{folder, folder + firstName, folder + binary}, 2
		if text := string(entries[1].data); strings.Count(text, "\r\n") != 5 || strings.Count(text, "\n") != 5 || !strings.Contains(text, "Run anyway") {
			t.Errorf("%s: got %q, want five lines", firstName, text)
		}
	}
	for _, d := range documents {
		want = append(want, folder+d.name)
	}
	want = append(want, folder+"THIRD_PARTY_LICENSES")
	var got []string
	for _, e := range entries {
		got = append(got, e.name)
		mode := fs.FileMode(0o644)
		switch e.name {
		case folder:
			mode = fs.ModeDir | 0o755
		case folder + binary:
			mode = 0o755
		}
		if e.mode != mode {
			t.Errorf("%s has mode %v, want %v", e.name, e.mode, mode)
		}
		if !e.time.Equal(r.time) {
			t.Errorf("%s is of %v, want %v", e.name, e.time, r.time)
		}
		if e.owner != "0:0::" {
			t.Errorf("%s belongs to %s, want 0:0 without names", e.name, e.owner)
		}
	}
	if !slices.Equal(got, want) {
		t.Fatalf("entries %q, want %q", got, want)
	}

	data := entries[at].data
	checkBinary(t, target, data)
	info, err := buildinfo.Read(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"GOOS": target.os, "GOARCH": target.arch, "CGO_ENABLED": "0", "-trimpath": "true",
		"GOAMD64": "v1", "GOARM64": "v8.0",
	} {
		i := slices.IndexFunc(info.Settings, func(s debug.BuildSetting) bool { return s.Key == key })
		if i < 0 {
			if key != "GOAMD64" && key != "GOARM64" { // each says its own
				t.Errorf("the binary says nothing of %s, want %s", key, want)
			}
		} else if info.Settings[i].Value != want {
			t.Errorf("the binary has %s=%s, want %s", key, info.Settings[i].Value, want)
		}
	}
	for _, place := range []string{absolute(t, checkout), os.TempDir() + "/bearerd-release-"} {
		if bytes.Contains(data, []byte(place)) {
			t.Errorf("the binary has the folder %s in it", place)
		}
	}

	licenses := string(entries[len(entries)-1].data)
	if !strings.Contains(licenses, "==== "+info.GoVersion+": LICENSE\n") {
		t.Errorf("THIRD_PARTY_LICENSES has not Go's licence")
	}
	bom := cyclonedx.BOM{}
	if err := cyclonedx.NewBOMDecoder(bytes.NewReader(read(t, path+".cdx.json")), cyclonedx.BOMFileFormatJSON).Decode(&bom); err != nil {
		t.Fatal(err)
	}
	if bom.SerialNumber != "" || bom.Metadata.Timestamp != "" {
		t.Errorf("the SBOM has serial number %q and time %q, want neither", bom.SerialNumber, bom.Metadata.Timestamp)
	}
	if got, want := (*bom.Metadata.Component.Hashes)[0].Value, fmt.Sprintf("%x", sha256.Sum256(data)); got != want {
		t.Errorf("the SBOM is of a binary with SHA-256 %s, want %s", got, want)
	}
	var purls []string
	for _, c := range *bom.Components {
		purls = append(purls, c.PackageURL)
	}
	wantPurls := []string{"pkg:golang/std@" + strings.TrimPrefix(runtime.Version(), "go")}
	for _, module := range info.Deps {
		wantPurls = append(wantPurls, "pkg:golang/"+strings.ToLower(module.Path)+"@"+module.Version)
		if !strings.Contains(licenses, "\n==== "+module.Path+" "+module.Version+": ") {
			t.Errorf("THIRD_PARTY_LICENSES has nothing of %s", module.Path)
		}
	}
	if !slices.Equal(purls, wantPurls) {
		t.Errorf("the SBOM has %q, want %q", purls, wantPurls)
	}

	if target.os == runtime.GOOS && target.arch == runtime.GOARCH {
		program := filepath.Join(t.TempDir(), binary)
		if err := os.WriteFile(program, data, entries[at].mode); err != nil {
			t.Fatal(err)
		}
		got := command(t, ".", nil, program, "version")
		if want := fmt.Sprintf("bearerd %s %s %s/%s\n", r.version, runtime.Version(), target.os, target.arch); got != want {
			t.Errorf("bearerd version printed %q, want %q", got, want)
		}
	}
}

// checkBinary asks the system's own headers what data is.
func checkBinary(t *testing.T, target target, data []byte) {
	t.Helper()
	file := bytes.NewReader(data)
	var got, want any
	var err error
	switch target.os {
	case "linux":
		var f *elf.File
		if f, err = elf.NewFile(file); err == nil {
			got, want = f.Machine, map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[target.arch]
			if libraries, _ := f.ImportedLibraries(); len(libraries) > 0 {
				t.Errorf("it needs %q, want a static program", libraries)
			}
		}
	case "darwin":
		var f *macho.File
		if f, err = macho.NewFile(file); err == nil {
			got, want = f.Cpu, map[string]macho.Cpu{"amd64": macho.CpuAmd64, "arm64": macho.CpuArm64}[target.arch]
			const uuid = 0x1b // LC_UUID
			if !slices.ContainsFunc(f.Loads, func(l macho.Load) bool {
				return f.ByteOrder.Uint32(l.Raw()) == uuid
			}) {
				t.Error("it has no LC_UUID, and macOS 26 does not start it")
			}
		}
	case "windows":
		var f *pe.File
		if f, err = pe.NewFile(file); err == nil {
			got, want = f.Machine, map[string]uint16{"amd64": pe.IMAGE_FILE_MACHINE_AMD64, "arm64": pe.IMAGE_FILE_MACHINE_ARM64}[target.arch]
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("it is for machine %v, want %v", got, want)
	}
}

// What is packed is complete: each link of README, of the pages that it leads to
// and of those in deploy, to a file or a folder, leads to something packed.
// CONTRIBUTING is about a checkout.
func TestDocuments(t *testing.T) {
	documents, err := (&release{root: checkout}).documents()
	if err != nil {
		t.Fatal(err)
	}
	packed := map[string]bool{}
	for _, d := range documents {
		for name := d.name; name != "."; name = path.Dir(name) {
			packed[name] = true
		}
	}
	for _, name := range []string{
		"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "docs/settings.md", "docs/token.svg", "docs/page.png",
		"deploy/README.md", "deploy/systemd/bearerd.service", "deploy/systemd/bearerd.socket", "deploy/kubernetes/base/bearerd.env",
	} {
		if !packed[name] {
			t.Errorf("%s is not packed", name)
		}
	}
	for _, d := range documents {
		if path.Ext(d.name) != ".md" || d.name == "CONTRIBUTING.md" {
			continue
		}
		for _, found := range regexp.MustCompile(`\]\(([^)#: ]+)[#)]`).FindAllSubmatch(d.data, -1) {
			if to := path.Join(path.Dir(d.name), string(found[1])); !packed[to] {
				t.Errorf("%s leads to %s, which is not packed", d.name, to)
			}
		}
	}
}

// Secrets that somebody keeps beside the manifests stay there.
func TestDocumentsWithoutSecrets(t *testing.T) {
	root := t.TempDir()
	copyTracked(t, root)
	for _, name := range []string{"deploy/kubernetes/base/password", "deploy/compose/vyopta/password", "deploy/kubernetes/header", "docs/.env", "deploy/systemd/env"} {
		write(t, filepath.Join(root, name), "s3cret")
	}
	documents, err := (&release{root: root}).documents()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range documents {
		if string(d.data) == "s3cret" {
			t.Errorf("%s is packed", d.name)
		}
	}
}

func TestDescribe(t *testing.T) {
	t.Setenv("GIT_CONFIG_GLOBAL", os.DevNull)
	t.Setenv("GIT_CONFIG_NOSYSTEM", "1")
	for _, who := range []string{"AUTHOR", "COMMITTER"} {
		t.Setenv("GIT_"+who+"_NAME", "a")
		t.Setenv("GIT_"+who+"_EMAIL", "a@example.com")
		t.Setenv("GIT_"+who+"_DATE", "2026-01-02T03:04:05+0600")
	}
	root := t.TempDir()
	git := func(args ...string) string {
		t.Helper()
		return strings.TrimSpace(command(t, root, nil, "git", args...))
	}
	r := release{root: root, environ: os.Environ(), stderr: io.Discard}
	is := func(want string) {
		t.Helper()
		if got, err := r.describe(t.Context()); got != want || err != nil {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
	git("init", "-q")
	write(t, filepath.Join(root, "file"), "1")
	git("add", ".")
	git("commit", "-q", "-m", "one")
	commit := git("rev-parse", "HEAD")[:12]
	is("devel-" + commit)
	git("checkout", "-q", "--detach")
	is("devel-" + commit)

	write(t, filepath.Join(root, "file"), "2")
	is("devel-" + commit + "-dirty")
	git("checkout", "-q", "file")
	write(t, filepath.Join(root, "new.go"), "package main") // go would build it
	is("devel-" + commit + "-dirty")
	git("clean", "-qf")

	git("tag", "v1.2.0") // not annotated: as good
	is("v1.2.0")
	git("commit", "-q", "--allow-empty", "-m", "two")
	is("v1.2.0-1-g" + git("rev-parse", "HEAD")[:12])

	got, err := r.date(t.Context())
	if want := time.Date(2026, 1, 1, 21, 4, 5, 0, time.UTC); err != nil || !got.Equal(want) {
		t.Errorf("date: got %v, %v, want %v", got, err, want)
	}

	inside := filepath.Join(root, "unpacked")
	if err := os.Mkdir(inside, 0o755); err != nil {
		t.Fatal(err)
	}
	r.root = inside
	if got, err := r.describe(t.Context()); err == nil || !strings.Contains(err.Error(), "-version") {
		t.Errorf("in a folder of another repository: got %q, %v, want an error that speaks of -version", got, err)
	}
}

func TestWrongInput(t *testing.T) {
	for name, test := range map[string]struct {
		args    []string
		epoch   string
		problem string
	}{
		"a linker flag":       {[]string{"-version", "1 -X main.usage=x"}, "1767323045", "-version sets another"},
		"a folder":            {[]string{"-version", "../1"}, "1767323045", "-version sets another"},
		"no number":           {[]string{"-version", "v1"}, "today", "SOURCE_DATE_EPOCH"},
		"before the zip file": {[]string{"-version", "v1"}, "0", "1980"},
		"a target":            {[]string{"-version", "v1", "-targets", "linux/386"}, "1767323045", "linux/arm64"},
		"an argument":         {[]string{"v1"}, "1767323045", `"v1"`},
	} {
		t.Run(name, func(t *testing.T) {
			out := t.TempDir()
			environ := append(os.Environ(), "SOURCE_DATE_EPOCH="+test.epoch)
			err := run(t.Context(), append([]string{"-o", out}, test.args...), environ, io.Discard, io.Discard)
			if err == nil || !strings.Contains(err.Error(), test.problem) {
				t.Errorf("got %v, want an error with %q", err, test.problem)
			}
			if files := names(t, out); len(files) > 0 {
				t.Errorf("it wrote %q", files)
			}
		})
	}
}

func TestLicenseFiles(t *testing.T) {
	dir := t.TempDir()
	used := filepath.Join(dir, "internal", "copied", "code")
	write(t, filepath.Join(dir, "NOTICE"), "n")
	write(t, filepath.Join(dir, "license.go"), "package x")
	write(t, filepath.Join(dir, "unused", "LICENSE"), "u")
	write(t, filepath.Join(used, "code.go"), "package code")
	if got, err := licenseFiles(dir, []string{used}); err == nil {
		t.Errorf("without a licence: got %q, want an error", got)
	}
	write(t, filepath.Join(dir, "LICENSE-MIT"), "l")
	write(t, filepath.Join(dir, "internal", "copied", "COPYING.txt"), "c")
	got, err := licenseFiles(dir, []string{used})
	want := []string{"LICENSE-MIT", "NOTICE", filepath.Join("internal", "copied", "COPYING.txt")}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

// unpacked is what an archive says of one entry.
type unpacked struct {
	entry
	time  time.Time
	owner string
}

func (u unpacked) equal(v unpacked) bool {
	return u.name == v.name && u.mode == v.mode && u.time.Equal(v.time) && u.owner == v.owner && bytes.Equal(u.data, v.data)
}

// unpack reads an archive whose kind its name tells.
func unpack(t *testing.T, name string, data []byte) []unpacked {
	t.Helper()
	var entries []unpacked
	if strings.HasSuffix(name, ".zip") {
		z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range z.File {
			r, err := f.Open()
			if err != nil {
				t.Fatal(err)
			}
			entries = append(entries, unpacked{entry{f.Name, f.Mode(), readAll(t, r)}, f.Modified, "0:0::"}) // a zip has no owners
		}
		return entries
	}
	compressed, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if !compressed.ModTime.IsZero() || compressed.Name != "" {
		t.Errorf("%s: gzip's header has time %v and name %q", name, compressed.ModTime, compressed.Name)
	}
	for r := tar.NewReader(compressed); ; {
		h, err := r.Next()
		if err == io.EOF {
			return entries
		}
		if err != nil {
			t.Fatal(err)
		}
		owner := fmt.Sprintf("%d:%d:%s:%s", h.Uid, h.Gid, h.Uname, h.Gname)
		entries = append(entries, unpacked{entry{h.Name, h.FileInfo().Mode(), readAll(t, r)}, h.ModTime, owner})
	}
}

// copyTracked copies the files that git knows, as they are now.
func copyTracked(t *testing.T, to string) {
	t.Helper()
	for file := range strings.SplitSeq(command(t, checkout, nil, "git", "ls-files", "-z"), "\x00") {
		data, err := os.ReadFile(filepath.Join(checkout, file))
		if file == "" || os.IsNotExist(err) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(to, file), string(data))
	}
}

// command returns what a program prints that succeeds.
func command(t *testing.T, dir string, environ []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), environ...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %q: %v\n%s%s", name, args, err, stdout.Bytes(), stderr.Bytes())
	}
	return stdout.String()
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func readAll(t *testing.T, r io.Reader) []byte {
	t.Helper()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func absolute(t *testing.T, dir string) string {
	t.Helper()
	path, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	return path
}
