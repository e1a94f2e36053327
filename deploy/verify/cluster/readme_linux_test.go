package cluster_test

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	deploy  = "../.." // from this folder
	strange = "../kubernetes/testdata"
)

func testCluster(t *testing.T, dir string) {
	startCluster(t, dir)
	sim := startSimulator(t, dir, "vendor")
	t.Run("Sidecar", func(t *testing.T) { testSidecar(t, dir, sim) })
	t.Run("OwnWorkload", func(t *testing.T) { testOwnWorkload(t, dir, sim) })
	t.Run("Gateway", func(t *testing.T) { testGateway(t, dir, sim) })
	t.Run("Shared", func(t *testing.T) { testShared(t, dir) })
	t.Run("Metrics", func(t *testing.T) { testMetrics(t, dir) })
	t.Run("Strangers", func(t *testing.T) { testStrangers(t, dir) })
	t.Run("Wrong", func(t *testing.T) { testWrong(t, dir) })
}

// readme is the first block of this language in a section of deploy/README.md.
func readme(t *testing.T, section, language string) string {
	t.Helper()
	_, text, found := strings.Cut(read(t, deploy+"/README.md"), "\n## "+section+"\n")
	_, text, begins := strings.Cut(text, "\n```"+language+"\n")
	text, _, ends := strings.Cut(text, "\n```\n")
	if !found || !begins || !ends {
		t.Fatalf("deploy/README.md: no %s in %s", language, section)
	}
	return text
}

// simulator is querysim, in a pod.
type simulator struct{ address, username, password string }

func startSimulator(t *testing.T, dir, namespace string) *simulator {
	t.Helper()
	u := newUser(t, dir, namespace)
	address := u.startDeployment("querysim")
	log := u.sh("kubectl logs deployment/querysim")
	setting := func(name string) string {
		found := regexp.MustCompile(`BEARERD_` + name + `=(\S+)`).FindStringSubmatch(log)
		if found == nil {
			t.Fatalf("querysim does not say %s:\n%s", name, log)
		}
		return found[1]
	}
	return &simulator{address: address, username: setting("USERNAME"), password: setting("PASSWORD")}
}

// settings are bearerd's, for its env file.
func (s *simulator) settings() string {
	return strings.ReplaceAll(`
BEARERD_PRESET=vyopta
BEARERD_TOKEN_URL=http://ADDRESS:8081/auth/realms/vyopta/protocol/openid-connect/token
BEARERD_UPSTREAM=http://ADDRESS:8082
BEARERD_ALLOW_INSECURE=true
BEARERD_USERNAME_FILE=/etc/bearerd/username
BEARERD_PASSWORD_FILE=/etc/bearerd/password
`, "ADDRESS", s.address)
}

