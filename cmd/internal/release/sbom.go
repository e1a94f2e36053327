package main

import (
	"bytes"
	"debug/buildinfo"
	"encoding/hex"
	"strings"

	"github.com/CycloneDX/cyclonedx-go"
)

// sbom returns in CycloneDX's JSON which modules are in the binary with this
// SHA-256: what the linker wrote into it, and not what go.mod allows. It has no
// serial number and no time, which would differ each time.
func (r *release) sbom(t target, info *buildinfo.BuildInfo, binary [32]byte) ([]byte, error) {
	program := cyclonedx.Component{
		Type:       cyclonedx.ComponentTypeApplication,
		BOMRef:     packageURL(info.Main.Path, r.version),
		Name:       info.Main.Path,
		Version:    r.version,
		PackageURL: packageURL(info.Main.Path, r.version),
		Hashes:     &[]cyclonedx.Hash{{Algorithm: cyclonedx.HashAlgoSHA256, Value: hex.EncodeToString(binary[:])}},
		Properties: &[]cyclonedx.Property{{Name: "bearerd:GOOS", Value: t.os}, {Name: "bearerd:GOARCH", Value: t.arch}},
	}
	library := func(path, version string) cyclonedx.Component {
		return cyclonedx.Component{
			Type:       cyclonedx.ComponentTypeLibrary,
			BOMRef:     packageURL(path, version),
			Name:       path,
			Version:    version,
			PackageURL: packageURL(path, version),
		}
	}
	// Scanners know the standard library by this name and a version without "go".
	components := []cyclonedx.Component{library("std", strings.TrimPrefix(info.GoVersion, "go"))}
	for _, module := range info.Deps {
		c := library(module.Path, module.Version)
		// Not Hashes: go.sum's is over a list of the module's files, and no file's own.
		c.Properties = &[]cyclonedx.Property{{Name: "bearerd:go.sum", Value: module.Sum}}
		components = append(components, c)
	}
	var refs []string
	for _, c := range components {
		refs = append(refs, c.BOMRef)
	}
	bom := cyclonedx.NewBOM()
	bom.Metadata = &cyclonedx.Metadata{Component: &program}
	bom.Components = &components
	bom.Dependencies = &[]cyclonedx.Dependency{{Ref: program.BOMRef, Dependencies: &refs}}
	var b bytes.Buffer
	// 1.6 is what today's scanners read.
	err := cyclonedx.NewBOMEncoder(&b, cyclonedx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(bom, cyclonedx.SpecVersion1_6)
	return b.Bytes(), err
}

// packageURL names a Go module (github.com/package-url/purl-spec, type golang:
// the path in lower case).
func packageURL(path, version string) string {
	return "pkg:golang/" + strings.ToLower(path) + "@" + strings.ReplaceAll(version, "+", "%2B")
}
