package tokens

import (
	"errors"
	"os"
	"path/filepath"
)

// WriteFile writes a file whole or not at all, also where the machine loses power
// meanwhile. It replaces what is there, and leaves nothing else behind.
func WriteFile(path string, data []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err == nil {
		err = replaceFile(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}
