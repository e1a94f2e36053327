package setup

import (
	"errors"
	"os"
	"strings"

	"github.com/bearerd/bearerd/tokens"
)

// replace writes a file for this user alone, whole or not at all.
func replace(undo *[]func(), path, text string) error {
	before, err := os.ReadFile(path)
	switch {
	case err == nil:
		*undo = append(*undo, func() { _ = tokens.WriteFile(path, before, 0o600) })
	case errors.Is(err, os.ErrNotExist):
		*undo = append(*undo, func() { _ = os.Remove(path) })
	default:
		return err
	}
	return tokens.WriteFile(path, []byte(text), 0o600)
}

// envLine is a setting as a line of an env file.
func envLine(line string) (string, error) {
	name, value, _ := strings.Cut(line, "=")
	if strings.Contains(value, " #") || strings.Contains(value, "\t#") || strings.HasPrefix(value, `"`) || strings.HasPrefix(value, "'") || strings.TrimSpace(value) != value {
		if strings.Contains(value, "'") {
			return "", errors.New(name + " has quotes and spaces that no line of settings can hold; give it by a file (" + name + "_FILE)")
		}
		value = "'" + value + "'"
	}
	return name + "=" + value, nil
}
