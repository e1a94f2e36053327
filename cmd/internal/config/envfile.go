package config

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// parseEnvFile reads the text of -env-file: its settings as lines of
// NAME=value, and warnings. An error is a *Error. Where foldCase is set,
// names in any case are meant for bearerd, as the system has it so.
//
// A value is as it stands, or as it stands between quotes. Docker, docker
// compose, systemd and shells differ on what else quotes and comments do; where
// that matters the line is refused, as a password that is silently another one
// counts against the account.
func parseEnvFile(text string, foldCase bool) (lines, warnings []string, err error) {
	var problems []Problem
	number := 0
	refuse := func(format string, args ...any) {
		where := fmt.Sprintf("-env-file, line %d: ", number)
		problems = append(problems, Problem{Text: where + fmt.Sprintf(format, args...)})
	}
	seen := make(map[string]int)
	for line := range strings.Lines(text) {
		number++
		name, value, err := parseEnvLine(line)
		if foldCase {
			name = strings.ToUpper(name)
		}
		own := strings.HasPrefix(name, envPrefix+"_")
		switch {
		case own && err != nil:
			refuse("%v", err)
		case isProxyVariable(name):
			warnings = append(warnings, fmt.Sprintf("-env-file: %s is not read from there; set it in the environment", name))
		case own && seen[name] > 0:
			refuse("%s is on line %d too; remove one", name, seen[name])
		case own:
			seen[name] = number
			lines = append(lines, name+"="+value)
		case envName.MatchString(name) && strings.HasPrefix(strings.ToUpper(name), envPrefix+"_"):
			refuse("%s: write the name in capitals", name)
		case strings.Contains(strings.ToUpper(name), envPrefix):
			refuse("not of the form NAME=value")
		}
		// Else it is another program's, a comment, or blank.
	}
	if problems != nil {
		return nil, nil, &Error{Problems: problems}
	}
	return lines, warnings, nil
}

func isProxyVariable(name string) bool {
	return slices.Contains([]string{"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"}, strings.ToUpper(name))
}

// parseEnvLine returns the name and value of a line; an empty name for a blank
// line or a comment. The name is what stands before the =, or the whole line,
// whether it is one or not. Its errors never hold a part of the value.
func parseEnvLine(line string) (name, value string, err error) {
	const blank = " \t\r\n"
	line = strings.Trim(line, blank)
	if line == "" || line[0] == '#' {
		return "", "", nil
	}
	name, given, ok := strings.Cut(line, "=")
	name = strings.Trim(name, blank)
	if fields := strings.Fields(name); len(fields) == 2 && fields[0] == "export" {
		name = fields[1] // a file that shells read too
	}
	value = strings.Trim(given, blank)
	switch quote := firstByte(value); {
	case !ok || !envName.MatchString(name):
		return name, "", errors.New("not of the form NAME=value")
	case strings.ContainsFunc(value, func(r rune) bool { return unicode.IsControl(r) && r != '\t' }):
		return name, "", fmt.Errorf("%s: the value has a control character; are the lines separated by newlines?", name)
	case quote == '\'' || quote == '"':
		inner := value[1:]
		end := strings.IndexByte(inner, quote)
		if end < 0 || end != len(inner)-1 {
			return name, "", fmt.Errorf("%s: the value does not end with the quote it begins with; other programs read that in other ways, so give the value by a file of its own (%s_FILE)", name, name)
		}
		value = inner[:end]
		if quote == '"' && strings.ContainsAny(value, "\\$`") {
			return name, "", fmt.Errorf("%s: programs differ on \\, $ and ` in double quotes; write single quotes, which keep them as they are", name)
		}
	case strings.Contains(given, " #") || strings.Contains(given, "\t#"):
		return name, "", fmt.Errorf("%s: programs differ on whether # after a space begins a comment; put the comment on a line of its own, or the value in single quotes", name)
	}
	return name, value, nil
}

func firstByte(s string) byte {
	if s == "" {
		return 0
	}
	return s[0]
}
