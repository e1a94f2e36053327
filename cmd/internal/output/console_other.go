//go:build !windows

package output

import (
	"os"
)

// ShowsColours reports whether a terminal obeys escape sequences.
func ShowsColours(*os.File) bool { return true }
