//go:build unix

package listen

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/bearerd/bearerd/cmd/internal/config"
	"github.com/bearerd/bearerd/cmd/internal/display"
	"github.com/bearerd/bearerd/cmd/internal/endpoint"
)

const firstInherited = 3 // SD_LISTEN_FDS_START of sd_listen_fds(3)

// Inherit takes over the listeners that a service manager opened for this
// process (systemd.socket(5), sd_listen_fds(3)). An error is a *config.Error.
// bearerd starts no program, so LISTEN_FDS need not be hidden from one.
func Inherit(environ []string, cfg config.Config) (Inherited, error) {
	env := func(name string) string {
		i := slices.IndexFunc(environ, func(line string) bool { return strings.HasPrefix(line, name+"=") })
		if i < 0 {
			return ""
		}
		return environ[i][len(name)+1:]
	}
	if env("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return Inherited{}, nil // meant for whoever started this process
	}
	var (
		in       Inherited
		problems []config.Problem
	)
	refuse := func(variable, format string, args ...any) {
		problems = append(problems, config.Problem{Variable: variable, Text: fmt.Sprintf(format, args...)})
	}
	count, err := strconv.Atoi(env("LISTEN_FDS"))
	if err != nil || count < 0 || count > 100 {
		refuse("LISTEN_FDS", "%s is not a number of sockets; it is the service manager's to set", display.Quote(env("LISTEN_FDS")))
	}
	names := strings.Split(env("LISTEN_FDNAMES"), ":")
	for i := range min(count, 100) {
		name := ""
		if i < len(names) {
			name = names[i]
		}
		l, err := inheritListener(firstInherited + i)
		switch {
		case err != nil:
			refuse("LISTEN_FDS", "socket %d (%s): %v; a socket unit for bearerd has ListenStream= and Accept=no", i+1, display.Quote(name), err)
		case name == "admin":
			in.Admin = append(in.Admin, l)
		case name == "data" || name == "" || name == "unknown" || strings.HasSuffix(name, ".socket"): // without FileDescriptorName= it is the unit's name
			in.Data = append(in.Data, l)
		default:
			_ = l.Close()
			refuse("LISTEN_FDNAMES", "%s is neither data nor admin; write one of them as the socket unit's FileDescriptorName=", display.Quote(name))
		}
	}
	for _, l := range in.Data {
		if at, ok := l.Addr().(*net.TCPAddr); ok && !at.IP.IsLoopback() && !cfg.AllowNonLoopback {
			refuse("LISTEN_FDS", "%s, of the socket unit, can be reached from other machines, which would then speak with this account; "+
				"write ListenStream=127.0.0.1:%d, or set BEARERD_ALLOW_NON_LOOPBACK=true and BEARERD_ALLOWED_HOSTS", at, at.Port)
		}
	}
	for _, l := range slices.Concat(in.Data, in.Admin) {
		at, ok := l.Addr().(*net.UnixAddr)
		if !ok {
			continue
		}
		if at.Name == "" || at.Name[0] == '@' {
			refuse("LISTEN_FDS", "an abstract socket has no mode, so every user of this machine could connect; write ListenStream=/run/bearerd/data.sock")
		} else if info, err := os.Stat(at.Name); err == nil && info.Mode()&0o002 != 0 {
			in.Warnings = append(in.Warnings, fmt.Sprintf(
				"LISTEN_FDS: every user of this machine may connect to %s (mode %04o); write SocketMode=0600, and SocketUser=, in the socket unit", at.Name, info.Mode().Perm()))
		}
	}
	contradicted := func(variable string, listeners []net.Listener, written ...string) {
		if from, ok := cfg.Origins[variable]; !ok || from == config.FromDefault {
			return
		}
		for _, l := range listeners {
			if !slices.ContainsFunc(written, func(text string) bool { return isAt(text, l) }) {
				refuse(variable, "does not say %s, which the socket unit opened (LISTEN_FDS) and bearerd would use instead; unset it, or write the same", shownAddress(l))
			}
		}
	}
	contradicted("BEARERD_LISTEN", in.Data, cfg.Listen...)
	contradicted("BEARERD_ADMIN_LISTEN", in.Admin, cfg.AdminListen)
	for _, l := range slices.Concat(in.Data, in.Admin) {
		at, err := endpoint.Parse(shownAddress(l))
		if err != nil {
			continue
		}
		if endpoint.ThisMachine().Leads(cfg.Upstream, at) {
			refuse("BEARERD_UPSTREAM", config.OwnListener, "that", "the socket unit's ListenStream=")
		}
		if endpoint.ThisMachine().Leads(cfg.TokenURL, at) {
			refuse("BEARERD_TOKEN_URL", config.OwnListener, "that", "the socket unit's ListenStream=")
		}
	}
	if len(problems) > 0 {
		CloseAll(in.Data)
		CloseAll(in.Admin)
		return Inherited{}, &config.Error{Problems: problems}
	}
	return in, nil
}

// inheritListener makes a listener of an open file, which it closes.
func inheritListener(fd int) (net.Listener, error) {
	f := os.NewFile(uintptr(fd), "LISTEN_FDS")
	defer func() { _ = f.Close() }()
	listens, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_ACCEPTCONN)
	if err != nil {
		return nil, err
	}
	if listens == 0 {
		return nil, errors.New("is not listening")
	}
	l, err := net.FileListener(f) // of a copy; the file of a unix socket stays the service manager's
	if err != nil {
		return nil, errors.New("neither TCP nor a unix socket")
	}
	if network := l.Addr().Network(); network != "tcp" && network != "unix" {
		_ = l.Close()
		return nil, fmt.Errorf("is of the kind %s", network)
	}
	return l, nil
}

// isAt tells whether text, an item of LISTEN, says where l is.
func isAt(text string, l net.Listener) bool {
	said, err := endpoint.Parse(text)
	is, err2 := endpoint.Parse(shownAddress(l))
	return err == nil && err2 == nil && said.Overlaps(is)
}
