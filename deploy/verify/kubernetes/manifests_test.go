package kubernetes_test

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

const manifests = "../../kubernetes"

// decode reads one manifest as the API server does, and takes no field that it
// does not know, none twice and none of another type.
func decode(manifest []byte) (runtime.Object, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		appsv1.AddToScheme, batchv1.AddToScheme, corev1.AddToScheme,
		networkingv1.AddToScheme, policyv1.AddToScheme, monitoringv1.AddToScheme,
	} {
		utilruntime.Must(add(scheme))
	}
	object, _, err := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer().Decode(manifest, nil, nil)
	return object, err
}

// rendered is what `kubectl apply -k` sends of a folder.
func rendered(t *testing.T, folder string) []runtime.Object {
	t.Helper()
	all, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), folder)
	if err != nil {
		t.Fatal(err)
	}
	var objects []runtime.Object
	for _, resource := range all.Resources() {
		text, err := resource.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		object, err := decode(text)
		if err != nil {
			t.Fatalf("%s: %v\n%s", folder, err, text)
		}
		objects = append(objects, object)
	}
	return objects
}

// workload is what makes pods.
type workload struct {
	kind, name string
	selector   *metav1.LabelSelector // nil: the controller's own
	template   *corev1.PodTemplateSpec
}

func (w workload) String() string { return w.kind + " " + w.name }

func workloadsOf(objects []runtime.Object) (all []workload) {
	for _, object := range objects {
		switch o := object.(type) {
		case *appsv1.Deployment:
			all = append(all, workload{"Deployment", o.Name, o.Spec.Selector, &o.Spec.Template})
		case *appsv1.StatefulSet:
			all = append(all, workload{"StatefulSet", o.Name, o.Spec.Selector, &o.Spec.Template})
		case *appsv1.DaemonSet:
			all = append(all, workload{"DaemonSet", o.Name, o.Spec.Selector, &o.Spec.Template})
		case *batchv1.Job:
			all = append(all, workload{"Job", o.Name, nil, &o.Spec.Template})
		case *batchv1.CronJob:
			all = append(all, workload{"CronJob", o.Name, nil, &o.Spec.JobTemplate.Spec.Template})
		}
	}
	return all
}

func named(t *testing.T, objects []runtime.Object, name string) workload {
	t.Helper()
	for _, w := range workloadsOf(objects) {
		if w.String() == name {
			return w
		}
	}
	t.Fatalf("there is no %s", name)
	return workload{}
}

// bearerdOf returns the container of bearerd, or nil.
func bearerdOf(pod *corev1.PodSpec) *corev1.Container {
	for _, containers := range [][]corev1.Container{pod.InitContainers, pod.Containers} {
		for i := range containers {
			if containers[i].Name == "bearerd" {
				return &containers[i]
			}
		}
	}
	return nil
}

// isSidecar reports whether c, an init container or not, is a native sidecar.
func isSidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

// shapes are the folders that can be rendered, ours and those of strangers who
// use the component.
var shapes = []string{manifests + "/base", manifests + "/gateway", manifests + "/shared", manifests + "/podmonitor", "testdata/strangers", "testdata/unlabelled"}

