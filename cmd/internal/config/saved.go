package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/bearerd/bearerd/cmd/internal/display"
)

// SavedFile is where bearerd setup writes the settings: a file in the user's
// configuration folder.
func SavedFile() (string, error) {
	folder, err := os.UserConfigDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(folder, "bearerd", "settings.env"), nil
}

// ReadSettings returns the lines of NAME=value that a file of settings has; none
// where there is no file.
func ReadSettings(path string) ([]string, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	_, lines, err := Sources{EnvFile: path}.fromFile(nil)
	return lines, err
}

// useSaved takes the settings of SavedFile where nothing is set, and a person sees
// that it does. It returns what to tell.
func (s *Sources) useSaved() (note string) {
	if s.Saved == "" || s.EnvFile != "" || s.Preset != "" || len(newLoader([]given{{fromEnvironment, s.Environ}}, foldCase).env) > 0 {
		return ""
	}
	if _, err := os.Stat(s.Saved); err != nil {
		return ""
	}
	s.EnvFile = s.Saved
	return "nothing is set, so the settings are those of " + display.Quote(s.Saved) + ", which bearerd setup wrote"
}

// Given returns what the environment sets but for the names given.
func (s Sources) Given(but ...string) (lines []string) {
	env := newLoader([]given{{fromEnvironment, s.Environ}}, foldCase).env
	for name, value := range env {
		if !slices.Contains(but, name) {
			lines = append(lines, name+"="+value)
		}
	}
	slices.Sort(lines)
	return lines
}
