package setup

import (
	"errors"
	"flag"
	"slices"
	"strings"
)

// Answers are those that the command line has given already; the zero value has
// none.
type Answers struct {
	Preset           string
	Upstream         string
	TokenURL         string
	ClientID         string
	Username         string
	PasswordFile     string
	ClientSecretFile string
	Port             string
	Keep             string // keyring, file or no
	File             string // of settings; empty: config.SavedFile
	Write            string // yes or no, as the next two
	Start            string
	Open             string
	Yes              bool // asks nothing: what is not given gets its default
}

// Flags adds the flags that give answers, but for -preset, to a set.
func (a *Answers) Flags(set *flag.FlagSet) {
	set.StringVar(&a.Upstream, "upstream", "", "")
	set.StringVar(&a.TokenURL, "token-url", "", "")
	set.StringVar(&a.ClientID, "client-id", "", "")
	set.StringVar(&a.Username, "username", "", "")
	set.StringVar(&a.PasswordFile, "password-file", "", "")
	set.StringVar(&a.ClientSecretFile, "client-secret-file", "", "")
	set.StringVar(&a.Port, "port", "", "")
	set.StringVar(&a.File, "settings", "", "")
	set.BoolVar(&a.Yes, "yes", false, "")
	yesNo := []string{"yes", "no"}
	set.Var(choice{&a.Keep, []string{"keyring", "file", "no"}}, "keep", "")
	set.Var(choice{&a.Write, yesNo}, "write", "")
	set.Var(choice{&a.Start, yesNo}, "start", "")
	set.Var(choice{&a.Open, yesNo}, "open", "")
}

// choice is a flag that has one of some values.
type choice struct {
	to    *string
	among []string
}

func (c choice) String() string {
	if c.to == nil { // package flag's own
		return ""
	}
	return *c.to
}

func (c choice) Set(text string) error {
	if text = strings.ToLower(text); !slices.Contains(c.among, text) {
		return errors.New("write " + strings.Join(c.among, ", "))
	}
	*c.to = text
	return nil
}
