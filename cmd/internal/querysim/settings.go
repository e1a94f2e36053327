package querysim

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Setting is a field of [Faults] as text, for command lines and forms.
type Setting struct {
	Name   string
	Usage  string // as package flag wants it
	Switch bool   // true or false; on a command line its name alone says true

	get func(Faults) string
	set func(*Faults, string) error
}

// Get returns the setting's value in f, in a form that Set takes.
func (s Setting) Get(f Faults) string { return s.get(f) }

// Set changes the setting in f. Its error tells what would do.
func (s Setting) Set(f *Faults, text string) error { return s.set(f, text) }

// FaultSettings returns a setting for each field of [Faults].
func FaultSettings() []Setting {
	return []Setting{
		{
			Name:  "login-fault",
			Usage: faultUsage("logins meet", loginFaults),
			get:   func(f Faults) string { return string(f.Login) },
			set: func(f *Faults, text string) error {
				_, _, err := findFault(loginFaults, text)
				f.Login = LoginFault(text)
				return err
			},
		},
		{
			Name:  "login-fault-next",
			Usage: "`number` of logins that meet the fault, after which it is gone; 0: all",
			get:   func(f Faults) string { return strconv.Itoa(f.LoginNext) },
			set:   func(f *Faults, text string) error { return setCount(&f.LoginNext, text) },
		},
		{
			Name:  "login-delay",
			Usage: "`duration` that each login takes",
			get:   func(f Faults) string { return f.LoginDelay.String() },
			set:   func(f *Faults, text string) error { return setDelay(&f.LoginDelay, text) },
		},
		{
			Name:  "query-fault",
			Usage: faultUsage("requests to the Query Service meet", queryFaults),
			get:   func(f Faults) string { return string(f.Query) },
			set: func(f *Faults, text string) error {
				_, _, err := findFault(queryFaults, text)
				f.Query = QueryFault(text)
				return err
			},
		},
		{
			Name:  "query-fault-next",
			Usage: "`number` of requests that meet the fault, after which it is gone; 0: all",
			get:   func(f Faults) string { return strconv.Itoa(f.QueryNext) },
			set:   func(f *Faults, text string) error { return setCount(&f.QueryNext, text) },
		},
		{
			Name:  "query-delay",
			Usage: "`duration` that each request to the Query Service waits",
			get:   func(f Faults) string { return f.QueryDelay.String() },
			set:   func(f *Faults, text string) error { return setDelay(&f.QueryDelay, text) },
		},
		switchSetting("one-session", "a login ends the account's other tokens", func(f *Faults) *bool { return &f.OneSession }),
		{
			Name:  "token-delay",
			Usage: "`duration` from the issue of a token until the Query Service takes it",
			get:   func(f Faults) string { return f.TokenDelay.String() },
			set:   func(f *Faults, text string) error { return setDelay(&f.TokenDelay, text) },
		},
		switchSetting("single-use", "a token ends when the Query Service has taken it once", func(f *Faults) *bool { return &f.SingleUse }),
		{
			Name:  "skew",
			Usage: "`duration` that the clock of all servers is ahead; -90s: behind",
			get:   func(f Faults) string { return f.Skew.String() },
			set: func(f *Faults, text string) (err error) {
				f.Skew, err = parseDuration(text)
				return err
			},
		},
		switchSetting("brute-force-lock", "lock the account after failed logins at vyopta and wxp, as a Keycloak does by default",
			func(f *Faults) *bool { return &f.BruteForceLock }),
	}
}

// switchSetting is a setting for the field that of returns.
func switchSetting(name, usage string, of func(*Faults) *bool) Setting {
	return Setting{
		Name:   name,
		Usage:  usage,
		Switch: true,
		get:    func(f Faults) string { return strconv.FormatBool(*of(&f)) },
		set: func(f *Faults, text string) (err error) {
			if *of(f), err = strconv.ParseBool(text); err != nil {
				return errors.New("give true or false")
			}
			return nil
		},
	}
}

// Set changes the setting called name, as [FaultSettings] has it.
func (f *Faults) Set(name, text string) error {
	var names []string
	for _, s := range FaultSettings() {
		if s.Name != name {
			names = append(names, s.Name)
		} else if err := s.Set(f, text); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		} else {
			return nil
		}
	}
	return fmt.Errorf("no setting %q; give %s", name, strings.Join(names, ", "))
}

func faultUsage(what string, table []faultRow) string {
	var b strings.Builder
	fmt.Fprintf(&b, "`fault` that %s, one of", what)
	for _, row := range table {
		fmt.Fprintf(&b, "\n  %-16s %s", row.name, meaning(table, row.name))
	}
	return b.String()
}

func setCount(n *int, text string) (err error) {
	if *n, err = strconv.Atoi(text); err != nil || *n < 0 {
		return errors.New("give 0 or more")
	}
	return nil
}

func setDelay(d *time.Duration, text string) (err error) {
	if *d, err = parseDuration(text); err == nil && *d < 0 {
		return errors.New("give 0 or more")
	}
	return err
}

func parseDuration(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, errors.New("give a duration such as 90s")
	}
	return d, nil
}