func TestManifestsDecodeStrictly(t *testing.T) {
	seen := 0
	err := filepath.WalkDir(manifests, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".yaml" {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if entry.Name() != "kustomization.yaml" { // kustomize itself reads that strictly
			if _, err := decode(text); err != nil {
				t.Errorf("%s: %v", path, err)
			}
			folder, err := os.ReadFile(filepath.Join(filepath.Dir(path), "kustomization.yaml"))
			if err != nil {
				return err
			}
			if !strings.Contains(string(folder), entry.Name()+"\n") {
				t.Errorf("%s: its folder's kustomization.yaml does not use it", path)
			}
			seen++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 10 {
		t.Errorf("found %d manifests", seen)
	}
	for _, folder := range shapes {
		if objects := rendered(t, folder); len(objects) == 0 {
			t.Errorf("%s renders to nothing", folder)
		}
	}
}

func TestWrongManifestsAreRefused(t *testing.T) {
	files, err := filepath.Glob("testdata/wrong/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		first, _, _ := strings.Cut(string(text), "\n")
		want, ok := strings.CutPrefix(first, "# want: ")
		if _, err := decode(text); !ok || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", file, err, want)
		}
	}
}

// Both patches of the component add the same.
func TestComponentAddsTheSameToEachKind(t *testing.T) {
	objects := rendered(t, "testdata/strangers")
	want := bearerdOf(&named(t, objects, "Deployment web").template.Spec)
	for _, name := range []string{"StatefulSet store", "Job import", "CronJob hourly", "CronJob daily"} {
		pod := named(t, objects, name).template.Spec
		if got := bearerdOf(&pod); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: bearerd is not as in Deployment web:\n%s\n%s", name, got, want)
		}
		if got := pod.Volumes[slices.IndexFunc(pod.Volumes, func(v corev1.Volume) bool { return v.Name == "bearerd" })]; got.Secret == nil || *got.Secret.DefaultMode != 0o444 {
			t.Errorf("%s: got the volume %+v", name, got)
		}
	}
}

// A stranger's workload is the same as before but for bearerd, which is first
// of its init containers. One without the label is not touched.
func TestComponentChangesNothingElse(t *testing.T) {
	before, after := rendered(t, "testdata/strangers/apps"), rendered(t, "testdata/strangers")
	for _, was := range workloadsOf(before) {
		is := named(t, after, was.String())
		pod := &is.template.Spec
		if was.name == "other" {
			if bearerdOf(pod) != nil {
				t.Errorf("%s: has no label, and got bearerd", was)
			}
		} else {
			if len(pod.InitContainers) == 0 || pod.InitContainers[0].Name != "bearerd" || !isSidecar(&pod.InitContainers[0]) {
				t.Fatalf("%s: bearerd is not first of the init containers: %+v", was, pod.InitContainers)
			}
			if got := pod.InitContainers[0].Image; got != "registry.example/tools/bearerd:1.2" {
				t.Errorf("%s: got the image %s, want that of the kustomization", was, got)
			}
			if got := pod.InitContainers[0].EnvFrom[0].ConfigMapRef.Name; !strings.HasPrefix(got, "bearerd-") {
				t.Errorf("%s: got settings from %s, want the name with its hash", was, got)
			}
			pod.InitContainers = pod.InitContainers[1:]
			pod.Volumes = slices.DeleteFunc(pod.Volumes, func(v corev1.Volume) bool { return v.Name == "bearerd" })
		}
		if len(pod.InitContainers) == 0 {
			pod.InitContainers = nil
		}
		if len(pod.Volumes) == 0 {
			pod.Volumes = nil
		}
		if !reflect.DeepEqual(is.template, was.template) {
			t.Errorf("%s: more than bearerd has changed:\n%s\n%s", was, was.template, is.template)
		}
	}
	if bearerdOf(&named(t, rendered(t, "testdata/unlabelled"), "Deployment web").template.Spec) == nil {
		t.Error("unlabelled: a component with the label gave no sidecar")
	}
}

func TestManifestsFitTogether(t *testing.T) {
	for _, folder := range shapes {
		for _, p := range problems(rendered(t, folder)) {
			t.Errorf("%s: %s", folder, p)
		}
	}
}

// problems are what the API server would take and what would not work.
func problems(objects []runtime.Object) (all []string) {
	workloads := workloadsOf(objects)
	selects := func(what string, selector *metav1.LabelSelector) (chosen []workload) {
		s, err := metav1.LabelSelectorAsSelector(selector)
		if err != nil {
			all = append(all, fmt.Sprintf("%s: %v", what, err))
			return nil
		}
		for _, w := range workloads {
			if s.Matches(labelSet(w.template.Labels)) {
				chosen = append(chosen, w)
			}
		}
		if len(chosen) == 0 {
			all = append(all, what+": selects no pod")
		}
		return chosen
	}
	for _, w := range workloads {
		if w.selector != nil && !slices.Contains(selects(w.String(), w.selector), w) {
			all = append(all, w.String()+": does not select its own pods")
		}
		if c := bearerdOf(&w.template.Spec); c != nil {
			for _, p := range containerProblems(&w.template.Spec, c, settingsOf(objects, c)) {
				all = append(all, fmt.Sprintf("%s: %s", w, p))
			}
		}
	}
	for _, object := range objects {
		switch o := object.(type) {
		case *policyv1.PodDisruptionBudget:
			selects("PodDisruptionBudget", o.Spec.Selector)
		case *corev1.Service:
			for _, w := range selects("Service", &metav1.LabelSelector{MatchLabels: o.Spec.Selector}) {
				c := bearerdOf(&w.template.Spec)
				for _, port := range o.Spec.Ports {
					if numberOf(c, port.TargetPort) != portOf(settingsOf(objects, c)["BEARERD_LISTEN"]) {
						all = append(all, "Service: its target is not the data listener")
					}
				}
				hosts := strings.Split(settingsOf(objects, c)["BEARERD_ALLOWED_HOSTS"], ",")
				for _, host := range []string{o.Name, o.Name + "." + namespace + ".svc", o.Name + "." + namespace + ".svc.cluster.local"} {
					if !slices.Contains(hosts, host) {
						all = append(all, "Service: BEARERD_ALLOWED_HOSTS lacks "+host)
					}
				}
			}
		case *networkingv1.NetworkPolicy:
			for _, w := range selects("NetworkPolicy", &o.Spec.PodSelector) {
				c := bearerdOf(&w.template.Spec)
				var open, listens []int32
				for _, rule := range o.Spec.Ingress {
					for _, port := range rule.Ports {
						open = append(open, port.Port.IntVal)
					}
				}
				for _, port := range c.Ports {
					listens = append(listens, port.ContainerPort)
				}
				slices.Sort(open)
				if !slices.Equal(open, listens) {
					all = append(all, fmt.Sprintf("NetworkPolicy: opens %v, and bearerd listens at %v", open, listens))
				}
				asks := []int32{53, 443} // name servers; login server and upstream
				if env := settingsOf(objects, c); env["BEARERD_SHARED"]+env["BEARERD_SHARED_FILE"] != "" {
					asks = append(asks, 6379) // of README's engine
				}
				var out []int32
				for _, rule := range o.Spec.Egress {
					for _, port := range rule.Ports {
						if protocol := port.Protocol; protocol == nil || *protocol == corev1.ProtocolTCP {
							out = append(out, port.Port.IntVal)
						}
					}
				}
				slices.Sort(out)
				if !slices.Equal(out, asks) {
					all = append(all, fmt.Sprintf("NetworkPolicy: lets out to %v, and bearerd asks at %v", out, asks))
				}
			}
		case *monitoringv1.PodMonitor:
			for _, endpoint := range o.Spec.PodMetricsEndpoints {
				if endpoint.Port == nil || *endpoint.Port != "bearerd-admin" {
					all = append(all, "PodMonitor: asks another port than bearerd-admin")
				}
			}
		}
	}
	return all
}

// containerProblems are those of one bearerd, whose settings are env.
func containerProblems(pod *corev1.PodSpec, c *corev1.Container, env map[string]string) (all []string) {
	wrong := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }

	admin := portOf(env["BEARERD_ADMIN_LISTEN"])
	if !strings.HasPrefix(env["BEARERD_ADMIN_LISTEN"], ":") {
		wrong("the kubelet comes to the pod's address, where the admin listener is not")
	}
	for _, port := range c.Ports {
		if want := map[string]int32{"bearerd-admin": admin, "http": portOf(env["BEARERD_LISTEN"])}[port.Name]; port.ContainerPort != want {
			wrong("port %s is %d, and the listener's is %d", port.Name, port.ContainerPort, want)
		}
	}
	for kind, probe := range map[string]*corev1.Probe{"startup": c.StartupProbe, "liveness": c.LivenessProbe, "readiness": c.ReadinessProbe} {
		if probe != nil && (probe.HTTPGet == nil || numberOf(c, probe.HTTPGet.Port) != admin) {
			wrong("the %s probe does not ask the admin listener", kind)
		}
	}
	if p := c.LivenessProbe; p == nil || p.HTTPGet == nil || p.HTTPGet.Path != "/livez" {
		wrong("liveness is not /livez")
	}
	if isSidecar(c) {
		if c.ReadinessProbe != nil {
			wrong("the sidecar's readiness takes the app out of its Service")
		}
		if p := c.StartupProbe; p == nil || p.HTTPGet == nil || p.HTTPGet.Path != "/startupz" || p.PeriodSeconds != 1 || p.FailureThreshold != 86400 {
			wrong("startup is not /startupz each second for a day")
		}
	} else if p := c.ReadinessProbe; p == nil || p.HTTPGet == nil || p.HTTPGet.Path != "/readyz" {
		wrong("readiness is not /readyz")
	}

	for name, value := range env {
		if strings.HasPrefix(name, "BEARERD_") && strings.HasSuffix(name, "_FILE") && secretAt(pod, c, filepath.Dir(value)) == nil {
			wrong("%s is in no folder that a Secret is mounted at", name)
		}
	}
	for _, mount := range c.VolumeMounts {
		if mount.SubPath != "" || !mount.ReadOnly {
			wrong("%s is mounted with a subPath, which hides a rotation, or for writing", mount.MountPath)
		}
	}

	grace := 30 * time.Second // Kubernetes' default
	if pod.TerminationGracePeriodSeconds != nil {
		grace = time.Duration(*pod.TerminationGracePeriodSeconds) * time.Second
	}
	if takes := durationOf(env, "BEARERD_DRAIN_DELAY", 0) + durationOf(env, "BEARERD_SHUTDOWN_GRACE", 25*time.Second); grace < takes+5*time.Second {
		wrong("the kubelet kills after %v, and bearerd may take %v to stop", grace, takes)
	}
	if c.Resources.Limits.Memory().IsZero() || !c.Resources.Limits.Cpu().IsZero() {
		wrong("memory is not limited, or processor time is")
	}
	return all
}

