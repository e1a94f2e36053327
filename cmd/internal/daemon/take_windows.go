package daemon

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/bearerd/bearerd/cmd/internal/config"
	"github.com/bearerd/bearerd/cmd/internal/keyring"
	"github.com/bearerd/bearerd/cmd/internal/sysproxy"
)

// takeOver sees to what the settings rely on that is the installing user's own: a
// key store, and the proxy. It changes given, and nothing else.
func takeOver(w Which, ask Ask, given *settings, out io.Writer) error {
	if setting := keyringSetting(given.text); setting != "" {
		copies, err := ask.unless(w.TakeSecrets, setting+": the service's account cannot read "+keyring.StoreName+
			", which is yours. Copy the secret into a file that only the service and administrators can read?")
		if err != nil {
			return err
		}
		if !copies {
			return refuseKeyring(*given, "or have install make that file, by -take-secrets; or install with -user, which runs as you and can use your store")
		}
	}
	proxy, told := proxyToTake(given.is, sysproxy.System(), sysproxy.OfLocalService())
	if told == "" {
		return nil
	}
	if proxy == "" {
		fmt.Fprintln(out, told)
		return nil
	}
	writes, err := ask.unless(w.TakeProxy, told+" Write BEARERD_PROXY="+proxy+" into the service's settings?")
	if err != nil {
		return err
	}
	if !writes {
		fmt.Fprintf(out, "%s -take-proxy has install write BEARERD_PROXY=%s into the service's settings.\n", told, proxy)
		return nil
	}
	given.text = strings.TrimRight(given.text, "\r\n") + "\nBEARERD_PROXY='" + proxy + "'\n"
	fmt.Fprintf(out, "BEARERD_PROXY=%s is in the service's settings\n", proxy)
	return nil
}

// proxyToTake compares by which proxy this user's programs reach the login server and
// upstream with what the service's account is told. told says where they differ; "":
// nowhere. proxy is the one that does for both; "": one would not.
func proxyToTake(c config.Config, mine, theirs sysproxy.Find) (proxy, told string) {
	if c.ProxyRule.Mode != config.ProxyByDefault || c.ProxyFile != "" {
		return "", "" // a setting decides
	}
	first := func(f sysproxy.Find, u *url.URL) string {
		if all := f(context.Background(), u).Proxies; len(all) > 0 && all[0] != nil {
			return all[0].String()
		}
		return ""
	}
	differ := false
	var used []string
	for _, u := range []*url.URL{c.TokenURL, c.Upstream} {
		is := first(mine, u)
		used = append(used, is)
		differ = differ || is != first(theirs, u)
	}
	switch {
	case !differ:
		return "", ""
	case used[0] == used[1] && used[0] != "":
		return used[0], "Your programs go out by the proxy " + used[0] + ", and those of the service's account do not."
	case used[0] == used[1]:
		return "off", "Your programs go out directly, and those of the service's account by a proxy."
	}
	return "", "Your programs reach the login server and upstream in different ways, and the service's account in others: set BEARERD_PROXY, or the proxy of LocalService, where the service does not get through."
}

// copySecret makes a file of the secret in an entry of this user's key store.
func copySecret(back *undo, p places, setting, entry string, out io.Writer) (string, error) {
	secret, err := keyring.New(nil).Entry(entry).Read(context.Background(), true)
	if err != nil {
		return "", fmt.Errorf("%s_KEYRING: %w", setting, err)
	}
	name, _ := fileName(setting + "_FILE")
	copied := filepath.Join(p.files, name)
	if err := replaceFile(back, copied, []byte(secret.Reveal()), 0o600); err != nil {
		return "", err
	}
	fmt.Fprintf(out, "wrote %s, a copy of the secret of the entry %s of %s, where it stays\n", copied, entry, keyring.StoreName)
	return copied, nil
}

// unless asks, unless the answer is given.
func (ask Ask) unless(given bool, question string) (bool, error) {
	if given || ask == nil {
		return given, nil
	}
	return ask(question)
}
