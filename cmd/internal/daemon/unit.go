package daemon

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/bearerd/bearerd/deploy/systemd"
)

// marker begins each file that Install writes for systemd, so that nobody else's
// is taken for one.
const marker = "# Written by `bearerd service install`; `bearerd service uninstall` removes it.\n"

// userUnit is the unit of a user's own service.
func userUnit(program, envFile string) string {
	return marker + `[Unit]
Description=bearerd, authenticating proxy on localhost
# Each start costs a login.
StartLimitIntervalSec=5min
StartLimitBurst=5

[Service]
ExecStart=` + unitArg(program) + ` -env-file ` + unitArg(envFile) + `
ExecReload=/bin/kill -HUP $MAINPID
Restart=on-failure
RestartSec=10
# A wrong command line and bad settings, which a restart cannot mend.
RestartPreventExitStatus=64 78
# BEARERD_DRAIN_DELAY and BEARERD_SHUTDOWN_GRACE together (25 s unless set), and some.
TimeoutStopSec=30
NoNewPrivileges=yes
LimitCORE=0
UMask=0077

[Install]
WantedBy=default.target
`
}

// unitArg is an argument of a command line of a unit (systemd.service(5), "COMMAND
// LINES").
func unitArg(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `%`, `%%`, `$`, `$$`).Replace(s) + `"`
}

// systemPlaces are the files of a service of the machine.
type systemPlaces struct {
	units                         string // folder
	service, socket, admin        string // names of units
	programs, program             string
	folder, settings, credentials string
	state, stateLink              string // of StateDirectory= with DynamicUser= (systemd.exec(5))
}

func systemPlacesOf(name string) systemPlaces {
	p := systemPlaces{
		units: "/etc/systemd/system", service: name + ".service", socket: name + ".socket", admin: name + "-admin.socket",
		programs: "/usr/local/lib/bearerd/" + name, folder: "/etc/" + name,
		state: "/var/lib/private/" + name, stateLink: "/var/lib/" + name,
	}
	p.program = p.programs + "/bearerd"
	p.settings = p.folder + "/env"
	p.credentials = p.folder + "/credentials"
	return p
}

func (p systemPlaces) unit(name string) string { return filepath.Join(p.units, name) }

var (
	credentialLines = regexp.MustCompile(`(?m)^(LoadCredential=password:|Environment=BEARERD_PASSWORD_FILE=|# For client_credentials, |# LoadCredential=|# Environment=).*\n`)
	listenLine      = regexp.MustCompile(`(?mi)^[ \t]*(?:export[ \t]+)?BEARERD_(?:ADMIN_)?LISTEN[ \t]*=[ \t]*\S`)
)

// systemUnits are the units of deploy/systemd for a service of that name, by their
// names: systemd hands it copies of the files that its settings name, which are
// credentials. Settings that move a port get no socket units: bearerd opens its
// ports itself.
func systemUnits(name string, settings string, credentials []string) map[string]string {
	p := systemPlacesOf(name)
	var lines strings.Builder
	lines.WriteString("LoadCredential=env:" + p.settings + "\n")
	for _, c := range slices.Sorted(slices.Values(credentials)) {
		fmt.Fprintf(&lines, "LoadCredential=%s:%s/%s\nEnvironment=BEARERD_%s_FILE=%%d/%s\n", c, p.credentials, c, strings.ToUpper(c), c)
	}
	service := credentialLines.ReplaceAllString(systemd.Service, "")
	service = strings.NewReplacer(
		"LoadCredential=env:/etc/bearerd/env\n", lines.String(),
		"/usr/local/bin/bearerd", p.program,
		"/etc/systemd/system/bearerd.service", p.unit(p.service),
		"; the\n# password is in /etc/bearerd/password. Both can be root's alone (0600): systemd hands copies to the service.",
		". They and the\n# files in "+p.credentials+" are root's alone: systemd hands copies to the service.",
		"/etc/bearerd/env", p.settings,
		"StateDirectory=bearerd\n", "StateDirectory="+name+"\n",
	).Replace(service)
	units := map[string]string{p.service: marker + service}
	if !listenLine.MatchString(settings) {
		units[p.socket] = marker + strings.ReplaceAll(systemd.Socket, "/system/bearerd", "/system/"+name)
		units[p.admin] = marker + strings.NewReplacer("/system/bearerd", "/system/"+name, "Service=bearerd.service", "Service="+p.service).Replace(systemd.AdminSocket)
	}
	return units
}
