package sysproxy

import (
	"encoding/binary"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"golang.org/x/sys/windows/registry"
)

const script = `function FindProxyForURL(url, host) {
  if (dnsDomainIs(host, ".internal.example")) return "DIRECT";
  return "PROXY a.example:1; PROXY b.example:2; DIRECT";
}`

// What WinHTTP itself answers, by a PAC file and by settings made by hand.
func TestWinHTTP(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-ns-proxy-autoconfig")
		_, _ = io.WriteString(w, script)
	}))
	defer server.Close()
	proxies, bypass, err := winHTTP{}.script(server.URL+"/proxy.pac", mustURL(t, "https://api.example.com"))
	if err != nil {
		t.Fatal(err)
	}
	if got := (Answer{}).with(proxies, bypass, mustURL(t, "https://api.example.com")); len(got.Proxies) == 0 || got.Proxies[0].String() != "http://a.example:1" {
		t.Errorf("got %q from %q", texts(got.Proxies), proxies)
	}
	proxies, bypass, err = winHTTP{}.script(server.URL+"/proxy.pac", mustURL(t, "https://x.internal.example"))
	if got := (Answer{}).with(proxies, bypass, mustURL(t, "https://x.internal.example")); err != nil || len(got.Proxies) > 0 && got.Proxies[0] != nil {
		t.Errorf("got %q from %q, %v, want none", texts(got.Proxies), proxies, err)
	}
	if _, _, err := (winHTTP{}).script("http://127.0.0.1:1/proxy.pac", mustURL(t, "https://api.example.com")); err == nil {
		t.Error("a PAC file that is not there is no error")
	}
}

// connections is what Windows keeps a user's settings as: a number that tells the
// form, one that is not used, flags, and each text behind its length.
func connections(flags byte, proxies, bypass string) []byte {
	b := []byte{0x46, 0, 0, 0, 0, 0, 0, 0, flags, 0, 0, 0}
	for _, text := range []string{proxies, bypass, ""} {
		b = append(binary.LittleEndian.AppendUint32(b, uint32(len(text))), text...)
	}
	return append(b, make([]byte, 32)...)
}

// The current user's settings are found where Windows keeps them.
func TestSettingsOfTheCurrentUser(t *testing.T) {
	const path = `Software\Microsoft\Windows\CurrentVersion\Internet Settings\Connections`
	const name = "DefaultConnectionSettings"
	key, _, err := registry.CreateKey(registry.CURRENT_USER, path, registry.ALL_ACCESS)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = key.Close() }()
	if _, _, err := key.GetBinaryValue(name); err == nil {
		t.Skip("this user has settings, which are left alone")
	}
	const direct, manual = 1, 2
	if err := key.SetBinaryValue(name, connections(direct|manual, "http=a.example:1;https=b.example:2", "*.internal.example;<local>")); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = key.DeleteValue(name) }()
	got, err := winHTTP{}.current()
	if err != nil || !strings.Contains(got.proxies, "b.example:2") {
		t.Fatalf("got %+v, %v", got, err)
	}
	answer := find(t.Context(), mustURL(t, "https://api.example.com"))
	if s := texts(answer.Proxies); len(s) != 1 || s[0] != "http://b.example:2" {
		t.Errorf("got %q, %q", s, answer.Note)
	}
	if answer := find(t.Context(), mustURL(t, "https://x.internal.example")); answer.Proxies != nil {
		t.Errorf("bypassed: got %q", texts(answer.Proxies))
	}
}

// Those of LocalService are found where Windows keeps them.
func TestSettingsOfLocalService(t *testing.T) {
	const path = `S-1-5-19\Software\Microsoft\Windows\CurrentVersion\Internet Settings\Connections`
	const name = "DefaultConnectionSettings"
	find := OfLocalService()
	if answer := find(t.Context(), mustURL(t, "https://api.example.com")); answer.Proxies != nil || answer.Note != "" {
		t.Skipf("this system has settings, which are left alone: %q, %s", texts(answer.Proxies), answer.Note)
	}
	key, _, err := registry.CreateKey(registry.USERS, path, registry.ALL_ACCESS)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = key.Close() }()
	if err := key.SetBinaryValue(name, connections(2, "c.example:3", "*.internal.example")); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = key.DeleteValue(name) }()
	if s := texts(find(t.Context(), mustURL(t, "https://api.example.com")).Proxies); len(s) != 1 || s[0] != "http://c.example:3" {
		t.Errorf("got %q", s)
	}
	if s := texts(find(t.Context(), mustURL(t, "https://x.internal.example")).Proxies); s != nil {
		t.Errorf("bypassed: got %q", s)
	}
}
