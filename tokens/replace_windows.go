package tokens

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/windows"
)

// replaceFile renames from to to, which it replaces. Windows refuses that while
// somebody has a file of that name open, as a virus scanner or a backup does for a
// moment: they are waited for, for at most a second.
func replaceFile(from, to string) error {
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		err := os.Rename(from, to)
		if held := errors.Is(err, windows.ERROR_ACCESS_DENIED) || errors.Is(err, windows.ERROR_SHARING_VIOLATION); !held || time.Since(began) >= time.Second {
			return err
		}
	}
}
