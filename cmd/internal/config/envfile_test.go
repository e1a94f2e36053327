package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/display"
	"github.com/bearerd/bearerd/tokens"
)

func TestEnvFile(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       []string // lines, or
		wrong      []string // parts of the error
	}{
		{"plain", "BEARERD_PRESET=vyopta\nBEARERD_PASSWORD=a=b#c$d\\e\"f'\n", []string{"BEARERD_PRESET=vyopta", "BEARERD_PASSWORD=a=b#c$d\\e\"f'"}, nil},
		{"comments, blank lines, no newline at the end", "# x\n\n  # y\nBEARERD_SCOPE=a b", []string{"BEARERD_SCOPE=a b"}, nil},
		{"from Windows", "BEARERD_SCOPE=a\r\nBEARERD_PRESET=wxp\r\n", []string{"BEARERD_SCOPE=a", "BEARERD_PRESET=wxp"}, nil},
		{"that a shell reads", "export BEARERD_SCOPE=a\nexport\tBEARERD_PRESET=wxp", []string{"BEARERD_SCOPE=a", "BEARERD_PRESET=wxp"}, nil},
		{"spaces about the name and the value", " BEARERD_SCOPE = a \t\n", []string{"BEARERD_SCOPE=a"}, nil},
		{"quotes", "BEARERD_PASSWORD=' # $x\\ \"'\nBEARERD_SCOPE=\" a # 'b' \"\n", []string{"BEARERD_PASSWORD= # $x\\ \"", "BEARERD_SCOPE= a # 'b' "}, nil},
		{"empty values", "BEARERD_SCOPE=\nBEARERD_PRESET=''\n", []string{"BEARERD_SCOPE=", "BEARERD_PRESET="}, nil},
		{"other programs' lines", "PATH=/bin # all\nx=\"$y\"\nTERM\nfoo bar=2\nKEY='\n-----BEGIN\nab+/==\n'\n=x\nBEARERD_SCOPE=a\n", []string{"BEARERD_SCOPE=a"}, nil},
		{"a space that is none of ASCII's", "BEARERD_PASSWORD=\u00a0x\u00a0", []string{"BEARERD_PASSWORD=\u00a0x\u00a0"}, nil},
		{"a # that begins a value", "BEARERD_PASSWORD=#a", []string{"BEARERD_PASSWORD=#a"}, nil},
		{"nothing", "", nil, nil},

		{"no =", "BEARERD_PRESET vyopta", nil, []string{"line 1", "NAME=value"}},
		{"odd name", "BEARERD PASSWORD=hidden-one", nil, []string{"line 1", "NAME=value"}},
		{"a comment behind the value", "\nBEARERD_PASSWORD=hidden-one # hidden-two", nil, []string{"line 2", "BEARERD_PASSWORD", "single quotes"}},
		{"nothing but a quote", "BEARERD_PASSWORD='", nil, []string{"line 1", "BEARERD_PASSWORD", "quote"}},
		{"nothing but a quote and a newline", "BEARERD_PASSWORD=\"\n", nil, []string{"line 1", "quote"}},
		{"an old Mac's lines", "BEARERD_PRESET=vyopta\rBEARERD_PASSWORD=hidden-one\r", nil, []string{"line 1", "control character"}},
		{"small letters", "bearerd_password=hidden-one", nil, []string{"line 1", "capitals"}},
		{"an open quote", "BEARERD_PASSWORD='hidden-one", nil, []string{"line 1", "BEARERD_PASSWORD", "quote"}},
		{"text behind a quote", "BEARERD_PASSWORD='hidden-one'two", nil, []string{"line 1", "quote"}},
		{"an escape in double quotes", `BEARERD_PASSWORD="hidden-one\n"`, nil, []string{"line 1", "single quotes"}},
		{"an expansion in double quotes", `BEARERD_PASSWORD="$hidden-one"`, nil, []string{"line 1", "single quotes"}},
		{"twice", "BEARERD_SCOPE=a\nBEARERD_SCOPE=b", nil, []string{"line 2", "line 1", "BEARERD_SCOPE"}},
		{"a NUL byte", "BEARERD_PASSWORD=hidden-one\x00", nil, []string{"line 1", "control character"}},
		{"a comment for a value", "BEARERD_PASSWORD= # hidden-one", nil, []string{"line 1", "BEARERD_PASSWORD", "single quotes"}},
		{"a comment for a value, behind a tab", "BEARERD_PASSWORD=\t# hidden-one", nil, []string{"line 1", "single quotes"}},
		{"everything at once", "BEARERD\nBEARERD_PASSWORD='hidden-one\n", nil, []string{"line 1", "line 2"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			lines, _, err := parseEnvFile(test.text, false)
			if test.wrong == nil {
				if err != nil || !slices.Equal(lines, test.want) {
					t.Errorf("got %q, %v; want %q", lines, err, test.want)
				}
				return
			}
			if err == nil {
				t.Fatalf("got %q, want an error", lines)
			}
			for _, part := range append(test.wrong, "-env-file") {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("the error lacks %q: %v", part, err)
				}
			}
			if strings.Contains(err.Error(), "hidden") {
				t.Errorf("the error shows the value: %v", err)
			}
		})
	}
}

