package main

import "io/fs"

// exposed: modes say nothing on Windows.
func exposed(fs.FileInfo, string) bool { return false }
