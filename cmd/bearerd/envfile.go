package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
)

const maxEnvFile = 1 << 20 // bytes

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// readEnvFile returns the settings in the file of -env-file as lines of
// NAME=value, and warnings. An error is a *configError.
//
// A value is as it stands, or as it stands between quotes. Docker, docker
// compose, systemd and shells differ on what else quotes and comments do; where
// that matters the line is refused, as a password that is silently another one
// counts against the account.
func readEnvFile(path string) (lines, warnings []string, err error) {
	text, err := readWhole(path)
	if err != nil {
		return nil, nil, &configError{problems: []problem{{text: fmt.Sprintf("-env-file %s: %v", show(path), err)}}}
	}
	var problems []problem
	seen := make(map[string]int)
	number := 0
	for line := range strings.Lines(text) {
		number++
		name, value, err := parseEnvLine(line)
		switch {
		case err != nil && name != "" && !strings.HasPrefix(name, envPrefix+"_"):
			continue // another program's
		case err != nil:
			problems = append(problems, problem{text: fmt.Sprintf("-env-file %s, line %d: %v", show(path), number, err)})
			continue
		case name == "":
			continue
		}
		switch strings.ToUpper(name) {
		case "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY":
			warnings = append(warnings, fmt.Sprintf("-env-file: %s is not read from there; set it in the environment", name))
			continue
		}
		if !strings.HasPrefix(strings.ToUpper(name), envPrefix+"_") {
			continue
		}
		if before := seen[name]; before > 0 {
			problems = append(problems, problem{text: fmt.Sprintf("-env-file %s, line %d: %s is on line %d too; remove one", show(path), number, name, before)})
			continue
		}
		seen[name] = number
		lines = append(lines, name+"="+value)
	}
	if problems != nil {
		return nil, nil, &configError{problems: problems}
	}
	return lines, warnings, nil
}

// readWhole returns the text of a file, which may be a pipe: a password
// manager's output need not be stored.
func readWhole(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", reason(err)
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxEnvFile+1))
	switch {
	case err != nil:
		return "", reason(err)
	case len(text) > maxEnvFile:
		return "", errors.New("larger than 1 MiB; is it the right file?")
	case strings.HasPrefix(string(text), "\xff\xfe"), strings.HasPrefix(string(text), "\xfe\xff"):
		return "", errors.New("is UTF-16; save it as UTF-8") // PowerShell's > writes it
	}
	return strings.TrimPrefix(string(text), "\ufeff"), nil
}

// parseEnvLine returns the name and value of a line; an empty name for a blank
// line or a comment. With an error the name is what stands before the =, where
// there is one. Its errors never hold a part of the value.
func parseEnvLine(line string) (name, value string, err error) {
	line = strings.TrimSpace(line)
	if line == "" || line[0] == '#' {
		return "", "", nil
	}
	name, value, ok := strings.Cut(line, "=")
	if fields := strings.Fields(name); len(fields) == 2 && fields[0] == "export" {
		name = fields[1] // a file that shells read too
	}
	name = strings.TrimSpace(name)
	if !ok {
		return "", "", errors.New("not of the form NAME=value") // it may be the rest of a secret: not shown
	}
	if !envName.MatchString(name) {
		return "", "", errors.New("what is before the = is not a name")
	}
	value = strings.TrimSpace(value)
	if strings.ContainsRune(value, 0) {
		return name, "", fmt.Errorf("%s: the value has a NUL byte", name)
	}
	switch quote := firstByte(value); {
	case quote == '\'' || quote == '"':
		inner := value[1:]
		end := strings.IndexByte(inner, quote)
		if end != len(inner)-1 {
			return name, "", fmt.Errorf("%s: the value does not end with the quote it begins with; other programs read that in other ways, so give the value by %s_FILE", name, name)
		}
		value = inner[:end]
		if quote == '"' && strings.ContainsAny(value, "\\$`") {
			return name, "", fmt.Errorf("%s: programs differ on \\, $ and ` in double quotes; write single quotes, which keep them as they are", name)
		}
	case strings.Contains(value, " #") || strings.Contains(value, "\t#"):
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