// logins are how many it has taken and refused.
func (s *simulator) logins(t *testing.T) (ok, refused int) {
	t.Helper()
	resp, err := http.Get("http://" + s.address + ":8083/stats")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var stats struct {
		LoginsOK      int `json:"logins_ok"`
		LoginsRefused int `json:"logins_refused"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&stats); err != nil {
		t.Fatal(err)
	}
	return stats.LoginsOK, stats.LoginsRefused
}

func (s *simulator) refused(t *testing.T) int {
	t.Helper()
	_, refused := s.logins(t)
	return refused
}

// A wrong password restarts no sidecar and starts no app. The right one starts
// both, and the Job completes. Other settings are rolled out, but not to a Job.
func testSidecar(t *testing.T, dir string, sim *simulator) {
	u := newUser(t, dir, "reports", "kubernetes/base", "kubernetes/component")
	write(t, filepath.Join(u.dir, "base/bearerd.env"), sim.settings())
	u.login(sim, "wrong")
	u.sh(readme(t, "A sidecar in a Deployment", "sh"))
	u.applyAgain("-k base")

	const attempts = 3 // at once, after 30 s and after 60 s more
	eventually(t, 10*time.Minute, "the sidecars of the Deployment and of the Job try again", func() bool { return sim.refused(t) >= 2*attempts })
	got := u.sh(`kubectl get pods -o jsonpath='{range .items[*]}{.status.initContainerStatuses[0].restartCount} {.status.initContainerStatuses[0].started} {.status.containerStatuses[0].state.waiting.reason},{end}'`)
	if want := strings.Repeat("0 false PodInitializing,", 2); got != want {
		t.Errorf("with a wrong password: got %s, want %s", got, want)
	}

	u.login(sim, sim.password)
	u.sh(readme(t, "Rotating a secret", "sh"))
	u.sh("kubectl rollout status deployment reports --timeout=10m")
	u.sh("kubectl wait --for=condition=Complete job nightly-report --timeout=10m")
	if got := u.sh("kubectl logs job/nightly-report -c report"); !strings.Contains(got, `"activeCalls"`) {
		t.Errorf("the Job got %s", got)
	}
	eventually(t, time.Minute, "the Deployment's app gets an answer", func() bool {
		return strings.Contains(u.sh("kubectl logs deploy/reports -c reports"), `"totalCount"`)
	})
	got = u.sh(`kubectl get pods -l batch.kubernetes.io/job-name -o jsonpath='{.items[*].status.initContainerStatuses[0].state.terminated.exitCode}'`)
	if got != "0" {
		t.Errorf("the Job's sidecar: got exit code %q, want 0", got)
	}
	got = u.sh(`kubectl get pods -o jsonpath='{.items[*].status.initContainerStatuses[0].restartCount}'`)
	if got != "0 0" {
		t.Errorf("restarts: got %s, want 0 0", got)
	}
	u.endOf("app=reports")

	write(t, filepath.Join(u.dir, "base/bearerd.env"), sim.settings()+"BEARERD_ACCESS_LOG=off\n")
	if stdout, stderr, err := u.try("kubectl apply -k base"); err == nil || !strings.Contains(stdout, "deployment.apps/reports configured") || !strings.Contains(stderr, `The Job "nightly-report" is invalid`) {
		t.Errorf("other settings: got %v\n%s\n%s", err, stderr, stdout)
	}
	u.sh("kubectl delete job nightly-report; kubectl apply -k base; kubectl rollout status deployment reports --timeout=10m")
}

// README's kustomization adds the sidecar. It ends after the app, which can use
// it until then.
func testOwnWorkload(t *testing.T, dir string, sim *simulator) {
	u := newUser(t, dir, "team-a", "kubernetes/component")
	write(t, filepath.Join(u.dir, "kustomization.yaml"), readme(t, "A sidecar in your own workload", "yaml"))
	write(t, filepath.Join(u.dir, "app.yaml"), read(t, "testdata/app.yaml"))
	write(t, filepath.Join(u.dir, "bearerd.env"), sim.settings())
	u.login(sim, sim.password)
	u.sh("kubectl create secret generic bearerd --from-file=username --from-file=password")
	u.sh("kubectl apply -k .")
	u.applyAgain("-k .")
	u.sh("kubectl rollout status deployment app --timeout=5m")
	eventually(t, time.Minute, "the app has started", func() bool { return u.sh("kubectl logs deploy/app -c app") == "started" })

	if got := u.endOf("app=app"); !strings.Contains(got, `"activeCalls"`) {
		t.Errorf("the app's last request: got %q", got)
	}
}

// The gateway answers those who send the header. A wrong password stops its
// rollout at one pod, and the others stay in the Service.
func testGateway(t *testing.T, dir string, sim *simulator) {
	u := newUser(t, dir, "gateway", "kubernetes/gateway")
	write(t, filepath.Join(u.dir, "gateway/bearerd.env"), sim.settings())
	u.login(sim, sim.password)
	u.sh(readme(t, "A gateway", "sh"))
	u.applyAgain("-k gateway")
	const rolledOut = "kubectl rollout status deployment bearerd-gateway --timeout=10m"
	u.sh(rolledOut)
	ready := func() []string {
		return strings.Fields(u.sh(`kubectl get endpointslices -l kubernetes.io/service-name=bearerd-gateway -o jsonpath='{.items[*].endpoints[?(@.conditions.ready==true)].addresses[0]}'`))
	}
	eventually(t, time.Minute, "both pods are in the Service", func() bool { return len(ready()) == 2 })
	for _, address := range ready() {
		curl := "curl -sS -H 'Host: bearerd-gateway' http://" + address + ":8080/cpmm/api/v1/orgs/42/metrics/names "
		if got := u.sh(curl + "-H @header"); !strings.Contains(got, `"activeCalls"`) {
			t.Errorf("with the header: got %s", got)
		}
		if got := u.sh(curl); !strings.Contains(got, `"header_required"`) {
			t.Errorf("without the header: got %s", got)
		}
	}

	was := sim.refused(t)
	u.login(sim, "wrong")
	rotate := readme(t, "Rotating a secret", "sh")
	u.sh(rotate)
	u.sh("kubectl rollout restart deploy/bearerd-gateway")
	eventually(t, 5*time.Minute, "a pod tries the wrong password twice", func() bool { return sim.refused(t) >= was+2 })
	if pods := strings.Fields(u.sh("kubectl get pods -o name")); len(pods) != 3 || len(ready()) != 2 {
		t.Errorf("with a wrong password: got the pods %v, of which %v are in the Service; want 3 and 2", pods, ready())
	}
	u.login(sim, sim.password)
	u.sh(rotate)
	u.sh(rolledOut)
	if got := strings.Fields(u.sh(`kubectl get pods -o jsonpath='{.items[*].status.containerStatuses[0].restartCount}'`)); slices.ContainsFunc(got, func(n string) bool { return n != "0" }) {
		t.Errorf("restarts: got %s, want 0", got)
	}
}

// All sidecars have one login by an engine that somebody else runs, and one budget
// for a wrong password.
func testShared(t *testing.T, dir string) {
	sim := startSimulator(t, dir, "vendor-of-a-fleet")
	engine := newUser(t, dir, "redis")
	address := engine.startDeployment("valkey")
	words := strings.Fields(readme(t, "Shared login", "text")) // ACL SETUSER …
	engine.sh("kubectl exec deploy/valkey -- valkey-cli " + strings.ReplaceAll("'"+strings.Join(words, "' '")+"'", "PASSWORD", "engine-password"))

	u := newUser(t, dir, "fleet", "kubernetes/base", "kubernetes/component", "kubernetes/shared")
	write(t, filepath.Join(u.dir, "base/bearerd.env"), sim.settings())
	write(t, filepath.Join(u.dir, "url"), "redis://bearerd:engine-password@"+address+":6379/0\n")
	u.login(sim, "wrong")
	const secret = "kubectl create secret generic bearerd --from-file=username --from-file=password\n"
	if !strings.HasPrefix(readme(t, "A sidecar in a Deployment", "sh"), secret) {
		t.Fatal("deploy/README.md makes the Secret bearerd in another way")
	}
	u.sh(secret + readme(t, "Shared login", "sh"))
	u.applyAgain("-k shared")
	u.sh("kubectl scale deployment reports --replicas=4")
	const started = `kubectl get pods -o jsonpath='{range .items[*]}{.status.initContainerStatuses[0].state.running.startedAt}{"\n"}{end}'`
	eventually(t, 5*time.Minute, "four sidecars and that of the Job run", func() bool { return len(strings.Fields(u.sh(started))) == 5 })
	const attempts = 3 // at once, after 30 s and after 60 s more, when each by itself would have made as many
	eventually(t, 5*time.Minute, "the password is tried three times", func() bool { return sim.refused(t) >= attempts })
	if got := sim.refused(t); got != attempts {
		t.Errorf("a wrong password cost %d logins, want %d", got, attempts)
	}

	u.login(sim, sim.password)
	u.sh(readme(t, "Rotating a secret", "sh"))
	u.sh("kubectl rollout status deployment reports --timeout=10m")
	u.sh("kubectl wait --for=condition=Complete job nightly-report --timeout=10m")
	eventually(t, time.Minute, "each app gets an answer", func() bool {
		for pod := range strings.FieldsSeq(u.sh("kubectl get pods -o name -l app=reports")) {
			if !strings.Contains(u.sh("kubectl logs "+pod+" -c reports"), `"totalCount"`) {
				return false
			}
		}
		return true
	})
	if ok, refused := sim.logins(t); ok != 1 || refused > attempts+1 {
		t.Errorf("five sidecars made %d logins, and %d were refused; want 1, and %d or one more", ok, refused, attempts)
	}
}

func testMetrics(t *testing.T, dir string) {
	u := newUser(t, dir, "metrics", "kubernetes/podmonitor", "prometheus")
	u.sh("kubectl create -f " + dir + "/crds/monitoring.coreos.com_podmonitors.yaml -f " + dir + "/crds/monitoring.coreos.com_prometheusrules.yaml")
	u.sh("kubectl wait --for=condition=Established crd --all --timeout=1m")
	u.sh("kubectl apply -k podmonitor")
	u.applyAgain("-k podmonitor")
	u.sh(readme(t, "Metrics", "sh"))
	u.sh("kubectl label podmonitor,prometheusrule bearerd release=mine")
}

// The sidecar adds no warning to strangers' workloads, some of which are not
// restricted themselves.
func testStrangers(t *testing.T, dir string) {
	u := &user{t: t, dir: strange}
	warnings := func(args string) string {
		stdout, stderr, err := u.try("kubectl apply " + args)
		if err != nil || strings.Count(stdout, " created") < 7 {
			t.Fatalf("%s: %v\n%s\n%s", args, err, stderr, stdout)
		}
		return stderr
	}
	want := warnings("--dry-run=server -k strangers/apps")
	if got := warnings("-k strangers"); got != want || !strings.HasPrefix(want, "Warning: would violate PodSecurity") {
		t.Errorf("with bearerd: warned of\n%s\nand without of\n%s", got, want)
	}
	u.applyAgain("-k strangers")
}

// What is wrong is refused here too.
func testWrong(t *testing.T, dir string) {
	u := newUser(t, dir, "wrong", "verify/kubernetes/testdata/wrong")
	for script, want := range map[string]string{
		"kubectl apply -f wrong/indentation.yaml":   `unknown field "spec.template.spec.initContainers[0].failureThreshold"`,
		"kubectl apply -f wrong/unknown-field.yaml": `unknown field "spec.template.spec.initContainers[0].readynessProbe"`,
		"kubectl apply -f wrong/podmonitor.yaml":    `unknown field "spec.podMetricsEndpoint"`,
		"kubectl apply -f wrong/type.yaml":          "cannot unmarshal string into Go struct field",
		"kubectl apply -f wrong/version.yaml":       `no matches for kind "PodDisruptionBudget" in version "policy/v1beta1"`,
		"kubectl run root --image=bearerd":          `violates PodSecurity "restricted:latest"`,
	} {
		if _, stderr, err := u.try(script); err == nil || !strings.Contains(stderr, want) {
			t.Errorf("%s: got %v %s, want %s", script, err, stderr, want)
		}
	}
}