// Each promise of problems can be broken, and is then told.
func TestProblemsAreSeen(t *testing.T) {
	for _, tt := range []struct {
		folder, workload, want string
		mutate                 func(pod *corev1.PodTemplateSpec, c *corev1.Container)
	}{
		{"base", "Deployment reports", "does not select", func(p *corev1.PodTemplateSpec, _ *corev1.Container) { p.Labels["app"] = "report" }},
		{"base", "Deployment reports", "the admin listener is not", func(_ *corev1.PodTemplateSpec, c *corev1.Container) { c.Env[0].Value = "localhost:9180" }},
		{"base", "Deployment reports", "listener's is", func(_ *corev1.PodTemplateSpec, c *corev1.Container) { c.Ports[0].ContainerPort = 9181 }},
		{"base", "Deployment reports", "does not ask", func(_ *corev1.PodTemplateSpec, c *corev1.Container) { c.StartupProbe.HTTPGet.Port.StrVal = "http" }},
		{"base", "Deployment reports", "liveness is not", func(_ *corev1.PodTemplateSpec, c *corev1.Container) { c.LivenessProbe.HTTPGet.Path = "/readyz" }},
		{"base", "Job nightly-report", "out of its Service", func(_ *corev1.PodTemplateSpec, c *corev1.Container) { c.ReadinessProbe = c.LivenessProbe }},
		{"base", "Job nightly-report", "startup is not", func(_ *corev1.PodTemplateSpec, c *corev1.Container) { c.StartupProbe.FailureThreshold = 30 }},
		{"base", "Job nightly-report", "BEARERD_PASSWORD_FILE is in no folder", func(_ *corev1.PodTemplateSpec, c *corev1.Container) { c.VolumeMounts[0].MountPath = "/etc/bearer" }},
		{"base", "Job nightly-report", "subPath", func(_ *corev1.PodTemplateSpec, c *corev1.Container) { c.VolumeMounts[0].SubPath = "password" }},
		{"base", "Job nightly-report", "the kubelet kills after 29s", func(p *corev1.PodTemplateSpec, _ *corev1.Container) {
			p.Spec.TerminationGracePeriodSeconds = new(int64(29))
		}},
		{"base", "Job nightly-report", "memory is not limited", func(_ *corev1.PodTemplateSpec, c *corev1.Container) { c.Resources.Limits = nil }},
		{"base", "Deployment reports", "NetworkPolicy: opens [9180]", func(_ *corev1.PodTemplateSpec, c *corev1.Container) { c.Ports = nil }},
		{"base", "Deployment reports", "NetworkPolicy: lets out to [53 443], and", func(_ *corev1.PodTemplateSpec, c *corev1.Container) {
			c.Env = append(c.Env, corev1.EnvVar{Name: "BEARERD_SHARED", Value: "redis://redis.example"})
		}},
		{"shared", "Deployment reports", "NetworkPolicy: lets out to [53 443 6379], and", func(_ *corev1.PodTemplateSpec, c *corev1.Container) {
			c.Env = slices.DeleteFunc(c.Env, func(v corev1.EnvVar) bool { return v.Name == "BEARERD_SHARED_FILE" })
		}},
		{"gateway", "Deployment bearerd-gateway", "PodDisruptionBudget: selects no pod", func(p *corev1.PodTemplateSpec, _ *corev1.Container) { p.Labels["app"] = "bearerd" }},
		{"gateway", "Deployment bearerd-gateway", "not the data listener", func(_ *corev1.PodTemplateSpec, c *corev1.Container) { c.Ports[0].Name = "data" }},
		{"gateway", "Deployment bearerd-gateway", "BEARERD_ALLOWED_HOSTS lacks bearerd-gateway.team-a.svc", func(_ *corev1.PodTemplateSpec, c *corev1.Container) { c.Env = c.Env[1:] }},
		{"gateway", "Deployment bearerd-gateway", "readiness is not", func(_ *corev1.PodTemplateSpec, c *corev1.Container) { c.ReadinessProbe.HTTPGet.Path = "/livez" }},
	} {
		objects := rendered(t, filepath.Join(manifests, tt.folder))
		template := named(t, objects, tt.workload).template
		tt.mutate(template, bearerdOf(&template.Spec))
		if got := problems(objects); !slices.ContainsFunc(got, func(p string) bool { return strings.Contains(p, tt.want) }) {
			t.Errorf("got the problems %q, want %q", got, tt.want)
		}
	}
}

