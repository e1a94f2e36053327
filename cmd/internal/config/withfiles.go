package config

import "strings"

// WithFiles returns the text of a file of settings with other files in it: at is
// asked for each setting that names one, or an entry of the key store (…_KEYRING),
// which becomes a file by that. It returns the path to write, or nothing where the
// setting shall not be in it. The text must be one that Load takes.
func WithFiles(text string, at func(setting, is string) (path string, err error)) (string, error) {
	var out strings.Builder
	for line := range strings.Lines(text) {
		name, value, err := parseEnvLine(line)
		if foldCase {
			name = strings.ToUpper(name)
		}
		form := name[strings.LastIndex(name, "_")+1:]
		if err == nil && value != "" && strings.HasPrefix(name, envPrefix+"_") && (form == "FILE" || form == "KEYRING") {
			path, err := at(name, value)
			if err != nil {
				return "", err
			}
			if line = ""; path != "" {
				line = strings.TrimSuffix(name, form) + "FILE='" + path + "'\n"
			}
		}
		out.WriteString(line)
	}
	return out.String(), nil
}
