package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"io/fs"
	"time"
)

// entry is a file in an archive.
type entry struct {
	name string
	mode fs.FileMode
	data []byte
}

// writeTar returns a .tar.gz of a folder with entries, in their order. It is in
// the oldest format that says all of this, without a word on who made it.
func writeTar(folder string, entries []entry, date time.Time) ([]byte, error) {
	var b bytes.Buffer
	compressed := gzip.NewWriter(&b) // its header has no name and no time
	w := tar.NewWriter(compressed)
	if err := w.WriteHeader(&tar.Header{
		Typeflag: tar.TypeDir, Name: folder + "/", Mode: 0o755, ModTime: date, Format: tar.FormatUSTAR,
	}); err != nil {
		return nil, err
	}
	for _, e := range entries {
		if err := w.WriteHeader(&tar.Header{
			Typeflag: tar.TypeReg, Name: folder + "/" + e.name, Mode: int64(e.mode), Size: int64(len(e.data)),
			ModTime: date, Format: tar.FormatUSTAR,
		}); err != nil {
			return nil, err
		}
		if _, err := w.Write(e.data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	if err := compressed.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// writeZip is writeTar for a .zip.
func writeZip(folder string, entries []entry, date time.Time) ([]byte, error) {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	dir := &zip.FileHeader{Name: folder + "/", Modified: date}
	dir.SetMode(fs.ModeDir | 0o755)
	if _, err := w.CreateHeader(dir); err != nil {
		return nil, err
	}
	for _, e := range entries {
		h := &zip.FileHeader{Name: folder + "/" + e.name, Method: zip.Deflate, Modified: date}
		h.SetMode(e.mode)
		file, err := w.CreateHeader(h)
		if err != nil {
			return nil, err
		}
		if _, err := file.Write(e.data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
