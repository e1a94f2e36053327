package docker_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v3"
)

// loadCompose reads docker-compose.yml as Compose v2 does, with all profiles,
// a .env file of these settings, and each old text in it replaced by new.
func loadCompose(t *testing.T, env map[string]string, oldnew ...string) (*types.Project, error) {
	t.Helper()
	text := textOf(t, "docker-compose.yml")
	changed := strings.NewReplacer(oldnew...).Replace(text)
	if len(oldnew) > 0 && changed == text {
		t.Fatalf("docker-compose.yml has no %q", oldnew[0])
	}
	file := filepath.Join(t.TempDir(), "docker-compose.yml")
	if err := os.WriteFile(file, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	var environ []string
	for name, value := range env {
		environ = append(environ, name+"="+value)
	}
	options, err := cli.NewProjectOptions([]string{file}, cli.WithWorkingDirectory(root), cli.WithName("bearerd"),
		cli.WithEnv(environ), cli.WithProfiles([]string{"*"}))
	if err != nil {
		t.Fatal(err)
	}
	return options.LoadProject(t.Context())
}

var plainTag = regexp.MustCompile(`^[a-z]+(/[a-z]+)?:v?\d+\.\d+(\.\d+)?$`)

// weaknesses returns what makes a stack easier to attack than need be, or
// another one tomorrow.
func weaknesses(p *types.Project) (found []string) {
	for name, s := range p.Services {
		say := func(bad bool, what string) {
			if bad {
				found = append(found, name+": "+what)
			}
		}
		say(!s.ReadOnly, "writable root")
		say(!slices.Equal(s.CapDrop, []string{"ALL"}) || s.CapAdd != nil, "capabilities")
		say(!slices.Equal(s.SecurityOpt, []string{"no-new-privileges:true"}), "new privileges")
		say(s.Privileged || s.Pid != "" || s.Ipc != "" || s.UserNSMode != "" || s.Devices != nil, "the host's own")
		say(s.NetworkMode != "" && !strings.HasPrefix(s.NetworkMode, "service:"), "network "+s.NetworkMode)
		for _, port := range s.Ports {
			say(port.HostIP != "127.0.0.1", "port "+port.Published+" for the whole network")
		}
		for _, v := range s.Volumes {
			say(v.Type == types.VolumeTypeBind && !v.ReadOnly, "writes to "+v.Source)
			say(v.Type == types.VolumeTypeBind && (v.Bind == nil || v.Bind.SELinux != "z"), "SELinux keeps it from "+v.Source)
		}
		say(s.Build == nil && !plainTag.MatchString(s.Image), "image "+s.Image)
		_, limit, _ := strings.Cut(s.Restart, ":")
		say(s.Restart == "" || s.Restart == "no" || limit != "", "not started again for ever")
		say(s.Build == nil && s.HealthCheck == nil, "no health check")
		for other, d := range s.DependsOn {
			say(d.Condition != types.ServiceConditionHealthy, "does not wait for "+other)
		}
	}
	return found
}

func TestComposeFile(t *testing.T) {
	p, err := loadCompose(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := p.ServiceNames(); len(got) != 7 {
		t.Errorf("got %q", got)
	}
	for _, weakness := range weaknesses(p) {
		t.Error(weakness)
	}
	if got, want := fmt.Sprint(p.Services["bearerd"].StopGracePeriod), "30s"; got != want {
		t.Errorf("bearerd may take %s to stop, want %s", got, want)
	}
	for name, s := range p.Services {
		want := map[string]string{"prometheus": "observe", "grafana": "observe", "bearerd2": "shared", "engine": "shared"}[name]
		if got := strings.Join(s.Profiles, " "); got != want {
			t.Errorf("%s: profiles %q, want %q", name, got, want)
		}
	}
}

func TestComposeFileBroken(t *testing.T) {
	for _, tt := range []struct{ old, new, want string }{
		{"read_only: true", "read_only: false", "writable root"},
		{"cap_drop: [ALL]", "cap_drop: [NET_RAW]", "capabilities"},
		{"cap_drop: [ALL]", "cap_drop: [ALL]\n  cap_add: [SYS_PTRACE]", "capabilities"},
		{"no-new-privileges:true", "seccomp:unconfined", "new privileges"},
		{"read_only: true", "read_only: true\n  pid: host", "the host's own"},
		{"network_mode: service:bearerd", "network_mode: host", "network host"},
		{"127.0.0.1:8080:8080", "8080:8080", "port 8080"},
		{":/run/secrets:ro,z", ":/run/secrets:z", "writes to"},
		{":/run/secrets:ro,z", ":/run/secrets:ro", "SELinux"},
		{"restart: on-failure", "restart: on-failure:3", "not started again"},
		{"restart: on-failure", "", "not started again"},
		{"busybox:1.37", "busybox", "image busybox"},
		{"bearerd: {condition: service_healthy}", "bearerd: {condition: service_started}", "does not wait"},
	} {
		p, err := loadCompose(t, nil, tt.old, tt.new)
		if err != nil {
			t.Errorf("%s: %v", tt.new, err)
			continue
		}
		if got := weaknesses(p); !slices.ContainsFunc(got, func(w string) bool { return strings.Contains(w, tt.want) }) {
			t.Errorf("%s: got %q, want %q", tt.new, got, tt.want)
		}
	}
	for _, tt := range [][2]string{
		{"read_only: true", "read_onli: true"},
		{"network_mode: service:bearerd", "network_mode: service:bearer"},
		{"querysim: {condition: service_healthy}", "querysym: {condition: service_healthy}"},
		{"- prometheus:/prometheus", "- prom:/prometheus"},
	} {
		if _, err := loadCompose(t, nil, tt[:]...); err == nil {
			t.Errorf("%s is taken", tt[1])
		}
	}
}

// One line of .env turns the stack to the real service: nothing of the
// simulator is left in bearerd's settings.
func TestComposeRealService(t *testing.T) {
	example := textOf(t, ".env.example")
	if found := regexp.MustCompile(`(?m)^#\w+=`).FindAllString(example, -1); len(found) != 1 {
		t.Fatalf("got %q, want one line to take the # from", found)
	}
	env, err := dotenv.Parse(strings.NewReader(strings.Replace(example, "#BEARERD_SERVICE=", "BEARERD_SERVICE=", 1)))
	if err != nil {
		t.Fatal(err)
	}
	p, err := loadCompose(t, env)
	if err != nil {
		t.Fatal(err)
	}
	bearerd := p.Services["bearerd"]
	for name, value := range bearerd.Environment {
		if name == "BEARERD_ALLOW_INSECURE" || name == "BEARERD_TOKEN_URL" || name == "BEARERD_UPSTREAM" || strings.Contains(*value, "querysim") {
			t.Errorf("%s=%s", name, *value)
		}
	}
	if preset := bearerd.Environment["BEARERD_PRESET"]; preset == nil || *preset != env["BEARERD_SERVICE"] {
		t.Errorf("preset %v", preset)
	}
	if got := bearerd.Volumes[0].Source; !strings.HasSuffix(got, "/deploy/compose/"+env["BEARERD_SERVICE"]) {
		t.Errorf("secrets are those in %s", got)
	}
}

// Grafana itself is not run: its files are read strictly, by the names that its
// documentation has.
func TestGrafanaProvisioning(t *testing.T) {
	read := func(path string, into any) {
		t.Helper()
		d := yaml.NewDecoder(strings.NewReader(textOf(t, path)))
		d.KnownFields(true)
		if err := d.Decode(into); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
	}
	var sources struct {
		APIVersion  int `yaml:"apiVersion"`
		Datasources []struct {
			Name, UID, Type, Access, URL string
			IsDefault                    bool           `yaml:"isDefault"`
			JSONData                     map[string]any `yaml:"jsonData"`
		}
	}
	read("deploy/grafana/provisioning/datasources/bearerd.yml", &sources)
	var dashboards struct {
		APIVersion int `yaml:"apiVersion"`
		Providers  []struct {
			Name, Type     string
			AllowUIUpdates bool `yaml:"allowUiUpdates"`
			Options        struct{ Path string }
		}
	}
	read("deploy/grafana/provisioning/dashboards/bearerd.yml", &dashboards)
	if len(sources.Datasources) != 1 || len(dashboards.Providers) != 1 || sources.APIVersion != 1 || dashboards.APIVersion != 1 {
		t.Fatalf("got %+v and %+v", sources, dashboards)
	}
	if s := sources.Datasources[0]; s.UID != "bearerd-prometheus" || s.URL != "http://prometheus:9090" {
		t.Errorf("data source %+v", s)
	}
	p, err := loadCompose(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := dashboards.Providers[0].Options.Path + "/bearerd.json"
	if !slices.ContainsFunc(p.Services["grafana"].Volumes, func(v types.ServiceVolumeConfig) bool {
		return v.Target == want && strings.HasSuffix(v.Source, "/deploy/grafana/bearerd.json")
	}) {
		t.Errorf("the dashboard is not mounted at %s", want)
	}
}
