package sysproxy

import (
	"net"
	"net/netip"
	"net/url"
	"path"
	"strings"
)

// parseList reads the proxies for a scheme from the text of Windows' settings, or of
// what a PAC file answers: "a:1", "http=a:1;https=b:2", "PROXY a:1; DIRECT". An entry
// of a kind that no program of Go speaks is left out, and other reports it.
func parseList(text, scheme string) (all []*url.URL, other bool) {
	var own, socks []*url.URL
	for entry := range strings.SplitSeq(strings.ReplaceAll(text, ",", ";"), ";") {
		words := strings.Fields(entry)
		kind := ""
		if len(words) >= 2 {
			if k := strings.ToUpper(words[0]); k == "PROXY" || k == "HTTP" || k == "HTTPS" || k == "SOCKS" || k == "SOCKS4" || k == "SOCKS5" {
				kind, words = k, words[1:]
			}
		}
		for _, word := range words { // the settings of Windows may have spaces for semicolons
			if strings.EqualFold(word, "DIRECT") {
				all = append(all, nil)
				continue
			}
			of, address, ok := strings.Cut(word, "=")
			if !ok {
				of, address = "", word
			}
			switch of = strings.ToLower(of); {
			case of == "socks" || kind == "SOCKS" || kind == "SOCKS4":
				other = true // SOCKS 4
			case kind == "SOCKS5":
				socks = appendProxy(socks, "socks5", address)
			case of == "" && kind == "HTTPS":
				all = appendProxy(all, "https", address)
			case of == "":
				all = appendProxy(all, "http", address)
			case of == scheme:
				own = appendProxy(own, "http", address)
			}
		}
	}
	if own != nil {
		return own, other
	}
	return append(all, socks...), other
}

// appendProxy appends a proxy at an address, which may have a scheme before it, and
// no port behind it. What is none is left out.
func appendProxy(all []*url.URL, scheme, address string) []*url.URL {
	if s, rest, ok := strings.Cut(address, "://"); ok {
		if s = strings.ToLower(s); s != "http" && s != "https" && s != "socks5" {
			return all
		}
		scheme, address = s, rest
	}
	u, err := url.Parse(scheme + "://" + strings.TrimRight(address, "/"))
	if err != nil || u.Hostname() == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" {
		return all
	}
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), map[string]string{"http": "80", "https": "443", "socks5": "1080"}[scheme])
	}
	return append(all, u)
}

// bypassed reports whether the list of hosts that need no proxy has u: separated by
// semicolons or spaces, with * for any letters, <local> for names without a dot, and
// networks as 10.0/16 or 10.0.0.0/16.
func bypassed(list string, u *url.URL) bool {
	host := strings.ToLower(u.Hostname())
	ip, err := netip.ParseAddr(host)
	isIP := err == nil
	if host == "localhost" || isIP && ip.IsLoopback() {
		return true
	}
	for _, entry := range strings.FieldsFunc(strings.ToLower(list), func(r rune) bool { return r == ';' || r == ',' || r == ' ' || r == '\t' || r == '\n' || r == '\r' }) {
		if entry == "<local>" {
			if !isIP && !strings.Contains(host, ".") {
				return true
			}
			continue
		}
		if scheme, rest, ok := strings.Cut(entry, "://"); ok {
			if scheme != u.Scheme {
				continue
			}
			entry = rest
		}
		if network, ok := parseNetwork(entry); ok {
			if isIP && network.Contains(ip.Unmap()) {
				return true
			}
			continue
		}
		if h, port, err := net.SplitHostPort(entry); err == nil {
			if port != portOf(u) {
				continue
			}
			entry = h
		}
		if strings.HasPrefix(entry, ".") {
			entry = "*" + entry
		}
		if matches(entry, host) {
			return true
		}
	}
	return false
}

func portOf(u *url.URL) string {
	if port := u.Port(); port != "" {
		return port
	}
	return map[string]string{"http": "80", "https": "443"}[u.Scheme]
}

// parseNetwork reads a network; macOS leaves out the zeros at its end: 169.254/16.
func parseNetwork(s string) (netip.Prefix, bool) {
	address, bits, ok := strings.Cut(s, "/")
	if !ok {
		return netip.Prefix{}, false
	}
	if !strings.Contains(address, ":") {
		for strings.Count(address, ".") < 3 {
			address += ".0"
		}
	}
	p, err := netip.ParsePrefix(address + "/" + bits)
	return p, err == nil
}

// matches is of one pattern, in which * stands for any letters.
func matches(pattern, host string) bool {
	// [ and ? of path.Match mean nothing here.
	pattern = strings.NewReplacer("[", `\[`, "]", `\]`, "?", `\?`, `\`, `\\`).Replace(pattern)
	ok, err := path.Match(pattern, host)
	return err == nil && ok
}

// macSettings are those that scutil --proxy shows.
type macSettings struct {
	values     map[string]string
	exceptions []string
}

// parseScutil reads what scutil --proxy writes: a dictionary of lines "Name : value",
// in which ExceptionsList is an array of lines "0 : value".
func parseScutil(text string) macSettings {
	s := macSettings{values: make(map[string]string)}
	depth, array := 0, false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "}" {
			depth, array = depth-1, false
			continue
		}
		name, value, ok := strings.Cut(line, " : ")
		if strings.HasSuffix(line, "{") {
			depth++
			array = ok && name == "ExceptionsList"
			continue
		}
		switch {
		case !ok:
		case array:
			s.exceptions = append(s.exceptions, value)
		case depth == 1: // the deeper ones are of single interfaces
			s.values[name] = value
		}
	}
	return s
}

// notPAC is the note for a PAC file where none can be read.
const notPAC = "a PAC file, or the search for one, is set in this system and not used: set BEARERD_PROXY to the proxy"

// answer is what the settings say of u.
func (s macSettings) answer(u *url.URL) Answer {
	var a Answer
	if s.values["ProxyAutoConfigEnable"] == "1" || s.values["ProxyAutoDiscoveryEnable"] == "1" {
		a.Note = notPAC
	}
	if s.values["ExcludeSimpleHostnames"] == "1" && bypassed("<local>", u) || bypassed(strings.Join(s.exceptions, ";"), u) {
		return a
	}
	for _, kind := range []struct{ name, scheme string }{{strings.ToUpper(u.Scheme), "http"}, {"SOCKS", "socks5"}} {
		if s.values[kind.name+"Enable"] != "1" || s.values[kind.name+"Proxy"] == "" {
			continue
		}
		address := s.values[kind.name+"Proxy"]
		if port := s.values[kind.name+"Port"]; port != "" && port != "0" {
			address = net.JoinHostPort(address, port)
		}
		if a.Proxies = appendProxy(nil, kind.scheme, address); a.Proxies != nil {
			return a
		}
	}
	return a
}
