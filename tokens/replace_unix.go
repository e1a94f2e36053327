//go:build unix

package tokens

import "os"

// replaceFile renames from to to, which it replaces.
func replaceFile(from, to string) error { return os.Rename(from, to) }
