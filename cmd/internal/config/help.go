package config

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

const settingsNotes = `Settings are environment variables. A blank value is the same as none, and a
name that is not below is an error. Lists are separated by commas; times are
written 500ms, 10s or 1m30s; sizes 512KiB, 1MiB or as a number of bytes. A
secret is better given as a file, by the name that ends in _FILE: one newline
at its end is trimmed, and it is read again before every login.
`

// WriteHelp writes every setting with its default and meaning, and what
// each preset sets.
func WriteHelp(w io.Writer) {
	_, _ = fmt.Fprint(w, settingsNotes)
	for _, s := range SettingsOf(new(Config)) {
		_, _ = fmt.Fprintf(w, "\n  %s", s.Name)
		switch {
		case s.Def != "":
			_, _ = fmt.Fprintf(w, " (default %s)", s.Def)
		case s.Unset != "":
			_, _ = fmt.Fprintf(w, " (if not set: %s)", s.Unset)
		}
		_, _ = fmt.Fprintln(w)
		line := "     "
		for word := range strings.FieldsSeq(s.meaning()) {
			if len(line)+len(word) >= 79 {
				_, _ = fmt.Fprintln(w, line)
				line = "     "
			}
			line += " " + word
		}
		_, _ = fmt.Fprintln(w, line)
	}
	_, _ = fmt.Fprintln(w, "\nPresets:")
	for _, name := range slices.Sorted(maps.Keys(presets)) {
		_, _ = fmt.Fprintf(w, "\n  %s\n", name)
		values := presets[name].values
		for _, variable := range slices.Sorted(maps.Keys(values)) {
			_, _ = fmt.Fprintf(w, "      %s=%s\n", variable, values[variable])
		}
	}
}

// settingsTable returns the settings as a Markdown table, for docs/settings.md.
func settingsTable() string {
	var b strings.Builder
	b.WriteString("| variable | default | meaning |\n|---|---|---|\n")
	escape := strings.NewReplacer("|", `\|`)
	for _, s := range SettingsOf(new(Config)) {
		def := s.Unset
		if s.Def != "" {
			def = "`" + s.Def + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", s.Name, escape.Replace(def), escape.Replace(s.meaning()))
	}
	return b.String()
}

// meaning is the setting's description and the values it may have.
func (s Setting) meaning() string {
	if len(s.oneof) == 0 {
		return s.Desc
	}
	return strings.Join(s.oneof, ", ") + ": " + s.Desc
}
