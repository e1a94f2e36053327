package sysproxy

import (
	"encoding/binary"
	"net/url"
)

// current are a Windows user's settings.
type current struct {
	autoDetect           bool
	pac, proxies, bypass string
}

// readConnection reads what Windows keeps a user's settings as, in the value
// DefaultConnectionSettings: the form, a counter, flags, and each text behind its
// length. What is cut short has none.
func readConnection(raw []byte) (c current) {
	const byHand, byScript, search = 2, 4, 8 // PROXY_TYPE_… of wininet.h
	if len(raw) < 12 {
		return current{}
	}
	flags, raw := raw[8], raw[12:]
	text := func() string {
		if len(raw) < 4 {
			return ""
		}
		n := int(min(binary.LittleEndian.Uint32(raw), uint32(len(raw)-4)))
		is := string(raw[4 : 4+n])
		raw = raw[4+n:]
		return is
	}
	proxies, bypass, pac := text(), text(), text()
	c.autoDetect = flags&search != 0
	if flags&byHand != 0 {
		c.proxies, c.bypass = proxies, bypass
	}
	if flags&byScript != 0 {
		c.pac = pac
	}
	return c
}

// asker is what Windows is asked by.
type asker interface {
	current() (current, error)
	script(pac string, u *url.URL) (proxies, bypass string, err error)
}

// What is said of settings that are not heeded.
const (
	notFound  = "the PAC file of this system could not be read or gave no answer"
	noSetting = "the proxy settings of this system could not be read"
	socks4    = "a SOCKS 4 proxy is set in this system and not used: set BEARERD_PROXY"
)

// windowsSettings is what a says of u. As in Windows, a PAC file goes before what is
// set by hand, which is used where the file cannot be had.
func windowsSettings(a asker, u *url.URL) Answer {
	c, err := a.current()
	if err != nil {
		return Answer{Note: noSetting}
	}
	var answer Answer
	if bypassed("", u) {
		return answer
	}
	for _, pac := range c.scripts() {
		proxies, bypass, err := a.script(pac, u)
		if err != nil {
			if pac != "" { // that a search finds none is usual
				answer.Note = notFound
			}
			continue
		}
		return answer.with(proxies, bypass, u)
	}
	return answer.with(c.proxies, c.bypass, u)
}

// scripts are the addresses of PAC files to be asked; "" is the one searched for.
func (c current) scripts() (all []string) {
	if c.autoDetect {
		all = append(all, "")
	}
	if c.pac != "" {
		all = append(all, c.pac)
	}
	return all
}

func (a Answer) with(proxies, bypass string, u *url.URL) Answer {
	if bypassed(bypass, u) {
		return a
	}
	all, other := parseList(proxies, u.Scheme)
	if len(all) == 0 && other {
		a.Note = socks4
	}
	a.Proxies = all
	return a
}