// What is set for a whole pod is the app's affair in the component, and done
// in our own pods.
func TestOwnPodsTakeNoMoreThanTheyNeed(t *testing.T) {
	for _, folder := range []string{"base", "gateway", "shared"} {
		for _, w := range workloadsOf(rendered(t, filepath.Join(manifests, folder))) {
			pod := w.template.Spec
			if pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken {
				t.Errorf("%s: has the token of a service account", w)
			}
			if pod.EnableServiceLinks == nil || *pod.EnableServiceLinks {
				t.Errorf("%s: has service links", w)
			}
		}
	}
}

// Who pastes README's commands has every file that the settings name.
func TestREADMEMakesEachSecret(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{"base", "gateway", "shared"} {
		objects := rendered(t, filepath.Join(manifests, folder))
		for _, w := range workloadsOf(objects) {
			c := bearerdOf(&w.template.Spec)
			for name, value := range settingsOf(objects, c) {
				if !strings.HasSuffix(name, "_FILE") {
					continue
				}
				secret := secretAt(&w.template.Spec, c, filepath.Dir(value)).SecretName
				made := slices.ContainsFunc(strings.Split(string(readme), "\n"), func(line string) bool {
					words := strings.Fields(line)
					return strings.HasPrefix(line, "kubectl create secret generic "+secret+" ") && slices.Contains(words, "--from-file="+filepath.Base(value))
				})
				if !made {
					t.Errorf("%s: README does not put %s into the Secret %s", w, filepath.Base(value), secret)
				}
			}
		}
	}
}

// README's command makes of the rules what the Prometheus operator takes.
func TestREADMEMakesAPrometheusRule(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(readme)) {
		command, ok := strings.CutSuffix(strings.TrimSpace(line), " | kubectl apply -f -")
		if !ok || !strings.Contains(command, "PrometheusRule") {
			continue
		}
		sh := exec.Command("sh", "-c", command)
		sh.Dir = "../.."
		manifest, err := sh.Output()
		if err != nil {
			t.Fatal(err)
		}
		object, err := decode(manifest)
		if err != nil {
			t.Fatal(err)
		}
		if rule, ok := object.(*monitoringv1.PrometheusRule); !ok || len(rule.Spec.Groups) != 1 || len(rule.Spec.Groups[0].Rules) < 8 {
			t.Errorf("got %+v", object)
		}
		return
	}
	t.Error("README makes no PrometheusRule")
}