func TestEnvFileThatCannotBeRead(t *testing.T) {
	for name, test := range map[string]struct{ path, want string }{
		"a directory":     {t.TempDir(), ""},
		"missing":         {filepath.Join(t.TempDir(), "missing.env"), ""},
		"UTF-16":          {bearerdtest.WriteFile(t, "\xff\xfeB\x00"), "save it as UTF-8"},
		"Latin-1":         {bearerdtest.WriteFile(t, "BEARERD_PASSWORD=hidden\n# Universit\xe4t\n"), "Latin-1 or Windows-1252 (line 2, byte 12): save it as UTF-8"},
		"control":         {bearerdtest.WriteFile(t, "BEARERD_SCOPE=a\nBEARERD_PASSWORD=hidden\x16\n"), "it has a control character (line 2, byte 24)"},
		"an environment":  {bearerdtest.WriteFile(t, "BEARERD_PASSWORD=hidden\x00BEARERD_SCOPE=a\x00"), "it has a NUL (line 1, byte 24)"},
		"not text at all": {bearerdtest.WriteFile(t, strings.Repeat("x", tokens.MaxTextFile+1)), "1 MiB"},
	} {
		_, err := Sources{EnvFile: test.path}.Load(nil, new(bearerdtest.Output))
		if _, ok := errors.AsType[*Error](err); !ok || !strings.Contains(err.Error(), display.Quote(test.path)) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want an error that names it and says %q", name, err, test.want)
		}
	}
}

func TestEnvFileWithABOM(t *testing.T) {
	cfg, err := Sources{EnvFile: bearerdtest.WriteFile(t, "\ufeff"+strings.Join(bearerdtest.Working, "\n"))}.Load(nil, new(bearerdtest.Output))
	if err != nil || cfg.Origins["BEARERD_UPSTREAM"] != fromFile {
		t.Errorf("got %v, %v", cfg.Origins, err)
	}
}

// On Windows the name of a variable has no case.
func TestEnvFileFoldsNamesOnWindows(t *testing.T) {
	lines, warnings, err := parseEnvFile("bearerd_Scope=a\nHttps_Proxy=x", true)
	if err != nil || !slices.Equal(lines, []string{"BEARERD_SCOPE=a"}) || len(warnings) != 1 {
		t.Errorf("got %q, %q, %v", lines, warnings, err)
	}
	for _, text := range []string{"bearerd_password='x", "Bearerd_Scope=a\nBEARERD_SCOPE=b"} {
		if lines, _, err := parseEnvFile(text, true); err == nil {
			t.Errorf("%q: got %q, want an error", text, lines)
		}
	}
}

func TestEnvFileWarnsOfProxies(t *testing.T) {
	lines, warnings, err := parseEnvFile("https_proxy=http://u:hidden-one@p:1\nBEARERD_SCOPE=a", false)
	if err != nil || len(lines) != 1 || len(warnings) != 1 || !strings.Contains(warnings[0], "https_proxy") || strings.Contains(warnings[0], "hidden") {
		t.Errorf("got %q, %q, %v; want one line and a warning that names https_proxy", lines, warnings, err)
	}
}

// The flag wins over the environment, and that over the file.
func TestWhoWins(t *testing.T) {
	file := bearerdtest.WriteFile(t, "BEARERD_PRESET=wxp\nBEARERD_SCOPE=of-the-file\nBEARERD_USERNAME=me\nBEARERD_PASSWORD=hidden-one\nBEARERD_CLIENT_ID=of-the-file\n")
	from := Sources{Preset: "vyopta", EnvFile: file, Environ: []string{"BEARERD_PRESET=graphnet", "BEARERD_SCOPE=of-the-environment", "BEARERD_CLIENT_ID= ", "BEARERD_PASSWORD="}}
	cfg, err := from.Load(nil, new(bearerdtest.Output))
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Preset != "vyopta" || cfg.Scope != "of-the-environment" || cfg.ClientID != "of-the-file" {
		t.Errorf("got preset %q, scope %q, client id %q", cfg.Preset, cfg.Scope, cfg.ClientID)
	}
	for variable, want := range map[string]Origin{
		"BEARERD_PRESET": fromFlag, "BEARERD_SCOPE": fromEnvironment, "BEARERD_CLIENT_ID": fromFile,
		"BEARERD_TOKEN_URL": fromPreset, "BEARERD_TOKEN_WAIT": FromDefault, "BEARERD_PASSWORD": fromFile, "BEARERD_CA_FILE": "",
	} {
		if got := cfg.Origins[variable]; got != want {
			t.Errorf("%s: got origin %q, want %q", variable, got, want)
		}
	}
	for _, s := range cfg.SecretSources() {
		if s.From() != "file" {
			t.Errorf("%s: got %q, want file", s.Name, s.From())
		}
	}
}

