package sysproxy

import (
	"context"
	"errors"
	"net/url"
	"unsafe"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"
)

const supported = true

// find asks WinHTTP: first the PAC file, if one is set or to be searched for, then
// what is set by hand. A library that does so (mattn/go-ieproxy) drops errors and all
// but the first proxy, and asks for the settings once.
func find(_ context.Context, u *url.URL) Answer { return windowsSettings(winHTTP{}, u) }

// OfLocalService asks as a program of NT AUTHORITY\LocalService would.
func OfLocalService() Find {
	return func(_ context.Context, u *url.URL) Answer { return windowsSettings(localService{}, u) }
}

// localService is the system's for the account of services.
type localService struct{ winHTTP }

// current reads what Windows keeps for that account, by its well-known SID; where a
// policy has one setting for the machine, that is everybody's.
func (s localService) current() (current, error) {
	policy, err := registry.OpenKey(registry.LOCAL_MACHINE, `Software\Policies\Microsoft\Windows\CurrentVersion\Internet Settings`, registry.QUERY_VALUE)
	if err == nil {
		perUser, _, err := policy.GetIntegerValue("ProxySettingsPerUser")
		_ = policy.Close()
		if err == nil && perUser == 0 {
			return s.winHTTP.current()
		}
	}
	k, err := registry.OpenKey(registry.USERS, `S-1-5-19\Software\Microsoft\Windows\CurrentVersion\Internet Settings\Connections`, registry.QUERY_VALUE)
	if errors.Is(err, registry.ErrNotExist) {
		return current{}, nil
	}
	if err != nil {
		return current{}, err
	}
	defer func() { _ = k.Close() }()
	raw, _, err := k.GetBinaryValue("DefaultConnectionSettings")
	if errors.Is(err, registry.ErrNotExist) {
		return current{}, nil
	}
	if err != nil {
		return current{}, err
	}
	return readConnection(raw), nil
}

// settings are those of the current user: WINHTTP_CURRENT_USER_IE_PROXY_CONFIG.
type settings struct {
	autoDetect           int32
	pac, proxies, bypass *uint16
}

// autoProxyOptions is WINHTTP_AUTOPROXY_OPTIONS.
type autoProxyOptions struct {
	flags, detect uint32
	pac           *uint16
	_             uintptr
	_             uint32
	autoLogon     int32
}

// proxyInfo is WINHTTP_PROXY_INFO.
type proxyInfo struct {
	access          uint32
	proxies, bypass *uint16
}

// winHTTP is the system's.
type winHTTP struct{}

func (winHTTP) proc(name string) *windows.LazyProc {
	return windows.NewLazySystemDLL("winhttp.dll").NewProc(name)
}

func (w winHTTP) current() (current, error) {
	var s settings
	get := w.proc("WinHttpGetIEProxyConfigForCurrentUser")
	if err := get.Find(); err != nil {
		return current{}, err
	}
	if ok, _, err := get.Call(uintptr(unsafe.Pointer(&s))); ok == 0 {
		return current{}, err
	}
	return current{s.autoDetect != 0, take(s.pac), take(s.proxies), take(s.bypass)}, nil
}

// script asks the PAC file at an address, or, without one, the one that is searched
// for.
func (w winHTTP) script(pac string, u *url.URL) (proxies, bypass string, err error) {
	open, timeouts, get, closeHandle := w.proc("WinHttpOpen"), w.proc("WinHttpSetTimeouts"), w.proc("WinHttpGetProxyForUrl"), w.proc("WinHttpCloseHandle")
	if err := get.Find(); err != nil {
		return "", "", err
	}
	agent, err := windows.UTF16PtrFromString("bearerd")
	if err != nil {
		return "", "", err
	}
	const noProxy = 1
	session, _, err := open.Call(uintptr(unsafe.Pointer(agent)), noProxy, 0, 0, 0)
	if session == 0 {
		return "", "", err
	}
	defer func() { _, _, _ = closeHandle.Call(session) }()
	_, _, _ = timeouts.Call(session, 5000, 5000, 5000, 5000) // of each step; best effort
	target, err := windows.UTF16PtrFromString(u.Scheme + "://" + u.Host + "/")
	if err != nil {
		return "", "", err
	}
	o := autoProxyOptions{flags: 1, detect: 1 | 2} // by DHCP and DNS
	if pac != "" {
		o = autoProxyOptions{flags: 2}
		if o.pac, err = windows.UTF16PtrFromString(pac); err != nil {
			return "", "", err
		}
	}
	// A second time with the user's own login at the server of the PAC file, as
	// WinHTTP's documentation has it: with it the first time nothing is cached.
	for _, o.autoLogon = range []int32{0, 1} {
		var info proxyInfo
		ok, _, failed := get.Call(session, uintptr(unsafe.Pointer(target)), uintptr(unsafe.Pointer(&o)), uintptr(unsafe.Pointer(&info)))
		if ok != 0 {
			return take(info.proxies), take(info.bypass), nil
		}
		err = failed
		if failed != windows.Errno(12015) { // ERROR_WINHTTP_LOGIN_FAILURE
			break
		}
	}
	return "", "", err
}

// take returns a text of WinHTTP's, and frees it.
func take(text *uint16) string {
	if text == nil {
		return ""
	}
	s := windows.UTF16PtrToString(text)
	_, _, _ = windows.NewLazySystemDLL("kernel32.dll").NewProc("GlobalFree").Call(uintptr(unsafe.Pointer(text)))
	return s
}
