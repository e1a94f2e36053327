package config

import (
	"slices"
	"strconv"
	"strings"
)

// checkNames refuses what is no setting, and a secret given twice.
func (l *loader) checkNames(all []Setting) {
	known := make([]string, len(all))
	for i, s := range all {
		known[i] = s.Name
	}
	for name := range l.env {
		another := l.otherForm(name, known)
		switch {
		case !slices.Contains(known, name):
			if near := nearest(name, known); near != "" {
				l.refuse(quoteName(name), "unknown; did you mean %s?", near)
			} else {
				l.refuse(quoteName(name), "unknown; bearerd help lists every setting")
			}
		case another != "":
			l.refuse(name, "set, and %s too; unset one", another)
		}
	}
	// A map has no order; this one is kept by the stable sort of loadConfig.
	slices.SortFunc(l.problems, func(a, b Problem) int { return strings.Compare(a.Variable, b.Variable) })
}

// otherForm returns another variable that is set and gives the same secret as name,
// of the forms that come after it; "": there is none.
func (l *loader) otherForm(name string, known []string) string {
	secret, isFile := strings.CutSuffix(name, "_FILE")
	forms := []string{secret + "_FILE", secret + "_KEYRING"}
	if isFile {
		forms = forms[1:]
	}
	for _, form := range forms {
		if form != name && l.env[form] != "" && slices.Contains(known, form) {
			return form
		}
	}
	return ""
}

// nearest returns the name that was probably meant, or "". Up to a third of
// the letters may be wrong, and never more than three: beyond that a guess
// misleads.
func nearest(name string, known []string) string {
	word := strings.ToUpper(strings.TrimPrefix(name, envPrefix+"_"))
	best, least := "", min(max(1, len(word)/3), 3)+1
	for _, k := range known {
		if d := distance(word, strings.TrimPrefix(k, envPrefix+"_")); d < least {
			best, least = k, d
		}
	}
	return best
}

// distance is the number of insertions, deletions, substitutions and swaps of
// neighbours that make a from b (optimal string alignment).
func distance(a, b string) int {
	before, last := []int(nil), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			change := 1
			if a[i] == b[j] {
				change = 0
			}
			row[j+1] = min(last[j+1]+1, row[j]+1, last[j]+change)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}

// quoteName quotes the name of a variable that a terminal could not show.
func quoteName(name string) string {
	if q := strconv.QuoteToASCII(name); q != `"`+name+`"` {
		return q
	}
	return name
}