// inCase is a variable's name as the system has it.
func inCase(name string) string {
	if foldCase {
		return strings.ToUpper(name)
	}
	return name
}

// What net/http would misread puts a part of a password where a host or a path
// is, and so into the log.
func TestProxyVariableThatIsMisread(t *testing.T) {
	for _, value := range []string{
		"http://u:hidden#one@p:3128", "http://u:hidden/one@p:3128", "http://u:hidden?one@p:3128", "http://u:hidden one@p:3128",
		"http://u:12#hidden@p:3128", "http://u:12/hidden@p:3128", "http://u:a@hidden#x@p:3128", "http://p:3128/?k=hidden", "u:hidden/x@p:3128", "http://", "http://p:hidden",
	} {
		for _, name := range []string{"HTTPS_PROXY", "http_proxy"} {
			said := strings.Join(problems(t, append([]string{name + "=" + value}, bearerdtest.Working...)), "\n")
			if !strings.HasPrefix(said, inCase(name)+": not the URL of a proxy") || strings.Contains(said, "hidden") {
				t.Errorf("%s=%s: got %q", name, value, said)
			}
		}
	}
	// net/http takes each of these for an HTTP proxy.
	for _, value := range []string{"socks4://u:hidden@p:1080", "socks://p", "ftp://u:hidden@p", "quic://p:443", "tcp://p:1", "HTPP://p", "://p"} {
		for _, name := range []string{"HTTP_PROXY", "https_proxy"} {
			said := strings.Join(problems(t, append([]string{name + "=" + value}, bearerdtest.Working...)), "\n")
			if !strings.HasPrefix(said, inCase(name)+": no") || !strings.Contains(said, "http://") || strings.Contains(said, "hidden") {
				t.Errorf("%s=%s: got %q", name, value, said)
			}
		}
	}
	for _, value := range []string{"", "proxy.example.com:3128", "HTTPS://proxy.example.com", "socks5h://u:p@127.0.0.1:1080", "http://proxy.example.com:3128/", "http://u:p%23%2F%40@proxy.example.com", "socks5://127.0.0.1:1080", "http://[::1]:3128"} {
		mustLoad(t, append([]string{"HTTPS_PROXY=" + value, "NO_PROXY=a/b#c"}, bearerdtest.Working...))
	}
}

// FuzzEnvFile reads any text as a file of settings. What is taken from it are
// lines of BEARERD_NAME=value, each name once, whose value stands in one line of
// the text just so; or there is an error, and nothing is taken. No message holds
// a part of a value.
func FuzzEnvFile(f *testing.F) {
	for _, text := range []string{
		"BEARERD_PASSWORD=x\n# y\nexport BEARERD_SCOPE='a'\n", "\ufeffBEARERD_PASSWORD=\"a b\"\r\nBEARERD_PASSWORD=1", "BEARERD_X='\nBEARERD_Y=\"'\nBEARERD_Z=a #b", "BEARERD_X='\nBEARERD_Y=\"",
		"BEARERD_SCOPE=a\rBEARERD_PASSWORD=b", "BEARERD_PASSWORD=a\x00b", "BEARERD_PASSWORD=\"$HOME\"\nBEARERD_SCOPE='a'b", "bearerd_password=x\nBEARERD PASSWORD=y\nBEARERD", "https_proxy=http://u:p@h:1\nPATH=/bin # x",
		"BEARERD_PASSWORD= \u00a0x\u2028 \n\tBEARERD_SCOPE\t=\ta\t", "BEARERD_SCOPE=a\nBEARERD_SCOPE=b", "BEARERD_A B=x", "export BEARERD_A=1 BEARERD_B=2\nBEARERD_C==\n=BEARERD_D\n",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		lines, _, err := parseEnvFile(text, false)
		if err != nil && lines != nil {
			t.Errorf("%q: gave %q and %v", text, lines, err)
		}
		seen := make(map[string]bool)
		for _, line := range lines {
			name, value, ok := strings.Cut(line, "=")
			if !ok || !envName.MatchString(name) || !strings.HasPrefix(name, "BEARERD_") || seen[name] || strings.ContainsAny(value, "\r\n\x00") {
				t.Errorf("%q: gave %q", text, line)
			}
			seen[name] = true
			if !slices.ContainsFunc(strings.Split(text, "\n"), func(l string) bool { return strings.Contains(l, name) && strings.Contains(l, value) }) {
				t.Errorf("%q: has no line with %q", text, line)
			}
		}
		const marker = "m4rker"
		if strings.Contains(text, marker) {
			t.Skip()
		}
		marked := strings.ReplaceAll(text, "=", "="+marker)
		_, warnings, err := parseEnvFile(marked, false)
		if said := fmt.Sprint(warnings, err); strings.Contains(said, marker) {
			t.Errorf("%q: a value in %q", marked, said)
		}
	})
}
